/* SPDX-License-Identifier: MIT */
/*
 * A look while others move the page: what they do happens in the middle of it, before and after the kernel is asked. Pages
 * really go, into memory of the test's own and back, under real claims.
 */
#include "space/look.h"

static int scan_in_the_middle(int fd, uint64_t start, uint64_t end, struct pm_run *runs, unsigned max, unsigned *ret_nr,
			      uint64_t *ret_end);
#define pagemap_scan scan_in_the_middle
#include "space/look.c" /* with this scan */
#undef pagemap_scan

#include "unit_space.h"

#include "migrate/claim.h"
#include "space/vma.h"

#define LEN (4 * BLOCK_BYTES)

static char *mem, *elsewhere; /* LEN and a block */
static uint64_t at;
static struct claim c;
static struct claim_misses misses;
static struct seen seen;

/* What happens in the middle of the next looks, and in how many; how often the kernel was asked. */
static struct {
	void (*before)(void), (*after)(void);
	unsigned times, scans;
} middle;

static int scan_in_the_middle(int fd, uint64_t start, uint64_t end, struct pm_run *runs, unsigned max, unsigned *ret_nr,
			      uint64_t *ret_end)
{
	bool now = middle.times && middle.times--;
	int r;

	middle.scans++;
	if (now && middle.before)
		middle.before();
	r = pagemap_scan(fd, start, end, runs, max, ret_nr, ret_end);
	if (now && middle.after)
		middle.after();
	return r;
}

static uint64_t page(unsigned i) { return at + i * PAGE_BYTES; }

static int make(void **state)
{
	uint64_t seq;

	(void)state;
	mem = map_blocks(LEN, false);
	elsewhere = map_blocks(BLOCK_BYTES, false);
	at = addr_of(mem);
	for (unsigned i = 0; i < 4; i++)
		atomic_store(&table_block(&sp.table, at + i * BLOCK_BYTES, true)->word, 0);
	memset(mem, 7, 20 * PAGE_BYTES);
	memset(&middle, 0, sizeof(middle));
	assert_int_equal(vma_arm_begin(&sp, at, at + LEN, &seq), 0);
	return uffd_register(&sp.uffd, addr_of(elsewhere), addr_of(elsewhere) + BLOCK_BYTES);
}

static int unmake(void **state)
{
	(void)state;
	fail_set(NULL, NULL);
	vma_arm_end(&sp);
	(void)uffd_unregister(&sp.uffd, at, at + LEN);
	(void)uffd_unregister(&sp.uffd, addr_of(elsewhere), addr_of(elsewhere) + BLOCK_BYTES);
	unmap_blocks(mem, LEN);
	unmap_blocks(elsewhere, BLOCK_BYTES);
	return 0;
}

static void move(uint64_t to, uint64_t from, unsigned nr)
{
	uint64_t moved;

	assert_int_equal(uffd_move(&sp.uffd, to, from, nr * PAGE_BYTES, UFFD_DONTWAKE, &moved), 0);
}

/* Pages 10 to 13 are claimed and go, and come back. */
static void go(void)
{
	assert_int_equal(claim_system(&c, &sp, at, 10, 14, &misses), 0);
	move(addr_of(elsewhere), page(10), 4);
}

static void come(void)
{
	struct pageset all = c.mine;

	move(page(10), addr_of(elsewhere), 4);
	(void)claim_end_system(&c, &all, true);
}

static void look(uint64_t start, uint64_t end) { assert_int_equal(look_at(&sp, start, end, &seen), 0); }

static void assert_run(unsigned i, unsigned first, unsigned end, uint32_t bits)
{
	assert_true(i < seen.nr);
	assert_int_equal((seen.runs[i].start - at) / PAGE_BYTES, first);
	assert_int_equal((seen.runs[i].end - at) / PAGE_BYTES, end);
	assert_int_equal(seen.runs[i].bits, bits);
}

static void pages_beside_holes(void **state)
{
	(void)state;
	look(at, at + LEN);
	assert_int_equal(entry_state(seen.e), ENTRY_SYSTEM);
	assert_int_equal(seen.stop, at + LEN);
	assert_int_equal(seen.nr, 2);
	assert_run(0, 0, 20, PM_PRESENT);
	assert_run(1, 20, 4 * PAGES_PER_BLOCK, 0);
	assert_int_equal(middle.scans, 1);
}

