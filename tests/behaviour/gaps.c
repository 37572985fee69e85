/* SPDX-License-Identifier: MIT */
/*
 * What the kernel's own tests of heterogeneous memory leave out, and what went wrong there once huge pages could be on a
 * device: half of one is protected, discarded, paged out; it is collapsed, locked, or grows by brk; its folio is used again
 * for small pages; the walks of madvise, mempolicy and soft-dirty meet it; the host has no memory when it comes home.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "again.h"
#include "block.h"

/* May the program read, and write, this page? Asked of the kernel, so that no signal is needed. Changes nothing. */
static void expect_access(char *at, bool readable, bool writable)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], at, 8), readable ? 8 : -1);
	assert_true(readable || errno == EFAULT);
	if (!readable)
		assert_int_equal(write(ends[1], "nothing.", 8), 8);
	assert_int_equal(read(ends[0], at, 8), writable ? 8 : -1);
	assert_true(writable || errno == EFAULT);
	close(ends[0]);
	close(ends[1]);
}

/* ---- half of a huge page ---- */

static void half_of_it_is_protected(void **state)
{
	static const int prots[] = { PROT_READ, PROT_NONE };

	for (unsigned k = 0; k < 2; k++)
		for (unsigned half = 0; half < 2; half++) {
			char *mem = filled(BLOCK, true), *at = mem + half * HALF, *other = mem + !half * HALF;

			go(mem, BLOCK);
			assert_int_equal(mprotect(at, HALF, prots[k]), 0);
			assert_true(all_on_device(mem, BLOCK)); /* nothing came home for that */
			expect_access(at + 5 * PAGE, prots[k] != PROT_NONE, false);
			expect_access(other + 5 * PAGE, true, true);
			expect(mem, !half * HALF, !half * HALF + HALF);
			assert_int_equal(mprotect(mem, BLOCK, PROT_READ | PROT_WRITE), 0);
			assert_pattern(mem, BLOCK, SEED);
			eventually(all_home(mem, BLOCK) && used_bytes() == 0);
			go_and_return(mem, BLOCK, SEED);
			put_down(mem, BLOCK);
		}
}

static void half_of_it_is_discarded(void **state)
{
	for (unsigned half = 0; half < 2; half++) {
		char *mem = filled(BLOCK, true), *at = mem + half * HALF, *other = mem + !half * HALF;

		go(mem, BLOCK);
		assert_int_equal(madvise(at, HALF, MADV_DONTNEED), 0);
		eventually(used_bytes() == HALF);
		assert_true(all_on_device(other, HALF));
		assert_int_equal(count_where(at, HALF, UHMM_WHERE_HOLE), PAGES(HALF));
		assert_zeros(at, HALF);
		expect(mem, !half * HALF, !half * HALF + HALF);
		put_down(mem, BLOCK);
	}
}

/* What the kernel would reclaim is not there: it stays on the device. What came home before may go to swap. */
static void half_of_it_is_paged_out(void **state)
{
	static const int advices[] = { MADV_PAGEOUT, MADV_COLD };

	for (unsigned k = 0; k < 2; k++) {
		char *mem = filled(2 * BLOCK, true);

		go(mem, 2 * BLOCK);
		assert_int_equal(madvise(mem + HALF, HALF, advices[k]), 0);
		assert_true(all_on_device(mem, 2 * BLOCK));
		come(mem + BLOCK, HALF);
		assert_int_equal(madvise(mem, 2 * BLOCK, advices[k]), 0);
		assert_int_equal(count_where(mem, 2 * BLOCK, UHMM_WHERE_DEVICE), PAGES(BLOCK + HALF));
		assert_pattern(mem, 2 * BLOCK, SEED);
		put_down(mem, 2 * BLOCK);
	}
}

/* ---- all of it ---- */

