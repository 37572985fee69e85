/* SPDX-License-Identifier: MIT */
/*
 * Discarding a window slot raises an event that some reader must read, and stalls every MOVE until it has. For slots
 * with base pages that is paid (they cost hundreds of microseconds anyway). A surplus THP instead goes through the bin:
 * a second userfaultfd, which asked for no events, lets a MOVE take it out of the window, and one discard frees a batch.
 */
#include "migrate/staging.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "os/fail.h"
#include "os/map.h"
#include "os/pagemap.h"
#include "os/sysinfo.h"

#define NURSERY_SLOTS 128u  /* at most this many fresh THPs are on their way at once */
#define SPARE_SLOTS   512u  /* of the window, beyond the pool: for pages in flight and slots not yet clean */
#define BIN_SLOTS     16u

static unsigned window_slots(const struct staging *st)
{
	return st->nr_window;
}

static unsigned count(const struct slot_list *l)
{
	return atomic_load_explicit(&l->nr, memory_order_relaxed);
}

static void push(struct slot_list *l, uint32_t i)
{
	l->at[count(l)] = i;
	atomic_store_explicit(&l->nr, count(l) + 1, memory_order_relaxed);
}

static uint32_t pop(struct slot_list *l)
{
	atomic_store_explicit(&l->nr, count(l) - 1, memory_order_relaxed);
	return l->at[count(l)];
}

static uint64_t window_slot(const struct staging *st, uint32_t i) { return st->window + i * BLOCK_BYTES; }

static bool in_window(const struct staging *st, uint64_t slot)
{
	return slot - st->window < window_slots(st) * BLOCK_BYTES;
}

bool staging_is_window(const struct staging *st, uint64_t start, uint64_t end)
{
	return start < st->window + window_slots(st) * BLOCK_BYTES && end > st->window;
}

static uint32_t index_of(const struct staging *st, uint64_t slot)
{
	return (uint32_t)((slot - (in_window(st, slot) ? st->window : st->nursery)) >> BLOCK_SHIFT);
}

static int init_bin(struct staging *st)
{
	int r;

	r = uffd_try_open(&st->bin_uffd, st->sp->uffd.user_mode_only ? UFFD_USER_ONLY : UFFD_FULL, UFFD_NO_EVENTS);
	if (r)
		return r;
	st->bin = (uintptr_t)map_own(BIN_SLOTS * BLOCK_BYTES, MAP_OWN_HUGE);
	return st->bin ? 0 : -ENOMEM;
}

static int init_lists(struct staging *st)
{
	unsigned n = window_slots(st);

	st->memory = map_own((3 * (uint64_t)n + NURSERY_SLOTS) * sizeof(uint32_t), 0);
	if (!st->memory)
		return -ENOMEM;
	st->empty.at = st->memory;
	st->full.at = st->memory + n;
	st->dirty.at = st->memory + 2 * n;
	st->fresh.at = st->memory + 3 * n;
	for (uint32_t i = NURSERY_SLOTS; i-- > 0;)
		push(&st->fresh, i);
	return 0;
}

int staging_init(struct staging *st, struct space *sp, uint64_t pool_bytes)
{
	int r;

	*st = (struct staging){ .sp = sp, .max_full = pool_bytes >> BLOCK_SHIFT, .bin_uffd.fd = -1 };
	st->nr_window = (unsigned)st->max_full + SPARE_SLOTS;
	lock_init(&st->lock, LOCK_POOL);
	lock_init(&st->bin_lock, LOCK_POOL);
	st->pt_reclaim = sysinfo_has_pt_reclaim();
	st->window = (uintptr_t)map_own(window_slots(st) * BLOCK_BYTES, MAP_OWN_HUGE);
	st->nursery = (uintptr_t)map_own(NURSERY_SLOTS * BLOCK_BYTES, MAP_OWN_HUGE);
	r = st->window && st->nursery ? init_lists(st) : -ENOMEM;
	if (!r)
		r = init_bin(st);
	if (!r)
		r = uffd_register(&sp->uffd, st->window, st->window + window_slots(st) * BLOCK_BYTES);
	if (!r)
		r = uffd_register(&st->bin_uffd, st->bin, st->bin + BIN_SLOTS * BLOCK_BYTES);
	if (r) {
		r = r > 0 ? -ENOMEM : r;
		staging_fini(st);
	}
	return r;
}

