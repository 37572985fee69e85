/* SPDX-License-Identifier: MIT */
/*
 * Children of fork(2) that are served while the parent's memory stays on the device: nothing comes home, whatever either side
 * does to its memory meanwhile. _Fork(3) runs no fork handlers, so nobody waits until the child has everything.
 */
#include "rig.h"

#include <fcntl.h>
#include <sys/resource.h>

#define SEED  61
#define OTHER 62
#define BYTES (4 * BLOCK)

#include "children.h"

/* ---- what a fork costs ---- */

#define MUCH ((size_t)256 * MIB)

static int has_much_and_writes(char *mem)
{
	if (check_pattern(mem, MUCH, SEED) != -1)
		return 1;
	fill_pattern(mem, MUCH, OTHER);
	return check_pattern(mem, MUCH, OTHER) != -1;
}

static void a_fork_leaves_256_MiB_where_they_are(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = on_device(MUCH, huge);

		assert_int_equal(outcome_of(start_by(fork, has_much_and_writes, mem)), 0);
		assert_true(all_on_device(mem, MUCH));
		assert_pattern(mem, MUCH, SEED);
		forget(mem, MUCH);
	}
}

static int calls_exec(char *mem)
{
	(void)mem;
	execlp("true", "true", (char *)NULL);
	return 1;
}

static void fork_and_exec_bring_nothing_home(void **state)
{
	char *mem = on_device(BYTES, true);
	struct uhmm_stats before = stats(), after;

	for (unsigned k = 0; k < 5; k++)
		assert_int_equal(outcome_of(start_by(fork, calls_exec, mem)), 0);
	after = stats();
	assert_true(all_on_device(mem, BYTES));
	assert_int_equal(after.to_system_bytes, before.to_system_bytes);
	assert_int_equal(after.fault_bytes, before.fault_bytes);
	assert_int_equal(after.forks, before.forks + 5);
	assert_pattern(mem, BYTES, SEED);
	forget(mem, BYTES);
}

/* ---- life and death ---- */

/* The parent has ended when the child looks: daemon(3) does it like this. */
static int a_daemon(char *mem)
{
	pid_t parent = getppid();

	while (getppid() == parent)
		sched_yield();
	return holds_pattern(mem);
}

static int report[2];

static int forks_and_ends(char *unused)
{
	char *mem;

	(void)unused;
	if (uhmm_open(NULL, &space) || uhmm_device_open(space, "emu:size=64M", &dev))
		return 1;
	mem = on_device(BYTES, true);
	if (!fork()) {
		char wrong;

		alarm(60);
		wrong = (char)a_daemon(mem);
		_exit(write(report[1], &wrong, 1) != 1);
	}
	_exit(0);
}

static void a_child_outlives_a_parent_that_ends_at_once(void **state)
{
	char wrong = 2;

	assert_int_equal(pipe(report), 0);
	assert_int_equal(outcome_of(start_by(fork, forks_and_ends, NULL)), 0);
	assert_int_equal(read(report[0], &wrong, 1), 1);
	assert_int_equal(wrong, 0);
	close(report[0]);
	close(report[1]);
}

static int forks_before_it_looks(char *mem)
{
	int status;
	pid_t child = fork();

	if (!child)
		_exit(holds_pattern(mem));
	return waitpid(child, &status, 0) != child || status || holds_pattern(mem);
}

static void a_childs_child_has_everything(void **state)
{
	char *mem = on_device(BYTES, true);

	assert_int_equal(outcome_of(start_by(fork, forks_before_it_looks, mem)), 0);
	assert_int_equal(outcome_of(start_by(_Fork, forks_before_it_looks, mem)), 0);
	assert_true(all_on_device(mem, BYTES));
	forget(mem, BYTES);
}

static int is_killed(char *mem)
{
	return raise(SIGKILL) || mem[0];
}

static void a_killed_child_leaves_nothing_behind(void **state)
{
	char *mem = on_device(BYTES, true);

	for (unsigned k = 0; k < 5; k++)
		assert_int_equal(outcome_of(start_by(k % 2 ? fork : _Fork, is_killed, mem)), -SIGKILL);
	forget(mem, BYTES);
}

/* ---- the child changes its address space before it has anything ---- */

