/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_COLDEST_H
#define MIGRATE_COLDEST_H

/* Which blocks on a device have been used longest ago. */

#include "mem/stamp.h"
#include "space/space.h"

/* A piece of the address space. */
struct range {
	uint64_t start, end;
};

/*
 * The blocks that have at least @want bytes on device @device together, and were used longest ago: as the latest of the
 * @nr_stamps says. Of the same age the lower address; at most 128. Neighbours share a range.
 * @spare: which blocks are passed over; or NULL
 * Return: how many ranges, at most @max. A look without locks, that may be stale. Context: a thread of ours.
 */
typedef bool coldest_spare_fn(const void *ctx, uint64_t block);
unsigned coldest_gather(struct space *sp, unsigned device, const struct stamps *const *stamps, unsigned nr_stamps,
			coldest_spare_fn *spare, const void *ctx, uint64_t want, struct range *ret, unsigned max);

#endif
