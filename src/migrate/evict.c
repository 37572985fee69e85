/* SPDX-License-Identifier: MIT */
/*
 * What is different when pages leave for the sake of the memory they take: what takes none stays as it is. A hole is left
 * alone, and so is the zero page. And a page that holds nothing but zeros becomes a hole: it costs nothing on any device,
 * and its next touch is served with zeros, because its mapping is watched from now on.
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
