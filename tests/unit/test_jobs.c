/* SPDX-License-Identifier: MIT */
#include "unit_migrate.h"

#include "migrate/jobs.h"

static struct jobs *j; /* too large for a fresh start by memset */

static int start_jobs(unsigned nr_workers)
{
	j = mmap(NULL, sizeof(*j), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return j == MAP_FAILED ? -1 : jobs_init(j, &mig, nr_workers);
}

/* One worker takes one job after another, in their order. */
static int make_one(void **state)
{
	return make_small(state) || start_jobs(1);
}
static int make_three(void **state)
{
	return make_small(state) || start_jobs(3);
}
static int make_three_huge(void **state)
{
	return make_huge(state) || start_jobs(3);
}

static int unmake_jobs(void **state)
{
	jobs_fini(j);
	munmap(j, sizeof(*j));
	return unmake(state);
}

static void run(enum job_kind kind, uint64_t from, uint64_t to)
{
	jobs_run(j, kind, from, to, kind == JOB_TO_DEVICE ? &d : NULL, false, &t);
}

static bool is_watched(uint64_t hole)
{
	return uffd_zeropage(&sp.uffd, hole, PAGE_BYTES, 0) == 0;
}

static void a_job_runs_to_its_end(void **state)
{
	(void)state;
	fill_thp(0);
	fill_thp(1);
	fill_thp(2);
	run(JOB_TO_DEVICE, at, at + 3 * BLOCK_BYTES);
	assert_int_equal(t.error, 0);
	assert_int_equal(t.moved_folios[BLOCK_ORDER], 3);
	assert_true(on_device(0, 0, PAGES_PER_BLOCK) && on_device(1, 0, PAGES_PER_BLOCK) &&
		    on_device(2, 0, PAGES_PER_BLOCK));
	run(JOB_TO_SYSTEM, at, at + LEN);
	assert_int_equal(t.moved_folios[BLOCK_ORDER], 3);
	assert_true(at_home(0, 0, PAGES_PER_BLOCK) && at_home(1, 0, PAGES_PER_BLOCK) && at_home(2, 0, PAGES_PER_BLOCK));
	assert_int_equal(sp.counters.to_device_folios[BLOCK_ORDER], 3);
	assert_int_equal(sp.counters.to_system_folios[BLOCK_ORDER], 3);
	assert_int_equal(used(), 0);
	assert_int_equal(sp.nr_arming, 0);
}

static void disarming_stops_the_watch(void **state)
{
	(void)state;
	fill(1, 0, 20);
	run(JOB_TO_DEVICE, block(1), page(1, 20));
	run(JOB_DISARM, at, at + LEN);
	assert_true(is_watched(page(3, 0))); /* something is away still */
	run(JOB_TO_SYSTEM, at, at + LEN);
	run(JOB_DISARM, at, at + LEN);
	assert_false(is_watched(page(3, 1)));
	assert_true(at_home(1, 0, 20));
}

static void an_empty_range_ends_too(void **state)
{
	(void)state;
	munmap(mem + BLOCK_BYTES, BLOCK_BYTES);
	run(JOB_TO_DEVICE, block(1), block(2));
	assert_ptr_not_equal(mmap(mem + BLOCK_BYTES, BLOCK_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				  -1, 0),
			     MAP_FAILED);
	assert_int_equal(t.skipped[UHMM_SKIP_UNMAPPED], PAGES_PER_BLOCK);
	run(JOB_TO_SYSTEM, 0, UINT64_C(1) << 47);
	assert_int_equal(t.moved_folios[0] + t.moved_folios[BLOCK_ORDER], 0);
}

static void a_device_in_trouble_is_told_and_nothing_is_lost(void **state)
{
	(void)state;
	fill(0, 0, 20);
	fill(1, 0, 20);
	fake.copy = -EIO;
	run(JOB_TO_DEVICE, at, at + 2 * BLOCK_BYTES);
	assert_int_equal(t.error, -EIO);
	assert_int_equal(t.moved_folios[0], 0);
	assert_int_equal(t.skipped[UHMM_SKIP_DEVICE], 2 * PAGES_PER_BLOCK); /* both were in the batch */
	assert_true(at_home(0, 0, 20) && at_home(1, 0, 20));
	assert_int_equal(used(), 0);
}

static void copies_in_flight_all_arrive(void **state)
{
	(void)state;
	reopen("full", (struct uhmm_driver_props){ .size_bytes = FAKE_BYTES, .caps = UHMM_CAP_ASYNC });
	fake.fence = 5;
	for (unsigned b = 0; b < NR_BLOCKS; b++)
		fill(b, 0, 20);
	run(JOB_TO_DEVICE, at, at + LEN);
	assert_int_equal(fake.nr_waits, NR_BLOCKS);
	for (unsigned b = 0; b < NR_BLOCKS; b++)
		assert_true(on_device(b, 0, 20));
}

/* Two posters share a block; each has pages of its own. */
#define NR_POSTERS 8

static struct poster {
	pthread_t thread;
	unsigned block, first, end;
	uint64_t nr_moved, nr_home;
	unsigned nr_wrong;
} poster[NR_POSTERS];

static uint64_t nr_pages(const struct tally *x)
{
	uint64_t n = x->moved_folios[0] + x->moved_folios[BLOCK_ORDER] * PAGES_PER_BLOCK;

	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		n += x->skipped[k];
	return n;
}

static void *post_many(void *arg)
{
	struct poster *p = arg;
	struct tally mine;

	for (unsigned round = 0; round < 8; round++) {
		uint64_t from = page(p->block, p->first), to = page(p->block, p->end);

		jobs_run(j, JOB_TO_DEVICE, from, to, &d, false, &mine);
		p->nr_wrong += mine.error != 0 || nr_pages(&mine) != p->end - p->first;
		p->nr_moved += mine.moved_folios[0];
		jobs_run(j, JOB_TO_SYSTEM, from, to, NULL, round % 2, &mine);
		p->nr_wrong += mine.error != 0;
		p->nr_home += mine.moved_folios[0];
		p->nr_wrong += !holds(mem + (from - at), p->block, p->first, p->end);
	}
	return NULL;
}

static void all_jobs_of_many_posters_complete(void **state)
{
	(void)state;
	for (unsigned k = 0; k < NR_POSTERS; k++) {
		unsigned first = k < 4 ? 100 : 110;

		poster[k] = (struct poster){ .block = k % NR_BLOCKS, .first = first, .end = first + 10 };
		fill(k % NR_BLOCKS, first, first + 10);
	}
	for (unsigned k = 0; k < NR_POSTERS; k++)
		poster[k].thread = spawn(post_many, &poster[k]);
	for (unsigned k = 0; k < NR_POSTERS; k++)
		pthread_join(poster[k].thread, NULL);
	for (unsigned k = 0; k < NR_POSTERS; k++) {
		assert_int_equal(poster[k].nr_wrong, 0);
		assert_true(poster[k].nr_moved > 0);
		assert_int_equal(poster[k].nr_home, poster[k].nr_moved);
	}
	assert_int_equal(used(), 0);
	for (unsigned i = 0; i < JOB_SLOTS; i++)
		assert_int_equal(j->job[i].state, JOB_FREE);
}

/* ---- prefetches ---- */

static int post(unsigned b, unsigned n)
{
	return jobs_post(j, JOB_TO_DEVICE, page(b, 0), page(b, n), &d);
}

static void a_posted_job_is_waited_for_by_who_wants_to(void **state)
{
	(void)state;
	fill(0, 0, 20);
	fill(1, 0, 20);
	assert_int_equal(post(0, 20), 0);
	assert_int_equal(post(1, 20), 0);
	jobs_wait_detached(j, NULL);
	assert_true(on_device(0, 0, 20) && on_device(1, 0, 20));
	assert_int_equal(sp.counters.prefetches, 2);
	assert_int_equal(sp.counters.prefetches_failed, 0);
	assert_int_equal(j->nr_prefetches, 0);
}

static void a_posted_job_that_fails_is_counted(void **state)
{
	(void)state;
	fill(0, 0, 20);
	fake.copy = -EIO;
	assert_int_equal(post(0, 20), 0);
	jobs_wait_detached(j, NULL);
	assert_int_equal(sp.counters.prefetches_failed, 1);
	assert_true(at_home(0, 0, 20));
}

static void no_more_prefetches_than_there_may_be(void **state)
{
	(void)state;
	fill(0, 0, 20);
	jobs_pause(j);
	for (unsigned n = 0; n < MAX_PREFETCHES; n++)
		assert_int_equal(post(0, 20), 0);
	assert_int_equal(post(0, 20), -EAGAIN);
	assert_int_equal(post(0, 20), -EAGAIN);
	assert_int_equal(j->nr_prefetches, MAX_PREFETCHES);
	/* who waits for its job finds a slot all the same */
	jobs_run(j, JOB_TO_SYSTEM, at, at + LEN, NULL, true, &t);
	jobs_resume(j);
	jobs_wait_detached(j, NULL);
	assert_int_equal(post(0, 20), 0);
	jobs_wait_detached(j, NULL);
	assert_true(on_device(0, 0, 20));
	assert_int_equal(sp.counters.prefetches, MAX_PREFETCHES + 1);
}

/* ---- pauses ---- */

static void paused_jobs_wait_unless_they_are_urgent(void **state)
{
	(void)state;
	fill(0, 0, 20);
	fill(1, 0, 20);
	run(JOB_TO_DEVICE, page(1, 0), page(1, 20));
	jobs_pause(j);
	assert_int_equal(post(0, 20), 0);
	/* the only worker would have taken the older one first */
	jobs_run(j, JOB_TO_SYSTEM, page(1, 0), page(1, 20), NULL, true, &t);
	assert_true(at_home(1, 0, 20));
	assert_int_equal(j->nr_prefetches, 1);
	assert_true(at_home(0, 0, 20));
	jobs_resume(j);
	jobs_wait_detached(j, NULL);
	assert_true(on_device(0, 0, 20));
}

static void pauses_nest(void **state)
{
	(void)state;
	fill(0, 0, 20);
	jobs_pause(j);
	jobs_pause(j);
	assert_int_equal(post(0, 20), 0);
	jobs_resume(j);
	jobs_run(j, JOB_TO_SYSTEM, page(1, 0), page(1, 20), NULL, true, &t);
	assert_true(at_home(0, 0, 20));
	jobs_resume(j);
	jobs_wait_detached(j, NULL);
	assert_true(on_device(0, 0, 20));
}

/* A hook: the copy lasts until it is let go. */
static atomic_bool copying, let_go, returned;

static void copy_for_long(void)
{
	atomic_store(&copying, true);
	while (!atomic_load(&let_go))
		sched_yield();
	atomic_store(&copying, false);
}

static void begin_long_copy(void)
{
	atomic_store(&copying, false);
	atomic_store(&let_go, false);
	atomic_store(&returned, false);
	fake.hook = copy_for_long;
	fill(0, 0, 20);
	assert_int_equal(post(0, 20), 0);
	while (!atomic_load(&copying))
		sched_yield();
}

static void *pause_run(void *arg)
{
	(void)arg;
	jobs_pause(j);
	atomic_store(&returned, true);
	return NULL;
}

static void *wait_run(void *arg)
{
	jobs_wait_detached(j, arg);
	atomic_store(&returned, true);
	return NULL;
}

/* Some chances to return too early. */
static bool still_waits(void)
{
	for (unsigned n = 0; n < 200 && !atomic_load(&returned); n++)
		sched_yield();
	return !atomic_load(&returned);
}

static void a_pause_begins_when_nobody_is_at_work(void **state)
{
	pthread_t id;

	(void)state;
	begin_long_copy();
	id = spawn(pause_run, NULL);
	while (!atomic_load(&j->paused))
		sched_yield();
	assert_true(still_waits());
	atomic_store(&let_go, true);
	pthread_join(id, NULL);
	assert_false(atomic_load(&copying));
	assert_int_equal(j->nr_active, 0);
	assert_true(on_device(0, 0, 20)); /* what was under way has ended */
	jobs_resume(j);
}

static void waiting_for_posted_jobs_waits_for_those_to_that_device(void **state)
{
	static struct device other = { .index = INDEX + 1 };
	pthread_t id;

	(void)state;
	begin_long_copy();
	jobs_wait_detached(j, &other); /* has none */
	id = spawn(wait_run, &d);
	assert_true(still_waits());
	atomic_store(&let_go, true);
	pthread_join(id, NULL);
	assert_true(on_device(0, 0, 20));
	assert_int_equal(j->nr_prefetches, 0);
}

/* ---- starting ---- */

static void a_start_that_fails_leaves_nothing(void **state)
{
	static const char *const fails[] = { "thread:2", "mmap:1", "mmap:2", "mmap:3", "mmap:5" };

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(fails); k++) {
		struct jobs *other =
			mmap(NULL, sizeof(*other), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		unsigned before = thread_nr_own();

		assert_ptr_not_equal(other, MAP_FAILED);
		fail_set(fails[k], NULL);
		assert_true(jobs_init(other, &mig, 3) < 0);
		assert_int_equal(thread_nr_own(), before);
		munmap(other, sizeof(*other));
	}
}

#define ONE(name)        cmocka_unit_test_setup_teardown(name, make_one, unmake_jobs)
#define THREE(name)      cmocka_unit_test_setup_teardown(name, make_three, unmake_jobs)
#define THREE_HUGE(name) cmocka_unit_test_setup_teardown(name, make_three_huge, unmake_jobs)

int main(void)
{
	const struct CMUnitTest tests[] = {
		THREE_HUGE(a_job_runs_to_its_end),
		THREE(disarming_stops_the_watch),
		THREE(an_empty_range_ends_too),
		ONE(a_device_in_trouble_is_told_and_nothing_is_lost),
		THREE(copies_in_flight_all_arrive),
		THREE(all_jobs_of_many_posters_complete),
		THREE(a_posted_job_is_waited_for_by_who_wants_to),
		THREE(a_posted_job_that_fails_is_counted),
		THREE(no_more_prefetches_than_there_may_be),
		ONE(paused_jobs_wait_unless_they_are_urgent),
		ONE(pauses_nest),
		THREE(a_pause_begins_when_nobody_is_at_work),
		THREE(waiting_for_posted_jobs_waits_for_those_to_that_device),
		SMALL(a_start_that_fails_leaves_nothing),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
