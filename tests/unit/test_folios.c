/* SPDX-License-Identifier: MIT */
#include "migrate/folios.h"

#include "fake_driver.h"
#include "os/fail.h"

static uint64_t offset[PAGES_PER_BLOCK];
static struct folios f;

static int make(void **state)
{
	(void)reset(state);
	memset(&f, 0, sizeof(f));
	f.offset = offset;
	return open_dev("full");
}

static int unmake(void **state)
{
	(void)state;
	fail_set(NULL, NULL);
	if (buddy_used_bytes(&d.buddy))
		return -1;
	device_close(&d);
	return 0;
}

static void take(unsigned i, unsigned order)
{
	uint64_t at;

	assert_int_equal(device_alloc(&d, order, &at), 0);
	folios_set(&f, i, at, order);
}

static void take_whole(void)
{
	assert_int_equal(device_alloc(&d, BLOCK_ORDER, &offset[0]), 0);
	f.whole = true;
}

static struct pageset range(unsigned first, unsigned end)
{
	struct pageset s = { 0 };

	pageset_add_range(&s, first, end);
	return s;
}

/* Each page is at its place in a folio of the order that is said, aligned there and here. */
static void check_places(unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++) {
		unsigned order = f.order[i], head = i & ~(order_pages(order) - 1);

		assert_int_equal(f.order[head], order);
		assert_int_equal(offset[head] % order_bytes(order), 0);
		assert_int_equal(offset[i], offset[head] + (i - head) * PAGE_BYTES);
		assert_true(buddy_is_used(&d.buddy, offset[head], order));
	}
}

static void pages_know_their_folio_and_their_place(void **state)
{
	struct pageset all = range(16, 25);

	(void)state;
	take(16, 3);
	take(24, 0);
	check_places(16, 25);
	assert_int_equal(f.order[23], 3);
	release_folios(&d, &f, &all);
	assert_int_equal(fake.nr_frees, 2);
}

static void a_cut_leaves_the_largest_on_both_sides(void **state)
{
	static const unsigned order[16] = { 1, 1, 0, 0, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3 };
	struct pageset part = range(3, 6), all = range(0, 16);
	uint64_t head;

	(void)state;
	take(0, 4);
	head = offset[0];
	assert_int_equal(folios_cut(&d, &f, &part), 0);
	check_places(0, 16);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(f.order[i], order[i]);
	/* in the order of the pages that are cut out: before 3, and after 5 */
	assert_int_equal(heard_split(0, head, 4, 3), 2);
	assert_int_equal(heard_split(2, head, 3, 2), 4);
	assert_int_equal(heard_split(4, head, 2, 1), 6);
	assert_int_equal(heard_split(6, head + 2 * PAGE_BYTES, 1, 0), 8);
	assert_int_equal(heard_split(8, head + 4 * PAGE_BYTES, 2, 1), 10);
	assert_int_equal(fake.nr_split_calls, 10);
	release_folios(&d, &f, &all);
}

static void what_is_in_or_out_as_a_whole_is_not_split(void **state)
{
	struct pageset part = range(0, 16), all = range(0, 32), none = { { 0 } };

	(void)state;
	take(0, 4);
	take(16, 4);
	assert_int_equal(folios_cut(&d, &f, &part), 0);
	assert_int_equal(folios_cut(&d, &f, &none), 0);
	assert_int_equal(folios_cut(&d, &f, &all), 0);
	assert_int_equal(fake.nr_split_calls, 0);
	release_folios(&d, &f, &all);
	assert_int_equal(fake.nr_frees, 2);
}

static void a_whole_one_is_cut_to_pieces_of_every_order(void **state)
{
	struct pageset part = range(511, 512), rest = range(0, 511);
	uint64_t count[NR_ORDERS] = { 0 };

	(void)state;
	take_whole();
	assert_int_equal(folios_cut(&d, &f, &part), 0);
	assert_false(f.whole);
	check_places(0, PAGES_PER_BLOCK);
	folios_count(&f, &rest, count);
	for (unsigned k = 0; k < BLOCK_ORDER; k++)
		assert_int_equal(count[k], 1);
	assert_int_equal(fake.nr_splits, BLOCK_ORDER);
	release_folios(&d, &f, &part);
	assert_int_equal(fake.freed_order, 0);
	assert_int_equal(fake.nr_frees, 1);
	release_folios(&d, &f, &rest);
}

