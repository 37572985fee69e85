/* SPDX-License-Identifier: MIT */
/*
 * MOVE takes pages out of the program's page table into a staging slot, atomically towards every thread.
 *
 * It is done inside the gate, on the side of moves. There, every event that has been read has been applied; one that is
 * still unread makes MOVE answer EAGAIN. So inside the gate two things can be relied on: pages that the program has
 * dropped are marked DEAD, and if event_seq is what it was when the range was armed, it is still armed - taking a page
 * out of memory that nobody watches would lose it.
 *
 * A page may be refused: pinned, shared after fork, locked. It then leaves the claim and is counted under its reason.
 * A pinned base page answers EAGAIN, too, and so does one that is busy for a moment: while no event is unread, trying has
 * a bound.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "migrate/migrate.h"
#include "os/map.h"
#include "os/pagemap.h"
#include "os/thread.h"
#include "space/vma.h"

#define MAX_TRIES 60 /* of a page that is busy: some yields, then a millisecond of sleeps */

/* Gives up what an event has marked. Return: the pages of copy that are left. */
static struct pageset drop_dead(struct piece *p, const struct pageset *isolated, struct tally *t)
{
	struct pageset dead, moved;

	claim_look(&p->claim, &dead);
	/* what mremap takes away stays in the program, at its new place */
	moved = p->claim.moved;
	pageset_remove(&moved, isolated);
	pageset_join(&dead, &moved);
	if (!p->claim.whole && p->kind != PIECE_PAGES)
		p->kind = PIECE_PAGES; /* an event has split the block */
	release_pages(p, &dead, UHMM_SKIP_RACED, t);
	return p->copy;
}

/* Why MOVE refuses a page, as far as it can be told from outside. */
static enum uhmm_skip reason(struct space *sp, uint64_t addr, int r)
{
	switch (r) {
	case UFFD_E_BUSY:
		return pagemap_exclusive(sp->pagemap_fd, addr) ? UHMM_SKIP_PINNED : UHMM_SKIP_FORKED;
	case UFFD_E_REFUSED:
		return map_is_locked(addr, PAGE_BYTES) ? UHMM_SKIP_LOCKED : UHMM_SKIP_RACED;
	case UFFD_E_NO_MEMORY:
		return UHMM_SKIP_NO_ROOM;
	case UFFD_E_AGAIN:
		return UHMM_SKIP_PINNED;
	default:
		return UHMM_SKIP_RACED;
	}
}

/*
 * Enters the gate with [start, end) armed. If events have come since, the mapping may be another one now: what is there is
 * armed, if it is fit. Return: inside the gate; else it is not.
 */
static bool enter_armed(struct piece *p, uint64_t start, uint64_t end, uint64_t *seq)
{
	struct claim *c = &p->claim;
	struct space *sp = c->sp;

	for (;;) {
		struct vma_piece vp;

		claim_enter(c);
		if (*seq == atomic_load(&sp->event_seq))
			return true;
		claim_leave(c);

		if (vma_piece_at(sp, start, end, &vp) || !(vp.movable || (p->read_only && vp.read_only)) || vp.end < end ||
		    vma_arm_again(sp, start, end, seq))
			return false;
	}
}

#define RUN_CHANGED 100 /* beside UFFD_E_*: an event took some of the pages, or mremap all of the block; nothing was tried */

/* MOVE wants a writable mapping. A page for which that cannot be had stays. */
static int move_lent(struct space *sp, struct piece *p, uint64_t to, uint64_t start, uint64_t len)
{
	uint64_t moved;
	int r;

	if (p->read_only && map_protect(start, len, true))
		return UFFD_E_NO_MEMORY;
	r = uffd_move(&sp->uffd, to, start, len, UFFD_DONTWAKE, &moved);
	while (p->read_only && map_protect(start, len, false) == -ENOMEM)
		thread_pause(40); /* the mapping was cut for it, and can only become one again */
	return r;
}

/* One try to move a run. Return: 0 when all of it has moved; an outcome: some of it may have. */
static int move_run(struct space *sp, struct piece *p, unsigned first, unsigned end, const struct pageset *isolated,
		    uint64_t *seq, struct tally *t)
{
	uint64_t start = p->claim.addr + first * PAGE_BYTES, len = (uint64_t)(end - first) * PAGE_BYTES;
	struct pageset left;
	int r = RUN_CHANGED;

	if (!enter_armed(p, start, start + len, seq))
		return UFFD_E_MISSING;
	left = drop_dead(p, isolated, t);
	if (pageset_run_end(&left, first) >= end && start == p->claim.addr + first * PAGE_BYTES)
		r = move_lent(sp, p, p->slot + first * PAGE_BYTES, start, len);
	claim_leave(&p->claim);
	return r;
}

