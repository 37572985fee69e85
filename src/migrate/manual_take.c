/* SPDX-License-Identifier: MIT */
/*
 * Taking: to a device by address, as batch_fill() does, but each page that stays gets its reason; home by address; and home by
 * offset, which is a walk of the whole table, because nothing on the device says whose a folio is.
 *
 * What is taken stays claimed until the program ends the migration. So all that later steps need is had here.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/err.h"
#include "migrate/manual.h"
#include "space/vma.h"

#define NO_REASON 254

/* ---- entries ---- */

/* The entry of the page at @addr, which is at @offset of the device when it comes from one. */
static uint32_t slot_of(const struct manual *m, uint64_t addr, uint64_t offset)
{
	uint64_t at = m->from == FROM_OFFSETS ? offset : addr;

	return at >= m->start && at < m->end ? (uint32_t)((at - m->start) >> PAGE_SHIFT) : NO_SLOT;
}

static uint64_t offset_of(const struct piece *p, unsigned i)
{
	return p->folios.whole ? p->folios.offset[0] + i * PAGE_BYTES : p->folios.offset[i];
}

/* Of the mapping at @addr, the last answer is remembered: neighbours ask. */
static bool is_writable(struct manual *m, uint64_t addr)
{
	if ((addr < m->mapping.start || addr >= m->mapping.end) && procmap_find(&m->all->m->sp->procmap, addr, &m->mapping))
		m->mapping = (struct mapping){ .end = 0 };
	return addr >= m->mapping.start && addr < m->mapping.end && m->mapping.flags & MAPPING_WRITE;
}

/* What src says of page @i of a taken piece. */
static uint64_t src_bits(const struct manual *m, const struct piece *p, unsigned i)
{
	uint64_t bits = UHMM_MPFN_MIGRATE | (p->read_only ? 0 : UHMM_MPFN_WRITE) | (pageset_has(&p->copy, i) ? UHMM_MPFN_VALID : 0);

	if (p->claim.whole && i)
		return 0;
	if (p->claim.whole)
		bits |= UHMM_MPFN_COMPOUND | (uint64_t)BLOCK_ORDER << UHMM_MPFN_ORDER_SHIFT;
	return m->from == FROM_SYSTEM ? bits : bits | UHMM_MPFN_DEVICE_PRIVATE | offset_of(p, i);
}

/* The piece is taken: its pages have entries. */
static void enter_piece(struct manual *m, struct manual_piece *mp)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		uint64_t addr = mp->p.claim.addr + i * PAGE_BYTES;

		mp->slot[i] = NO_SLOT;
		if (!pageset_has(&mp->p.claim.mine, i))
			continue;
		if (m->from != FROM_SYSTEM)
			mp->p.read_only = !is_writable(m, addr);
		mp->slot[i] = slot_of(m, addr, m->from == FROM_SYSTEM ? 0 : offset_of(&mp->p, i));
		uhmm_assert(mp->slot[i] != NO_SLOT);
		m->src[mp->slot[i]].bits = src_bits(m, &mp->p, i);
		m->where[mp->slot[i]] = (uint32_t)(mp - m->piece) * PAGES_PER_BLOCK + i;
		m->why[mp->slot[i]] = WHY_NONE;
	}
	m->nr_pieces++;
}

/* Pages [start, end) by address stay. */
static void stay_for(struct manual *m, uint64_t start, uint64_t end, enum uhmm_skip why)
{
	for (; start < end; start += PAGE_BYTES)
		m->why[slot_of(m, start, 0)] = (uint8_t)why;
}

/* A place in the table of pieces; NULL when there are too many claims by hand. */
static struct manual_piece *new_piece(struct manual *m)
{
	struct manual_piece *mp = &m->piece[m->nr_pieces];

	if (m->nr_pieces == m->max_pieces)
		return NULL;
	if (atomic_fetch_add(&m->all->nr_blocks, 1) < MAX_MANUAL_BLOCKS) {
		mp->p.folios.offset = m->offsets + m->nr_pieces * PAGES_PER_BLOCK;
		return mp;
	}
	atomic_fetch_sub(&m->all->nr_blocks, 1);
	return NULL;
}

static void drop_piece(struct manual *m)
{
	atomic_fetch_sub(&m->all->nr_blocks, 1);
}

/* ---- to the device ---- */

static void split_claim(struct manual *m, struct piece *p)
{
	struct pageset all = p->claim.mine;

	p->kind = PIECE_PAGES;
	if (claim_split(&p->claim))
		release_pages(p, &all, UHMM_SKIP_NO_ROOM, &m->tally);
}

