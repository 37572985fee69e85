/* SPDX-License-Identifier: MIT */
#include "unit_space.h"

#include <fcntl.h>
#include <sys/wait.h>

#include "os/sysinfo.h"
#include "space/vma.h"

static char *mem;   /* 8 blocks between guards */
static uint64_t at;

#define LEN (8 * BLOCK_BYTES)

static int make(void **state)
{
	(void)state;
	mem = map_blocks(LEN, false);
	at = addr_of(mem);
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	fail_set(NULL, NULL);
	(void)uffd_unregister(&sp.uffd, at, at + LEN);
	unmap_blocks(mem, LEN);
	return 0;
}

static void assert_piece(uint64_t from, uint64_t start, uint64_t end, bool movable, enum uhmm_skip why_not)
{
	struct vma_piece p;

	assert_int_equal(vma_piece_at(&sp, from, at + LEN, &p), 0);
	assert_int_equal(p.start, start);
	assert_int_equal(p.end, end);
	assert_int_equal(p.movable, movable);
	if (!movable)
		assert_int_equal(p.why_not, why_not);
}

static void plain_memory_can_go_up_to_the_end_asked(void **state)
{
	struct vma_piece p;

	(void)state;
	assert_piece(at, at, at + LEN, true, 0);
	assert_piece(at + 3 * PAGE_BYTES, at + 3 * PAGE_BYTES, at + LEN, true, 0);
	assert_int_equal(vma_piece_at(&sp, at, at + PAGE_BYTES, &p), 0);
	assert_int_equal(p.end, at + PAGE_BYTES);
}

static void a_gap_is_unmapped(void **state)
{
	struct vma_piece p;

	(void)state;
	munmap(mem + BLOCK_BYTES, BLOCK_BYTES);
	munmap(mem + 7 * BLOCK_BYTES, BLOCK_BYTES);
	assert_piece(at, at, at + BLOCK_BYTES, true, 0);
	assert_piece(at + BLOCK_BYTES, at + BLOCK_BYTES, at + 2 * BLOCK_BYTES, false, UHMM_SKIP_UNMAPPED);
	assert_piece(at + 7 * BLOCK_BYTES, at + 7 * BLOCK_BYTES, at + LEN, false, UHMM_SKIP_UNMAPPED);
	/* above everything */
	assert_int_equal(vma_piece_at(&sp, UINT64_C(1) << 60, UINT64_C(1) << 61, &p), 0);
	assert_int_equal(p.end, UINT64_C(1) << 61);
	assert_int_equal(p.why_not, UHMM_SKIP_UNMAPPED);
}

static void protection_decides(void **state)
{
	static const struct { int prot; bool movable; } kinds[] = {
		{ PROT_NONE, false }, { PROT_READ, false }, { PROT_READ | PROT_EXEC, false }, { PROT_READ | PROT_WRITE, true },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		assert_int_equal(mprotect(mem, BLOCK_BYTES, kinds[i].prot), 0);
		assert_piece(at, at, kinds[i].movable ? at + LEN : at + BLOCK_BYTES, kinds[i].movable, UHMM_SKIP_PROT);
	}
}

static void map_over(unsigned block, int flags, int fd)
{
	void *got = mmap(mem + block * BLOCK_BYTES, BLOCK_BYTES, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);

	assert_ptr_equal(got, mem + block * BLOCK_BYTES);
}

static void shared_memory_and_files_cannot_go(void **state)
{
	int mfd = memfd_create("test", MFD_CLOEXEC), zero = open("/dev/zero", O_RDWR | O_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(mfd, (off_t)BLOCK_BYTES), 0);
	map_over(1, MAP_SHARED | MAP_ANONYMOUS, -1);
	map_over(2, MAP_SHARED, mfd);
	map_over(3, MAP_PRIVATE, mfd);
	map_over(4, MAP_PRIVATE, zero);
	assert_piece(at + BLOCK_BYTES, at + BLOCK_BYTES, at + 2 * BLOCK_BYTES, false, UHMM_SKIP_SHARED);
	assert_piece(at + 2 * BLOCK_BYTES, at + 2 * BLOCK_BYTES, at + 3 * BLOCK_BYTES, false, UHMM_SKIP_SHARED);
	assert_piece(at + 3 * BLOCK_BYTES, at + 3 * BLOCK_BYTES, at + 4 * BLOCK_BYTES, false, UHMM_SKIP_FILE);
	assert_piece(at + 4 * BLOCK_BYTES, at + 4 * BLOCK_BYTES, at + 5 * BLOCK_BYTES, false, UHMM_SKIP_FILE);
	close(mfd);
	close(zero);
}

