/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "migrate/work.h"

/* Pages [addr, addr + bytes) are at @offset: the last extent grows, or there is one more. */
static void add_extent(struct work *w, uint64_t addr, uint64_t bytes, uint64_t offset)
{
	struct uhmm_work_extent *last = w->nr_extents ? &w->extent[w->nr_extents - 1] : NULL;

	if (last && last->start + last->bytes == addr && last->offset + last->bytes == offset)
		last->bytes += bytes;
	else
		w->extent[w->nr_extents++] = (struct uhmm_work_extent){ .start = addr, .bytes = bytes, .offset = offset };
}

/* ---- what the device only reads ---- */

/* The keep has begun: where an entry says the bytes are, they stay. */
static void note_block(struct work *w, struct space *sp, uint64_t start, uint64_t end)
{
	for (uint64_t at = start; at < end; at += PAGE_BYTES) {
		struct entry e = table_peek(&sp->table, at);

		if (entry_state(e) != ENTRY_DEVICE || entry_device(e) != w->dev->index)
			w->missing++;
		else
			add_extent(w, at, PAGE_BYTES, entry_page_offset(e, page_in_block(at)));
	}
}

/* ---- what it may write to ---- */

static void hold_block(struct work *w, struct mover *mv, uint64_t start, uint64_t end)
{
	struct held *h = &w->held[w->nr_held];
	uint64_t addr = block_down(start);
	unsigned first = page_in_block(start), stop = first + (unsigned)((end - start) >> PAGE_SHIFT), index;
	bool need_split;

	h->folios.offset = h->offset;
	do {
		claim_device(&h->claim, mv->m->sp, addr, first, stop, w->dev->index, &index, &h->folios, &need_split);
		/* what is beyond the part is not held: a CPU may need it to come to the release */
		if (need_split && split_range(mv->m, addr, first, stop)) {
			w->error = -ENOMEM;
			return;
		}
	} while (need_split);
	w->missing += stop - first;
	if (claim_empty(&h->claim))
		return;
	w->nr_held++;
	for (unsigned i = first; i < stop; i++)
		if (pageset_has(&h->claim.mine, i)) {
			w->missing--;
			add_extent(w, addr + i * PAGE_BYTES, PAGE_BYTES,
				   h->folios.whole ? h->offset[0] + i * PAGE_BYTES : h->offset[i]);
		}
}

static void let_block_go(struct work *w, struct held *h, bool written)
{
	struct pageset pages = h->claim.mine, done;

	if (written)
		pageset_join(&h->claim.written, &pages);
	while (install_device(&h->claim, w->dev, &h->folios, &pages, &done))
		sched_yield(); /* only a block that an event has split needs memory for this, and then a record */
}

/* ---- all ---- */

static void stamp(struct work *w)
{
	uint64_t now = clock_ns();

	for (unsigned k = 0; k < w->nr_parts; k++)
		for (uint64_t at = block_down(w->part[k].start); at < w->part[k].end; at += BLOCK_BYTES)
			stamps_set(&w->all->worked, at, now);
}

static void let_go(struct work *w, bool written)
{
	for (unsigned i = 0; i < w->nr_held; i++)
		let_block_go(w, &w->held[i], written);
	if (w->kept)
		device_keep_end(w->dev);
	atomic_fetch_sub(&w->all->nr_held, w->max_held);
	w->kept = false;
	w->nr_held = 0;
	w->nr_extents = 0;
	if (w->open)
		manuals_leave(w->all->manuals, w, w->dev);
	w->open = false;
}

/* What is held needs no keep: its folios are freed by the release alone. */
static bool reads_any(const struct work *w)
{
	for (unsigned k = 0; k < w->nr_parts; k++)
		if (!w->part[k].write)
			return true;
	return false;
}

static bool begin(struct work *w)
{
	if (atomic_fetch_add(&w->all->nr_held, w->max_held) + w->max_held > MAX_HELD_BLOCKS) {
		w->error = -E2BIG;
		return false;
	}
	w->error = atomic_load(&w->dev->closing) ? -ENODEV : manuals_enter(w->all->manuals, w, w->opener, w->dev);
	w->open = !w->error;
	/* no child is born now: a fork waits for this job, and then until there is no work. One that is made without handlers may be */
	w->lent = w->max_held && device_is_lent(w->dev);
	return w->open && !w->lent;
}

void hold_step(struct mover *mv, void *arg)
{
	struct work *w = arg;
	bool all = true;

	w->missing = 0;
	/* what the caller has unmapped or moved before it asked shall have been applied */
	gate_await_events(&mv->m->sp->gate);
	all = begin(w);
	if (all) {
		stamp(w);
		w->kept = reads_any(w);
		if (w->kept)
			device_keep(w->dev);
	}
	for (unsigned k = 0; all && k < w->nr_parts; k++)
		for (uint64_t at = w->part[k].start, end; all && at < w->part[k].end; at = end) {
			end = min_u64(block_down(at) + BLOCK_BYTES, w->part[k].end);
			if (w->part[k].write)
				hold_block(w, mv, at, end);
			else
				note_block(w, mv->m->sp, at, end);
			all = !w->missing && !w->error;
		}
	if (!all)
		let_go(w, false);
}

void let_go_step(struct mover *mv, void *arg)
{
	struct work *w = arg;

	(void)mv;
	stamp(w);
	let_go(w, true);
}
