/* SPDX-License-Identifier: MIT */
/*
 * Compressed pieces have all sizes, come in any order and go in another. Classes of sizes over chunks, as zsmalloc has, lose
 * a little in each object and half a chunk in each class; here free neighbours are merged and the best bin is found in constant
 * time (two-level segregated fit), so that what is lost is 8 bytes an object, rounding to 16, and holes that the next object
 * of a like size fills. A block is
 *
 *   used:  header | object                              header: size | PREV_FREE
 *   free:  header | next | prev | ... | size            header: size | FREE | CLEAN
 *
 * and its size a multiple of 16, at least 32. Two free blocks are never neighbours. A used block of size 0 ends the arena.
 *
 * Memory goes back to the system when a quarter of what is touched is not used: then the large free blocks are discarded, but
 * for their edges. A block is taken out of its bin for that time, so that no lock is held across the system call; an
 * allocation that finds no room meanwhile waits for it. CLEAN says that it has been done, and nothing is merged since.
 */
#include "drivers/packed/heap.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/pages.h"
#include "uhmm/driver.h"

#define FREE      UINT64_C(1) /* this block is */
#define PREV_FREE UINT64_C(2) /* the one before it is, and its size stands before the header */
#define CLEAN     UINT64_C(4)
#define FLAGS     UINT64_C(15)

#define MIN_BLOCK   UINT64_C(32)
#define TRIM_FL     18                   /* blocks from 256 KiB up are given back */
#define TRIM_AFTER  (UINT64_C(1) << 20)  /* not before as much has been freed */
#define TRIM_SLACK  (UINT64_C(4) << 20)  /* nor for less than that */
#define TRIM_BLOCKS 16u                  /* at once */

static uint64_t *word(struct heap *h, uint64_t at) { return (uint64_t *)(void *)(h->base + at); }
static uint64_t size_of(struct heap *h, uint64_t b) { return *word(h, b) & ~FLAGS; }

/* ---- which pages the kernel has given memory for ---- */

static void touch(struct heap *h, uint64_t start, uint64_t end)
{
	uint64_t fresh = 0;

	for (uint64_t page = start >> PAGE_SHIFT; page <= (end - 1) >> PAGE_SHIFT; page++) {
		uint64_t bit = UINT64_C(1) << page % 64;

		fresh += !(h->touched[page / 64] & bit);
		h->touched[page / 64] |= bit;
	}
	if (end > h->top)
		h->top = page_up(end);
	if (fresh)
		atomic_fetch_add_explicit(&h->touched_bytes, fresh * PAGE_BYTES, memory_order_relaxed);
}

static void untouch(struct heap *h, uint64_t start, uint64_t end)
{
	uint64_t gone = 0;

	for (uint64_t page = start >> PAGE_SHIFT; page < end >> PAGE_SHIFT; page++) {
		uint64_t bit = UINT64_C(1) << page % 64;

		gone += !!(h->touched[page / 64] & bit);
		h->touched[page / 64] &= ~bit;
	}
	atomic_fetch_sub_explicit(&h->touched_bytes, gone * PAGE_BYTES, memory_order_relaxed);
}

/* ---- bins ---- */

static unsigned fl_of(uint64_t size) { return 63 - (unsigned)__builtin_clzll(size); }
static unsigned sl_of(uint64_t size) { return (unsigned)(size >> (fl_of(size) - 4)) % HEAP_NR_SL; }

static void bin_put(struct heap *h, uint64_t b, uint64_t size, uint64_t flags)
{
	unsigned fl = fl_of(size), sl = sl_of(size);
	uint64_t next = h->first[fl][sl];

	*word(h, b) = size | FREE | flags;
	*word(h, b + 8) = next;
	*word(h, b + 16) = UINT64_MAX;
	*word(h, b + size - 8) = size;
	*word(h, b + size) |= PREV_FREE;
	if (next != UINT64_MAX)
		*word(h, next + 16) = b;
	h->first[fl][sl] = b;
	h->bins |= UINT64_C(1) << fl;
	h->bins_of[fl] |= (uint16_t)(1u << sl);
}

