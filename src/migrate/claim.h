/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_CLAIM_H
#define MIGRATE_CLAIM_H

/*
 * A claim: the pages of one block that this thread has made MIGRATING. Nobody else moves, fills or frees them until the
 * claim ends them one by one or all at once; a CPU that touches one waits.
 *
 * While a claim is held, events may still speak of its pages: they mark them DEAD (unmapped or discarded), and if only
 * a part of a whole block is meant they split it under the claimer's hands. mremap may take pages to another address: the
 * event writes that into the claim (claim_page_moved), which it finds by the token in the word. And where mremap puts pages
 * down, it takes the place out of the hands of whoever had claimed it before: that claimer finds another token, and the
 * page is as good as DEAD.
 *
 * Events are applied inside the gate on their side, so a claim is looked at and ended inside it on the other: claim_enter()
 * and claim_leave(). The functions below that need it enter by themselves when the caller has not.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/pageset.h"
#include "migrate/folios.h"
#include "space/space.h"

struct claim {
	struct space *sp;
	uint64_t addr;             /* of the block */
	struct entry_slot *block;
	bool whole;                /* the block's own word is MIGRATING, and mine */
	struct pageset mine;       /* !whole: these pages' words are; whole: all */
	struct pageset written;    /* of what was on a device: the device has written to it */
	uint64_t token;            /* what my words carry, with the page in it */
	bool known;                /* by its token: space.claims */
	bool inside;               /* between claim_enter() and claim_leave() */
	atomic_bool wanted;        /* a CPU waits for one of its pages: set by fault threads, under the lock of the page's block */

	/*
	 * Where the bytes are while the words do not say it, for a child that is forked now. One of them, or none: then the
	 * program still has the pages. Written before the gate is entered, read by events.
	 */
	const uint64_t *from;      /* on a device: their offsets, as claim_device() gave them, */
	unsigned from_device;
	bool from_whole;           /* or the offset of the one folio of all */
	uint64_t staged;           /* in a staging slot: those that are present there, each at its own offset */
	_Atomic bool writing;      /* a device is writing to the folios, which are not lent; no lock is needed for it to end */

	/* written by events, read inside the gate */
	struct pageset moved;      /* of mine: mremap has taken them elsewhere, */
	uint64_t at[PAGES_PER_BLOCK]; /* to these addresses */
};

/*
 * Claims what is SYSTEM of pages [first, end) of the block at @addr. What is not is put into one of the sets.
 * Return: 0, also when nothing was claimed; -ENOMEM without memory for the table, nothing claimed.
 */
struct claim_misses {
	struct pageset device; /* on a device: @addr's entry says which */
	struct pageset busy;   /* in somebody else's claim, or about to be discarded */
};
int claim_system(struct claim *c, struct space *sp, uint64_t addr, unsigned first, unsigned end,
		 struct claim_misses *ret_misses);

/*
 * Claims what of pages [first, end) is on one device - @device, or with 0 the one the first of them is on.
 * @ret_device, @f: where the bytes are
 * @ret_need_split: set when first or end cut a folio, and nothing is claimed then. NULL: such a folio is claimed as a whole.
 */
void claim_device(struct claim *c, struct space *sp, uint64_t addr, unsigned first, unsigned end, unsigned device,
		  unsigned *ret_device, struct folios *f, bool *ret_need_split);

bool claim_empty(const struct claim *c);

/* The gate, on the side of moves. */
void claim_enter(struct claim *c);
void claim_leave(struct claim *c);

/* Learns what events have done: splits @c if its block was split; the pages of it that are DEAD, or not mine any more. */
void claim_look(struct claim *c, struct pageset *ret_dead);

/* The pages of it that a CPU waits for. */
void claim_wanted(struct claim *c, struct pageset *ret);

/* Where page @i is now. Context: inside. */
uint64_t claim_address(const struct claim *c, unsigned i);

/* For events, and for fault threads that hold the lock of its block: the claim that @e, a MIGRATING word, belongs to. */
struct claim *claim_of(struct space *sp, struct entry e);
/* mremap has taken page @i, or the whole block, to @to. The words are the caller's business. */
static inline void claim_page_moved(struct claim *c, unsigned i, uint64_t to)
{
	pageset_add(&c->moved, i);
	c->at[i] = to;
}
static inline void claim_block_moved(struct claim *c, uint64_t to, struct entry_slot *block)
{
	c->addr = to;
	c->block = block;
}

/* Makes each page its own, so that they can be ended one by one. Return: 0 or -ENOMEM, nothing changed. */
int claim_split(struct claim *c);

/*
 * Ends the claim of @pages (of all, when whole): each becomes what @value makes of what it says @now. Pages that are not
 * the claimer's any more are passed over.
 * Return: may a fault wait for one? Then the block must be woken. (Who waits for a page that was moved is woken here.)
 */
typedef struct entry claim_value_fn(void *ctx, struct entry now, unsigned i);
bool claim_end(struct claim *c, const struct pageset *pages, claim_value_fn *value, void *ctx);

/* The same for all of a whole claim. Return: as above, or CLAIM_WAS_SPLIT: it is not whole any more, nothing has changed. */
#define CLAIM_WAS_SPLIT (-1)
int claim_end_whole(struct claim *c, claim_value_fn *value, void *ctx);

/* Ends the claim of @pages: SYSTEM; DEAD ones that may still be mapped keep the mark of a pending discard if @mapped. */
bool claim_end_system(struct claim *c, const struct pageset *pages, bool mapped);

/*
 * Lets all who wait for a page of the block look again; for a page from the first of @pages to the last. Who was woken
 * expects that it is over: the claim ended, the folios free. A program of one thread that touches a page and then moves or
 * counts what is on the device must not find the remains of its own touch, so the wake comes last, and no ioctl that
 * installs a page wakes by itself.
 */
void claim_wake(const struct claim *c);
void claim_wake_pages(const struct claim *c, const struct pageset *pages);

extern const struct pageset pageset_all;

#endif
