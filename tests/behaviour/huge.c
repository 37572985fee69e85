/* SPDX-License-Identifier: MIT */
/*
 * The nine huge-page cases of the kernel's own tests of heterogeneous memory, asked of uhmm through its public interface:
 * a 2 MiB page that is empty, zero, freed, touched, cut by munmap, moved by mremap, and refused on either side.
 *
 * One difference is kept throughout: read-only memory does not leave (UHMM_SKIP_PROT), so what the kernel's tests map
 * read-only is made so here once it is away.
 */
#include <fcntl.h>

#include "again.h"
#include "block.h"

/* ---- memory without contents ---- */

static void a_huge_page_never_touched_goes_cleared(void **state)
{
	char *mem = map_anon(BLOCK, true, true);
	RESULT(res);

	assert_int_equal(mprotect(mem, BLOCK, PROT_READ), 0);
	assert_int_equal(uhmm_to_device(space, mem, BLOCK, dev, 0, &res), UHMM_E_PARTIAL);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_PROT], PAGES(BLOCK));
	assert_int_equal(used_bytes(), 0);

	assert_int_equal(mprotect(mem, BLOCK, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(uhmm_to_device(space, mem, BLOCK, dev, 0, &res), 0);
	assert_int_equal(res.moved_bytes, BLOCK);
	assert_int_equal(res.cleared_pages, PAGES(BLOCK));
	if (has_thp())
		assert_int_equal(res.moved_folios[9], 1);
	assert_true(all_on_device(mem, BLOCK));
	assert_int_equal(mprotect(mem, BLOCK, PROT_READ), 0);
	assert_zeros(mem, BLOCK);
	put_down(mem, BLOCK);
}

static void the_huge_zero_page_goes_and_reads_zero(void **state)
{
	char *mem = map_anon(BLOCK, true, true);
	size_t thps;
	RESULT(res);

	assert_int_equal(*(volatile char *)(mem + HALF), 0);
	thps = anon_huge_bytes(mem, BLOCK); /* a host without such a page has given one of its own */
	assert_int_equal(uhmm_to_device(space, mem, BLOCK, dev, 0, &res), 0);
	assert_int_equal(res.moved_bytes, BLOCK);
	if (has_zero_page() && !thps)
		assert_int_equal(res.cleared_pages, PAGES(BLOCK));
	assert_true(all_on_device(mem, BLOCK));
	assert_int_equal(mprotect(mem, BLOCK, PROT_READ), 0);
	assert_zeros(mem, BLOCK);
	put_down(mem, BLOCK);
}

static void a_huge_page_on_a_device_may_be_freed_lazily(void **state)
{
	char *mem = filled(3 * BLOCK, true);

	go(mem, 3 * BLOCK);
	assert_int_equal(madvise(mem + BLOCK, BLOCK, MADV_FREE), 0);
	for (size_t i = BLOCK; i < BLOCK + HALF; i += PAGE)
		if (check_zero(mem + i, PAGE) >= 0)
			expect(mem, i, i + PAGE);
	fill_pattern_at(mem + BLOCK, PAGE, SEED, BLOCK); /* what is written afterwards stays */
	expect(mem, BLOCK, BLOCK + PAGE);
	assert_int_equal(munmap(mem + BLOCK, BLOCK), 0);
	eventually(used_bytes() == 2 * BLOCK);
	expect(mem, 0, BLOCK);
	expect(mem, 2 * BLOCK, 3 * BLOCK);
	put_down(mem, 3 * BLOCK);
}

/* ---- one fault ---- */

static bool present(int pagemap, const char *at)
{
	uint64_t word;

	assert_int_equal(pread(pagemap, &word, 8, (off_t)((uintptr_t)at / PAGE * 8)), 8);
	return word >> 63;
}

static void one_fault_brings_a_huge_page_home(void **state)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	char *mem = filled(BLOCK, true);
	struct uhmm_stats before;

	assert_true(pagemap >= 0);
	(void)madvise(mem, BLOCK, MADV_COLLAPSE);
	if (anon_huge_bytes(mem, BLOCK) != BLOCK)
		skip();
	go(mem, BLOCK);
	for (size_t i = 0; i < BLOCK; i += PAGE) {
		struct uhmm_extent ext;
		size_t nr;

		assert_int_equal(uhmm_query(space, mem + i, PAGE, &ext, 1, &nr), 0);
		assert_int_equal(nr, 1);
		assert_int_equal(ext.where, UHMM_WHERE_DEVICE);
		assert_int_equal(ext.order, 9);
		assert_ptr_equal(ext.dev, dev);
		assert_false(present(pagemap, mem + i));
	}
	close(pagemap);

	before = stats();
	assert_pattern(mem, BLOCK, SEED);
	eventually(used_bytes() == 0 && all_home(mem, BLOCK));
	eventually(stats().fault_bytes - before.fault_bytes >= BLOCK);
	assert_int_equal(stats().fault_bytes - before.fault_bytes, BLOCK);
	if (stats().fault_small == before.fault_small) { /* the host had a THP for it */
		assert_int_equal(stats().fault_folios[9] - before.fault_folios[9], 1);
		assert_int_equal(anon_huge_bytes(mem, BLOCK), BLOCK);
	}
	put_down(mem, BLOCK);
}