/* collect and isolate, and what is not wanted leaves in between. Return: something is taken. */
static bool isolate_block(struct mover *mv, struct manual *m, struct piece *p, const struct vma_piece *vp, uint64_t block,
			  unsigned first, unsigned end, uint64_t seq)
{
	struct pageset holes;

	memset(m->reasons, NO_REASON, sizeof(m->reasons));
	if (!collect_block(mv, p, block, first, end, m->dev, seq, &m->words, &m->tally))
		return false;
	p->read_only = !vp->movable;
	if (!(m->select & UHMM_SELECT_FAULT)) {
		holes = p->clear;
		release_pages(p, &holes, UHMM_SKIP_ABSENT, &m->tally);
	}
	if (!(m->select & UHMM_SELECT_COMPOUND) && p->claim.whole)
		split_claim(m, p);
	if (!claim_empty(&p->claim))
		isolate_pages(mv, p, &m->tally);
	/*
	 * What is a hole now stays one while it is claimed and watched, and an event that changes that marks it. But it must have been
	 * watched when it was looked at: later, event_seq will have grown for other reasons.
	 */
	if (!pageset_empty(&p->clear) && holes_are_stale(mv->m->sp, p)) {
		holes = p->clear;
		uhmm_assert(!p->claim.whole || pageset_empty(&p->copy));
		release_pages(p, &holes, UHMM_SKIP_RACED, &m->tally);
	}
	if (!claim_empty(&p->claim))
		return true;
	release_piece(mv, p);
	return false;
}

static void take_block(struct mover *mv, struct manual *m, const struct vma_piece *vp, uint64_t start, uint64_t stop, uint64_t seq)
{
	uint64_t block = block_down(start);
	unsigned first = page_in_block(start), end = first + (unsigned)((stop - start) >> PAGE_SHIFT);
	struct manual_piece *mp = new_piece(m);

	if (!mp) {
		stay_for(m, start, stop, UHMM_SKIP_NO_ROOM);
		return;
	}
	bool taken = isolate_block(mv, m, &mp->p, vp, block, first, end, seq);

	for (unsigned i = first; i < end; i++)
		m->why[slot_of(m, block + i * PAGE_BYTES, 0)] = m->reasons[i] == NO_REASON ? UHMM_SKIP_NO_ROOM : m->reasons[i];
	if (taken)
		enter_piece(m, mp);
	else
		drop_piece(m);
}

static int take_system(struct mover *mv, struct manual *m)
{
	struct space *sp = mv->m->sp;
	uint64_t at = m->start, seq;
	struct vma_piece vp;
	int r = find_control_words(sp, &m->words, m->start, m->end);

	while (!r && at < m->end) {
		r = vma_piece_at(sp, at, m->end, &vp);
		if (r)
			break;
		if (!vp.movable && !(vp.read_only && m->select & UHMM_SELECT_READ_ONLY)) {
			stay_for(m, at, vp.end, vp.why_not);
			at = vp.end;
			continue;
		}
		r = vma_arm_begin(sp, vp.start, vp.end, &seq);
		if (r > 0) {
			stay_for(m, at, vp.end, (enum uhmm_skip)(r - 1));
			at = vp.end;
			r = 0;
			continue;
		}
		m->arms += !r;
		while (!r && at < vp.end) {
			uint64_t stop = min_u64(block_down(at) + BLOCK_BYTES, vp.end);

			take_block(mv, m, &vp, at, stop, seq);
			at = stop;
		}
	}
	return r;
}

/* ---- home ---- */

struct taking { struct mover *mv; struct manual *m; };

/* Pages of the claim that are not wanted after all stay where they are. */
static void put_back_on_device(struct piece *p, const struct pageset *pages)
{
	struct pageset done;

	while (!pageset_empty(pages) && install_device(&p->claim, p->dev, &p->folios, pages, &done))
		sched_yield(); /* only a block that an event has split needs memory for this, and then a record */
}

/* Of the claimed pages, those outside the offsets asked for. */
static struct pageset unwanted(const struct manual *m, const struct piece *p)
{
	struct pageset set = { 0 };

	if (m->from == FROM_OFFSETS)
		pageset_for_each(&p->claim.mine, i)
			if (slot_of(m, 0, offset_of(p, i)) == NO_SLOT)
				pageset_add(&set, i);
	return set;
}

/* Is the word of a whole block one that must go in pieces? */
static bool must_split(const struct manual *m, struct entry e)
{
	uint64_t offset = entry_offset(e);

	if (entry_state(e) != ENTRY_DEVICE || entry_device(e) != m->dev->index)
		return false;
	return !(m->select & UHMM_SELECT_COMPOUND) ||
	       (m->from == FROM_OFFSETS && (offset < m->start || offset + BLOCK_BYTES > m->end));
}

/* Claims pages [first, end) of a block, as far as they are on the device. Return: something is taken. */
static bool claim_block(struct mover *mv, struct manual *m, struct piece *p, uint64_t addr, unsigned first, unsigned end)
{
	struct entry_slot *b = table_block(&mv->m->sp->table, addr, false);
	uint64_t *offsets = p->folios.offset;
	struct pageset others;
	bool need_split;
	unsigned index;

	memset(p, 0, sizeof(*p));
	p->folios.offset = offsets;
	p->dev = m->dev;
	do {
		need_split = must_split(m, entry_get(b));
		if (!need_split)
			claim_device(&p->claim, mv->m->sp, addr, first, end, m->dev->index, &index, &p->folios, &need_split);
		if (need_split && split_range(mv->m, addr, first, end))
			return false;
	} while (need_split);
	if (claim_empty(&p->claim))
		return false;
	p->kind = p->claim.whole ? PIECE_HUGE : PIECE_PAGES;
	if (p->claim.whole && must_split(m, entry_on_device(m->dev->index, offsets[0], BLOCK_ORDER))) {
		/* it was not one folio when we looked */
		if (folios_break(p->dev, &p->folios) || claim_split(&p->claim)) {
			others = p->claim.mine;
			put_back_on_device(p, &others);
			return false;
		}
		p->kind = PIECE_PAGES;
	}
	others = unwanted(m, p);
	put_back_on_device(p, &others);
	return !claim_empty(&p->claim);
}