static void a_whole_one_stays_whole_for_all_or_nothing(void **state)
{
	struct pageset all = range(0, PAGES_PER_BLOCK), none = { { 0 } };
	uint64_t count[NR_ORDERS] = { 0 };

	(void)state;
	take_whole();
	assert_int_equal(folios_cut(&d, &f, &all), 0);
	assert_int_equal(folios_cut(&d, &f, &none), 0);
	assert_true(f.whole);
	folios_count(&f, &all, count);
	folios_count(&f, &none, count);
	assert_int_equal(count[BLOCK_ORDER], 1);
	release_folios(&d, &f, &all);
	assert_int_equal(fake.freed_order, BLOCK_ORDER);
}

static void without_memory_a_whole_one_is_left_alone(void **state)
{
	struct pageset part = range(0, 7), all = range(0, PAGES_PER_BLOCK);

	(void)state;
	take_whole();
	fail_set("mmap:1", NULL);
	assert_int_equal(folios_cut(&d, &f, &part), -ENOMEM);
	assert_true(f.whole);
	fail_set("mmap:1", NULL);
	assert_int_equal(folios_break(&d, &f), -ENOMEM);
	assert_true(f.whole);
	release_folios(&d, &f, &all);
}

static void only_orders_that_the_device_takes_come_of_it(void **state)
{
	struct pageset part = range(40, 41), all = range(0, PAGES_PER_BLOCK);

	(void)state;
	device_close(&d);
	memset(&d, 0, sizeof(d));
	fake.props.orders = 1u << 0 | 1u << 4 | 1u << 9;
	assert_int_equal(open_dev("full"), 0);
	take_whole();
	assert_int_equal(folios_cut(&d, &f, &part), 0);
	check_places(0, PAGES_PER_BLOCK);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_int_equal(f.order[i], i / 16 == 2 ? 0 : 4);
	assert_int_equal(heard_split(0, offset[0], 9, 4), 32);
	assert_int_equal(heard_split(32, offset[32], 4, 0), 48);
	release_folios(&d, &f, &all);
}

static void some_crumble_and_the_others_do_not(void **state)
{
	struct pageset some = range(5, 6), all = range(0, 32);

	(void)state;
	take(0, 4);
	take(16, 4);
	folios_crumble(&d, &f, &some);
	check_places(0, 32);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(f.order[i], i < 16 ? 0 : 4);
	folios_crumble(&d, &f, &some);
	assert_int_equal(fake.nr_splits, 15);
	release_folios(&d, &f, &all);
	assert_int_equal(fake.nr_frees, 17);
}

static void what_is_released_in_part_is_cut_for_it(void **state)
{
	struct pageset part = range(4, 6), rest = range(0, 16);

	(void)state;
	take(0, 4);
	release_folios(&d, &f, &part);
	assert_int_equal(buddy_used_bytes(&d.buddy), 14 * PAGE_BYTES);
	pageset_remove(&rest, &part);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(f.order[i], 2);
	release_folios(&d, &f, &rest);
}

#undef CASE
#define CASE(name) cmocka_unit_test_setup_teardown(name, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(pages_know_their_folio_and_their_place),
		CASE(a_cut_leaves_the_largest_on_both_sides),
		CASE(what_is_in_or_out_as_a_whole_is_not_split),
		CASE(a_whole_one_is_cut_to_pieces_of_every_order),
		CASE(a_whole_one_stays_whole_for_all_or_nothing),
		CASE(without_memory_a_whole_one_is_left_alone),
		CASE(only_orders_that_the_device_takes_come_of_it),
		CASE(some_crumble_and_the_others_do_not),
		CASE(what_is_released_in_part_is_cut_for_it),
	};

	if (add_drivers())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
