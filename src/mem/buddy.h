/* SPDX-License-Identifier: MIT */
#ifndef MEM_BUDDY_H
#define MEM_BUDDY_H

/*
 * A buddy allocator over a device's private offsets: folios of order 0..9, naturally aligned.
 *
 * There is no record for a frame. One word stands for each 2 MiB of the device: free (a link of the free stack), whole
 * (one folio of order 9), or split (a pointer to a record of 184 bytes with a bit for each free piece). The words are
 * touched as blocks are first used, so a device of any size opens at once: 1 TiB is 4 MiB of addresses, none of it touched.
 *
 * Order 9 takes no lock: a stack of freed blocks with a tagged head, then blocks never used. Smaller orders take the
 * device's lock for some tens of nanoseconds; a block whose last piece is freed is whole again and goes to the stack.
 *
 *   nr_blocks == fresh (never used) + free on the stack + whole + split
 *   used_pages == sum over orders of nr_folios[k] << k
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "base/pages.h"
#include "mem/meta.h"

struct split;

struct buddy {
	/* constant after buddy_init() */
	uint64_t nr_blocks;
	_Atomic uint64_t *word; /* one a block */

	/* atomic; the head of the free stack: tag in the upper half, index + 1 in the lower, 0 when empty */
	_Alignas(64) _Atomic uint64_t free_head;
	_Atomic uint64_t fresh; /* blocks from here on were never used */

	/* atomic: counted up before a folio is used, down (release) when all about it is done: 0 lets a device be closed */
	_Atomic uint64_t nr_folios[NR_ORDERS];

	/* guarded by lock (rank DEVICE); which blocks are split, and their records */
	struct lock lock;
	struct split *by_order[BLOCK_ORDER]; /* blocks whose largest free piece has that order */
	struct meta records;
};

/* @size_bytes: a multiple of 2 MiB. Return: 0 or -ENOMEM. */
int buddy_init(struct buddy *b, uint64_t size_bytes);
void buddy_fini(struct buddy *b);

/* Return: 0, or -ENOMEM when no folio of that order is free (or no record can be had). Context: any thread, fault thread. */
int buddy_alloc(struct buddy *b, unsigned order, uint64_t *ret_offset);

/* @order: of the folio as it is now, after splits. */
void buddy_free(struct buddy *b, uint64_t offset, unsigned order);

/*
 * The folio of @order at @offset becomes folios of the smaller order @to, in place. Return: 0; -ENOMEM, nothing changed,
 * and only for order 9: the block has no record yet.
 */
int buddy_split(struct buddy *b, uint64_t offset, unsigned order, unsigned to);

/* Is [offset, offset + order) allocated, wholly? For checks. */
bool buddy_is_used(struct buddy *b, uint64_t offset, unsigned order);

uint64_t buddy_used_bytes(struct buddy *b);
uint64_t buddy_metadata_bytes(struct buddy *b);

#endif
