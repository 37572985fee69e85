/* SPDX-License-Identifier: MIT */
/*
 * Between host memory and objects. What is all one word is kept as that word, zeros as nothing at all; what does not become a
 * sixteenth smaller is kept as it is. Old contents are dropped before there is room needed for new ones: a copy that
 * fails may leave anything at its destination, but nothing that is never freed.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/pages.h"
#include "drivers/packed/packed.h"

/* The part of a segment that lies in one unit. */
struct part {
	uint64_t unit;
	unsigned first, nr; /* pages of the unit */
	char *host;         /* of the first */
};

/* @seg->host may be NULL if nobody looks at the part's. */
static bool next_part(const struct packed *p, const struct uhmm_seg *seg, uint64_t *at, struct part *ret)
{
	uint64_t offset = seg->offset + *at, in_unit = offset & (p->piece - 1);
	uint64_t bytes = min_u64(p->piece - in_unit, seg->bytes - *at);

	if (*at >= seg->bytes)
		return false;
	ret->unit = offset >> p->unit_shift;
	ret->first = (unsigned)(in_unit >> PAGE_SHIFT);
	ret->nr = (unsigned)(bytes >> PAGE_SHIFT);
	ret->host = seg->host ? (char *)seg->host + *at : NULL;
	*at += bytes;
	return true;
}

static uint16_t mask_of(const struct part *t) { return (uint16_t)(((1u << t->nr) - 1) << t->first); }

static bool fits(const struct packed *p, const struct uhmm_seg *seg)
{
	return seg->offset <= p->size && seg->bytes <= p->size - seg->offset;
}

/* Is it one word all over? */
static bool is_same(const void *mem, size_t bytes)
{
	const uint64_t *w = mem;

	return w[0] == w[1] && w[0] == w[bytes / 8 - 1] && !memcmp(w, w + 1, bytes - 8);
}

static uint64_t object_make(struct packed *p, enum object_kind kind, const void *data, size_t bytes)
{
	uint64_t at = heap_alloc(&p->heap, sizeof(struct object) + bytes);
	struct object *o;

	if (!at)
		return 0;
	o = heap_at(&p->heap, at);
	o->bytes = (uint32_t)bytes;
	o->kind = (uint16_t)kind;
	o->mask = 0;
	memcpy(o->data, data, bytes);
	return at;
}

/* Return: 0 with the object, which is 0 for zeros; or -ENOSPC. */
static int pack(struct packed *p, struct worker *w, const char *from, size_t bytes, uint64_t *ret_object)
{
	size_t n;

	if (is_same(from, bytes)) {
		*ret_object = 0;
		if (!*(const uint64_t *)(const void *)from)
			return 0;
		*ret_object = object_make(p, OBJECT_SAME, from, sizeof(uint64_t));
	} else {
		n = p->codec->pack(w->pack, p->level, from, bytes, w->packed, bytes - bytes / 16);
		*ret_object = n ? object_make(p, OBJECT_PACKED, w->packed, n) : object_make(p, OBJECT_PLAIN, from, bytes);
	}
	return *ret_object ? 0 : -ENOSPC;
}

static int put(struct packed *p, struct worker *w, const struct part *t)
{
	uint64_t object;
	int r;

	unit_drop(p, t->unit, mask_of(t));
	if (t->nr == p->pages_per_unit) {
		r = pack(p, w, t->host, p->piece, &object);
		if (!r)
			unit_put_whole(p, t->unit, object);
		return r;
	}
	for (unsigned i = 0; i < t->nr; i++) {
		r = pack(p, w, t->host + i * PAGE_BYTES, PAGE_BYTES, &object);
		if (r)
			return r;
		r = unit_put_page(p, t->unit, t->first + i, object);
		if (r) {
			heap_free(&p->heap, object);
			return r;
		}
	}
	return 0;
}

/* ---- and back ---- */

