/* SPDX-License-Identifier: MIT */
#ifndef MIRROR_VIEW_H
#define MIRROR_VIEW_H

/*
 * A device's view: one byte for each page of the program, which says what the device has been told it may do there - the
 * page table of a device, in short. A right is added when the page was looked at on the device's behalf, and taken away when
 * the page moves, is unmapped or discarded.
 *
 * Kept are the rights for pages of the device's own: those are watched, so their end is heard of. Rights are hints that save looking; whoever uses one may find the page gone all the same, and looks again then: an event is
 * heard of a moment after it has happened, and mprotect is not heard of at all. So nothing here takes a lock. Leaves appear
 * under compare-and-swap and stay until view_fini(); fault threads only ever clear bytes of leaves that exist.
 */

#include <stdatomic.h>
#include <stdint.h>

#define VIEW_READ   (1u << 0)
#define VIEW_WRITE  (1u << 1)

struct view {
	/* constant after view_init() */
	_Atomic(_Atomic uint8_t *) *root; /* one pointer for each GiB: a leaf of 2^18 bytes, touched where used */
};

/* Return: 0 or -ENOMEM. */
int view_init(struct view *v);
void view_fini(struct view *v);

/* What the device may do with the page at @addr: VIEW_*. */
unsigned view_get(const struct view *v, uint64_t addr);

/* Adds rights for [start, end). Return: 0 or -ENOMEM, some may have been set. Context: not a fault thread. */
int view_add(struct view *v, uint64_t start, uint64_t end, unsigned rights);

/* Takes all rights away. Context: any thread, fault thread. */
void view_clear(struct view *v, uint64_t start, uint64_t end);

#endif