/*
 * What of [first, end) lies in the slot. A MOVE that stops in the middle may have moved a page more than it says (seen on
 * Linux 6.18, one in some ten thousand), also when it says that it has moved none: believing it would lose that page. The
 * slot was empty before, so what is there has been moved. To be known before an event is looked at again, because what
 * mremap takes along depends on it.
 */
static void find_moved(struct space *sp, const struct piece *p, unsigned first, unsigned end, struct pageset *ret_done)
{
	uint64_t at = p->slot + first * PAGE_BYTES, stop = p->slot + end * PAGE_BYTES;
	struct pm_run runs[32];
	unsigned nr;

	while (at < stop) {
		while (pagemap_scan(sp->pagemap_fd, at, stop, runs, ARRAY_LEN(runs), &nr, &at))
			thread_pause(40); /* without the answer a page could be lost */
		for (unsigned k = 0; k < nr; k++)
			if (runs[k].bits)
				pageset_add_range(ret_done, page_in_block(runs[k].start),
						  page_in_block(runs[k].start) +
							  (unsigned)((runs[k].end - runs[k].start) >> PAGE_SHIFT));
	}
}

/* The page at @first will not go. A THP goes whole or not at all, unless a part of it has left already. */
static void leave_behind(struct space *sp, struct piece *p, unsigned first, const struct pageset *done, int r, struct tally *t)
{
	struct pageset pages = { 0 };

	if (p->claim.whole && pageset_empty(done)) {
		pages = pageset_all;
	} else {
		while (claim_split(&p->claim))
			thread_pause(40);
		p->kind = PIECE_PAGES;
		pageset_add(&pages, first);
	}
	release_pages(p, &pages, reason(sp, p->claim.addr + first * PAGE_BYTES, r), t);
}

/* A page is busy, or an event unread: lets time pass. */
static void wait_for_page(struct space *sp, unsigned tries)
{
	thread_pause(tries);
	for (unsigned n = 4; uffd_held_up(&sp->uffd, sp->canary); n++)
		thread_pause(n);
}

/* Moves the pages of copy, run by run; those that refuse are left behind. */
static void isolate_runs(struct space *sp, struct piece *p, struct tally *t)
{
	struct pageset todo = p->copy, done = { 0 };
	uint64_t seq = p->seq;
	unsigned first, tries = 0;

	while ((first = pageset_next(&todo, 0)) < PAGES_PER_BLOCK) {
		unsigned end = pageset_run_end(&todo, first);
		int r = move_run(sp, p, first, end, &done, &seq, t);

		if (!r)
			pageset_add_range(&done, first, end);
		else if (r != RUN_CHANGED)
			find_moved(sp, p, first, end, &done);
		pageset_remove(&todo, &done);
		if (r == RUN_CHANGED || !pageset_has(&todo, first))
			tries = 0;
		else if (r == UFFD_E_AGAIN && ++tries < MAX_TRIES)
			wait_for_page(sp, tries);
		else
			leave_behind(sp, p, first, &done, r, t);
		/* what was left behind, or taken by an event, is no longer in copy */
		pageset_keep(&todo, &p->copy);
	}
	/* what has moved, less what an event took from us afterwards */
	p->copy = done;
	pageset_keep(&p->copy, &p->claim.mine);
}

/* Pages that are the zero page, now that nobody can write to them, need not be copied. */
static void settle_zero(struct space *sp, struct piece *p)
{
	pageset_for_each(&p->zero, i) {
		uint64_t at = p->slot + i * PAGE_BYTES;
		int bits = pageset_has(&p->copy, i) ? pagemap_uniform(sp->pagemap_fd, at, at + PAGE_BYTES) : 0;

		if (bits > 0 && bits & PM_ZERO) {
			pageset_del(&p->copy, i);
			pageset_add(&p->clear, i);
		}
	}
	if (p->kind == PIECE_HUGE && pageset_empty(&p->copy)) {
		p->kind = PIECE_CLEAR;
	} else if (p->kind == PIECE_HUGE) {
		/* the huge zero page was split by a store: the slot has all of it, and one folio is copied whole */
		pageset_join(&p->copy, &p->clear);
		memset(&p->clear, 0, sizeof(p->clear));
	}
}

void isolate_pages(struct mover *mv, struct piece *p, struct tally *t)
{
	struct space *sp = mv->m->sp;

	if (pageset_empty(&p->copy))
		return;
	p->slot = staging_take_empty(&mv->m->staging, p->kind == PIECE_PAGES);
	if (!p->slot) {
		struct pageset all = p->copy;

		release_pages(p, &all, UHMM_SKIP_NO_ROOM, t);
		return;
	}
	p->slot_holds = SLOT_DIRTY;
	p->claim.staged = p->slot;
	isolate_runs(sp, p, t);
	settle_zero(sp, p);
	if (p->kind == PIECE_HUGE && !pageset_empty(&p->copy) && is_huge(sp, p->slot))
		p->slot_holds = SLOT_THP;
}
