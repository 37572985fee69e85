/* SPDX-License-Identifier: MIT */
/*
 * Piece by piece: the table's word where a block or a page is away, else what the kernel has. Looks without locks, as
 * uhmm_query() does.
 *
 * A piece is kept back until the next one is known to be another, so that neighbours that say the same become one.
 */
#include "api/api.h"
#include "base/clock.h"
#include "base/err.h"
#include "space/look.h"
#include "space/vma.h"

#define GIB (UINT64_C(1) << 30) /* what one leaf of the table covers */

struct walker {
	struct uhmm_space *space;
	uhmm_walk_fn *fn;
	void *ctx;
	struct uhmm_piece piece; /* not told yet; empty: start == end */
	bool long_one;           /* it may reach beyond its block */
};

static int tell(struct walker *w)
{
	struct uhmm_piece *p = &w->piece;
	int r = 0;

	if (p->start < p->end) {
		p->sz = sizeof(*p);
		p->last_fault_ns = stamps_get(&w->space->sp.faulted, p->start, clock_ns());
		r = w->fn(w->ctx, p);
	}
	p->start = p->end;
	return r;
}

static bool joins(const struct uhmm_piece *a, const struct uhmm_piece *b)
{
	return a->start < a->end && a->end == b->start && a->where == b->where && a->order == b->order && a->dev == b->dev &&
	       a->dirty == b->dirty;
}

/* Return: not 0 when @fn has ended the walk. */
static int add(struct walker *w, const struct uhmm_piece *p, bool long_one)
{
	int r;

	if (joins(&w->piece, p) && ((w->long_one && long_one) || !block_aligned(p->start))) {
		w->piece.end = p->end;
		return 0;
	}
	r = tell(w);
	w->piece = *p;
	w->long_one = long_one;
	return r;
}

/* Cut at blocks. */
static int add_blocks(struct walker *w, struct uhmm_piece p, uint64_t end)
{
	int r = 0;

	for (; !r && p.start < end; p.start = p.end) {
		p.end = min_u64(block_down(p.start) + BLOCK_BYTES, end);
		r = add(w, &p, false);
	}
	return r;
}

/* What the kernel has. @unheard: no block here was ever on its way. */
static int walk_system(struct walker *w, const struct seen *k, bool unheard)
{
	int r = 0;

	for (unsigned i = 0; !r && i < k->nr; i++) {
		struct uhmm_piece p = { .start = k->runs[i].start, .end = k->runs[i].end, .where = where_in_system(k->runs[i].bits) };

		p.order = p.where == UHMM_WHERE_SYSTEM && k->runs[i].bits & PM_HUGE ? BLOCK_ORDER : 0;
		p.dirty = p.where == UHMM_WHERE_HOLE ? UHMM_DIRTY_NO : UHMM_DIRTY_UNKNOWN;
		r = unheard && p.where == UHMM_WHERE_HOLE ? add(w, &p, true) : add_blocks(w, p, k->runs[i].end);
	}
	return r;
}

static int walk_away(struct walker *w, uint64_t start, uint64_t end, struct entry e)
{
	struct uhmm_piece p = { .start = start };

	p.where = where_away(w->space, e, &p.dev);
	if (p.where != UHMM_WHERE_MOVING) {
		p.order = entry_order(e);
		p.dirty = entry_has(e, ENTRY_WRITTEN) ? UHMM_DIRTY_YES : UHMM_DIRTY_NO;
	}
	return add_blocks(w, p, end);
}

static int walk_mapping(struct walker *w, uint64_t start, uint64_t end)
{
	struct seen k;
	int r = 0;

	for (; !r && start < end; start = k.stop) {
		bool unheard = !table_block(&w->space->sp.table, start, false);

		/* what was heard of and what was not is told in different pieces */
		r = look_at(&w->space->sp, start, min_u64(end, (start & ~(GIB - 1)) + GIB), &k);
		if (!r)
			r = is_away(k.e) ? walk_away(w, start, k.stop, k.e) : walk_system(w, &k, unheard);
	}
	return r;
}

static int walk_range(struct walker *w, uint64_t start, uint64_t end)
{
	int r = 0;

	while (!r && start < end) {
		struct vma_piece vp;

		r = vma_piece_at(&w->space->sp, start, end, &vp);
		if (r)
			break;
		if (!vp.movable && vp.why_not == UHMM_SKIP_UNMAPPED) {
			struct uhmm_piece p = { .start = vp.start, .end = vp.end, .where = UHMM_WHERE_UNMAPPED, .dirty = UHMM_DIRTY_NO };

			r = add(w, &p, true);
		} else {
			r = walk_mapping(w, vp.start, vp.end);
		}
		start = vp.end;
	}
	return r ? r : tell(w);
}

int uhmm_walk(struct uhmm_space *space, void *start, size_t len_bytes, uhmm_walk_fn *fn, void *ctx)
{
	struct walker w = { .space = space, .fn = fn, .ctx = ctx };
	uint64_t s, e;
	int r;

	if (!space || !fn)
		return bad_argument("uhmm_walk", "there is no space, or nobody to tell");
	r = check_process("uhmm_walk", space);
	if (!r)
		r = check_range("uhmm_walk", start, len_bytes, true, &s, &e);
	if (r)
		return r;
	/* munmap and madvise return when their event has been read: what was done before the call shall be seen */
	gate_await_events(&space->sp.gate);
	return walk_range(&w, s, e);
}
