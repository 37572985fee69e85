/* SPDX-License-Identifier: MIT */
/* Whatever private anonymous memory looks like, it goes to a device whole, comes back by a touch or a call, and reads as
 * before. */
#include <fcntl.h>

#include "rig.h"

#define SEED 11

static void thps_go_as_folios_and_come_back_as_thps(void **state)
{
	size_t bytes = 4 * BLOCK, huge;
	char *mem = map_anon(bytes, true, true);
	RESULT(res);

	fill_pattern(mem, bytes, SEED);
	huge = anon_huge_bytes(mem, bytes);
	if (huge != bytes)
		skip();
	assert_int_equal(uhmm_to_device(space, mem, bytes, dev, 0, &res), 0);
	assert_int_equal(res.moved_bytes, bytes);
	assert_int_equal(res.moved_folios[9], 4);
	assert_int_equal(res.moved_folios[0], 0);
	assert_int_equal(skipped(&res, ANY_REASON), 0);
	assert_int_equal(anon_huge_bytes(mem, bytes), 0);
	eventually(used_bytes() == bytes);
	assert_pattern(mem, bytes, SEED);
	assert_int_equal(anon_huge_bytes(mem, bytes), huge);

	/* and a store brings a THP home as well as a load does */
	go(mem, bytes);
	for (size_t i = 0; i < bytes; i += BLOCK)
		((volatile char *)mem)[i + 12345] ^= 1;
	assert_int_equal(anon_huge_bytes(mem, bytes), huge);
	for (size_t i = 0; i < bytes; i += BLOCK)
		mem[i + 12345] ^= 1;
	go_and_return(mem, bytes, SEED);
	assert_int_equal(anon_huge_bytes(mem, bytes), huge);
	unmap_anon(mem, bytes);
}

static void base_pages_go_as_small_folios(void **state)
{
	size_t bytes = BLOCK + 13 * PAGE;
	char *mem = map_anon(bytes, false, false);
	RESULT(res);

	fill_pattern(mem, bytes, SEED);
	assert_int_equal(uhmm_to_device(space, mem, bytes, dev, 0, &res), 0);
	assert_int_equal(res.moved_folios[0], PAGES(bytes));
	assert_int_equal(res.moved_bytes, bytes);
	eventually(used_bytes() == bytes);
	assert_pattern(mem, bytes, SEED);
	go_and_return(mem, bytes, SEED);
	unmap_anon(mem, bytes);
}

/* A THP, base pages, a hole, and a THP again. */
static void blocks_of_all_kinds_side_by_side(void **state)
{
	size_t bytes = 4 * BLOCK, huge;
	char *mem = map_anon(bytes, true, true);

	assert_int_equal(madvise(mem + BLOCK, BLOCK, MADV_NOHUGEPAGE), 0);
	fill_pattern(mem, bytes, SEED);
	assert_int_equal(madvise(mem + 2 * BLOCK, BLOCK, MADV_DONTNEED), 0);
	huge = anon_huge_bytes(mem, bytes);
	for (enum way way = 0; way < NR_WAYS; way++) {
		go(mem, bytes);
		if (way == BY_CALL)
			come(mem, bytes);
		assert_int_equal(check_pattern(mem, 2 * BLOCK, SEED), -1);
		assert_int_equal(check_pattern_at(mem + 3 * BLOCK, BLOCK, SEED, 3 * BLOCK), -1);
		eventually(anon_huge_bytes(mem, bytes) >= huge);
	}
	assert_zeros(mem + 2 * BLOCK, BLOCK);
	unmap_anon(mem, bytes);
}

static void holes_stay_zero(void **state)
{
	size_t bytes = 2 * BLOCK;
	char *mem = map_anon(bytes, true, false);
	RESULT(res);

	for (size_t i = 0; i < PAGES(bytes); i += 3)
		fill_pattern_at(mem + i * PAGE, PAGE, SEED, i * PAGE);
	for (enum way way = 0; way < NR_WAYS; way++) {
		assert_int_equal(uhmm_to_device(space, mem, bytes, dev, 0, &res), 0);
		assert_int_equal(res.moved_bytes, bytes);
		if (way == 0)
			assert_int_equal(res.cleared_pages, PAGES(bytes) - (PAGES(bytes) + 2) / 3);
		if (way == BY_CALL)
			come(mem, bytes);
		for (size_t i = 0; i < PAGES(bytes); i++)
			assert_int_equal(i % 3 ? check_zero(mem + i * PAGE, PAGE) :
						 check_pattern_at(mem + i * PAGE, PAGE, SEED, i * PAGE), -1);
	}
	unmap_anon(mem, bytes);
}

