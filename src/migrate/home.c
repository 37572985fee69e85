/* SPDX-License-Identifier: MIT */
/*
 * From a device back into the program, one block at a time: claim, copy out, install, free the folios. A CPU fault and
 * uhmm_to_system() both end here.
 *
 * A whole folio is copied into a THP from the pool and arrives by one MOVE: huge stays huge. Without a THP, and for base
 * pages, the bytes pass through the mover's bounce buffer and UFFDIO_COPY makes base pages of them.
 *
 * Until the bytes are in the program the folio keeps them, so whatever fails, the claim ends as DEVICE again.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "migrate/migrate.h"

#define COPY_TRIES 3 /* a device that fails on the way back is asked again before anybody hears of it */

static int copy_out_tries(struct mover *mv, struct device *dev, const struct pageset *pages, uint64_t to)
{
	int r = 0;

	for (unsigned i = 0; i < COPY_TRIES; i++) {
		r = copy_out(mv, dev, &mv->folios, pages, to);
		if (!r)
			return 0;
	}
	log_say(UHMM_LOG_ERROR, "device %s failed %u times to give back the bytes at offset 0x%llx (%s)", dev->spec, COPY_TRIES,
		(unsigned long long)mv->folios.offset[pageset_next(pages, 0)], strerrordesc_np(-r));
	return r;
}

/* The claimed pages stay on the device. */
static void stay(struct mover *mv, struct claim *c, struct device *dev, const struct pageset *pages)
{
	struct pageset installed;

	/* only a block split by an event needs memory for this, and then only a record */
	while (install_device(c, dev, &mv->folios, pages, &installed))
		sched_yield();
}

/* After install_home(): folios of what left the device are freed, the rest stays on it. */
int home_settle(struct mover *mv, struct claim *c, struct device *dev, const struct pageset *pages, const struct pageset *left,
		uint64_t *moved)
{
	struct pageset gone = *pages;
	unsigned order = mv->folios.whole ? BLOCK_ORDER : 0;

	if (pageset_empty(left)) {
		release_folios(dev, &mv->folios, pages);
		moved[order] += pageset_count(pages) >> order;
		return 0;
	}
	if (pageset_count(left) == PAGES_PER_BLOCK) {
		stay(mv, c, dev, left); /* all as before, the claim too unless an event has split it */
		return HOME_NO_MEMORY;
	}
	if (mv->folios.whole) {
		/* a part of the folio went home: its claim is split already, the folio follows when the rest is put down */
		uint64_t head = mv->folios.offset[0];

		while (device_split(dev, head))
			sched_yield();
		mv->folios.whole = false;
		for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
			mv->folios.offset[i] = head + i * PAGE_BYTES;
	}
	pageset_remove(&gone, left);
	release_folios(dev, &mv->folios, &gone);
	moved[0] += pageset_count(&gone);
	stay(mv, c, dev, left);
	return HOME_NO_MEMORY;
}

static int home_whole(struct mover *mv, struct claim *c, struct device *dev, uint64_t slot, uint64_t *moved)
{
	struct staging *st = &mv->m->staging;
	struct pageset left;
	bool arrived;
	int r;

	mv->folios.whole = true;
	r = copy_out_tries(mv, dev, &pageset_all, slot);
	if (r) {
		staging_put_thp(st, slot);
		stay(mv, c, dev, &pageset_all);
		return r;
	}
	arrived = install_home(c, &pageset_all, slot, true, &left);
	/* it did not stay huge if a page table was in the way; then one has been left in the slot, too */
	if (arrived && is_huge(mv->m->sp, c->addr))
		staging_put_empty(st, slot);
	else
		staging_put_dirty(st, slot);
	return home_settle(mv, c, dev, &pageset_all, &left, moved);
}

static int home_pages(struct mover *mv, struct claim *c, struct device *dev, uint64_t *moved)
{
	struct pageset pages = c->mine, left;
	int r;

	mv->folios.whole = false;
	r = copy_out_tries(mv, dev, &pages, (uintptr_t)mv->bounce);
	if (r) {
		stay(mv, c, dev, &pages);
		return r;
	}
	(void)install_home(c, &pages, (uintptr_t)mv->bounce, false, &left);
	return home_settle(mv, c, dev, &pages, &left, moved);
}

int home_block(struct mover *mv, uint64_t addr, unsigned first, unsigned end, struct device *dev, uint64_t *moved)
{
	unsigned index = dev ? dev->index : 0;
	bool need_split;
	struct claim c;
	uint64_t slot;

	for (;;) {
		claim_device(&c, mv->m->sp, addr, first, end, index, &index, mv->folios.offset, &need_split);
		if (need_split) {
			if (split_block(mv->m, addr))
				return HOME_NO_MEMORY;
			continue;
		}
		if (claim_empty(&c))
			return HOME_NOTHING;
		dev = migrator_device(mv->m, index);
		space_changed(mv->m->sp, addr + first * PAGE_BYTES, addr + end * PAGE_BYTES, 0);
		if (!c.whole)
			return home_pages(mv, &c, dev, moved);
		slot = staging_take_thp(&mv->m->staging);
		if (slot)
			return home_whole(mv, &c, dev, slot, moved);

		/* no THP: it comes as base pages */
		counter_add(&mv->m->sp->counters.fault_small, 1);
		mv->folios.whole = true;
		stay(mv, &c, dev, &pageset_all);
		if (split_block(mv->m, addr))
			return HOME_NO_MEMORY;
	}
}

int split_block_locked(struct migrator *m, struct entry_slot *b, struct entry_slot *words)
{
	struct entry e = entry_get(b);

	if (entry_state(e) == ENTRY_DEVICE) {
		int r = device_split(migrator_device(m, entry_device(e)), entry_offset(e));

		if (r)
			return r;
	}
	block_split_into(b, words);
	return 0;
}

int split_block(struct migrator *m, uint64_t addr)
{
	struct entry_slot *b = table_block(&m->sp->table, addr, true), *words;
	int r = 0;

	words = b ? meta_alloc(&m->sp->table.tables) : NULL;
	if (!words)
		return -ENOMEM;
	block_lock(b);
	if (entry_state(entry_get(b)) != ENTRY_TABLE) {
		r = split_block_locked(m, b, words);
		if (!r)
			words = NULL;
	}
	block_unlock(b);
	if (words)
		meta_free(&m->sp->table.tables, words);
	return r;
}