static int changes_its_space(char *mem)
{
	char *to = mmap(NULL, BYTES + BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *aligned = (char *)(((uintptr_t)to + BLOCK - 1) & ~(BLOCK - 1));

	/* the first block moves, the second partly and to an odd place, of the third a half is unmapped and a page discarded */
	if (to == MAP_FAILED || mremap(mem, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, aligned) != aligned)
		return 1;
	if (mremap(mem + BLOCK + PAGE, BLOCK / 2, BLOCK / 2, MREMAP_MAYMOVE | MREMAP_FIXED, aligned + BLOCK) != aligned + BLOCK)
		return 2;
	if (munmap(mem + 2 * BLOCK, BLOCK / 2) || madvise(mem + 3 * BLOCK - PAGE, PAGE, MADV_DONTNEED) ||
	    mprotect(mem + 3 * BLOCK, BLOCK, PROT_READ))
		return 3;
	if (check_pattern(aligned, BLOCK, SEED) != -1 ||
	    check_pattern_at(aligned + BLOCK, BLOCK / 2, SEED, BLOCK + PAGE) != -1 ||
	    check_pattern_at(mem + BLOCK, PAGE, SEED, BLOCK) != -1 ||
	    check_pattern_at(mem + BLOCK + PAGE + BLOCK / 2, BLOCK / 2 - PAGE, SEED, BLOCK + PAGE + BLOCK / 2) != -1)
		return 4;
	if (check_pattern_at(mem + 2 * BLOCK + BLOCK / 2, BLOCK / 2 - PAGE, SEED, 2 * BLOCK + BLOCK / 2) != -1 ||
	    check_zero(mem + 3 * BLOCK - PAGE, PAGE) != -1 || check_pattern_at(mem + 3 * BLOCK, BLOCK, SEED, 3 * BLOCK) != -1)
		return 5;
	return 0;
}

static void a_child_may_change_its_address_space(void **state)
{
	for (unsigned k = 0; k < 4; k++) {
		char *mem = on_device(BYTES, k & 1);

		assert_int_equal(outcome_of(start_by(k & 2 ? fork : _Fork, changes_its_space, mem)), 0);
		assert_true(all_on_device(mem, BYTES));
		assert_pattern(mem, BYTES, SEED);
		forget(mem, BYTES);
	}
}

static int finds_zeros(char *mem)
{
	return check_zero(mem, BLOCK) != -1 || check_pattern_at(mem + BLOCK, BYTES - BLOCK, SEED, BLOCK) != -1;
}

static void what_is_wiped_on_fork_is_not_given(void **state)
{
	char *mem = map_anon(BYTES, true, true);

	assert_int_equal(madvise(mem, BLOCK, MADV_WIPEONFORK), 0);
	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	assert_int_equal(outcome_of(start_by(fork, finds_zeros, mem)), 0);
	assert_pattern(mem, BYTES, SEED);
	forget(mem, BYTES);
}

/* ---- the parent goes on before the child has anything ---- */

static int gate_open[2];

static int looks_when_it_may(char *mem)
{
	char c;

	return read(gate_open[0], &c, 1) != 1 || holds_pattern(mem);
}

static void the_parent_writes(char *mem)    { fill_pattern(mem, BYTES, OTHER); }
static void the_parent_unmaps(char *mem)    { assert_int_equal(munmap(mem, BYTES), 0); }
static void the_parent_discards(char *mem)  { assert_int_equal(madvise(mem, BYTES, MADV_DONTNEED), 0); }

static void the_parent_reuses_the_device(char *mem)
{
	char *more = map_anon(BYTES, true, true);

	the_parent_writes(mem);
	fill_pattern(more, BYTES, OTHER);
	(void)uhmm_to_device(space, more, BYTES, dev, 0, NULL);
	(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
	unmap_anon(more, BYTES);
}

static void the_device_writes(char *mem)
{
	char *data = malloc(BYTES);

	fill_pattern(data, BYTES, OTHER);
	assert_int_equal(uhmm_device_write(dev, mem, BYTES, data, 0, NULL), 0);
	free(data);
	assert_pattern(mem, BYTES, OTHER);
}

static void the_parent_closes_the_device(char *mem)
{
	assert_int_equal(uhmm_device_close(dev), 0);
	assert_pattern(mem, BYTES, SEED);
	dev = open_device("emu:size=320M");
}

static void a_child_has_what_was_at_the_fork_whatever_the_parent_does(void **state)
{
	static void (*const deed[])(char *mem) = {
		the_parent_writes, the_parent_unmaps, the_parent_discards, the_parent_reuses_the_device, the_device_writes,
		the_parent_closes_the_device,
	};

	assert_int_equal(pipe(gate_open), 0);
	for (unsigned k = 0; k < 2 * sizeof(deed) / sizeof(deed[0]); k++) {
		char *mem = on_device(BYTES, k & 1);
		pid_t child = start_by(_Fork, looks_when_it_may, mem);

		deed[k / 2](mem);
		assert_int_equal(write(gate_open[1], "", 1), 1);
		assert_int_equal(outcome_of(child), 0);
		forget(mem, BYTES);
	}
	close(gate_open[0]);
	close(gate_open[1]);
}

/* ---- no descriptor ---- */

static void a_fork_needs_no_free_descriptor(void **state)
{
	char *mem = on_device(BYTES, true);
	struct rlimit before, none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	for (none.rlim_cur = 0; fcntl((int)none.rlim_cur, F_GETFD) >= 0; none.rlim_cur++)
		;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0); /* up to the first one that is free */
	assert_int_equal(dup(0), -1);
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(outcome_of(start_by(fork, holds_pattern, mem)), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(all_on_device(mem, BYTES));
	forget(mem, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fork_leaves_256_MiB_where_they_are),
		cmocka_unit_test(fork_and_exec_bring_nothing_home),
		cmocka_unit_test(a_child_outlives_a_parent_that_ends_at_once),
		cmocka_unit_test(a_childs_child_has_everything),
		cmocka_unit_test(a_killed_child_leaves_nothing_behind),
		cmocka_unit_test(a_child_may_change_its_address_space),
		cmocka_unit_test(what_is_wiped_on_fork_is_not_given),
		cmocka_unit_test(a_child_has_what_was_at_the_fork_whatever_the_parent_does),
		cmocka_unit_test(a_fork_needs_no_free_descriptor),
	};

	rig_open("emu:size=320M");
	if (!serves_children())
		support_skip("no fork events here: everything comes home before a fork");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
