/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "os/access.h"

#define PAGES 8

static char *mem;

static int make_memory(void **state)
{
	(void)state;
	mem = map_blocks(PAGES * PAGE_BYTES, false);
	for (uint64_t i = 0; i < PAGES * PAGE_BYTES; i++)
		mem[i] = (char)(i / 7);
	return 0;
}

static int free_memory(void **state)
{
	(void)state;
	unmap_blocks(mem, PAGES * PAGE_BYTES);
	return 0;
}

static char buf[PAGES * PAGE_BYTES];

static void any_piece_is_read(void **state)
{
	static const uint64_t lens[] = { 1, 7, 4095, 4096, 4097, 3 * 4096 + 5 };

	(void)state;
	for (unsigned k = 0; k < sizeof(lens) / sizeof(*lens); k++)
		for (uint64_t from = 0; from < 2 * PAGE_BYTES; from += 1365) {
			memset(buf, 0x55, sizeof(buf));
			assert_int_equal(access_read(buf, addr_of(mem) + from, lens[k]), lens[k]);
			assert_memory_equal(buf, mem + from, lens[k]);
			assert_int_equal(buf[lens[k]], 0x55);
		}
}

static void any_piece_is_written_and_nothing_beside_it(void **state)
{
	char before = mem[4000], after = mem[4001 + 5000];

	(void)state;
	memset(buf, 0x66, sizeof(buf));
	assert_int_equal(access_write(addr_of(mem) + 4001, buf, 5000), 5000);
	assert_memory_equal(mem + 4001, buf, 5000);
	assert_int_equal(mem[4000], before);
	assert_int_equal(mem[4001 + 5000], after);
}

static void what_is_not_mapped_is_an_answer(void **state)
{
	(void)state;
	munmap(mem + 4 * PAGE_BYTES, PAGE_BYTES);
	assert_int_equal(access_read(buf, addr_of(mem) + 4 * PAGE_BYTES, 10), -EFAULT);
	assert_int_equal(access_write(addr_of(mem) + 4 * PAGE_BYTES + 9, buf, 10), -EFAULT);
	assert_int_equal(access_read(buf, 0, 10), -EFAULT);
}

static void as_much_as_there_is(void **state)
{
	(void)state;
	munmap(mem + 4 * PAGE_BYTES, PAGE_BYTES);
	assert_int_equal(access_read(buf, addr_of(mem) + 2 * PAGE_BYTES, 4 * PAGE_BYTES), 2 * PAGE_BYTES);
	assert_memory_equal(buf, mem + 2 * PAGE_BYTES, 2 * PAGE_BYTES);
	memset(buf, 0x77, sizeof(buf));
	assert_int_equal(access_write(addr_of(mem) + 3 * PAGE_BYTES, buf, 2 * PAGE_BYTES), PAGE_BYTES);
	assert_memory_equal(mem + 3 * PAGE_BYTES, buf, PAGE_BYTES);
}

static void protection_holds(void **state)
{
	char was = mem[PAGE_BYTES];

	(void)state;
	assert_int_equal(mprotect(mem + PAGE_BYTES, PAGE_BYTES, PROT_READ), 0);
	assert_int_equal(access_read(buf, addr_of(mem) + PAGE_BYTES, PAGE_BYTES), PAGE_BYTES);
	memset(buf, ~was, sizeof(buf));
	assert_int_equal(access_write(addr_of(mem) + PAGE_BYTES, buf, PAGE_BYTES), -EFAULT);
	assert_int_equal(mem[PAGE_BYTES], was);
	assert_int_equal(mprotect(mem + PAGE_BYTES, PAGE_BYTES, PROT_NONE), 0);
	assert_int_equal(access_read(buf, addr_of(mem) + PAGE_BYTES, PAGE_BYTES), -EFAULT);
}

static void holes_read_as_zeros_and_are_filled_by_a_write(void **state)
{
	(void)state;
	assert_int_equal(madvise(mem, PAGES * PAGE_BYTES, MADV_DONTNEED), 0);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(access_read(buf, addr_of(mem), PAGE_BYTES), PAGE_BYTES);
	for (uint64_t i = 0; i < PAGE_BYTES; i++)
		assert_int_equal(buf[i], 0);
	assert_int_equal(access_write(addr_of(mem) + PAGE_BYTES + 1, "x", 1), 1);
	assert_int_equal(mem[PAGE_BYTES + 1], 'x');
	assert_int_equal(mem[PAGE_BYTES], 0);
}

/* In a child everything is shared with the parent until it is written. */
static int writes_its_own(void *arg)
{
	(void)arg;
	if (access_write(addr_of(mem), "child", 5) != 5)
		return 1;
	return memcmp(mem, "child", 5) != 0;
}

static void a_write_after_a_fork_is_for_one_side_only(void **state)
{
	char was[5];

	(void)state;
	memcpy(was, mem, sizeof(was));
	assert_int_equal(value_in_child(writes_its_own, NULL), 0);
	assert_memory_equal(mem, was, sizeof(was));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_memory, free_memory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(any_piece_is_read),
		TEST(any_piece_is_written_and_nothing_beside_it),
		TEST(what_is_not_mapped_is_an_answer),
		TEST(as_much_as_there_is),
		TEST(protection_holds),
		TEST(holes_read_as_zeros_and_are_filled_by_a_write),
		TEST(a_write_after_a_fork_is_for_one_side_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
