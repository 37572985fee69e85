/* SPDX-License-Identifier: MIT */
/*
 * Children of a process with a limit, which have one too: what was away is more than they may hold. It comes as fast as they make
 * room, and fork() returns when all has come.
 */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/utsname.h>

#define SEED  71
#define OTHER 72
#define LIMIT (64 * MIB)
#define BYTES (192 * MIB)
#define SLACK (24 * MIB) /* of the kernel's counting, and of what comes between two looks on a loaded machine */

#include "children.h"

static char *mem;
static pid_t tester;

static struct uhmm_policy_stats policy_of(struct uhmm_space *sp)
{
	struct uhmm_policy_stats st = { .sz = sizeof(st) };

	assert_int_equal(uhmm_policy_stats(sp, &st), 0);
	return st;
}

/* Most of the memory is away, and what is not is at the limit. */
static int make(void **state)
{
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT, .devices = &dev, .nr_devices = 1,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE | UHMM_POLICY_CHILDREN);

	(void)state;
	assert_int_equal(uhmm_policy_start(space, &o), 0);
	mem = map_anon(BYTES, true, true);
	fill_pattern(mem, BYTES, SEED);
	eventually(used_bytes() >= BYTES - LIMIT);
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	if (getpid() != tester)
		_exit(1); /* an assertion failed in a child */
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
	assert_int_equal(uhmm_policy_stop(space), 0);
	return 0;
}

/* ---- the child's own policy ---- */

static struct {
	struct uhmm_space *space;
	struct uhmm_device *dev;
	uint64_t shared_bytes; /* with the parent: held once, and cannot leave */
	atomic_bool stop;
	pthread_t thread;
} own;

static uint64_t private_bytes(void)
{
	unsigned long long pages[3];
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu %llu %llu", &pages[0], &pages[1], &pages[2]), 3);
	fclose(f);
	return (pages[1] - pages[2]) * PAGE;
}

static void *look_after(void *arg)
{
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT + own.shared_bytes, .devices = &own.dev, .nr_devices = 1,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE | UHMM_POLICY_CHILDREN);

	while (!uhmm_fork_held() && !atomic_load(&own.stop))
		sched_yield();
	if (uhmm_open(NULL, &own.space) || uhmm_device_open(own.space, "emu:size=1G", &own.dev) || uhmm_policy_start(own.space, &o))
		_exit(2);
	return arg;
}

static void be_looked_after(void)
{
	own.shared_bytes = private_bytes();
	if (pthread_create(&own.thread, NULL, look_after, NULL))
		_exit(2);
}

/* Return: what of the child's memory is wrong; 0 also says that it stayed below the limit. */
static int end_of_child(uint64_t seed)
{
	int wrong = 0;

	atomic_store(&own.stop, true);
	pthread_join(own.thread, NULL);
	wrong |= check_pattern(mem, BYTES, seed) != -1;
	if (!policy_of(own.space).evicted_bytes)
		wrong |= 2; /* then it held all of it */
	if (policy_of(own.space).resident_max_bytes > LIMIT + own.shared_bytes + SLACK)
		wrong |= 4;
	return wrong;
}

/* ---- the cases ---- */

static int reads(char *unused)
{
	(void)unused;
	be_looked_after();
	if (check_pattern(mem, BYTES, SEED) != -1)
		return 8;
	return end_of_child(SEED);
}

static void a_child_makes_room_for_what_was_away(void **state)
{
	struct uhmm_stats before = stats();

	(void)state;
	assert_int_equal(outcome_of(start_by(fork, reads, NULL)), 0);
	assert_true(stats().child_bytes - before.child_bytes >= BYTES - LIMIT);
	/* and another one, for which the parent has made room before */
	assert_int_equal(outcome_of(start_by(fork, reads, NULL)), 0);
}

static int writes(char *unused)
{
	(void)unused;
	be_looked_after();
	for (size_t at = BYTES; at > 0; at -= BLOCK)
		fill_pattern_at(mem + at - BLOCK, BLOCK, OTHER, at - BLOCK);
	return end_of_child(OTHER);
}

