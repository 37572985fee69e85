/* SPDX-License-Identifier: MIT */
/*
 * trace+X: what X does, written down.
 *
 *   log=PATH   a file, to whose end a line is added for each call; default: each line is a sentence of the log, level debug
 *
 * A line: seconds, thread, call, what it was about, its outcome, how long it took. No memory is allocated and no lock taken: a line
 * is one write().
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "drivers/hooks/hook.h"

struct trace {
	struct hook hook;
	char log[SPEC_PATH_BYTES];
	int fd; /* -1: none */
};

static const struct spec_key keys[] = {
	{ "log", SPEC_PATH, offsetof(struct trace, log) },
	{ NULL, 0, 0 },
};

static void write_line(const struct trace *t, uint64_t began, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void write_line(const struct trace *t, uint64_t began, const char *fmt, ...)
{
	uint64_t now = clock_ns();
	char line[300];
	size_t used;
	va_list ap;

	used = (size_t)snprintf(line, sizeof(line), "%" PRIu64 ".%06" PRIu64 " %d ", began / 1000000000, began / 1000 % 1000000,
				(int)gettid());
	va_start(ap, fmt);
	used += (size_t)vsnprintf(line + used, sizeof(line) - used, fmt, ap);
	va_end(ap);
	used += (size_t)snprintf(line + used, sizeof(line) - used, " us=%" PRIu64 "\n", (now - began) / 1000);
	if (t->fd < 0) {
		line[used - 1] = '\0';
		log_say(UHMM_LOG_DEBUG, "%s", line);
	} else if (write(t->fd, line, used) < 0) {
		log_once(UHMM_LOG_WARN, "%s cannot be written to any more", t->log);
	}
}

static void write_copy(const struct trace *t, uint64_t began, const char *call, const struct uhmm_seg *segs, unsigned nr,
		       uint64_t fence, int r)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < nr; i++)
		bytes += segs[i].bytes;
	write_line(t, began, "%s offset=0x%" PRIx64 " bytes=%" PRIu64 " segments=%u fence=%" PRIu64 " r=%d", call,
		   nr ? segs[0].offset : 0, bytes, nr, fence, r);
}

static int copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	uint64_t began = clock_ns();
	int r = hook_copy_in(ctx, segs, nr, ret_fence);

	write_copy(ctx, began, "copy_in", segs, nr, *ret_fence, r);
	return r;
}

static int copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	uint64_t began = clock_ns();
	int r = hook_copy_out(ctx, segs, nr, ret_fence);

	write_copy(ctx, began, "copy_out", segs, nr, *ret_fence, r);
	return r;
}

static int fence_wait(void *ctx, uint64_t fence)
{
	uint64_t began = clock_ns();
	int r = hook_fence_wait(ctx, fence);

	write_line(ctx, began, "fence_wait fence=%" PRIu64 " r=%d", fence, r);
	return r;
}

static int clear(void *ctx, uint64_t offset, uint64_t bytes)
{
	uint64_t began = clock_ns();
	int r = hook_clear(ctx, offset, bytes);

	write_line(ctx, began, "clear offset=0x%" PRIx64 " bytes=%" PRIu64 " r=%d", offset, bytes, r);
	return r;
}

static int folio_alloc(void *ctx, uint64_t offset, unsigned order)
{
	uint64_t began = clock_ns();
	int r = hook_folio_alloc(ctx, offset, order);

	write_line(ctx, began, "folio_alloc offset=0x%" PRIx64 " order=%u r=%d", offset, order, r);
	return r;
}

static void folio_free(void *ctx, uint64_t offset, unsigned order)
{
	uint64_t began = clock_ns();

	hook_folio_free(ctx, offset, order);
	write_line(ctx, began, "folio_free offset=0x%" PRIx64 " order=%u", offset, order);
}

/* One line for the whole split: a block's lock is held meanwhile. */
static void folio_split(void *ctx, uint64_t head, unsigned old_order, uint64_t piece, unsigned new_order)
{
	hook_folio_split(ctx, head, old_order, piece, new_order);
	if (piece == UINT64_MAX)
		write_line(ctx, clock_ns(), "folio_split offset=0x%" PRIx64 " order=%u into=%u", head, old_order, new_order);
}

static void trace_close(void *ctx)
{
	struct trace *t = ctx;

	if (!t)
		return;
	if (t->hook.driver)
		write_line(t, clock_ns(), "close");
	if (t->fd >= 0)
		close(t->fd);
	hook_close(t);
}

static int trace_open(const char *spec, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	struct trace *t = uhmm_host_reserve(HOOK_BYTES);
	int r;

	if (!t)
		return -ENOMEM;
	t->fd = -1;
	r = hook_open(&t->hook, keys, spec, ret_props, ret_why, why_bytes);
	if (!r && t->log[0]) {
		t->fd = open(t->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (t->fd < 0)
			r = err_why(ret_why, why_bytes, -errno, "%s cannot be written to: %s", t->log, strerrordesc_np(errno));
	}
	if (r) {
		hook_close(t);
		return r;
	}
	write_line(t, clock_ns(), "open %.200s", spec);
	*ret_ctx = t;
	return 0;
}

extern const struct uhmm_driver uhmm_driver_trace;

const struct uhmm_driver uhmm_driver_trace = {
	.sz = sizeof(struct uhmm_driver),
	.name = "trace",
	.summary = "another device, every call of which is written down",
	.open = trace_open,
	.close = trace_close,
	.copy_in = copy_in,
	.copy_out = copy_out,
	.fence_wait = fence_wait,
	.clear = clear,
	.folio_alloc = folio_alloc,
	.folio_free = folio_free,
	.folio_split = folio_split,
	.host_bytes = hook_host_bytes,
	HOOK_WORK_CALLBACKS,
	.flags = UHMM_DRIVER_HOOK,
};
