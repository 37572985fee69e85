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
#define MAX_BUSY  12 /* of one that is said to be pinned: some yields */

/* Gives up what an event has marked. Return: the pages that are left. */
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
	dead = p->copy;
	pageset_join(&dead, &p->clear);
	return dead;
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

/* At that value of event_seq all of [start, end) was watched. */
struct armed {
	uint64_t start, end, seq;
};

/*
 * Enters the gate with [start, *end) armed. If events have come since, there may be other mappings now, and each has to be armed by
 * itself: what is there is armed, if it is fit, and *end becomes less where its mapping ends. Return: inside the gate; else it is not.
 */
static bool enter_armed(struct piece *p, uint64_t start, uint64_t *end, struct armed *a)
{
	struct claim *c = &p->claim;
	struct space *sp = c->sp;

	for (;;) {
		struct vma_piece vp;

		claim_enter(c);
		if (start >= a->start && start < a->end && a->seq == atomic_load(&sp->event_seq)) {
			*end = min_u64(*end, a->end);
			return true;
		}
		claim_leave(c);

		if (vma_piece_at(sp, start, block_down(start) + BLOCK_BYTES, &vp) || !(vp.movable || (p->read_only && vp.read_only)) ||
		    vma_arm_again(sp, start, vp.end, &a->seq))
			return false;
		a->start = start;
		a->end = vp.end;
	}
}

#define RUN_CHANGED 100 /* beside UFFD_E_*: an event took some of the pages, or mremap all of the block; nothing was tried */

/* Pages of one block that one MOVE takes: those with bytes and the holes between them, all of this claim. */
struct span {
	unsigned first, end;
	bool holes;
};

/* The last page is one with bytes, too. */
static void span_trim(struct span *s, const struct pageset *todo)
{
	while (s->end > s->first && !pageset_has(todo, s->end - 1))
		s->end--;
	s->holes = pageset_run_end(todo, s->first) < s->end;
}

/*
 * A claimed hole of a watched mapping stays one, so passing over it takes nothing that is not ours; the first page is one
 * with bytes. Pages of others - on a device, in another claim, about to be discarded - are in neither set, and end the span.
 */
static struct span next_span(const struct piece *p, const struct pageset *todo)
{
	struct span s = { .first = pageset_next(todo, 0) };
	struct pageset both = *todo;

	pageset_join(&both, &p->clear);
	s.end = pageset_run_end(&both, s.first);
	span_trim(&s, todo);
	return s;
}

/* MOVE wants a writable mapping. A page for which that cannot be had stays. */
static int move_lent(struct space *sp, struct piece *p, uint64_t to, uint64_t start, uint64_t len, unsigned flags)
{
	uint64_t moved;
	int r;

	if (p->read_only && map_protect(start, len, true))
		return UFFD_E_NO_MEMORY;
	r = uffd_move(&sp->uffd, to, start, len, flags, &moved);
	if (!r || moved)
		space_no_message_was_unread(sp);
	while (p->read_only && map_protect(start, len, false) == -ENOMEM)
		thread_pause(40); /* the mapping was cut for it, and can only become one again */
	return r;
}

/*
 * One try to move a span, which becomes shorter where its mapping ends. Return: 0 when all of it has moved; an outcome: some of
 * it may have.
 */
static int move_span(struct space *sp, struct piece *p, struct span *s, const struct pageset *todo, const struct pageset *isolated,
		     struct armed *a, struct tally *t)
{
	uint64_t base = p->claim.addr, start = base + s->first * PAGE_BYTES, end = base + s->end * PAGE_BYTES;
	struct pageset left;
	int r = RUN_CHANGED;

	if (!enter_armed(p, start, &end, a))
		return UFFD_E_MISSING;
	s->end = s->first + (unsigned)((end - start) >> PAGE_SHIFT);
	span_trim(s, todo);
	left = drop_dead(p, isolated, t);
	if (pageset_run_end(&left, s->first) >= s->end && base == p->claim.addr)
		r = move_lent(sp, p, p->slot + s->first * PAGE_BYTES, start, (uint64_t)(s->end - s->first) * PAGE_BYTES,
			      UFFD_DONTWAKE | (s->holes ? UFFD_SRC_HOLES : 0));
	claim_leave(&p->claim);
	return r;
}

