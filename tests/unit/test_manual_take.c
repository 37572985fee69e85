/* SPDX-License-Identifier: MIT */
#include "unit_manual.h"

static void a_thp_is_one_entry(void **state)
{
	(void)state;
	fill_thp(1);
	take(SYSTEM, 1, 0, PAGES_PER_BLOCK);
	assert_true(mpfn_has(m->src[0], UHMM_MPFN_COMPOUND) && uhmm_mpfn_order(m->src[0]) == BLOCK_ORDER);
	assert_int_equal(m->src[1].bits, 0);
	assert_int_equal(manual_nr_going(m), PAGES_PER_BLOCK);
	end();
	assert_true(at_home(1, 0, PAGES_PER_BLOCK) && is_huge(&sp, block(1)));

	take(SYSTEM & ~UHMM_SELECT_COMPOUND, 1, 0, PAGES_PER_BLOCK);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_int_equal(m->src[i].bits, UHMM_MPFN_VALID | UHMM_MPFN_MIGRATE | UHMM_MPFN_WRITE);
	end();
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
}

static void holes_are_taken_when_asked_for(void **state)
{
	(void)state;
	fill(1, 4, 8);
	take(SYSTEM & ~UHMM_SELECT_FAULT, 1, 0, 12);
	assert_int_equal(manual_nr_going(m), 4);
	assert_int_equal(m->why[0], UHMM_SKIP_ABSENT);
	end();
	take(SYSTEM, 1, 0, 12);
	assert_int_equal(manual_nr_going(m), 12);
	assert_int_equal(m->src[0].bits, UHMM_MPFN_MIGRATE | UHMM_MPFN_WRITE);
	assert_int_equal(m->src[4].bits, UHMM_MPFN_MIGRATE | UHMM_MPFN_WRITE | UHMM_MPFN_VALID);
	assert_int_equal(manual_host(m, 0), 0);
	assert_true(holds((void *)(uintptr_t)manual_host(m, 4), 1, 4, 8));
	end();
	assert_true(at_home(1, 4, 8));
	assert_int_equal(bits_at(page(1, 0), PAGE_BYTES), 0);
}

