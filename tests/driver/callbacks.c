/* SPDX-License-Identifier: MIT */
/*
 * Is this a driver? Every callback, called as uhmm calls it: folios of every order, batches, pieces of folios, splits, clears,
 * folios that are used again, a device that is full, two instances at once.
 */
#include <pthread.h>

#include "direct.h"

#define REGION (32 * MIB)

static struct direct dev;
static char *in, *out; /* a buffer for each direction, of REGION bytes, as huge memory */
static size_t region;  /* of the device's bytes, what is used here */

static void fill(char *at, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes / PAGE; i++)
		content_fill(at + i * PAGE, seed + i);
}

static void check(const char *at, size_t bytes, uint64_t seed, const char *what)
{
	for (size_t i = 0; i < bytes / PAGE; i++)
		if (!content_is(at + i * PAGE, seed + i))
			fail_msg("page %zu of %zu is wrong: %s", i, bytes / PAGE, what);
}

static void copy_in(uint64_t offset, char *from, size_t bytes)
{
	struct uhmm_seg seg = { offset, from, bytes };

	assert_int_equal(direct_copy_in(&dev, &seg, 1), 0);
}

static void copy_out(uint64_t offset, char *to, size_t bytes)
{
	struct uhmm_seg seg = { offset, to, bytes };

	memset(to, 0xa5, bytes);
	assert_int_equal(direct_copy_out(&dev, &seg, 1), 0);
}

static bool taken(unsigned order) { return dev.props.orders >> order & 1; }

static void every_order_and_every_piece_of_it(void **state)
{
	for (unsigned order = 0; order <= TOP_ORDER; order++) {
		size_t bytes = PAGE << order, step = bytes < 8 * PAGE ? bytes : bytes / 8;
		uint64_t at = region - 2 * BLOCK + (order < TOP_ORDER ? bytes : 0);

		if (!taken(order))
			continue;
		assert_int_equal(direct_alloc(&dev, at, order), 0);
		fill(in, bytes, 100 * order + 7);
		copy_in(at, in, bytes);
		copy_out(at, out, bytes);
		check(out, bytes, 100 * order + 7, "the whole folio");
		for (size_t piece = 0; piece < bytes; piece += step) {
			copy_out(at + piece, out, step);
			check(out, step, 100 * order + 7 + piece / PAGE, "an eighth of the folio");
			copy_out(at + piece, out, PAGE);
			check(out, PAGE, 100 * order + 7 + piece / PAGE, "one page of the folio");
		}
		direct_free(&dev, at, order);
	}
}

static void a_page_written_into_a_folio_changes_that_page(void **state)
{
	if (!taken(TOP_ORDER))
		return;
	assert_int_equal(direct_alloc(&dev, 0, TOP_ORDER), 0);
	fill(in, BLOCK, 1);
	copy_in(0, in, BLOCK);
	for (size_t i = 0; i < 512; i += 3) { /* some pages twice, some units all over */
		content_fill(in + i * PAGE, 7000 + i);
		copy_in(i * PAGE, in + i * PAGE, PAGE);
		if (i % 2) {
			content_fill(in + i * PAGE, 9000 + i);
			copy_in(i * PAGE, in + i * PAGE, PAGE);
		}
	}
	for (size_t i = 64; i < 80; i++)
		content_fill(in + i * PAGE, 5 * i);
	for (size_t i = 64; i < 80; i++)
		copy_in(i * PAGE, in + i * PAGE, PAGE);
	fill(in + 100 * PAGE, 41 * PAGE, 333);
	copy_in(100 * PAGE, in + 100 * PAGE, 41 * PAGE);
	copy_out(0, out, BLOCK);
	assert_memory_equal(out, in, BLOCK);
	direct_free(&dev, 0, TOP_ORDER);
}

