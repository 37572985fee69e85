/* SPDX-License-Identifier: MIT */
#ifndef SPACE_FORWARD_H
#define SPACE_FORWARD_H

/*
 * Where mremap has taken pages that somebody was just moving. Such a page's word at the old place says MIGRATING | MOVED
 * and names a record here; at the new place a word says MIGRATING with the same token. The claimer finds the new place
 * through the record, ends its claim there, and gives the record's count back.
 */

#include <stdint.h>

#include "base/lock.h"

#define NR_FORWARDS 256 /* mremap calls whose pages are in flight at one time; index 0 is not used */

struct forward {
	uint64_t from, to;
	uint32_t count; /* words that name it; 0: free */
};

struct forwards {
	struct lock lock; /* rank LEAF */
	struct forward record[NR_FORWARDS];
};

void forward_init(struct forwards *f);
void forward_fini(struct forwards *f);

/* A record with count 1, which the caller gives back when it has named all words. Never fails: 255 at once are not to be
 * had, because each needs a claim in flight. */
unsigned forward_take(struct forwards *f, uint64_t from, uint64_t to);
void forward_hold(struct forwards *f, unsigned i);
void forward_drop(struct forwards *f, unsigned i);

/* Where @addr is now. */
uint64_t forward_address(const struct forwards *f, unsigned i, uint64_t addr);

#endif
