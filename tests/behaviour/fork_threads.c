/* SPDX-License-Identifier: MIT */
/* fork(2) while other threads migrate, touch, fork, open and close. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>

#define SEED  55
#define BYTES (3 * BLOCK)

#include "children.h"

static pid_t (*fork_by)(void) = fork;

static int run_child(child_fn *child, char *mem)
{
	return outcome_of(start_by(fork_by, child, mem));
}

static atomic_bool stop;

/* Moves its memory to and fro, and looks after it. Return: NULL when it was right all the time. */
static void *migrate_and_touch(void *arg)
{
	char *mem = arg;
	uint64_t random = (uintptr_t)mem;

	while (!atomic_load(&stop)) {
		size_t at = next_random(&random) % PAGES(BYTES) * PAGE;

		if (uhmm_to_device(space, mem, BYTES, dev, 0, NULL) < 0)
			return mem;
		if (check_pattern_at(mem + at, PAGE, SEED, at) != -1)
			return mem;
		fill_pattern_at(mem + at, PAGE, SEED, at);
		if (next_random(&random) % 4 == 0 && uhmm_to_system(space, mem, BYTES, 0, NULL) < 0)
			return mem;
	}
	return (void *)(uintptr_t)(check_pattern(mem, BYTES, SEED) != -1);
}

/* Forks some times, each child being a @child on @mem. Return of the thread: NULL when every outcome was as @expected. */
struct forker {
	pthread_t thread;
	child_fn *child;
	char *mem;
	int expected;
};

static void *fork_ten_times(void *arg)
{
	struct forker *f = arg;

	for (unsigned k = 0; k < 10; k++)
		if (run_child(f->child, f->mem) != f->expected)
			return f;
	return NULL;
}

static void start_forker(struct forker *f, child_fn *child, char *mem, int expected)
{
	*f = (struct forker){ .child = child, .mem = mem, .expected = expected };
	assert_int_equal(pthread_create(&f->thread, NULL, fork_ten_times, f), 0);
}

static void expect_end(pthread_t thread)
{
	void *wrong;

	assert_int_equal(pthread_join(thread, &wrong), 0);
	assert_null(wrong);
}

static void fork_while_others_migrate(unsigned nr_forkers)
{
	struct forker forker[2];
	pthread_t mover[2];
	char *mem[2];

	atomic_store(&stop, false);
	for (unsigned k = 0; k < 2; k++) {
		mem[k] = map_anon(BYTES, true, k);
		fill_pattern(mem[k], BYTES, SEED);
		assert_int_equal(pthread_create(&mover[k], NULL, migrate_and_touch, mem[k]), 0);
	}
	for (unsigned k = 0; k < nr_forkers; k++)
		start_forker(&forker[k], holds_pattern, mem[k], 0);
	for (unsigned k = 0; k < nr_forkers; k++)
		expect_end(forker[k].thread);
	atomic_store(&stop, true);
	for (unsigned k = 0; k < 2; k++) {
		expect_end(mover[k]);
		unmap_anon(mem[k], BYTES);
	}
}

static void a_fork_waits_for_what_others_move(void **state)  { fork_while_others_migrate(1); }

/* Without fork handlers, in the middle of everything. */
static void a_raw_fork_meets_what_others_move(void **state)
{
	if (!serves_children())
		skip(); /* the child would read zeros */
	fork_by = _Fork;
	fork_while_others_migrate(2);
	fork_by = fork;
}

static void two_threads_may_fork_at_once(void **state)       { fork_while_others_migrate(2); }

/* With memory on a device, so that closing has something to do. */
static void *open_and_close(void *mem)
{
	while (!atomic_load(&stop)) {
		if (uhmm_open(NULL, &space) || uhmm_device_open(space, "emu:size=64M", &dev) ||
		    uhmm_to_device(space, mem, BYTES, dev, 0, NULL) < 0 || uhmm_close(space))
			return mem;
		fill_pattern(mem, BYTES, SEED);
	}
	return NULL;
}

static void a_fork_may_meet_opening_and_closing(void **state)
{
	char *mem = map_anon(BYTES, true, true), *at_rest = map_anon(BYTES, true, true);
	struct forker forker;
	pthread_t opener;

	fill_pattern(mem, BYTES, SEED);
	fill_pattern(at_rest, BYTES, SEED);
	assert_int_equal(uhmm_close(space), 0);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&opener, NULL, open_and_close, mem), 0);
	start_forker(&forker, holds_pattern, at_rest, 0);
	expect_end(forker.thread);
	atomic_store(&stop, true);
	expect_end(opener);
	assert_int_equal(uhmm_open(NULL, &space), 0); /* for the cases that follow */
	unmap_anon(mem, BYTES);
	unmap_anon(at_rest, BYTES);
}

static int reads_a_byte(char *mem)
{
	return *(volatile char *)mem == 0 ? 1 : 2; /* neither zero nor anything else: it must not come to that */
}

static char *kept_by(struct uhmm_device *d, bool huge)
{
	char *mem = map_anon(BYTES, true, huge);

	fill_pattern(mem, BYTES, SEED);
	assert_int_equal(uhmm_to_device(space, mem, BLOCK, d, 0, NULL), 0);
	return mem;
}

static void no_child_of_two_forks_at_once_reads_zeros_for_what_a_device_keeps(void **state)
{
	struct uhmm_device *d = open_device("emu:size=64M,fail_copy_out=100000");
	char *mem = kept_by(d, true);
	struct forker forker[4];

	for (unsigned k = 0; k < 4; k++)
		start_forker(&forker[k], reads_a_byte, mem + k * PAGE, serves_children() ? -SIGBUS : -SIGSEGV);
	for (unsigned k = 0; k < 4; k++)
		expect_end(forker[k].thread);
	assert_int_equal(uhmm_device_close(d), -EIO);
	assert_int_equal(uhmm_discard(space, mem, BLOCK), 0);
	assert_int_equal(uhmm_device_close(d), 0);
	unmap_anon(mem, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fork_waits_for_what_others_move),
		cmocka_unit_test(two_threads_may_fork_at_once),
		cmocka_unit_test(a_raw_fork_meets_what_others_move),
		cmocka_unit_test(no_child_of_two_forks_at_once_reads_zeros_for_what_a_device_keeps),
		cmocka_unit_test(a_fork_may_meet_opening_and_closing),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