/* One call with many segments: of many folios, in any order. */
static void batches_of_small_folios(void **state)
{
	struct uhmm_seg segs[MAX_SEGS];
	unsigned nr = region / PAGE / 2 < MAX_SEGS ? (unsigned)(region / PAGE / 2) : MAX_SEGS;

	for (unsigned i = 0; i < nr; i++) {
		uint64_t at = (uint64_t)i * 2 * PAGE; /* every second page */

		assert_int_equal(direct_alloc(&dev, at, 0), 0);
		content_fill(in + i * PAGE, i);
		segs[i] = (struct uhmm_seg){ at, in + i * PAGE, PAGE };
	}
	for (unsigned i = nr; i > 1; i--) {
		unsigned j = (i * 2654435761u) % i;
		struct uhmm_seg t = segs[i - 1];

		segs[i - 1] = segs[j];
		segs[j] = t;
	}
	assert_int_equal(direct_copy_in(&dev, segs, nr), 0);
	for (unsigned i = 0; i < nr; i++)
		segs[i].host = out + ((char *)segs[i].host - in);
	memset(out, 0xa5, nr * PAGE);
	assert_int_equal(direct_copy_out(&dev, segs, nr), 0);
	check(out, nr * PAGE, 0, "a page of a batch");
	for (unsigned i = 0; i < nr; i++)
		direct_free(&dev, (uint64_t)i * 2 * PAGE, 0);
}

static void one_segment_may_cover_many_folios(void **state)
{
	for (size_t at = 3 * PAGE; at < 131 * PAGE; at += PAGE)
		assert_int_equal(direct_alloc(&dev, at, 0), 0);
	fill(in, 128 * PAGE, 17);
	copy_in(3 * PAGE, in, 128 * PAGE);
	for (size_t i = 0; i < 128; i++) { /* half of them go, the others keep their bytes */
		if (i % 2) {
			direct_free(&dev, (3 + i) * PAGE, 0);
			continue;
		}
		copy_out((3 + i) * PAGE, out, PAGE);
		check(out, PAGE, 17 + i, "a page whose neighbours went");
	}
	for (size_t i = 0; i < 128; i += 2)
		direct_free(&dev, (3 + i) * PAGE, 0);
}

static void a_split_folio_keeps_its_bytes(void **state)
{
	for (unsigned to = 0; to < TOP_ORDER; to++) {
		size_t bytes = PAGE << to;

		if (!taken(TOP_ORDER) || !taken(to))
			continue;
		assert_int_equal(direct_alloc(&dev, BLOCK, TOP_ORDER), 0);
		fill(in, BLOCK, 50 + to);
		copy_in(BLOCK, in, BLOCK);
		direct_split(&dev, BLOCK, TOP_ORDER, to);
		copy_out(BLOCK, out, BLOCK);
		check(out, BLOCK, 50 + to, "after the split");
		for (size_t at = 0; at < BLOCK; at += 2 * bytes)
			direct_free(&dev, BLOCK + at, to);
		for (size_t at = bytes; at < BLOCK; at += 2 * bytes) {
			copy_out(BLOCK + at, out, bytes);
			check(out, bytes, 50 + to + at / PAGE, "a piece whose neighbours went");
			direct_free(&dev, BLOCK + at, to);
		}
	}
}

static void cleared_memory_reads_as_zeros(void **state)
{
	unsigned order = taken(TOP_ORDER) ? TOP_ORDER : 0;
	size_t bytes = PAGE << order;

	assert_int_equal(direct_alloc(&dev, 0, order), 0);
	assert_int_equal(direct_clear(&dev, 0, bytes), 0); /* of nothing */
	copy_out(0, out, bytes);
	assert_int_equal(check_zero(out, bytes), -1);

	fill(in, bytes, 4);
	copy_in(0, in, bytes);
	if (order) { /* a part, across whatever units there are */
		assert_int_equal(direct_clear(&dev, 5 * PAGE, 100 * PAGE), 0);
		memset(in + 5 * PAGE, 0, 100 * PAGE);
		copy_out(0, out, bytes);
		assert_memory_equal(out, in, bytes);
		content_fill(in + 50 * PAGE, 77);
		copy_in(50 * PAGE, in + 50 * PAGE, PAGE);
		copy_out(0, out, bytes);
		assert_memory_equal(out, in, bytes);
	}
	assert_int_equal(direct_clear(&dev, 0, bytes), 0);
	copy_out(0, out, bytes);
	assert_int_equal(check_zero(out, bytes), -1);
	direct_free(&dev, 0, order);
}

/* As a process and its child do after fork(2). */
static void *read_again_and_again(void *to)
{
	struct uhmm_seg seg = { 0, to, 64 * PAGE };

	for (unsigned i = 0; i < 50; i++) {
		memset(to, 0xa5, 64 * PAGE);
		if (direct_copy_out(&dev, &seg, 1) || memcmp(to, in, 64 * PAGE))
			return "wrong";
	}
	return NULL;
}

