/* SPDX-License-Identifier: MIT */
/*
 * The word of a block, by its low two bits:
 *
 *   0  never used, when the index is at or above fresh; else on its way between two states of one thread
 *   1  free: bits 32.. hold the index + 1 of the next block on the free stack, 0 at the bottom
 *   2  whole
 *   3  split: the rest is the address of the record
 *
 * The free stack is popped by compare-and-swap on a head that carries a tag: a thread that read the link of a block which
 * was popped, used and pushed again meanwhile finds another tag and starts over. Words are never unmapped, so the stale
 * link it read was harmless.
 *
 * The record of a split block holds a bitmap for each order 0..8: a set bit is a free piece of exactly that order, so the
 * two halves of a free piece are not marked. Freeing merges upwards while the neighbour's bit is set.
 */
#include "mem/buddy.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "os/map.h"

#define KIND       UINT64_C(3)
#define KIND_FREE  UINT64_C(1)
#define KIND_WHOLE UINT64_C(2)
#define KIND_SPLIT UINT64_C(3)

/* Bitmaps of 512, 256, 128, 64 ... 2 bits; each starts at a word of its own. */
#define BITMAP_WORDS 20
static const uint8_t bitmap_at[BLOCK_ORDER] = { 0, 8, 12, 14, 15, 16, 17, 18, 19 };

struct split {
	struct split *prev, *next;   /* in by_order[max_order] */
	uint32_t block;
	int32_t max_order;           /* of the largest free piece; -1: nothing is free, and it is in no list */
	uint64_t free[BITMAP_WORDS];
};

int buddy_init(struct buddy *b, uint64_t size_bytes)
{
	memset(b, 0, sizeof(*b));
	b->nr_blocks = size_bytes >> BLOCK_SHIFT;
	b->word = map_own(b->nr_blocks * sizeof(*b->word), 0);
	if (!b->word)
		return -ENOMEM;
	lock_init(&b->lock, LOCK_DEVICE);
	meta_init(&b->records, sizeof(struct split));
	return 0;
}

void buddy_fini(struct buddy *b)
{
	if (!b->word)
		return;
	meta_fini(&b->records);
	lock_fini(&b->lock);
	map_own_free((void *)b->word, b->nr_blocks * sizeof(*b->word));
	b->word = NULL;
}

static void count(struct buddy *b, unsigned order, int64_t n)
{
	atomic_fetch_add_explicit(&b->nr_folios[order], (uint64_t)n, memory_order_release);
}

/* ---- whole blocks ---- */

static bool pop_block(struct buddy *b, uint64_t *ret_index)
{
	uint64_t head = atomic_load_explicit(&b->free_head, memory_order_acquire);
	uint64_t index, next;

	while ((uint32_t)head) {
		index = (uint32_t)head - 1;
		next = atomic_load_explicit(&b->word[index], memory_order_relaxed) >> 32;
		if (atomic_compare_exchange_weak_explicit(&b->free_head, &head, ((head >> 32) + 1) << 32 | next,
							  memory_order_acquire, memory_order_acquire)) {
			*ret_index = index;
			return true;
		}
	}
	return false;
}

