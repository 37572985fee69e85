/* SPDX-License-Identifier: MIT */
#ifndef MEM_META_H
#define MEM_META_H

/*
 * Objects of one size in memory of our own: tables of 512 entries, records of split blocks. Never returned to the
 * system before meta_fini(), so that a reader without a lock may look at an object that has just been freed: it finds
 * stale words, never a fault. Fault threads may allocate here.
 */

#include <stdint.h>

#include "base/lock.h"

struct meta {
	/* constant after meta_init() */
	uint32_t object_bytes;

	/* guarded by lock (rank LEAF) */
	struct lock lock;
	void *free_list;            /* linked by the first word of each free object */
	char *fresh, *fresh_end;    /* of the newest piece: what was never handed out */
	struct meta_piece *pieces;
	uint64_t touched_bytes;     /* handed out at least once */
};

void meta_init(struct meta *m, uint32_t object_bytes);
void meta_fini(struct meta *m);
void *meta_alloc(struct meta *m); /* not cleared; NULL when there is no memory */
void meta_free(struct meta *m, void *object);
uint64_t meta_bytes(struct meta *m);

#endif
