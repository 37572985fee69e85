/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_MIGRATE_H
#define TESTS_UNIT_MIGRATE_H

/*
 * For the tests of src/migrate and src/fault: four blocks of the program's memory, a migrator with one mover, and one
 * device on the fake driver. Pages really move; a page that is touched while it is away is filled with zeros
 * (unit_space.h), so contents are compared where the page is meant to be.
 */

#include <sys/syscall.h>

#include "mem/check.h"
#include "migrate/migrate.h"
#include "space/vma.h"

#include "fake_driver.h"
#include "unit_space.h"

#define NR_BLOCKS 4
#define LEN       (NR_BLOCKS * BLOCK_BYTES)
#define INDEX     3 /* of the device */

static char *mem; /* LEN between guards */
static uint64_t at;
static struct migrator mig;
static struct mover mv;
static struct tally t;

/* one piece, for the phases */
static struct piece pc;
static uint64_t piece_offsets[PAGES_PER_BLOCK];
static struct control_words words;
static unsigned nr_arms;

static inline uint64_t block(unsigned b) { return at + b * BLOCK_BYTES; }
static inline uint64_t page(unsigned b, unsigned i) { return block(b) + i * PAGE_BYTES; }
static inline struct entry entry_at(unsigned b, unsigned i) { return table_peek(&sp.table, page(b, i)); }
static inline uint64_t used(void) { return buddy_used_bytes(&d.buddy); }

static inline struct pageset pages(unsigned first, unsigned end)
{
	struct pageset s = { 0 };

	pageset_add_range(&s, first, end);
	return s;
}

static inline bool same_set(const struct pageset *a, struct pageset b)
{
	return !memcmp(a, &b, sizeof(b));
}

/* ---- contents ---- */

/* Fills pages with words that say which page it is. */
static inline void fill(unsigned b, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		for (unsigned k = 0; k < PAGE_BYTES / 8; k++)
			((uint64_t *)(uintptr_t)page(b, i))[k] = page(b, i) * 0x9e3779b97f4a7c15u + k;
}

/* Do the pages at @bytes say that they are those of @b, from @first? */
static inline bool holds(const void *bytes, unsigned b, unsigned first, unsigned end)
{
	const uint64_t *w = bytes;

	for (unsigned i = first; i < end; i++)
		for (unsigned k = 0; k < PAGE_BYTES / 8; k++)
			if (*w++ != page(b, i) * 0x9e3779b97f4a7c15u + k)
				return false;
	return true;
}

static inline bool zeros_at(const void *bytes, unsigned n)
{
	const uint64_t *w = bytes;

	for (unsigned k = 0; k < n * PAGE_BYTES / 8; k++)
		if (w[k])
			return false;
	return true;
}

/* The program has them, with their bytes. Looks at the page table first: touching what is away would fill it. */
static inline bool at_home(unsigned b, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		if (entry_state(entry_at(b, i)) != ENTRY_SYSTEM || bits_at(page(b, i), PAGE_BYTES) <= 0)
			return false;
	return holds(mem + (page(b, first) - at), b, first, end);
}

/* What the device has of a page. */
static inline const char *bytes_away(unsigned b, unsigned i)
{
	struct entry e = entry_at(b, i);

	return memory + entry_offset(e) + (entry_order(e) == BLOCK_ORDER ? i * PAGE_BYTES : 0);
}

/* The device has them, with their bytes, and the program has nothing there. */
static inline bool on_device(unsigned b, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++) {
		struct entry e = entry_at(b, i);

		if (entry_state(e) != ENTRY_DEVICE || entry_device(e) != INDEX || bits_at(page(b, i), PAGE_BYTES) != 0)
			return false;
		if (!holds(bytes_away(b, i), b, i, i + 1))
			return false;
	}
	return true;
}

/* Fills a block; skips the case where the host has no THP for it. */
static inline void fill_thp(unsigned b)
{
	fill(b, 0, PAGES_PER_BLOCK);
	if (!is_huge(&sp, block(b)))
		skip();
}

/* ---- a case ---- */

static inline void forget_words(void)
{
	for (uint64_t addr = at; addr < at + LEN; addr += BLOCK_BYTES) {
		struct entry_slot *b = table_block(&sp.table, addr, true);

		block_lock(b);
		if (entry_state(entry_get(b)) == ENTRY_TABLE) {
			for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
				atomic_store(&entry_table(entry_get(b))[i].word, 0);
			block_collapse(&sp.table, b);
		}
		atomic_store(&b->word, ENTRY_LOCK);
		block_unlock(b);
	}
}

static inline int open_on(const char *driver)
{
	if (open_dev(driver))
		return -1;
	d.index = INDEX;
	atomic_store(&mig.devices[INDEX], &d);
	return 0;
}

/* The case wants a device of other properties than the full one of FAKE_BYTES with all orders. */
static inline void reopen(const char *driver, struct uhmm_driver_props props)
{
	device_close(&d);
	memset(&d, 0, sizeof(d));
	fake.props = props;
	assert_int_equal(open_on(driver), 0);
}

