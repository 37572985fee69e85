/* SPDX-License-Identifier: MIT */
/*
 * One access goes block by block. For each it is asked: may the device (its view), and does the program's protection allow it
 * now (no event tells of mprotect)? Then run by run: pages on the device are copied by a worker, under a claim; all others by
 * the kernel, in this thread. A run that was taken away between the look and the copy is looked at again.
 *
 * The caller's buffer may itself lie in watched memory, even in the block that is claimed; so a worker copies to and from
 * memory of ours only, and this thread does the rest when no claim is held.
 *
 * Memory of ours is had and given back by a worker too: that takes a lock which fault threads need, and this thread may stand on
 * a stack that goes away at any moment.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/err.h"
#include "mirror/mirror.h"
#include "os/access.h"
#include "os/map.h"
#include "os/thread.h"

#define MAX_ROUNDS   1000 /* without a byte copied; each lets others run */
#define MAX_REFUSALS 20   /* of these: mapped, and allowed, and the kernel says EFAULT */

/* ---- pages on the device: by a worker ---- */

struct own_access {
	struct device *dev;
	uint64_t block;
	uint64_t from, to;  /* bytes in the block */
	char *data;         /* memory of ours: byte @from is at data[0] */
	bool write;
	struct pageset done; /* out: pages of which the bytes were copied */
	int error;
};

static int copy_both(struct mover *mv, struct device *dev, const struct pageset *pages, bool in)
{
	unsigned nr = copy_segments(mv->segs, &mv->folios, pages, (uintptr_t)mv->bounce);
	uint64_t fence;
	int r;

	if (in)
		r = device_copy_in(dev, mv->segs, nr, &fence);
	else
		r = device_copy_out(dev, mv->segs, nr, &fence);
	return r ? r : device_wait(dev, fence);
}

/* The pages at the edges of [from, to) that are not covered wholly: their other bytes must stay. */
static struct pageset ragged(const struct own_access *x, const struct pageset *pages)
{
	struct pageset edge = { 0 };

	if (x->from % PAGE_BYTES)
		pageset_add(&edge, page_in_block(x->from));
	if (x->to % PAGE_BYTES)
		pageset_add(&edge, page_in_block(x->to));
	pageset_keep(&edge, pages);
	return edge;
}

/* The bytes of the pages in @set that are wanted, between the bounce buffer and the data. */
static void copy_bytes_of(struct mover *mv, struct own_access *x, const struct pageset *set)
{
	pageset_for_each_run(set, i, end) {
		uint64_t from = max_u64(i * PAGE_BYTES, x->from), to = min_u64(end * PAGE_BYTES, x->to);

		if (x->write)
			memcpy(mv->bounce + from, x->data + (from - x->from), to - from);
		else
			memcpy(x->data + (from - x->from), mv->bounce + from, to - from);
	}
}

/* Pages of the claim that are wanted, claimed as a whole block or one by one. */
static int access_claimed(struct mover *mv, struct own_access *x, const struct pageset *pages)
{
	struct pageset edge = ragged(x, pages);
	int r = 0;

	if (x->write) {
		if (!pageset_empty(&edge))
			r = copy_both(mv, x->dev, &edge, false);
		if (r)
			return r;
		copy_bytes_of(mv, x, pages);
		return copy_both(mv, x->dev, pages, true);
	}
	r = copy_both(mv, x->dev, pages, false);
	if (!r)
		copy_bytes_of(mv, x, pages);
	return r;
}

/* One folio for all, seen as pages, so that a part of it can be copied. */
static void spread_offsets(struct folios *f)
{
	uint64_t head = f->offset[0];

	for (unsigned i = 1; i < PAGES_PER_BLOCK; i++)
		f->offset[i] = head + i * PAGE_BYTES;
}

/*
 * A child of fork may have the folios on loan: their bytes must not change. Inside the gate no child is born; one that is born
 * later, to a fork without handlers, waits until the write is done (birth.c). Return: the bytes may be written.
 */