static void what_a_limited_child_writes_is_its_own(void **state)
{
	(void)state;
	assert_int_equal(outcome_of(start_by(fork, writes, NULL)), 0);
}

/* The last of two that look after themselves. */
static int forks_itself(char *unused)
{
	int status;
	pid_t child;

	(void)unused;
	be_looked_after();
	child = fork();
	if (!child)
		_exit(check_pattern(mem, BYTES, SEED) != -1);
	if (waitpid(child, &status, 0) != child || status)
		return 8;
	return end_of_child(SEED);
}

static void a_limited_child_may_fork(void **state)
{
	(void)state;
	assert_int_equal(outcome_of(start_by(fork, forks_itself, NULL)), 0);
}

/* Blocks change places and are discarded while the rest comes; a plain model says what must be found. */
static int changes_its_space(char *unused)
{
	enum { NR = BYTES / BLOCK };
	int64_t from[NR]; /* whose bytes a block has; -1: zeros */
	uint64_t random = (uint64_t)getpid();
	int wrong = 0;
	char *spare = mmap(NULL, 2 * BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	spare = (char *)(((uintptr_t)spare + BLOCK - 1) & ~(BLOCK - 1));
	for (size_t i = 0; i < NR; i++)
		from[i] = (int64_t)i;
	be_looked_after();
	for (unsigned k = 0; k < 300 && !wrong; k++) {
		size_t a = next_random(&random) % NR, b = next_random(&random) % NR;
		char *pa = mem + a * BLOCK, *pb = mem + b * BLOCK;

		switch (next_random(&random) % 4) {
		case 0:
			if (from[a] >= 0)
				wrong |= check_pattern_at(pa, BLOCK, SEED, (size_t)from[a] * BLOCK) != -1;
			else
				wrong |= check_zero(pa, BLOCK) != -1;
			break;
		case 1:
			wrong |= madvise(pa, BLOCK, MADV_DONTNEED);
			from[a] = -1;
			break;
		case 2: /* over another one, and the hole is filled */
			if (a == b)
				break;
			wrong |= mremap(pa, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, pb) != pb;
			from[b] = from[a];
			wrong |= mmap(pa, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != pa;
			from[a] = -1;
			break;
		case 3: /* away and back */
			wrong |= mremap(pa, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, spare) != spare;
			wrong |= mremap(spare, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, pa) != pa;
			break;
		}
	}
	for (size_t i = 0; i < NR && !wrong; i++)
		wrong |= from[i] >= 0 ? check_pattern_at(mem + i * BLOCK, BLOCK, SEED, (size_t)from[i] * BLOCK) != -1 :
					check_zero(mem + i * BLOCK, BLOCK) != -1;
	return wrong ? 8 : 0;
}

static void a_limited_child_may_change_its_address_space(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(outcome_of(start_by(fork, changes_its_space, NULL)), 0);
}

/* Every second page of a part has never been there. Whoever fills it does so once: each of two threads adds 1 to it in each round. */
#define SPARSE (32 * MIB)
#define ROUNDS 4

static void *count_up(void *arg)
{
	for (unsigned k = 0; k < ROUNDS; k++)
		for (size_t at = PAGE; at < SPARSE; at += 2 * PAGE)
			atomic_fetch_add((_Atomic uint64_t *)(mem + at), 1);
	return arg;
}

static int touches_holes(char *unused)
{
	pthread_t other;
	int wrong = 0;

	(void)unused;
	be_looked_after();
	if (pthread_create(&other, NULL, count_up, NULL))
		return 2;
	count_up(NULL);
	pthread_join(other, NULL);
	for (size_t at = 0; at < SPARSE; at += 2 * PAGE) {
		wrong |= check_pattern_at(mem + at, PAGE, SEED, at) != -1;
		wrong |= *(uint64_t *)(mem + at + PAGE) != 2 * ROUNDS || check_zero(mem + at + PAGE + 8, PAGE - 8) != -1;
	}
	wrong |= check_pattern_at(mem + SPARSE, BYTES - SPARSE, SEED, SPARSE) != -1;
	return wrong ? 8 : 0;
}

static void two_threads_touch_holes_while_the_rest_comes(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		for (size_t at = PAGE; at < SPARSE; at += 2 * PAGE)
			assert_int_equal(madvise(mem + at, PAGE, MADV_DONTNEED), 0);
		assert_int_equal(outcome_of(start_by(fork, touches_holes, NULL)), 0);
		for (size_t at = PAGE; at < SPARSE; at += 2 * PAGE)
			assert_int_equal(check_zero(mem + at, PAGE), -1);
	}
	fill_pattern(mem, SPARSE, SEED);
}

static int takes_all(char *unused)
{
	(void)unused;
	while (!uhmm_fork_held())
		sched_yield();
	uhmm_fork_take_all();
	return check_pattern(mem, BYTES, SEED) != -1 || uhmm_fork_held();
}

static void a_child_without_a_policy_may_have_all(void **state)
{
	(void)state;
	assert_int_equal(outcome_of(start_by(fork, takes_all, NULL)), 0);
	assert_int_equal(uhmm_fork_held(), 0); /* nobody gives this process anything */
	uhmm_fork_take_all();
}

static int says_nothing(char *unused)
{
	(void)unused;
	return check_pattern(mem, BYTES, SEED) != -1;
}

static void a_silent_child_is_given_all_in_the_end(void **state)
{
	(void)state;
	assert_int_equal(outcome_of(start_by(fork, says_nothing, NULL)), 0);
}

static int gives_up(char *unused)
{
	(void)unused;
	be_looked_after();
	eventually(own.space != NULL);
	pthread_join(own.thread, NULL);
	if (uhmm_policy_stop(own.space))
		return 2;
	return check_pattern(mem, BYTES, SEED) != -1;
}

static void a_child_that_stops_its_policy_has_all(void **state)
{
	(void)state;
	assert_int_equal(outcome_of(start_by(fork, gives_up, NULL)), 0);
}

static int is_killed_when_held(char *unused)
{
	(void)unused;
	while (!uhmm_fork_held())
		sched_yield();
	return raise(SIGKILL);
}

static int calls_exec(char *unused)
{
	(void)unused;
	execlp("true", "true", (char *)NULL);
	return 1;
}

static void who_ends_or_calls_exec_is_waited_for_no_longer(void **state)
{
	(void)state;
	assert_int_equal(outcome_of(start_by(fork, is_killed_when_held, NULL)), -SIGKILL);
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(outcome_of(start_by(fork, calls_exec, NULL)), 0);
}

/* Before Linux 6.17 two userfaultfds cannot watch one process: children are given all at once there. */
static bool may_be_limited(void)
{
	struct utsname host;
	unsigned major = 0, minor = 0;

	return uname(&host) || sscanf(host.release, "%u.%u", &major, &minor) != 2 || major > 6 || (major == 6 && minor >= 17);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_child_makes_room_for_what_was_away, make, unmake),
		cmocka_unit_test_setup_teardown(what_a_limited_child_writes_is_its_own, make, unmake),
		cmocka_unit_test_setup_teardown(a_limited_child_may_fork, make, unmake),
		cmocka_unit_test_setup_teardown(a_limited_child_may_change_its_address_space, make, unmake),
		cmocka_unit_test_setup_teardown(two_threads_touch_holes_while_the_rest_comes, make, unmake),
		cmocka_unit_test_setup_teardown(a_child_without_a_policy_may_have_all, make, unmake),
		cmocka_unit_test_setup_teardown(a_silent_child_is_given_all_in_the_end, make, unmake),
		cmocka_unit_test_setup_teardown(a_child_that_stops_its_policy_has_all, make, unmake),
		cmocka_unit_test_setup_teardown(who_ends_or_calls_exec_is_waited_for_no_longer, make, unmake),
	};

	if (!FREE_UNMAPS)
		support_skip("the address sanitizer's shadow is memory that may leave, and the library, built with it, touches it");
	tester = getpid();
	rig_open("emu:size=1G");
	if (!serves_children())
		support_skip("no fork events here: everything comes home before a fork");
	if (!may_be_limited())
		support_skip("children have limits from Linux 6.17 on");
	return rig_close(cmocka_run_group_tests_name("fork_limited", tests, NULL, NULL));
}
