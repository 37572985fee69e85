/* SPDX-License-Identifier: MIT */
/* A limit for what the process holds: cold memory leaves, growth waits, contents stay. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define LIMIT (64 * MIB)
#define LARGE (112 * MIB)
#define SLACK (16 * MIB) /* of the kernel's counting, and of what comes between two looks on a loaded machine */

static struct uhmm_policy_stats policy(void)
{
	struct uhmm_policy_stats st = { .sz = sizeof(st) };

	assert_int_equal(uhmm_policy_stats(space, &st), 0);
	return st;
}

static void limit(uint64_t bytes)
{
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = bytes, .devices = &dev, .nr_devices = 1,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE);

	assert_int_equal(uhmm_policy_start(space, &o), 0);
}

/* Between looks: a mapping that nobody has seen yet can grow for a moment. Wait until it has been. */
static char *map_seen(size_t bytes)
{
	char *mem = map_anon(bytes, true, true);
	uint64_t rounds = policy().rounds;

	eventually(policy().rounds > rounds + 1);
	return mem;
}

static void what_was_written_first_leaves_first(void **state)
{
	char *mem;

	(void)state;
	limit(LIMIT);
	mem = map_seen(LARGE);
	fill_pattern(mem, LARGE, 1);
	eventually(policy().evicted_bytes >= LARGE - LIMIT);
	assert_true(count_where(mem, LARGE, UHMM_WHERE_DEVICE) >= PAGES(LARGE - LIMIT));
	assert_true(count_where(mem, 32 * MIB, UHMM_WHERE_DEVICE) >= PAGES(16 * MIB));
	eventually(policy().resident_bytes <= LIMIT);
	for (unsigned round = 0; round < 2; round++)
		assert_pattern(mem, LARGE, 1);
	assert_true(policy().laps > 0 && policy().over == 0);
	assert_true(policy().limit_bytes == LIMIT);
	unmap_anon(mem, LARGE);
	assert_int_equal(uhmm_policy_stop(space), 0);
}

static void growth_waits_for_room(void **state)
{
	struct uhmm_device *slow = open_device("emu:size=256M,latency=50ms");
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT, .devices = &slow, .nr_devices = 1,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE);
	uint64_t waits;
	char *mem;

	(void)state;
	assert_int_equal(uhmm_policy_start(space, &o), 0);
	waits = policy().waits;
	mem = map_seen(LARGE);
	fill_pattern(mem, LARGE, 2); /* faster than blocks can leave */
	assert_true(policy().waits > waits);
	assert_true(policy().resident_max_bytes < LIMIT + SLACK);
	assert_pattern(mem, LARGE, 2);
	unmap_anon(mem, LARGE);
	assert_int_equal(uhmm_policy_stop(space), 0);
	assert_int_equal(uhmm_device_close(slow), 0);
}

/* They come into new memory, whatever THPs there are to recycle. */
static void small_folios_that_come_home_wait_for_room(void **state)
{
	struct uhmm_device *slow = open_device("emu:size=256M,latency=50ms"), *both[] = { slow, dev };
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT, .devices = both, .nr_devices = 2, .flags = UHMM_POLICY_EMU_APART);
	char *mem = map_anon(LARGE, true, false), *thps = map_anon(8 * MIB, true, true);

	(void)state;
	fill_pattern(mem, LARGE, 2);
	fill_pattern(thps, 8 * MIB, 3);
	assert_int_equal(uhmm_to_device(space, mem, LARGE, dev, 0, NULL), 0);
	assert_int_equal(uhmm_to_device(space, thps, 8 * MIB, dev, 0, NULL), 0);
	assert_int_equal(uhmm_policy_start(space, &o), 0);
	eventually(policy().rounds > 1);
	assert_pattern(mem, LARGE, 2); /* comes faster than it can leave again */
	assert_true(policy().resident_max_bytes < LIMIT + 2 * SLACK); /* what is on its way to emu counts twice */
	assert_pattern(thps, 8 * MIB, 3);
	unmap_anon(mem, LARGE);
	unmap_anon(thps, 8 * MIB);
	assert_int_equal(uhmm_policy_stop(space), 0);
	assert_int_equal(uhmm_device_close(slow), 0);
}

