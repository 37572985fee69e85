/* SPDX-License-Identifier: MIT */
#ifndef UHMM_WALK_H
#define UHMM_WALK_H

/*
 * For policies: everything that is known of a range, block by block. uhmm_query() answers where pages live; this adds whether
 * a page has been written, and when a CPU last faulted there. Memory on a device is seen as well as the host's.
 */

#include "uhmm/device.h"
#include "uhmm/space.h"

#ifdef __cplusplus
extern "C" {
#endif

enum uhmm_dirty {
	/* A page of the host: the kernel keeps no record of stores that could be read without making them slower. Nobody else has
	 * its bytes, so count it as dirty. Also: on its way at this moment. */
	UHMM_DIRTY_UNKNOWN,
	UHMM_DIRTY_NO,  /* on a device: as it left the host. Or nothing is there to be written: a hole, no mapping */
	UHMM_DIRTY_YES, /* on a device: uhmm_device_write() has written to it since it left the host */
	UHMM_NR_DIRTIES,
};

/* A block of 2 MiB, or the part of one that is in the range and of which one thing can be said. */
struct uhmm_piece {
	size_t sz;               /* set by the library: the bytes of this structure that it knows */
	uint64_t start, end;     /* addresses, [start, end) */
	enum uhmm_where where;
	unsigned order;          /* as in struct uhmm_extent */
	struct uhmm_device *dev; /* for DEVICE, LOST and EXCLUSIVE, else NULL */
	enum uhmm_dirty dirty;
	uint64_t last_fault_ns;  /* when a CPU fault in the block - in any part of it - was last handed to uhmm: CLOCK_MONOTONIC, in
				  * steps of 4.2 ms; 0: never. Belongs to the address: mremap() does not carry it along */
};

/* Return: 0 to go on; anything else ends the walk. */
typedef int uhmm_walk_fn(void *ctx, const struct uhmm_piece *piece);

/**
 * uhmm_walk() - what is known of each block of a range?
 * @space:     an open space
 * @start:     first byte, a multiple of 4096
 * @len_bytes: length, at least 1, rounded up to a multiple of 4096
 * @fn:        called for each piece, in order of addresses
 * @ctx:       handed to @fn
 *
 * The pieces follow one another without a gap from @start on. None reaches beyond its block, but those that are not mapped,
 * and holes in 1 GiB of addresses of which nothing was ever on its way: those may be longer. Neighbours that lie in one block
 * and say the same are one piece.
 *
 * Each piece is a snapshot, and may be stale when @fn sees it. What the calling thread has unmapped, moved or discarded before
 * the call is in it.
 *
 * The dirty flag of a device-resident page tells what went through uhmm_device_write(); what a program on the device
 * writes to its own memory is not seen. Within a folio of 2 MiB it is one flag for all of it.
 *
 * Return: 0; what @fn returned when that was not 0; -EINVAL; -EPERM.
 * Context: any thread; not from a driver or log callback. @fn is called in the calling thread, without locks: it may call
 * anything of this library, also what moves the piece it was told of.
 * Since: 0.1
 */
UHMM_API int uhmm_walk(struct uhmm_space *space, void *start, size_t len_bytes, uhmm_walk_fn *fn, void *ctx);

#ifdef __cplusplus
}
#endif

#endif
