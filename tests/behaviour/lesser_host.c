/* SPDX-License-Identifier: MIT */
/*
 * Hosts that lack something. What uhmm cannot do without it says by errno and by one sentence; what it can do without
 * makes it slower, and no byte wrong. This program runs itself again in a host that seems to lack the thing.
 */
#include "rig.h"

#include <spawn.h>
#include <sys/wait.h>

#define SEED  71
#define BYTES (3 * BLOCK)

/* ---- in the lesser host: 0 when all is as it should be, the line where it is not otherwise ---- */

#define MUST(condition)                                                                             \
	do {                                                                                        \
		if (!(condition)) {                                                                 \
			fprintf(stderr, "without %s: line %d: %s\n", getenv("UHMM_TEST_WITHOUT"), __LINE__, #condition); \
			return 1;                                                                   \
		}                                                                                   \
	} while (0)

static int refuses(int error)
{
	support_log_start(UHMM_LOG_WARN);
	MUST(uhmm_open(NULL, &space) == error);
	MUST(support_log_count() == 1);
	MUST(strlen(support_last_log()) > 20);
	/* and again: nothing is left behind that would be in the way */
	MUST(uhmm_open(NULL, &space) == error);
	return 0;
}

static int no_userfaultfd(void) { return refuses(-ENOSYS); }
static int not_supported(void)  { return refuses(-EOPNOTSUPP); }

static int no_privilege(void)
{
	struct uhmm_probe host = { .sz = sizeof(host) };

	MUST(!refuses(-EPERM));
	MUST(strstr(support_last_log(), "UHMM_SPACE_USER_MODE_ONLY") || strstr(support_last_log(), "unprivileged_userfaultfd"));
	MUST(!uhmm_probe(&host));
	MUST(host.uffd_errno == EPERM);
	MUST(!host.has_fork_event);
	return 0;
}

/* THPs, base pages with holes, nothing. */
static char *areas[3];

static int right(void)
{
	MUST(check_pattern(areas[0], BYTES, SEED) == -1);
	for (size_t i = 0; i < PAGES(BYTES); i++)
		MUST((i % 3 ? check_pattern_at(areas[1] + i * PAGE, PAGE, SEED, i * PAGE) : check_zero(areas[1] + i * PAGE, PAGE)) == -1);
	MUST(check_zero(areas[2], BYTES) == -1);
	return 0;
}

static int migrate(void)
{
	for (unsigned k = 0; k < 3; k++) {
		eventually(all_home(areas[k], BYTES)); /* what was touched a moment ago, too */
		MUST(uhmm_to_device(space, areas[k], BYTES, dev, 0, NULL) == 0);
	}
	return 0;
}

static int round_trips(const struct uhmm_space_opts *opts)
{
	for (unsigned k = 0; k < 3; k++)
		areas[k] = map_anon(BYTES, true, k != 1);
	fill_pattern(areas[0], BYTES, SEED);
	for (size_t i = 0; i < PAGES(BYTES); i++)
		if (i % 3)
			fill_pattern_at(areas[1] + i * PAGE, PAGE, SEED, i * PAGE);

	MUST(uhmm_open(opts, &space) == 0);
	MUST(uhmm_device_open(space, "emu:size=64M", &dev) == 0);
	MUST(!migrate());
	MUST(!right());
	MUST(!migrate());
	for (unsigned k = 0; k < 3; k++)
		MUST(uhmm_to_system(space, areas[k], BYTES, 0, NULL) == 0);
	MUST(!right());

	/* parts, discards and moves */
	MUST(!migrate());
	MUST(uhmm_discard(space, areas[1] + 7 * PAGE, 2 * PAGE) == 0);
	MUST(uhmm_discard(space, areas[0] + 100 * PAGE, BLOCK) == 0);
	MUST(check_zero(areas[0] + 100 * PAGE, BLOCK) == -1);
	MUST(check_zero(areas[1] + 7 * PAGE, 2 * PAGE) == -1);
	fill_pattern_at(areas[1] + 7 * PAGE, 2 * PAGE, SEED, 7 * PAGE);
	fill_pattern_at(areas[0] + 100 * PAGE, BLOCK, SEED, 100 * PAGE);
	eventually(!count_where(areas[0], BYTES, UHMM_WHERE_MOVING));
	MUST(uhmm_to_device(space, areas[0] + 50 * PAGE, BLOCK, dev, 0, NULL) == 0);
	MUST(!right());
	MUST(!migrate());
	MUST(uhmm_close(space) == 0);
	return right();
}

static int works(void) { return round_trips(NULL); }

static int works_for_user_touches(void)
{
	UHMM_OPTS(uhmm_space_opts, opts, .flags = UHMM_SPACE_USER_MODE_ONLY);

	return round_trips(&opts);
}

/* A system call has no touch of its own to wait for. */
static int system_calls_fail(void)
{
	UHMM_OPTS(uhmm_space_opts, opts, .flags = UHMM_SPACE_USER_MODE_ONLY);
	char *mem = map_anon(BLOCK, true, true);
	int ends[2];

	fill_pattern(mem, BLOCK, SEED);
	MUST(pipe(ends) == 0);
	MUST(uhmm_open(&opts, &space) == 0);
	MUST(uhmm_device_open(space, "emu:size=64M", &dev) == 0);
	MUST(uhmm_to_device(space, mem, BLOCK, dev, 0, NULL) == 0);
	MUST(write(ends[1], mem, 100) == -1 && errno == EFAULT);
	MUST(check_pattern(mem, BLOCK, SEED) == -1);
	MUST(write(ends[1], mem, 100) == 100);
	return uhmm_close(space);
}

static int no_thp(void)
{
	struct uhmm_stats st = { .sz = sizeof(st) };
	char *mem = map_anon(BLOCK, true, true);

	MUST(uhmm_open(NULL, &space) == 0);
	MUST(uhmm_device_open(space, "emu:size=64M", &dev) == 0);
	fill_pattern(mem, BLOCK, SEED);
	MUST(uhmm_to_device(space, mem, BLOCK, dev, 0, NULL) == 0);
	MUST(check_pattern(mem, BLOCK, SEED) == -1);
	MUST(uhmm_stats(space, &st) == 0);
	MUST(st.pool_hits == 0 && st.pool_fresh == 0);
	MUST(st.fault_folios[9] == 0);
	return uhmm_close(space);
}

/* Two userfaultfds of one process in each other's way: children have no limit, and everything at once. */
static int children_are_given_all(void)
{
	const size_t bytes = 112 * MIB;
	char *mem = map_anon(bytes, true, true);
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = 64 * MIB, .nr_devices = 1, .devices = &dev,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE | UHMM_POLICY_CHILDREN);
	int status;
	pid_t child;

	if (!FREE_UNMAPS)
		return 0; /* no policy can be tried under the address sanitizer */
	MUST(uhmm_open(NULL, &space) == 0);
	MUST(uhmm_device_open(space, "emu:size=256M", &dev) == 0);
	MUST(uhmm_policy_start(space, &o) == 0);
	fill_pattern(mem, bytes, SEED);
	while (used_bytes() < bytes / 4)
		sched_yield();
	child = fork();
	for (size_t at = 0; !child && at < bytes; at += BLOCK)
		if (check_pattern_at(mem + at, BLOCK, SEED, at) != -1 || uhmm_fork_held())
			_exit(1);
	if (!child)
		_exit(0);
	MUST(waitpid(child, &status, 0) == child && !status);
	MUST(check_pattern(mem, bytes, SEED) == -1);
	return uhmm_close(space);
}

