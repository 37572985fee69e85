/* SPDX-License-Identifier: MIT */
#include "mem/meta.h"

#include "base/pages.h"
#include "os/map.h"

/* Address space taken at once; memory is used as objects are handed out. */
#define PIECE_BYTES (UINT64_C(16) << 20)

/* Lies in the first page of each piece. */
struct meta_piece {
	struct meta_piece *next;
};

void meta_init(struct meta *m, uint32_t object_bytes)
{
	*m = (struct meta){ .object_bytes = object_bytes };
	lock_init(&m->lock, LOCK_LEAF);
}

void meta_fini(struct meta *m)
{
	struct meta_piece *p = m->pieces;

	while (p) {
		struct meta_piece *next = p->next;

		map_own_free(p, PIECE_BYTES);
		p = next;
	}
	m->pieces = NULL;
	lock_fini(&m->lock);
}

static void *take_locked(struct meta *m)
{
	void *object = m->free_list;

	if (object) {
		m->free_list = *(void **)object;
		return object;
	}
	if (!m->fresh || m->fresh + m->object_bytes > m->fresh_end)
		return NULL;
	object = m->fresh;
	m->fresh += m->object_bytes;
	m->touched_bytes += m->object_bytes;
	return object;
}

void *meta_alloc(struct meta *m)
{
	struct meta_piece *p;
	void *object;

	lock_take(&m->lock);
	object = take_locked(m);
	lock_drop(&m->lock);
	if (object)
		return object;

	p = map_own(PIECE_BYTES, 0); /* outside the lock: it takes another LEAF */
	if (!p)
		return NULL;
	lock_take(&m->lock);
	p->next = m->pieces;
	m->pieces = p;
	m->fresh = (char *)p + PAGE_BYTES; /* what a racing thread's piece had left is forgotten: at most 16 MiB of addresses */
	m->fresh_end = (char *)p + PIECE_BYTES;
	object = take_locked(m);
	lock_drop(&m->lock);
	return object;
}

void meta_free(struct meta *m, void *object)
{
	lock_take(&m->lock);
	/* a reader without a lock may be looking at this very word */
	__atomic_store_n((void **)object, m->free_list, __ATOMIC_RELAXED);
	m->free_list = object;
	lock_drop(&m->lock);
}

uint64_t meta_bytes(struct meta *m)
{
	uint64_t bytes;

	lock_take(&m->lock);
	bytes = m->touched_bytes;
	lock_drop(&m->lock);
	return bytes;
}