static void own_memory_in_the_same_mapping_is_cut_out(void **state)
{
	uint64_t own = at + 2 * BLOCK_BYTES, own_end = own + 3 * PAGE_BYTES;

	(void)state;
	assert_int_equal(map_own_add(own, own_end), 0);
	assert_piece(at, at, own, true, 0);
	assert_piece(own, own, own_end, false, UHMM_SKIP_OWN);
	assert_piece(own + PAGE_BYTES, own + PAGE_BYTES, own_end, false, UHMM_SKIP_OWN);
	assert_piece(own_end, own_end, at + LEN, true, 0);
	map_own_free((void *)(uintptr_t)own, own_end - own);
}

static void a_failed_lookup_is_forwarded(void **state)
{
	struct vma_piece p;

	(void)state;
	fail_set("procmap:1:5", NULL);
	assert_int_equal(vma_piece_at(&sp, at, at + LEN, &p), -5);
}

/* ---- arming ---- */

static bool is_armed(uint64_t addr)
{
	int r = uffd_zeropage(&sp.uffd, addr, PAGE_BYTES, 0);

	assert_true(r == 0 || r == UFFD_E_EXISTS || r == UFFD_E_MISSING);
	assert_int_equal(madvise((void *)(uintptr_t)addr, PAGE_BYTES, MADV_DONTNEED), 0);
	return r != UFFD_E_MISSING;
}

/* All of it: to watch a part would cut the mapping, and the program's mremap of the whole would fail. */
static bool something_is_away;

static bool away(void *ctx)
{
	(void)ctx;
	return something_is_away;
}

static void arming_a_piece_watches_its_mapping_and_no_more(void **state)
{
	uint64_t seq = 77;

	(void)state;
	assert_int_equal(mprotect(mem + 4 * BLOCK_BYTES, 4 * BLOCK_BYTES, PROT_READ), 0);
	assert_false(is_armed(at));
	assert_int_equal(vma_arm_begin(&sp, at + BLOCK_BYTES, at + 2 * BLOCK_BYTES, &seq), 0);
	assert_int_equal(seq, sp.event_seq);
	assert_true(is_armed(at));
	assert_true(is_armed(at + 4 * BLOCK_BYTES - PAGE_BYTES));
	assert_false(is_armed(at + 4 * BLOCK_BYTES));
	vma_arm_end(&sp);
	assert_true(is_armed(at + BLOCK_BYTES));
	vma_disarm(&sp, at, at + LEN, away, NULL);
	assert_false(is_armed(at));
	assert_false(is_armed(at + 4 * BLOCK_BYTES - PAGE_BYTES));
}

static void arming_again_tells_the_new_sequence(void **state)
{
	uint64_t seq;

	(void)state;
	assert_int_equal(vma_arm_begin(&sp, at, at + LEN, &seq), 0);
	atomic_fetch_add(&sp.event_seq, 1);
	assert_int_not_equal(seq, sp.event_seq);
	assert_int_equal(vma_arm_again(&sp, at, at + LEN, &seq), 0);
	assert_int_equal(seq, sp.event_seq);
	vma_arm_end(&sp);
}

static void nothing_is_disarmed_while_somebody_arms(void **state)
{
	uint64_t seq;

	(void)state;
	assert_int_equal(vma_arm_begin(&sp, at, at + BLOCK_BYTES, &seq), 0);
	assert_int_equal(vma_arm_begin(&sp, at, at + BLOCK_BYTES, &seq), 0);
	vma_arm_end(&sp);
	vma_disarm(&sp, at, at + LEN, away, NULL);
	assert_true(is_armed(at));
	vma_arm_end(&sp);
	vma_disarm(&sp, at, at + LEN, away, NULL);
	assert_false(is_armed(at));
}

