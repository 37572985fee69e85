/* SPDX-License-Identifier: MIT */
#ifndef POLICY_REACH_H
#define POLICY_REACH_H

/*
 * How much comes home with a page that is touched. Bytes that nobody wants cost twice, on the way home and on the way out again, and
 * take the place of others; a touch for each page costs a trip through a fault thread. So a touch out of the blue brings its page
 * alone, and one that continues where the last ones left off brings four times as much as the one before, up to the block; and then
 * the next blocks are fetched ahead.
 *
 *   page alone -> 16 KiB -> 64 KiB -> 256 KiB -> 1 MiB -> block -> block, and REACH_AHEAD blocks ahead of it
 *
 * What the last touches brought is remembered in a few words, the streams. A touch next to one of them continues it. Words are read and
 * written without a lock: two threads at one stream may grow it twice, or not at all.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/pages.h"

#define REACH_STREAMS 16 /* touches out of the blue that may come between two of one stream */
#define REACH_AHEAD   2  /* blocks: one is copied while the other is read, on this side or that of the boundary */

struct reach {
	_Atomic uint64_t stream[REACH_STREAMS]; /* 0: none (reach.c) */
	_Atomic unsigned next;                  /* the one that is forgotten next */
};

struct window {
	unsigned first, end;               /* pages of the block */
	uint64_t ahead_start, ahead_end;   /* whole blocks to fetch ahead; equal: none */
};

/* The page at @addr has been touched, and is on a device: what to bring. Context: fault thread. */
void reach_touched(struct reach *r, uint64_t addr, struct window *ret);

/* It has been touched while it is on its way: does that call for more? Only ret->ahead is set. Context: fault thread. */
void reach_met(struct reach *r, uint64_t addr, struct window *ret);

/* All of the block comes, whatever was known of it. */
void reach_whole(struct reach *r, uint64_t addr, struct window *ret);

#endif
