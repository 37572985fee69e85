/* SPDX-License-Identifier: MIT */
/*
 * Staging to device. Pages whose folios lie side by side travel as one segment, so a block of base pages on a fresh device
 * is one copy too. Holes are cleared on the device; nothing of them travels.
 */
#include "base/err.h"
#include "migrate/migrate.h"

static int clear_holes(struct piece *p)
{
	int r = 0;

	if (p->folios.whole)
		return pageset_empty(&p->clear) ? 0 : device_clear(p->dev, p->folios.offset[0], BLOCK_BYTES);
	/* what of one folio lies side by side, in one go */
	for (unsigned i = pageset_next(&p->clear, 0), n; !r && i < PAGES_PER_BLOCK; i = pageset_next(&p->clear, i + n)) {
		unsigned order = p->folios.order[i], end = folio_head(i, order) + order_pages(order);

		for (n = 1; i + n < end && pageset_has(&p->clear, i + n);)
			n++;
		r = device_clear(p->dev, p->folios.offset[i], n * PAGE_BYTES);
	}
	return r;
}

unsigned copy_segments(struct uhmm_seg *segs, const struct folios *f, const struct pageset *set, uint64_t host)
{
	unsigned nr = 0;

	if (f->whole) {
		segs[0] = (struct uhmm_seg){ f->offset[0], (void *)(uintptr_t)host, BLOCK_BYTES };
		return 1;
	}
	pageset_for_each(set, i) {
		struct uhmm_seg *last = nr ? &segs[nr - 1] : NULL;
		char *at = (char *)(uintptr_t)host + i * PAGE_BYTES;

		if (last && last->offset + last->bytes == f->offset[i] && (char *)last->host + last->bytes == at)
			last->bytes += PAGE_BYTES;
		else
			segs[nr++] = (struct uhmm_seg){ f->offset[i], at, PAGE_BYTES };
	}
	return nr;
}

void copy_start(struct mover *mv, struct piece *p)
{
	unsigned nr;

	p->fence = 0;
	p->copy_error = 0;
	if (claim_empty(&p->claim))
		return;
	p->copy_error = clear_holes(p);
	if (p->copy_error || pageset_empty(&p->copy))
		return;
	nr = copy_segments(mv->segs, &p->folios, &p->copy, p->slot);
	p->copy_error = device_copy_in(p->dev, mv->segs, nr, &p->fence);
}

void copy_finish(struct mover *mv, struct piece *p, struct tally *t)
{
	struct pageset all = p->claim.mine;

	(void)mv;
	if (claim_empty(&p->claim))
		return;
	if (!p->copy_error && p->fence)
		p->copy_error = device_wait(p->dev, p->fence);
	if (!p->copy_error)
		return;
	/* the source is whole, in staging: it goes back */
	if (!t->error)
		t->error = p->copy_error;
	tally_skip(t, UHMM_SKIP_DEVICE, pageset_count(&all));
	release_folios(p->dev, &p->folios, &all);
	install_back(p, &all);
}

int copy_out(struct mover *mv, struct device *dev, const struct folios *f, const struct pageset *pages, uint64_t to)
{
	uint64_t fence;
	unsigned nr = copy_segments(mv->segs, f, pages, to);
	int r = device_copy_out(dev, mv->segs, nr, &fence);

	return r ? r : device_wait(dev, fence);
}
