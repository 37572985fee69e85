/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "mem/buddy.h"
#include "os/fail.h"
#include "os/map.h"

static struct buddy b;

static int make(uint64_t blocks)
{
	return buddy_init(&b, blocks * BLOCK_BYTES);
}

static int free_it(void **state)
{
	uint64_t start, end;

	(void)state;
	fail_set(NULL, NULL);
	buddy_fini(&b);
	buddy_fini(&b); /* once more is fine */
	return map_is_own(0, UINT64_MAX, &start, &end) ? -1 : 0;
}

/* The equations of buddy.h. */
static void check_sums(uint64_t want_used)
{
	uint64_t used = 0;

	for (unsigned k = 0; k < NR_ORDERS; k++)
		used += b.nr_folios[k] * order_bytes(k);
	assert_int_equal(used, want_used);
	assert_int_equal(buddy_used_bytes(&b), want_used);
	assert_true(b.fresh <= b.nr_blocks);
}

static void folios_are_aligned_and_inside(void **state)
{
	uint64_t at;

	(void)state;
	make(8);
	for (unsigned k = 0; k < NR_ORDERS; k++) {
		assert_int_equal(buddy_alloc(&b, k, &at), 0);
		assert_int_equal(at % order_bytes(k), 0);
		assert_true(at + order_bytes(k) <= 8 * BLOCK_BYTES);
		assert_true(buddy_is_used(&b, at, k));
		buddy_free(&b, at, k);
		assert_false(buddy_is_used(&b, at, k));
	}
	check_sums(0);
}

/* The base pages of a block travel as one segment, on a fresh device. */
static void one_page_after_another_gets_the_next_offset(void **state)
{
	uint64_t first, at;

	(void)state;
	make(2);
	assert_int_equal(buddy_alloc(&b, 0, &first), 0);
	for (unsigned i = 1; i < PAGES_PER_BLOCK; i++) {
		assert_int_equal(buddy_alloc(&b, 0, &at), 0);
		assert_int_equal(at, first + i * PAGE_BYTES);
	}
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		buddy_free(&b, first + i * PAGE_BYTES, 0);
	check_sums(0);
}

static void small_folios_share_a_block(void **state)
{
	uint64_t at;

	(void)state;
	make(2);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		assert_int_equal(buddy_alloc(&b, 0, &at), 0);
		assert_true(at < BLOCK_BYTES);
	}
	assert_int_equal(b.fresh, 1);
	assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at), 0);
	assert_int_equal(at, BLOCK_BYTES);
	check_sums(2 * BLOCK_BYTES);
}

static void an_exhausted_one_says_so_at_every_order(void **state)
{
	uint64_t at[4], none = 77;

	(void)state;
	make(4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at[i]), 0);
	for (unsigned k = 0; k < NR_ORDERS; k++)
		assert_int_equal(buddy_alloc(&b, k, &none), -ENOMEM);
	assert_int_equal(none, 77);
	check_sums(4 * BLOCK_BYTES);
	buddy_free(&b, at[2], BLOCK_ORDER);
	assert_int_equal(buddy_alloc(&b, 0, &none), 0);
	assert_int_equal(block_down(none), at[2]);
	assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &none), -ENOMEM);
}

static void pieces_merge_back_to_whole_blocks(void **state)
{
	static uint64_t at[4 * PAGES_PER_BLOCK];
	uint64_t seed = 1, whole;

	(void)state;
	make(4);
	for (unsigned order = 0; order < BLOCK_ORDER; order++) {
		unsigned n = 4 * PAGES_PER_BLOCK >> order;

		for (unsigned i = 0; i < n; i++)
			assert_int_equal(buddy_alloc(&b, order, &at[i]), 0);
		assert_int_equal(buddy_alloc(&b, order, &whole), -ENOMEM);
		for (unsigned i = n; i-- > 0;) { /* in any order */
			unsigned k = next_random(&seed) % (i + 1);

			buddy_free(&b, at[k], order);
			at[k] = at[i];
		}
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at[i]), 0);
		for (unsigned i = 0; i < 4; i++)
			buddy_free(&b, at[i], BLOCK_ORDER);
	}
	check_sums(0);
}