static bool begin_write(struct claim *c, struct device *dev)
{
	claim_enter(c);
	atomic_store(&c->writing, !device_is_lent(dev));
	claim_leave(c);
	return atomic_load(&c->writing);
}

static void await_loans(struct device *dev)
{
	for (unsigned n = 0; device_is_lent(dev); n++)
		thread_pause(n);
}

static void access_own(struct mover *mv, void *arg)
{
	struct own_access *x = arg;
	unsigned first = page_in_block(x->from), end = page_in_block(x->to - 1) + 1, index;
	struct pageset pages = { 0 }, left;
	struct claim c;
	bool whole, lent;

	if (x->write)
		await_loans(x->dev);
	/* folios are claimed as a whole: none is split for a look at a part of it */
	claim_device(&c, mv->m->sp, x->block, first, end, x->dev->index, &index, &mv->folios, NULL);
	if (claim_empty(&c))
		return;
	left = c.mine;
	pageset_add_range(&pages, first, end);
	pageset_keep(&pages, &left);
	whole = mv->folios.whole;
	if (whole)
		spread_offsets(&mv->folios);

	mv->folios.whole = false;
	lent = x->write && !begin_write(&c, x->dev);
	if (!lent && !pageset_empty(&pages))
		x->error = access_claimed(mv, x, &pages);
	atomic_store(&c.writing, false);
	mv->folios.whole = whole;
	if (!lent && !x->error)
		x->done = pages;
	if (x->write) /* also when it failed in the middle */
		pageset_join(&c.written, &pages);
	while (install_device(&c, x->dev, &mv->folios, &left, &pages))
		sched_yield(); /* only a block that an event has split needs memory for this, and then a record */
}

/* ---- what a device may do ---- */

static struct view *view_of(struct mirror *mi, unsigned index)
{
	struct view *v = atomic_load(&mi->view[index]), *none = NULL;
	unsigned end = atomic_load(&mi->end);

	if (v)
		return v;
	while (end < index + 1 && !atomic_compare_exchange_weak(&mi->end, &end, index + 1))
		;
	v = map_own(sizeof(*v), 0);
	if (!v)
		return NULL;
	if (!view_init(v) && atomic_compare_exchange_strong(&mi->view[index], &none, v))
		return v;
	view_fini(v);
	map_own_free(v, sizeof(*v));
	return none;
}

/* Does the program's own protection allow it? Return: 0; -EFAULT; -EPERM; the mapping. */
static int check_mapping(struct space *sp, uint64_t addr, bool write, struct mapping *ret)
{
	int r = procmap_find(&sp->procmap, addr, ret);

	if (r == -ENOENT || (!r && (ret->start > addr || !(ret->flags & MAPPING_READ))))
		return -EFAULT;
	if (!r && write && !(ret->flags & MAPPING_WRITE))
		return -EPERM;
	return r;
}

static bool is_own(const struct mirror *mi, const struct device *dev, struct entry e)
{
	unsigned i = entry_device(e);

	return entry_state(e) == ENTRY_DEVICE && (i == dev->index || i == atomic_load(&mi->companion[dev->index]));
}

/* The next page of [addr, end) that lives on another device; @end if there is none. */
static uint64_t find_foreign(struct mirror *mi, struct device *dev, uint64_t addr, uint64_t end)
{
	for (; addr < end; addr += PAGE_BYTES) {
		struct entry e = table_peek(&mi->m->sp->table, addr);

		if (entry_state(e) == ENTRY_DEVICE && !is_own(mi, dev, e))
			break;
	}
	return addr;
}

struct granting {
	struct view *view;
	uint64_t start, end;
	unsigned rights;
	int r; /* out */
};

static void grant(struct mover *mv, void *arg)
{
	struct granting *g = arg;

	(void)mv;
	g->r = view_add(g->view, g->start, g->end, g->rights);
}

