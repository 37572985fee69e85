/* SPDX-License-Identifier: MIT */
#include "unit_manual.h"

static void ready(void)
{
	manual_alloc_step(&mv, m);
	assert_int_equal(m->error, 0);
	manual_copy_step(&mv, m);
	assert_int_equal(m->error, 0);
}

static void to_the_device_and_home_as_one(void **state)
{
	(void)state;
	fill_thp(1);
	take(SYSTEM, 1, 0, PAGES_PER_BLOCK);
	ready();
	decide();
	assert_int_equal(entry_state(entry_at(1, 0)), ENTRY_MIGRATING); /* still nobody's */
	end();
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(sp.counters.to_device_folios[BLOCK_ORDER], 1);
	take(HOME, 1, 0, PAGES_PER_BLOCK);
	ready();
	decide();
	end();
	assert_int_equal(used(), 0);
	assert_true(is_huge(&sp, block(1)) && at_home(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(sp.counters.to_system_folios[BLOCK_ORDER], 1);
}

static void without_a_thp_it_comes_home_in_pages(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	fail_set(NULL, "thp");
	take(HOME, 1, 0, PAGES_PER_BLOCK);
	ready();
	decide();
	end();
	assert_int_equal(used(), 0);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
}

/* An event between any two steps: some pages are gone. Each time the case runs another one of the eight ways. */
static void pages_that_are_dropped_are_freed(void **state)
{
	static unsigned k;
	bool late = k & 1, home_way = k & 2, whole = k & 4;
	unsigned nr = whole ? PAGES_PER_BLOCK : 20;

	(void)state;
	k++;
	if (whole)
		fill_thp(1);
	else
		fill(1, 0, nr);
	if (home_way)
		to_device(1, 0, nr);
	take(home_way ? HOME : SYSTEM, 1, 0, nr);
	ready();
	if (late)
		decide();
	mark_page(1, 3, ENTRY_DEAD);
	mark_page(1, 7, ENTRY_DEAD);
	if (!late)
		decide();
	manual_end_step(&mv, m);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(m->why[i], i == 3 || i == 7 ? UHMM_SKIP_RACED : WHY_NONE);
		assert_int_equal(mpfn_has(m->src[i], UHMM_MPFN_MIGRATE), i != 3 && i != 7);
	}
	manual_free(m);
	if (home_way) {
		assert_int_equal(used(), 0);
		assert_true(at_home(1, 0, 3) && at_home(1, 4, 7) && at_home(1, 8, 20));
	} else {
		assert_int_equal(used(), (nr - 2) * PAGE_BYTES);
		assert_true(on_device(1, 0, 3) && on_device(1, 4, 7) && on_device(1, 8, 20));
	}
}

static void what_does_not_fit_goes_back(void **state)
{
	uint64_t large, small;

	(void)state;
	fill(1, 0, 4);
	assert_int_equal(loose_alloc(&ms.loose, &d, BLOCK_ORDER, &large), 0);
	assert_int_equal(loose_alloc(&ms.loose, &d, 0, &small), 0);
	take(SYSTEM, 1, 0, 4);
	m->dst[0] = mpfn_on_device(large, BLOCK_ORDER);
	m->dst[1] = m->dst[2] = mpfn_on_device(small, 0);
	decide();
	assert_int_equal(m->why[0], UHMM_SKIP_REFUSED);
	assert_int_equal(m->why[1], WHY_NONE);
	assert_int_equal(m->why[2], UHMM_SKIP_REFUSED);
	assert_int_equal(m->why[3], UHMM_SKIP_NO_ROOM);
	assert_int_equal(manual_nr_going(m), 1);
	assert_true(at_home(1, 0, 1) && at_home(1, 2, 4)); /* at once, not at the end */
	end();
	assert_int_equal(entry_state(entry_at(1, 1)), ENTRY_DEVICE);
	assert_true(loose_take(&ms.loose, &d, large, BLOCK_ORDER));
	device_free(&d, large, BLOCK_ORDER);
}

static void a_part_of_a_folio_goes_home(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	take(HOME, 1, 0, PAGES_PER_BLOCK);
	for (unsigned i = 10; i < 20; i++)
		m->dst[i] = uhmm_mpfn_host(0);
	manual_copy_step(&mv, m);
	decide();
	assert_int_equal(manual_nr_going(m), 10);
	end();
	assert_int_equal(d.buddy.nr_folios[BLOCK_ORDER], 0);
	assert_true(on_device(1, 0, 10) && at_home(1, 10, 20) && on_device(1, 20, PAGES_PER_BLOCK));
}

static void without_memory_at_home_it_stays_on_the_device(void **state)
{
	(void)state;
	fill(1, 0, 20);
	to_device(1, 0, 20);
	take(HOME, 1, 0, 20);
	ready();
	decide();
	fail_set("copy:1:12", NULL);
	manual_end_step(&mv, m);
	fail_set(NULL, NULL);
	assert_int_equal(m->why[5], UHMM_SKIP_NO_ROOM);
	manual_free(m);
	assert_true(on_device(1, 0, 20));
}

MANUAL_MAIN(MANUAL_HUGE(to_the_device_and_home_as_one), MANUAL_HUGE(without_a_thp_it_comes_home_in_pages),
	    MANUAL_SMALL(pages_that_are_dropped_are_freed), MANUAL_SMALL(pages_that_are_dropped_are_freed),
	    MANUAL_SMALL(pages_that_are_dropped_are_freed), MANUAL_SMALL(pages_that_are_dropped_are_freed),
	    MANUAL_HUGE(pages_that_are_dropped_are_freed), MANUAL_HUGE(pages_that_are_dropped_are_freed),
	    MANUAL_HUGE(pages_that_are_dropped_are_freed), MANUAL_HUGE(pages_that_are_dropped_are_freed),
	    MANUAL_SMALL(what_does_not_fit_goes_back),
	    MANUAL_HUGE(a_part_of_a_folio_goes_home), MANUAL_SMALL(without_memory_at_home_it_stays_on_the_device))