static void protected_memory_comes_home_as_protected(void **state)
{
	static const int prots[] = { PROT_READ, PROT_NONE };

	for (unsigned k = 0; k < 8; k++) {
		int prot = prots[k & 1];
		char *mem = filled(BLOCK, k & 2);

		go(mem, BLOCK);
		assert_int_equal(mprotect(mem, BLOCK, prot), 0);
		if (k & 4) {
			come(mem, BLOCK);
			assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_SYSTEM), PAGES(BLOCK));
		} else if (prot == PROT_READ) {
			assert_pattern(mem, BLOCK, SEED);
		}
		expect_access(mem, prot == PROT_READ, false);
		expect_access(mem + BLOCK - PAGE, prot == PROT_READ, false);
		assert_int_equal(mprotect(mem, BLOCK, PROT_READ | PROT_WRITE), 0);
		assert_pattern(mem, BLOCK, SEED);
		fill_pattern(mem, BLOCK, SEED + 1);
		assert_pattern(mem, BLOCK, SEED + 1);
		put_down(mem, BLOCK);
	}
}

/* Collapsing puts pages where some were missing: on no account zeros where the device has the bytes. */
static void what_is_collapsed_keeps_what_is_away(void **state)
{
	static const size_t away[] = { 1, 256, 511, 512 };

	for (unsigned k = 0; k < 8; k++) {
		size_t bytes = away[k / 2] * PAGE;
		char *mem = filled(BLOCK, k & 1);

		go(mem, bytes);
		assert_int_equal(madvise(mem, BLOCK, MADV_HUGEPAGE), 0);
		(void)madvise(mem, BLOCK, MADV_COLLAPSE); /* what of this it does is its own affair */
		assert_pattern(mem, BLOCK, SEED);
		eventually(all_home(mem, BLOCK) && used_bytes() == 0);
		(void)madvise(mem, BLOCK, MADV_COLLAPSE);
		go_and_return(mem, BLOCK, SEED);
		put_down(mem, BLOCK);
	}
}

static void what_is_locked_comes_home_and_stays(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = filled(2 * BLOCK, huge);
		RESULT(res);

		go(mem, 2 * BLOCK);
		if (lock_memory(mem + HALF, BLOCK)) {
			put_down(mem, 2 * BLOCK);
			skip(); /* RLIMIT_MEMLOCK */
		}
		expect(mem, HALF, HALF + BLOCK);
		eventually(all_home(mem + HALF, BLOCK));
		assert_int_equal(uhmm_to_device(space, mem + HALF, BLOCK, dev, 0, &res), UHMM_E_PARTIAL);
		assert_int_equal(res.skipped_pages[UHMM_SKIP_LOCKED], PAGES(BLOCK));
		assert_pattern(mem, 2 * BLOCK, SEED);
		assert_int_equal(unlock_memory(mem + HALF, BLOCK), 0);
		eventually(all_home(mem, 2 * BLOCK) && used_bytes() == 0);
		go_and_return(mem, 2 * BLOCK, SEED);
		put_down(mem, 2 * BLOCK);
	}
}

static void the_heap_grows_and_shrinks_by_brk(void **state)
{
	char *old = sbrk(0), *mem = (char *)(((uintptr_t)old + BLOCK - 1) & ~(uintptr_t)(BLOCK - 1));
	size_t bytes = 2 * BLOCK;

	if (sbrk(mem + bytes - old) != old)
		skip(); /* something is in its way */
	fill_pattern(mem, bytes, SEED);
	go(mem, bytes);
	assert_ptr_equal(sbrk((intptr_t)BLOCK), mem + bytes);
	assert_true(all_on_device(mem, bytes));
	assert_zeros(mem + bytes, BLOCK);
	assert_pattern(mem, bytes, SEED);
	eventually(used_bytes() == 0);
	fill_pattern(mem, bytes + BLOCK, SEED);
	go(mem, bytes + BLOCK);
	if (sbrk(0) == mem + bytes + BLOCK) { /* nobody else has grown it */
		assert_ptr_equal(sbrk(-(intptr_t)(2 * BLOCK)), mem + bytes + BLOCK);
		eventually(used_bytes() == BLOCK);
		assert_ptr_equal(sbrk((intptr_t)BLOCK), mem + BLOCK);
		assert_zeros(mem + BLOCK, BLOCK);
		expect(mem, 0, BLOCK);
	}
	come(mem, BLOCK);
	eventually(used_bytes() == 0 || sbrk(0) != mem + bytes);
	if (sbrk(0) == mem + bytes)
		(void)sbrk(old - (mem + bytes));
}

