/* SPDX-License-Identifier: MIT */
/*
 * Deciding and ending. Between the two nothing can come into the pages, but the program may still drop some: they are DEAD, and are
 * dropped where they are installed, as in any migration.
 */
#include <sched.h>
#include <string.h>

#include "base/err.h"
#include "migrate/manual.h"
#include "os/thread.h"
#include "space/vma.h"

/* ---- what goes ---- */

/* A block that does not go as one any more: an entry for each page. @all: its pages. */
static void spread_src(struct manual *m, struct manual_piece *mp, const struct pageset *all)
{
	uint64_t head = m->src[mp->slot[0]].bits;
	const uint64_t one = ~(UHMM_MPFN_COMPOUND | (UINT64_C(15) << UHMM_MPFN_ORDER_SHIFT));

	mp->p.kind = PIECE_PAGES;
	pageset_for_each(all, i)
		m->src[mp->slot[i]].bits = (head & one) + (head & UHMM_MPFN_DEVICE_PRIVATE ? i * PAGE_BYTES : 0);
}

/* And its folio, which is in pieces now, has a destination for each. */
static void spread_dst(struct manual *m, struct manual_piece *mp, const struct pageset *all)
{
	pageset_for_each(all, i)
		m->dst[mp->slot[i]] = mpfn_on_device(mp->p.folios.offset[i], 0);
}

static void split_mine(struct manual *m, struct manual_piece *mp)
{
	while (claim_split(&mp->p.claim))
		sched_yield(); /* 4 KiB will be found; nothing can be given up here */
	while (mp->p.folios.whole && folios_break(m->dev, &mp->p.folios))
		sched_yield();
	spread_src(m, mp, &mp->p.claim.mine);
}

/* The destination of page @i, as a folio of @order that was the program's and is ours now. */
static bool take_folio(struct manual *m, struct uhmm_mpfn e, unsigned order, uint64_t *ret)
{
	if (!mpfn_has(e, UHMM_MPFN_DEVICE_PRIVATE) || uhmm_mpfn_order(e) != order ||
	    !loose_take(&m->all->loose, m->dev, uhmm_mpfn_offset(e), order))
		return false;
	*ret = uhmm_mpfn_offset(e);
	return true;
}

/* One folio for all of a block that has lost some: in pieces, and those of lost pages are freed. */
static void spread_folio(struct manual *m, struct piece *p, struct pageset *ret_placed)
{
	struct pageset lost = pageset_all;

	p->folios.whole = true;
	while (folios_break(m->dev, &p->folios))
		sched_yield();
	pageset_remove(&lost, &p->claim.mine);
	release_folios(m->dev, &p->folios, &lost);
	*ret_placed = p->claim.mine;
}

/* To the device. @ret_placed: pages that have a folio now; the others stay, for the reasons in m->reasons. */
static void place_by_hand(struct manual *m, struct manual_piece *mp, bool was_whole, struct pageset *ret_placed)
{
	struct piece *p = &mp->p;
	struct uhmm_mpfn head = m->dst[mp->slot[0] == NO_SLOT ? 0 : mp->slot[0]];
	uint64_t offset;

	*ret_placed = (struct pageset){ 0 };
	p->folios.whole = false;
	if (was_whole && mpfn_has(head, UHMM_MPFN_COMPOUND) && take_folio(m, head, BLOCK_ORDER, &offset)) {
		p->folios.offset[0] = offset;
		p->folios.whole = p->claim.whole;
		*ret_placed = pageset_all;
		if (!p->claim.whole) {
			spread_folio(m, p, ret_placed);
			spread_dst(m, mp, ret_placed);
		}
		return;
	}
	pageset_for_each(&p->claim.mine, i) {
		struct uhmm_mpfn e = m->dst[mp->slot[i]];

		m->reasons[i] = e.bits ? UHMM_SKIP_REFUSED : UHMM_SKIP_NO_ROOM;
		if (e.bits && take_folio(m, e, 0, &offset)) {
			folios_set(&p->folios, i, offset, 0);
			pageset_add(ret_placed, i);
		}
	}
	if (p->claim.whole && !pageset_empty(ret_placed))
		split_mine(m, mp);
}

