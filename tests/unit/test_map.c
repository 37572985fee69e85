/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <sys/syscall.h>

#include "os/fail.h"
#include "os/map.h"
#include "os/pagemap.h"

static bool is_own(const void *mem, uint64_t bytes)
{
	uint64_t start, end;

	return map_is_own(addr_of(mem), addr_of(mem) + bytes, &start, &end);
}

static void own_memory_is_zero_and_writable(void **state)
{
	char *mem = map_own(3 * PAGE_BYTES, 0);

	(void)state;
	assert_non_null(mem);
	assert_true(page_aligned(addr_of(mem)));
	for (unsigned i = 0; i < 3 * PAGE_BYTES; i++)
		assert_int_equal(mem[i], 0);
	memset(mem, 1, 3 * PAGE_BYTES);
	map_own_free(mem, 3 * PAGE_BYTES);
}

static void bytes_are_rounded_up_to_pages(void **state)
{
	char *mem = map_own(PAGE_BYTES + 1, 0);

	(void)state;
	assert_true(is_own(mem + PAGE_BYTES, PAGE_BYTES));
	mem[2 * PAGE_BYTES - 1] = 1;
	map_own_free(mem, PAGE_BYTES + 1);
	assert_int_equal(madvise(mem + PAGE_BYTES, PAGE_BYTES, MADV_NORMAL), -1); /* nothing is left of it */
	assert_int_equal(errno, ENOMEM);
}

static void huge_memory_is_aligned_to_a_block(void **state)
{
	char *mem[5];

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		mem[i] = map_own((i + 1) * BLOCK_BYTES, MAP_OWN_HUGE);
		assert_non_null(mem[i]);
		assert_true(block_aligned(addr_of(mem[i])));
		mem[i][0] = mem[i][(i + 1) * BLOCK_BYTES - 1] = 1;
	}
	for (unsigned i = 0; i < 5; i++) {
		assert_true(is_own(mem[i], (i + 1) * BLOCK_BYTES));
		map_own_free(mem[i], (i + 1) * BLOCK_BYTES);
	}
}

static void a_piece_is_found_from_any_range_that_touches_it(void **state)
{
	char *mem = map_own(4 * PAGE_BYTES, 0);
	uint64_t at = addr_of(mem), start = 0, end = 0;

	(void)state;
	assert_true(map_is_own(at, at + 1, &start, &end));
	assert_int_equal(start, at);
	assert_int_equal(end, at + 4 * PAGE_BYTES);
	start = end = 0;
	assert_true(map_is_own(at + 2 * PAGE_BYTES, at + 9 * PAGE_BYTES, &start, &end));
	assert_int_equal(start, at);
	assert_int_equal(end, at + 4 * PAGE_BYTES);
	map_own_free(mem, 4 * PAGE_BYTES);
}

static void memory_beside_it_is_not_ours(void **state)
{
	uint64_t at = addr_of(map_blocks(BLOCK_BYTES, false)), start = 7, end = 7;

	(void)state;
	assert_int_equal(map_own_add(at + PAGE_BYTES, at + 2 * PAGE_BYTES), 0);
	assert_false(map_is_own(at, at + PAGE_BYTES, &start, &end));
	assert_false(map_is_own(at + 2 * PAGE_BYTES, at + 3 * PAGE_BYTES, &start, &end));
	assert_int_equal(start, 7);
	assert_int_equal(end, 7);
	map_own_free((void *)(uintptr_t)(at + PAGE_BYTES), PAGE_BYTES);
	assert_false(map_is_own(at, at + BLOCK_BYTES, &start, &end));
	unmap_blocks((char *)(uintptr_t)at, BLOCK_BYTES);
}

