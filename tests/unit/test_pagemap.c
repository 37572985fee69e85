/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "os/fail.h"
#include "os/pagemap.h"

static int fd = -1;

static int uniform(const char *mem, uint64_t bytes)
{
	return pagemap_uniform(fd, addr_of(mem), addr_of(mem) + bytes);
}

static bool get_thp(char *mem)
{
	memset(mem, 1, BLOCK_BYTES);
	return uniform(mem, BLOCK_BYTES) == (PM_PRESENT | PM_HUGE);
}

/* Some hosts have no zero page (a hypervisor may switch it off): a page that was only read is one of its own there. Told
 * by the frames of two such pages. */
static bool has_zero_page(void)
{
	char *mem = map_blocks(BLOCK_BYTES, false);
	uint64_t word[2];

	(void)*(volatile char *)mem;
	(void)*(volatile char *)(mem + PAGE_BYTES);
	assert_int_equal(pread(fd, word, sizeof(word), (off_t)(addr_of(mem) >> PAGE_SHIFT) * 8), sizeof(word));
	unmap_blocks(mem, BLOCK_BYTES);
	return (word[0] << 9) == (word[1] << 9); /* bits 0-54; all zero for those who may not know */
}

static uint8_t read_page_bits(void) { return has_zero_page() ? PM_PRESENT | PM_ZERO : PM_PRESENT; }

static void untouched_memory_is_a_hole(void **state)
{
	char *mem = map_blocks(2 * BLOCK_BYTES, true);

	(void)state;
	assert_int_equal(uniform(mem, PAGE_BYTES), 0);
	assert_int_equal(uniform(mem, 2 * BLOCK_BYTES), 0);
	unmap_blocks(mem, 2 * BLOCK_BYTES);
	assert_int_equal(uniform(mem, BLOCK_BYTES), 0); /* and so is no memory */
}

static void written_pages_are_present(void **state)
{
	char *mem = map_blocks(2 * BLOCK_BYTES, false);

	(void)state;
	memset(mem, 1, 2 * BLOCK_BYTES);
	assert_int_equal(uniform(mem, PAGE_BYTES), PM_PRESENT);
	assert_int_equal(uniform(mem, 2 * BLOCK_BYTES), PM_PRESENT);
	unmap_blocks(mem, 2 * BLOCK_BYTES);
}

static void read_pages_are_the_zero_page(void **state)
{
	char *mem;

	(void)state;
	if (!has_zero_page())
		skip();
	mem = map_blocks(BLOCK_BYTES, false);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(*(volatile char *)(mem + i * PAGE_BYTES), 0);
	assert_int_equal(uniform(mem, 10 * PAGE_BYTES), PM_PRESENT | PM_ZERO);
	unmap_blocks(mem, BLOCK_BYTES);
}

static void a_thp_is_huge_and_a_split_one_is_not(void **state)
{
	char *mem = map_blocks(2 * BLOCK_BYTES, true);

	(void)state;
	if (!get_thp(mem))
		skip();
	assert_int_equal(uniform(mem + 5 * PAGE_BYTES, PAGE_BYTES) & PM_HUGE, PM_HUGE);
	assert_int_equal(uniform(mem, 2 * BLOCK_BYTES), -1);
	assert_int_equal(madvise(mem + 7 * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED), 0);
	assert_int_equal(uniform(mem, BLOCK_BYTES), -1);
	assert_int_equal(uniform(mem, 7 * PAGE_BYTES), PM_PRESENT);
	assert_int_equal(uniform(mem + 7 * PAGE_BYTES, PAGE_BYTES), 0);
	unmap_blocks(mem, 2 * BLOCK_BYTES);
}