/* Home: which pages have good bytes in the host's memory. */
static void place_home(struct manual *m, struct manual_piece *mp, bool was_whole, struct pageset *ret_placed)
{
	struct piece *p = &mp->p;
	struct uhmm_mpfn head = m->dst[mp->slot[0] == NO_SLOT ? 0 : mp->slot[0]];
	const uint64_t bad = UHMM_MPFN_DEVICE_PRIVATE;

	*ret_placed = (struct pageset){ 0 };
	if (was_whole && mpfn_has(head, UHMM_MPFN_COMPOUND) && !mpfn_has(head, bad) && uhmm_mpfn_order(head) == BLOCK_ORDER) {
		*ret_placed = p->claim.mine;
		return;
	}
	pageset_for_each(&p->claim.mine, i) {
		struct uhmm_mpfn e = m->dst[mp->slot[i]];

		m->reasons[i] = e.bits ? UHMM_SKIP_REFUSED : UHMM_SKIP_NO_ROOM;
		if (mpfn_has(e, UHMM_MPFN_VALID) && !mpfn_has(e, bad | UHMM_MPFN_COMPOUND))
			pageset_add(ret_placed, i);
	}
	if (p->claim.whole && !pageset_empty(ret_placed))
		split_mine(m, mp);
}

/* ---- what stays ---- */

/* Back where they were. */
static void put_back(struct manual *m, struct manual_piece *mp, const struct pageset *pages)
{
	struct pageset done;

	if (pageset_empty(pages))
		return;
	if (m->from == FROM_SYSTEM) {
		install_back(&mp->p, pages);
		return;
	}
	while (install_device(&mp->p.claim, m->dev, &mp->p.folios, pages, &done))
		sched_yield();
	pageset_remove(&mp->p.copy, pages);
}

static void stay_all(struct manual *m, struct manual_piece *mp, const struct pageset *pages)
{
	pageset_for_each(pages, i)
		manual_stays(m, mp, i, (enum uhmm_skip)m->reasons[i]);
}

/* A piece that nothing is left of. Its slot may have been given away before. */
static void release(struct mover *mv, struct manual *m, struct manual_piece *mp)
{
	if (!mp->p.busy || !claim_empty(&mp->p.claim))
		return;
	release_piece(mv, &mp->p);
	atomic_fetch_sub(&m->all->nr_blocks, 1);
}

/* ---- deciding ---- */

static void decide_piece(struct mover *mv, struct manual *m, struct manual_piece *mp)
{
	struct piece *p = &mp->p;
	bool was_whole = p->claim.whole;
	struct pageset dead, placed, stay;

	claim_look(&p->claim, &dead);
	if (was_whole && !p->claim.whole) { /* an event has split the block */
		if (m->from != FROM_SYSTEM)
			while (p->folios.whole && folios_break(m->dev, &p->folios))
				sched_yield();
		spread_src(m, mp, &p->claim.mine);
	}
	if (m->from == FROM_SYSTEM)
		place_by_hand(m, mp, was_whole, &placed);
	else
		place_home(m, mp, was_whole, &placed);

	stay = p->claim.mine;
	pageset_remove(&stay, &placed);
	/* dropped by the program: they go the same way, where nothing is installed for them */
	if (m->from == FROM_SYSTEM) {
		struct pageset folios = placed;

		pageset_keep(&folios, &dead);
		if (!pageset_empty(&folios))
			release_folios(m->dev, &p->folios, &folios);
	}
	pageset_for_each(&dead, i)
		m->reasons[i] = UHMM_SKIP_RACED;
	pageset_join(&stay, &dead);
	pageset_keep(&stay, &p->claim.mine);
	stay_all(m, mp, &stay);
	put_back(m, mp, &stay);
	release(mv, m, mp);
}

void manual_decide_step(struct mover *mv, void *arg)
{
	struct manual *m = arg;

	for (unsigned k = 0; k < m->nr_pieces; k++)
		if (m->piece[k].p.busy)
			decide_piece(mv, m, &m->piece[k]);
}

/* ---- ending ---- */

#define MAX_TRIES 100

/*
 * Holes were seen to be holes when they were claimed, and an event that changes that marks them. What is left to be sure of is that
 * none is unread.
 */
