/* SPDX-License-Identifier: MIT */
#include "unit_manual.h"

static void one_that_is_open_is_known_and_counted(void **state)
{
	(void)state;
	fill(1, 0, 10);
	assert_false(manual_is_open(&ms, NULL));
	take(SYSTEM, 1, 0, 10);
	assert_true(manual_is_open(&ms, m));
	assert_false(manual_is_open(&ms, (struct manual *)((char *)m + 64)));
	assert_int_equal(ms.nr_open, 1);
	assert_int_equal(ms.nr_on[INDEX], 1);
	assert_int_equal(ms.nr_blocks, 1);
	assert_int_equal(manual_nr_going(m), 10);
	assert_true(manuals_away(&ms) > 0);
	assert_int_equal(manual_host(m, 3), manual_host(m, 0) + 3 * PAGE_BYTES);
	assert_true(holds((void *)(uintptr_t)manual_host(m, 0), 1, 0, 10));
	end();
	assert_false(manual_is_open(&ms, m));
	assert_int_equal(manuals_away(&ms), 0);
	assert_true(at_home(1, 0, 10));
}

static void loose_folios_are_not_away(void **state)
{
	uint64_t offset;

	(void)state;
	assert_int_equal(loose_alloc(&ms.loose, &d, 0, &offset), 0);
	assert_int_equal(manuals_away(&ms), 0);
	assert_true(loose_take(&ms.loose, &d, offset, 0));
	assert_int_equal(manuals_away(&ms), PAGE_BYTES);
	device_free(&d, offset, 0);
}

static void there_is_an_end_to_how_many(void **state)
{
	struct manual *all[MAX_MANUALS];

	(void)state;
	for (unsigned i = 0; i < MAX_MANUALS; i++) {
		take(SYSTEM & ~UHMM_SELECT_FAULT, 1, i, i + 1); /* holes */
		all[i] = m;
	}
	assert_int_equal(open_at(FROM_SYSTEM, SYSTEM, page(1, 100), page(1, 101)), -EAGAIN);
	for (unsigned i = 0; i < MAX_MANUALS; i++) {
		m = all[i];
		end();
	}
}

static void all_steps_by_workers(void **state)
{
	(void)state;
	fill_thp(1);
	take(SYSTEM, 1, 0, PAGES_PER_BLOCK);
	assert_int_equal(manual_alloc(m), 0);
	assert_int_equal(manual_copy(m), 0);
	manual_decide(m);
	manual_end(m);
	assert_int_equal(manual_nr_going(m), PAGES_PER_BLOCK);
	manual_free(m);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
}

static atomic_bool paused, opened;

static void *pause_run(void *arg)
{
	(void)arg;
	manuals_pause(&ms);
	paused = true;
	jobs_resume(jobs);
	return NULL;
}

static void *open_run(void *arg)
{
	struct manual_wish w = { .dev = &d, .select = SYSTEM, .start = page(2, 0), .end = page(2, 1) };
	struct manual *mine;

	if (!manual_open(&ms, &w, &mine)) {
		opened = true;
		manual_end(mine);
		manual_free(mine);
	}
	return arg;
}

/* A fork, in short. */
static void who_pauses_waits_and_others_wait_for_it(void **state)
{
	struct manual *first;
	pthread_t pauser, opener;

	(void)state;
	fill(1, 0, 10);
	paused = opened = false;
	take(SYSTEM, 1, 0, 10);
	first = m;
	pauser = spawn(pause_run, NULL);
	while (!ms.nr_pausing)
		sched_yield();
	opener = spawn(open_run, NULL);
	for (unsigned i = 0; i < 100; i++)
		sched_yield();
	assert_false(paused || opened);
	take(SYSTEM, 3, 0, 10); /* who has one open may open another, or it might never end either */
	end();
	assert_false(paused);
	m = first;
	end();
	pthread_join(pauser, NULL);
	pthread_join(opener, NULL);
	assert_true(paused && opened);
	assert_true(at_home(1, 0, 10));
}

static void without_memory_nothing_is_taken(void **state)
{
	(void)state;
	fill(1, 0, 10);
	fail_set("mmap:1", NULL);
	assert_int_equal(open_at(FROM_SYSTEM, SYSTEM, page(1, 0), page(1, 10)), -ENOMEM);
	fail_set("mmap:2", NULL);
	assert_int_equal(open_at(FROM_DEVICE, HOME, page(1, 0), page(1, 10)), -ENOMEM);
	fail_set(NULL, NULL);
	assert_true(at_home(1, 0, 10));
}

MANUAL_MAIN(MANUAL_SMALL(one_that_is_open_is_known_and_counted), MANUAL_SMALL(loose_folios_are_not_away),
	    MANUAL_SMALL(there_is_an_end_to_how_many), MANUAL_HUGE(all_steps_by_workers),
	    MANUAL_SMALL(who_pauses_waits_and_others_wait_for_it), MANUAL_SMALL(without_memory_nothing_is_taken))