/* A device's fault: looks at all of [start, end), brings home what other devices have, and gives rights. */
static int fault_in(struct mirror *mi, struct device *dev, struct view *v, uint64_t start, uint64_t end, bool write)
{
	while (start < end) {
		uint64_t stop, foreign;
		struct granting g;
		struct mapping m;
		struct tally t;
		int r = check_mapping(mi->m->sp, start, write, &m);

		if (r)
			return r;
		stop = min_u64(m.end, end);
		foreign = find_foreign(mi, dev, start, stop);
		if (foreign < stop) {
			jobs_run(mi->jobs, JOB_TO_SYSTEM, foreign, stop, NULL, false, &t);
			if (t.error)
				return t.error;
		}
		g = (struct granting){ v, start, stop, VIEW_READ | (m.flags & MAPPING_WRITE ? VIEW_WRITE : 0), 0 };
		jobs_call(mi->jobs, grant, &g);
		if (g.r)
			return g.r;
		start = stop;
	}
	return 0;
}

static bool has_rights(const struct view *v, uint64_t start, uint64_t end, unsigned rights)
{
	for (; start < end; start += PAGE_BYTES)
		if ((view_get(v, start) & rights) != rights)
			return false;
	return true;
}

/*
 * Rights are kept for pages of the device's own alone: all of those are watched. Of memory that is not, nobody tells that it was
 * unmapped and that other memory has taken its place.
 */
static void drop_unwatched(struct mirror *mi, struct device *dev, struct view *v, uint64_t start, uint64_t end)
{
	for (; start < end; start += PAGE_BYTES)
		if (!is_own(mi, dev, table_peek(&mi->m->sp->table, start)))
			view_clear(v, start, start + PAGE_BYTES);
}

/* ---- all together ---- */

struct access {
	struct mirror *mi;
	struct device *dev;
	struct view *view;
	struct own_access *own; /* with data of one block behind it */
	uint64_t end;           /* of the whole access */
	unsigned flags;
	uint64_t faults;
	unsigned refused;       /* by the kernel, since the last byte copied */
};

#define IN_A_CLAIM MAX_DEVICES

/* Where the page at @at is: the index of a device of ours, 0 for elsewhere, or IN_A_CLAIM. */
static unsigned place_of(struct access *a, uint64_t at)
{
	struct entry e = table_peek(&a->mi->m->sp->table, at);

	if (entry_state(e) == ENTRY_MIGRATING)
		return IN_A_CLAIM;
	return is_own(a->mi, a->dev, e) ? entry_device(e) : 0;
}

/* The run of pages from @at that are in the same place. */
static uint64_t run_end(struct access *a, uint64_t at, uint64_t end, unsigned *ret_place)
{
	*ret_place = place_of(a, at);
	for (at = page_down(at) + PAGE_BYTES; at < end && place_of(a, at) == *ret_place; at += PAGE_BYTES)
		;
	return min_u64(at, end);
}

/*
 * Waits until a claim of the page has ended. It may be that of another access by this device: asking the kernel now would be a
 * touch, and bring the page home for nothing. This thread holds nothing that a claimer could wait for.
 */
static void await_claim(struct access *a, uint64_t at)
{
	struct table *t = &a->mi->m->sp->table;
	struct entry first = table_peek(t, at), e = first;

	for (unsigned n = 0; entry_state(e) == ENTRY_MIGRATING && entry_token(e) == entry_token(first); n++) {
		thread_pause(n);
		e = table_peek(t, at);
	}
}

