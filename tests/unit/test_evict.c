/* SPDX-License-Identifier: MIT */
#include "unit_migrate.h"

static bool begin_evict(unsigned b, unsigned first, unsigned end)
{
	if (!collect(b, first, end))
		return false;
	pc.evict = true;
	evict_trim(&pc, &t);
	isolate_pages(&mv, &pc, &t);
	return !claim_empty(&pc.claim);
}

static void go_on(void)
{
	piece_start(&mv, &pc, &t);
	piece_finish(&mv, &pc, &t);
}

/* ---- holes ---- */

static void holes_stay_holes(void **state)
{
	(void)state;
	fill(1, 5, 20);
	assert_true(begin_evict(1, 0, PAGES_PER_BLOCK));
	go_on();
	assert_true(on_device(1, 5, 20));
	assert_int_equal(used(), 15 * PAGE_BYTES);
	assert_int_equal(entry_state(entry_at(1, 4)), ENTRY_SYSTEM);
	assert_int_equal(t.skipped[UHMM_SKIP_ABSENT], PAGES_PER_BLOCK - 15);
	assert_int_equal(t.cleared_pages, 0);
}

static void a_block_of_holes_takes_nothing(void **state)
{
	(void)state;
	assert_false(begin_evict(1, 0, PAGES_PER_BLOCK));
	release_piece(&mv, &pc);
	assert_int_equal(used(), 0);
	assert_int_equal(entry_state(entry_at(1, 0)), ENTRY_SYSTEM);
}