static void await_no_event(struct space *sp, struct piece *p)
{
	for (unsigned n = 0; n < MAX_TRIES; n++) {
		p->seq = atomic_load(&sp->event_seq);
		if (!holes_are_stale(sp, p))
			return;
		thread_pause(n);
	}
}

static void end_on_device(struct mover *mv, struct manual *m, struct manual_piece *mp)
{
	struct pageset all = mp->p.claim.mine;
	bool was_whole = mp->p.folios.whole;

	memset(m->reasons, WHY_NONE, sizeof(m->reasons));
	if (!pageset_empty(&mp->p.clear))
		await_no_event(mv->m->sp, &mp->p);
	install_piece(mv, &mp->p, &m->tally);
	if (was_whole && !mp->p.folios.whole) { /* an event has split it since */
		spread_src(m, mp, &all);
		spread_dst(m, mp, &all);
	}
	pageset_for_each(&all, i)
		if (m->reasons[i] != WHY_NONE)
			manual_stays(m, mp, i, (enum uhmm_skip)m->reasons[i]);
}

static void end_at_home(struct mover *mv, struct manual *m, struct manual_piece *mp)
{
	struct piece *p = &mp->p;
	struct pageset pages = p->claim.mine, left, dead;
	bool was_whole = p->claim.whole, huge, arrived;

	/* for the entries only: the same look is had again inside the gate when it counts */
	claim_look(&p->claim, &dead);
	if (was_whole && !p->claim.whole)
		spread_src(m, mp, &pages);
	pageset_for_each(&dead, i)
		manual_stays(m, mp, i, UHMM_SKIP_RACED);

	huge = p->claim.whole && p->slot;
	while (!huge && claim_split(&p->claim)) /* each page is ended by itself */
		sched_yield();
	arrived = install_home(&p->claim, &pages, manual_piece_host(m, mp), huge, &left);
	if (p->slot && huge)
		p->slot_holds = arrived && is_huge(mv->m->sp, p->claim.addr) ? SLOT_EMPTY : SLOT_DIRTY;
	mv->folios.whole = p->folios.whole;
	memcpy(mv->folios.offset, p->folios.offset, PAGES_PER_BLOCK * sizeof(*p->folios.offset));
	memcpy(mv->folios.order, p->folios.order, sizeof(p->folios.order));
	(void)home_settle(mv, &p->claim, m->dev, &pages, &left, !huge, m->tally.moved_folios);
	claim_wake_pages(&p->claim, &pages);
	if (huge && !arrived)
		make_huge_again(mv->m->sp, p->claim.addr);
	pageset_for_each(&left, i)
		manual_stays(m, mp, i, UHMM_SKIP_NO_ROOM);
}

static void end_piece(struct mover *mv, struct manual *m, struct manual_piece *mp)
{
	struct pageset all = mp->p.claim.mine;

	if (!m->decided) {
		memset(m->reasons, UHMM_SKIP_NO_ROOM, sizeof(m->reasons));
		stay_all(m, mp, &all);
		put_back(m, mp, &all);
	} else if (m->from == FROM_SYSTEM) {
		end_on_device(mv, m, mp);
	} else {
		end_at_home(mv, m, mp);
	}
	release(mv, m, mp);
}

static void count(const struct manual *m, struct counters *n)
{
	_Atomic uint64_t *folios = m->from == FROM_SYSTEM ? n->to_device_folios : n->to_system_folios;

	for (unsigned k = 0; k < NR_ORDERS; k++)
		counter_add(&folios[k], m->tally.moved_folios[k]);
	for (unsigned i = 0; i < m->nr_slots; i++)
		if (m->why[i] != WHY_NONE)
			counter_add(&n->skipped_pages[m->why[i]], 1);
}

void manual_end_step(struct mover *mv, void *arg)
{
	struct manual *m = arg;

	for (unsigned k = 0; k < m->nr_pieces; k++)
		if (m->piece[k].p.busy)
			end_piece(mv, m, &m->piece[k]);
	for (; m->arms; m->arms--)
		vma_arm_end(mv->m->sp);
	count(m, &mv->m->sp->counters);
	migrator_check(mv->m);
}