static void the_first_of_several_pieces_is_told(void **state)
{
	uint64_t at = addr_of(map_blocks(BLOCK_BYTES, false)), start, end;
	static const unsigned page[] = { 40, 10, 30, 20 };

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(map_own_add(at + page[i] * PAGE_BYTES, at + (page[i] + 2) * PAGE_BYTES), 0);
	for (unsigned first = 0, want = 10; want <= 40; first = want + 2, want += 10) {
		assert_true(map_is_own(at + first * PAGE_BYTES, at + BLOCK_BYTES, &start, &end));
		assert_int_equal(start, at + want * PAGE_BYTES);
		assert_int_equal(end, at + (want + 2) * PAGE_BYTES);
	}
	for (unsigned i = 0; i < 4; i++)
		map_own_free((void *)(uintptr_t)(at + page[i] * PAGE_BYTES), 2 * PAGE_BYTES);
	unmap_blocks((char *)(uintptr_t)at, BLOCK_BYTES);
}

static void freed_memory_is_forgotten(void **state)
{
	char *mem = map_own(PAGE_BYTES, 0);

	(void)state;
	assert_true(is_own(mem, PAGE_BYTES));
	map_own_free(mem, PAGE_BYTES);
	assert_false(is_own(mem, PAGE_BYTES));
	map_own_free(NULL, PAGE_BYTES);
}

static int add_too_many(void *arg)
{
	int r = 0, n = 0;

	(void)arg;
	for (uint64_t at = GIB; !r && n < 10000; at += 2 * PAGE_BYTES, n++)
		r = map_own_add(at, at + PAGE_BYTES);
	if (r != -ENOSPC || n < 100)
		return 1;
	return map_own(PAGE_BYTES, 0) ? 2 : 0; /* and then there is no more memory, rather than memory nobody knows */
}

static void too_many_pieces_are_refused(void **state)
{
	(void)state;
	assert_int_equal(value_in_child(add_too_many, NULL), 0);
}

static void no_memory_is_null(void **state)
{
	(void)state;
	fail_set("mmap:1", NULL);
	assert_null(map_own(PAGE_BYTES, 0));
	fail_set(NULL, NULL);
	assert_null(map_own(UINT64_C(1) << 60, 0));
}

/* In a child: is there a mapping? */
static int is_mapped(void *mem)
{
	return !madvise(mem, PAGE_BYTES, MADV_NORMAL);
}

static void a_child_does_not_inherit_it(void **state)
{
	char *mem = map_own(PAGE_BYTES, 0);

	(void)state;
	*mem = 1;
	assert_int_equal(value_in_child(is_mapped, mem), 0);
	assert_int_equal(map_inherit(addr_of(mem), PAGE_BYTES, true), 0);
	assert_int_equal(value_in_child(is_mapped, mem), 1);
	assert_int_equal(map_inherit(addr_of(mem), PAGE_BYTES, false), 0);
	assert_int_equal(value_in_child(is_mapped, mem), 0);
	map_own_free(mem, PAGE_BYTES);
}

static void a_discard_leaves_zeros(void **state)
{
	char *mem = map_own(3 * PAGE_BYTES, 0);

	(void)state;
	memset(mem, 1, 3 * PAGE_BYTES);
	assert_int_equal(map_discard(addr_of(mem) + PAGE_BYTES, PAGE_BYTES), 0);
	assert_int_equal(mem[PAGE_BYTES - 1], 1);
	assert_int_equal(mem[PAGE_BYTES], 0);
	assert_int_equal(mem[2 * PAGE_BYTES], 1);
	map_own_free(mem, 3 * PAGE_BYTES);
}

static void base_pages_become_one(void **state)
{
	char *mem = map_blocks(BLOCK_BYTES, false);
	int fd, r;

	(void)state;
	assert_int_equal(pagemap_open(&fd), 0);
	memset(mem, 7, BLOCK_BYTES);
	assert_int_equal(map_collapse(addr_of(mem), BLOCK_BYTES), -EINVAL); /* it shall not have any */
	assert_int_equal(madvise(mem, BLOCK_BYTES, MADV_HUGEPAGE), 0);
	assert_int_equal(pagemap_uniform(fd, addr_of(mem), addr_of(mem) + BLOCK_BYTES), PM_PRESENT);
	r = map_collapse(addr_of(mem), BLOCK_BYTES);
	if (!r)
		assert_int_equal(pagemap_uniform(fd, addr_of(mem), addr_of(mem) + BLOCK_BYTES), PM_PRESENT | PM_HUGE);
	for (size_t i = 0; i < BLOCK_BYTES; i++)
		assert_int_equal(mem[i], 7);
	pagemap_close(fd);
	unmap_blocks(mem, BLOCK_BYTES);
	if (r)
		skip(); /* no THP to be had */
}

