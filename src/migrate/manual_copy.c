/* SPDX-License-Identifier: MIT */
/*
 * Destinations and copies, for those who do not have their own. Both only look at the entries: what they were given in dst is checked
 * to be the program's, but is not taken before manual_decide_step().
 */
#include <errno.h>

#include "base/err.h"
#include "migrate/manual.h"

/* ---- destinations ---- */

static struct uhmm_mpfn new_folio(struct manual *m, unsigned order)
{
	uint64_t offset;

	if (loose_alloc(&m->all->loose, m->dev, order, &offset))
		return (struct uhmm_mpfn){ 0 };
	return mpfn_on_device(offset, order);
}

/* Return: has it one, all of it? */
static bool alloc_pages(struct manual *m, struct manual_piece *mp)
{
	bool all = true;

	pageset_for_each(&mp->p.claim.mine, i) {
		struct uhmm_mpfn *dst = &m->dst[mp->slot[i]];

		if (!dst->bits)
			*dst = m->from == FROM_SYSTEM ? new_folio(m, 0) : uhmm_mpfn_host(0);
		all = all && dst->bits;
	}
	return all;
}

static bool any_set(const struct manual *m, const struct manual_piece *mp)
{
	pageset_for_each(&mp->p.claim.mine, i)
		if (m->dst[mp->slot[i]].bits)
			return true;
	return false;
}

static bool alloc_piece(struct manual *m, struct manual_piece *mp)
{
	struct uhmm_mpfn *head;

	if (claim_empty(&mp->p.claim))
		return true;
	if (!mp->p.claim.whole)
		return alloc_pages(m, mp);
	head = &m->dst[mp->slot[0]];
	if (mpfn_has(*head, UHMM_MPFN_COMPOUND))
		return true;
	if (!any_set(m, mp))
		*head = m->from == FROM_SYSTEM ? new_folio(m, BLOCK_ORDER) : uhmm_mpfn_host(BLOCK_ORDER);
	return mpfn_has(*head, UHMM_MPFN_COMPOUND) || alloc_pages(m, mp);
}

void manual_alloc_step(struct mover *mv, void *arg)
{
	struct manual *m = arg;
	bool all = true;

	(void)mv;
	for (unsigned k = 0; k < m->nr_pieces; k++)
		all = alloc_piece(m, &m->piece[k]) && all;
	m->error = all ? 0 : -ENOMEM;
}

/* ---- copies ---- */

/* Where the pages of a piece shall go: @ret_pages those that have a place. Return: 0, or -EINVAL for one that is not the program's. */
static int read_dst(struct manual *m, struct manual_piece *mp, struct folios *f, struct pageset *ret_pages)
{
	struct uhmm_mpfn head = m->dst[mp->slot[0] == NO_SLOT ? 0 : mp->slot[0]];

	*ret_pages = (struct pageset){ 0 };
	f->whole = mp->p.claim.whole && mpfn_has(head, UHMM_MPFN_COMPOUND);
	if (f->whole) {
		f->offset[0] = uhmm_mpfn_order(head) == BLOCK_ORDER && mpfn_has(head, UHMM_MPFN_DEVICE_PRIVATE) ? uhmm_mpfn_offset(head) : 1;
		*ret_pages = pageset_all;
		return loose_has(&m->all->loose, m->dev, f->offset[0], BLOCK_ORDER) ? 0 : -EINVAL;
	}
	pageset_for_each(&mp->p.claim.mine, i) {
		struct uhmm_mpfn e = m->dst[mp->slot[i]];

		if (!e.bits)
			continue;
		if (!mpfn_has(e, UHMM_MPFN_DEVICE_PRIVATE) || uhmm_mpfn_order(e) ||
		    !loose_has(&m->all->loose, m->dev, uhmm_mpfn_offset(e), 0))
			return -EINVAL;
		f->offset[i] = uhmm_mpfn_offset(e);
		pageset_add(ret_pages, i);
	}
	return 0;
}

static int copy_to_device(struct mover *mv, struct manual *m, struct manual_piece *mp)
{
	struct pageset pages, holes;
	uint64_t fence = 0;
	int r = read_dst(m, mp, &mv->folios, &pages);

	if (r)
		return r;
	holes = pages;
	pageset_keep(&holes, &mp->p.clear);
	pageset_keep(&pages, &mp->p.copy);
	if (mv->folios.whole && pageset_empty(&pages))
		return device_clear(m->dev, mv->folios.offset[0], BLOCK_BYTES);
	pageset_for_each(&holes, i) {
		r = device_clear(m->dev, mv->folios.offset[i], PAGE_BYTES);
		if (r)
			return r;
	}
	if (pageset_empty(&pages))
		return 0;
	r = device_copy_in(m->dev, mv->segs, copy_segments(mv->segs, &mv->folios, &pages, mp->p.slot), &fence);
	return r ? r : device_wait(m->dev, fence);
}

static int copy_home(struct mover *mv, struct manual *m, struct manual_piece *mp)
{
	struct pageset pages = { 0 };

	pageset_for_each(&mp->p.claim.mine, i)
		if (m->dst[mp->slot[mp->p.claim.whole ? 0 : i]].bits || m->dst[mp->slot[i]].bits)
			pageset_add(&pages, i);
	if (pageset_empty(&pages))
		return 0;
	/* of a folio that goes home in pieces all is read: that does no harm */
	return copy_out(mv, m->dev, &mp->p.folios, &pages, manual_piece_host(m, mp));
}

void manual_copy_step(struct mover *mv, void *arg)
{
	struct manual *m = arg;

	m->error = 0;
	for (unsigned k = 0; !m->error && k < m->nr_pieces; k++) {
		struct manual_piece *mp = &m->piece[k];

		if (!claim_empty(&mp->p.claim))
			m->error = m->from == FROM_SYSTEM ? copy_to_device(mv, m, mp) : copy_home(mv, m, mp);
	}
}
