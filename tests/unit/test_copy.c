/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "os/copy.h"

/* A copy at every place of a buffer with a guard of one page on both sides. */
#define MAX_BYTES (2 * MIB + 3 * PAGE_BYTES)
#define GUARD     PAGE_BYTES

static unsigned char *from, *to;

static int make_buffers(void **state)
{
	uint64_t seed = 1;

	(void)state;
	from = aligned_alloc(PAGE_BYTES, MAX_BYTES + 2 * GUARD);
	to = aligned_alloc(PAGE_BYTES, MAX_BYTES + 2 * GUARD);
	if (!from || !to)
		return -1;
	for (uint64_t i = 0; i < (MAX_BYTES + 2 * GUARD) / 8; i++)
		((uint64_t *)from)[i] = next_random(&seed);
	return 0;
}

static int free_buffers(void **state)
{
	(void)state;
	free(from);
	free(to);
	return 0;
}

static bool all_are(const unsigned char *mem, uint64_t bytes, unsigned char value)
{
	for (uint64_t i = 0; i < bytes; i++)
		if (mem[i] != value)
			return false;
	return true;
}

static void check(void (*run)(void *, const void *, uint64_t), unsigned to_offset, unsigned from_offset, uint64_t bytes)
{
	unsigned char *dst = to + GUARD + to_offset, *src = from + from_offset;

	memset(dst - GUARD, 0x5a, bytes + 2 * GUARD);
	run(dst, src, bytes);
	assert_memory_equal(dst, src, bytes);
	assert_true(all_are(dst - GUARD, GUARD, 0x5a));
	assert_true(all_are(dst + bytes, GUARD, 0x5a));
}

static void every_multiple_of_4096_by_every_routine(void **state)
{
	(void)state;
	for (unsigned n = 0; copy_variant(n); n++) {
		for (uint64_t pages = 1; pages <= 70; pages++)
			check(copy_variant(n)->run, 0, 0, pages * PAGE_BYTES);
		for (uint64_t pages = 509; pages <= 515; pages++)
			check(copy_variant(n)->run, 0, 0, pages * PAGE_BYTES);
	}
}

static void every_alignment_of_64_by_every_routine(void **state)
{
	static const uint64_t pages[] = { 1, 2, 3, 5, 16, 17 };

	(void)state;
	for (unsigned n = 0; copy_variant(n); n++)
		for (unsigned offset = 0; offset < PAGE_BYTES; offset += 64)
			for (unsigned k = 0; k < 6; k++)
				check(copy_variant(n)->run, offset, (offset * 7 + 64) % 4096, pages[k] * PAGE_BYTES);
}

static void nothing_is_copied_when_nothing_is_asked(void **state)
{
	(void)state;
	for (unsigned n = 0; copy_variant(n); n++)
		check(copy_variant(n)->run, 0, 0, 0);
	check(copy_bytes, 0, 0, 0);
}

static void copy_bytes_at_all_sizes(void **state)
{
	(void)state;
	for (uint64_t pages = 1; pages <= 40; pages++) /* plain stores below 64 KiB */
		check(copy_bytes, 64, 128, pages * PAGE_BYTES);
	check(copy_bytes, 0, 0, 2 * MIB);
	check(copy_bytes, 0, 0, 2 * MIB + PAGE_BYTES);
}

static void what_goes_away_is_copied_and_cleared_at_all_sizes(void **state)
{
	(void)state;
	for (uint64_t pages = 0; pages <= 40; pages++) {
		unsigned offset = (unsigned)pages * 64;
		unsigned char *dst = to + GUARD + offset;

		check(copy_bytes_away, offset, 128, pages * PAGE_BYTES);
		memset(dst - GUARD, 0x5a, pages * PAGE_BYTES + 2 * GUARD);
		clear_bytes_away(dst, pages * PAGE_BYTES);
		assert_true(all_are(dst, pages * PAGE_BYTES, 0));
		assert_true(all_are(dst - GUARD, GUARD, 0x5a));
		assert_true(all_are(dst + pages * PAGE_BYTES, GUARD, 0x5a));
	}
	check(copy_bytes_away, 0, 0, 2 * MIB);
}

static void the_routine_in_use_is_the_first_of_the_list(void **state)
{
	unsigned n = 0;

	(void)state;
	assert_non_null(copy_variant(0));
	assert_string_equal(copy_routine(), copy_variant(0)->name);
	while (copy_variant(n))
		n++;
	assert_true(n <= 4);
	assert_string_equal(copy_variant(n - 1)->name, "memcpy");
	assert_null(copy_variant(n + 1));
}

static struct { _Atomic int ready; bool wrong; } handover;

static void *read_when_ready(void *arg)
{
	(void)arg;
	while (!atomic_load_explicit(&handover.ready, memory_order_acquire))
		sched_yield();
	handover.wrong = memcmp(to, from, 2 * MIB) != 0;
	return NULL;
}

static void another_thread_sees_all_of_it_on_return(void **state)
{
	(void)state;
	for (unsigned n = 0; copy_variant(n); n++) {
		pthread_t t;

		memset(to, 0, 2 * MIB);
		atomic_store(&handover.ready, 0);
		t = spawn(read_when_ready, NULL);
		copy_variant(n)->run(to, from, 2 * MIB);
		atomic_store_explicit(&handover.ready, 1, memory_order_release);
		pthread_join(t, NULL);
		assert_false(handover.wrong);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_multiple_of_4096_by_every_routine),
		cmocka_unit_test(every_alignment_of_64_by_every_routine),
		cmocka_unit_test(nothing_is_copied_when_nothing_is_asked),
		cmocka_unit_test(copy_bytes_at_all_sizes),
		cmocka_unit_test(what_goes_away_is_copied_and_cleared_at_all_sizes),
		cmocka_unit_test(the_routine_in_use_is_the_first_of_the_list),
		cmocka_unit_test(another_thread_sees_all_of_it_on_return),
	};

	return cmocka_run_group_tests(tests, make_buffers, free_buffers);
}