static void failing_advice_is_reported(void **state)
{
	char *mem = map_own(PAGE_BYTES, 0);

	(void)state;
	fail_set("madvise:1", NULL);
	assert_int_equal(map_discard(addr_of(mem), PAGE_BYTES), -EAGAIN);
	fail_set("madvise:1:12", NULL);
	assert_int_equal(map_inherit(addr_of(mem), PAGE_BYTES, true), -ENOMEM);
	fail_set(NULL, NULL);
	map_own_free(mem, PAGE_BYTES);
	assert_int_equal(map_discard(addr_of(mem), PAGE_BYTES), -ENOMEM); /* nothing is mapped there */
}

static void locked_memory_is_known(void **state)
{
	char *mem = map_blocks(BLOCK_BYTES, false);

	(void)state;
	*mem = 1;
	assert_false(map_is_locked(addr_of(mem), PAGE_BYTES));
	if (syscall(SYS_mlock, mem, PAGE_BYTES)) /* by hand: sanitizers make mlock() do nothing */
		skip();   /* RLIMIT_MEMLOCK */
	assert_true(map_is_locked(addr_of(mem), PAGE_BYTES));
	assert_false(map_is_locked(addr_of(mem) + PAGE_BYTES, PAGE_BYTES));
	syscall(SYS_munlock, mem, PAGE_BYTES);
	assert_false(map_is_locked(addr_of(mem), PAGE_BYTES));
	unmap_blocks(mem, BLOCK_BYTES);
}

static void what_may_be_ours_is_more_than_what_is(void **state)
{
	char *mem = map_own(4 * PAGE_BYTES, 0), *other = map_own(4 * PAGE_BYTES, 0);
	uint64_t at = addr_of(mem), start, end;
	char *foreign = map_blocks(BLOCK_BYTES, false);

	(void)state;
	assert_true(map_may_be_own(at, at + 1));
	map_own_free(mem, 4 * PAGE_BYTES);
	assert_false(map_is_own(at, at + 1, &start, &end));
	assert_true(map_may_be_own(at, at + 1)); /* it lies before what is given out next */
	assert_true(map_may_be_own(addr_of(other), addr_of(other) + 1));
	assert_false(map_may_be_own(addr_of(foreign), addr_of(foreign) + BLOCK_BYTES));
	unmap_blocks(foreign, BLOCK_BYTES);
	map_own_free(other, 4 * PAGE_BYTES);
	assert_int_equal(map_own_add(0x10000, 0x20000), 0);
	assert_true(map_may_be_own(0x1f000, 0x30000));
	map_own_forget_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_may_be_ours_is_more_than_what_is),
		cmocka_unit_test(own_memory_is_zero_and_writable),
		cmocka_unit_test(bytes_are_rounded_up_to_pages),
		cmocka_unit_test(huge_memory_is_aligned_to_a_block),
		cmocka_unit_test(a_piece_is_found_from_any_range_that_touches_it),
		cmocka_unit_test(memory_beside_it_is_not_ours),
		cmocka_unit_test(the_first_of_several_pieces_is_told),
		cmocka_unit_test(freed_memory_is_forgotten),
		cmocka_unit_test(too_many_pieces_are_refused),
		cmocka_unit_test(no_memory_is_null),
		cmocka_unit_test(a_child_does_not_inherit_it),
		cmocka_unit_test(a_discard_leaves_zeros),
		cmocka_unit_test(base_pages_become_one),
		cmocka_unit_test(failing_advice_is_reported),
		cmocka_unit_test(locked_memory_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
