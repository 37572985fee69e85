/* SPDX-License-Identifier: MIT */
/* Children of fork(2) that meet something under way, or are in nobody's hurry. */
#include "rig.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>

#define SEED  71
#define OTHER 72
#define BYTES (4 * BLOCK)

#include "children.h"

static void use_device(const char *spec)
{
	assert_int_equal(uhmm_device_close(dev), 0);
	dev = open_device(spec);
}

/* ---- on the way ---- */

static int finds_a_zero_block(char *mem)
{
	return check_zero(mem, BLOCK) != -1 || check_pattern_at(mem + BLOCK, BYTES - BLOCK, SEED, BLOCK) != -1;
}

static void *touch(void *mem)
{
	(void)*(volatile char *)mem;
	return NULL;
}

/* The device takes its time, so that the fork finds the claim; if it does not, nothing is shown, and nothing fails. */
static void what_was_discarded_on_its_way_home_is_zero_in_a_child(void **state)
{
	for (unsigned k = 0; k < 4; k++) {
		char *mem;
		pthread_t toucher;
		pid_t child;

		use_device("emu:size=64M,latency=300ms");
		mem = on_device(BYTES, k & 1);
		assert_int_equal(pthread_create(&toucher, NULL, touch, mem), 0);
		eventually(count_where(mem, BLOCK, UHMM_WHERE_MOVING));
		assert_int_equal(madvise(mem, BLOCK, MADV_DONTNEED), 0);
		child = start_by(k & 2 ? fork : _Fork, finds_a_zero_block, mem);
		assert_int_equal(outcome_of(child), 0);
		pthread_join(toucher, NULL);
		assert_zeros(mem, BLOCK);
		forget(mem, BYTES);
	}
	use_device("emu:size=64M");
}

/* ---- for ever ---- */

static _Atomic int *told; /* shared with the children */

static int moves_for_ever(char *mem)
{
	char *a = mem, *b = mmap(NULL, BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	while (!*told) {
		if (mremap(a, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, b) != b)
			return 2;
		mem = a, a = b, b = mem;
	}
	return check_pattern(a, PAGE, SEED) != -1;
}

static void a_child_that_moves_memory_for_ever_does_not_hold_up_fork(void **state)
{
	char *mem = on_device(BYTES, false);
	pid_t child;

	*told = 0;
	child = start_by(fork, moves_for_ever, mem);
	*told = 1;
	assert_int_equal(outcome_of(child), 0);
	forget(mem, BYTES);
}

/* ---- a device at another's place ---- */

static void a_device_that_takes_anothers_place_is_lent_as_it_is(void **state)
{
	static const char *const spec[] = { "emu:size=64M", "emu:size=64M,async=on,latency=5ms" };

	for (unsigned k = 0; k < 6; k++) {
		char *mem;

		use_device(spec[k % 2]);
		mem = on_device(BYTES, false);
		assert_int_equal(outcome_of(start_by(fork, holds_pattern, mem)), 0);
		forget(mem, BYTES);
	}
	use_device(spec[0]);
}

/* ---- no descriptor ---- */

static struct rlimit descriptors;

/* Up to the first one that is free. */
static void use_up_descriptors(void)
{
	struct rlimit none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &descriptors), 0);
	none = descriptors;
	for (none.rlim_cur = 0; fcntl((int)none.rlim_cur, F_GETFD) >= 0; none.rlim_cur++)
		;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(dup(0), -1);
}

static int forks_before_it_looks(char *mem)
{
	pid_t child = fork();

	if (!child)
		_exit(holds_pattern(mem));
	return outcome_of(child) || holds_pattern(mem);
}

static void a_childs_child_needs_no_free_descriptor_either(void **state)
{
	char *mem = on_device(BYTES, true);

	use_up_descriptors();
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(outcome_of(start_by(fork, forks_before_it_looks, mem)), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
	forget(mem, BYTES);
}

static void wiped_memory_is_wiped_without_a_free_descriptor(void **state)
{
	char *mem = map_anon(BYTES, true, true);

	assert_int_equal(madvise(mem, BLOCK, MADV_WIPEONFORK), 0);
	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	use_up_descriptors();
	assert_int_equal(outcome_of(start_by(fork, finds_a_zero_block, mem)), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
	forget(mem, BYTES);
}

/* ---- memory that a child does not inherit ---- */

static char *not_inherited;

static int puts_holes_there(char *mem)
{
	char *to = not_inherited + PAGE;

	if (mremap(mem, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		return 2;
	return check_zero(to + PAGE, BLOCK - PAGE) != -1 || check_pattern(to, PAGE, SEED) != -1;
}

static void what_is_not_inherited_is_not_given_at_its_place(void **state)
{
	for (unsigned k = 0; k < 2; k++) {
		char *mem = map_anon(BLOCK, true, false);

		not_inherited = map_anon(2 * BLOCK, true, true);
		fill_pattern(not_inherited, 2 * BLOCK, OTHER);
		assert_int_equal(madvise(not_inherited, 2 * BLOCK, MADV_DONTFORK), 0);
		go(not_inherited, 2 * BLOCK);
		/* watched, and but for one page nothing is there */
		fill_pattern(mem, PAGE, SEED);
		assert_int_equal(uhmm_to_device(space, mem, PAGE, dev, 0, NULL), 0);
		assert_int_equal(outcome_of(start_by(k ? fork : _Fork, puts_holes_there, mem)), 0);
		assert_pattern(not_inherited, 2 * BLOCK, OTHER);
		unmap_anon(mem, BLOCK);
		forget(not_inherited, 2 * BLOCK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_discarded_on_its_way_home_is_zero_in_a_child),
		cmocka_unit_test(a_child_that_moves_memory_for_ever_does_not_hold_up_fork),
		cmocka_unit_test(a_device_that_takes_anothers_place_is_lent_as_it_is),
		cmocka_unit_test(a_childs_child_needs_no_free_descriptor_either),
		cmocka_unit_test(wiped_memory_is_wiped_without_a_free_descriptor),
		cmocka_unit_test(what_is_not_inherited_is_not_given_at_its_place),
	};

	rig_open("emu:size=64M");
	if (!serves_children())
		support_skip("no fork events here: everything comes home before a fork");
	told = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED)
		return 1;
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