/* ---- half of it unmapped ---- */

static void half_a_block_is_unmapped(bool huge)
{
	for (enum way way = 0; way < NR_WAYS; way++)
		for (size_t first = 0; first <= HALF; first += BLOCK / 4) {
			char *mem = filled(BLOCK, huge);

			go(mem, BLOCK);
			assert_int_equal(munmap(mem + first, HALF), 0);
			assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_UNMAPPED), PAGES(HALF));
			eventually(used_bytes() == HALF);
			if (way == BY_CALL)
				assert_int_equal(uhmm_to_system(space, mem, BLOCK, 0, NULL), 0);
			expect(mem, 0, first);
			expect(mem, first + HALF, BLOCK);
			assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_UNMAPPED), PAGES(HALF));
			put_down(mem, BLOCK);
		}
}

static void half_of_a_huge_page_is_unmapped(void **state)        { half_a_block_is_unmapped(true); }
static void half_a_block_of_base_pages_is_unmapped(void **state) { half_a_block_is_unmapped(false); }

/* ---- moved by the program ---- */

/* Both kinds of pages, to a place that is aligned to blocks, a quarter and a half past that. */
static void moved(bool when_away, int dontunmap)
{
	const size_t bytes = 2 * BLOCK, room = 4 * BLOCK;

	for (unsigned huge = 0; huge < 2; huge++)
		for (size_t past = 0; past <= HALF; past += BLOCK / 4) {
			char *mem = filled(bytes, huge), *place = map_anon(room, true, huge), *to = place + past;
			size_t thps;
			RESULT(res);

			if (when_away)
				go(mem, bytes);
			/* what the move splits the kernel's own thread shall not put together again before it is counted */
			assert_int_equal(madvise(mem, bytes, MADV_NOHUGEPAGE), 0);
			assert_ptr_equal(mremap(mem, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | dontunmap, to), to);
			if (!when_away) {
				thps = anon_huge_bytes(to, bytes);
				assert_int_equal(uhmm_to_device(space, to, bytes, dev, 0, &res), 0);
				assert_int_equal(res.moved_bytes, bytes);
				assert_int_equal(res.cleared_pages, 0);
				assert_true(res.moved_folios[9] <= thps / BLOCK);
				if (past == 0)
					assert_int_equal(res.moved_folios[9], thps / BLOCK);
			}
			assert_true(all_on_device(to, bytes));
			eventually(used_bytes() == bytes);
			if (dontunmap)
				assert_zeros(mem, bytes);
			else
				assert_int_equal(count_where(mem, bytes, UHMM_WHERE_UNMAPPED), PAGES(bytes));
			assert_pattern(to, bytes, SEED);
			eventually(all_home(to, bytes) && used_bytes() == 0);
			unmap_anon(mem, bytes);
			put_down(place, room);
		}
}

