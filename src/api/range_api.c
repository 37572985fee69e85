/* SPDX-License-Identifier: MIT */
#include "uhmm/range.h"

#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "base/log.h"
#include "mirror/range.h"
#include "space/vma.h"

/* struct uhmm_notifier is never defined: a handle is the address of a struct notifier in memory of ours. */
static struct notifier *notifier_of(struct uhmm_notifier *n) { return (struct notifier *)n; }

/* Looks at the address only. Return: 0, -EPERM or -EINVAL, said. */
static int check_notifier(const char *call, struct uhmm_space *space, struct uhmm_notifier *n)
{
	int r = check_process(call, space);

	if (!r && !notify_is_live(&space->sp.notifiers, notifier_of(n)))
		return bad_argument(call, "the notifier is none, or has been removed");
	return r;
}

int uhmm_notifier_add(struct uhmm_space *space, void *start, size_t len_bytes, struct uhmm_device *dev, uhmm_notifier_fn *fn,
		      void *ctx, struct uhmm_notifier **ret)
{
	struct notifier *n;
	uint64_t s, e;
	int r;

	if (!space || !fn || !ret)
		return bad_argument("uhmm_notifier_add", "space, callback and the place for the notifier must not be NULL");
	r = check_process("uhmm_notifier_add", space);
	if (!r && dev)
		r = check_device("uhmm_notifier_add", space, dev);
	if (!r)
		r = check_range("uhmm_notifier_add", start, len_bytes, true, &s, &e);
	if (r)
		return r;
	n = notify_add(&space->sp.notifiers, s, e, dev ? dev->dev.index : 0, fn, ctx);
	if (!n) {
		log_say(UHMM_LOG_ERROR, "uhmm_notifier_add(): there are %d notifiers already; few and large ones are meant",
			MAX_NOTIFIERS);
		return -ENOSPC;
	}
	*ret = (struct uhmm_notifier *)n;
	return 0;
}

int uhmm_notifier_remove(struct uhmm_notifier *handle)
{
	struct uhmm_space *space = space_current();
	struct notifier *n = notifier_of(handle);
	int r;

	if (!handle)
		return 0;
	r = check_notifier("uhmm_notifier_remove", space, handle);
	if (r)
		return r;
	if (n->holds_arms)
		vma_arm_end(&space->sp);
	notify_remove(&space->sp.notifiers, n);
	return 0;
}

uint64_t uhmm_notifier_read_begin(struct uhmm_notifier *n)
{
	return check_notifier("uhmm_notifier_read_begin", space_current(), n) ? 0 : notify_read_begin(notifier_of(n));
}

bool uhmm_notifier_read_retry(struct uhmm_notifier *n, uint64_t seq)
{
	struct uhmm_space *space = space_current();

	return check_notifier("uhmm_notifier_read_retry", space, n) || notify_read_retry(notifier_of(n), &space->sp.gate, seq);
}

/* ---- looking at a range ---- */

#define REQUESTS (UHMM_RANGE_REQ_FAULT | UHMM_RANGE_REQ_WRITE)

static int check_query(struct uhmm_space *space, const struct uhmm_range *range, struct range_query *ret)
{
	const char *call = "uhmm_range_fault";
	struct notifier *n;
	int r;

	if (!space || !range || range->sz < sizeof(*range) || !range->pages)
		return bad_argument(call, "space, range and its pages must not be NULL, and sz is sizeof(struct uhmm_range)");
	if ((range->default_flags & ~(REQUESTS | UHMM_RANGE_REQ_MIGRATE)) || (range->page_flags_mask & ~REQUESTS))
		return bad_argument(call, "default_flags and page_flags_mask are made of UHMM_RANGE_REQ_*");
	if (range->default_flags & UHMM_RANGE_REQ_MIGRATE && (!range->dev || !range->migrate || !range->migrate_args))
		return bad_argument(call, "UHMM_RANGE_REQ_MIGRATE wants dev, migrate and migrate_args");
	r = check_process(call, space);
	if (!r && range->dev)
		r = check_device(call, space, range->dev);
	if (!r && range->notifier)
		r = check_notifier(call, space, range->notifier);
	if (!r)
		r = check_range(call, range->start, range->len_bytes, false, &ret->start, &ret->end);
	if (r)
		return r;
	n = notifier_of(range->notifier);
	if (n && (n->start > ret->start || n->end < ret->end))
		return bad_argument(call, "the range is not inside the notifier's");
	if (overlaps(range->pages, (ret->end - ret->start) / PAGE_BYTES * sizeof(*range->pages), ret->start, ret->end))
		return bad_argument(call, "the pages' answers must not lie in the range itself");
	ret->notifier = n;
	return 0;
}

/* What can migrate is taken first, in one walk, and has its answer. */
static int take_first(struct uhmm_space *space, struct uhmm_range *range)
{
	struct uhmm_migrate_args *args = range->migrate_args;
	int r;

	args->start = range->start;
	args->len_bytes = range->len_bytes;
	args->dev = range->dev;
	args->select |= UHMM_SELECT_SYSTEM | UHMM_SELECT_FAULT;
	r = uhmm_migrate_setup(space, args, range->migrate);
	for (size_t i = 0; !r && i < range->len_bytes / PAGE_BYTES; i++)
		if (uhmm_migrate_why(*range->migrate, i) == UHMM_NR_SKIPS)
			range->pages[i].bits = UHMM_RANGE_VALID | UHMM_RANGE_MIGRATE;
	return r;
}

/* Nothing was taken, or the rest failed. */
static void take_nothing(struct uhmm_range *range)
{
	(void)uhmm_migrate_finalize(*range->migrate, NULL);
	*range->migrate = NULL;
}

int uhmm_range_fault(struct uhmm_space *space, struct uhmm_range *range)
{
	struct range_query q = { .mi = NULL };
	bool take = range && range->sz >= sizeof(*range) && range->default_flags & UHMM_RANGE_REQ_MIGRATE;
	int r = check_query(space, range, &q);

	if (r)
		return r;
	q.mi = &space->mirror;
	q.dev = range->dev ? &range->dev->dev : NULL;
	q.seq = range->seq;
	q.default_flags = range->default_flags & REQUESTS;
	q.page_flags_mask = range->page_flags_mask;
	q.pages = range->pages;
	for (uint64_t i = 0; i < (q.end - q.start) >> PAGE_SHIFT; i++)
		q.pages[i].bits &= ~(uint64_t)UHMM_RANGE_MIGRATE;
	if (take)
		r = take_first(space, range);
	if (r)
		return r;
	r = range_fault(&q);
	if (take && (r || !range->migrate_args->cpages))
		take_nothing(range);
	return r;
}
