/* SPDX-License-Identifier: MIT */
/* Several devices: what has been away the longest moves on, and the first has room for what leaves now. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define LIMIT (64 * MIB)
#define LARGE (192 * MIB)
#define SMALL (32 * MIB) /* the first device */

static struct uhmm_device *first;

static struct uhmm_policy_stats policy(void)
{
	struct uhmm_policy_stats st = { .sz = sizeof(st) };

	assert_int_equal(uhmm_policy_stats(space, &st), 0);
	return st;
}

static int start(void **state)
{
	struct uhmm_device *both[2] = { open_device("emu:size=32M"), dev };
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT, .devices = both, .nr_devices = 2,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE);

	(void)state;
	first = both[0];
	return uhmm_policy_start(space, &o);
}

static int stop(void **state)
{
	(void)state;
	return uhmm_policy_stop(space) || uhmm_device_close(first);
}

/* How much of a range is on the first device. */
static size_t on_first(const char *mem, size_t bytes)
{
	uint64_t at = (uintptr_t)mem, end = at + bytes;
	size_t nr, sum = 0;

	while (at < end) {
		struct uhmm_extent ext[8];

		assert_int_equal(uhmm_query(space, (void *)(uintptr_t)at, end - at, ext, 8, &nr), 0);
		for (size_t i = 0; i < nr; i++) {
			if (ext[i].where == UHMM_WHERE_DEVICE && ext[i].dev == first)
				sum += ext[i].end - ext[i].start;
			at = ext[i].end;
		}
	}
	return sum;
}

static void what_has_been_away_longest_moves_on(void **state)
{
	char *mem = map_anon(LARGE, true, true);

	(void)state;
	fill_pattern(mem, LARGE, 1);
	eventually(policy().resident_bytes <= LIMIT && policy().onward_bytes >= 32 * MIB);
	/* what was written first left first, and is on the second by now; the first has what left last */
	assert_true(on_first(mem, 32 * MIB) < 8 * MIB);
	assert_true(info(first).used_bytes >= 8 * MIB && info(first).used_bytes <= SMALL);
	assert_true(info(dev).used_bytes >= 64 * MIB);
	for (unsigned round = 0; round < 2; round++)
		assert_pattern(mem, LARGE, 1);
	unmap_anon(mem, LARGE);
	eventually(info(first).used_bytes == 0 && info(dev).used_bytes == 0);
}

static void what_is_touched_now_and_then_is_not_on_the_second(void **state)
{
	char *hot = map_anon(8 * MIB, true, true), *cold = map_anon(LARGE, true, true);
	size_t there = 0;

	(void)state;
	fill_pattern(hot, 8 * MIB, 2);
	for (size_t at = 0; at < LARGE; at += 8 * MIB) {
		fill_pattern(cold + at, 8 * MIB, at);
		assert_pattern(hot, 8 * MIB, 2);
		there += count_where(hot, 8 * MIB, UHMM_WHERE_DEVICE) * PAGE - on_first(hot, 8 * MIB);
	}
	eventually(policy().onward_bytes > 0);
	/* on the second at no time, but what went past a first that was full for a moment */
	assert_true(there <= 8 * MIB);
	for (size_t at = 0; at < LARGE; at += 8 * MIB)
		assert_pattern(cold + at, 8 * MIB, at);
	assert_pattern(hot, 8 * MIB, 2);
	unmap_anon(hot, 8 * MIB);
	unmap_anon(cold, LARGE);
}

static void a_child_of_fork_has_what_moves_on(void **state)
{
	char *mem = map_anon(LARGE, true, true);
	int status;
	pid_t pid;

	(void)state;
	fill_pattern(mem, LARGE, 3);
	pid = fork();
	if (!pid)
		_exit(check_pattern(mem, LARGE, 3) != -1);
	fill_pattern(mem, LARGE, 4);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_pattern(mem, LARGE, 4);
	unmap_anon(mem, LARGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_has_been_away_longest_moves_on, start, stop),
		cmocka_unit_test_setup_teardown(what_is_touched_now_and_then_is_not_on_the_second, start, stop),
		cmocka_unit_test_setup_teardown(a_child_of_fork_has_what_moves_on, start, stop),
	};

	if (!FREE_UNMAPS)
		support_skip("the address sanitizer's shadow is memory that may leave, and the library, built with it, touches it");
	rig_open("emu:size=1G");
	support_log_start(UHMM_LOG_WARN);
	return rig_close(cmocka_run_group_tests_name("tiers", tests, NULL, NULL));
}
