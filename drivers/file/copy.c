/* SPDX-License-Identifier: MIT */
/*
 * Segments become reads and writes, all of a call in flight at once. Zeros make no way: a cleared folio, and a run of zero
 * pages in what is written, are bits (zeros.c).
 *
 * With a ring each copy has a slot of its own, which it keeps until its fence is waited for. When all slots are taken a copy
 * is done by plain reads and writes at once: it must not wait for a slot that its own thread holds.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/pages.h"
#include "drivers/file/file.h"

#define ZERO_RUN ((uint64_t)64 << 10) /* what it takes to cut a write in two */

static struct slot *slot_take(struct file *f)
{
	struct slot *s;

	pthread_mutex_lock(&f->slots_lock);
	s = f->free_slots;
	if (s)
		f->free_slots = s->next;
	pthread_mutex_unlock(&f->slots_lock);
	if (s)
		s->nr = 0;
	return s;
}

static void slot_put(struct file *f, struct slot *s)
{
	pthread_mutex_lock(&f->slots_lock);
	s->next = f->free_slots;
	f->free_slots = s;
	pthread_mutex_unlock(&f->slots_lock);
}

/* ---- one call's reads or writes ---- */

struct batch {
	struct file *f;
	struct slot *slot; /* NULL: plain */
	bool out;
};

static int batch_run(struct batch *b)
{
	ring_start(b->slot->ring, b->f->fd, b->slot->ios, b->slot->nr, b->out);
	b->slot->nr = 0;
	return ring_finish(b->slot->ring);
}

static int batch_add(struct batch *b, uint64_t offset, char *host, uint64_t bytes)
{
	int r = 0;

	for (uint64_t at = 0; !r && at < bytes; at += FILE_IO_MAX) {
		struct io io = { offset + at, host + at, (uint32_t)min_u64(FILE_IO_MAX, bytes - at), 0 };

		if (!b->slot) {
			r = plain_io(b->f->fd, &io, b->out);
			continue;
		}
		b->slot->ios[b->slot->nr++] = io;
		if (b->slot->nr == FILE_IOS)
			r = batch_run(b);
	}
	return r;
}

static bool is_zero(const char *page)
{
	const uint64_t *w = (const uint64_t *)(const void *)page;

	return !w[0] && !w[PAGE_BYTES / 16] && !memcmp(w, w + 1, PAGE_BYTES - 8);
}

/* How far zeros go from @at, if that is worth a cut; else how far there is nothing worth one. */
static uint64_t host_run(const char *mem, uint64_t bytes, bool *ret_zero)
{
	uint64_t at = 0, zeros = 0;

	for (; at < bytes; at += PAGE_BYTES) {
		if (is_zero(mem + at)) {
			zeros += PAGE_BYTES;
			continue;
		}
		if (zeros >= ZERO_RUN)
			break;
		zeros = 0;
	}
	*ret_zero = zeros == at && (zeros >= ZERO_RUN || at == bytes);
	return *ret_zero || zeros < ZERO_RUN ? at : at - zeros;
}

static int add_in(struct batch *b, const struct uhmm_seg *seg)
{
	int r = 0;

	for (uint64_t at = 0, n; !r && at < seg->bytes; at += n) {
		char *host = (char *)seg->host + at;
		bool zero;

		n = host_run(host, seg->bytes - at, &zero);
		zeros_set(b->f, seg->offset + at, n, zero);
		if (!zero)
			r = batch_add(b, seg->offset + at, host, n);
	}
	return r;
}

static int add_out(struct batch *b, const struct uhmm_seg *seg)
{
	int r = 0;

	for (uint64_t at = 0, n; !r && at < seg->bytes; at += n) {
		char *host = (char *)seg->host + at;
		bool zero;

		n = zeros_run(b->f, seg->offset + at, seg->bytes - at, &zero);
		if (zero)
			memset(host, 0, n);
		else
			r = batch_add(b, seg->offset + at, host, n);
	}
	return r;
}

static int tell(struct file *f, int r)
{
	if (r == -ENOSPC && !atomic_exchange(&f->said_full, true))
		log_say(UHMM_LOG_ERROR, "%s: the disk is full; what was to go there stays in memory", f->path);
	return r;
}

static int copy(struct file *f, const struct uhmm_seg *segs, unsigned nr, bool out, uint64_t *ret_fence)
{
	struct batch b = { f, slot_take(f), out };
	int r = 0;

	for (unsigned i = 0; !r && i < nr; i++) {
		if (segs[i].offset > f->size || segs[i].bytes > f->size - segs[i].offset)
			r = -EINVAL;
		else
			r = out ? add_out(&b, &segs[i]) : add_in(&b, &segs[i]);
	}
	if (!b.slot)
		return tell(f, r);
	if (!r && b.slot->nr && f->async) {
		ring_start(b.slot->ring, f->fd, b.slot->ios, b.slot->nr, out);
		*ret_fence = (uint64_t)(b.slot - f->slots) + 1;
		return 0;
	}
	if (!r && b.slot->nr)
		r = batch_run(&b);
	slot_put(f, b.slot);
	return tell(f, r);
}

/* ---- the callbacks ---- */

int file_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return copy(ctx, segs, nr, false, ret_fence);
}

int file_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return copy(ctx, segs, nr, true, ret_fence);
}

int file_fence_wait(void *ctx, uint64_t fence)
{
	struct file *f = ctx;
	struct slot *s = &f->slots[fence - 1];
	int r = ring_finish(s->ring);

	slot_put(f, s);
	return tell(f, r);
}

int file_clear(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct file *f = ctx;

	if (offset > f->size || bytes > f->size - offset)
		return -EINVAL;
	zeros_set(f, offset, bytes, true);
	return 0;
}

void file_folio_free(void *ctx, uint64_t offset, unsigned order)
{
	struct file *f = ctx;

	if (f->punch) /* refused, it merely costs on */
		(void)fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)order_bytes(order));
}