/* mremap could put it down here, and be heard of only afterwards */
static void nothing_is_disarmed_while_anything_is_away_anywhere(void **state)
{
	uint64_t seq;

	(void)state;
	assert_int_equal(vma_arm_begin(&sp, at, at + LEN, &seq), 0);
	vma_arm_end(&sp);
	something_is_away = true;
	vma_disarm(&sp, at, at + LEN, away, NULL);
	assert_true(is_armed(at));
	something_is_away = false;
	vma_disarm(&sp, at, at + LEN, away, NULL);
	assert_false(is_armed(at));
}

static void what_is_away_stays_watched(struct entry e)
{
	struct entry_slot *b = table_block(&sp.table, at + BLOCK_BYTES, true);
	uint64_t seq;

	assert_int_equal(vma_arm_begin(&sp, at, at + LEN, &seq), 0);
	vma_arm_end(&sp);
	atomic_store(&b->word, e.bits);
	vma_disarm(&sp, at, at + LEN, away, NULL);
	assert_true(is_armed(at + BLOCK_BYTES));
	atomic_store(&b->word, ENTRY_HUGE); /* home; that it may hold THPs does not matter */
	vma_disarm(&sp, at, at + LEN, away, NULL);
	assert_false(is_armed(at + BLOCK_BYTES));
}

static void pages_on_a_device_stay_watched(void **state)
{
	(void)state;
	what_is_away_stays_watched(entry_on_device(1, 0, BLOCK_ORDER));
}

static void claimed_pages_stay_watched(void **state)
{
	(void)state;
	what_is_away_stays_watched(entry_migrating(1));
}

static void pages_about_to_be_discarded_stay_watched(void **state)
{
	(void)state;
	what_is_away_stays_watched(entry_zapped(7));
}

static void what_others_watch_is_refused(void **state)
{
	struct uffd x;
	uint64_t seq = 77;

	(void)state;
	assert_int_equal(uffd_try_open(&x, UFFD_FULL, UFFD_NO_EVENTS), 0);
	assert_int_equal(uffd_register(&x, at, at + BLOCK_BYTES), 0);
	assert_int_equal(vma_arm_begin(&sp, at, at + BLOCK_BYTES, &seq), UHMM_SKIP_REFUSED + 1);
	assert_int_equal(seq, 77);
	assert_int_equal(sp.nr_arming, 0);
	uffd_close(&x);
}

static void without_memory_it_stays(void **state)
{
	uint64_t seq;

	(void)state;
	fail_set("register:1", NULL);
	assert_int_equal(vma_arm_begin(&sp, at, at + BLOCK_BYTES, &seq), UHMM_SKIP_NO_ROOM + 1);
	assert_int_equal(sp.nr_arming, 0);
	fail_set("register:1:3", NULL);
	assert_int_equal(vma_arm_begin(&sp, at, at + BLOCK_BYTES, &seq), UHMM_SKIP_RACED + 1);
	assert_int_equal(sp.nr_arming, 0);
}

static void advice_and_setting_decide_about_huge_pages(void **state)
{
	char *huge = map_blocks(BLOCK_BYTES, true);
	enum sysinfo_thp thp = sysinfo_thp();

	(void)state;
	if (thp == THP_MADVISE) { /* with "always", even where it was advised against: the kernel decides */
		assert_true(vma_wants_huge(&sp, addr_of(huge)));
		assert_false(vma_wants_huge(&sp, at));
	} else {
		assert_int_equal(vma_wants_huge(&sp, addr_of(huge)), thp == THP_ALWAYS);
	}
	fail_set(NULL, "thp");
	assert_false(vma_wants_huge(&sp, addr_of(huge)));
	unmap_blocks(huge, BLOCK_BYTES);
}

static void nothing_between_is_wanted_where_advice_is_against_it(void **state)
{
	struct sysinfo_mthp m = sysinfo_mthp();
	char *huge = map_blocks(BLOCK_BYTES, true);

	(void)state;
	atomic_store(&sp.mthp_read_ns, 0);
	assert_int_equal(vma_mthp_orders(&sp, addr_of(huge)), m.always | m.advised);
	assert_int_equal(vma_mthp_orders(&sp, at), 0); /* MADV_NOHUGEPAGE */
	/* what was read a moment ago stands: as if it had been these */
	atomic_store(&sp.mthp, 1u << 2 | (1u << 4 | 1u << 2) << 16);
	assert_int_equal(vma_mthp_orders(&sp, addr_of(huge)), 1u << 4 | 1u << 2);
	assert_int_equal(vma_mthp_orders(&sp, at), 0);
	atomic_store(&sp.mthp_read_ns, 1); /* long ago */
	assert_int_equal(vma_mthp_orders(&sp, addr_of(huge)), m.always | m.advised);
	unmap_blocks(huge, BLOCK_BYTES);
}