/* Return: false when there was no room for it. */
static bool take_home(struct mover *mv, struct manual *m, uint64_t addr, unsigned first, unsigned end)
{
	struct manual_piece *mp = new_piece(m);
	struct piece *p;

	if (!mp)
		return false;
	p = &mp->p;
	if (!claim_block(mv, m, p, addr, first, end)) {
		drop_piece(m);
		return true;
	}
	space_changed(mv->m->sp, addr + first * PAGE_BYTES, addr + end * PAGE_BYTES, 0);
	p->busy = true;
	p->copy = p->claim.mine;
	p->slot = p->claim.whole ? staging_take_thp(&mv->m->staging) : 0;
	p->slot_holds = SLOT_THP;
	enter_piece(m, mp);
	return true;
}

static int visit_range(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct taking *x = ctx;
	uint64_t from = max_u64(addr, x->m->start), to = min_u64(addr + BLOCK_BYTES, x->m->end);
	unsigned first = page_in_block(from), end = first + (unsigned)((to - from) >> PAGE_SHIFT);

	(void)b;
	(void)take_home(x->mv, x->m, addr, first, end);
	for (; from < to; from += PAGE_BYTES) {
		uint8_t *why = &x->m->why[slot_of(x->m, from, 0)];
		struct entry e = table_peek(&x->m->all->m->sp->table, from);

		if (*why == WHY_NONE)
			continue;
		if (entry_state(e) == ENTRY_MIGRATING)
			*why = UHMM_SKIP_RACED;
		else if (entry_state(e) == ENTRY_DEVICE)
			*why = entry_device(e) == x->m->dev->index ? UHMM_SKIP_NO_ROOM : UHMM_SKIP_OTHER_DEVICE;
	}
	return 0;
}

/* Does a word name a folio, or a part of one, of the offsets asked for? */
static bool is_wanted(const struct manual *m, struct entry e)
{
	uint64_t offset = entry_offset(e);

	return entry_state(e) == ENTRY_DEVICE && entry_device(e) == m->dev->index && offset < m->end &&
	       offset + order_bytes(entry_order(e)) > m->start;
}

static bool holds_wanted(const struct manual *m, struct table *t, uint64_t addr, struct entry_slot *b)
{
	if (entry_state(entry_get(b)) != ENTRY_TABLE)
		return is_wanted(m, entry_get(b));
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		if (is_wanted(m, table_peek(t, addr + i * PAGE_BYTES)))
			return true;
	return false;
}

/* What is wanted of the block stays, by offset. */
static void note_wanted(struct manual *m, struct table *t, uint64_t addr, enum uhmm_skip why)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		struct entry e = table_peek(t, addr + i * PAGE_BYTES);
		uint32_t slot;

		if (!is_wanted(m, e))
			continue;
		slot = slot_of(m, 0, entry_page_offset(e, i));
		if (slot != NO_SLOT)
			m->why[slot] = (uint8_t)why;
	}
}

/* What the caller stands on until it can end the migration. */
static bool is_kept(const struct manual *m, uint64_t addr)
{
	for (unsigned k = 0; k < ARRAY_LEN(m->keep); k++)
		if (m->keep[k].start < addr + BLOCK_BYTES && m->keep[k].end > addr)
			return true;
	return false;
}

static int visit_all(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct taking *x = ctx;
	struct table *t = &x->mv->m->sp->table;

	if (!holds_wanted(x->m, t, addr, b))
		return 0;
	if (is_kept(x->m, addr))
		note_wanted(x->m, t, addr, UHMM_SKIP_THREAD);
	else if (!take_home(x->mv, x->m, addr, 0, PAGES_PER_BLOCK))
		note_wanted(x->m, t, addr, UHMM_SKIP_NO_ROOM);
	return 0;
}

/* ---- all ---- */

void manual_take(struct mover *mv, void *arg)
{
	struct manual *m = arg;
	struct taking x = { mv, m };

	/* what the caller has unmapped or moved before it asked shall have been applied */
	gate_await_events(&mv->m->sp->gate);
	if (m->from == FROM_SYSTEM)
		m->error = take_system(mv, m);
	else if (m->from == FROM_DEVICE)
		(void)table_walk(&mv->m->sp->table, m->start, m->end, visit_range, &x);
	else
		(void)table_walk(&mv->m->sp->table, 0, UINT64_C(1) << TABLE_ADDRESS_BITS, visit_all, &x);
}
