/* SPDX-License-Identifier: MIT */
#ifndef MEM_ENTRY_H
#define MEM_ENTRY_H

/*
 * An entry: one 64-bit word that says where a block (2 MiB) or a base page of the program lives.
 *
 *   SYSTEM ----claim----> MIGRATING ---install---> DEVICE
 *     ^                    |     ^                   |  |
 *     +------ undo --------+     +------ claim ------+  |
 *     +------------------- dropped ---------------------+
 *   any of them --split--> TABLE (block entries only), and back when all 512 agree
 *
 * SYSTEM     Linux owns the page: present, hole or swapped. We keep no bytes. The word of memory never heard of is 0.
 * MIGRATING  one thread, the claimer, is moving it; only that thread ends the state. A CPU that touches it waits.
 * DEVICE     the bytes are at .offset of device .device, nowhere else; Linux has no page there, and the place is watched.
 * TABLE      the 512 pages of the block differ: .table holds a word for each.
 *
 *   bits 0-2    state
 *        3      LOCK (block entries): whoever set it may change the block's words
 *        4      WAITERS, with MIGRATING: a fault was dropped; whoever ends the state wakes the range
 *        5      DEAD, with MIGRATING: the program unmapped or discarded the page meanwhile
 *        6      ZAP, with SYSTEM: a discard was announced and the page may vanish at any moment (docs/locking.md)
 *        7      WRITTEN, with DEVICE: the device has written to it since it left the host
 *        8-11   order of the folio, with DEVICE: 9 in a block's word, 0..8 in a page's
 *        12-51  DEVICE: offset in the device, of this page; TABLE: address of the table. Both as they are: multiples of 4 KiB
 *               SYSTEM with ZAP: when, in seconds
 *               MIGRATING: bits 12-39 a token that names the claim and the page of it
 *        52-59  index of the device, with DEVICE
 *        60     LOST, with DEVICE: could not be read back; the page is poisoned
 *        61     HUGE (block entries): the mapping covers the block and may hold THPs; kept through every state
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/pages.h"

enum entry_state { ENTRY_SYSTEM, ENTRY_MIGRATING, ENTRY_DEVICE, ENTRY_EXCLUSIVE, ENTRY_TABLE, NR_ENTRY_STATES };

#define ENTRY_LOCK    (UINT64_C(1) << 3)
#define ENTRY_WAITERS (UINT64_C(1) << 4)
#define ENTRY_DEAD    (UINT64_C(1) << 5)
#define ENTRY_ZAP     (UINT64_C(1) << 6)
#define ENTRY_WRITTEN (UINT64_C(1) << 7)
#define ENTRY_LOST    (UINT64_C(1) << 60)
#define ENTRY_HUGE    (UINT64_C(1) << 61)

#define ENTRY_PLACE   (((UINT64_C(1) << 52) - 1) & ~(PAGE_BYTES - 1))

/* A value, read once; and the place it is read from. A plain integer is never taken for either. */
struct entry { uint64_t bits; };
struct entry_slot { _Atomic uint64_t word; };

static inline struct entry entry_get(const struct entry_slot *s)
{
	return (struct entry){ atomic_load_explicit(&s->word, memory_order_acquire) };
}

static inline enum entry_state entry_state(struct entry e) { return (enum entry_state)(e.bits & 7); }
static inline bool entry_has(struct entry e, uint64_t flag) { return e.bits & flag; }
static inline unsigned entry_order(struct entry e)          { return e.bits >> 8 & 15; }
static inline uint64_t entry_offset(struct entry e)         { return e.bits & ENTRY_PLACE; }
/* Where page @i of the block is, of an entry that its folio of order 9 shares among all of them, or the page's own. */
static inline uint64_t entry_page_offset(struct entry e, unsigned i)
{
	return entry_offset(e) + (entry_order(e) == BLOCK_ORDER ? i * PAGE_BYTES : 0);
}
static inline unsigned entry_device(struct entry e)         { return e.bits >> 52 & 255; }
static inline struct entry_slot *entry_table(struct entry e) { return (struct entry_slot *)(uintptr_t)(e.bits & ENTRY_PLACE); }

static inline struct entry entry_system(void)    { return (struct entry){ ENTRY_SYSTEM }; }

/* @when_s: the monotonic clock's seconds when the discard was announced */
static inline struct entry entry_zapped(uint64_t when_s)
{
	return (struct entry){ ENTRY_SYSTEM | ENTRY_ZAP | (when_s << 12 & ENTRY_PLACE) };
}
static inline uint64_t entry_zap_s(struct entry e) { return (e.bits & ENTRY_PLACE) >> 12; }


/*
 * A token: which claim (bits 15-27), and which page of its block the word stands for (bits 6-14; 0 in a block's word), so
 * that a claimer can tell whether a word is still its own, also when mremap has carried it elsewhere. Bits 0-5 differ from one
 * use of a claim's slot to the next, and are never 0.
 */
#define TOKEN_MASK       ((UINT64_C(1) << 28) - 1)
#define TOKEN_SLOT_SHIFT 15
#define TOKEN_PAGE_SHIFT 6

static inline uint64_t token_of_page(uint64_t token, unsigned i)
{
	return (token & ~(UINT64_C(511) << TOKEN_PAGE_SHIFT)) | (uint64_t)i << TOKEN_PAGE_SHIFT;
}
static inline unsigned token_page(uint64_t token) { return token >> TOKEN_PAGE_SHIFT & 511; }
static inline unsigned token_slot(uint64_t token) { return (unsigned)(token >> TOKEN_SLOT_SHIFT); }

static inline struct entry entry_migrating(uint64_t token)
{
	return (struct entry){ ENTRY_MIGRATING | token << 12 };
}

static inline uint64_t entry_token(struct entry e) { return e.bits >> 12 & TOKEN_MASK; }

static inline struct entry entry_on_device(unsigned device, uint64_t offset, unsigned order)
{
	return (struct entry){ ENTRY_DEVICE | (uint64_t)order << 8 | offset | (uint64_t)device << 52 };
}

static inline struct entry entry_of_table(const struct entry_slot *table)
{
	return (struct entry){ ENTRY_TABLE | (uint64_t)(uintptr_t)table };
}

/*
 * The only writer of states. Keeps LOCK and HUGE of a block's word as they are, and asserts that the move is legal.
 * Context: the block's lock is held.
 */
void entry_set(struct entry_slot *s, struct entry to);

/* A DEVICE entry's folio has become smaller, in place. Context: the block's lock is held. */
void entry_resize(struct entry_slot *s, unsigned order);

/* Adds or takes away flags without changing the state. Context: the block's lock is held. */
void entry_mark(struct entry_slot *s, uint64_t add, uint64_t del);

#endif