static void bin_take(struct heap *h, uint64_t b)
{
	uint64_t size = size_of(h, b), next = *word(h, b + 8), prev = *word(h, b + 16);
	unsigned fl = fl_of(size), sl = sl_of(size);

	if (next != UINT64_MAX)
		*word(h, next + 16) = prev;
	if (prev != UINT64_MAX)
		*word(h, prev + 8) = next;
	else
		h->first[fl][sl] = next;
	if (h->first[fl][sl] == UINT64_MAX)
		h->bins_of[fl] &= (uint16_t)~(1u << sl);
	if (!h->bins_of[fl])
		h->bins &= ~(UINT64_C(1) << fl);
	*word(h, b + size) &= ~PREV_FREE;
}

/* A free block of at least @size; every block of the bin that is found is large enough, but for a last look into @size's own. */
static uint64_t find(struct heap *h, uint64_t size)
{
	uint64_t above = size + (UINT64_C(1) << (fl_of(size) - 4)) - 1, b;
	unsigned fl = fl_of(above), sl = sl_of(above);
	unsigned of = fl < HEAP_NR_FL ? h->bins_of[fl] & ~0u << sl : 0;
	uint64_t bins;

	if (of)
		return h->first[fl][__builtin_ctz(of)];
	bins = fl + 1 < HEAP_NR_FL ? h->bins & ~UINT64_C(0) << (fl + 1) : 0;
	if (bins) {
		fl = (unsigned)__builtin_ctzll(bins);
		return h->first[fl][__builtin_ctz(h->bins_of[fl])];
	}
	b = fl_of(size) < HEAP_NR_FL ? h->first[fl_of(size)][sl_of(size)] : UINT64_MAX;
	for (unsigned looks = 0; b != UINT64_MAX && looks < 64; looks++, b = *word(h, b + 8))
		if (size_of(h, b) >= size)
			return b;
	return UINT64_MAX;
}

/* ---- what others call ---- */

int heap_init(struct heap *h, uint64_t bytes)
{
	uint64_t end = bytes - 16;

	*h = (struct heap){ .bytes = bytes };
	h->base = uhmm_host_reserve(bytes);
	h->touched = uhmm_host_reserve(block_up(bytes / PAGE_BYTES / 8));
	if (!h->base || !h->touched) {
		heap_fini(h);
		return -ENOMEM;
	}
	pthread_mutex_init(&h->lock, NULL);
	for (unsigned fl = 0; fl < HEAP_NR_FL; fl++)
		for (unsigned sl = 0; sl < HEAP_NR_SL; sl++)
			h->first[fl][sl] = UINT64_MAX;
	touch(h, end - 8, bytes);
	h->top = 0;
	touch(h, 0, 24);
	bin_put(h, 0, end, CLEAN);
	return 0;
}

void heap_fini(struct heap *h)
{
	uhmm_host_free(h->base, h->bytes);
	uhmm_host_free(h->touched, block_up(h->bytes / PAGE_BYTES / 8));
	h->base = NULL;
	h->touched = NULL;
}

static uint64_t alloc_locked(struct heap *h, uint64_t size)
{
	uint64_t b = find(h, size), all;

	if (b == UINT64_MAX)
		return 0;
	all = size_of(h, b);
	bin_take(h, b);
	if (all - size < MIN_BLOCK) {
		size = all;
	} else {
		touch(h, b + size, b + size + 24);
		bin_put(h, b + size, all - size, *word(h, b) & CLEAN);
	}
	touch(h, b, b + size);
	*word(h, b) = size; /* the one before is used: two free ones would be one */
	atomic_fetch_add_explicit(&h->used_bytes, size, memory_order_relaxed);
	return b + 8;
}

uint64_t heap_alloc(struct heap *h, size_t bytes)
{
	uint64_t size = max_u64((bytes + 8 + 15) & ~UINT64_C(15), MIN_BLOCK), object;

	for (;;) {
		unsigned trims;

		pthread_mutex_lock(&h->lock);
		object = alloc_locked(h, size);
		trims = h->trims;
		pthread_mutex_unlock(&h->lock);
		if (object || !trims)
			return object;
		sched_yield(); /* what is out of its bin comes back: it is one system call away */
	}
}