/* A heap that is reserved as a whole, and becomes accessible piece by piece, as a JVM's. Nothing leaves as fast as it is filled. */
static void what_was_only_reserved_waits_too(void **state)
{
	char *mem = mmap(NULL, LARGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct uhmm_device *slow = open_device("emu:size=256M,bandwidth=256M"), *both[] = { slow, dev };
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT, .devices = both, .nr_devices = 2,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE);
	uint64_t rounds;

	(void)state;
	assert_int_equal(uhmm_policy_start(space, &o), 0);
	for (size_t at = 0; at < LARGE; at += 8 * MIB) {
		assert_int_equal(mprotect(mem + at, 8 * MIB, PROT_READ | PROT_WRITE), 0);
		rounds = policy().rounds;
		eventually(policy().rounds > rounds + 1);
		fill_pattern_at(mem + at, 8 * MIB, 2, at);
	}
	assert_true(policy().resident_max_bytes <= LIMIT + SLACK);
	assert_pattern(mem, LARGE, 2);
	munmap(mem, LARGE);
	assert_int_equal(uhmm_policy_stop(space), 0);
	assert_int_equal(uhmm_device_close(slow), 0);
}

static void zeros_cost_nothing(void **state)
{
	uint64_t before;
	char *mem;

	(void)state;
	limit(LIMIT);
	before = policy().evicted_bytes;
	mem = map_seen(LARGE);
	for (size_t at = 0; at < LARGE; at += PAGE)
		mem[at] = 1;
	for (size_t at = 0; at < LARGE; at += PAGE)
		mem[at] = 0; /* what left as ones comes back for this */
	eventually(policy().zero_bytes >= 16 * MIB);
	assert_zeros(mem, LARGE);
	assert_true(policy().evicted_bytes - before < 3 * LARGE);
	unmap_anon(mem, LARGE);
	assert_int_equal(uhmm_policy_stop(space), 0);
}

static atomic_uint errors;

static void *churn(void *arg)
{
	uintptr_t seed = (uintptr_t)arg;

	for (unsigned round = 0; round < 3; round++) {
		char *mem = mmap(NULL, 40 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (mem == MAP_FAILED) {
			errors++;
			return NULL;
		}
		fill_pattern(mem, 40 * MIB, seed + round);
		errors += check_pattern(mem, 40 * MIB, seed + round) != -1;
		errors += check_pattern(mem, 40 * MIB, seed + round) != -1;
		munmap(mem, 40 * MIB);
	}
	return NULL;
}

static void threads_together_stay_below(void **state)
{
	pthread_t thread[4];

	(void)state;
	limit(LIMIT);
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, churn, (void *)(i * 100)), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(errors, 0);
	assert_int_equal(uhmm_policy_stop(space), 0);
}

/*
 * Blocks that are leaving are touched: some of those come back from staging. It is a race which, so it is tried until one has; that
 * none ever does is what this would notice.
 */
static void what_is_touched_while_it_leaves_comes_back(void **state)
{
	struct uhmm_device *slow = open_device("slow+emu:size=256M,delay=5ms");
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT, .devices = &slow, .nr_devices = 1,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE);
	uint64_t before, extent = 0;
	char *mem;

	(void)state;
	assert_int_equal(uhmm_policy_start(space, &o), 0);
	before = policy().returned_bytes;
	mem = map_seen(LARGE);
	fill_pattern(mem, LARGE, 7);
	while (policy().returned_bytes == before) {
		/* what is read makes others leave; of those the next that is on its way is touched */
		assert_int_equal(check_pattern_at(mem + extent, BLOCK, 7, extent), -1);
		for (uint64_t at = 0; at < LARGE; at += BLOCK)
			if (count_where(mem + at, PAGE, UHMM_WHERE_MOVING))
				assert_int_equal(check_pattern_at(mem + at, 8, 7, at), -1);
		extent = (extent + BLOCK) % LARGE;
	}
	assert_pattern(mem, LARGE, 7);
	unmap_anon(mem, LARGE);
	assert_int_equal(uhmm_policy_stop(space), 0);
	assert_int_equal(uhmm_device_close(slow), 0);
}

