/* SPDX-License-Identifier: MIT */
/*
 * Several devices are tiers: what leaves the program goes to the first of them, the fast one, and so that there is room on it, what
 * has been away the longest moves on to the next. Away since when: the last time the policy sent something of the block away, or a
 * CPU brought something of it back, whichever is later. Blocks that were sent away by others, before there was a
 * policy, have no such moment, and go first. So a block that is touched now and then comes home to the program, leaves
 * again with a new stamp, and is never the one that moves on; nothing but the last device has what nobody has touched for long.
 *
 * Called by the evictor before and after it sends blocks away, from the last device but one to the first, so that the room that
 * one makes can be used by the one before.
 */
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "policy/policy.h"

#define MIB         (UINT64_C(1) << 20)
#define ROOM_SHARE  16          /* of a device: what is kept free, */
#define ROOM_MIN    (4 * MIB)   /* at least a step of the evictor, */
#define ROOM_MAX    (64 * MIB)  /* and no more than a few; half a device at most */
#define BACK_OFF_NS UINT64_C(100000000) /* before it is tried again when nothing could move on */

uint64_t tiers_room(uint64_t size)
{
	return min_u64(min_u64(max_u64(size / ROOM_SHARE, ROOM_MIN), ROOM_MAX), block_down(size / 2));
}

void tiers_left(struct policy *p, const struct range *r)
{
	uint64_t now = p->nr_devices > 1 ? clock_ns() : 0;

	for (uint64_t at = block_down(r->start); now && at < r->end; at += BLOCK_BYTES)
		stamps_set(&p->left, at, now);
}

unsigned tiers_gather(struct policy *p, unsigned device, uint64_t want, struct range *ret, unsigned max)
{
	const struct stamps *used[] = { &p->left, &p->sp->faulted };

	return coldest_gather(p->sp, device, used, ARRAY_LEN(used), NULL, NULL, want, ret, max);
}

/* The first device after the @i-th that has room. */
static struct device *next_tier(struct policy *p, unsigned i, unsigned *ret_index)
{
	while (++i < p->nr_devices)
		if (!atomic_load(&p->device[i]->closing) && device_free_bytes(p->device[i]) >= BLOCK_BYTES) {
			*ret_index = i;
			return p->device[i];
		}
	return NULL;
}

/* Return: bytes that have moved on. */
static uint64_t move_on(struct policy *p, struct device *from, struct device *to, unsigned index, const struct range *r,
			bool *ret_failed)
{
	struct tally t = { .error = 0 };
	uint64_t moved = 0;

	atomic_store_explicit(&p->busy_since_ns, clock_ns(), memory_order_relaxed);
	atomic_store_explicit(&p->busy_device, index + 1, memory_order_relaxed);
	jobs_run_onward(p->jobs, r->start, r->end, from, to, &t);
	atomic_store_explicit(&p->busy_device, 0, memory_order_relaxed);
	for (unsigned k = 0; k < NR_ORDERS; k++)
		moved += t.moved_folios[k] * order_bytes(k);
	*ret_failed = t.error || t.skipped[UHMM_SKIP_NO_ROOM];
	atomic_fetch_add_explicit(&p->onward_bytes, moved, memory_order_relaxed);
	return moved;
}

/* At least @want bytes shall be free on the @i-th device; if its room is half gone, all of its room. */
static void make_room(struct policy *p, unsigned i, uint64_t want)
{
	struct device *from = p->device[i], *to;
	uint64_t room = tiers_room(from->props.size_bytes), left = device_free_bytes(from), moved = 0, now = clock_ns();
	struct range range[GATHER_MAX];
	bool failed = false;
	unsigned nr, index;

	want = min_u64(want, block_down(from->props.size_bytes / 2));
	if (now < p->onward_until_ns[i] || left >= max_u64(want, room / 2))
		return;
	/* what a child of fork borrows stays until it has been given everything */
	to = device_is_lent(from) ? NULL : next_tier(p, i, &index);
	nr = to ? tiers_gather(p, from->index, max_u64(want, room) - left, range, GATHER_MAX) : 0;
	for (unsigned k = 0; k < nr && !failed && !atomic_load(&p->stop); k++)
		moved += move_on(p, from, to, index, &range[k], &failed);
	if (moved)
		p->full_until_ns[i] = 0;
	if (!moved || failed)
		p->onward_until_ns[i] = clock_ns() + BACK_OFF_NS;
}

void tiers_make_room(struct policy *p, uint64_t want)
{
	for (unsigned i = p->nr_devices - 1; i-- > 0 && !atomic_load(&p->stop);)
		make_room(p, i, i ? 0 : want);
}
