/* SPDX-License-Identifier: MIT */
/*
 * Where does each page live? Two truths are laid over one another: our table, for what is away or on its way, and the
 * kernel's page table for the rest. No lock is taken, so a page on the move may be seen on either side of it, and is then
 * reported as moving or as a hole.
 */
#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "os/pagemap.h"
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

/* What the kernel has in [start, end), all of it in one mapping. */
static bool add_system(struct filler *f, uint64_t start, uint64_t end)
{
	struct pm_run runs[16];
	uint64_t stop;
	unsigned nr;

	while (start < end) {
		if (pagemap_scan(f->space->sp.pagemap_fd, start, end, runs, ARRAY_LEN(runs), &nr, &stop) || !nr)
			return add(f, start, end, UHMM_WHERE_HOLE, 0, NULL);
		for (unsigned i = 0; i < nr; i++) {
			enum uhmm_where where = where_in_system(runs[i].bits);
			unsigned order = where == UHMM_WHERE_SYSTEM && runs[i].bits & PM_HUGE ? BLOCK_ORDER : 0;

			if (!add(f, runs[i].start, runs[i].end, where, order, NULL))
				return false;
		}
		start = stop;
	}
	return true;
}

static bool add_entry(struct filler *f, uint64_t start, uint64_t end, struct entry e)
{
	struct uhmm_device *dev;
	enum uhmm_where where;

	if (entry_state(e) != ENTRY_DEVICE && entry_state(e) != ENTRY_MIGRATING)
		return add_system(f, start, end);
	where = where_away(f->space, e, &dev);
	return add(f, start, end, where, where == UHMM_WHERE_MOVING ? 0 : entry_order(e), dev);
}

/* How far one word of the table speaks: a page where the block has a table, else to the end of the block. */
static uint64_t reach(struct table *t, uint64_t addr, uint64_t end)
{
	struct entry_slot *b = table_block(t, addr, false);
	uint64_t step = b && entry_state(entry_get(b)) == ENTRY_TABLE ? addr + PAGE_BYTES : block_down(addr) + BLOCK_BYTES;

	return min_u64(step, end);
}

static bool add_mapping(struct filler *f, uint64_t start, uint64_t end)
{
	struct table *t = &f->space->sp.table;

	while (start < end) {
		uint64_t stop = reach(t, start, end);
		struct entry e = table_peek(t, start);

		/* long stretches of Linux's own are one scan */
		while (entry_state(e) == ENTRY_SYSTEM && stop < end &&
		       entry_state(table_peek(t, stop)) == ENTRY_SYSTEM)
			stop = reach(t, stop, end);
		if (!add_entry(f, start, stop, e))
			return false;
		start = stop;
	}
	return true;
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
	while (!r && s < e) {
		r = vma_piece_at(&space->sp, s, e, &vp);
		if (r)
			break;
		if (!vp.movable && vp.why_not == UHMM_SKIP_UNMAPPED ? !add(&f, vp.start, vp.end, UHMM_WHERE_UNMAPPED, 0, NULL) :
								       !add_mapping(&f, vp.start, vp.end))
			break;
		s = vp.end;
	}
	if (!r)
		*ret_nr = f.nr;
	return r;
}