/* The device has no room for it all: the rest stays, above the limit, and nobody waits for ever. */
static void a_full_device_lets_growth_through(void **state)
{
	struct uhmm_device *small = open_device("emu:size=16M");
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT, .devices = &small, .nr_devices = 1,
		  .flags = UHMM_POLICY_EMU_APART);
	char *mem;

	(void)state;
	assert_int_equal(uhmm_policy_start(space, &o), 0);
	mem = map_seen(LARGE);
	fill_pattern(mem, LARGE, 3);
	assert_true(policy().full > 0 && policy().over > 0 && policy().stuck > 0);
	assert_pattern(mem, LARGE, 3);
	unmap_anon(mem, LARGE);
	assert_int_equal(uhmm_policy_stop(space), 0);
	assert_int_equal(uhmm_device_close(small), 0);
}

static void the_second_device_takes_what_the_first_cannot(void **state)
{
	struct uhmm_device *both[2] = { open_device("emu:size=16M"), dev };
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT, .devices = both, .nr_devices = 2,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE);
	char *mem;

	(void)state;
	assert_int_equal(uhmm_policy_start(space, &o), 0);
	mem = map_seen(LARGE);
	fill_pattern(mem, LARGE, 4);
	/* half of the first may have moved on for what came last and has not arrived */
	eventually(info(both[0]).used_bytes >= 6 * MIB && info(dev).used_bytes >= 16 * MIB);
	assert_pattern(mem, LARGE, 4);
	unmap_anon(mem, LARGE);
	assert_int_equal(uhmm_policy_stop(space), 0);
	assert_int_equal(uhmm_device_close(both[0]), 0);
}

/* The kernel gives up no page that has not been written to since a fork, also when the child has ended. */
static void what_a_dead_child_has_shared_leaves_too(void **state)
{
	char *mem = map_anon(LARGE, true, true);
	int status;
	pid_t pid;

	(void)state;
	fill_pattern(mem, LARGE, 6);
	pid = fork();
	if (!pid)
		_exit(check_pattern(mem, LARGE, 6) != -1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	limit(LIMIT);
	eventually(policy().rounds > 0 && policy().resident_bytes <= LIMIT);
	assert_true(count_where(mem, LARGE, UHMM_WHERE_DEVICE) >= PAGES(32 * MIB));
	assert_pattern(mem, LARGE, 6);
	unmap_anon(mem, LARGE);
	assert_int_equal(uhmm_policy_stop(space), 0);
}

/* Of a page that @mem shares with nobody the kernel says so (bit 56). */
static size_t own_pages(const char *mem, size_t bytes)
{
	FILE *f = fopen("/proc/self/pagemap", "r");
	uint64_t word;
	size_t nr = 0;

	assert_non_null(f);
	assert_int_equal(fseek(f, (long)((uintptr_t)mem / PAGE * sizeof(word)), SEEK_SET), 0);
	for (size_t i = 0; i < bytes / PAGE; i++) {
		assert_int_equal(fread(&word, sizeof(word), 1, f), 1);
		nr += word >> 56 & 1;
	}
	fclose(f);
	return nr;
}

/* A collapse to one THP before it leaves, and the write that takes pages back after a fork, would copy it. */
static void what_a_living_child_shares_is_held_once(void **state)
{
	char *mem = map_anon(48 * MIB, true, false), *more;
	uint64_t laps;
	char end;
	int status, ends[2];
	pid_t pid;

	(void)state;
	fill_pattern(mem, 48 * MIB, 7); /* base pages; a THP would be wanted there */
	assert_int_equal(madvise(mem, 48 * MIB, MADV_HUGEPAGE), 0);
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (!pid) {
		close(ends[1]);
		(void)!read(ends[0], &end, 1);
		_exit(check_pattern(mem, 48 * MIB, 7) != -1);
	}
	limit(LIMIT);
	more = map_seen(LARGE);
	laps = policy().laps; /* it goes round before the first write, too */
	do {
		fill_pattern(more, LARGE, 8);
	} while (policy().laps < laps + 8);
	assert_int_equal(own_pages(mem, 48 * MIB), 0); /* nor has a copy left */
	assert_int_equal(count_where(mem, 48 * MIB, UHMM_WHERE_DEVICE), 0);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_pattern(more, LARGE, 8);
	eventually(policy().resident_bytes <= LIMIT); /* it may leave now */
	assert_pattern(mem, 48 * MIB, 7);
	unmap_anon(more, LARGE);
	unmap_anon(mem, 48 * MIB);
	assert_int_equal(uhmm_policy_stop(space), 0);
}

static _Atomic uint64_t asked, next_limit;

static uint64_t round_fn(void *ctx, const struct uhmm_policy_stats *now)
{
	if (ctx == &asked && now->sz == sizeof(*now))
		asked++;
	return next_limit;
}

static void the_limit_may_change_with_each_look(void **state)
{
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = 4 * LARGE, .devices = &dev, .nr_devices = 1, .round = round_fn,
		  .round_ctx = (void *)&asked, .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE);
	char *mem = map_anon(LARGE, true, true);

	(void)state;
	assert_int_equal(uhmm_policy_start(space, &o), 0);
	fill_pattern(mem, LARGE, 5);
	eventually(asked > 2);
	assert_int_equal(count_where(mem, LARGE, UHMM_WHERE_DEVICE), 0);
	next_limit = LIMIT;
	eventually(policy().resident_bytes <= LIMIT && policy().limit_bytes == LIMIT);
	assert_pattern(mem, LARGE, 5);
	unmap_anon(mem, LARGE);
	assert_int_equal(uhmm_policy_stop(space), 0);
}