static void pages_of_files_and_shared_memory_say_so(void **state)
{
	char *mem = mmap(NULL, 4 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	memset(mem, 1, 4 * PAGE_BYTES);
	assert_int_equal(uniform(mem, 4 * PAGE_BYTES), PM_PRESENT | PM_FILE);
	munmap(mem, 4 * PAGE_BYTES);
}

static void a_mixture_is_not_uniform(void **state)
{
	char *mem = map_blocks(BLOCK_BYTES, false);

	(void)state;
	mem[3 * PAGE_BYTES] = 1;
	assert_int_equal(uniform(mem, BLOCK_BYTES), -1);
	assert_int_equal(uniform(mem, 4 * PAGE_BYTES), -1);
	assert_int_equal(uniform(mem, 3 * PAGE_BYTES), 0);
	assert_int_equal(uniform(mem + 3 * PAGE_BYTES, PAGE_BYTES), PM_PRESENT);
	unmap_blocks(mem, BLOCK_BYTES);
}

/* Scans [0, pages) of mem, at most @max runs at a time, and compares with what each page should be. */
static void check_scan(const char *mem, const uint8_t *model, unsigned pages, unsigned max)
{
	uint64_t start = addr_of(mem), at = start, end = start + pages * PAGE_BYTES;
	struct pm_run runs[600];

	while (at < end) {
		unsigned nr = 99999;
		uint64_t stop;

		assert_int_equal(pagemap_scan(fd, at, end, runs, max, &nr, &stop), 0);
		assert_in_range(nr, 1, max);
		for (unsigned k = 0; k < nr; k++) {
			assert_int_equal(runs[k].start, at);
			assert_true(runs[k].end > at);
			assert_true(!k || runs[k].bits != runs[k - 1].bits);
			for (; at < runs[k].end; at += PAGE_BYTES)
				assert_int_equal(runs[k].bits, model[(at - start) / PAGE_BYTES]);
		}
		assert_int_equal(at, stop);
	}
	assert_int_equal(at, end);
}

static void runs_cover_the_range_without_gaps(void **state)
{
	enum { PAGES = 3 * PAGES_PER_BLOCK };
	char *mem = map_blocks(3 * BLOCK_BYTES, false);
	uint8_t model[PAGES] = { 0 }, read_bits = read_page_bits();
	uint64_t seed = 1;

	(void)state;
	for (unsigned round = 0; round < 6; round++) {
		for (unsigned n = 0; n < 40; n++) {
			unsigned first = next_random(&seed) % PAGES, len = next_random(&seed) % 30;

			for (unsigned i = first; i < PAGES && i < first + len; i++) {
				if (n & 1)
					mem[i * PAGE_BYTES] = 1;
				else
					(void)*(volatile char *)(mem + i * PAGE_BYTES);
				model[i] = n & 1 ? PM_PRESENT : model[i] ? model[i] : read_bits;
			}
		}
		for (unsigned max = 3; max <= 600; max = max * 2 + 1)
			check_scan(mem, model, PAGES, max);
	}
	unmap_blocks(mem, 3 * BLOCK_BYTES);
}

static void every_page_another_kind(void **state)
{
	char *mem = map_blocks(BLOCK_BYTES, false);
	uint8_t model[PAGES_PER_BLOCK] = { 0 };

	(void)state;
	for (unsigned i = 1; i < PAGES_PER_BLOCK; i += 2) {
		mem[i * PAGE_BYTES] = 1;
		model[i] = PM_PRESENT;
	}
	for (unsigned max = 3; max <= 600; max = max * 2 + 1)
		check_scan(mem, model, PAGES_PER_BLOCK, max);
	unmap_blocks(mem, BLOCK_BYTES);
}

static char *exclusive_page;

static int child_looks(void *arg)
{
	int ready = pagemap_open(&fd) ? 0 : pagemap_exclusive(fd, addr_of(exclusive_page));

	(void)arg;
	return ready;
}

static void a_page_shared_with_a_child_is_not_exclusive(void **state)
{
	char *mem = map_blocks(BLOCK_BYTES, false);

	(void)state;
	exclusive_page = mem;
	*mem = 1;
	assert_true(pagemap_exclusive(fd, addr_of(mem)));
	assert_false(pagemap_exclusive(fd, addr_of(mem) + PAGE_BYTES)); /* a hole */
	assert_int_equal(value_in_child(child_looks, NULL), 0);
	unmap_blocks(mem, BLOCK_BYTES);
}

static void a_failure_is_forwarded(void **state)
{
	struct pm_run runs[8];
	uint64_t stop = 7;
	unsigned nr = 7;

	(void)state;
	fail_set("pagemap:1:28", NULL);
	assert_int_equal(pagemap_scan(fd, 0, PAGE_BYTES, runs, 8, &nr, &stop), -28);
	assert_int_equal(nr, 7);
	assert_int_equal(stop, 7);
	fail_set(NULL, NULL);
	assert_int_equal(pagemap_scan(-1, 0, PAGE_BYTES, runs, 8, &nr, &stop), -EBADF);
	assert_false(pagemap_exclusive(-1, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(untouched_memory_is_a_hole),
		cmocka_unit_test(written_pages_are_present),
		cmocka_unit_test(read_pages_are_the_zero_page),
		cmocka_unit_test(a_thp_is_huge_and_a_split_one_is_not),
		cmocka_unit_test(pages_of_files_and_shared_memory_say_so),
		cmocka_unit_test(a_mixture_is_not_uniform),
		cmocka_unit_test(runs_cover_the_range_without_gaps),
		cmocka_unit_test(every_page_another_kind),
		cmocka_unit_test(a_page_shared_with_a_child_is_not_exclusive),
		cmocka_unit_test(a_failure_is_forwarded),
	};
	int r;

	if (pagemap_open(&fd))
		return skip_all("/proc/self/pagemap cannot be read");
	if (pagemap_uniform(fd, 0, PAGE_BYTES) < 0)
		return skip_all("this kernel has no PAGEMAP_SCAN");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	pagemap_close(fd);
	return r;
}
