/* SPDX-License-Identifier: MIT */
/* uhmm_prefetch(): it returns at once, is done when it has been waited for, and harms nothing that it cannot do. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>

#define SEED  91
#define BYTES (8 * BLOCK)

static char *filled(size_t bytes, bool huge)
{
	char *mem = map_anon(bytes, true, huge);

	fill_pattern(mem, bytes, SEED);
	return mem;
}

static void wait_for_all(void)
{
	assert_int_equal(uhmm_prefetch_wait(space), 0);
}

static void there_and_back(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		struct uhmm_stats before = stats();
		char *mem = filled(BYTES, huge);

		assert_int_equal(uhmm_prefetch(space, mem, BYTES, dev), 0);
		wait_for_all();
		assert_true(all_on_device(mem, BYTES));
		assert_int_equal(stats().to_device_bytes - before.to_device_bytes, BYTES);
		assert_int_equal(uhmm_prefetch(space, mem, BYTES, NULL), 0);
		wait_for_all();
		assert_int_equal(count_where(mem, BYTES, UHMM_WHERE_SYSTEM), PAGES(BYTES));
		assert_int_equal(stats().faults, before.faults);
		assert_pattern(mem, BYTES, SEED);
		assert_int_equal(stats().prefetches - before.prefetches, 2);
		assert_int_equal(stats().prefetches_failed, before.prefetches_failed);
		unmap_anon(mem, BYTES);
	}
}

static void nothing_to_wait_for(void **state)
{
	wait_for_all();
	wait_for_all();
}

static void the_length_is_rounded_up(void **state)
{
	char *mem = filled(BLOCK, false);

	assert_int_equal(uhmm_prefetch(space, mem + PAGE, PAGE + 1, dev), 0);
	wait_for_all();
	assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_DEVICE), 2);
	assert_true(all_on_device(mem + PAGE, 2 * PAGE));
	assert_pattern(mem, BLOCK, SEED);
	unmap_anon(mem, BLOCK);
}

/* A queue that is full says so; what it has accepted is done, and nothing else. */
static void a_flood(void **state)
{
	struct uhmm_stats before = stats();
	size_t bytes = 200 * 16 * PAGE;
	char *mem = filled(bytes, false);
	unsigned accepted = 0, refused = 0;

	for (unsigned k = 0; k < 200; k++) {
		char *at = mem + k * 16 * PAGE;
		int r = uhmm_prefetch(space, at, 16 * PAGE, dev);

		assert_true(r == 0 || r == -EAGAIN);
		while (r) { /* patience is enough */
			refused++;
			sched_yield();
			r = uhmm_prefetch(space, at, 16 * PAGE, dev);
			assert_true(r == 0 || r == -EAGAIN);
		}
		accepted++;
	}
	print_message("# %u were refused at first\n", refused);
	wait_for_all();
	assert_true(all_on_device(mem, bytes));
	assert_int_equal(stats().prefetches - before.prefetches, accepted);
	assert_int_equal(stats().prefetches_failed, before.prefetches_failed);
	assert_pattern(mem, bytes, SEED);
	unmap_anon(mem, bytes);
}

/* With a device that takes its time the queue does fill up. */
static void a_full_queue_refuses(void **state)
{
	struct uhmm_device *slow = open_device("emu:size=64M,latency=2ms");
	uint64_t before = stats().prefetches;
	char *mem = filled(BYTES, true);
	unsigned accepted = 0;

	for (unsigned k = 0; k < 200; k++) {
		int r = uhmm_prefetch(space, mem + k % 8 * BLOCK, BLOCK, k % 2 ? slow : NULL);

		assert_true(r == 0 || r == -EAGAIN);
		accepted += !r;
	}
	wait_for_all();
	assert_int_equal(stats().prefetches - before, accepted);
	assert_pattern(mem, BYTES, SEED);
	assert_int_equal(uhmm_device_close(slow), 0);
	unmap_anon(mem, BYTES);
}

