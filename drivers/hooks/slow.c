/* SPDX-License-Identifier: MIT */
/*
 * slow+X: what X does, later.
 *
 *   delay=TIME     added to each copy, default 100us
 *   per_mib=TIME   and for each MiB of it
 *
 * The time is added where the copy is waited for: before the call returns, or to its fence.
 */
#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "base/clock.h"
#include "drivers/hooks/hook.h"

struct slow {
	struct hook hook;
	uint64_t delay, per_mib; /* ns; constant after open */
};

static const struct spec_key keys[] = {
	{ "delay", SPEC_TIME, offsetof(struct slow, delay) },
	{ "per_mib", SPEC_TIME, offsetof(struct slow, per_mib) },
	{ NULL, 0, 0 },
};

static void wait_ns(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	if (ns)
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static uint64_t cost_ns(const struct slow *s, const struct uhmm_seg *segs, unsigned nr)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < nr; i++)
		bytes += segs[i].bytes;
	return s->delay + (uint64_t)((double)s->per_mib * (double)bytes / (1 << 20));
}

/* With a fence the time per MiB is spent here all the same: a token has no room for it. */
static int after(const struct slow *s, int r, const struct uhmm_seg *segs, unsigned nr, uint64_t fence)
{
	uint64_t ns = cost_ns(s, segs, nr);

	if (!r)
		wait_ns(fence ? ns - s->delay : ns);
	return r;
}

static int copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return after(ctx, hook_copy_in(ctx, segs, nr, ret_fence), segs, nr, *ret_fence);
}

static int copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return after(ctx, hook_copy_out(ctx, segs, nr, ret_fence), segs, nr, *ret_fence);
}

static int fence_wait(void *ctx, uint64_t fence)
{
	const struct slow *s = ctx;
	int r = hook_fence_wait(ctx, fence);

	wait_ns(s->delay);
	return r;
}

static int slow_open(const char *spec, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	struct slow *s = uhmm_host_reserve(HOOK_BYTES);
	int r;

	if (!s)
		return -ENOMEM;
	s->delay = 100000;
	r = hook_open(&s->hook, keys, spec, ret_props, ret_why, why_bytes);
	if (r)
		hook_close(s);
	else
		*ret_ctx = s;
	return r;
}

extern const struct uhmm_driver uhmm_driver_slow;

const struct uhmm_driver uhmm_driver_slow = {
	.sz = sizeof(struct uhmm_driver),
	.name = "slow",
	.summary = "another device, that takes its time",
	.open = slow_open,
	.close = hook_close,
	.copy_in = copy_in,
	.copy_out = copy_out,
	.fence_wait = fence_wait,
	.clear = hook_clear,
	.folio_alloc = hook_folio_alloc,
	.folio_free = hook_folio_free,
	.folio_split = hook_folio_split,
	.host_bytes = hook_host_bytes,
	HOOK_WORK_CALLBACKS,
	.flags = UHMM_DRIVER_HOOK,
};
