/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_STAGING_H
#define MIGRATE_STAGING_H

/*
 * Where pages are while they are in nobody's page table: slots of 2 MiB in memory of our own, and the pool of THPs that
 * is made of them. A MOVE out of the program fills a slot; once the bytes are on the device the slot's THP is as good as
 * a new one, and a MOVE into the program empties it again. So a steady state allocates nothing: a fresh THP costs
 * a clear of 70-300 us, a recycled one 1 us.
 *
 * Two kinds of slots. The window is watched by the space's userfaultfd, because MOVE wants that of a destination. The
 * nursery is not: touching an empty slot there gets a fresh THP from the kernel. Both serve as sources.
 *
 * A slot that has held base pages keeps an empty page table, and a THP moved over one arrives as 512 base pages. Such
 * slots are kept apart until their table is gone.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "space/space.h"

/* Indices of slots; room for every slot. */
struct slot_list {
	uint32_t *at;
	_Atomic unsigned nr; /* changed under the lock, looked at without */
};

struct staging {
	/* constant after staging_init() */
	struct space *sp;
	uint64_t window, nursery; /* addresses */
	unsigned nr_window;       /* slots */
	bool pt_reclaim;          /* a discard frees the page table too */
	struct uffd bin_uffd;     /* watches the bin, without events */
	uint64_t bin;             /* BIN_SLOTS slots: THPs on their way back to the kernel, a batch at a time */

	/* guarded by lock (rank POOL) */
	struct lock lock;
	uint64_t max_full;        /* the pool's bound, in slots; only made smaller */
	struct slot_list empty;   /* window slots without page and table */
	struct slot_list full;    /* window slots that hold a THP of nobody */
	struct slot_list dirty;   /* window slots with base pages or a table in them */
	struct slot_list fresh;   /* nursery slots, empty */
	uint32_t *memory;
	uint32_t nr_touched;      /* window slots ever used: empty ones beyond were never touched */

	/* guarded by bin_lock (rank POOL, never with lock) */
	struct lock bin_lock;
	unsigned nr_bin;
};

/* @pool_bytes: bound of the pool. Return: 0 or -errno. */
int staging_init(struct staging *st, struct space *sp, uint64_t pool_bytes);
void staging_fini(struct staging *st);

/* An empty slot for MOVE to fill; 0 when there is none. @pages: base pages will come. Context: not a fault thread. */
uint64_t staging_take_empty(struct staging *st, bool pages);

/* A slot that holds a THP, contents undefined; 0 when none can be had. Context: fault thread too. */
uint64_t staging_take_thp(struct staging *st);

/* The same, all zeros. */
uint64_t staging_take_zeroed(struct staging *st);

/* Gives a slot back: it holds a whole THP; it is empty, and was emptied by a huge MOVE; or anything else. */
void staging_put_thp(struct staging *st, uint64_t slot);
void staging_put_empty(struct staging *st, uint64_t slot);
void staging_put_dirty(struct staging *st, uint64_t slot);

/* The pool keeps @bytes at most from now on, if that is less than before. Context: not a fault thread. */
void staging_shrink_pool(struct staging *st, uint64_t bytes);

/* Gives up the THPs that wait in it now. Return: bytes. Raises events. Context: not a fault thread. */
uint64_t staging_drain_pool(struct staging *st);

/* Gives back to the kernel what no pool keeps: base pages in dirty slots, and THPs in a bin that is not full yet. Raises
 * events. Context: not a fault thread. */
void staging_scrub(struct staging *st);

uint64_t staging_pool_bytes(struct staging *st);

/* Is [start, end) in the window? Its events are our own doing. */
bool staging_is_window(const struct staging *st, uint64_t start, uint64_t end);

#endif
