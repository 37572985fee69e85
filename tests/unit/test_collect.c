/* SPDX-License-Identifier: MIT */
#include "unit_migrate.h"

/* Ends what collect() has claimed; nothing has moved yet. */
static void let_go(void)
{
	struct pageset all = pc.claim.mine;

	release_pages(&pc, &all, UHMM_SKIP_RACED, &t);
	assert_true(claim_empty(&pc.claim));
}

static void a_thp_goes_as_one(void **state)
{
	(void)state;
	fill_thp(1);
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(pc.kind, PIECE_HUGE);
	assert_true(pc.busy && pc.claim.whole && pc.dev == &d);
	assert_true(same_set(&pc.copy, pageset_all));
	assert_true(pageset_empty(&pc.clear) && pageset_empty(&pc.zero));
	assert_true(entry_has(entry_get(pc.claim.block), ENTRY_HUGE));
	assert_int_equal(pc.slot, 0);
	assert_int_equal(bits_at(block(1), BLOCK_BYTES), PM_PRESENT | PM_HUGE); /* looked at, not touched */
	let_go();
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
}

static void a_thp_that_the_range_cuts_goes_as_base_pages(void **state)
{
	(void)state;
	fill_thp(1);
	assert_true(collect(1, 3, 200));
	assert_int_equal(pc.kind, PIECE_PAGES);
	assert_false(pc.claim.whole);
	assert_true(same_set(&pc.copy, pages(3, 200)));
	assert_true(same_set(&pc.claim.mine, pages(3, 200)));
	assert_int_equal(entry_state(entry_at(1, 2)), ENTRY_SYSTEM);
	assert_int_equal(entry_state(entry_at(1, 200)), ENTRY_SYSTEM);
	let_go();
}

static void nothing_at_all_is_one_cleared_folio(void **state)
{
	(void)state;
	if (!vma_wants_huge(&sp, block(1)))
		skip();
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(pc.kind, PIECE_CLEAR);
	assert_true(pc.claim.whole);
	assert_true(same_set(&pc.clear, pageset_all));
	assert_true(pageset_empty(&pc.copy));
	let_go();
}

static void nothing_at_all_is_cleared_pages_where_thps_are_not_wanted(void **state)
{
	(void)state;
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(pc.kind, PIECE_PAGES);
	assert_false(pc.claim.whole);
	assert_true(same_set(&pc.clear, pageset_all));
	assert_false(entry_has(entry_get(pc.claim.block), ENTRY_HUGE));
	let_go();
}

static void base_pages_are_copied_and_the_holes_among_them_cleared(void **state)
{
	struct pageset there = { 0 }, holes;

	(void)state;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i += 2) { /* as many runs as there can be */
		fill(1, i, i + 1);
		pageset_add(&there, i);
	}
	holes = pageset_all;
	pageset_remove(&holes, &there);
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(pc.kind, PIECE_PAGES);
	assert_true(same_set(&pc.copy, there));
	assert_true(same_set(&pc.clear, holes));
	let_go();
}

static void only_the_range_is_looked_at(void **state)
{
	(void)state;
	fill(1, 0, 20);
	assert_true(collect(1, 10, 30));
	assert_true(same_set(&pc.copy, pages(10, 20)));
	assert_true(same_set(&pc.clear, pages(20, 30)));
	assert_int_equal(entry_state(entry_at(1, 9)), ENTRY_SYSTEM);
	assert_int_equal(entry_state(entry_at(1, 30)), ENTRY_SYSTEM);
	assert_int_equal(entry_state(entry_at(1, 29)), ENTRY_MIGRATING);
	let_go();
}

static void what_is_away_is_counted_and_not_claimed(void **state)
{
	(void)state;
	fill(1, 0, 20);
	to_device(1, 5, 10);
	memset(&t, 0, sizeof(t));
	assert_true(collect(1, 0, 20));
	assert_int_equal(t.skipped[UHMM_SKIP_ABSENT], 5);
	assert_int_equal(pageset_count(&pc.claim.mine), 15);
	assert_false(pageset_has(&pc.claim.mine, 5));
	assert_true(pageset_empty(&pc.clear)); /* what is away looks like holes */
	let_go();
	memset(&t, 0, sizeof(t));
	d.index = INDEX + 1; /* as if somebody wanted them elsewhere */
	assert_false(collect(1, 5, 10));
	d.index = INDEX;
	assert_int_equal(t.skipped[UHMM_SKIP_OTHER_DEVICE], 5);
	assert_false(pc.busy);
}

static void what_another_has_claimed_is_counted_as_raced(void **state)
{
	struct claim other;
	struct claim_misses misses;

	(void)state;
	fill(1, 0, 20);
	assert_int_equal(claim_system(&other, &sp, block(1), 7, 9, &misses), 0);
	assert_true(collect(1, 0, 20));
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 2);
	assert_int_equal(pageset_count(&pc.claim.mine), 18);
	let_go();
	(void)claim_end_system(&other, &other.mine, true);
}

static void a_page_of_a_control_block_stays(void **state)
{
	uint64_t word = page(1, 7) + 100, elsewhere = page(2, 7);

	(void)state;
	fill(1, 0, 20);
	words = (struct control_words){ &elsewhere, 1 };
	assert_true(collect(1, 0, 20));
	assert_int_equal(pageset_count(&pc.copy), 20);
	let_go();
	memset(&t, 0, sizeof(t));
	words = (struct control_words){ &word, 1 };
	assert_true(collect(1, 0, 20));
	assert_int_equal(t.skipped[UHMM_SKIP_THREAD], 1);
	assert_int_equal(pageset_count(&pc.copy), 19);
	assert_false(pageset_has(&pc.copy, 7) || pageset_has(&pc.claim.mine, 7));
	assert_int_equal(entry_state(entry_at(1, 7)), ENTRY_SYSTEM);
	let_go();
	assert_false(collect(1, 7, 8)); /* nothing else is asked for */
}

static void a_thp_with_a_control_block_stays_whole(void **state)
{
	uint64_t word = page(1, 7);

	(void)state;
	fill_thp(1);
	words = (struct control_words){ &word, 1 };
	assert_false(collect(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(t.skipped[UHMM_SKIP_THREAD], PAGES_PER_BLOCK);
	assert_false(pc.busy);
	assert_true(claim_empty(&pc.claim));
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_true(is_huge(&sp, block(1)));
}

static void without_the_pagemap_nothing_stays_claimed(void **state)
{
	(void)state;
	fill(1, 0, 20);
	fail_set("pagemap:1", NULL);
	assert_false(collect(1, 0, 20));
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], 20);
	assert_true(claim_empty(&pc.claim));
	assert_true(at_home(1, 0, 20));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(a_thp_goes_as_one),
		HUGE(a_thp_that_the_range_cuts_goes_as_base_pages),
		HUGE(nothing_at_all_is_one_cleared_folio),
		SMALL(nothing_at_all_is_cleared_pages_where_thps_are_not_wanted),
		SMALL(base_pages_are_copied_and_the_holes_among_them_cleared),
		SMALL(only_the_range_is_looked_at),
		SMALL(what_is_away_is_counted_and_not_claimed),
		SMALL(what_another_has_claimed_is_counted_as_raced),
		SMALL(a_page_of_a_control_block_stays),
		HUGE(a_thp_with_a_control_block_stays_whole),
		SMALL(without_the_pagemap_nothing_stays_claimed),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
