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
#include "base/clock.h"
#include "base/err.h"
#include "migrate/migrate.h"
#include "os/map.h"
#include "os/pagemap.h"
#include "os/thread.h"
#include "space/vma.h"

#define MAX_TRIES 60 /* of a page that is busy: some yields, then a millisecond of sleeps */

/* Pages leave the piece and stay in the program. @mapped: they are still there. */
static void give_up(struct piece *p, const struct pageset *pages, enum uhmm_skip why, struct tally *t)
{
	unsigned n = pageset_count(pages);

	if (!n)
		return;
	tally_skip(t, why, n);
	pageset_remove(&p->copy, pages);
	pageset_remove(&p->clear, pages);
	if (claim_end_system(&p->claim, pages, true))
		claim_wake(&p->claim);
}

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
	give_up(p, &dead, UHMM_SKIP_RACED, t);
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
static bool enter_armed(struct claim *c, uint64_t start, uint64_t end, uint64_t *seq)
{
	struct space *sp = c->sp;

	for (;;) {
		struct vma_piece vp;

		claim_enter(c);
		if (*seq == atomic_load(&sp->event_seq))
			return true;
		claim_leave(c);

		if (vma_piece_at(sp, start, end, &vp) || !vp.movable || vp.end < end || vma_arm_again(sp, start, end, seq))
			return false;
	}
}

/* Moves one run; retries while it is worth it. Return: 0 or the last outcome; @ret_moved pages moved. */
static int move_run(struct space *sp, struct piece *p, unsigned first, unsigned end, const struct pageset *isolated,
		    uint64_t *seq, unsigned *ret_moved, struct tally *t)
{
	uint64_t start = p->claim.addr + first * PAGE_BYTES, len = (uint64_t)(end - first) * PAGE_BYTES, moved = 0;
	int r = UFFD_E_AGAIN;

	*ret_moved = 0;
	for (unsigned tries = 0; r == UFFD_E_AGAIN && tries < MAX_TRIES; tries++) {
		struct pageset left;

		if (tries)
			thread_pause(tries);
		for (unsigned n = 4; tries && uffd_held_up(&sp->uffd, sp->canary); n++)
			thread_pause(n);
		if (!enter_armed(&p->claim, start, start + len, seq))
			return UFFD_E_MISSING;
		left = drop_dead(p, isolated, t);
		/* an event took some of the run's pages, or mremap all of the block: the caller makes new runs of what is left */
		if (pageset_run_end(&left, first) < end || start != p->claim.addr + first * PAGE_BYTES) {
			claim_leave(&p->claim);
			return 0;
		}
		r = uffd_move(&sp->uffd, p->slot + first * PAGE_BYTES, start, len, UFFD_DONTWAKE, &moved);
		claim_leave(&p->claim);
		if (moved) {
			*ret_moved = (unsigned)(moved >> PAGE_SHIFT);
			return 0;
		}
	}
	return r;
}

/*
 * What of [first, end) lies in the slot. A MOVE that stops in the middle may have moved a page more than it says (seen on
 * Linux 6.18, one in some ten thousand): believing it would lose that page. The slot was empty before, so what is there
 * has been moved.
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
	give_up(p, &pages, reason(sp, p->claim.addr + first * PAGE_BYTES, r), t);
}

/* Moves the pages of copy, run by run; those that refuse are left behind. */
static void isolate_runs(struct space *sp, struct piece *p, struct tally *t)
{
	struct pageset todo = p->copy, done = { 0 };
	uint64_t seq = p->seq;
	unsigned first;

	while ((first = pageset_next(&todo, 0)) < PAGES_PER_BLOCK) {
		unsigned end = pageset_run_end(&todo, first), moved;
		int r = move_run(sp, p, first, end, &done, &seq, &moved, t);

		if (first + moved == end)
			pageset_add_range(&done, first, end);
		else
			find_moved(sp, p, first, end, &done);
		pageset_remove(&todo, &done);
		if (r && pageset_has(&todo, first))
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
	if (p->kind == PIECE_HUGE && pageset_empty(&p->copy))
		p->kind = PIECE_CLEAR;
}

void isolate_pages(struct mover *mv, struct piece *p, struct tally *t)
{
	struct space *sp = mv->m->sp;

	if (pageset_empty(&p->copy))
		return;
	p->slot = staging_take_empty(&mv->m->staging, p->kind == PIECE_PAGES);
	if (!p->slot) {
		struct pageset all = p->copy;

		give_up(p, &all, UHMM_SKIP_NO_ROOM, t);
		return;
	}
	p->slot_holds = SLOT_DIRTY;
	isolate_runs(sp, p, t);
	settle_zero(sp, p);
	if (p->kind == PIECE_HUGE && !pageset_empty(&p->copy) && is_huge(sp, p->slot))
		p->slot_holds = SLOT_THP;
}
