/* SPDX-License-Identifier: MIT */
/* Folios between 4 KiB and 2 MiB: what becomes one, and that it is a unit from then on. */
#include "ledger.h"

#define SEED 121
#define ALL  0x3ffu

static char *filled(size_t bytes, bool huge)
{
	char *mem = map_anon(bytes, true, huge);

	fill_pattern(mem, bytes, SEED);
	return mem;
}

static char *filled_thp(void)
{
	char *mem = filled(BLOCK, true);

	if (anon_huge_bytes(mem, BLOCK) != BLOCK)
		skip();
	return mem;
}

static void put_down(char *mem, size_t bytes)
{
	unmap_anon(mem, bytes);
	eventually(used_bytes() == 0);
	check_ledger();
}

static void go_in(char *mem, size_t bytes, unsigned order, struct uhmm_result *res)
{
	assert_int_equal(uhmm_to_device(space, mem, bytes, dev, UHMM_MOVE_ORDER(order), res), 0);
	assert_true(all_on_device(mem, bytes));
}

/* What uhmm_query() says of the page at @at. */
static unsigned order_at(const char *at)
{
	struct uhmm_extent ext;
	size_t nr;

	assert_int_equal(uhmm_query(space, (void *)(uintptr_t)at, PAGE, &ext, 1, &nr), 0);
	assert_int_equal(ext.where, UHMM_WHERE_DEVICE);
	return ext.order;
}

/* ---- which orders ---- */

static void a_thp_goes_in_the_largest_folios_that_the_device_takes(void **state)
{
	static const struct { uint32_t takes; unsigned gets; } some[] = {
		{ 0x001, 0 }, { 0x011, 4 }, { 0x111, 8 }, { 0x1ff, 8 }, { 0x211, 9 }, { ALL, 9 },
	};

	for (size_t k = 0; k < sizeof(some) / sizeof(*some); k++) {
		char *mem = filled_thp();
		RESULT(res);

		take_orders(some[k].takes);
		assert_int_equal(uhmm_to_device(space, mem, BLOCK, dev, 0, &res), 0);
		assert_int_equal(res.moved_folios[some[k].gets], PAGES(BLOCK) >> some[k].gets);
		assert_int_equal(res.moved_bytes, BLOCK);
		assert_int_equal(order_at(mem + 77 * PAGE), some[k].gets);
		check_ledger();
		assert_pattern(mem, BLOCK, SEED);
		put_down(mem, BLOCK);
	}
	take_orders(ALL);
}

static void an_order_that_is_refused_is_asked_for_once_in_a_block(void **state)
{
	for (unsigned holes = 0; holes < 2; holes++)
		for (unsigned best = 0; best < UHMM_ORDER_MAX; best++) {
			char *mem = holes ? map_anon(BLOCK, true, true) : filled_thp();
			RESULT(res);

			ledger.refused = 0;
			ledger.refuse = ALL & ~((2u << best) - 1);
			assert_int_equal(uhmm_to_device(space, mem, BLOCK, dev, 0, &res), 0);
			assert_int_equal(res.moved_folios[best], PAGES(BLOCK) >> best);
			assert_int_equal(ledger.refused, UHMM_ORDER_MAX - best);
			ledger.refuse = 0;
			check_ledger();
			if (holes)
				assert_zeros(mem, BLOCK);
			else
				assert_pattern(mem, BLOCK, SEED);
			put_down(mem, BLOCK);
		}
}

static void nothing_is_larger_than_was_asked_for(void **state)
{
	for (unsigned holes = 0; holes < 2; holes++)
		for (unsigned order = 0; order < UHMM_NR_ORDERS; order++) {
			char *mem = holes ? map_anon(BLOCK, true, true) : filled_thp();
			RESULT(res);

			go_in(mem, BLOCK, order, &res);
			assert_int_equal(res.moved_folios[order], PAGES(BLOCK) >> order);
			assert_int_equal(order_at(mem + 300 * PAGE), order);
			assert_int_equal(info(dev).folios[order], PAGES(BLOCK) >> order);
			check_ledger();
			come(mem, BLOCK);
			assert_int_equal(used_bytes(), 0);
			if (holes)
				assert_zeros(mem, BLOCK);
			else
				assert_pattern(mem, BLOCK, SEED);
			put_down(mem, BLOCK);
		}
}

static void base_pages_share_folios_where_they_are_aligned(void **state)
{
	/* pages 3 to 104: of order 4 five, and what is left at the ends */
	static const uint64_t want[UHMM_NR_ORDERS] = { 1, 0, 1, 2, 5 };
	char *mem = filled(BLOCK, false);
	RESULT(res);

	go_in(mem + 3 * PAGE, 101 * PAGE, 4, &res);
	for (unsigned k = 0; k < UHMM_NR_ORDERS; k++)
		assert_int_equal(res.moved_folios[k], want[k]);
	assert_int_equal(order_at(mem + 3 * PAGE), 0);
	assert_int_equal(order_at(mem + 5 * PAGE), 2);
	assert_int_equal(order_at(mem + 15 * PAGE), 3);
	assert_int_equal(order_at(mem + 95 * PAGE), 4);
	assert_int_equal(order_at(mem + 103 * PAGE), 3);
	assert_pattern(mem, BLOCK, SEED);

	/* what has nothing to share with, and what is not asked to, is alone */
	go(mem, 16 * PAGE);
	assert_int_equal(order_at(mem), 0);
	/* base pages are not made one of 2 MiB */
	come(mem, BLOCK);
	go_in(mem, BLOCK, 9, &res);
	assert_int_equal(res.moved_folios[8], 2);
	assert_pattern(mem, BLOCK, SEED);
	put_down(mem, BLOCK);
}

