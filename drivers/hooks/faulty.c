/* SPDX-License-Identifier: MIT */
/*
 * faulty+X: what X does, but for the calls that shall fail.
 *
 *   in=N, out=N, alloc=N, clear=N   the N-th of these calls fails, counted from 1; nothing is done then
 *   every=on                        and each N-th after it
 *   order=K                         of alloc, only those of order K count; default: all
 *   errno=E                         with which errno, a number; default 5 (EIO), for alloc 28 (ENOSPC)
 *   late=on                         a copy that has a fence is done, and its fence says that it has failed
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/pages.h"
#include "drivers/hooks/hook.h"

#define FAILS (UINT64_C(1) << 63) /* of a fence */
#define ANY   99u

struct faulty {
	struct hook hook;

	/* constant after open */
	uint64_t in, out, alloc, clear, every, order, error, late;

	/* atomic: calls so far */
	_Atomic uint64_t nr_in, nr_out, nr_alloc, nr_clear;
};

static const struct spec_key keys[] = {
	{ "in", SPEC_COUNT, offsetof(struct faulty, in) },
	{ "out", SPEC_COUNT, offsetof(struct faulty, out) },
	{ "alloc", SPEC_COUNT, offsetof(struct faulty, alloc) },
	{ "clear", SPEC_COUNT, offsetof(struct faulty, clear) },
	{ "every", SPEC_BOOL, offsetof(struct faulty, every) },
	{ "order", SPEC_COUNT, offsetof(struct faulty, order) },
	{ "errno", SPEC_COUNT, offsetof(struct faulty, error) },
	{ "late", SPEC_BOOL, offsetof(struct faulty, late) },
	{ NULL, 0, 0 },
};

static bool hit(const struct faulty *f, uint64_t which, _Atomic uint64_t *count)
{
	uint64_t n;

	if (!which)
		return false;
	n = atomic_fetch_add(count, 1) + 1;
	return f->every ? n % which == 0 : n == which;
}

static int error_of(const struct faulty *f, int usual) { return -(f->error ? (int)f->error : usual); }

static int copy(struct faulty *f, int (*pass)(void *, const struct uhmm_seg *, unsigned, uint64_t *), bool fails,
		const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	int r;

	if (fails && !f->late)
		return error_of(f, EIO);
	r = pass(f, segs, nr, ret_fence);
	if (r || !fails)
		return r;
	if (!*ret_fence)
		return error_of(f, EIO);
	*ret_fence |= FAILS;
	return 0;
}

static int copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct faulty *f = ctx;

	return copy(f, hook_copy_in, hit(f, f->in, &f->nr_in), segs, nr, ret_fence);
}

static int copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct faulty *f = ctx;

	return copy(f, hook_copy_out, hit(f, f->out, &f->nr_out), segs, nr, ret_fence);
}

static int fence_wait(void *ctx, uint64_t fence)
{
	int r = hook_fence_wait(ctx, fence & ~FAILS);

	return r || !(fence & FAILS) ? r : error_of(ctx, EIO);
}

static int clear(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct faulty *f = ctx;

	return hit(f, f->clear, &f->nr_clear) ? error_of(f, EIO) : hook_clear(ctx, offset, bytes);
}

static int folio_alloc(void *ctx, uint64_t offset, unsigned order)
{
	struct faulty *f = ctx;

	if ((f->order == ANY || f->order == order) && hit(f, f->alloc, &f->nr_alloc))
		return error_of(f, ENOSPC);
	return hook_folio_alloc(ctx, offset, order);
}

static int faulty_open(const char *spec, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	struct faulty *f = uhmm_host_reserve(HOOK_BYTES);
	int r;

	if (!f)
		return -ENOMEM;
	f->order = ANY;
	r = hook_open(&f->hook, keys, spec, ret_props, ret_why, why_bytes);
	if (!r && ((f->order > BLOCK_ORDER && f->order != ANY) || f->error > 4095))
		r = err_why(ret_why, why_bytes, -EINVAL, "order is a number from 0 to 9, and errno one up to 4095");
	if (r)
		hook_close(f);
	else
		*ret_ctx = f;
	return r;
}

extern const struct uhmm_driver uhmm_driver_faulty;

const struct uhmm_driver uhmm_driver_faulty = {
	.sz = sizeof(struct uhmm_driver),
	.name = "faulty",
	.summary = "another device, that fails when told to",
	.open = faulty_open,
	.close = hook_close,
	.copy_in = copy_in,
	.copy_out = copy_out,
	.fence_wait = fence_wait,
	.clear = clear,
	.folio_alloc = folio_alloc,
	.folio_free = hook_folio_free,
	.folio_split = hook_folio_split,
	.host_bytes = hook_host_bytes,
	HOOK_WORK_CALLBACKS,
	.flags = UHMM_DRIVER_HOOK,
};