static void read_but_never_written(bool huge)
{
	size_t bytes = 2 * BLOCK;
	char *mem = map_anon(bytes, true, huge);
	RESULT(res);

	assert_zeros(mem, bytes);
	assert_int_equal(uhmm_to_device(space, mem, bytes, dev, 0, &res), 0);
	assert_int_equal(res.cleared_pages, has_zero_page() ? PAGES(bytes) : 0);
	eventually(used_bytes() == bytes);
	assert_zeros(mem, bytes);
	fill_pattern(mem, bytes, SEED);
	go_and_return(mem, bytes, SEED);
	unmap_anon(mem, bytes);
}

static void small_zero_pages_are_cleared_not_copied(void **state) { read_but_never_written(false); }
static void the_huge_zero_page_is_cleared_not_copied(void **state) { read_but_never_written(true); }

static void memory_never_touched_reads_zero(void **state)
{
	for (int huge = 0; huge < 2; huge++) {
		size_t bytes = 2 * BLOCK;
		char *mem = map_anon(bytes, huge, huge);
		RESULT(res);

		assert_int_equal(uhmm_to_device(space, mem, bytes, dev, 0, &res), 0);
		assert_int_equal(res.cleared_pages, PAGES(bytes));
		if (huge && has_thp())
			assert_int_equal(res.moved_folios[9], 2);
		assert_zeros(mem, bytes / 2);
		fill_pattern(mem, bytes, SEED); /* one half is still away */
		go_and_return(mem, bytes, SEED);
		unmap_anon(mem, bytes);
	}
}

static void ranges_that_cut_a_block(void **state)
{
	static const struct { size_t first, pages; } cuts[] = {
		{ 256, 512 }, { 0, 511 }, { 511, 1 }, { 1, 1535 }, { 700, 3 }, { 256, 1024 }, { 512, 1 }, { 1535, 1 },
	};
	size_t bytes = 3 * BLOCK;
	char *mem = map_anon(bytes, true, true);

	for (size_t k = 0; k < sizeof(cuts) / sizeof(*cuts); k++) {
		size_t at = cuts[k].first * PAGE, len = cuts[k].pages * PAGE;

		fill_pattern(mem, bytes, SEED + k);
		go(mem + at, len);
		assert_int_equal(count_where(mem, bytes, UHMM_WHERE_SYSTEM), PAGES(bytes) - cuts[k].pages);
		eventually(used_bytes() == len);
		if (k & 1)
			come(mem + at, len);
		assert_pattern(mem, bytes, SEED + k);
		assert_int_equal(madvise(mem, bytes, MADV_DONTNEED), 0); /* THPs again for the next */
	}
	unmap_anon(mem, bytes);
}

static void a_part_comes_home_and_the_rest_stays(void **state)
{
	size_t bytes = 2 * BLOCK;
	char *mem = map_anon(bytes, true, true);

	fill_pattern(mem, bytes, SEED);
	go(mem, bytes);
	come(mem + BLOCK - 5 * PAGE, 10 * PAGE);
	assert_int_equal(count_where(mem, bytes, UHMM_WHERE_DEVICE), PAGES(bytes) - 10);
	eventually(used_bytes() == bytes - 10 * PAGE);
	assert_pattern(mem, bytes, SEED);
	go_and_return(mem, bytes, SEED);
	unmap_anon(mem, bytes);
}

static void a_block_that_is_half_away_already(void **state)
{
	size_t bytes = BLOCK;
	char *mem = map_anon(bytes, true, true);
	RESULT(res);

	fill_pattern(mem, bytes, SEED);
	go(mem, bytes / 2);
	assert_int_equal(uhmm_to_device(space, mem, bytes, dev, 0, &res), 0);
	assert_int_equal(res.moved_bytes, bytes / 2);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_ABSENT], PAGES(bytes) / 2);
	assert_true(all_on_device(mem, bytes));
	eventually(used_bytes() == bytes);
	assert_pattern(mem, bytes, SEED);
	unmap_anon(mem, bytes);
}