static void there_and_back_in_order(void **state)
{
	char *mem = filled(BYTES, true);

	for (unsigned k = 0; k < 20; k++) {
		assert_int_equal(uhmm_prefetch(space, mem, BYTES, dev), 0);
		wait_for_all();
		assert_int_equal(uhmm_prefetch(space, mem, BYTES, NULL), 0);
		wait_for_all();
		assert_true(all_home(mem, BYTES));
	}
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

static void a_range_that_is_not_mapped(void **state)
{
	char *mem = filled(BYTES, true);

	munmap(mem + BLOCK, 2 * BLOCK);
	assert_int_equal(uhmm_prefetch(space, mem, BYTES, dev), 0);
	wait_for_all();
	assert_true(all_on_device(mem, BLOCK));
	assert_true(all_on_device(mem + 3 * BLOCK, 5 * BLOCK));
	unmap_anon(mem, BYTES);
	assert_int_equal(uhmm_prefetch(space, mem, BYTES, dev), 0);
	assert_int_equal(uhmm_prefetch(space, mem, BYTES, NULL), 0);
	wait_for_all();
	eventually(used_bytes() == 0);
}

static void a_range_that_is_unmapped_meanwhile(void **state)
{
	for (unsigned k = 0; k < 50; k++) {
		char *mem = filled(2 * BLOCK, k % 2), *next;

		assert_int_equal(uhmm_prefetch(space, mem, 2 * BLOCK, dev), 0);
		unmap_anon(mem, 2 * BLOCK);
		next = map_anon(2 * BLOCK, true, k % 2); /* most often in the same place */
		assert_zeros(next, 2 * BLOCK);
		wait_for_all();
		assert_zeros(next, 2 * BLOCK);
		unmap_anon(next, 2 * BLOCK);
	}
	eventually(used_bytes() == 0);
}

static void a_device_that_fails_is_counted(void **state)
{
	struct uhmm_device *d = open_device("emu:size=64M,fail_copy_in=1");
	uint64_t before = stats().prefetches_failed;
	char *mem = filled(BLOCK, true);

	assert_int_equal(uhmm_prefetch(space, mem, BLOCK, d), 0);
	wait_for_all();
	assert_int_equal(stats().prefetches_failed, before + 1);
	assert_true(all_home(mem, BLOCK));
	assert_pattern(mem, BLOCK, SEED);
	assert_int_equal(uhmm_prefetch(space, mem, BLOCK, d), 0);
	assert_int_equal(uhmm_device_close(d), 0); /* waits for it */
	assert_pattern(mem, BLOCK, SEED);
	unmap_anon(mem, BLOCK);
}

/* ---- with touches ---- */

static atomic_bool stop;

/* Every thread adds one to a word of its own in every page, all the while. */
struct toucher {
	pthread_t thread;
	char *mem;
	unsigned nr;
	uint64_t rounds;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	do {
		for (size_t i = 0; i < BYTES; i += PAGE)
			((volatile uint64_t *)(t->mem + i))[t->nr]++;
		t->rounds++;
	} while (!atomic_load(&stop));
	return NULL;
}

static void touches_meanwhile_are_not_lost(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = map_anon(BYTES, true, huge);
		struct toucher t[2];

		atomic_store(&stop, false);
		for (unsigned k = 0; k < 2; k++) {
			t[k] = (struct toucher){ .mem = mem, .nr = 3 + 200 * k };
			assert_int_equal(pthread_create(&t[k].thread, NULL, touch, &t[k]), 0);
		}
		for (unsigned k = 0; k < 100; k++) {
			int r = uhmm_prefetch(space, mem + k % 7 * BLOCK, (1 + k % 3) * PAGE * 300, k % 4 == 3 ? NULL : dev);

			if (r == -EAGAIN)
				wait_for_all();
		}
		wait_for_all();
		atomic_store(&stop, true);
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(pthread_join(t[k].thread, NULL), 0);
		for (size_t i = 0; i < BYTES; i += PAGE)
			for (unsigned k = 0; k < 2; k++)
				assert_int_equal(((uint64_t *)(mem + i))[t[k].nr], t[k].rounds);
		unmap_anon(mem, BYTES);
		eventually(used_bytes() == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_to_wait_for),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(the_length_is_rounded_up),
		cmocka_unit_test(a_flood),
		cmocka_unit_test(a_full_queue_refuses),
		cmocka_unit_test(there_and_back_in_order),
		cmocka_unit_test(a_range_that_is_not_mapped),
		cmocka_unit_test(a_range_that_is_unmapped_meanwhile),
		cmocka_unit_test(a_device_that_fails_is_counted),
		cmocka_unit_test(touches_meanwhile_are_not_lost),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