static void zero_pages_stay_where_they_are(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(*(volatile char *)(mem + BLOCK_BYTES + i * PAGE_BYTES), 0);
	fill(1, 3, 4);
	assert_true(begin_evict(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(pageset_count(&pc.copy), 1);
	go_on();
	assert_int_equal(used(), PAGE_BYTES);
	assert_true(bits_at(page(1, 0), PAGE_BYTES) & PM_ZERO);
}

static void zero_pages_of_others_are_not_touched(void **state)
{
	struct claim_misses misses;
	struct claim other;

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(*(volatile char *)(mem + BLOCK_BYTES + i * PAGE_BYTES), 0);
	fill(1, 8, 10);
	assert_int_equal(claim_system(&other, &sp, block(1), 2, 4, &misses), 0);
	assert_true(begin_evict(1, 0, PAGES_PER_BLOCK));
	go_on();
	assert_true(on_device(1, 8, 10));
	assert_int_equal(used(), 2 * PAGE_BYTES);
	assert_int_equal(entry_state(entry_at(1, 2)), ENTRY_MIGRATING);
	(void)claim_end_system(&other, &other.mine, true);
}

/* ---- zeros ---- */

static void a_thp_of_zeros_becomes_a_hole(void **state)
{
	(void)state;
	fill_thp(1);
	memset(mem + BLOCK_BYTES, 0, BLOCK_BYTES);
	assert_true(begin_evict(1, 0, PAGES_PER_BLOCK));
	go_on();
	assert_int_equal(t.dropped_pages, PAGES_PER_BLOCK);
	assert_int_equal(used(), 0);
	assert_int_equal(bits_at(block(1), BLOCK_BYTES), 0);
	assert_int_equal(entry_state(entry_at(1, 0)), ENTRY_SYSTEM);
	assert_int_equal(staging_pool_bytes(&mig.staging), BLOCK_BYTES);
}

static void one_word_makes_a_thp_travel(void **state)
{
	(void)state;
	fill_thp(1);
	memset(mem + BLOCK_BYTES, 0, BLOCK_BYTES);
	((uint64_t *)(mem + BLOCK_BYTES))[77777] = 1;
	assert_true(begin_evict(1, 0, PAGES_PER_BLOCK));
	go_on();
	assert_int_equal(t.dropped_pages, 0);
	assert_int_equal(t.moved_folios[BLOCK_ORDER], 1);
	assert_int_equal(((const uint64_t *)bytes_away(1, 0))[77777], 1);
}

static void pages_of_zeros_among_others_become_holes(void **state)
{
	(void)state;
	fill(1, 0, 10);
	memset(mem + BLOCK_BYTES + 4 * PAGE_BYTES, 0, 2 * PAGE_BYTES);
	assert_true(begin_evict(1, 0, 10));
	go_on();
	assert_int_equal(t.dropped_pages, 2);
	assert_true(on_device(1, 0, 4) && on_device(1, 6, 10));
	assert_int_equal(entry_state(entry_at(1, 4)), ENTRY_SYSTEM);
	assert_int_equal(bits_at(page(1, 4), PAGE_BYTES), 0);
	assert_int_equal(used(), 8 * PAGE_BYTES);
}

static void zeros_that_were_unmapped_meanwhile_are_nobodys(void **state)
{
	(void)state;
	fill_thp(1);
	memset(mem + BLOCK_BYTES, 0, BLOCK_BYTES);
	assert_true(begin_evict(1, 0, PAGES_PER_BLOCK));
	mark_page(1, 9, ENTRY_DEAD);
	go_on();
	assert_true(claim_empty(&pc.claim));
	assert_int_equal(entry_state(entry_at(1, 9)), ENTRY_SYSTEM);
	assert_int_equal(entry_state(entry_at(1, 10)), ENTRY_SYSTEM);
	assert_int_equal(used(), 0);
}

static void who_only_migrates_keeps_zeros(void **state)
{
	(void)state;
	fill(1, 0, 10);
	memset(mem + BLOCK_BYTES, 0, 10 * PAGE_BYTES);
	to_device(1, 0, 12);
	assert_int_equal(t.dropped_pages, 0);
	assert_int_equal(used(), 12 * PAGE_BYTES);
}

/* ---- what is given back ---- */

static void scrubbing_empties_dirty_slots(void **state)
{
	uint64_t slot;

	(void)state;
	fill(1, 0, 20);
	assert_true(begin_evict(1, 0, 20));
	slot = pc.slot;
	go_on();
	assert_int_equal(mig.staging.dirty.nr, 1);
	staging_scrub(&mig.staging);
	assert_int_equal(bits_at(slot, BLOCK_BYTES), 0);
	assert_int_equal(mig.staging.dirty.nr + mig.staging.empty.nr, 1);
}

/* ---- what is wanted before it has gone ---- */

/* As fault_handle() does for a touch of page @i. */
static void want(unsigned b, unsigned i)
{
	struct entry_slot *w = table_block(&sp.table, block(b), false), *s;

	block_lock(w);
	(void)block_page(w, i, &s);
	entry_mark(s, ENTRY_WAITERS, 0);
	atomic_store(&pc.claim.wanted, true);
	block_unlock(w);
}

static void begin_that_may_return(unsigned b, unsigned first, unsigned end)
{
	assert_true(begin_evict(b, first, end));
	pc.may_return = true;
}

static void a_thp_that_is_wanted_before_its_copy_comes_back(void **state)
{
	(void)state;
	fill_thp(1);
	begin_that_may_return(1, 0, PAGES_PER_BLOCK);
	want(1, 17);
	go_on();
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_true(is_huge(&sp, block(1)));
	assert_int_equal(t.returned_pages, PAGES_PER_BLOCK);
	assert_int_equal(fake.nr_copies, 0);
	assert_int_equal(used(), 0);
	assert_int_equal(mig.staging.empty.nr, 1);
}

static void a_thp_that_is_wanted_during_its_copy_comes_back(void **state)
{
	(void)state;
	fill_thp(1);
	begin_that_may_return(1, 0, PAGES_PER_BLOCK);
	piece_start(&mv, &pc, &t);
	assert_int_equal(used(), BLOCK_BYTES);
	want(1, 17);
	piece_finish(&mv, &pc, &t);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_true(is_huge(&sp, block(1)));
	assert_int_equal(used(), 0);
	assert_int_equal(t.moved_folios[BLOCK_ORDER], 0);
}

static void only_the_page_that_is_wanted_comes_back(void **state)
{
	(void)state;
	fill(1, 10, 30);
	begin_that_may_return(1, 0, PAGES_PER_BLOCK);
	want(1, 12);
	piece_start(&mv, &pc, &t);
	want(1, 20);
	piece_finish(&mv, &pc, &t);
	assert_true(at_home(1, 12, 13) && at_home(1, 20, 21));
	assert_true(on_device(1, 10, 12) && on_device(1, 13, 20) && on_device(1, 21, 30));
	assert_int_equal(t.returned_pages, 2);
	assert_int_equal(used(), 18 * PAGE_BYTES);
}

/* The folio is one, the block is not any more. */
static void a_page_of_a_block_split_meanwhile_goes_all_the_same(void **state)
{
	(void)state;
	fill_thp(1);
	begin_that_may_return(1, 0, PAGES_PER_BLOCK);
	piece_start(&mv, &pc, &t);
	assert_int_equal(split_block(&mig, block(1)), 0);
	want(1, 12);
	piece_finish(&mv, &pc, &t);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(t.returned_pages, 0);
}

static void what_may_not_return_goes(void **state)
{
	(void)state;
	fill_thp(1);
	assert_true(begin_evict(1, 0, PAGES_PER_BLOCK));
	want(1, 12);
	go_on();
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SMALL(holes_stay_holes),
		SMALL(a_block_of_holes_takes_nothing),
		SMALL(zero_pages_stay_where_they_are),
		SMALL(zero_pages_of_others_are_not_touched),
		HUGE(a_thp_of_zeros_becomes_a_hole),
		HUGE(one_word_makes_a_thp_travel),
		SMALL(pages_of_zeros_among_others_become_holes),
		HUGE(zeros_that_were_unmapped_meanwhile_are_nobodys),
		SMALL(who_only_migrates_keeps_zeros),
		SMALL(scrubbing_empties_dirty_slots),
		HUGE(a_thp_that_is_wanted_before_its_copy_comes_back),
		HUGE(a_thp_that_is_wanted_during_its_copy_comes_back),
		SMALL(only_the_page_that_is_wanted_comes_back),
		HUGE(a_page_of_a_block_split_meanwhile_goes_all_the_same),
		HUGE(what_may_not_return_goes),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests_name("evict", tests, NULL, NULL);
	space_end();
	return r;
}
