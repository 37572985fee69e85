/* SPDX-License-Identifier: MIT */
#include "mem/table.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/map.h"

#define LEAF_SHIFT 30
#define NR_LEAVES  (UINT64_C(1) << (TABLE_ADDRESS_BITS - LEAF_SHIFT))
#define ROOT_BYTES (NR_LEAVES * sizeof(struct entry_slot *))

int table_init(struct table *t)
{
	t->root = map_own(ROOT_BYTES, 0);
	if (!t->root)
		return -ENOMEM;
	meta_init(&t->leaves, PAGE_BYTES);
	meta_init(&t->tables, PAGE_BYTES);
	return 0;
}

void table_fini(struct table *t)
{
	if (!t->root)
		return;
	meta_fini(&t->leaves);
	meta_fini(&t->tables);
	map_own_free(t->root, ROOT_BYTES);
	t->root = NULL;
}

static struct entry_slot *leaf_create(struct table *t, struct entry_slot *_Atomic *at)
{
	struct entry_slot *leaf = meta_alloc(&t->leaves), *other = NULL;

	if (!leaf)
		return NULL;
	memset(leaf, 0, PAGE_BYTES);
	if (atomic_compare_exchange_strong_explicit(at, &other, leaf, memory_order_acq_rel, memory_order_acquire))
		return leaf;
	meta_free(&t->leaves, leaf);
	return other;
}

struct entry_slot *table_block(struct table *t, uint64_t addr, bool create)
{
	struct entry_slot *_Atomic *at;
	struct entry_slot *leaf;

	if (addr >> TABLE_ADDRESS_BITS)
		return NULL;
	at = &t->root[addr >> LEAF_SHIFT];
	leaf = atomic_load_explicit(at, memory_order_acquire);
	if (!leaf && create)
		leaf = leaf_create(t, at);
	return leaf ? &leaf[addr >> BLOCK_SHIFT & 511] : NULL;
}

void block_lock(struct entry_slot *b)
{
	unsigned spins = 0;

	lock_rank_enter(LOCK_BLOCK);
	while (atomic_fetch_or_explicit(&b->word, ENTRY_LOCK, memory_order_acquire) & ENTRY_LOCK) {
		/* the holder makes no system call: if this lasts, it has lost its CPU */
		if (++spins < 100)
			cpu_relax();
		else
			sched_yield();
	}
}

void block_unlock(struct entry_slot *b)
{
	atomic_fetch_and_explicit(&b->word, ~ENTRY_LOCK, memory_order_release);
	lock_rank_leave(LOCK_BLOCK);
}

struct entry block_page(struct entry_slot *b, unsigned i, struct entry_slot **ret_slot)
{
	struct entry e = entry_get(b);

	if (entry_state(e) == ENTRY_TABLE)
		b = &entry_table(e)[i];
	*ret_slot = b;
	return entry_get(b);
}

struct entry entry_of_page(struct entry e, unsigned i, unsigned order)
{
	uint64_t flags = e.bits & (ENTRY_WAITERS | ENTRY_DEAD | ENTRY_ZAP | ENTRY_LOST | ENTRY_WRITTEN);
	uint64_t bits = (uint64_t)entry_state(e);

	if (entry_state(e) == ENTRY_DEVICE)
		bits = entry_on_device(entry_device(e), entry_offset(e) + i * PAGE_BYTES, order).bits;
	if (entry_state(e) == ENTRY_SYSTEM && entry_has(e, ENTRY_ZAP))
		bits = entry_zapped(entry_zap_s(e)).bits;
	if (entry_state(e) == ENTRY_MIGRATING)
		bits = entry_migrating(token_of_page(entry_token(e), i)).bits;
	return (struct entry){ bits | flags };
}

void block_split_into(struct entry_slot *b, struct entry_slot *words, unsigned order)
{
	struct entry e = entry_get(b);

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		atomic_store_explicit(&words[i].word, entry_of_page(e, i, order).bits, memory_order_relaxed);
	entry_set(b, entry_of_table(words));
}

int block_split(struct table *t, struct entry_slot *b)
{
	struct entry_slot *words;

	if (entry_state(entry_get(b)) == ENTRY_TABLE)
		return 0;
	words = meta_alloc(&t->tables);
	if (!words)
		return -ENOMEM;
	block_split_into(b, words, 0);
	return 0;
}

void words_split(struct entry_slot *words, unsigned i, unsigned order)
{
	unsigned old = entry_order(entry_get(&words[i])), head = folio_head(i, old);

	uhmm_assert(order < old);
	for (i = head; i < head + order_pages(old); i++)
		entry_resize(&words[i], order);
}

void block_join(struct table *t, struct entry_slot *b)
{
	struct entry_slot *words = entry_table(entry_get(b));

	entry_set(b, entry_system());
	meta_free(&t->tables, words);
}

void block_collapse(struct table *t, struct entry_slot *b)
{
	struct entry e = entry_get(b);
	struct entry_slot *words = entry_table(e);

	if (entry_state(e) != ENTRY_TABLE)
		return;
	/* pages mostly come home in order: the last one tells sooner than the first */
	if (entry_get(&words[PAGES_PER_BLOCK - 1]).bits != ENTRY_SYSTEM)
		return;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		if (entry_get(&words[i]).bits != ENTRY_SYSTEM)
			return;
	block_join(t, b);
}

struct entry table_peek(struct table *t, uint64_t addr)
{
	struct entry_slot *b = table_block(t, addr, false);
	struct entry e, page;

	if (!b)
		return entry_system();
	for (;;) {
		e = entry_get(b);
		if (entry_state(e) != ENTRY_TABLE)
			return e;
		page = entry_get(&entry_table(e)[page_in_block(addr)]);
		/* a table that was freed meanwhile is still memory of ours; its words then mean nothing: look again */
		atomic_thread_fence(memory_order_acquire);
		if (((entry_get(b).bits ^ e.bits) & ~ENTRY_LOCK) == 0)
			return page;
	}
}

int table_walk(struct table *t, uint64_t start, uint64_t end,
	       int (*visit)(void *ctx, uint64_t addr, struct entry_slot *b), void *ctx)
{
	uint64_t limit = min_u64(end, UINT64_C(1) << TABLE_ADDRESS_BITS);
	uint64_t addr = block_down(start);

	while (addr < limit) {
		struct entry_slot *b = table_block(t, addr, false);
		int r;

		if (!b) { /* a GiB nobody ever asked for */
			addr = ((addr >> LEAF_SHIFT) + 1) << LEAF_SHIFT;
			continue;
		}
		r = visit(ctx, addr, b);
		if (r)
			return r;
		addr += BLOCK_BYTES;
	}
	return 0;
}

uint64_t table_bytes(struct table *t)
{
	return meta_bytes(&t->leaves) + meta_bytes(&t->tables);
}
