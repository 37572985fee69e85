/* SPDX-License-Identifier: MIT */
/*
 * Folios of a claim. What of them is split is decided by what becomes of their pages: a folio lives in one word, or in 2^k words
 * that say the same, so pages that go different ways must not share one. Folios that no claim has are split in split.c.
 */
#include "migrate/folios.h"

#include <errno.h>

#include "base/err.h"
#include "mem/table.h"

void folios_set(struct folios *f, unsigned i, uint64_t offset, unsigned order)
{
	for (unsigned k = 0; k < order_pages(order); k++) {
		f->offset[i + k] = offset + k * PAGE_BYTES;
		f->order[i + k] = (uint8_t)order;
	}
}

int folios_break(struct device *dev, struct folios *f)
{
	unsigned order = device_order(dev, BLOCK_ORDER - 1);
	uint64_t head = f->offset[0];
	int r = device_split(dev, head, BLOCK_ORDER, order);

	if (r)
		return r;
	f->whole = false;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i += order_pages(order))
		folios_set(f, i, head + i * PAGE_BYTES, order);
	return 0;
}

/* The folio whose first page is @head becomes several of order @to. */
static void split_one(struct device *dev, struct folios *f, unsigned head, unsigned to)
{
	unsigned order = f->order[head];
	int r = device_split(dev, f->offset[head], order, to);

	uhmm_assert(!r); /* its block is split: no memory is needed */
	for (unsigned i = head; i < head + order_pages(order); i++)
		f->order[i] = (uint8_t)to;
}

/* How many of [first, end) are in @s. */
static unsigned count_in(const struct pageset *s, unsigned first, unsigned end)
{
	unsigned n = 0;

	for (; first < end; first++)
		n += pageset_has(s, first);
	return n;
}

int folios_cut(struct device *dev, struct folios *f, const struct pageset *part)
{
	unsigned i = pageset_next(part, 0), n = pageset_count(part);

	if (f->whole && n && n < PAGES_PER_BLOCK && folios_break(dev, f))
		return -ENOMEM;
	while (!f->whole && i < PAGES_PER_BLOCK) {
		unsigned order = f->order[i], head = folio_head(i, order), end = head + order_pages(order);

		if (count_in(part, head, end) == order_pages(order))
			i = pageset_next(part, end);
		else
			split_one(dev, f, head, device_order(dev, order - 1));
	}
	return 0;
}

void folios_crumble(struct device *dev, struct folios *f, const struct pageset *pages)
{
	uhmm_assert(!f->whole);
	pageset_for_each(pages, i)
		if (f->order[i])
			split_one(dev, f, folio_head(i, f->order[i]), 0);
}

void folios_count(const struct folios *f, const struct pageset *pages, uint64_t *count)
{
	if (f->whole) {
		count[BLOCK_ORDER] += !pageset_empty(pages);
		return;
	}
	pageset_for_each(pages, i)
		count[f->order[i]] += folio_head(i, f->order[i]) == i;
}

void release_folios(struct device *dev, struct folios *f, const struct pageset *pages)
{
	if (f->whole) {
		device_free(dev, f->offset[0], BLOCK_ORDER);
		return;
	}
	(void)folios_cut(dev, f, pages); /* a whole one alone needs memory for that */
	pageset_for_each(pages, i)
		if (folio_head(i, f->order[i]) == i)
			device_free(dev, f->offset[i], f->order[i]);
}