static void push_block(struct buddy *b, uint64_t index)
{
	uint64_t head = atomic_load_explicit(&b->free_head, memory_order_relaxed);

	do {
		atomic_store_explicit(&b->word[index], (head & UINT32_MAX) << 32 | KIND_FREE, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(&b->free_head, &head, ((head >> 32) + 1) << 32 | (index + 1),
							memory_order_release, memory_order_relaxed));
}

static int take_block(struct buddy *b, uint64_t *ret_index)
{
	uint64_t fresh;

	if (pop_block(b, ret_index))
		return 0;
	fresh = atomic_load_explicit(&b->fresh, memory_order_relaxed);
	while (fresh < b->nr_blocks) {
		if (atomic_compare_exchange_weak_explicit(&b->fresh, &fresh, fresh + 1, memory_order_relaxed,
							  memory_order_relaxed)) {
			*ret_index = fresh;
			return 0;
		}
	}
	return -ENOMEM;
}

/* ---- split blocks; all under the lock ---- */

static bool bit_test(const struct split *s, unsigned order, unsigned i)
{
	return s->free[bitmap_at[order] + i / 64] >> (i % 64) & 1;
}

static void bit_flip(struct split *s, unsigned order, unsigned i)
{
	s->free[bitmap_at[order] + i / 64] ^= UINT64_C(1) << (i % 64);
}

static unsigned bit_first(const struct split *s, unsigned order)
{
	const uint64_t *map = &s->free[bitmap_at[order]];
	unsigned w = 0;

	while (!map[w])
		w++;
	return w * 64 + (unsigned)__builtin_ctzll(map[w]);
}

static bool order_empty(const struct split *s, unsigned order)
{
	unsigned words = order < 3 ? 8u >> order : 1;

	for (unsigned w = 0; w < words; w++)
		if (s->free[bitmap_at[order] + w])
			return false;
	return true;
}

static void unlist(struct buddy *b, struct split *s)
{
	if (s->max_order < 0)
		return;
	if (s->prev)
		s->prev->next = s->next;
	else
		b->by_order[s->max_order] = s->next;
	if (s->next)
		s->next->prev = s->prev;
}

/* Puts the block into the list of its largest free piece. */
static void relist(struct buddy *b, struct split *s)
{
	int max = BLOCK_ORDER - 1;

	while (max >= 0 && order_empty(s, (unsigned)max))
		max--;
	if (max == s->max_order)
		return;
	unlist(b, s);
	s->max_order = max;
	if (max < 0)
		return;
	s->prev = NULL;
	s->next = b->by_order[max];
	if (s->next)
		s->next->prev = s;
	b->by_order[max] = s;
}

static struct split *record_of(struct buddy *b, uint64_t index)
{
	uint64_t w = atomic_load_explicit(&b->word[index], memory_order_relaxed);

	return (w & KIND) == KIND_SPLIT ? (struct split *)(uintptr_t)(w & ~KIND) : NULL;
}

/* A record for a block in which nothing is free yet. */
static struct split *record_create(struct buddy *b, uint64_t index)
{
	struct split *s = meta_alloc(&b->records);

	if (!s)
		return NULL;
	memset(s, 0, sizeof(*s));
	s->block = (uint32_t)index;
	s->max_order = -1;
	atomic_store_explicit(&b->word[index], (uint64_t)(uintptr_t)s | KIND_SPLIT, memory_order_relaxed);
	return s;
}

/* Cuts a piece of @order off the head of the piece (@from, @i), which is not marked free any more. */
static uint64_t cut(struct split *s, unsigned from, unsigned i, unsigned order)
{
	while (from > order) {
		from--;
		i *= 2;
		bit_flip(s, from, i + 1);
	}
	return (uint64_t)s->block * BLOCK_BYTES + i * order_bytes(order);
}

static int alloc_small_locked(struct buddy *b, unsigned order, uint64_t *ret_offset)
{
	struct split *s;
	uint64_t index;

	for (unsigned k = order; k < BLOCK_ORDER; k++) {
		unsigned from = order, i;

		s = b->by_order[k];
		if (!s)
			continue;
		/* the smallest piece that will do: large ones stay whole, and one page after another gets the next offset */
		while (order_empty(s, from))
			from++;
		i = bit_first(s, from);
		bit_flip(s, from, i);
		*ret_offset = cut(s, from, i, order);
		relist(b, s);
		return 0;
	}

	if (take_block(b, &index))
		return -ENOMEM;
	s = record_create(b, index);
	if (!s) {
		push_block(b, index);
		return -ENOMEM;
	}
	*ret_offset = cut(s, BLOCK_ORDER, 0, order);
	relist(b, s);
	return 0;
}

static void free_small_locked(struct buddy *b, uint64_t offset, unsigned order)
{
	uint64_t index = offset >> BLOCK_SHIFT;
	struct split *s = record_of(b, index);
	unsigned i = page_in_block(offset) >> order;

	uhmm_assert(s && !bit_test(s, order, i));
	while (order < BLOCK_ORDER && bit_test(s, order, i ^ 1)) {
		bit_flip(s, order, i ^ 1);
		i /= 2;
		order++;
	}
	if (order < BLOCK_ORDER) {
		bit_flip(s, order, i);
		relist(b, s);
		return;
	}
	/* the two halves have met: the block is whole, and nobody's */
	unlist(b, s);
	meta_free(&b->records, s);
	push_block(b, index);
}

/* ---- what others call ---- */

int buddy_alloc(struct buddy *b, unsigned order, uint64_t *ret_offset)
{
	uint64_t index;
	int r;

	if (order < BLOCK_ORDER) {
		lock_take(&b->lock);
		r = alloc_small_locked(b, order, ret_offset);
		lock_drop(&b->lock);
	} else {
		r = take_block(b, &index);
		if (!r) {
			atomic_store_explicit(&b->word[index], KIND_WHOLE, memory_order_relaxed);
			*ret_offset = index << BLOCK_SHIFT;
		}
	}
	if (!r)
		count(b, order, 1);
	return r;
}

void buddy_free(struct buddy *b, uint64_t offset, unsigned order)
{
	uint64_t index = offset >> BLOCK_SHIFT;

	uhmm_assert(index < b->nr_blocks && !(offset & (order_bytes(order) - 1)));
	if (order == BLOCK_ORDER) {
		uhmm_assert(atomic_load_explicit(&b->word[index], memory_order_relaxed) == KIND_WHOLE);
		push_block(b, index);
	} else {
		lock_take(&b->lock);
		free_small_locked(b, offset, order);
		lock_drop(&b->lock);
	}
	/* last: who sees nothing in use may close the device */
	count(b, order, -1);
}

/* Bits stand for what is free, so a folio in a block that has a record is split by counting it otherwise. */
int buddy_split(struct buddy *b, uint64_t offset, unsigned order, unsigned to)
{
	uint64_t index = offset >> BLOCK_SHIFT;
	struct split *s;

	uhmm_assert(to < order && !(offset & (order_bytes(order) - 1)));
	lock_take(&b->lock);
	if (order == BLOCK_ORDER) {
		uhmm_assert(atomic_load_explicit(&b->word[index], memory_order_relaxed) == KIND_WHOLE);
		s = record_create(b, index);
	} else {
		s = record_of(b, index);
		uhmm_assert(s && !bit_test(s, order, page_in_block(offset) >> order));
	}
	lock_drop(&b->lock);
	if (!s)
		return -ENOMEM;
	count(b, to, INT64_C(1) << (order - to));
	count(b, order, -1);
	return 0;
}

bool buddy_is_used(struct buddy *b, uint64_t offset, unsigned order)
{
	uint64_t index = offset >> BLOCK_SHIFT;
	unsigned first = page_in_block(offset), end = first + order_pages(order);
	struct split *s;
	bool used = true;

	if (index >= b->nr_blocks)
		return false;
	lock_take(&b->lock);
	s = record_of(b, index);
	if (!s || order == BLOCK_ORDER)
		used = order == BLOCK_ORDER && atomic_load_explicit(&b->word[index], memory_order_relaxed) == KIND_WHOLE;
	for (unsigned k = 0; used && s && k < BLOCK_ORDER; k++)
		for (unsigned i = first >> k; i <= (end - 1) >> k; i++)
			used = used && !bit_test(s, k, i);
	lock_drop(&b->lock);
	return used;
}

uint64_t buddy_used_bytes(struct buddy *b)
{
	uint64_t bytes = 0;

	/* from the largest down: a folio that is split meanwhile is seen as one or the other, or as both */
	for (unsigned k = NR_ORDERS; k-- > 0;)
		bytes += atomic_load_explicit(&b->nr_folios[k], memory_order_acquire) * order_bytes(k);
	return bytes;
}

uint64_t buddy_metadata_bytes(struct buddy *b)
{
	uint64_t used_words = min_u64(atomic_load_explicit(&b->fresh, memory_order_relaxed), b->nr_blocks);

	return page_up(used_words * sizeof(*b->word)) + meta_bytes(&b->records);
}