static void what_is_away_is_told_page_by_page(void **state)
{
	(void)state;
	go();
	look(at, at + LEN);
	assert_int_equal(seen.stop, page(10));
	assert_int_equal(seen.nr, 1);
	look(page(10), at + LEN);
	assert_int_equal(entry_state(seen.e), ENTRY_MIGRATING);
	assert_int_equal(seen.stop, page(11));
	look(page(14), page(16));
	assert_int_equal(seen.stop, page(16));
	assert_run(0, 14, 16, PM_PRESENT);
	come();
}

static void a_page_that_leaves_before_the_kernel_is_asked_is_no_hole(void **state)
{
	(void)state;
	middle.before = go;
	middle.times = 1;
	look(at, at + LEN);
	assert_int_equal(seen.nr, 1);
	assert_run(0, 0, 10, PM_PRESENT);
	assert_int_equal(seen.stop, page(10));
	come();

	middle.times = 1;
	look(page(12), at + LEN);
	assert_int_equal(entry_state(seen.e), ENTRY_MIGRATING);
	assert_int_equal(seen.stop, page(13));
	come();
}

/* The words say the same before and after. */
static void a_page_that_leaves_and_returns_is_no_hole(void **state)
{
	(void)state;
	middle.before = go;
	middle.after = come;
	middle.times = 1;
	look(at, at + LEN);
	assert_int_equal(entry_state(seen.e), ENTRY_SYSTEM);
	assert_run(0, 0, 10, PM_PRESENT);
	assert_int_equal(seen.stop, page(10));

	middle.times = 1;
	middle.scans = 0;
	look(page(10), at + LEN);
	assert_int_equal(middle.scans, 2);
	assert_run(0, 10, 20, PM_PRESENT);
	assert_int_equal(seen.stop, at + LEN);
}

static void a_page_that_returns_before_the_words_are_looked_at_again_is_no_hole(void **state)
{
	(void)state;
	go();
	middle.after = come;
	middle.times = 1;
	/* the look begins at what is home; the words end it */
	look(at, at + LEN);
	assert_run(0, 0, 10, PM_PRESENT);
	assert_int_equal(seen.stop, page(10));
}

static void what_never_stays_is_on_its_way(void **state)
{
	(void)state;
	middle.before = go;
	middle.after = come;
	middle.times = MAX_TRIES;
	look(page(10), page(14));
	assert_int_equal(entry_state(seen.e), ENTRY_MIGRATING);
	assert_int_equal(seen.stop, page(11));
	assert_int_equal(middle.times, 0);
	look(page(10), page(14));
	assert_run(0, 10, 14, PM_PRESENT);
}

static struct claim others;

static void claim_holes(void)
{
	assert_int_equal(claim_system(&others, &sp, at + BLOCK_BYTES, 0, PAGES_PER_BLOCK, &misses), 0);
}

static void give_holes_back(void)
{
	(void)claim_end_system(&others, &pageset_all, true);
}

/* Only the blocks that were claimed are looked at again, and what comes before them is told. */
static void another_block_that_is_claimed_cuts_the_look(void **state)
{
	(void)state;
	middle.before = claim_holes;
	middle.after = give_holes_back;
	middle.times = 1;
	look(at, at + LEN);
	assert_int_equal(seen.nr, 2);
	assert_run(1, 20, PAGES_PER_BLOCK, 0);
	assert_int_equal(seen.stop, at + BLOCK_BYTES);
	look(seen.stop, at + LEN);
	assert_int_equal(seen.stop, at + LEN);
}

static void a_scan_that_fails_is_an_error(void **state)
{
	(void)state;
	fail_set("pagemap:1", NULL);
	assert_true(look_at(&sp, at, at + LEN, &seen) < 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(pages_beside_holes),
		CASE(what_is_away_is_told_page_by_page),
		CASE(a_page_that_leaves_before_the_kernel_is_asked_is_no_hole),
		CASE(a_page_that_leaves_and_returns_is_no_hole),
		CASE(a_page_that_returns_before_the_words_are_looked_at_again_is_no_hole),
		CASE(what_never_stays_is_on_its_way),
		CASE(another_block_that_is_claimed_cuts_the_look),
		CASE(a_scan_that_fails_is_an_error),
	};
	int r;

	if (space_start())
		return skip_all("no full userfaultfd with MOVE and events here");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
