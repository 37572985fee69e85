/* SPDX-License-Identifier: MIT */
/*
 * Device memory for a piece: one folio of order 9 where the device has one, else a folio of order 0 for each page - the
 * source is not split for that, only its entry. Pages for which there is nothing go back.
 */
#include "base/err.h"
#include "migrate/migrate.h"

static void place_pages(struct piece *p, struct tally *t)
{
	struct pageset none = { 0 };

	pageset_for_each(&p->claim.mine, i)
		if (device_alloc(p->dev, 0, &p->folios.offset[i]))
			pageset_add(&none, i);
	if (pageset_empty(&none))
		return;
	tally_skip(t, UHMM_SKIP_NO_ROOM, pageset_count(&none));
	install_back(p, &none);
}

void place_folios(struct mover *mv, struct piece *p, struct tally *t)
{
	(void)mv;
	if (claim_empty(&p->claim))
		return;
	p->folios.whole = false;
	if (p->kind != PIECE_PAGES && !atomic_load(&p->dev->closing)) {
		p->folios.whole = !device_alloc(p->dev, BLOCK_ORDER, &p->folios.offset[0]);
		if (p->folios.whole)
			return;
	}
	if (atomic_load(&p->dev->closing) || claim_split(&p->claim)) {
		struct pageset all = p->claim.mine;

		tally_skip(t, UHMM_SKIP_NO_ROOM, pageset_count(&all));
		install_back(p, &all);
		return;
	}
	p->kind = PIECE_PAGES;
	place_pages(p, t);
}