static inline int start_case(bool huge)
{
	(void)reset(NULL);
	memset(&sp.counters, 0, sizeof(sp.counters));
	memset(&sp.departed, 0, sizeof(sp.departed));
	memset(&t, 0, sizeof(t));
	memset(&pc, 0, sizeof(pc));
	memset(&mig, 0, sizeof(mig));
	pc.folios.offset = piece_offsets;
	words = (struct control_words){ 0 };
	mem = map_blocks(LEN, huge);
	at = addr_of(mem);
	forget_words();
	if (migrator_init(&mig, &sp, NR_BLOCKS * BLOCK_BYTES) || mover_init(&mv, &mig))
		return -1;
	return open_on("full");
}

static int make_small(void **state)
{
	(void)state;
	return start_case(false);
}

static int make_huge(void **state)
{
	(void)state;
	return start_case(true);
}

static inline struct buddy *buddy_of(void *ctx, unsigned index)
{
	(void)ctx;
	return index == INDEX ? &d.buddy : NULL;
}

/* What a case has left on the device comes home, and then nothing may be left over. */
static int unmake(void **state)
{
	uint64_t addr = 0;
	const char *wrong;

	(void)state;
	fail_set(NULL, NULL);
	fake.copy = fake.clear = fake.fence_wait = fake.folio_alloc = 0;
	fake.hook = fake.free_hook = NULL;
	if (atomic_load(&drain.pause))
		drain_resume();
	migrate_to_system(&mv, at, at + LEN, NULL, &t);
	wrong = mem_check(&sp.table, buddy_of, NULL, &addr);
	if (wrong)
		print_error("the entry of 0x%llx %s\n", (unsigned long long)addr, wrong);
	for (; nr_arms; nr_arms--)
		vma_arm_end(&sp);
	(void)uffd_release(&sp.uffd, at, at + LEN);
	forget_words();
	unmap_blocks(mem, LEN);
	mover_fini(&mv);
	migrator_fini(&mig);
	if (used() || atomic_load(&sp.nr_arming)) {
		print_error("%llu bytes of the device are still used, %u ranges armed\n", (unsigned long long)used(),
			    atomic_load(&sp.nr_arming));
		return -1;
	}
	device_close(&d);
	return wrong ? -1 : 0;
}

#undef CASE
#define SMALL(name) cmocka_unit_test_setup_teardown(name, make_small, unmake) /* in a mapping without THPs */
#define HUGE(name)  cmocka_unit_test_setup_teardown(name, make_huge, unmake)

/* Return: not 0 when the program cannot run here. */
static inline int migrate_start(void)
{
	return add_drivers() || space_start();
}

#define CANNOT_RUN "no full userfaultfd with MOVE and events here"

/* ---- phases ---- */

/* collect_block() of pages [first, end) of a block, in an armed mapping. */
static inline bool collect(unsigned b, unsigned first, unsigned end)
{
	uint64_t seq;

	assert_int_equal(vma_arm_begin(&sp, page(b, first), page(b, end), &seq), 0);
	nr_arms++;
	return collect_block(&mv, &pc, block(b), first, end, &d, seq, &words, &t);
}

static inline void isolate(unsigned b, unsigned first, unsigned end)
{
	assert_true(collect(b, first, end));
	isolate_pages(&mv, &pc, &t);
}

/* Up to the copy, and what comes after it. */
static inline void start(unsigned b, unsigned first, unsigned end)
{
	isolate(b, first, end);
	piece_start(&mv, &pc, &t);
}

static inline void finish(void) { piece_finish(&mv, &pc, &t); }

static inline void to_device(unsigned b, unsigned first, unsigned end)
{
	start(b, first, end);
	finish();
}

/* All of a block, in folios of at most @order. */
static inline void put_in(unsigned b, unsigned order)
{
	fill(b, 0, PAGES_PER_BLOCK);
	isolate(b, 0, PAGES_PER_BLOCK);
	pc.limit = order + 1;
	piece_start(&mv, &pc, &t);
	finish();
}

/* What is still claimed goes back to where it was. */
static inline void give_up(void)
{
	struct pageset all = pc.claim.mine;

	install_back(&pc, &all);
	release_piece(&mv, &pc);
}

/* As an event does: under the block's lock, with a word of its own for the page. */
static inline void mark_page(unsigned b, unsigned i, uint64_t add)
{
	struct entry_slot *s, *w = table_block(&sp.table, block(b), true);

	assert_int_equal(split_block(&mig, block(b)), 0);
	block_lock(w);
	(void)block_page(w, i, &s);
	entry_mark(s, add, 0);
	block_unlock(w);
}

static inline void mark_block(unsigned b, uint64_t add)
{
	struct entry_slot *w = table_block(&sp.table, block(b), true);

	block_lock(w);
	entry_mark(w, add, 0);
	block_unlock(w);
}

/* Somebody in the program discards a page, which nobody hears of until the drain goes on. */
static inline void *discard_run(void *arg)
{
	(void)map_discard((uintptr_t)arg, PAGE_BYTES);
	return NULL;
}

static inline pthread_t leave_an_event_unread(uint64_t addr)
{
	pthread_t id;

	drain_pause();
	id = spawn(discard_run, (void *)(uintptr_t)addr);
	while (!uffd_held_up(&sp.uffd, sp.canary))
		sched_yield();
	return id;
}

#endif