static void wrong_options_are_refused(void **state)
{
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT, .devices = &dev, .nr_devices = 1);
	struct { struct uhmm_policy_opts o; uint64_t more; } newer = { .o = o, .more = 1 };
	struct uhmm_policy_stats none = { .sz = 0 };

	(void)state;
	refused(-EINVAL, uhmm_policy_start(NULL, &o));
	refused(-EINVAL, uhmm_policy_start(space, NULL));
	o.limit_bytes = UHMM_POLICY_LIMIT_MIN - 1;
	refused(-EINVAL, uhmm_policy_start(space, &o));
	o.limit_bytes = LIMIT;
	o.nr_devices = 0;
	refused(-EINVAL, uhmm_policy_start(space, &o));
	o.nr_devices = 1;
	o.flags = 1u << 30;
	refused(-EINVAL, uhmm_policy_start(space, &o));
	o.flags = 0;
	newer.o.sz = sizeof(newer);
	refused(-E2BIG, uhmm_policy_start(space, &newer.o));
	refused(-EINVAL, uhmm_policy_stats(space, &none));
	refused(-EINVAL, uhmm_policy_stop(NULL));
	limit(LIMIT);
	refused(-EBUSY, uhmm_policy_start(space, &o));
	assert_int_equal(uhmm_policy_stop(space), 0);
	assert_int_equal(uhmm_policy_stop(space), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* first: what the other device has touched by then stays in this process */
		cmocka_unit_test(growth_waits_for_room),
		cmocka_unit_test(what_was_written_first_leaves_first),
		cmocka_unit_test(what_is_touched_while_it_leaves_comes_back),
		cmocka_unit_test(small_folios_that_come_home_wait_for_room),
		cmocka_unit_test(what_was_only_reserved_waits_too),
		cmocka_unit_test(zeros_cost_nothing),
		cmocka_unit_test(threads_together_stay_below),
		cmocka_unit_test(what_a_dead_child_has_shared_leaves_too),
		cmocka_unit_test(what_a_living_child_shares_is_held_once),
		cmocka_unit_test(a_full_device_lets_growth_through),
		cmocka_unit_test(the_second_device_takes_what_the_first_cannot),
		cmocka_unit_test(the_limit_may_change_with_each_look),
		cmocka_unit_test(wrong_options_are_refused),
	};

	if (!FREE_UNMAPS)
		support_skip("the address sanitizer's shadow is memory that may leave, and the library, built with it, touches it");
	rig_open("emu:size=1G");
	support_log_start(UHMM_LOG_WARN);
	return rig_close(cmocka_run_group_tests_name("policy", tests, NULL, NULL));
}