static int unpack(struct packed *p, struct worker *w, uint64_t object, char *to, size_t bytes, size_t want)
{
	const struct object *o = heap_at(&p->heap, object);

	switch (o->kind) {
	case OBJECT_PLAIN:
		memcpy(to, o->data, min_u64(want, o->bytes));
		return 0;
	case OBJECT_SAME:
		for (size_t i = 0; i < want; i += sizeof(uint64_t))
			memcpy(to + i, o->data, sizeof(uint64_t));
		return 0;
	default:
		if (p->codec->unpack(w->unpack, o->data, o->bytes, to, bytes, want))
			return 0;
	}
	log_say(UHMM_LOG_ERROR, "%s: what was packed cannot be read any more: something has written over memory that is not its own",
		p->codec->name);
	return -EIO;
}

/* The pages of a part that are in the unit's one object. */
static int get_whole(struct packed *p, struct worker *w, const struct part *t, const struct unit_view *v)
{
	bool all = t->nr == p->pages_per_unit && v->in_whole == mask_of(t);
	unsigned last = 31 - (unsigned)__builtin_clz(v->in_whole);
	char *to = all ? t->host : w->piece;
	int r = unpack(p, w, v->whole, to, p->piece, (last + 1) * PAGE_BYTES);

	for (unsigned i = 0; !r && !all && i < t->nr; i++)
		if (v->in_whole >> (t->first + i) & 1)
			memcpy(t->host + i * PAGE_BYTES, w->piece + (t->first + i) * PAGE_BYTES, PAGE_BYTES);
	return r;
}

static int get(struct packed *p, struct worker *w, const struct part *t)
{
	struct unit_view v;
	int r = 0;

	unit_look(p, t->unit, mask_of(t), &v);
	if (v.in_whole)
		r = get_whole(p, w, t, &v);
	for (unsigned i = 0; !r && i < t->nr; i++) {
		uint64_t object = v.page[t->first + i];
		char *to = t->host + i * PAGE_BYTES;

		if (v.in_whole >> (t->first + i) & 1)
			continue;
		if (object)
			r = unpack(p, w, object, to, PAGE_BYTES, PAGE_BYTES);
		else
			memset(to, 0, PAGE_BYTES);
	}
	return r;
}

/* ---- segments ---- */

typedef int part_fn(struct packed *p, struct worker *w, const struct part *t);

static int each_part(struct packed *p, const struct uhmm_seg *segs, unsigned nr, part_fn *fn)
{
	struct worker *w = worker_take(p);
	struct part t;
	int r = w ? 0 : -ENOMEM;

	for (unsigned i = 0; !r && i < nr; i++) {
		if (!fits(p, &segs[i]))
			r = -EINVAL;
		for (uint64_t at = 0; !r && next_part(p, &segs[i], &at, &t);)
			r = fn(p, w, &t);
	}
	worker_put(p, w);
	return r;
}

int packed_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct packed *p = ctx;
	int r = each_part(p, segs, nr, put);

	(void)ret_fence;
	if (r == -ENOSPC)
		atomic_store_explicit(&p->full_at, max_u64(1, p->heap.used_bytes), memory_order_relaxed);
	return r;
}

int packed_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	(void)ret_fence;
	return each_part(ctx, segs, nr, get);
}

/* ---- what needs no bytes ---- */

int packed_clear(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct packed *p = ctx;
	struct uhmm_seg seg = { offset, NULL, bytes };
	struct part t;

	if (!fits(p, &seg))
		return -EINVAL;
	for (uint64_t at = 0; next_part(p, &seg, &at, &t);)
		unit_drop(p, t.unit, mask_of(&t));
	return 0;
}

/* After a copy that found no room folios are refused until a little has been freed: uhmm would take pages out for nothing. */
int packed_folio_alloc(void *ctx, uint64_t offset, unsigned order)
{
	struct packed *p = ctx;
	uint64_t full_at = atomic_load_explicit(&p->full_at, memory_order_relaxed);

	(void)offset;
	(void)order;
	if (!full_at)
		return 0;
	if (atomic_load_explicit(&p->heap.used_bytes, memory_order_relaxed) + (full_at >> 6) > full_at)
		return -ENOSPC;
	atomic_store_explicit(&p->full_at, 0, memory_order_relaxed);
	return 0;
}

void packed_folio_free(void *ctx, uint64_t offset, unsigned order)
{
	(void)packed_clear(ctx, offset, order_bytes(order));
}
