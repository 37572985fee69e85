/* SPDX-License-Identifier: MIT */
/*
 * Which object holds which pages. The device's offsets are cut into units of 4 to 64 KiB, the option piece=. A copy that
 * covers a unit packs it as one object; a page that is written alone becomes an object of its own, and is struck from the mask
 * of the unit's. So nothing is ever unpacked to be changed; what is struck costs its share until the last page of the unit is.
 * Two words stand for a unit, in a table that is as large as the device but touched only where that is used.
 *
 * For one folio calls come one after another, but a unit may be the home of sixteen folios: the words, the masks and the
 * tables are under a lock, of which there are a few by the unit's number. The lock is held for a few words only, never while
 * bytes are packed, unpacked or freed: an object cannot go while a page in it is the caller's, because only the caller may
 * drop that.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/pages.h"
#include "drivers/packed/packed.h"

static pthread_mutex_t *lock_of(struct packed *p, uint64_t unit) { return &p->locks[unit % PACKED_LOCKS]; }

static uint64_t get(_Atomic uint64_t *word) { return atomic_load_explicit(word, memory_order_relaxed); }
static void set(_Atomic uint64_t *word, uint64_t v) { atomic_store_explicit(word, v, memory_order_relaxed); }

static struct unit *unit_for_writing(struct packed *p, uint64_t unit)
{
	uint64_t page = unit * sizeof(struct unit) >> PAGE_SHIFT;

	if (!atomic_load_explicit(&p->units_touched[page], memory_order_relaxed) &&
	    !atomic_exchange_explicit(&p->units_touched[page], 1, memory_order_relaxed))
		atomic_fetch_add_explicit(&p->own_bytes, PAGE_BYTES, memory_order_relaxed);
	return &p->units[unit];
}

void unit_look(struct packed *p, uint64_t unit, uint16_t mask, struct unit_view *ret)
{
	struct unit *u = &p->units[unit];
	const uint64_t *table;

	ret->in_whole = 0;
	memset(ret->page, 0, sizeof(ret->page));
	pthread_mutex_lock(lock_of(p, unit));
	ret->whole = get(&u->whole);
	if (ret->whole)
		ret->in_whole = ((struct object *)heap_at(&p->heap, ret->whole))->mask & mask;
	if (get(&u->pages)) {
		table = heap_at(&p->heap, get(&u->pages));
		memcpy(ret->page, table, p->pages_per_unit * sizeof(*table));
	}
	pthread_mutex_unlock(lock_of(p, unit));
}

/* Return: the table is empty now. */
static bool drop_pages(struct packed *p, uint64_t pages, uint16_t mask, uint64_t *gone, unsigned *nr)
{
	uint64_t *table = heap_at(&p->heap, pages), left = 0;

	for (unsigned i = 0; i < p->pages_per_unit; i++) {
		if (mask >> i & 1 && table[i]) {
			gone[(*nr)++] = table[i];
			table[i] = 0;
		}
		left |= table[i];
	}
	return !left;
}

void unit_drop(struct packed *p, uint64_t unit, uint16_t mask)
{
	struct unit *u = &p->units[unit];
	uint64_t gone[18];
	unsigned nr = 0;

	/* what of it is the caller's is not there: whatever others put meanwhile, that stays true */
	if (!get(&u->whole) && !get(&u->pages))
		return;
	pthread_mutex_lock(lock_of(p, unit));
	if (get(&u->whole)) {
		struct object *o = heap_at(&p->heap, get(&u->whole));

		o->mask &= (uint16_t)~mask;
		if (!o->mask) {
			gone[nr++] = get(&u->whole);
			set(&u->whole, 0);
		}
	}
	if (get(&u->pages) && drop_pages(p, get(&u->pages), mask, gone, &nr)) {
		gone[nr++] = get(&u->pages);
		set(&u->pages, 0);
	}
	pthread_mutex_unlock(lock_of(p, unit));
	while (nr)
		heap_free(&p->heap, gone[--nr]);
}

void unit_put_whole(struct packed *p, uint64_t unit, uint64_t object)
{
	struct unit *u;

	if (!object)
		return;
	u = unit_for_writing(p, unit);
	((struct object *)heap_at(&p->heap, object))->mask = (uint16_t)((1u << p->pages_per_unit) - 1);
	pthread_mutex_lock(lock_of(p, unit));
	uhmm_assert(!get(&u->whole) && !get(&u->pages));
	set(&u->whole, object);
	pthread_mutex_unlock(lock_of(p, unit));
}

int unit_put_page(struct packed *p, uint64_t unit, unsigned page, uint64_t object)
{
	struct unit *u;
	int r = 0;

	if (!object)
		return 0;
	if (p->pages_per_unit == 1) {
		unit_put_whole(p, unit, object);
		return 0;
	}
	u = unit_for_writing(p, unit);
	pthread_mutex_lock(lock_of(p, unit));
	if (!get(&u->pages)) {
		size_t bytes = p->pages_per_unit * sizeof(uint64_t);
		uint64_t table = heap_alloc(&p->heap, bytes);

		if (table)
			memset(heap_at(&p->heap, table), 0, bytes);
		else
			r = -ENOSPC;
		set(&u->pages, table);
	}
	if (!r)
		((uint64_t *)heap_at(&p->heap, get(&u->pages)))[page] = object;
	pthread_mutex_unlock(lock_of(p, unit));
	return r;
}