void staging_fini(struct staging *st)
{
	uint64_t window_bytes = window_slots(st) * BLOCK_BYTES;

	/* what is still watched stays mapped: nobody reads events any more */
	if (st->window && uffd_release(&st->sp->uffd, st->window, st->window + window_bytes))
		map_own_free((void *)(uintptr_t)st->window, window_bytes);
	uffd_close(&st->bin_uffd);
	map_own_free((void *)(uintptr_t)st->nursery, NURSERY_SLOTS * BLOCK_BYTES);
	map_own_free((void *)(uintptr_t)st->bin, BIN_SLOTS * BLOCK_BYTES);
	map_own_free(st->memory, (3 * (uint64_t)window_slots(st) + NURSERY_SLOTS) * sizeof(uint32_t));
	lock_fini(&st->lock);
	lock_fini(&st->bin_lock);
}

static bool take_from(struct staging *st, struct slot_list *l, uint32_t *ret)
{
	bool had;

	lock_take(&st->lock);
	had = count(l) > 0;
	if (had) {
		*ret = pop(l);
	} else if (l == &st->empty && st->nr_touched < window_slots(st)) {
		*ret = st->nr_touched++;
		had = true;
	}
	lock_drop(&st->lock);
	return had;
}

static void put_to(struct staging *st, struct slot_list *l, uint32_t i)
{
	lock_take(&st->lock);
	push(l, i);
	lock_drop(&st->lock);
}

/* Empties a dirty slot; the event that this raises is read by a fault thread. */
static bool clean(struct staging *st, uint32_t i)
{
	if (!map_discard(window_slot(st, i), BLOCK_BYTES))
		return true;
	put_to(st, &st->dirty, i);
	return false;
}

uint64_t staging_take_empty(struct staging *st, bool pages)
{
	uint32_t i;

	/* base pages do not mind a table: they use up the dirty slots first */
	if (pages && take_from(st, &st->dirty, &i))
		return clean(st, i) ? window_slot(st, i) : 0;
	if (take_from(st, &st->empty, &i))
		return window_slot(st, i);
	if (take_from(st, &st->dirty, &i) && clean(st, i)) {
		if (st->pt_reclaim || pages)
			return window_slot(st, i);
		put_to(st, &st->dirty, i);
	}
	return 0;
}

/* Touching an empty nursery slot asks the kernel for a THP, and clears it. */
static uint64_t take_fresh(struct staging *st)
{
	uint64_t slot;
	uint32_t i;
	int bits;

	if (os_without(WITHOUT_THP) || os_fail(OS_THP) || !take_from(st, &st->fresh, &i))
		return 0;
	slot = st->nursery + i * BLOCK_BYTES;
	*(volatile char *)(uintptr_t)slot = 0;
	bits = pagemap_uniform(st->sp->pagemap_fd, slot, slot + BLOCK_BYTES);
	if (bits > 0 && bits & PM_HUGE)
		return slot;
	staging_put_dirty(st, slot);
	return 0;
}

uint64_t staging_take_zeroed(struct staging *st)
{
	/* under a policy the pool goes first: it is memory that is held already */
	bool thrifty = atomic_load_explicit(&st->sp->policy, memory_order_relaxed) && staging_pool_bytes(st);
	uint64_t slot = thrifty ? 0 : take_fresh(st);
	uint32_t i;

	if (slot) {
		counter_add(&st->sp->counters.pool_fresh, 1);
	} else if (!os_without(WITHOUT_THP) && take_from(st, &st->full, &i)) {
		counter_add(&st->sp->counters.pool_hits, 1);
		slot = window_slot(st, i);
		memset((void *)(uintptr_t)slot, 0, BLOCK_BYTES);
	}
	return slot;
}