/* ---- walks of the kernel that find nothing where a device has the page ---- */

static void walks_of_the_kernel_change_nothing(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = filled(2 * BLOCK, huge);
		int clear = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
		unsigned long node = 1;
		unsigned char in_core[PAGES(2 * BLOCK)];

		go(mem, 2 * BLOCK);
		/* soft-dirty bits, referenced bits; MPOL_BIND to node 0, moving what is elsewhere */
		if (clear >= 0) {
			assert_true(write(clear, "4", 1) == 1 || errno == EINVAL);
			assert_int_equal(write(clear, "1", 1), 1);
			close(clear);
		}
		if (syscall(SYS_mbind, mem + HALF, BLOCK, 2, &node, 64, 2))
			assert_true(errno == ENOSYS || errno == EPERM || errno == EINVAL || errno == EIO);
		assert_int_equal(mincore(mem, 2 * BLOCK, in_core), 0);
		assert_int_equal(madvise(mem, BLOCK, MADV_WILLNEED) && errno != EBADF, 0);
		assert_true(all_on_device(mem, 2 * BLOCK));
		assert_pattern(mem, 2 * BLOCK, SEED);
		eventually(all_home(mem, 2 * BLOCK) && used_bytes() == 0);
		go_and_return(mem, 2 * BLOCK, SEED);
		put_down(mem, 2 * BLOCK);
	}
}

/* ---- no memory when it comes home ---- */

static void comes_home_all_the_same(bool huge)
{
	char *mem = filled(BLOCK, huge);

	go(mem, BLOCK);
	expect(mem, 2 * PAGE, 3 * PAGE);
	assert_pattern(mem, BLOCK, SEED);
	((volatile char *)mem)[HALF] ^= 1;
	((volatile char *)mem)[HALF] ^= 1;
	eventually(all_home(mem, BLOCK) && used_bytes() == 0);
	assert_int_equal(stats().fault_lost, 0);
	go_and_return(mem, BLOCK, SEED);
	put_down(mem, BLOCK);
}

static void base_pages(void **state) { comes_home_all_the_same(false); }
static void huge_page(void **state)  { comes_home_all_the_same(true); }

/* The same failure seen by a call, which may tell: so it is known to happen. */
static void base_pages_by_call(void **state)
{
	char *mem = filled(BLOCK, false);
	RESULT(res);

	go(mem, BLOCK);
	assert_int_equal(uhmm_to_system(space, mem, BLOCK, 0, &res), -ENOMEM);
	assert_true(res.moved_bytes < BLOCK);
	assert_int_equal(used_bytes(), BLOCK - res.moved_bytes);
	assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_DEVICE), PAGES(BLOCK - res.moved_bytes));
	come(mem, BLOCK);
	assert_pattern(mem, BLOCK, SEED);
	put_down(mem, BLOCK);
}

static const struct CMUnitTest on_a_host_that_fails[] = {
	cmocka_unit_test(base_pages), cmocka_unit_test(huge_page), cmocka_unit_test(base_pages_by_call),
};

static void no_memory_for_a_page_that_is_touched(void **state)
{
	again("base_pages_by_call", "copy:1:12");
	again("base_pages", "copy:1:12");
	again("base_pages", "copy:2:12");
	again("huge_page", "move:2:12"); /* the first took it away */
	again("huge_page", "thp:1");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(half_of_it_is_protected),
		cmocka_unit_test(half_of_it_is_discarded),
		cmocka_unit_test(half_of_it_is_paged_out),
		cmocka_unit_test(protected_memory_comes_home_as_protected),
		cmocka_unit_test(what_is_collapsed_keeps_what_is_away),
		cmocka_unit_test(what_is_locked_comes_home_and_stays),
		cmocka_unit_test(the_heap_grows_and_shrinks_by_brk),
		cmocka_unit_test(walks_of_the_kernel_change_nothing),
		cmocka_unit_test(no_memory_for_a_page_that_is_touched),
	};

	if (argc > 1)
		return again_main(argv[1], on_a_host_that_fails, sizeof(on_a_host_that_fails) / sizeof(*on_a_host_that_fails));
	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