static void each_page_that_stays_has_its_reason(void **state)
{
	(void)state;
	fill(1, 0, 20);
	to_device(1, 0, 4);
	assert_int_equal(syscall(SYS_mlock, mem + BLOCK_BYTES + 8 * PAGE_BYTES, PAGE_BYTES), 0); /* sanitizers make mlock() do nothing */
	take(SYSTEM, 1, 0, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(m->why[i], i < 4 ? UHMM_SKIP_ABSENT : i == 8 ? UHMM_SKIP_LOCKED : WHY_NONE);
	end();
	(void)syscall(SYS_munlock, mem + BLOCK_BYTES + 8 * PAGE_BYTES, PAGE_BYTES);
	assert_true(at_home(1, 4, 20));
}

static void what_another_claim_has_is_left_to_it(void **state)
{
	(void)state;
	fill(1, 0, 20);
	isolate(1, 5, 10);
	take(SYSTEM, 1, 0, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(m->why[i], i >= 5 && i < 10 ? UHMM_SKIP_RACED : WHY_NONE);
	end();
	give_up();
	assert_true(at_home(1, 0, 20));
}

static void there_is_an_end_to_how_much(void **state)
{
	(void)state;
	fill(1, 0, 20);
	fill(2, 0, 20);
	ms.nr_blocks = MAX_MANUAL_BLOCKS - 1;
	assert_int_equal(open_at(FROM_SYSTEM, SYSTEM, page(1, 0), page(2, 20)), 0);
	assert_int_equal(manual_nr_going(m), PAGES_PER_BLOCK);
	assert_int_equal(m->why[PAGES_PER_BLOCK], UHMM_SKIP_NO_ROOM);
	end();
	ms.nr_blocks -= MAX_MANUAL_BLOCKS - 1;
	assert_true(at_home(1, 0, 20) && at_home(2, 0, 20));
}

static void home_by_address(void **state)
{
	(void)state;
	fill_thp(1);
	fill(2, 0, 20);
	to_device(1, 0, PAGES_PER_BLOCK);
	to_device(2, 0, 20);
	assert_int_equal(open_at(FROM_DEVICE, HOME, block(1), page(2, 20)), 0);
	assert_int_equal(manual_nr_going(m), PAGES_PER_BLOCK + 20);
	assert_true(mpfn_has(m->src[0], UHMM_MPFN_COMPOUND | UHMM_MPFN_DEVICE_PRIVATE));
	assert_true(holds(memory + uhmm_mpfn_offset(m->src[PAGES_PER_BLOCK + 3]), 2, 3, 4));
	end();
	assert_true(on_device(1, 0, PAGES_PER_BLOCK) && on_device(2, 0, 20));
	assert_int_equal(d.buddy.nr_folios[BLOCK_ORDER], 1);

	take(HOME, 1, 100, 200); /* a part: the folio is split, and no more is taken */
	assert_int_equal(manual_nr_going(m), 100);
	end();
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(d.buddy.nr_folios[BLOCK_ORDER], 0);
}

static void home_by_offset(void **state)
{
	uint64_t offset;

	(void)state;
	fill_thp(1);
	fill(2, 0, 20);
	to_device(1, 0, PAGES_PER_BLOCK);
	to_device(2, 0, 20);
	offset = entry_offset(entry_at(2, 5));
	assert_int_equal(open_at(FROM_OFFSETS, HOME, offset, offset + 2 * PAGE_BYTES), 0);
	assert_int_equal(manual_nr_going(m), 2);
	assert_int_equal(entry_state(entry_at(2, 5)), ENTRY_MIGRATING);
	assert_int_equal(entry_state(entry_at(2, 4)), ENTRY_DEVICE);
	end();
	assert_true(on_device(2, 0, 20));
	assert_int_equal(d.buddy.nr_folios[BLOCK_ORDER], 1);

	assert_int_equal(open_at(FROM_OFFSETS, HOME, 0, FAKE_BYTES), 0);
	assert_int_equal(manual_nr_going(m), PAGES_PER_BLOCK + 20);
	end();
	assert_int_equal(d.buddy.nr_folios[BLOCK_ORDER], 1);
	assert_int_equal(open_at(FROM_OFFSETS, UHMM_SELECT_DEVICE, 0, FAKE_BYTES), 0);
	assert_int_equal(manual_nr_going(m), PAGES_PER_BLOCK + 20);
	end();
	assert_int_equal(d.buddy.nr_folios[BLOCK_ORDER], 0);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK) && on_device(2, 0, 20));
}

static void what_the_caller_keeps_is_not_taken(void **state)
{
	struct manual_wish w = { .dev = &d, .from = FROM_OFFSETS, .select = HOME, .end = FAKE_BYTES };

	(void)state;
	fill(1, 0, 20);
	fill(2, 0, 20);
	to_device(1, 0, 20);
	to_device(2, 0, 20);
	w.keep[1].start = page(1, 300);
	w.keep[1].end = page(1, 300) + 8;
	assert_int_equal(manual_open(&ms, &w, &m), 0);
	assert_int_equal(manual_nr_going(m), 20);
	assert_int_equal(m->why[entry_offset(entry_at(1, 7)) >> PAGE_SHIFT], UHMM_SKIP_THREAD);
	end();
	assert_true(on_device(1, 0, 20) && on_device(2, 0, 20));
}

MANUAL_MAIN(MANUAL_HUGE(a_thp_is_one_entry), MANUAL_SMALL(holes_are_taken_when_asked_for),
	    MANUAL_SMALL(each_page_that_stays_has_its_reason), MANUAL_SMALL(what_another_claim_has_is_left_to_it),
	    MANUAL_SMALL(there_is_an_end_to_how_much), MANUAL_HUGE(home_by_address), MANUAL_HUGE(home_by_offset),
	    MANUAL_SMALL(what_the_caller_keeps_is_not_taken))
