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

void heat_warm(struct heat *h, uint64_t addr, unsigned by)
{
	_Atomic uint8_t *at = heat_of(h, addr);
	unsigned now;

	if (!at)
		return;
	now = atomic_load_explicit(at, memory_order_relaxed);
	now = (now < HEAT_COLD ? HEAT_COLD : now) + by;
	atomic_store_explicit(at, (uint8_t)(now > HEAT_MAX ? HEAT_MAX : now), memory_order_relaxed);
}
