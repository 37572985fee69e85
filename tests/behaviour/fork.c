/* SPDX-License-Identifier: MIT */
/* fork(2) with memory on a device: parent and child each have all of it, and nothing that one writes shows in the other. */
#include "rig.h"

#include <pthread.h>
#include <spawn.h>

#define SEED  51
#define OTHER 52
#define BYTES (3 * BLOCK)

#include "children.h"

static pid_t start_child(child_fn *child, char *mem) { return start_by(fork, child, mem); }

static int run_child(child_fn *child, char *mem)
{
	return outcome_of(start_child(child, mem));
}

static int writes_its_own(char *mem)
{
	if (holds_pattern(mem))
		return 1;
	fill_pattern(mem, BYTES, OTHER);
	return check_pattern(mem, BYTES, OTHER) != -1;
}

/* Memory of every kind that fork can meet: huge or not, on the device or not, or half. */
static void each_kind(void (*fn)(char *mem))
{
	for (unsigned k = 0; k < 6; k++) {
		char *mem = map_anon(BYTES, k != 5, k & 1);

		fill_pattern(mem, BYTES, SEED);
		if (k < 2 || k == 5)
			go(mem, BYTES);
		else
			go(mem + 100 * PAGE, BLOCK); /* parts of blocks */
		fn(mem);
		unmap_anon(mem, BYTES);
		eventually(used_bytes() == 0);
	}
}

static void child_sees_everything(char *mem)
{
	uint64_t before = stats().forks;

	assert_int_equal(run_child(holds_pattern, mem), 0);
	assert_pattern(mem, BYTES, SEED);
	assert_int_equal(stats().forks, before + 1);
}

static void childs_writes_are_its_own(char *mem)
{
	assert_int_equal(run_child(writes_its_own, mem), 0);
	assert_pattern(mem, BYTES, SEED);
}

/* A child that looks only when the parent lets it. */
static int go_ahead[2];

static int waits_and_looks(char *mem)
{
	char c;

	return read(go_ahead[0], &c, 1) != 1 || holds_pattern(mem);
}

static int outcome_when_let_go(pid_t child)
{
	assert_int_equal(write(go_ahead[1], "", 1), 1);
	return outcome_of(child);
}