uint64_t staging_take_thp(struct staging *st)
{
	struct counters *n = &st->sp->counters;
	uint64_t slot;
	uint32_t i;

	if (!os_without(WITHOUT_THP) && take_from(st, &st->full, &i)) {
		counter_add(&n->pool_hits, 1);
		return window_slot(st, i);
	}
	slot = take_fresh(st);
	counter_add(slot ? &n->pool_fresh : &n->pool_failed, 1);
	return slot;
}

void staging_put_empty(struct staging *st, uint64_t slot)
{
	put_to(st, in_window(st, slot) ? &st->empty : &st->fresh, index_of(st, slot));
}

void staging_put_dirty(struct staging *st, uint64_t slot)
{
	if (in_window(st, slot)) {
		put_to(st, &st->dirty, index_of(st, slot));
		return;
	}
	/* the nursery raises no events. Where the table stays behind, the slot must not be used again: it is forgotten */
	(void)map_discard(slot, BLOCK_BYTES);
	if (st->pt_reclaim)
		staging_put_empty(st, slot);
}

/* A THP too many. */
static void throw_away(struct staging *st, uint64_t slot)
{
	uint64_t moved;
	int r;

	lock_take(&st->bin_lock);
	r = uffd_move(&st->bin_uffd, st->bin + st->nr_bin * BLOCK_BYTES, slot, BLOCK_BYTES, UFFD_DONTWAKE, &moved);
	if (r && moved) /* in part: the place in the bin must be empty for the next */
		(void)map_discard(st->bin + st->nr_bin * BLOCK_BYTES, BLOCK_BYTES);
	if (!r && ++st->nr_bin == BIN_SLOTS) {
		(void)map_discard(st->bin, BIN_SLOTS * BLOCK_BYTES);
		st->nr_bin = 0;
	}
	lock_drop(&st->bin_lock);
	counter_add(&st->sp->counters.pool_freed, 1);
	if (r)
		staging_put_dirty(st, slot);
	else
		staging_put_empty(st, slot);
}

void staging_put_thp(struct staging *st, uint64_t slot)
{
	bool keep;

	if (!in_window(st, slot)) {
		/* a fresh one that was not needed after all */
		(void)map_discard(slot, BLOCK_BYTES);
		staging_put_empty(st, slot);
		return;
	}
	lock_take(&st->lock);
	keep = count(&st->full) < st->max_full;
	if (keep)
		push(&st->full, index_of(st, slot));
	lock_drop(&st->lock);
	if (!keep)
		throw_away(st, slot);
}

void staging_shrink_pool(struct staging *st, uint64_t bytes)
{
	uint32_t i;
	bool more;

	do {
		lock_take(&st->lock);
		st->max_full = min_u64(st->max_full, bytes >> BLOCK_SHIFT);
		more = count(&st->full) > st->max_full;
		i = more ? pop(&st->full) : 0;
		lock_drop(&st->lock);
		if (more)
			throw_away(st, window_slot(st, i));
	} while (more);
}

uint64_t staging_drain_pool(struct staging *st)
{
	uint64_t bytes = 0;
	uint32_t i;

	while (take_from(st, &st->full, &i)) {
		throw_away(st, window_slot(st, i));
		bytes += BLOCK_BYTES;
	}
	return bytes;
}

void staging_scrub(struct staging *st)
{
	unsigned left;
	uint32_t i;

	lock_take(&st->lock);
	left = count(&st->dirty);
	lock_drop(&st->lock);
	for (; left && take_from(st, &st->dirty, &i) && clean(st, i); left--)
		put_to(st, st->pt_reclaim ? &st->empty : &st->dirty, i);
	lock_take(&st->bin_lock);
	if (st->nr_bin)
		(void)map_discard(st->bin, BIN_SLOTS * BLOCK_BYTES);
	st->nr_bin = 0;
	lock_drop(&st->bin_lock);
}

uint64_t staging_pool_bytes(struct staging *st)
{
	/* without the lock: a thread of the program asks, which must not hold what a fault thread needs */
	return (uint64_t)count(&st->full) * BLOCK_BYTES;
}
