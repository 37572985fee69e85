/* SPDX-License-Identifier: MIT */
/*
 * Claim first, look then. Once a block is claimed and armed, nothing can come into it: a fault waits, and the kernel's
 * own helpers leave watched holes alone. So one scan of the claimed block (0.5 us for a THP or a hole, 3 us for base
 * pages) is the truth about holes, while a scan before the claim would have to be checked again. Pages can still go:
 * swapped out, split, discarded. isolate sees that when it moves them.
 */
#include <string.h>

#include "base/err.h"
#include "migrate/migrate.h"
#include "os/pagemap.h"
#include "os/sysinfo.h"
#include "space/vma.h"

#define MAX_RUNS 515 /* every second page a hole, and the three that a scan wants spare */

/* Sorts [start, end) of the claimed block into pages with bytes and pages without. */
static int classify(struct piece *p, struct space *sp, uint64_t start, uint64_t end, bool *ret_huge)
{
	struct pm_run runs[MAX_RUNS];
	uint64_t at = start, stop;
	unsigned nr;
	int r;

	*ret_huge = false;
	while (at < end) {
		r = pagemap_scan(sp->pagemap_fd, at, end, runs, MAX_RUNS, &nr, &stop);
		if (r)
			return r;
		for (unsigned k = 0; k < nr; k++) {
			unsigned first = page_in_block(runs[k].start);
			unsigned last = first + (unsigned)((runs[k].end - runs[k].start) >> PAGE_SHIFT);
			bool there = runs[k].bits & (PM_PRESENT | PM_SWAPPED);

			/* the zero page must leave the page table too, or the program would write to its place unseen */
			pageset_add_range(there ? &p->copy : &p->clear, first, last);
			if (runs[k].bits & PM_ZERO)
				pageset_add_range(&p->zero, first, last);
			if (there && runs[k].bits & PM_HUGE && last - first == PAGES_PER_BLOCK)
				*ret_huge = true;
		}
		at = stop;
	}
	pageset_keep(&p->copy, &p->claim.mine);
	pageset_keep(&p->clear, &p->claim.mine);
	return 0;
}

/* What must not leave stays, a THP as a whole. Return: 0 or -ENOMEM. */
static int spare(struct piece *p, uint64_t addr, const struct control_words *words, bool huge, struct tally *t)
{
	struct pageset pages = { 0 };
	int r;

	for (unsigned k = 0; k < words->nr; k++)
		if (block_down(words->at[k]) == addr)
			pageset_add(&pages, page_in_block(words->at[k]));
	pageset_keep(&pages, &p->claim.mine);
	if (pageset_empty(&pages))
		return 0;
	if (p->claim.whole && huge) {
		pages = pageset_all;
	} else {
		r = claim_split(&p->claim);
		if (r)
			return r;
	}
	release_pages(p, &pages, UHMM_SKIP_THREAD, t);
	return 0;
}

/* How the claimed pages will travel; a whole claim that must go in pieces is split. Return: 0 or -ENOMEM. */
static int choose_kind(struct piece *p, struct space *sp, bool huge)
{
	struct claim *c = &p->claim;

	if (c->whole && huge) {
		p->kind = PIECE_HUGE;
		p->from_huge = true;
	} else if (c->whole && pageset_empty(&p->copy) && vma_wants_huge(sp, c->addr)) {
		p->kind = PIECE_CLEAR;
		p->from_huge = true;
	} else {
		p->kind = PIECE_PAGES;
		return claim_split(c);
	}
	/* inside the gate: an event may say that the block is another one now */
	claim_enter(c);
	block_lock(c->block);
	entry_mark(c->block, ENTRY_HUGE, 0);
	block_unlock(c->block);
	claim_leave(c);
	return 0;
}

static void count_misses(struct claim *c, struct claim_misses *misses, struct device *dev, struct tally *t)
{
	struct entry_slot *b = c->block, *s; /* the block may be another one at any moment */

	tally_pages(t, UHMM_SKIP_RACED, &misses->busy);
	if (pageset_empty(&misses->device))
		return;
	block_lock(b);
	pageset_for_each(&misses->device, i) {
		struct entry e = block_page(b, i, &s);
		enum uhmm_skip why = entry_device(e) == dev->index ? UHMM_SKIP_ABSENT : UHMM_SKIP_OTHER_DEVICE;

		/* it may have gone home since the claim */
		why = entry_state(e) == ENTRY_DEVICE ? why : UHMM_SKIP_RACED;
		tally_skip(t, why, 1);
		if (t->reasons)
			t->reasons[i] = (uint8_t)why;
	}
	block_unlock(b);
}

bool collect_block(struct mover *mv, struct piece *p, uint64_t addr, unsigned first, unsigned end, struct device *dev,
	     uint64_t seq, const struct control_words *words, struct tally *t)
{
	struct space *sp = mv->m->sp;
	uint64_t *offsets = p->folios.offset;
	struct claim_misses misses;
	bool huge;
	int r;

	memset(p, 0, sizeof(*p));
	p->folios.offset = offsets;
	p->dev = dev;
	p->seq = seq;
	r = claim_system(&p->claim, sp, addr, first, end, &misses);
	if (r) {
		tally_skip(t, UHMM_SKIP_NO_ROOM, end - first);
		return false;
	}
	count_misses(&p->claim, &misses, dev, t);
	if (claim_empty(&p->claim))
		return false;
	space_changed(sp, addr + first * PAGE_BYTES, addr + end * PAGE_BYTES, dev->index);

	r = classify(p, sp, addr + first * PAGE_BYTES, addr + end * PAGE_BYTES, &huge);
	if (!r)
		r = spare(p, addr, words, huge, t);
	if (!r && claim_empty(&p->claim))
		return false;
	if (!r)
		r = choose_kind(p, sp, huge);
	if (r) {
		tally_skip(t, UHMM_SKIP_NO_ROOM, pageset_count(&p->claim.mine));
		if (claim_end_system(&p->claim, &p->claim.mine, true))
			claim_wake(&p->claim);
		return false;
	}
	p->busy = true;
	return true;
}
