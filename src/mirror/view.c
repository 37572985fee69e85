/* SPDX-License-Identifier: MIT */
#include "mirror/view.h"

#include <errno.h>
#include <stddef.h>

#include "base/pages.h"
#include "mem/table.h"
#include "os/map.h"

#define LEAF_SHIFT 30
#define LEAF_BYTES ((UINT64_C(1) << LEAF_SHIFT) / PAGE_BYTES)
#define NR_LEAVES  (UINT64_C(1) << (TABLE_ADDRESS_BITS - LEAF_SHIFT))
#define ROOT_BYTES (NR_LEAVES * sizeof(void *))

int view_init(struct view *v)
{
	v->root = map_own(ROOT_BYTES, 0);
	return v->root ? 0 : -ENOMEM;
}

void view_fini(struct view *v)
{
	if (!v->root)
		return;
	for (uint64_t i = 0; i < NR_LEAVES; i++)
		if (v->root[i])
			map_own_free((void *)v->root[i], LEAF_BYTES);
	map_own_free(v->root, ROOT_BYTES);
	v->root = NULL;
}

static _Atomic uint8_t *leaf_of(const struct view *v, uint64_t addr)
{
	if (!v->root || addr >> TABLE_ADDRESS_BITS)
		return NULL;
	return atomic_load_explicit(&v->root[addr >> LEAF_SHIFT], memory_order_acquire);
}

static _Atomic uint8_t *leaf_create(struct view *v, uint64_t addr)
{
	_Atomic uint8_t *leaf = leaf_of(v, addr), *none = NULL;

	if (leaf)
		return leaf;
	leaf = map_own(LEAF_BYTES, 0);
	if (!leaf)
		return NULL;
	if (atomic_compare_exchange_strong(&v->root[addr >> LEAF_SHIFT], &none, leaf))
		return leaf;
	map_own_free((void *)leaf, LEAF_BYTES);
	return none;
}

static uint64_t index_of(uint64_t addr)
{
	return (addr >> PAGE_SHIFT) & (LEAF_BYTES - 1);
}

/* Where the leaf of @addr ends, or @end. */
static uint64_t leaf_end(uint64_t addr, uint64_t end)
{
	return min_u64(((addr >> LEAF_SHIFT) + 1) << LEAF_SHIFT, end);
}

unsigned view_get(const struct view *v, uint64_t addr)
{
	_Atomic uint8_t *leaf = leaf_of(v, addr);

	return leaf ? atomic_load(&leaf[index_of(addr)]) : 0;
}

int view_add(struct view *v, uint64_t start, uint64_t end, unsigned rights)
{
	while (start < end) {
		uint64_t stop = leaf_end(start, end);
		_Atomic uint8_t *leaf = leaf_create(v, start);

		if (!leaf)
			return -ENOMEM;
		for (; start < stop; start += PAGE_BYTES)
			atomic_fetch_or(&leaf[index_of(start)], (uint8_t)rights);
	}
	return 0;
}

void view_clear(struct view *v, uint64_t start, uint64_t end)
{
	while (start < end) {
		uint64_t stop = leaf_end(start, end);
		_Atomic uint8_t *leaf = leaf_of(v, start);

		/* looked at first: an untouched leaf stays untouched */
		for (; leaf && start < stop; start += PAGE_BYTES)
			if (atomic_load(&leaf[index_of(start)]))
				atomic_store(&leaf[index_of(start)], 0);
		start = stop;
	}
}