/* ---- the hosts ---- */

static const struct host { const char *name, *without; int (*fn)(void); } hosts[] = {
	{ "no_userfaultfd", "userfaultfd", no_userfaultfd },
	{ "no_move", "move", not_supported },
	{ "no_events", "events", not_supported },
	{ "no_privilege", "privilege", no_privilege },
	{ "user_mode_only", "privilege", works_for_user_touches },
	{ "user_mode_only_system_calls", "privilege", system_calls_fail },
	{ "no_procmap_query", "procmap_query", works },
	{ "no_thp", "thp", works },
	{ "no_thp_counted", "thp", no_thp },
	{ "no_poison", "poison", works },
	{ "no_watches_apart", "watches_apart", children_are_given_all },
	{ "nothing_that_it_can_do_without", "procmap_query,thp,poison", works },
	{ "nothing_but_user_mode", "privilege,procmap_query,thp,poison", works_for_user_touches },
	{ "everything", "", works },
};

#define NR_HOSTS (sizeof(hosts) / sizeof(*hosts))

static int run_in(const char *name)
{
	alarm(20);
	for (size_t k = 0; k < NR_HOSTS; k++)
		if (!strcmp(hosts[k].name, name))
			return hosts[k].fn();
	return 1;
}

static void as_it_should_be(void **state)
{
	const struct host *h = *state;
	char *const args[] = { (char *)"lesser_host", (char *)h->name, NULL };
	pid_t child;
	int status;

	assert_int_equal(setenv("UHMM_TEST_WITHOUT", h->without, 1), 0);
	assert_int_equal(posix_spawn(&child, "/proc/self/exe", NULL, NULL, args, environ), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[NR_HOSTS];

	if (argc > 1)
		return run_in(argv[1]);
	skip_unless_uffd();
	for (size_t k = 0; k < NR_HOSTS; k++)
		tests[k] = (struct CMUnitTest){ .name = hosts[k].name, .test_func = as_it_should_be, .initial_state = (void *)&hosts[k] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