/* Merges with its neighbours. @flags: CLEAN if it is, which a merge ends. */
static void free_locked(struct heap *h, uint64_t b, uint64_t flags)
{
	uint64_t size = size_of(h, b), next = b + size;

	if (*word(h, next) & FREE) {
		size += size_of(h, next);
		bin_take(h, next);
		flags = 0;
	}
	if (*word(h, b) & PREV_FREE) {
		b -= *word(h, b - 8);
		size += size_of(h, b);
		bin_take(h, b);
		flags = 0;
	}
	bin_put(h, b, size, flags);
}

static uint64_t find_dirty(struct heap *h)
{
	for (unsigned fl = HEAP_NR_FL - 1; fl >= TRIM_FL; fl--)
		for (unsigned sl = 0; h->bins_of[fl] && sl < HEAP_NR_SL; sl++)
			for (uint64_t b = h->first[fl][sl]; b != UINT64_MAX; b = *word(h, b + 8))
				if (!(*word(h, b) & CLEAN))
					return b;
	return UINT64_MAX;
}

/* Gives the inside of one large free block back. Return: there was one. Context: holds the lock, which is dropped for a time. */
static bool trim_one(struct heap *h)
{
	uint64_t b = find_dirty(h), size, start, end;

	if (b == UINT64_MAX)
		return false;
	size = size_of(h, b);
	bin_take(h, b);
	*word(h, b) = size; /* used, for all that others can see */
	start = page_up(b + 24);
	end = min_u64(page_down(b + size - 8), h->top);
	untouch(h, start, end);
	h->trims++;
	pthread_mutex_unlock(&h->lock);
	if (end > start)
		uhmm_host_discard(h->base + start, end - start);
	pthread_mutex_lock(&h->lock);
	h->trims--;
	free_locked(h, b, CLEAN);
	return true;
}

static void trim(struct heap *h)
{
	uint64_t used = atomic_load_explicit(&h->used_bytes, memory_order_relaxed);
	uint64_t slack = atomic_load_explicit(&h->touched_bytes, memory_order_relaxed) - used;

	if (h->freed_bytes < TRIM_AFTER || slack < TRIM_SLACK || slack < used / 3)
		return;
	h->freed_bytes = 0;
	for (unsigned i = 0; i < TRIM_BLOCKS; i++)
		if (!trim_one(h))
			break;
}

void heap_free(struct heap *h, uint64_t object)
{
	uint64_t b = object - 8, size;

	if (!object)
		return;
	pthread_mutex_lock(&h->lock);
	size = size_of(h, b);
	atomic_fetch_sub_explicit(&h->used_bytes, size, memory_order_relaxed);
	h->freed_bytes += size;
	free_locked(h, b, 0);
	trim(h);
	pthread_mutex_unlock(&h->lock);
}

const char *heap_check(struct heap *h)
{
	uint64_t b = 0, used = 0, nr_free = 0, nr_binned = 0, before = 0;

	for (; size_of(h, b); b += size_of(h, b)) {
		uint64_t w = *word(h, b), size = size_of(h, b);

		if (size < MIN_BLOCK || b + size > h->bytes - 16)
			return "a block has no such size";
		if (!!(w & PREV_FREE) != !!(before & FREE))
			return "a block knows its neighbour wrongly";
		if (w & FREE && (before & FREE || *word(h, b + size - 8) != size))
			return "free neighbours, or a size that is not at both ends";
		nr_free += w & FREE;
		used += w & FREE ? 0 : size;
		before = w;
	}
	if (b != h->bytes - 16 || used != h->used_bytes)
		return "the arena does not end where it should, or the sum is wrong";
	for (unsigned fl = 0; fl < HEAP_NR_FL; fl++)
		for (unsigned sl = 0; sl < HEAP_NR_SL; sl++) {
			if ((h->first[fl][sl] != UINT64_MAX) != (h->bins_of[fl] >> sl & 1))
				return "a bin's bit is wrong";
			for (b = h->first[fl][sl]; b != UINT64_MAX; b = *word(h, b + 8), nr_binned++)
				if (!(*word(h, b) & FREE) || fl_of(size_of(h, b)) != fl || sl_of(size_of(h, b)) != sl)
					return "a block is in the wrong bin";
		}
	return nr_free == nr_binned ? NULL : "a free block is in no bin";
}