/* A range of holes asks for each of its blocks. */
static void the_advice_of_an_armed_mapping_is_looked_up_once(void **state)
{
	char *other = map_blocks(2 * BLOCK_BYTES, true);
	uint64_t seq;

	(void)state;
	if (sysinfo_thp() != THP_MADVISE)
		skip();
	assert_int_equal(vma_arm_begin(&sp, addr_of(other), addr_of(other) + 2 * BLOCK_BYTES, &seq), 0);
	assert_true(vma_wants_huge(&sp, addr_of(other)));
	assert_int_equal(madvise(other, 2 * BLOCK_BYTES, MADV_NOHUGEPAGE), 0);
	assert_true(vma_wants_huge(&sp, addr_of(other) + BLOCK_BYTES));
	assert_false(vma_wants_huge(&sp, at)); /* another mapping */
	assert_false(vma_wants_huge(&sp, addr_of(other)));
	assert_int_equal(madvise(other, 2 * BLOCK_BYTES, MADV_HUGEPAGE), 0);
	vma_arm_end(&sp);
	assert_true(vma_wants_huge(&sp, addr_of(other)));
	assert_true(uffd_release(&sp.uffd, addr_of(other), addr_of(other) + 2 * BLOCK_BYTES));
	unmap_blocks(other, 2 * BLOCK_BYTES);
}

/* One page that is the process's own stood for all that follow it: those were copied, though a child shared them. */
static void what_a_living_child_shares_is_not_copied(void **state)
{
	pid_t pid;

	(void)state;
	memset(mem, 1, BLOCK_BYTES);
	pid = fork();
	while (!pid)
		pause();
	mem[0] = mem[2 * PAGE_BYTES] = mem[3 * PAGE_BYTES] = 2;
	assert_int_equal(vma_take_back(&sp, at, at + BLOCK_BYTES, false), 3 * PAGE_BYTES);
	assert_true(pagemap_exclusive(sp.pagemap_fd, at));
	assert_false(pagemap_exclusive(sp.pagemap_fd, at + PAGE_BYTES));
	assert_false(pagemap_exclusive(sp.pagemap_fd, at + BLOCK_BYTES - PAGE_BYTES));
	assert_int_equal(vma_take_back(&sp, at, at + 2 * PAGE_BYTES, true), 2 * PAGE_BYTES);
	assert_true(pagemap_exclusive(sp.pagemap_fd, at + PAGE_BYTES));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(vma_take_back(&sp, at, at + BLOCK_BYTES, false), BLOCK_BYTES);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(plain_memory_can_go_up_to_the_end_asked),
		CASE(a_gap_is_unmapped),
		CASE(protection_decides),
		CASE(shared_memory_and_files_cannot_go),
		CASE(own_memory_in_the_same_mapping_is_cut_out),
		CASE(a_failed_lookup_is_forwarded),
		CASE(arming_a_piece_watches_its_mapping_and_no_more),
		CASE(arming_again_tells_the_new_sequence),
		CASE(nothing_is_disarmed_while_somebody_arms),
		CASE(nothing_is_disarmed_while_anything_is_away_anywhere),
		CASE(pages_on_a_device_stay_watched),
		CASE(claimed_pages_stay_watched),
		CASE(pages_about_to_be_discarded_stay_watched),
		CASE(what_others_watch_is_refused),
		CASE(without_memory_it_stays),
		CASE(advice_and_setting_decide_about_huge_pages),
		CASE(nothing_between_is_wanted_where_advice_is_against_it),
		CASE(the_advice_of_an_armed_mapping_is_looked_up_once),
		CASE(what_a_living_child_shares_is_not_copied),
	};
	int r;

	if (space_start())
		return skip_all("no full userfaultfd with MOVE and events here");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
