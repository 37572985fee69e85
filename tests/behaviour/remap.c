/* SPDX-License-Identifier: MIT */
/* The program moves, resizes, protects and rearranges memory that is on a device; the bytes follow. */
#include "rig.h"

#define SEED  31
#define BYTES (3 * BLOCK)
#define ROOM  (8 * BLOCK)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Address space for @BYTES and more, empty, at a block's start. */
static char *room(void)
{
	char *mem = map_anon(ROOM, true, false);

	assert_int_equal(munmap(mem, ROOM), 0);
	return mem;
}

static char *on_device(bool huge)
{
	char *mem = map_anon(BYTES, true, huge);

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	return mem;
}

static void forget(char *mem, size_t bytes)
{
	munmap(mem, bytes);
	eventually(used_bytes() == 0);
}

static void moved_memory_keeps_its_bytes(void **state)
{
	static const size_t shifts[] = { 0, 1, 256, 511 };

	for (unsigned huge = 0; huge < 2; huge++)
		for (unsigned k = 0; k < 4; k++) {
			char *mem = on_device(huge), *to = room() + shifts[k] * PAGE;

			assert_ptr_equal(mremap(mem, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
			assert_int_equal(count_where(mem, BYTES, UHMM_WHERE_UNMAPPED), PAGES(BYTES));
			eventually(all_on_device(to, BYTES));
			assert_pattern(to, BYTES, SEED);
			go_and_return(to, BYTES, SEED);
			forget(to, BYTES);
		}
}

static void a_part_that_is_moved_leaves_the_rest(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = on_device(huge), *to = room();
		size_t first = 100 * PAGE, len = BLOCK + 50 * PAGE;

		assert_ptr_equal(mremap(mem + first, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
		assert_int_equal(check_pattern_at(to, len, SEED, first), -1);
		assert_int_equal(check_pattern_at(mem, first, SEED, 0), -1);
		assert_int_equal(check_pattern_at(mem + first + len, BYTES - first - len, SEED, first + len), -1);
		munmap(mem, BYTES);
		forget(to, len);
	}
}

static void back_and_forth(void **state)
{
	char *mem = on_device(true), *home = mem, *to = room();

	for (unsigned i = 0; i < 20; i++) {
		char *next = (i & 1 ? home : to) + (i % 3) * PAGE;

		assert_ptr_equal(mremap(mem, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, next), next);
		mem = next;
		assert_int_equal(check_pattern_at(mem + i * 77 * PAGE, PAGE, SEED, i * 77 * PAGE), -1);
		if (i % 4 == 0)
			(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
	}
	assert_pattern(mem, BYTES, SEED);
	forget(mem, BYTES);
}

static void grown_memory_is_zero_at_its_end(void **state)
{
	char *mem = on_device(true), *to = room(), *got;

	got = mremap(mem, BYTES, BYTES + BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	assert_ptr_equal(got, to);
	assert_zeros(to + BYTES, BLOCK);
	assert_pattern(to, BYTES, SEED);
	fill_pattern(to, BYTES + BLOCK, SEED);
	go_and_return(to, BYTES + BLOCK, SEED);
	forget(to, BYTES + BLOCK);
}

static void shrunk_memory_is_freed_at_its_end(void **state)
{
	char *mem = on_device(true);
	size_t now = BLOCK + 7 * PAGE;

	assert_ptr_equal(mremap(mem, BYTES, now, 0), mem);
	eventually(used_bytes() == now);
	assert_pattern(mem, now, SEED);
	forget(mem, BYTES);
}

static void moved_without_unmapping_leaves_zeros(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = on_device(huge), *to = room();

		assert_ptr_equal(mremap(mem, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to), to);
		assert_zeros(mem, BYTES);
		assert_pattern(to, BYTES, SEED);
		go_and_return(to, BYTES, SEED);
		munmap(mem, BYTES);
		forget(to, BYTES);
	}
}

static void read_only_memory_comes_back(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++)
		for (enum way way = 0; way < NR_WAYS; way++) {
			char *mem = on_device(huge);

			assert_int_equal(mprotect(mem, BYTES, PROT_READ), 0);
			if (way == BY_CALL)
				come(mem, BYTES);
			assert_pattern(mem, BYTES, SEED);
			assert_int_equal(mprotect(mem, BYTES, PROT_READ | PROT_WRITE), 0);
			assert_pattern(mem, BYTES, SEED);
			go_and_return(mem, BYTES, SEED);
			forget(mem, BYTES);
		}
}

static void a_part_that_is_read_only_comes_back(void **state)
{
	char *mem = on_device(true);

	assert_int_equal(mprotect(mem + 100 * PAGE, BLOCK, PROT_READ), 0);
	assert_pattern(mem, BYTES, SEED);
	assert_int_equal(mprotect(mem, BYTES, PROT_READ | PROT_WRITE), 0);
	go_and_return(mem, BYTES, SEED);
	forget(mem, BYTES);
}

static void inaccessible_memory_keeps_its_bytes(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++)
		for (enum way way = 0; way < NR_WAYS; way++) {
			char *mem = on_device(huge);

			assert_int_equal(mprotect(mem, BYTES, PROT_NONE), 0);
			if (way == BY_CALL)
				come(mem, BYTES);
			assert_int_equal(mprotect(mem, BYTES, PROT_READ | PROT_WRITE), 0);
			assert_pattern(mem, BYTES, SEED);
			forget(mem, BYTES);
		}
}

static void locked_memory_comes_back(void **state)
{
	char *mem = on_device(true);

	if (lock_memory(mem, BLOCK) && (errno == ENOMEM || errno == EPERM))
		skip(); /* RLIMIT_MEMLOCK */
	assert_pattern(mem, BYTES, SEED);
	forget(mem, BYTES);
}

static void collapsed_memory_keeps_its_bytes(void **state)
{
	char *mem = map_anon(BYTES, true, true);

	assert_int_equal(madvise(mem, BYTES, MADV_NOHUGEPAGE), 0);
	fill_pattern(mem, BYTES, SEED);
	assert_int_equal(madvise(mem, BYTES, MADV_HUGEPAGE), 0);
	go(mem + 300 * PAGE, BLOCK);
	(void)madvise(mem, BYTES, MADV_COLLAPSE); /* some blocks it can, some it must not */
	assert_pattern(mem, BYTES, SEED);
	(void)madvise(mem, BYTES, MADV_COLLAPSE);
	go_and_return(mem, BYTES, SEED);
	forget(mem, BYTES);
}

static void advice_cuts_no_bytes_off(void **state)
{
	char *mem = on_device(true);

	assert_int_equal(madvise(mem + BLOCK / 2, BLOCK, MADV_NOHUGEPAGE), 0);
	assert_int_equal(madvise(mem + BLOCK, BLOCK / 2, MADV_DONTDUMP), 0);
	assert_pattern(mem, BYTES, SEED);
	go_and_return(mem, BYTES, SEED);
	forget(mem, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moved_memory_keeps_its_bytes),
		cmocka_unit_test(a_part_that_is_moved_leaves_the_rest),
		cmocka_unit_test(back_and_forth),
		cmocka_unit_test(grown_memory_is_zero_at_its_end),
		cmocka_unit_test(shrunk_memory_is_freed_at_its_end),
		cmocka_unit_test(moved_without_unmapping_leaves_zeros),
		cmocka_unit_test(read_only_memory_comes_back),
		cmocka_unit_test(a_part_that_is_read_only_comes_back),
		cmocka_unit_test(inaccessible_memory_keeps_its_bytes),
		cmocka_unit_test(locked_memory_comes_back),
		cmocka_unit_test(collapsed_memory_keeps_its_bytes),
		cmocka_unit_test(advice_cuts_no_bytes_off),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
