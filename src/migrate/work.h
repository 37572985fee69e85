/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_WORK_H
#define MIGRATE_WORK_H

/*
 * Work on a device (include/uhmm/work.h): ranges that are there, and stay.
 *
 *   work.c   in the caller's thread: has migrations run, and room made, until all is there at once
 *   hold.c   by a worker: claims what the device may write to, notes where everything is; and lets go
 *
 * Held pages are claimed from one call to the next, as those of a migration by hand are, and what holds for those holds for them: a
 * fork waits, touches wait, events do not, a device with some is not closed. What the device only reads is not claimed. A keep
 * on the device (device.h) sees to it that freed folios are not used again, so the bytes are what they were wherever the page is now.
 *
 * A thread waits for nothing while it holds something: what cannot be had at once is let go of, moved, and tried again. So two that
 * want the same in part never wait for one another; one of them may say -EBUSY.
 */

#include "migrate/coldest.h"
#include "migrate/jobs.h"
#include "migrate/manual.h"
#include "uhmm/work.h"

#define MAX_HELD_BLOCKS ((unsigned)(UHMM_WORK_HELD >> BLOCK_SHIFT)) /* of MAX_CLAIMS, which are more than all else can have */

/* A part of the ranges: they do not overlap, and are sorted. */
struct work_part {
	uint64_t start, end;
	bool write;
};

/* A block of which the device may write to something. */
struct held {
	struct claim claim;
	struct folios folios;
	uint64_t offset[PAGES_PER_BLOCK];
};

/* All of a space. */
struct works {
	/* constant after works_init() */
	struct manuals *manuals;
	struct stamps worked;         /* when each block was last worked on */

	_Atomic unsigned nr_held;     /* blocks */
};

struct work {
	/* constant after work_new() */
	struct works *all;
	struct device *dev;
	pid_t opener;
	uint64_t bytes;               /* of this memory */
	struct work_part *part;
	unsigned nr_parts;
	unsigned max_held;            /* blocks that the parts which are written to touch */
	struct held *held;            /* touched where used */
	struct uhmm_work_extent *extent; /* likewise */

	/* by one call at a time */
	unsigned nr_held;
	size_t nr_extents;
	bool open, kept;
	uint64_t missing;             /* pages that were not there */
	bool lent;                    /* a child of fork has to be given what is on the device first */
	int error;
};

/* Return: 0 or -ENOMEM. */
int works_init(struct works *ws, struct manuals *manuals);
void works_fini(struct works *ws);

/* The ranges, checked, as parts. @ret: room for 2 * UHMM_WORK_RANGES. Return: how many. */
unsigned work_parts(const struct uhmm_work_range *ranges, unsigned nr, struct work_part *ret);

/* Blocks that parts to be written touch, each counted for each part. */
uint64_t work_blocks(const struct work_part *part, unsigned nr);

/*
 * Brings it all about. @t: what was moved, and of the last round what was not and why.
 * Return: 0; -ENOMEM, -EAGAIN, -E2BIG, -EBUSY, -ENOSPC, -EFAULT, -ENODEV (the device is being closed), or what the device said: nothing is held.
 * Context: a thread of the program.
 */
int work_acquire(struct works *ws, struct device *dev, const struct work_part *part, unsigned nr, struct work **ret, struct tally *t);
void work_release(struct work *w);

/* ---- the steps, for workers ---- */

void hold_step(struct mover *mv, void *w);    /* all, or nothing: then .missing, .lent or .error say why */
void let_go_step(struct mover *mv, void *w);

#endif
