/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_FOLIOS_H
#define MIGRATE_FOLIOS_H

/*
 * The device memory that the pages of one block have, in the hands of whoever has claimed them: one folio of order 9 for all, or
 * folios of smaller orders, each aligned to its size within the block.
 *
 *   whole:  one folio of order 9 at offset[0]
 *   !whole: page i is at offset[i], in a folio of order[i]; both mean something for the pages that have been given a folio
 *
 * Splitting never moves bytes. Only orders that the device takes come of it.
 */

#include "base/pageset.h"
#include "device/device.h"

struct folios {
	bool whole;
	uint64_t *offset;         /* 512 */
	uint8_t order[PAGES_PER_BLOCK];
};

/* Pages from @i on are one folio of @order at @offset. */
void folios_set(struct folios *f, unsigned i, uint64_t offset, unsigned order);

/*
 * Splits folios until each lies wholly in @part or wholly outside, into the largest that do.
 * Return: 0; -ENOMEM, nothing changed, and only for a whole one.
 */
int folios_cut(struct device *dev, struct folios *f, const struct pageset *part);

/* The one folio of order 9 becomes the largest below that the device takes. Return: as above. */
int folios_break(struct device *dev, struct folios *f);

/* Makes every folio that has a page in @pages order 0. Not for a whole one. */
void folios_crumble(struct device *dev, struct folios *f, const struct pageset *pages);

/* Adds the folios of @pages, none of which is there in part, to @count by their orders. */
void folios_count(const struct folios *f, const struct pageset *pages, uint64_t *count);

/* Gives the folios of @pages back to the device; those that are there in part are cut for it. Whole: all of it. */
void release_folios(struct device *dev, struct folios *f, const struct pageset *pages);

#endif
