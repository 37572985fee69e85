/* SPDX-License-Identifier: MIT */
/*
 * What is different when pages leave for the sake of the memory they take: what takes none stays as it is. A hole is left
 * alone, and so is the zero page. And a page that holds nothing but zeros becomes a hole: it costs nothing on any device,
 * and its next touch is served with zeros, because its mapping is watched from now on.
 *
 * And what is touched while it waits to be copied, or is copied, was not as cold as it looked: from staging it goes back by one MOVE,
 * where from the device it would come by a copy. That is as good as a look at the bit that hardware keeps for it. Only every second piece
 * of a batch may, so that something leaves even if all of it is in use.
 *
 * Zeros are looked for once the pages are isolated: nobody can write to them any more. Most pages show something else in their
 * first line; one that is all zeros takes as long to read as half its copy would have.
 */
#include <string.h>

#include "migrate/migrate.h"

void evict_trim(struct piece *p, struct tally *t)
{
	struct pageset none = p->clear;

	if (!p->evict)
		return;
	pageset_join(&none, &p->zero);
	pageset_keep(&none, &p->claim.mine); /* zero pages were seen in all of the block */
	memset(&p->zero, 0, sizeof(p->zero));
	release_pages(p, &none, UHMM_SKIP_ABSENT, t);
}

/* The first word tells mostly; then a word of each line; then all. */
static bool is_zero(uint64_t at, uint64_t bytes)
{
	const uint64_t *w = (const uint64_t *)(uintptr_t)at;
	uint64_t nr = bytes / sizeof(*w), any = 0;

	if (w[0] | w[nr / 2] | w[nr - 1])
		return false;
	for (uint64_t i = 0; i < nr && !any; i += 64)
		for (unsigned k = 0; k < 64; k++)
			any |= w[i + k];
	return !any;
}

void evict_zeros(struct piece *p, struct tally *t)
{
	struct pageset zeros = { 0 };

	if (!p->evict || pageset_empty(&p->copy))
		return;
	if (p->kind == PIECE_HUGE) {
		if (is_zero(p->slot, BLOCK_BYTES))
			zeros = pageset_all;
	} else {
		pageset_for_each(&p->copy, i)
			if (is_zero(p->slot + i * PAGE_BYTES, PAGE_BYTES))
				pageset_add(&zeros, i);
	}
	if (pageset_empty(&zeros))
		return;
	t->dropped_pages += pageset_count(&zeros);
	pageset_remove(&p->copy, &zeros);
	if (claim_end_system(&p->claim, &zeros, true))
		claim_wake(&p->claim);
}

void evict_return(struct piece *p, bool placed, struct tally *t)
{
	struct pageset wanted;

	if (!p->may_return || claim_empty(&p->claim))
		return;
	claim_wanted(&p->claim, &wanted);
	pageset_keep(&wanted, &p->copy);
	/* an event has split the block, and its folio would have to be split as well: it goes, and comes by the next touch */
	if (placed && p->folios.whole && pageset_count(&wanted) < PAGES_PER_BLOCK)
		return;
	if (pageset_empty(&wanted))
		return;
	t->returned_pages += pageset_count(&wanted);
	if (!p->claim.whole && p->kind != PIECE_PAGES)
		p->kind = PIECE_PAGES; /* as when an event splits it before: the slot is no THP any more */
	if (placed)
		release_folios(p->dev, &p->folios, &wanted);
	install_back(p, &wanted);
}