static void moved_before_it_leaves(void **state)                   { moved(false, 0); }
static void moved_when_it_is_away(void **state)                    { moved(true, 0); }
static void moved_before_it_leaves_without_unmapping(void **state) { moved(false, MREMAP_DONTUNMAP); }
static void moved_when_it_is_away_without_unmapping(void **state)  { moved(true, MREMAP_DONTUNMAP); }

/* ---- no 2 MiB to be had: the device's side ---- */

static void a_device_that_refuses_once_gets_the_next_smaller_folios(void **state)
{
	struct uhmm_device *usual = dev;
	char *mem = filled(BLOCK, true);
	RESULT(res);

	if (anon_huge_bytes(mem, BLOCK) != BLOCK)
		skip();
	dev = open_device("emu:size=16M,fail_alloc=1");
	assert_int_equal(uhmm_to_device(space, mem, BLOCK, dev, 0, &res), 0);
	assert_int_equal(res.moved_folios[9], 0);
	assert_int_equal(res.moved_folios[8], 2);
	assert_int_equal(info(dev).folios[8], 2);
	expect(mem, 2 * PAGE, 3 * PAGE);
	eventually(used_bytes() == HALF);
	assert_pattern(mem, BLOCK, SEED);
	eventually(used_bytes() == 0 && all_home(mem, BLOCK));

	/* it has refused once: what is huge goes so again */
	unmap_anon(mem, BLOCK);
	mem = filled(BLOCK, true);
	go(mem, BLOCK);
	assert_int_equal(info(dev).folios[9], anon_huge_bytes(mem, BLOCK) ? 0 : 1);
	put_down(mem, BLOCK);
	assert_int_equal(uhmm_device_close(dev), 0);
	dev = usual;
}

/* Two blocks without contents: one never touched, one that was read. */
static char *without_contents(void)
{
	char *mem = map_anon(2 * BLOCK, true, true);

	assert_int_equal(*(volatile char *)(mem + BLOCK), 0);
	return mem;
}

static void a_device_that_refuses_gets_zeros_as_base_pages(void **state)
{
	for (size_t block = 0; block < 2; block++) {
		struct uhmm_device *usual = dev;
		char *mem = without_contents(), *at = mem + block * BLOCK;
		RESULT(res);

		dev = open_device("emu:size=16M,fail_alloc=9"); /* all orders but 0, once each */
		assert_int_equal(uhmm_to_device(space, at, BLOCK, dev, 0, &res), 0);
		assert_int_equal(res.moved_bytes, BLOCK);
		assert_int_equal(res.moved_folios[0], PAGES(BLOCK));
		assert_zeros(at + 2 * PAGE, PAGE);
		assert_zeros(mem, 2 * BLOCK);
		put_down(mem, 2 * BLOCK);
		assert_int_equal(uhmm_device_close(dev), 0);
		dev = usual;
	}
}

/* ---- no 2 MiB to be had: the host's side, once ---- */

/* Two folios of the device, of which the first that comes home finds no THP. */
static void come_as_base_pages_once(char *mem, enum way way, bool zeros)
{
	RESULT(res);

	assert_int_equal(uhmm_to_device(space, mem, 2 * BLOCK, dev, 0, &res), 0);
	if (res.moved_folios[9] != 2)
		exit(SUPPORT_SKIP);
	for (size_t at = 0; at < 2 * BLOCK; at += BLOCK) {
		if (way == BY_CALL)
			assert_int_equal(uhmm_to_system(space, mem + at, BLOCK, 0, &res), 0);
		assert_int_equal(zeros ? check_zero(mem + at + 2 * PAGE, PAGE) :
					 check_pattern_at(mem + at + 2 * PAGE, PAGE, SEED, at + 2 * PAGE), -1);
		eventually(count_where(mem + at + 2 * PAGE, PAGE, UHMM_WHERE_SYSTEM) == 1);
		assert_true(stats().pool_failed >= 1);
		if (at == 0) {
			assert_int_equal(stats().fault_small, 1);
			assert_int_equal(anon_huge_bytes(mem, BLOCK), 0);
			if (way == BY_CALL)
				assert_int_equal(res.moved_folios[0], PAGES(BLOCK));
		}
	}
	assert_int_equal(zeros ? check_zero(mem, 2 * BLOCK) : check_pattern(mem, 2 * BLOCK, SEED), -1);
	put_down(mem, 2 * BLOCK);
}