/*
 * What of [first, end) lies in the slot. A MOVE that stops in the middle may have moved a page more than it says (seen on
 * Linux 6.18, one in some ten thousand), also when it says that it has moved none: believing it would lose that page. The
 * slot was empty before, so what is there has been moved. To be known before an event is looked at again, because what
 * mremap takes along depends on it.
 */
static void find_moved(struct space *sp, const struct piece *p, struct span s, struct pageset *ret_done)
{
	uint64_t at = p->slot + s.first * PAGE_BYTES, stop = p->slot + s.end * PAGE_BYTES;
	struct pm_run runs[256];
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

/*
 * After a MOVE of all of the span: a page that is not in the slot was a hole. The kernel may take back what the program has
 * given up by MADV_FREE.
 */
static void settle_span(struct piece *p, struct span s, const struct pageset *done, struct pageset *todo)
{
	for (unsigned i = pageset_next(todo, s.first); i < s.end; i = pageset_next(todo, i + 1)) {
		if (pageset_has(done, i))
			continue;
		pageset_del(todo, i);
		pageset_del(&p->copy, i);
		pageset_add(&p->clear, i);
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

/*
 * Is it worth another try? On a loaded machine a THP that is mapped by pages answers EBUSY now and then, and a page EINVAL, and go a
 * moment later (seen on Linux 6.18): only a page that others map too, or a locked one, is known to stay.
 */
static bool may_go_later(struct space *sp, uint64_t addr, int r, unsigned tries)
{
	switch (r) {
	case UFFD_E_AGAIN:
		return tries < MAX_TRIES;
	case UFFD_E_BUSY:
		return tries < MAX_BUSY && pagemap_exclusive(sp->pagemap_fd, addr);
	case UFFD_E_REFUSED:
		return tries < MAX_BUSY && !map_is_locked(addr, PAGE_BYTES);
	default:
		return false;
	}
}

/* A page is busy, or an event unread: lets time pass. Return: an event is unread still, though many were read. */
static bool wait_for_page(struct space *sp, unsigned tries, uint64_t since)
{
	thread_pause(tries);
	for (unsigned n = 4; uffd_held_up(&sp->uffd, sp->canary); n++) {
		if (gate_events(&sp->gate) - since > MAX_MESSAGES)
			return true;
		thread_pause(n);
	}
	return false;
}

/* Moves the pages of copy, span by span; those that refuse are left behind. */
static void isolate_runs(struct space *sp, struct piece *p, struct tally *t)
{
	struct pageset todo = p->copy, done = { 0 };
	struct armed a = { p->claim.addr, p->claim.addr + BLOCK_BYTES, p->seq };
	uint64_t since = gate_events(&sp->gate);
	unsigned tries = 0;

	while (!pageset_empty(&todo)) {
		struct span s = next_span(p, &todo);
		unsigned first = s.first;
		int r = move_span(sp, p, &s, &todo, &done, &a, t);

		if (r == UFFD_E_REFUSED)
			a.end = a.start; /* mprotect() and its like cut mappings, and nobody is told */
		if (!r && !s.holes)
			pageset_add_range(&done, first, s.end);
		else if (r != RUN_CHANGED)
			find_moved(sp, p, s, &done);
		/* what has come out of a hole had come there before the mapping was watched again: enter_armed() */
		pageset_remove(&p->clear, &done);
		if (!r)
			settle_span(p, s, &done, &todo);
		pageset_remove(&todo, &done);
		if (r == RUN_CHANGED || !pageset_has(&todo, first))
			tries = 0;
		else if (!may_go_later(sp, p->claim.addr + first * PAGE_BYTES, r, ++tries))
			leave_behind(sp, p, first, &done, r, t);
		else if (wait_for_page(sp, tries, since))
			leave_behind(sp, p, first, &done, UFFD_E_MISSING, t);
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