static void parents_writes_are_its_own(char *mem)
{
	pid_t child = start_child(waits_and_looks, mem);

	fill_pattern(mem, BYTES, OTHER);
	(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
	assert_int_equal(outcome_when_let_go(child), 0);
	assert_pattern(mem, BYTES, OTHER);
}

static void a_child_sees_what_was_on_a_device(void **state)       { each_kind(child_sees_everything); }
static void what_a_child_writes_stays_in_the_child(void **state)  { each_kind(childs_writes_are_its_own); }
static void what_the_parent_writes_stays_with_it(void **state)    { each_kind(parents_writes_are_its_own); }

static void memory_goes_again_when_the_child_has_ended(void **state)
{
	char *mem = map_anon(BYTES, true, true);

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	assert_int_equal(run_child(holds_pattern, mem), 0);
	fill_pattern(mem, BYTES, OTHER); /* a page that was shared must be written before it may go */
	go_and_return(mem, BYTES, OTHER);
	unmap_anon(mem, BYTES);
}

static void a_spawned_program_brings_nothing_home(void **state)
{
	char *const args[] = { (char *)"true", NULL };
	char *mem = map_anon(BYTES, true, true);
	uint64_t before = stats().forks;
	pid_t child;

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	assert_int_equal(posix_spawnp(&child, "true", NULL, NULL, args, environ), 0);
	assert_int_equal(outcome_of(child), 0);
	assert_int_equal(system("exit 0"), 0);
	assert_true(all_on_device(mem, BYTES));
	assert_int_equal(stats().forks, before);
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

/* ---- uhmm in a child ---- */

static int calls_are_refused(char *mem)
{
	struct uhmm_device *d;
	struct uhmm_extent ext;
	size_t nr;

	return uhmm_to_device(space, mem, BYTES, dev, 0, NULL) != -EPERM ||
	       uhmm_to_system(space, mem, BYTES, 0, NULL) != -EPERM || uhmm_prefetch(space, mem, BYTES, dev) != -EPERM ||
	       uhmm_prefetch_wait(space) != -EPERM || uhmm_discard(space, mem, BYTES) != -EPERM ||
	       uhmm_query(space, mem, BYTES, &ext, 1, &nr) != -EPERM || uhmm_device_open(space, "emu", &d) != -EPERM ||
	       uhmm_close(space) != -EPERM || holds_pattern(mem);
}

static void calls_on_the_parents_space_are_refused(void **state)
{
	char *mem = map_anon(BYTES, true, true);

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	assert_int_equal(run_child(calls_are_refused, mem), 0);
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

static int migrates_its_own(char *mem)
{
	char *mine;
	int r;

	if (uhmm_open(NULL, &space) || uhmm_device_open(space, "emu:size=64M", &dev))
		return 1;
	mine = map_anon(BYTES, true, true);
	fill_pattern(mine, BYTES, OTHER);
	if (uhmm_to_device(space, mine, BYTES, dev, 0, NULL) || used_bytes() != BYTES)
		return 2;
	/* what it has from its parent may go when it has written to it */
	fill_pattern(mem, BYTES, OTHER);
	if (uhmm_to_device(space, mem, BYTES, dev, 0, NULL) < 0)
		return 3;
	/* and its own child has all of that */
	r = start_child(writes_its_own, mem) > 0 && wait(&r) > 0 ? 0 : 4;
	if (r || check_pattern(mine, BYTES, OTHER) != -1 || check_pattern(mem, BYTES, OTHER) != -1)
		return 5;
	return uhmm_close(space) ? 6 : 0;
}

static void a_child_may_open_a_space_of_its_own(void **state)
{
	char *mem = map_anon(BYTES, true, true);

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	assert_int_equal(run_child(migrates_its_own, mem), 0);
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

/* It has copies of all descriptors, but that must not matter to anybody. */
static void a_living_child_does_not_keep_a_closed_space_alive(void **state)
{
	char *mem = map_anon(BYTES, true, true);
	pid_t child;

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	child = start_child(waits_and_looks, mem);
	assert_int_equal(uhmm_close(space), 0);
	assert_int_equal(madvise(mem, BLOCK, MADV_DONTNEED), 0);
	assert_zeros(mem, BLOCK);
	unmap_anon(mem, BYTES);
	assert_int_equal(outcome_when_let_go(child), 0);

	assert_int_equal(uhmm_open(NULL, &space), 0); /* for the cases that follow */
	dev = open_device("emu:size=64M");
}

/* ---- a device that cannot give back ---- */

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

/* Everything was to come home first; what did not is not inherited. */
static void is_not_inherited(char *mem)
{
	assert_int_equal(run_child(reads_a_byte, mem), -SIGSEGV); /* 3 failures */
	assert_int_equal(run_child(reads_a_byte, mem + BLOCK - 1), -SIGSEGV); /* 3 more */
	assert_non_null(strstr(support_last_log(), "the child will not have them"));
}

/* The child asks for its page, and it alone is lost. */
static void is_poisoned(char *mem)
{
	assert_int_equal(run_child(reads_a_byte, mem), -SIGBUS); /* 3 failures for the block, 3 for the page */
	assert_non_null(strstr(support_last_log(), "it gets SIGBUS there"));
}

static void a_child_never_reads_zeros_for_what_a_device_keeps(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		struct uhmm_device *d = open_device("emu:size=64M,fail_copy_out=6");
		char *mem = kept_by(d, huge);

		support_log_start(UHMM_LOG_ERROR);
		if (serves_children())
			is_poisoned(mem);
		else
			is_not_inherited(mem);
		uhmm_log_set(NULL, NULL, 0);
		assert_int_equal(run_child(holds_pattern, mem), 0);
		assert_pattern(mem, BYTES, SEED);
		assert_int_equal(uhmm_device_close(d), 0);
		unmap_anon(mem, BYTES);
	}
}

static void *touch_first(void *arg)
{
	return (void *)(uintptr_t)(check_pattern(arg, PAGE, SEED) != -1);
}

/* A fault thread has its bytes, and the walk that brings all home has nothing to find there. */
static void what_is_on_its_way_home_is_not_missed(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		struct uhmm_device *slow = open_device("emu:size=16M,latency=30ms");
		char *mem = map_anon(BYTES, true, huge);
		pthread_t toucher;
		void *wrong;

		fill_pattern(mem, BYTES, SEED);
		assert_int_equal(uhmm_to_device(space, mem, BLOCK, slow, 0, NULL), 0);
		if (pthread_create(&toucher, NULL, touch_first, mem))
			fail();
		eventually(count_where(mem, BLOCK, UHMM_WHERE_MOVING) > 0 || all_home(mem, PAGE));
		assert_int_equal(run_child(holds_pattern, mem), 0);
		pthread_join(toucher, &wrong);
		assert_null(wrong);
		come(mem, BYTES); /* in one copy */
		assert_pattern(mem, BYTES, SEED);
		unmap_anon(mem, BYTES);
		assert_int_equal(uhmm_device_close(slow), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_child_sees_what_was_on_a_device),
		cmocka_unit_test(what_a_child_writes_stays_in_the_child),
		cmocka_unit_test(what_the_parent_writes_stays_with_it),
		cmocka_unit_test(memory_goes_again_when_the_child_has_ended),
		cmocka_unit_test(what_is_on_its_way_home_is_not_missed),
		cmocka_unit_test(a_spawned_program_brings_nothing_home),
		cmocka_unit_test(calls_on_the_parents_space_are_refused),
		cmocka_unit_test(a_child_may_open_a_space_of_its_own),
		cmocka_unit_test(a_living_child_does_not_keep_a_closed_space_alive),
		cmocka_unit_test(a_child_never_reads_zeros_for_what_a_device_keeps),
	};

	if (pipe(go_ahead))
		return 1;
	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