static void contents_touched(void **state) { come_as_base_pages_once(filled(2 * BLOCK, true), BY_TOUCH, false); }
static void contents_fetched(void **state) { come_as_base_pages_once(filled(2 * BLOCK, true), BY_CALL, false); }
static void zeros_touched(void **state)    { come_as_base_pages_once(without_contents(), BY_TOUCH, true); }
static void zeros_fetched(void **state)    { come_as_base_pages_once(without_contents(), BY_CALL, true); }

static const struct CMUnitTest on_a_host_that_fails[] = {
	cmocka_unit_test(contents_touched), cmocka_unit_test(contents_fetched), cmocka_unit_test(zeros_touched),
	cmocka_unit_test(zeros_fetched),
};

static void a_host_that_refuses_once_gets_base_pages(void **state)
{
	again("contents_touched", "thp:1");
	again("contents_fetched", "thp:1");
}

static void a_host_that_refuses_gets_zeros_as_base_pages(void **state)
{
	again("zeros_touched", "thp:1");
	again("zeros_fetched", "thp:1");
}

/* ---- the sizes of the benchmark, there and back ---- */

static void every_size_goes_there_and_back(void **state)
{
	for (unsigned k = 0; k < 4; k++)
		for (size_t bytes = 512 * KIB; bytes <= 16 * MIB; bytes *= 2) {
			char *mem = map_anon(bytes, k & 2, k & 1);

			for (unsigned round = 0; round < 3; round++) {
				RESULT(there);
				RESULT(back);
				size_t thps;

				fill_pattern(mem, bytes, SEED + round);
				thps = anon_huge_bytes(mem, bytes) / BLOCK;
				assert_int_equal(uhmm_to_device(space, mem, bytes, dev, 0, &there), 0);
				assert_int_equal(there.moved_bytes, bytes);
				assert_true(there.moved_folios[9] >= thps); /* the kernel may have made more meanwhile */
				assert_int_equal(uhmm_to_system(space, mem, bytes, 0, &back), 0);
				assert_int_equal(back.moved_bytes, bytes);
				assert_pattern(mem, bytes, SEED + round);
				assert_int_equal(used_bytes(), 0);
			}
			unmap_anon(mem, bytes);
		}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_huge_page_never_touched_goes_cleared),
		cmocka_unit_test(the_huge_zero_page_goes_and_reads_zero),
		cmocka_unit_test(a_huge_page_on_a_device_may_be_freed_lazily),
		cmocka_unit_test(one_fault_brings_a_huge_page_home),
		cmocka_unit_test(half_of_a_huge_page_is_unmapped),
		cmocka_unit_test(half_a_block_of_base_pages_is_unmapped),
		cmocka_unit_test(moved_before_it_leaves),
		cmocka_unit_test(moved_when_it_is_away),
		cmocka_unit_test(moved_before_it_leaves_without_unmapping),
		cmocka_unit_test(moved_when_it_is_away_without_unmapping),
		cmocka_unit_test(a_device_that_refuses_once_gets_the_next_smaller_folios),
		cmocka_unit_test(a_device_that_refuses_gets_zeros_as_base_pages),
		cmocka_unit_test(a_host_that_refuses_once_gets_base_pages),
		cmocka_unit_test(a_host_that_refuses_gets_zeros_as_base_pages),
		cmocka_unit_test(every_size_goes_there_and_back),
	};

	if (argc > 1)
		return again_main(argv[1], on_a_host_that_fails, sizeof(on_a_host_that_fails) / sizeof(*on_a_host_that_fails));
	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
