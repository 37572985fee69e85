/* SPDX-License-Identifier: MIT */
/* What a finished piece leaves behind, the staging slot; and what does not come along after all. */
#include "base/err.h"
#include "migrate/migrate.h"

void release_piece(struct mover *mv, struct piece *p)
{
	struct staging *st = &mv->m->staging;

	uhmm_assert(claim_empty(&p->claim));
	p->busy = false;
	if (!p->slot)
		return;
	switch (p->slot_holds) {
	case SLOT_THP:   staging_put_thp(st, p->slot); break;
	case SLOT_EMPTY: staging_put_empty(st, p->slot); break;
	case SLOT_DIRTY: staging_put_dirty(st, p->slot); break;
	}
	p->slot = 0;
}

void release_pages(struct piece *p, const struct pageset *pages, enum uhmm_skip why, struct tally *t)
{
	if (pageset_empty(pages))
		return;
	tally_pages(t, why, pages);
	pageset_remove(&p->copy, pages);
	pageset_remove(&p->clear, pages);
	if (claim_end_system(&p->claim, pages, true))
		claim_wake(&p->claim);
}