static void holes_share_a_folio_with_pages(void **state)
{
	char *mem = map_anon(BLOCK, true, false);
	RESULT(res);

	fill_pattern(mem + 5 * PAGE, 3 * PAGE, SEED);
	go_in(mem, 16 * PAGE, 4, &res);
	assert_int_equal(res.moved_folios[4], 1);
	assert_int_equal(res.cleared_pages, 13);
	check_ledger();
	assert_zeros(mem, 5 * PAGE);
	assert_pattern(mem + 5 * PAGE, 3 * PAGE, SEED);
	assert_zeros(mem + 8 * PAGE, 8 * PAGE);
	put_down(mem, BLOCK);
}

/* ---- a unit ---- */

static void a_touch_brings_the_folio_and_no_more(void **state)
{
	for (unsigned order = 0; order < UHMM_ORDER_MAX; order++) {
		struct uhmm_stats before = stats();
		char *mem = filled(BLOCK, true);
		size_t n = (size_t)1 << order;

		go_in(mem, BLOCK, order, NULL);
		assert_int_equal(check_pattern_at(mem + 333 * PAGE, PAGE, SEED, 333 * PAGE), -1);
		eventually(used_bytes() == BLOCK - n * PAGE);
		assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_SYSTEM), n);
		assert_int_equal(count_where(mem + (333 & ~(n - 1)) * PAGE, n * PAGE, UHMM_WHERE_SYSTEM), n);
		assert_int_equal(ledger.pieces, 0);
		eventually(stats().fault_folios[order] == before.fault_folios[order] + 1);
		check_ledger();
		assert_pattern(mem, BLOCK, SEED);
		put_down(mem, BLOCK);
	}
}

static void a_range_brings_what_it_names_and_no_more(void **state)
{
	for (unsigned order = 2; order < UHMM_NR_ORDERS; order++) {
		char *mem = filled_thp();
		size_t n = (size_t)1 << order, first = 512 - n + 1;
		RESULT(res);

		take_orders(ALL);
		go_in(mem, BLOCK, order, NULL);
		/* all of one folio but its first page */
		assert_int_equal(uhmm_to_system(space, mem + first * PAGE, (n - 1) * PAGE, 0, &res), 0);
		assert_int_equal(res.moved_bytes, (n - 1) * PAGE);
		for (unsigned k = 0; k < order; k++) /* as what is left when one page is taken off */
			assert_int_equal(res.moved_folios[k], 1);
		assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_DEVICE), 512 - (n - 1));
		assert_int_equal(ledger.pieces, order);
		assert_int_equal(ledger.split_ends, order);
		assert_int_equal(order_at(mem + (first - 1) * PAGE), 0);
		check_ledger();
		assert_pattern(mem, BLOCK, SEED);
		put_down(mem, BLOCK);
	}
}

static void a_device_of_few_orders_is_split_to_those(void **state)
{
	char *mem = filled_thp();

	take_orders(0x211);
	go(mem, BLOCK);
	assert_int_equal(ledger.folios[9], 1);
	come(mem + 100 * PAGE, PAGE);
	/* 9 to 4, and one of those to 0 */
	assert_int_equal(ledger.pieces, 31 + 15);
	assert_int_equal(ledger.split_ends, 2);
	assert_int_equal(ledger.folios[4], 31);
	assert_int_equal(ledger.folios[0], 15);
	check_ledger();
	assert_pattern(mem, BLOCK, SEED);
	put_down(mem, BLOCK);
	take_orders(ALL);
}

/* ---- room ---- */

static void of_a_fragmented_device_what_is_free_is_used(void **state)
{
	struct uhmm_device *usual = dev;
	char *mem = filled(BLOCK, true), *thp = filled_thp();
	RESULT(res);

	dev = open_device("emu:size=2M");
	go_in(mem, BLOCK, 3, NULL);
	for (size_t i = 0; i < 512; i += 16)
		assert_int_equal(uhmm_discard(space, mem + i * PAGE, 8 * PAGE), 0);
	assert_int_equal(used_bytes(), BLOCK / 2);

	assert_int_equal(uhmm_to_device(space, thp, BLOCK, dev, 0, &res), UHMM_E_PARTIAL);
	assert_int_equal(res.moved_folios[3], 32);
	assert_int_equal(res.moved_bytes, BLOCK / 2);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_NO_ROOM], 256);
	assert_int_equal(used_bytes(), BLOCK);
	assert_pattern(thp, BLOCK, SEED);
	for (size_t i = 0; i < 512; i += 16)
		assert_int_equal(check_pattern_at(mem + (i + 8) * PAGE, 8 * PAGE, SEED, (i + 8) * PAGE), -1);
	unmap_anon(mem, BLOCK);
	unmap_anon(thp, BLOCK);
	eventually(used_bytes() == 0);
	assert_int_equal(uhmm_device_close(dev), 0);
	dev = usual;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thp_goes_in_the_largest_folios_that_the_device_takes),
		cmocka_unit_test(an_order_that_is_refused_is_asked_for_once_in_a_block),
		cmocka_unit_test(nothing_is_larger_than_was_asked_for),
		cmocka_unit_test(base_pages_share_folios_where_they_are_aligned),
		cmocka_unit_test(holes_share_a_folio_with_pages),
		cmocka_unit_test(a_touch_brings_the_folio_and_no_more),
		cmocka_unit_test(a_range_brings_what_it_names_and_no_more),
		cmocka_unit_test(a_device_of_few_orders_is_split_to_those),
		cmocka_unit_test(of_a_fragmented_device_what_is_free_is_used),
	};

	ledger_rig_open("ledger:0x3ff");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL)) || ledger.wrong;
}
