/* SPDX-License-Identifier: MIT */
#include "fake_driver.h"
#include "os/fail.h"

static void a_device_opens_with_its_options(void **state)
{
	(void)state;
	assert_int_equal(open_dev("bare:size=8M,x=y"), 0);
	assert_string_equal(fake.options, "size=8M,x=y");
	assert_string_equal(d.spec, "bare:size=8M,x=y");
	assert_int_equal(d.index, 3);
	assert_int_equal(d.props.orders, (1u << NR_ORDERS) - 1); /* 0 means all */
	device_close(&d);
	assert_int_equal(fake.nr_closes, 1);
}

static void an_unknown_driver_is_told_the_known_ones(void **state)
{
	(void)state;
	assert_int_equal(open_dev("nonesuch:x=1"), -EINVAL);
	assert_non_null(strstr(why, "nonesuch"));
	assert_non_null(strstr(why, "bare, full"));
	assert_int_equal(device_open(&d, "nonesuch", 1, NULL, 0), -EINVAL);
}

static void a_failed_open_is_explained(void **state)
{
	(void)state;
	fake.open = -ENODEV;
	fake.why = "the cable is out";
	assert_int_equal(open_dev("bare"), -ENODEV);
	assert_string_equal(why, "the cable is out");
	fake.why = NULL;
	assert_int_equal(open_dev("bare"), -ENODEV);
	assert_non_null(strstr(why, "bare"));
	assert_non_null(strstr(why, "No such device"));
	assert_int_equal(device_open(&d, "bare", 1, NULL, 0), -ENODEV);
	assert_int_equal(fake.nr_closes, 0);
}

static void an_open_that_answers_nonsense_is_a_protocol_error(void **state)
{
	(void)state;
	fake.open = 7;
	assert_int_equal(open_dev("bare"), -EPROTO);
	assert_non_null(strstr(why, "bare"));
	assert_null(strstr(why, "(null)"));
	fake.open = -524; /* a kernel's number without a name */
	assert_int_equal(open_dev("bare"), -524);
	assert_null(strstr(why, "(null)"));
}

static void bad_props_are_refused_and_the_driver_closed(void **state)
{
	static const struct uhmm_driver_props bad[] = {
		{ .size_bytes = 0 }, { .size_bytes = BLOCK_BYTES + PAGE_BYTES }, { .size_bytes = PAGE_BYTES },
		{ .size_bytes = UINT64_C(1) << 52 }, { .size_bytes = (UINT64_C(1) << 51) + BLOCK_BYTES },
		{ .size_bytes = FAKE_BYTES, .orders = 2 }, { .size_bytes = FAKE_BYTES, .orders = 1u << 10 | 1 },
		{ .size_bytes = FAKE_BYTES, .caps = UHMM_CAP_ASYNC }, /* without fence_wait */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		why[0] = '\0';
		fake.props = bad[i];
		assert_int_equal(open_dev("bare"), -EINVAL);
		assert_non_null(strstr(why, i < 5 ? "size" : "bare"));
		assert_int_equal(fake.nr_closes, i + 1);
	}
}

static void the_largest_device_is_2_to_51_bytes(void **state)
{
	(void)state;
	fake.props.size_bytes = UINT64_C(1) << 51;
	assert_int_equal(open_dev("bare"), 0);
	device_close(&d);
}

static void without_metadata_the_driver_is_closed_again(void **state)
{
	(void)state;
	fail_set("mmap:1", NULL);
	assert_int_equal(open_dev("bare"), -ENOMEM);
	fail_set(NULL, NULL);
	assert_int_equal(fake.nr_closes, 1);
	assert_non_null(strstr(why, "bare"));
}

static void folios_of_orders_that_are_not_taken_have_no_room(void **state)
{
	uint64_t at = 77;

	(void)state;
	fake.props.orders = 1u << 0 | 1u << 4;
	assert_int_equal(open_dev("bare"), 0);
	for (unsigned order = 0; order < NR_ORDERS; order++) {
		int r = device_alloc(&d, order, &at);

		assert_int_equal(r, order == 0 || order == 4 ? 0 : -ENOMEM);
		if (!r)
			device_free(&d, at, order);
	}
	device_close(&d);
}

static void a_refused_folio_goes_back(void **state)
{
	uint64_t at = 77;

	(void)state;
	assert_int_equal(open_dev("full"), 0);
	fake.folio_alloc = -ENOSPC;
	assert_int_equal(device_alloc(&d, BLOCK_ORDER, &at), -ENOSPC);
	assert_int_equal(device_alloc(&d, 0, &at), -ENOSPC);
	assert_int_equal(fake.nr_allocs, 2);
	assert_int_equal(fake.nr_frees, 0);
	assert_int_equal(buddy_used_bytes(&d.buddy), 0);
	assert_int_equal(at, 77);
	device_close(&d);
}

static void the_driver_hears_of_folios(void **state)
{
	uint64_t at;

	(void)state;
	assert_int_equal(open_dev("full"), 0);
	assert_int_equal(device_alloc(&d, BLOCK_ORDER, &at), 0);
	assert_int_equal(fake.nr_allocs, 1);
	assert_int_equal(device_split(&d, at, BLOCK_ORDER, 0), 0);
	assert_int_equal(fake.nr_splits, PAGES_PER_BLOCK - 1);
	assert_int_equal(fake.nr_split_ends, 1);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		device_free(&d, at + i * PAGE_BYTES, 0);
	assert_int_equal(fake.nr_frees, PAGES_PER_BLOCK);
	assert_int_equal(fake.freed_at, at + BLOCK_BYTES - PAGE_BYTES);
	assert_int_equal(fake.freed_order, 0);
	device_close(&d);
}

static void a_bare_driver_need_not(void **state)
{
	uint64_t at;

	(void)state;
	assert_int_equal(open_dev("bare"), 0);
	assert_int_equal(device_alloc(&d, BLOCK_ORDER, &at), 0);
	assert_int_equal(device_split(&d, at, BLOCK_ORDER, 0), 0);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		device_free(&d, at + i * PAGE_BYTES, 0);
	device_close(&d);
}

static int close_in_use(void *arg)
{
	uint64_t at;

	(void)arg;
	if (open_dev("bare") || device_alloc(&d, 0, &at))
		return 1;
	device_close(&d);
	return 0;
}

static void closing_a_device_in_use_aborts(void **state)
{
	(void)state;
	assert_true(aborts(close_in_use, NULL));
}

/* Copies are in test_device_copy.c. */
int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_device_opens_with_its_options),
		CASE(an_unknown_driver_is_told_the_known_ones),
		CASE(a_failed_open_is_explained),
		CASE(an_open_that_answers_nonsense_is_a_protocol_error),
		CASE(bad_props_are_refused_and_the_driver_closed),
		CASE(the_largest_device_is_2_to_51_bytes),
		CASE(without_metadata_the_driver_is_closed_again),
		CASE(folios_of_orders_that_are_not_taken_have_no_room),
		CASE(a_refused_folio_goes_back),
		CASE(the_driver_hears_of_folios),
		CASE(a_bare_driver_need_not),
		CASE(closing_a_device_in_use_aborts),
	};

	if (add_drivers())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
