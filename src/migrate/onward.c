/* SPDX-License-Identifier: MIT */
/*
 * From one device to another, one block at a time: claim, take folios, copy out, copy in, install, free the folios it had. The
 * bytes pass through the mover's bounce buffer and never through the program's memory, so nothing of the program's page table
 * changes: it has holes there before and after.
 *
 * Until the claim ends as DEVICE of the second device the first one keeps the bytes. So whatever fails before - no room, a copy
 * out, a copy in, memory for words - the claim ends as DEVICE of the first again, and nobody hears more of it than a wait.
 *
 *   a touch meanwhile          meets MIGRATING, and is woken when the claim ends, wherever: then it brings the folio home
 *   munmap, discard            mark words DEAD; install_device() frees what was taken for those pages on the second
 *                              device, and on the first all that was claimed is freed, since it was claimed by whole folios
 *   mremap                     takes words along and tells the claim; install_device() follows, with folios of order 0
 *   fork                       the claim says where the bytes are (.from), and until it ends that is the first device: a child born
 *                              before borrows from there, and then what is freed there is withheld; one born later finds the
 *                              second device in the words
 *   fork, without events       pauses the workers first, so it meets no claim of these
 *   the first device is lent   what is freed there would be withheld, and no room come of it: it stays
 *   either device is closed    of one that is closing nothing is taken; on the first nothing is found when it has been
 *                              emptied. The policy, which alone asks for this, is stopped before
 *   a page that is lost        the word says so, and stays as it is
 *
 * Who is woken may find the first device's folios not free yet for a moment. Nobody counts on that: what moves on does so
 * whenever the policy likes.
 */
#include <sched.h>

#include "base/err.h"
#include "migrate/migrate.h"

/* The largest of @orders, 0 among them, that page @i can begin, within the folio of @limit that it is in. */
static unsigned fitting(unsigned i, unsigned limit, uint32_t orders)
{
	unsigned order = limit;

	while (order && (!(orders >> order & 1) || folio_head(i, order) != i))
		order--;
	return order;
}

/* A folio for page @i on, of @order at most. @orders: becomes less when one is refused. Return: its order, or -1. */
static int place_one(struct device *to, struct folios *f, unsigned i, unsigned limit, uint32_t *orders)
{
	while (*orders) {
		unsigned order = fitting(i, limit, *orders);
		uint64_t offset;

		if (!device_alloc(to, order, &offset)) {
			folios_set(f, i, offset, order);
			return (int)order;
		}
		*orders &= (1u << order) - 1;
	}
	return -1;
}

/* Folios of @to for all that was claimed, or none. Return: there are. */
static bool place(struct device *to, const struct folios *have, const struct pageset *pages, struct folios *f)
{
	uint32_t orders = to->props.orders;
	struct pageset got = { 0 };
	int order;

	f->whole = false;
	if (atomic_load(&to->closing))
		return false;
	if (have->whole && orders >> BLOCK_ORDER & 1) {
		f->whole = !device_alloc(to, BLOCK_ORDER, &f->offset[0]);
		if (f->whole)
			return true;
	}
	orders &= ~(1u << BLOCK_ORDER);
	for (unsigned i = pageset_next(pages, 0); i < PAGES_PER_BLOCK; i = pageset_next(pages, i + order_pages((unsigned)order))) {
		order = place_one(to, f, i, have->whole ? BLOCK_ORDER - 1 : have->order[i], &orders);
		if (order < 0) {
			release_folios(to, f, &got);
			return false;
		}
		pageset_add_range(&got, i, i + order_pages((unsigned)order));
	}
	return true;
}

static int copy(struct mover *mv, struct device *from, struct device *to, const struct pageset *pages)
{
	uint64_t fence;
	unsigned nr;
	int r = copy_out(mv, from, &mv->folios, pages, (uintptr_t)mv->bounce);

	if (r)
		return r;
	nr = copy_segments(mv->segs, &mv->onward, pages, (uintptr_t)mv->bounce);
	r = device_copy_in(to, mv->segs, nr, &fence);
	return r ? r : device_wait(to, fence);
}

static void tell(struct space *sp, uint64_t addr, const struct pageset *pages, const struct device *to)
{
	pageset_for_each_run(pages, first, end)
		space_changed(sp, addr + first * PAGE_BYTES, addr + end * PAGE_BYTES, to->index);
}

int onward_block(struct mover *mv, uint64_t addr, struct device *from, struct device *to, uint64_t *moved)
{
	struct pageset pages, installed;
	unsigned index;
	struct claim c;
	int r;

	if (device_is_lent(from))
		return ONWARD_NOTHING;
	claim_device(&c, mv->m->sp, addr, 0, PAGES_PER_BLOCK, from->index, &index, &mv->folios, NULL);
	if (claim_empty(&c))
		return ONWARD_NOTHING;
	pages = c.mine;
	if (!place(to, &mv->folios, &pages, &mv->onward)) {
		stay_on_device(mv, &c, from, &pages);
		return ONWARD_NO_ROOM;
	}
	tell(mv->m->sp, addr, &pages, to);
	r = copy(mv, from, to, &pages);
	if (!r && !mv->onward.whole && claim_split(&c))
		r = ONWARD_NO_ROOM; /* no memory for the words */
	if (!r && install_device(&c, to, &mv->onward, &pages, &installed))
		r = ONWARD_NO_ROOM;
	if (r) {
		release_folios(to, &mv->onward, &pages);
		stay_on_device(mv, &c, from, &pages);
		return r;
	}
	folios_count(&mv->onward, &installed, moved);
	release_folios(from, &mv->folios, &pages);
	return 0;
}

static bool is_lost(struct space *sp, uint64_t addr, struct entry_slot *b)
{
	if (entry_state(entry_get(b)) != ENTRY_TABLE)
		return entry_state(entry_get(b)) == ENTRY_DEVICE && entry_has(entry_get(b), ENTRY_LOST);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		struct entry e = table_peek(&sp->table, addr + i * PAGE_BYTES);

		if (entry_state(e) == ENTRY_DEVICE && entry_has(e, ENTRY_LOST))
			return true;
	}
	return false;
}

struct going_on {
	struct mover *mv;
	struct device *from, *to;
	uint64_t start;
	struct tally *t;
};

static int visit(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct going_on *g = ctx;
	int r;

	if (addr < g->start || is_lost(g->mv->m->sp, addr, b))
		return 0;
	r = onward_block(g->mv, addr, g->from, g->to, g->t->moved_folios);
	if (!r || r == ONWARD_NOTHING)
		return 0;
	tally_skip(g->t, r == ONWARD_NO_ROOM ? UHMM_SKIP_NO_ROOM : UHMM_SKIP_DEVICE, 1);
	if (r < 0 && !g->t->error)
		g->t->error = r;
	return 1;
}

void migrate_onward(struct mover *mv, uint64_t start, uint64_t end, struct device *from, struct device *to, struct tally *t)
{
	struct going_on g = { mv, from, to, start, t };

	(void)table_walk(&mv->m->sp->table, start, end, visit, &g);
}