static void a_split_folio_is_freed_page_by_page(void **state)
{
	uint64_t at, again;

	(void)state;
	make(1);
	assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at), 0);
	assert_int_equal(buddy_split(&b, at, BLOCK_ORDER, 0), 0);
	check_sums(BLOCK_BYTES);
	assert_int_equal(b.nr_folios[0], PAGES_PER_BLOCK);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_true(buddy_is_used(&b, at + i * PAGE_BYTES, 0));
	assert_int_equal(buddy_alloc(&b, 0, &again), -ENOMEM); /* nothing of it is free */
	buddy_free(&b, at + 100 * PAGE_BYTES, 0);
	assert_int_equal(buddy_alloc(&b, 0, &again), 0);
	assert_int_equal(again, at + 100 * PAGE_BYTES);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		buddy_free(&b, at + i * PAGE_BYTES, 0);
	check_sums(0);
	assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &again), 0);
}

static void a_folio_of_any_order_splits_to_any_smaller_one(void **state)
{
	uint64_t at, again;

	(void)state;
	make(1);
	for (unsigned from = 1; from < NR_ORDERS; from++)
		for (unsigned to = 0; to < from; to++) {
			assert_int_equal(buddy_alloc(&b, from, &at), 0);
			assert_int_equal(buddy_split(&b, at, from, to), 0);
			check_sums(order_bytes(from));
			assert_int_equal(b.nr_folios[from], 0);
			assert_int_equal(b.nr_folios[to], 1u << (from - to));
			for (uint64_t piece = 0; piece < order_bytes(from); piece += order_bytes(to)) {
				assert_true(buddy_is_used(&b, at + piece, to));
				buddy_free(&b, at + piece, to);
			}
			check_sums(0);
			assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &again), 0); /* they have merged */
			buddy_free(&b, again, BLOCK_ORDER);
		}
}

static void without_memory_for_a_record_nothing_changes(void **state)
{
	uint64_t at = 0, small = 77;

	(void)state;
	make(2);
	fail_set("mmap:1", NULL);
	assert_int_equal(buddy_alloc(&b, 0, &small), -ENOMEM);
	assert_int_equal(small, 77);
	check_sums(0);
	assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at), 0);
	fail_set("mmap:1", NULL);
	assert_int_equal(buddy_split(&b, at, BLOCK_ORDER, 0), -ENOMEM);
	assert_true(buddy_is_used(&b, at, BLOCK_ORDER));
	check_sums(BLOCK_BYTES);
	buddy_free(&b, at, BLOCK_ORDER);
	check_sums(0);
	assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at), 0);
	assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at), 0); /* the block that had no record is not lost */
}

static void without_address_space_it_does_not_open(void **state)
{
	(void)state;
	fail_set("mmap:1", NULL);
	assert_int_equal(make(4), -ENOMEM);
}

/* ---- against a byte for each page ---- */

enum { BLOCKS = 6, PAGES = BLOCKS * PAGES_PER_BLOCK };
static uint8_t model[PAGES];                       /* 0 free, else order + 1 of the folio that the page is in */
static struct { uint64_t at; unsigned order; } live[PAGES];
static unsigned nr_live;
static uint64_t live_pages;

static void model_set(uint64_t at, unsigned order, bool used)
{
	for (unsigned i = 0; i < order_pages(order); i++) {
		assert_int_equal(!!model[at / PAGE_BYTES + i], !used);
		model[at / PAGE_BYTES + i] = used ? (uint8_t)(order + 1) : 0;
	}
	live_pages += used ? order_pages(order) : -(uint64_t)order_pages(order);
}

static bool model_has_room(unsigned order)
{
	for (unsigned i = 0; i < PAGES; i += order_pages(order)) {
		unsigned n = 0;

		while (n < order_pages(order) && !model[i + n])
			n++;
		if (n == order_pages(order))
			return true;
	}
	return false;
}

static void random_alloc(unsigned order)
{
	uint64_t at;
	int r = buddy_alloc(&b, order, &at);

	assert_int_equal(r, model_has_room(order) ? 0 : -ENOMEM);
	if (r)
		return;
	assert_true(at + order_bytes(order) <= BLOCKS * BLOCK_BYTES && at % order_bytes(order) == 0);
	model_set(at, order, true);
	live[nr_live].at = at;
	live[nr_live++].order = order;
}

static void random_free(unsigned k)
{
	model_set(live[k].at, live[k].order, false);
	buddy_free(&b, live[k].at, live[k].order);
	live[k] = live[--nr_live];
}

