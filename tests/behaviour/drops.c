/* SPDX-License-Identifier: MIT */
/* What the program throws away while it is on a device is freed there, without travelling, and what it did not throw away
 * stays as it was. */
#include "rig.h"

#define SEED  21
#define BYTES (4 * BLOCK)

static char *on_device(bool huge)
{
	char *mem = map_anon(BYTES, true, huge);

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	eventually(used_bytes() == BYTES); /* what the case before has unmapped is gone */
	return mem;
}

static void expect(char *mem, size_t first, size_t end, bool zeros)
{
	assert_int_equal(zeros ? check_zero(mem + first, end - first) :
				 check_pattern_at(mem + first, end - first, SEED, first), -1);
}

typedef int drop_fn(char *at, size_t len);

static int by_uhmm_discard(char *at, size_t len) { return uhmm_discard(space, at, len); }
static int by_dontneed(char *at, size_t len)     { return madvise(at, len, MADV_DONTNEED); }

static int by_mapping_over(char *at, size_t len)
{
	return mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at;
}

/* Ranges in pages: all, a block, parts of blocks, over a block's end, one page. */
static const struct { size_t first, end; } pieces[] = {
	{ 0, 2048 }, { 512, 1024 }, { 0, 256 }, { 300, 400 }, { 1000, 1100 }, { 511, 1537 }, { 77, 78 }, { 2047, 2048 },
};

static void dropped_bytes_read_zero(drop_fn *drop)
{
	for (unsigned huge = 0; huge < 2; huge++)
		for (size_t k = 0; k < sizeof(pieces) / sizeof(*pieces); k++) {
			size_t first = pieces[k].first * PAGE, end = pieces[k].end * PAGE;
			uint64_t before = stats().dropped_pages;
			char *mem = on_device(huge);

			assert_int_equal(drop(mem + first, end - first), 0);
			eventually(used_bytes() == BYTES - (end - first));
			assert_int_equal(stats().dropped_pages - before, PAGES(end - first));
			expect(mem, first, end, true);
			expect(mem, 0, first, false);
			expect(mem, end, BYTES, false);

			/* and the memory is as good as new */
			fill_pattern(mem, BYTES, SEED);
			go_and_return(mem, BYTES, SEED);
			munmap(mem - PAGE, BYTES + 2 * PAGE);
		}
}

static void discarded_memory_reads_zero(void **state)      { dropped_bytes_read_zero(by_uhmm_discard); }
static void memory_not_needed_reads_zero(void **state)     { dropped_bytes_read_zero(by_dontneed); }
static void memory_mapped_over_reads_zero(void **state)    { dropped_bytes_read_zero(by_mapping_over); }

static void unmapped_memory_is_freed(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++)
		for (size_t k = 0; k < sizeof(pieces) / sizeof(*pieces); k++) {
			size_t first = pieces[k].first * PAGE, end = pieces[k].end * PAGE;
			char *mem = on_device(huge);

			assert_int_equal(munmap(mem + first, end - first), 0);
			eventually(used_bytes() == BYTES - (end - first));
			assert_int_equal(count_where(mem, BYTES, UHMM_WHERE_UNMAPPED), PAGES(end - first));
			expect(mem, 0, first, false);
			expect(mem, end, BYTES, false);

			/* a newcomer in the same place has nothing of the old one */
			assert_int_equal(by_mapping_over(mem + first, end - first), 0);
			expect(mem, first, end, true);
			munmap(mem - PAGE, BYTES + 2 * PAGE);
			eventually(used_bytes() == 0);
		}
}

static void discard_works_at_home_and_half_way(void **state)
{
	char *mem = map_anon(BYTES, true, true);

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES / 2);
	assert_int_equal(uhmm_discard(space, mem + BLOCK, 2 * BLOCK), 0);
	expect(mem, BLOCK, 3 * BLOCK, true);
	expect(mem, 0, BLOCK, false);
	expect(mem, 3 * BLOCK, BYTES, false);
	munmap(mem - PAGE, BYTES + 2 * PAGE);
}

static void a_discarded_hole_may_go_again(void **state)
{
	char *mem = on_device(true);

	assert_int_equal(uhmm_discard(space, mem, BYTES), 0);
	go(mem, BYTES);
	expect(mem, 0, BYTES, true);
	munmap(mem - PAGE, BYTES + 2 * PAGE);
}

/* The kernel may take pages with MADV_FREE; a page on a device it does not see, so that one keeps its bytes. */
/* The kernel announces it as it does a discard, but the pages stay: for some seconds they may not leave, and nothing is lost. */
static void lazily_freed_memory_is_old_or_zero(void **state)
{
	char *mem = map_anon(BYTES, true, true);

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES / 2);
	assert_int_equal(madvise(mem, BYTES, MADV_FREE), 0);
	(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
	for (size_t i = 0; i < BYTES; i += PAGE)
		if (check_zero(mem + i, PAGE) >= 0)
			expect(mem, i, i + PAGE, false);
	fill_pattern(mem, BYTES, SEED + 1);
	assert_true(uhmm_to_device(space, mem, BYTES, dev, 0, NULL) >= 0);
	assert_int_equal(check_pattern(mem, BYTES, SEED + 1), -1);
	munmap(mem - PAGE, BYTES + 2 * PAGE);
}

static void discarding_what_is_not_mapped_fails(void **state)
{
	char *mem = map_anon(2 * BLOCK, true, true);

	munmap(mem + BLOCK, PAGE);
	assert_int_equal(uhmm_discard(space, mem, 2 * BLOCK), -EFAULT);
	munmap(mem - PAGE, 2 * BLOCK + 2 * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(discarded_memory_reads_zero),
		cmocka_unit_test(memory_not_needed_reads_zero),
		cmocka_unit_test(memory_mapped_over_reads_zero),
		cmocka_unit_test(unmapped_memory_is_freed),
		cmocka_unit_test(discard_works_at_home_and_half_way),
		cmocka_unit_test(a_discarded_hole_may_go_again),
		cmocka_unit_test(lazily_freed_memory_is_old_or_zero),
		cmocka_unit_test(discarding_what_is_not_mapped_fails),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