/* Return: bytes copied from @at on, 0 when it is to be looked at again; -errno. */
static int64_t copy_own(struct access *a, unsigned index, uint64_t at, uint64_t end, char *buf)
{
	struct own_access *x = a->own;
	uint64_t block = block_down(at), stop;
	char *data = x->data;

	*x = (struct own_access){ .dev = migrator_device(a->mi->m, index), .block = block, .from = at - block, .to = end - block,
				  .data = data, .write = a->flags & MIRROR_WRITE };
	if (x->write)
		memcpy(data, buf, end - at);
	jobs_call(a->mi->jobs, access_own, x);
	if (x->error)
		return x->error;
	stop = block + pageset_run_end(&x->done, page_in_block(at)) * PAGE_BYTES;
	if (stop <= at)
		return 0;
	stop = min_u64(stop, end);
	if (!x->write)
		memcpy(buf, data, stop - at);
	return (int64_t)(stop - at);
}

static int64_t copy_run(struct access *a, uint64_t at, uint64_t end, char *buf)
{
	unsigned place;
	int64_t n;

	end = run_end(a, at, end, &place);
	if (place == IN_A_CLAIM) {
		await_claim(a, at);
		return 0;
	}
	if (place)
		return copy_own(a, place, at, end, buf);
	if (a->flags & MIRROR_RESIDENT)
		return -ENOENT;
	n = a->flags & MIRROR_WRITE ? access_write(at, buf, end - at) : access_read(buf, at, end - at);
	if (n == -EFAULT) {
		/* unmapped or protected meanwhile: looking again tells; or beyond the end of a file: then it is refused again */
		view_clear(a->view, page_down(at), page_up(end));
		return ++a->refused > MAX_REFUSALS ? -EFAULT : 0;
	}
	return n;
}

/* One block's worth. Return: as above. */
static int64_t access_once(struct access *a, uint64_t at, char *buf)
{
	uint64_t end = min_u64(block_down(at) + BLOCK_BYTES, a->end);
	bool write = a->flags & MIRROR_WRITE;
	struct mapping m;
	int r = check_mapping(a->mi->m->sp, at, write, &m);

	if (r)
		return r;
	end = min_u64(end, m.end);
	if (!(a->flags & MIRROR_RESIDENT) && !has_rights(a->view, page_down(at), end, VIEW_READ | (write ? VIEW_WRITE : 0))) {
		a->faults++;
		r = fault_in(a->mi, a->dev, a->view, page_down(at), page_up(a->end), write);
		if (r)
			return r;
	}
	return copy_run(a, at, end, buf);
}

#define OWN_BYTES (PAGE_BYTES + BLOCK_BYTES)

static void begin(struct mover *mv, void *arg)
{
	struct access *a = arg;
	struct own_access *own = map_own(OWN_BYTES, 0);

	(void)mv;
	if (own)
		own->data = (char *)own + PAGE_BYTES;
	a->own = own;
	a->view = view_of(a->mi, a->dev->index);
}

static void end(struct mover *mv, void *arg)
{
	struct access *a = arg;

	(void)mv;
	map_own_free(a->own, OWN_BYTES);
}

int mirror_access(struct mirror *mi, struct device *dev, uint64_t addr, uint64_t len, void *buf, unsigned flags,
		  uint64_t *ret_faults, uint64_t *ret_done)
{
	struct access a = { .mi = mi, .dev = dev, .end = addr + len, .flags = flags };
	unsigned rounds = 0;
	uint64_t done = 0;
	int64_t n = 0;

	jobs_call(mi->jobs, begin, &a);
	if (!a.view || !a.own)
		n = -ENOMEM;
	while (n >= 0 && done < len) {
		n = access_once(&a, addr + done, (char *)buf + done);
		if (n > 0) {
			done += (uint64_t)n;
			rounds = a.refused = 0;
			continue;
		}
		if (!n && ++rounds > MAX_ROUNDS)
			n = -EBUSY;
		if (!n)
			sched_yield();
	}
	if (a.view && a.faults)
		drop_unwatched(mi, dev, a.view, page_down(addr), page_up(addr + len));
	jobs_call(mi->jobs, end, &a);
	*ret_faults = a.faults;
	*ret_done = done;
	return n < 0 ? (int)n : 0;
}
