/* SPDX-License-Identifier: MIT */
#ifndef MEM_TABLE_H
#define MEM_TABLE_H

/*
 * Where every block of the program lives: two levels that carry meaning - a word for each block of 2 MiB, and 512 words
 * for a block whose pages differ - under a root that only makes the first level sparse.
 *
 *   root[address >> 30] -> leaf[512 block words] -> TABLE words
 *
 * Leaves appear when a block of theirs is first asked for with @create, and stay until table_fini(): a pointer to a
 * block's word is good for ever. Tables come and go under the block's lock.
 *
 * A block's lock is bit 3 of its word (rank BLOCK), held for less than a microsecond, never across a system call.
 */

#include "base/lock.h"
#include "mem/entry.h"
#include "mem/meta.h"

#define TABLE_ADDRESS_BITS 48 /* user addresses end at 2^47 on x86-64, 2^48 on aarch64 */

struct table {
	/* constant after table_init() */
	struct entry_slot *_Atomic *root; /* 2^18 pointers, touched where used */

	struct meta leaves; /* of 4 KiB: 512 block words */
	struct meta tables; /* of 4 KiB: 512 page words */
};

int table_init(struct table *t);
void table_fini(struct table *t);

/* The word of the block at @addr. Return: NULL when nothing was ever heard of it and !@create, or without memory. */
struct entry_slot *table_block(struct table *t, uint64_t addr, bool create);

void block_lock(struct entry_slot *b);
void block_unlock(struct entry_slot *b);

/*
 * What is known of the page at index @i of a block: of the block as a whole, or of the one page. @ret_slot is the word
 * to change. Context: holds the block's lock.
 */
struct entry block_page(struct entry_slot *b, unsigned i, struct entry_slot **ret_slot);

/*
 * Gives each page of the block its own word, which says the same as the block's did; a device folio's pages become order
 * 0 (the caller tells the device). A no-op for a TABLE. Return: 0 or -ENOMEM, nothing changed. Context: holds the lock.
 */
int block_split(struct table *t, struct entry_slot *b);

/*
 * The same with a table that was allocated before (from t->tables): cannot fail. Not for a TABLE.
 * @order: what the caller has split a device folio into, below 9
 */
void block_split_into(struct entry_slot *b, struct entry_slot *words, unsigned order);

/* What page @i of a block says, when the block as a whole says @e and its device folio, if any, is now several of @order. */
struct entry entry_of_page(struct entry e, unsigned i, unsigned order);

/*
 * The folios of a TABLE: each of the 2^k words of a folio says order k and its page's own offset, and a folio is aligned to its
 * size in the block as it is on the device. So its first page is found by masking.
 */
static inline unsigned folio_head(unsigned i, unsigned order) { return i & ~(order_pages(order) - 1); }

/* The folio of the larger order that page @i is in has been split: its words say @order. Context: holds the block's lock. */
void words_split(struct entry_slot *words, unsigned i, unsigned order);

/* A TABLE whose words mean nothing any more becomes SYSTEM. Context: holds the lock. */
void block_join(struct table *t, struct entry_slot *b);

/* When all 512 pages are plain SYSTEM, makes the block SYSTEM again. Context: holds the lock. */
void block_collapse(struct table *t, struct entry_slot *b);

/* Without a lock, for looking only: may be stale. */
struct entry table_peek(struct table *t, uint64_t addr);

/* Calls @visit for every block of [start, end) that was ever heard of, in order, without locks; stops when it returns
 * non-zero, and returns that. */
int table_walk(struct table *t, uint64_t start, uint64_t end,
	       int (*visit)(void *ctx, uint64_t addr, struct entry_slot *b), void *ctx);

uint64_t table_bytes(struct table *t);

#endif
