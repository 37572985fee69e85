/* SPDX-License-Identifier: MIT */
#ifndef SPACE_VMA_H
#define SPACE_VMA_H

/* The program's mappings: which of them can be migrated, and watching those ("arming"). */

#include <stdbool.h>
#include <stdint.h>

#include "space/space.h"
#include "uhmm/space.h"

/* A piece of the address space about which one thing can be said. */
struct vma_piece {
	uint64_t start, end;
	bool movable;
	bool read_only;         /* not movable for no other reason: private, anonymous, readable only */
	enum uhmm_skip why_not; /* when not movable */
};

/*
 * The piece that begins at @addr, cut at @end: a mapping, a gap between mappings, or memory of our own.
 * Return: 0 or -errno.
 */
int vma_piece_at(struct space *sp, uint64_t addr, uint64_t end, struct vma_piece *ret);

/*
 * Arms the mapping of a movable piece on the userfaultfd, from now until vma_arm_end(): nobody disarms it meanwhile. All of
 * the mapping, not the piece alone: arming a part would cut it in two, and the program's mremap() of the whole would fail.
 * @ret_seq: the event_seq at which this is true
 * Return: 0; UHMM_SKIP_* + 1 as a positive outcome when the kernel will not watch it; -errno.
 */
int vma_arm_begin(struct space *sp, uint64_t start, uint64_t end, uint64_t *ret_seq);
void vma_arm_end(struct space *sp);

/* As vma_arm_begin(), for ranges that are named later, with vma_arm_again(). */
void vma_arm_hold(struct space *sp);

/* Watches it again, when event_seq has changed. Only between vma_arm_begin() and vma_arm_end(). */
int vma_arm_again(struct space *sp, uint64_t start, uint64_t end, uint64_t *ret_seq);

/*
 * Stops watching the mappings in [start, end), if nobody is arming and nothing at all is away. That all of the range is home
 * would not be enough: mremap may put device-resident pages down in it, and be heard of only afterwards.
 * @away: is anything away? Asked when nothing can leave any more.
 * Best effort. Context: any thread but a fault thread.
 */
void vma_disarm(struct space *sp, uint64_t start, uint64_t end, bool (*away)(void *ctx), void *ctx);

/* Stops watching everything; nothing is away, and nobody is arming. */
void vma_disarm_all(struct space *sp);

/*
 * After a fork the kernel gives up no page that has not been written to since, even when the child has long ended: they answer as pinned
 * ones do. This makes them the process's own again; with @copy also those that a living child shares. Writing by hand could hit memory
 * that has just been unmapped, so the kernel is asked to act as if. Only what is there: a hole would be filled.
 * Return: bytes that are the process's own now; perhaps they were before, and are pinned.
 * Context: a touch, like any: it may wait for a fault thread.
 */
uint64_t vma_take_back(struct space *sp, uint64_t start, uint64_t end, bool copy);

/* May new pages of the mapping at @addr be huge? Reads /proc/self/smaps when THP is set to madvise, which takes up to
 * milliseconds; once for each mapping that the calling thread has armed. */
bool vma_wants_huge(struct space *sp, uint64_t addr);

/*
 * The orders between 0 and 9 that new pages of the mapping at @addr may have, a bit for each. The system's settings are read once
 * a second at most; if they allow any for some memory, /proc/self/smaps is read as above.
 */
uint32_t vma_mthp_orders(struct space *sp, uint64_t addr);

#endif