static void a_range_over_mappings_and_gaps(void **state)
{
	size_t piece = BLOCK + 3 * PAGE, gap = 5 * PAGE, bytes = 3 * piece + 2 * gap;
	char *mem = map_anon(bytes, true, true);
	RESULT(res);

	fill_pattern(mem, bytes, SEED);
	munmap(mem + piece, gap);
	munmap(mem + 2 * piece + gap, gap);
	assert_int_equal(uhmm_to_device(space, mem, bytes, dev, 0, &res), UHMM_E_PARTIAL);
	assert_int_equal(res.moved_bytes, 3 * piece);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_UNMAPPED], 2 * PAGES(gap));
	assert_int_equal(skipped(&res, ANY_REASON), 2 * PAGES(gap));
	assert_int_equal(count_where(mem, bytes, UHMM_WHERE_UNMAPPED), 2 * PAGES(gap));
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(check_pattern_at(mem + i * (piece + gap), piece, SEED, i * (piece + gap)), -1);
	munmap(mem - PAGE, bytes + 2 * PAGE);
}

static void memory_of_malloc(void **state)
{
	size_t bytes = 16 * MIB;
	char *mem = malloc(bytes + PAGE), *start = (char *)(((uintptr_t)mem + PAGE - 1) & ~(PAGE - 1));

	assert_non_null(mem);
	fill_pattern(start, bytes, SEED);
	go_and_return(start, bytes, SEED);
	go(start, bytes);
	if (!FREE_UNMAPS)
		come(start, bytes);
	free(mem);
	eventually(used_bytes() == 0);
}

static void memory_of_brk(void **state)
{
	size_t bytes = 3 * MIB;
	char *mem = sbrk((intptr_t)(bytes + PAGE)), *start = (char *)(((uintptr_t)mem + PAGE - 1) & ~(PAGE - 1));

	if (mem == (void *)-1)
		skip();
	fill_pattern(start, bytes, SEED);
	go_and_return(start, bytes, SEED);
	go(start, bytes);
	if (sbrk(0) == mem + bytes + PAGE)
		assert_true(sbrk(-(intptr_t)(bytes + PAGE)) != (void *)-1);
	else
		come(start, bytes);
	eventually(used_bytes() == 0);
}

static char in_bss[3 * BLOCK];

static void static_memory(void **state)
{
	char *start = (char *)(((uintptr_t)in_bss + BLOCK - 1) & ~(BLOCK - 1));

	fill_pattern(start, BLOCK, SEED);
	go_and_return(start, BLOCK, SEED);
}

/* A private mapping of /dev/zero is anonymous memory to the kernel, and has a file's name; whichever wins, nothing is
 * lost. */
static void private_dev_zero(void **state)
{
	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	size_t bytes = BLOCK;
	char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	RESULT(res);
	int r;

	assert_true(fd >= 0 && mem != MAP_FAILED);
	close(fd);
	fill_pattern(mem, bytes, SEED);
	r = uhmm_to_device(space, mem, bytes, dev, 0, &res);
	assert_int_equal(PAGES(res.moved_bytes) + res.skipped_pages[UHMM_SKIP_FILE], PAGES(bytes));
	assert_int_equal(r, res.moved_bytes ? 0 : UHMM_E_PARTIAL);
	assert_pattern(mem, bytes, SEED);
	munmap(mem, bytes);
}

static void swapped_pages(void **state)
{
	size_t bytes = BLOCK;
	char *mem = map_anon(bytes, true, false);

	fill_pattern(mem, bytes, SEED);
	if (madvise(mem, bytes, MADV_PAGEOUT) || !count_where(mem, bytes, UHMM_WHERE_SWAP))
		skip(); /* no swap here */
	go_and_return(mem, bytes, SEED);
	unmap_anon(mem, bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(thps_go_as_folios_and_come_back_as_thps),
		cmocka_unit_test(base_pages_go_as_small_folios),
		cmocka_unit_test(blocks_of_all_kinds_side_by_side),
		cmocka_unit_test(holes_stay_zero),
		cmocka_unit_test(small_zero_pages_are_cleared_not_copied),
		cmocka_unit_test(the_huge_zero_page_is_cleared_not_copied),
		cmocka_unit_test(memory_never_touched_reads_zero),
		cmocka_unit_test(ranges_that_cut_a_block),
		cmocka_unit_test(a_part_comes_home_and_the_rest_stays),
		cmocka_unit_test(a_block_that_is_half_away_already),
		cmocka_unit_test(a_range_over_mappings_and_gaps),
		cmocka_unit_test(memory_of_malloc),
		cmocka_unit_test(memory_of_brk),
		cmocka_unit_test(static_memory),
		cmocka_unit_test(private_dev_zero),
		cmocka_unit_test(swapped_pages),
	};

	rig_open("emu:size=256M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
