/* SPDX-License-Identifier: MIT */
/*
 * Where does each page live? Two truths are laid over one another: our table, for what is away or on its way, and the
 * kernel's page table for the rest. No lock is taken, so a page on the move may be seen on either side of it; but never as
 * a hole (space/look.h).
 */
#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "space/look.h"
#include "space/vma.h"

struct filler {
	struct uhmm_space *space;
	struct uhmm_extent *ext;
	size_t max, nr;
};

enum uhmm_where where_away(struct uhmm_space *space, struct entry e, struct uhmm_device **ret_dev)
{
	struct uhmm_device *dev = NULL;
	enum uhmm_where where = UHMM_WHERE_MOVING;

	if (entry_state(e) == ENTRY_DEVICE) {
		dev = device_handle(space, entry_device(e));
		where = entry_has(e, ENTRY_LOST) ? UHMM_WHERE_LOST : UHMM_WHERE_DEVICE;
	}
	if (dev && dev->companion_of) {
		dev = dev->companion_of;
		where = UHMM_WHERE_EXCLUSIVE;
	}
	*ret_dev = dev;
	return where;
}

enum uhmm_where where_in_system(uint32_t bits)
{
	return bits & PM_ZERO ? UHMM_WHERE_HOLE : bits & PM_PRESENT ? UHMM_WHERE_SYSTEM :
	       bits & PM_SWAPPED ? UHMM_WHERE_SWAP : UHMM_WHERE_HOLE;
}

/* Return: false when there is no room for it. */
static bool add(struct filler *f, uint64_t start, uint64_t end, enum uhmm_where where, unsigned order,
		struct uhmm_device *dev)
{
	struct uhmm_extent *last = f->nr ? &f->ext[f->nr - 1] : NULL;

	if (last && last->end == start && last->where == where && last->order == order && last->dev == dev) {
		last->end = end;
		return true;
	}
	if (f->nr == f->max)
		return false;
	f->ext[f->nr++] = (struct uhmm_extent){ .start = start, .end = end, .where = where, .order = order, .dev = dev };
	return true;
}

static bool add_system(struct filler *f, const struct seen *k)
{
	for (unsigned i = 0; i < k->nr; i++) {
		enum uhmm_where where = where_in_system(k->runs[i].bits);
		unsigned order = where == UHMM_WHERE_SYSTEM && k->runs[i].bits & PM_HUGE ? BLOCK_ORDER : 0;

		if (!add(f, k->runs[i].start, k->runs[i].end, where, order, NULL))
			return false;
	}
	return true;
}

static bool add_away(struct filler *f, uint64_t start, uint64_t end, struct entry e)
{
	struct uhmm_device *dev;
	enum uhmm_where where = where_away(f->space, e, &dev);

	return add(f, start, end, where, where == UHMM_WHERE_MOVING ? 0 : entry_order(e), dev);
}

/* All of one mapping. Return: 0; 1 when there is no room for more; -errno. */
static int add_mapping(struct filler *f, uint64_t start, uint64_t end)
{
	struct seen k;

	for (; start < end; start = k.stop) {
		int r = look_at(&f->space->sp, start, end, &k);

		if (r)
			return r;
		if (!(is_away(k.e) ? add_away(f, start, k.stop, k.e) : add_system(f, &k)))
			return 1;
	}
	return 0;
}

static int add_piece(struct filler *f, const struct vma_piece *vp)
{
	if (!vp->movable && vp->why_not == UHMM_SKIP_UNMAPPED)
		return !add(f, vp->start, vp->end, UHMM_WHERE_UNMAPPED, 0, NULL);
	return add_mapping(f, vp->start, vp->end);
}

int uhmm_query(struct uhmm_space *space, void *start, size_t len_bytes, struct uhmm_extent *exts, size_t nr_exts,
	       size_t *ret_nr)
{
	struct filler f = { space, exts, nr_exts, 0 };
	struct vma_piece vp;
	uint64_t s, e;
	int r;

	if (!space || !exts || !nr_exts || !ret_nr)
		return bad_argument("uhmm_query", "there is no space, or no room for an extent");
	r = check_process("uhmm_query", space);
	if (!r)
		r = check_range("uhmm_query", start, len_bytes, true, &s, &e);
	/* munmap and madvise return when their event has been read: what was done before the call shall be seen */
	if (!r)
		gate_await_events(&space->sp.gate);
	for (; !r && s < e; s = vp.end) {
		r = vma_piece_at(&space->sp, s, e, &vp);
		if (!r)
			r = add_piece(&f, &vp);
	}
	if (r < 0)
		return r;
	*ret_nr = f.nr;
	return 0;
}
