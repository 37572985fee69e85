/* SPDX-License-Identifier: MIT */
/*
 * A stamp is the clock in steps of 2^22 ns, its lower 32 bits; 0 stands for never, and a moment that would be 0 is put one
 * step earlier. Reading takes it for the latest such moment that is not in the future, by subtracting modulo 2^32.
 */
#include "mem/stamp.h"

#include <errno.h>
#include <string.h>

#include "base/pages.h"
#include "os/map.h"

#define ADDRESS_BITS 48
#define LEAF_SHIFT   30
#define STEP_SHIFT   22
#define NR_LEAVES    (UINT64_C(1) << (ADDRESS_BITS - LEAF_SHIFT))
#define NR_STAMPS    (1u << (LEAF_SHIFT - BLOCK_SHIFT))
#define ROOT_BYTES   (NR_LEAVES * sizeof(uint32_t *))
#define LEAF_BYTES   (NR_STAMPS * sizeof(uint32_t))

int stamps_init(struct stamps *s)
{
	s->root = map_own(ROOT_BYTES, 0);
	if (!s->root)
		return -ENOMEM;
	meta_init(&s->leaves, LEAF_BYTES);
	return 0;
}

void stamps_fini(struct stamps *s)
{
	if (!s->root)
		return;
	meta_fini(&s->leaves);
	map_own_free((void *)s->root, ROOT_BYTES);
	s->root = NULL;
}

static _Atomic uint32_t *leaf_create(struct stamps *s, _Atomic uint32_t *_Atomic *at)
{
	_Atomic uint32_t *leaf = meta_alloc(&s->leaves), *other = NULL;

	if (!leaf)
		return NULL;
	memset((void *)leaf, 0, LEAF_BYTES);
	if (atomic_compare_exchange_strong_explicit(at, &other, leaf, memory_order_acq_rel, memory_order_acquire))
		return leaf;
	meta_free(&s->leaves, (void *)leaf);
	return other;
}

static _Atomic uint32_t *leaf_of(const struct stamps *s, uint64_t addr)
{
	return addr >> ADDRESS_BITS ? NULL : atomic_load_explicit(&s->root[addr >> LEAF_SHIFT], memory_order_acquire);
}

void stamps_set(struct stamps *s, uint64_t addr, uint64_t now_ns)
{
	_Atomic uint32_t *leaf = leaf_of(s, addr);
	uint32_t step = (uint32_t)(now_ns >> STEP_SHIFT);

	if (!leaf && !(addr >> ADDRESS_BITS))
		leaf = leaf_create(s, &s->root[addr >> LEAF_SHIFT]);
	if (leaf)
		atomic_store_explicit(&leaf[(addr >> BLOCK_SHIFT) % NR_STAMPS], step ? step : UINT32_MAX, memory_order_relaxed);
}

uint64_t stamps_get(const struct stamps *s, uint64_t addr, uint64_t now_ns)
{
	_Atomic uint32_t *leaf = leaf_of(s, addr);
	uint32_t step = leaf ? atomic_load_explicit(&leaf[(addr >> BLOCK_SHIFT) % NR_STAMPS], memory_order_relaxed) : 0;
	uint64_t now = now_ns >> STEP_SHIFT;
	uint32_t ago = (uint32_t)now - step;

	if (!step)
		return 0;
	/* a clock that has just begun: there was no such moment; and "never" is another answer than its first */
	return ago < now ? (now - ago) << STEP_SHIFT : 1;
}

uint64_t stamps_bytes(struct stamps *s)
{
	return meta_bytes(&s->leaves);
}
