/* SPDX-License-Identifier: MIT */
#include "space/notify.h"

#include <limits.h>

#include "base/pages.h"
#include "os/thread.h"

struct notifier *notify_add(struct notifiers *ns, uint64_t start, uint64_t end, unsigned owner, notify_fn *call, void *ctx)
{
	for (unsigned i = 0; i < MAX_NOTIFIERS; i++) {
		struct notifier *n = &ns->slot[i];
		uint32_t is_free = NOTIFY_FREE;
		unsigned seen;

		if (!atomic_compare_exchange_strong(&n->state, &is_free, NOTIFY_FILLING))
			continue;
		n->start = start;
		n->end = end;
		n->owner = owner;
		n->call = call;
		n->ctx = ctx;
		n->holds_arms = false;
		atomic_fetch_add(&ns->nr, 1);
		seen = atomic_load(&ns->end);
		while (seen < i + 1 && !atomic_compare_exchange_weak(&ns->end, &seen, i + 1))
			;
		atomic_store(&n->state, NOTIFY_LIVE);
		return n;
	}
	return NULL;
}

void notify_remove(struct notifiers *ns, struct notifier *n)
{
	uint32_t seen;

	/* whoever counts itself as active from here on finds it dead; who did before is waited for */
	atomic_store(&n->state, NOTIFY_DYING);
	while ((seen = atomic_load(&n->active)))
		thread_wait(&n->active, seen);
	atomic_fetch_sub(&ns->nr, 1);
	atomic_store(&n->state, NOTIFY_FREE);
}

bool notify_is_live(struct notifiers *ns, const struct notifier *n)
{
	uintptr_t at = (uintptr_t)n - (uintptr_t)ns->slot; /* huge, when it lies before */

	return at < sizeof(ns->slot) && at % sizeof(*n) == 0 && atomic_load(&n->state) == NOTIFY_LIVE;
}

/* Is it to hear of this? Its fields may be those of a notifier that is being made: then it is asked again when active. */
static bool concerns(const struct notifier *n, uint64_t start, uint64_t end, unsigned owner)
{
	return n->start < end && n->end > start && (!owner || n->owner != owner);
}

void notify_changed(struct notifiers *ns, uint64_t start, uint64_t end, unsigned owner)
{
	unsigned last = atomic_load(&ns->end);

	for (unsigned i = 0; i < last; i++) {
		struct notifier *n = &ns->slot[i];

		if (atomic_load(&n->state) != NOTIFY_LIVE || !concerns(n, start, end, owner))
			continue;
		atomic_fetch_add(&n->active, 1);
		if (atomic_load(&n->state) == NOTIFY_LIVE && concerns(n, start, end, owner)) {
			atomic_fetch_add(&n->seq, 1);
			n->call(n->ctx, (void *)(uintptr_t)max_u64(start, n->start), (void *)(uintptr_t)min_u64(end, n->end));
		}
		if (atomic_fetch_sub(&n->active, 1) == 1)
			thread_wake(&n->active, INT_MAX);
	}
}

uint64_t notify_read_begin(struct notifier *n)
{
	uint32_t seen;

	while ((seen = atomic_load(&n->active)))
		thread_wait(&n->active, seen);
	return atomic_load(&n->seq);
}

/*
 * The gate first, the sequence second: an event that its causer knows to have happened is being applied, or has been and is in
 * the sequence. The other way round it could be neither when we look at each.
 */
bool notify_read_retry(const struct notifier *n, const struct gate *g, uint64_t seq)
{
	return gate_has_events(g) || atomic_load(&n->seq) != seq;
}