static void random_split(unsigned k, uint64_t drawn)
{
	unsigned order = live[k].order, to = order ? (unsigned)(drawn % order) : 0;
	uint64_t at = live[k].at;

	if (!order)
		return;
	assert_int_equal(buddy_split(&b, at, order, to), 0);
	live[k] = live[--nr_live];
	for (unsigned i = 0; i < order_pages(order); i += order_pages(to)) {
		live[nr_live].at = at + i * PAGE_BYTES;
		live[nr_live++].order = to;
	}
	memset(model + at / PAGE_BYTES, (int)to + 1, order_pages(order));
}

static void check_model(void)
{
	check_sums(live_pages * PAGE_BYTES);
	for (unsigned i = 0; i < PAGES; i++)
		if (model[i] != BLOCK_ORDER + 1) /* a piece of a whole block is no folio */
			assert_int_equal(buddy_is_used(&b, i * PAGE_BYTES, 0), model[i] != 0);
	for (unsigned k = 0; k < nr_live; k++)
		assert_true(buddy_is_used(&b, live[k].at, live[k].order));
}

static void random_folios_agree_with_a_byte_array(void **state)
{
	uint64_t seed = 1;

	(void)state;
	make(BLOCKS);
	for (unsigned n = 0; n < 30000; n++) {
		bool grow = n / 1500 % 2 == 0;
		unsigned what = next_random(&seed) % 16, order = next_random(&seed) % NR_ORDERS;

		if (what == 0 && nr_live)
			random_split(next_random(&seed) % nr_live, next_random(&seed));
		else if (nr_live && (what < 4 || (!grow && what < 14)))
			random_free(next_random(&seed) % nr_live);
		else
			random_alloc(order);
		if (n % 500 == 0)
			check_model();
	}
	while (nr_live)
		random_free(next_random(&seed) % nr_live);
	check_model();
	for (unsigned i = 0; i < BLOCKS; i++)
		random_alloc(BLOCK_ORDER);
	assert_int_equal(nr_live, BLOCKS);
}

static void everything_else_is_not_used(void **state)
{
	(void)state;
	make(2);
	assert_false(buddy_is_used(&b, 0, 0));
	assert_false(buddy_is_used(&b, 0, BLOCK_ORDER));
	assert_false(buddy_is_used(&b, 2 * BLOCK_BYTES, 0)); /* past the end */
	assert_false(buddy_is_used(&b, UINT64_C(1) << 50, BLOCK_ORDER));
}

static uint64_t rss_bytes(void)
{
	unsigned long size = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &size, &resident), 2);
	fclose(f);
	return resident * PAGE_BYTES;
}

static void a_large_device_costs_what_is_used_of_it(void **state)
{
	uint64_t at, before = rss_bytes();

	(void)state;
	make(1024 * GIB / BLOCK_BYTES);
	assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at), 0);
	assert_int_equal(buddy_alloc(&b, 0, &at), 0);
	assert_true(rss_bytes() < before + MIB);
	assert_in_range(buddy_metadata_bytes(&b), 1, MIB - 1);
}

static int free_twice(void *arg)
{
	unsigned order = *(unsigned *)arg;
	uint64_t at;

	if (make(2) || buddy_alloc(&b, order, &at))
		return 1;
	buddy_free(&b, at, order);
	buddy_free(&b, at, order);
	return 0;
}

static void freeing_twice_aborts(void **state)
{
	(void)state;
	for (unsigned order = 0; order < NR_ORDERS; order++)
		assert_true(aborts(free_twice, &order));
}

#define CASE(name) cmocka_unit_test_teardown(name, free_it)

/* Threads are in test_buddy_threads.c. */
int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(folios_are_aligned_and_inside),
		CASE(one_page_after_another_gets_the_next_offset),
		CASE(small_folios_share_a_block),
		CASE(an_exhausted_one_says_so_at_every_order),
		CASE(pieces_merge_back_to_whole_blocks),
		CASE(a_split_folio_is_freed_page_by_page),
		CASE(a_folio_of_any_order_splits_to_any_smaller_one),
		CASE(without_memory_for_a_record_nothing_changes),
		CASE(without_address_space_it_does_not_open),
		CASE(random_folios_agree_with_a_byte_array),
		CASE(everything_else_is_not_used),
		CASE(a_large_device_costs_what_is_used_of_it),
		cmocka_unit_test(freeing_twice_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
