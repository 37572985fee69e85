/* SPDX-License-Identifier: MIT */
/* fork(2) and posix_spawn(3) with memory on a device. */
#include <spawn.h>
#include <sys/wait.h>

#include "rig.h"

#define SEED  41
#define BYTES (3 * BLOCK)

extern char **environ;

static char *on_device(bool huge)
{
	char *mem = map_anon(BYTES, true, huge);

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	return mem;
}

/* A child that crashes, inside fork() too, ends: it does not go on with the cases. */
static pid_t start_child(void)
{
	pid_t child;

	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	signal(SIGABRT, SIG_DFL);
	child = fork();
	if (!child)
		alarm(60);
	return child;
}

/* What the child found: 0 is fine. */
static int outcome_of(pid_t child)
{
	int status;

	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void a_child_sees_the_bytes(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = on_device(huge);
		uint64_t forks = stats().forks;
		pid_t child = start_child();

		if (!child)
			_exit(check_pattern(mem, BYTES, SEED) >= 0);
		assert_int_equal(outcome_of(child), 0);
		assert_int_equal(stats().forks, forks + 1);
		assert_pattern(mem, BYTES, SEED);
		unmap_anon(mem, BYTES);
	}
}

/* Both write everything, wait for one another, and find their own. */
static void writes_stay_private(void **state)
{
	char *mem = on_device(true), c;
	int up[2], down[2];
	pid_t child;

	assert_false(pipe(up) || pipe(down));
	child = start_child();
	if (!child) {
		fill_pattern(mem, BYTES, SEED + 1);
		if (write(up[1], "x", 1) != 1 || read(down[0], &c, 1) != 1)
			_exit(2);
		_exit(check_pattern(mem, BYTES, SEED + 1) >= 0);
	}
	close(up[1]);
	close(down[0]);
	assert_int_equal(read(up[0], &c, 1), 1);
	assert_pattern(mem, BYTES, SEED);
	fill_pattern(mem, BYTES, SEED + 2);
	assert_int_equal(write(down[1], "x", 1), 1);
	assert_int_equal(outcome_of(child), 0);
	assert_pattern(mem, BYTES, SEED + 2);
	close(up[0]);
	close(down[1]);

	/* written since the fork, so it can go again */
	go_and_return(mem, BYTES, SEED + 2);
	unmap_anon(mem, BYTES);
}

static void calls_in_a_child_are_refused(void **state)
{
	char *mem = on_device(true);
	pid_t child = start_child();

	if (!child) {
		struct uhmm_device *d;

		_exit(uhmm_to_device(space, mem, BYTES, dev, 0, NULL) != -EPERM ? 1 :
		      uhmm_to_system(space, mem, BYTES, 0, NULL) != -EPERM      ? 2 :
		      uhmm_prefetch(space, mem, BYTES, NULL) != -EPERM          ? 3 :
		      uhmm_prefetch_wait(space) != -EPERM                       ? 4 :
		      uhmm_discard(space, mem, BYTES) != -EPERM                 ? 5 :
		      uhmm_device_open(space, "emu:", &d) != -EPERM             ? 6 :
		      uhmm_close(space) != -EPERM                               ? 7 :
		      check_pattern(mem, BYTES, SEED) >= 0                      ? 8 : 0);
	}
	assert_int_equal(outcome_of(child), 0);
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

static void a_child_opens_a_space_of_its_own(void **state)
{
	char *mem = on_device(true);
	pid_t child = start_child();

	if (!child) {
		space = NULL;
		if (uhmm_open(NULL, &space) || uhmm_device_open(space, "emu:size=64M", &dev))
			_exit(1);
		fill_pattern(mem, BYTES, SEED + 1); /* its own pages now */
		if (uhmm_to_device(space, mem, BYTES, dev, 0, NULL) || check_pattern(mem, BYTES, SEED + 1) >= 0)
			_exit(2);
		_exit(uhmm_close(space) ? 3 : check_pattern(mem, BYTES, SEED + 1) >= 0 ? 4 : 0);
	}
	assert_int_equal(outcome_of(child), 0);
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

static void a_grandchild_sees_the_bytes(void **state)
{
	char *mem = on_device(true);
	pid_t child = start_child();

	if (!child) {
		pid_t grandchild = start_child();
		int status;

		if (!grandchild)
			_exit(check_pattern(mem, BYTES, SEED) >= 0);
		_exit(waitpid(grandchild, &status, 0) != grandchild || status);
	}
	assert_int_equal(outcome_of(child), 0);
	unmap_anon(mem, BYTES);
}

static void posix_spawn_brings_nothing_home(void **state)
{
	char *mem = on_device(true), *argv[] = { (char *)"true", NULL };
	uint64_t forks = stats().forks;
	pid_t child;

	assert_int_equal(posix_spawnp(&child, "true", NULL, NULL, argv, environ), 0);
	assert_int_equal(outcome_of(child), 0);
	assert_true(all_on_device(mem, BYTES));
	assert_int_equal(stats().forks, forks);
	assert_int_equal(system("true"), 0);
	assert_true(all_on_device(mem, BYTES));
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

static void many_forks_in_a_row(void **state)
{
	char *mem = map_anon(BYTES, true, true);

	fill_pattern(mem, BYTES, SEED);
	for (unsigned i = 0; i < 20; i++) {
		pid_t child;

		(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
		child = start_child();
		if (!child)
			_exit(check_pattern(mem, BYTES, SEED + i) >= 0);
		fill_pattern(mem, BYTES, SEED + i + 1);
		assert_int_equal(outcome_of(child), 0);
		assert_pattern(mem, BYTES, SEED + i + 1);
	}
	unmap_anon(mem, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_child_sees_the_bytes),
		cmocka_unit_test(writes_stay_private),
		cmocka_unit_test(calls_in_a_child_are_refused),
		cmocka_unit_test(a_child_opens_a_space_of_its_own),
		cmocka_unit_test(a_grandchild_sees_the_bytes),
		cmocka_unit_test(posix_spawn_brings_nothing_home),
		cmocka_unit_test(many_forks_in_a_row),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
