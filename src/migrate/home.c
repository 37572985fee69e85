/* SPDX-License-Identifier: MIT */
/*
 * From a device back into the program, one block at a time: claim, copy out, install, free the folios. A CPU fault and
 * uhmm_to_system() both end here.
 *
 * A folio of order 9 is copied into a THP from the pool and arrives by one MOVE: huge stays huge. Where the program may not
 * write, MOVE is refused: there UFFDIO_COPY makes base pages of the THP's bytes, and a collapse makes one THP of those. Without
 * a THP, and for smaller folios, the bytes pass through the mover's bounce buffer and UFFDIO_COPY makes base pages of them.
 *
 * A folio comes as a whole, also when only one page of it was touched. Only a range that cuts it splits it: one that was asked for, or
 * one that a policy has said for a touch (come_home() in fault/fault.c).
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

void stay_on_device(struct mover *mv, struct claim *c, struct device *dev, const struct pageset *pages)
{
	struct pageset installed;

	/* only a block split by an event needs memory for this, and then only a record */
	while (install_device(c, dev, &mv->folios, pages, &installed))
		sched_yield();
}

int home_settle(struct mover *mv, struct claim *c, struct device *dev, const struct pageset *pages, const struct pageset *left,
		bool as_pages, uint64_t *moved)
{
	struct pageset gone = *pages;

	pageset_remove(&gone, left);
	if (!pageset_empty(&gone)) {
		/* of a folio that went in part the claim is split already, and the folio follows */
		while (folios_cut(dev, &mv->folios, &gone))
			sched_yield();
		if (as_pages && mv->folios.whole)
			moved[0] += PAGES_PER_BLOCK;
		else
			folios_count(&mv->folios, &gone, moved);
		release_folios(dev, &mv->folios, &gone);
	}
	if (pageset_empty(left))
		return 0;
	stay_on_device(mv, c, dev, left);
	return HOME_NO_MEMORY;
}

static int home_whole(struct mover *mv, struct claim *c, struct device *dev, uint64_t slot, uint64_t *moved)
{
	struct staging *st = &mv->m->staging;
	struct pageset left;
	bool arrived;
	int r;

	r = copy_out_tries(mv, dev, &pageset_all, slot);
	if (r) {
		staging_put_thp(st, slot);
		stay_on_device(mv, c, dev, &pageset_all);
		return r;
	}
	arrived = install_home(c, &pageset_all, slot, true, &left);
	r = home_settle(mv, c, dev, &pageset_all, &left, false, moved);
	mover_served(mv);
	claim_wake(c);
	/* it did not stay huge if a page table was in the way; then one has been left in the slot, too */
	if (arrived && is_huge(mv->m->sp, c->addr)) {
		staging_put_empty(st, slot);
		return r;
	}
	if (!arrived && is_huge(mv->m->sp, slot))
		staging_put_thp(st, slot); /* its bytes were copied */
	else
		staging_put_dirty(st, slot);
	make_huge_again(mv->m->sp, c->addr);
	return r;
}

static int home_pages(struct mover *mv, struct claim *c, struct device *dev, uint64_t *moved)
{
	struct pageset pages = c->mine, left;
	int r;

	r = copy_out_tries(mv, dev, &pages, (uintptr_t)mv->bounce);
	if (!r && claim_split(c)) /* each page is ended by itself */
		r = HOME_NO_MEMORY;
	if (r) {
		stay_on_device(mv, c, dev, &pages);
		return r;
	}
	(void)install_home(c, &pages, (uintptr_t)mv->bounce, false, &left);
	r = home_settle(mv, c, dev, &pages, &left, true, moved);
	mover_served(mv);
	claim_wake_pages(c, &pages);
	return r;
}

/* What is claimed comes home. */
static int home_claimed(struct mover *mv, struct claim *c, uint64_t addr, struct device *dev, uint64_t *moved)
{
	unsigned first = pageset_next(&c->mine, 0), end = first;
	uint64_t slot;

	pageset_for_each_run(&c->mine, i, stop)
		end = stop;
	space_changed(mv->m->sp, addr + first * PAGE_BYTES, addr + end * PAGE_BYTES, 0);
	/* into a child's memory pages are copied, never moved */
	if (!mv->folios.whole || dev->lender)
		return home_pages(mv, c, dev, moved);
	slot = staging_take_thp(&mv->m->staging);
	if (slot)
		return home_whole(mv, c, dev, slot, moved);
	/* no THP: it comes as base pages */
	counter_add(&mv->m->sp->counters.fault_small, 1);
	return home_pages(mv, c, dev, moved);
}

int home_block(struct mover *mv, uint64_t addr, unsigned first, unsigned end, struct device *dev, uint64_t *moved)
{
	unsigned index = dev ? dev->index : 0;
	bool need_split;
	struct claim c;

	for (;;) {
		claim_device(&c, mv->m->sp, addr, first, end, index, &index, &mv->folios, &need_split);
		if (!need_split)
			break;
		if (split_range(mv->m, addr, first, end))
			return HOME_NO_MEMORY;
	}
	if (claim_empty(&c))
		return HOME_NOTHING;
	return home_claimed(mv, &c, addr, migrator_device(mv->m, index), moved);
}

int home_folio(struct mover *mv, uint64_t addr, unsigned i, uint64_t *moved)
{
	unsigned index;
	struct claim c;

	claim_device(&c, mv->m->sp, addr, i, i + 1, 0, &index, &mv->folios, NULL);
	if (claim_empty(&c))
		return HOME_NOTHING;
	return home_claimed(mv, &c, addr, migrator_device(mv->m, index), moved);
}