static void a_folio_may_be_read_twice_at_a_time(void **state)
{
	unsigned order = taken(TOP_ORDER) ? TOP_ORDER : 0;
	pthread_t t[2];
	void *wrong;

	for (uint64_t at = 0; at < 64 * PAGE; at += PAGE << order)
		assert_int_equal(direct_alloc(&dev, at, order), 0);
	fill(in, 64 * PAGE, 3);
	copy_in(0, in, 64 * PAGE);
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(pthread_create(&t[k], NULL, read_again_and_again, out + k * BLOCK), 0);
	for (unsigned k = 0; k < 2; k++) {
		pthread_join(t[k], &wrong);
		assert_null(wrong);
	}
	for (uint64_t at = 0; at < 64 * PAGE; at += PAGE << order)
		direct_free(&dev, at, order);
}

/* Filled to the last page, emptied, and filled again in another way. */
static void a_full_device_is_used_again(void **state)
{
	for (unsigned round = 0; round < 3; round++) {
		unsigned order = round != 1 && taken(TOP_ORDER) ? TOP_ORDER : 0;
		size_t bytes = PAGE << order, small = region < 8 * MIB ? region : 8 * MIB, end = order ? region : small;

		for (size_t at = 0; at < end; at += bytes) {
			assert_int_equal(direct_alloc(&dev, at, order), 0);
			fill(in + at, bytes, 1000 * round + at / PAGE);
			copy_in(at, in + at, bytes);
		}
		for (size_t at = 0; at < end; at += bytes) {
			copy_out(at, out, bytes);
			check(out, bytes, 1000 * round + at / PAGE, "a full device");
			direct_free(&dev, at, order);
		}
	}
}

static void two_instances_are_two_devices(void **state)
{
	struct direct other;
	char why[300];
	struct uhmm_seg seg = { 0, in, 16 * PAGE };
	int r = direct_open(&other, device_spec(), why, sizeof(why));

	if (r) {
		print_message("# no second instance: %s\n", why);
		return;
	}
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(direct_alloc(&dev, i * PAGE, 0), 0);
		assert_int_equal(direct_alloc(&other, i * PAGE, 0), 0);
	}
	fill(in, 16 * PAGE, 1);
	assert_int_equal(direct_copy_in(&dev, &seg, 1), 0);
	fill(in, 16 * PAGE, 2);
	assert_int_equal(direct_copy_in(&other, &seg, 1), 0);
	copy_out(0, out, 16 * PAGE);
	check(out, 16 * PAGE, 1, "the first device");
	seg.host = out;
	assert_int_equal(direct_copy_out(&other, &seg, 1), 0);
	check(out, 16 * PAGE, 2, "the second device");
	for (unsigned i = 0; i < 16; i++) {
		direct_free(&dev, i * PAGE, 0);
		direct_free(&other, i * PAGE, 0);
	}
	direct_close(&other);
}

static void what_it_says_of_itself_is_sane(void **state)
{
	assert_true(dev.props.size_bytes >= BLOCK && dev.props.size_bytes % BLOCK == 0);
	assert_true(dev.props.orders & 1);
	assert_true(!(dev.props.caps & UHMM_CAP_ASYNC) || dev.driver->fence_wait);
	if (HAS(dev.driver, host_bytes))
		(void)dev.driver->host_bytes(dev.ctx);
	dev.driver->close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_says_of_itself_is_sane),
		cmocka_unit_test(every_order_and_every_piece_of_it),
		cmocka_unit_test(a_page_written_into_a_folio_changes_that_page),
		cmocka_unit_test(batches_of_small_folios),
		cmocka_unit_test(one_segment_may_cover_many_folios),
		cmocka_unit_test(a_split_folio_keeps_its_bytes),
		cmocka_unit_test(cleared_memory_reads_as_zeros),
		cmocka_unit_test(a_folio_may_be_read_twice_at_a_time),
		cmocka_unit_test(a_full_device_is_used_again),
		cmocka_unit_test(two_instances_are_two_devices),
	};
	int failures;

	alarm(115);
	direct_open_or_skip(&dev);
	region = dev.props.size_bytes < REGION ? dev.props.size_bytes : REGION;
	if (region < 2 * BLOCK)
		support_skip("%s is smaller than 4 MiB", device_spec());
	in = uhmm_host_alloc(REGION);
	out = uhmm_host_alloc(REGION);
	if (!in || !out)
		return 1;
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	direct_close(&dev);
	return failures;
}
