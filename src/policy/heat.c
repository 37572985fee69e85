/* SPDX-License-Identifier: MIT */
#include "policy/heat.h"

#include <errno.h>
#include <string.h>

#include "mem/table.h"
#include "os/map.h"

#define LEAF_SHIFT  30
#define LEAF_BLOCKS (1u << (LEAF_SHIFT - BLOCK_SHIFT))
#define ROOT_BYTES  (sizeof(void *) << (TABLE_ADDRESS_BITS - LEAF_SHIFT))

int heat_init(struct heat *h)
{
	h->root = map_own(ROOT_BYTES, 0);
	if (!h->root)
		return -ENOMEM;
	meta_init(&h->leaves, LEAF_BLOCKS);
	return 0;
}

void heat_fini(struct heat *h)
{
	if (!h->root)
		return;
	meta_fini(&h->leaves);
	map_own_free((void *)h->root, ROOT_BYTES);
	h->root = NULL;
}

_Atomic uint8_t *heat_of(struct heat *h, uint64_t addr)
{
	_Atomic(_Atomic uint8_t *) *slot = &h->root[addr >> LEAF_SHIFT];
	_Atomic uint8_t *leaf = atomic_load_explicit(slot, memory_order_acquire), *none = NULL;

	if (!leaf) {
		leaf = meta_alloc(&h->leaves);
		if (!leaf)
			return NULL;
		memset((void *)leaf, HEAT_UNSEEN, LEAF_BLOCKS);
		if (!atomic_compare_exchange_strong(slot, &none, leaf)) {
			meta_free(&h->leaves, (void *)leaf);
			leaf = none;
		}
	}
	return &leaf[addr >> BLOCK_SHIFT & (LEAF_BLOCKS - 1)];
}

static unsigned get(_Atomic uint8_t *at)
{
	return atomic_load_explicit(at, memory_order_relaxed);
}

static void set_laps(_Atomic uint8_t *at, unsigned laps)
{
	atomic_store_explicit(at, (uint8_t)((get(at) & ~HEAT_LAPS) | laps), memory_order_relaxed);
}

static void set_dense(_Atomic uint8_t *at, unsigned times)
{
	atomic_store_explicit(at, (uint8_t)((get(at) & HEAT_LAPS) | times << HEAT_DENSE_SHIFT), memory_order_relaxed);
}

void heat_warm(struct heat *h, uint64_t addr, unsigned by, unsigned most)
{
	_Atomic uint8_t *at = heat_of(h, addr);
	unsigned now, laps;

	if (!at)
		return;
	now = get(at) & HEAT_LAPS;
	laps = (now < HEAT_COLD ? HEAT_COLD : now) + by;
	if (laps > most)
		laps = most;
	if (laps > now)
		set_laps(at, laps);
}

bool heat_cool(struct heat *h, uint64_t addr)
{
	_Atomic uint8_t *at = heat_of(h, addr);
	unsigned now = at ? get(at) & HEAT_LAPS : HEAT_COLD;

	if (now == HEAT_COLD)
		return true;
	set_laps(at, now == HEAT_UNSEEN ? HEAT_COLD : now - 1);
	return false;
}

void heat_dense(struct heat *h, uint64_t addr)
{
	_Atomic uint8_t *at = heat_of(h, addr);

	if (at)
		set_dense(at, HEAT_DENSE_MAX);
}

bool heat_take_dense(struct heat *h, uint64_t addr)
{
	_Atomic uint8_t *at = heat_of(h, addr);
	unsigned times = at ? get(at) >> HEAT_DENSE_SHIFT : 0;

	if (times)
		set_dense(at, times - 1);
	return times;
}
