/* SPDX-License-Identifier: MIT */
#include "migrate/claim.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/pagemap.h"
#include "os/thread.h"

const struct pageset pageset_all = { { ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul } };

/* Of a block in which all that is wanted is in other hands: yields, no sleep. */
#define MAX_TRIES 40

/* Makes the claim known by a token. There is always a free slot: MAX_CLAIMS is more than all threads can hold. */
static void begin(struct claim *c, struct space *sp, uint64_t addr)
{
	struct claim *none;
	uint64_t n;

	memset(c, 0, offsetof(struct claim, at));
	c->sp = sp;
	c->addr = addr;
	do {
		n = atomic_fetch_add_explicit(&sp->last_claim, 1, memory_order_relaxed);
		none = NULL;
	} while (!atomic_compare_exchange_strong(&sp->claims[n % MAX_CLAIMS], &none, c));
	c->known = true;
	c->token = n % MAX_CLAIMS << TOKEN_SLOT_SHIFT | (n / MAX_CLAIMS % 63 + 1);
}

/* Nothing is claimed (any more). */
static void end_if_empty(struct claim *c)
{
	if (c->known && claim_empty(c)) {
		atomic_store(&c->sp->claims[token_slot(c->token)], NULL);
		c->known = false;
	}
}

void claim_enter(struct claim *c)
{
	gate_enter(&c->sp->gate, GATE_MOVES);
	c->inside = true;
}

void claim_leave(struct claim *c)
{
	c->inside = false;
	gate_leave(&c->sp->gate, GATE_MOVES);
}

/*
 * A discard was announced for pages of this block and may not have happened yet. It has, for a page that is not there
 * now: those lose the mark. Inside the gate, so that no other discard is announced between the scan and the lock.
 */
static void settle_zaps_inside(struct claim *c)
{
	struct pageset holes = { 0 };
	struct pm_run runs[64];
	uint64_t at = c->addr;
	unsigned nr;

	while (at < c->addr + BLOCK_BYTES) {
		if (pagemap_scan(c->sp->pagemap_fd, at, c->addr + BLOCK_BYTES, runs, ARRAY_LEN(runs), &nr, &at))
			return;
		for (unsigned k = 0; k < nr; k++)
			for (uint64_t hole = runs[k].start; !runs[k].bits && hole < runs[k].end; hole += PAGE_BYTES)
				pageset_add(&holes, page_in_block(hole));
	}
	block_lock(c->block);
	if (entry_state(entry_get(c->block)) == ENTRY_SYSTEM) {
		if (pageset_count(&holes) == PAGES_PER_BLOCK)
			entry_set(c->block, entry_system());
	} else if (entry_state(entry_get(c->block)) == ENTRY_TABLE) {
		struct entry_slot *words = entry_table(entry_get(c->block));

		pageset_for_each(&holes, i)
			if (entry_state(entry_get(&words[i])) == ENTRY_SYSTEM)
				entry_set(&words[i], entry_system());
		block_collapse(&c->sp->table, c->block);
	}
	block_unlock(c->block);
}

/*
 * MADV_FREE announces itself exactly as MADV_DONTNEED does, but its pages stay. So a page that is still there long after
 * the announcement is taken for one of those: whoever announced a discard has nothing left to wait for, and does it
 * within microseconds of running.
 */
#define ZAP_GRACE_S 10

static bool is_zapped(struct entry e)
{
	return entry_has(e, ENTRY_ZAP) && clock_ns() / 1000000000 - entry_zap_s(e) < ZAP_GRACE_S;
}

static void claim_page_locked(struct claim *c, unsigned i, struct claim_misses *misses, bool *ret_zap)
{
	struct entry_slot *s;
	struct entry e = block_page(c->block, i, &s);

	if (pageset_has(&c->mine, i)) /* of an earlier round; mremap may have taken it along since */
		return;
	switch (entry_state(e)) {
	case ENTRY_SYSTEM:
		if (is_zapped(e)) {
			*ret_zap = true;
			pageset_add(&misses->busy, i);
			break;
		}
		entry_set(s, entry_migrating(token_of_page(c->token, i)));
		pageset_add(&c->mine, i);
		break;
	case ENTRY_DEVICE:
		pageset_add(&misses->device, i);
		break;
	default:
		pageset_add(&misses->busy, i);
	}
}

static int claim_system_locked(struct claim *c, unsigned first, unsigned end, struct claim_misses *misses, bool *ret_zap)
{
	struct entry e;

	block_collapse(&c->sp->table, c->block);
	e = entry_get(c->block);
	*ret_zap = is_zapped(e);
	if (entry_state(e) == ENTRY_SYSTEM && !*ret_zap) {
		/* not in a second round: mremap may have taken along what the first one claimed */
		if (first == 0 && end == PAGES_PER_BLOCK && claim_empty(c)) {
			entry_set(c->block, entry_migrating(c->token));
			c->whole = true;
			c->mine = pageset_all;
			return 0;
		}
		if (block_split(&c->sp->table, c->block))
			return -ENOMEM;
		e = entry_get(c->block);
	}
	if (entry_state(e) != ENTRY_TABLE) {
		pageset_add_range(entry_state(e) == ENTRY_DEVICE ? &misses->device : &misses->busy, first, end);
		return 0;
	}
	for (unsigned i = first; i < end; i++)
		claim_page_locked(c, i, misses, ret_zap);
	return 0;
}

int claim_system(struct claim *c, struct space *sp, uint64_t addr, unsigned first, unsigned end,
		 struct claim_misses *ret_misses)
{
	bool zap = false;
	int r = 0;

	begin(c, sp, addr);
	c->block = table_block(&sp->table, addr, true);
	if (!c->block) {
		end_if_empty(c);
		return -ENOMEM;
	}
	for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
		memset(ret_misses, 0, sizeof(*ret_misses));
		block_lock(c->block);
		r = claim_system_locked(c, first, end, ret_misses, &zap);
		if (!claim_empty(c))
			space_leaves(sp, addr);
		block_unlock(c->block);
		if (r || pageset_empty(&ret_misses->busy) || (!zap && !claim_empty(c)))
			break;
		/* a discard that has happened is no reason; and a fault thread wakes the toucher first and ends its claim a
		 * moment later: that is worth waiting for */
		if (zap) {
			claim_enter(c);
			settle_zaps_inside(c);
			claim_leave(c);
		}
		if (zap && tries)
			break;
		if (!zap)
			thread_pause(tries);
	}
	end_if_empty(c);
	return r;
}

static bool is_on(struct entry e, unsigned device)
{
	return entry_state(e) == ENTRY_DEVICE && (!device || device == entry_device(e));
}

/* Moves the ends of [first, end) outwards to those of folios that they cut. Return: one of them did. */
static bool widen_locked(const struct entry_slot *words, unsigned device, unsigned *first, unsigned *end)
{
	struct entry head = entry_get(&words[*first]), tail = entry_get(&words[*end - 1]);
	unsigned f = *first, n = *end;

	if (is_on(head, device))
		*first = folio_head(f, entry_order(head));
	if (is_on(tail, device))
		*end = folio_head(n - 1, entry_order(tail)) + order_pages(entry_order(tail));
	return *first != f || *end != n;
}

static void claim_device_pages_locked(struct claim *c, struct entry_slot *words, unsigned first, unsigned end, unsigned device,
				      unsigned *ret_device, struct folios *f)
{
	for (unsigned i = first; i < end; i++) {
		struct entry e = entry_get(&words[i]);

		if (!is_on(e, device))
			continue;
		device = *ret_device = c->from_device = entry_device(e);
		c->from = f->offset;
		if (entry_has(e, ENTRY_WRITTEN))
			pageset_add(&c->written, i);
		f->offset[i] = entry_offset(e);
		f->order[i] = (uint8_t)entry_order(e);
		entry_set(&words[i], entry_migrating(token_of_page(c->token, i)));
		pageset_add(&c->mine, i);
	}
}

/* Return: first or end cut a folio, and that is not wanted. */
static bool claim_device_locked(struct claim *c, unsigned first, unsigned end, unsigned device, unsigned *ret_device,
				struct folios *f, bool may_widen)
{
	struct entry e = entry_get(c->block);

	f->whole = false;
	if (is_on(e, device)) {
		if (!may_widen && end - first < PAGES_PER_BLOCK)
			return true;
		if (entry_has(e, ENTRY_WRITTEN))
			c->written = pageset_all;
		f->whole = true;
		f->offset[0] = entry_offset(e);
		*ret_device = c->from_device = entry_device(e);
		c->from = f->offset;
		c->from_whole = true;
		entry_set(c->block, entry_migrating(c->token));
		c->whole = true;
		c->mine = pageset_all;
	} else if (entry_state(e) == ENTRY_TABLE) {
		if (widen_locked(entry_table(e), device, &first, &end) && !may_widen)
			return true;
		claim_device_pages_locked(c, entry_table(e), first, end, device, ret_device, f);
	}
	return false;
}

void claim_device(struct claim *c, struct space *sp, uint64_t addr, unsigned first, unsigned end, unsigned device,
		  unsigned *ret_device, struct folios *f, bool *ret_need_split)
{
	bool cut = false;

	begin(c, sp, addr);
	c->block = table_block(&sp->table, addr, false);
	if (c->block) {
		block_lock(c->block);
		cut = claim_device_locked(c, first, end, device, ret_device, f, !ret_need_split);
		block_unlock(c->block);
	}
	if (ret_need_split)
		*ret_need_split = cut;
	end_if_empty(c);
}

bool claim_empty(const struct claim *c)
{
	return !c->whole && pageset_empty(&c->mine);
}

/* ---- looking, and ending ---- */

struct claim *claim_of(struct space *sp, struct entry e)
{
	return atomic_load(&sp->claims[token_slot(entry_token(e))]);
}

static bool enter_if_outside(struct claim *c)
{
	if (c->inside)
		return false;
	claim_enter(c);
	return true;
}

static void leave_if(struct claim *c, bool entered)
{
	if (entered)
		claim_leave(c);
}

static bool is_mine(const struct claim *c, struct entry e, unsigned i)
{
	return entry_state(e) == ENTRY_MIGRATING && entry_token(e) == token_of_page(c->token, i);
}

uint64_t claim_address(const struct claim *c, unsigned i)
{
	return pageset_has(&c->moved, i) ? c->at[i] : c->addr + i * PAGE_BYTES;
}

/* The block that page @i is in now. */
static struct entry_slot *block_of(const struct claim *c, unsigned i)
{
	return pageset_has(&c->moved, i) ? table_block(&c->sp->table, c->at[i], true) : c->block;
}

static bool is_dead(const struct claim *c, struct entry e, unsigned i)
{
	return !is_mine(c, e, i) || entry_has(e, ENTRY_DEAD);
}

/*
 * Has an event given the block a table? When all pages have been moved away it may be without one again. Only the claimer
 * writes .whole, here, so that it holds from one look to the next. Context: holds the block's lock.
 */
static void look_whole_locked(struct claim *c)
{
	if (c->whole && (entry_state(entry_get(c->block)) == ENTRY_TABLE || !pageset_empty(&c->moved)))
		c->whole = false;
}

void claim_look(struct claim *c, struct pageset *ret_dead)
{
	bool entered = enter_if_outside(c);
	struct entry_slot *b = c->block, *s;

	memset(ret_dead, 0, sizeof(*ret_dead));
	block_lock(b);
	look_whole_locked(c);
	if (c->whole && is_dead(c, entry_get(b), 0))
		*ret_dead = pageset_all;
	if (!c->whole)
		pageset_for_each(&c->mine, i)
			if (!pageset_has(&c->moved, i) && is_dead(c, block_page(b, i, &s), i))
				pageset_add(ret_dead, i);
	block_unlock(b);
	pageset_for_each(&c->moved, i) {
		b = block_of(c, i);
		block_lock(b);
		if (is_dead(c, block_page(b, page_in_block(c->at[i]), &s), i))
			pageset_add(ret_dead, i);
		block_unlock(b);
	}
	leave_if(c, entered);
}

void claim_wanted(struct claim *c, struct pageset *ret)
{
	struct entry_slot *b, *s;

	memset(ret, 0, sizeof(*ret));
	if (!atomic_load_explicit(&c->wanted, memory_order_relaxed))
		return;
	claim_enter(c); /* an event may have moved the block */
	b = c->block;
	block_lock(b);
	look_whole_locked(c);
	if (c->whole) {
		if (is_mine(c, entry_get(b), 0) && entry_has(entry_get(b), ENTRY_WAITERS))
			*ret = pageset_all;
	} else {
		pageset_for_each(&c->mine, i) {
			struct entry e = block_page(b, i, &s);

			if (!pageset_has(&c->moved, i) && is_mine(c, e, i) && entry_has(e, ENTRY_WAITERS))
				pageset_add(ret, i);
		}
	}
	block_unlock(b);
	claim_leave(c);
}

int claim_split(struct claim *c)
{
	bool entered = enter_if_outside(c);
	int r = 0;

	block_lock(c->block);
	if (c->whole && is_mine(c, entry_get(c->block), 0))
		r = block_split(&c->sp->table, c->block);
	if (!r)
		c->whole = false;
	block_unlock(c->block);
	leave_if(c, entered);
	return r;
}

static bool end_whole_locked(struct claim *c, claim_value_fn *value, void *ctx)
{
	struct entry e = entry_get(c->block);
	bool mine = is_mine(c, e, 0);

	if (mine)
		entry_set(c->block, value(ctx, e, 0));
	c->whole = false;
	memset(&c->mine, 0, sizeof(c->mine));
	return !mine || entry_has(e, ENTRY_WAITERS);
}

/* Ends one page, in the block it is in now. Return: may somebody wait for it? Context: holds that block's lock. */
static bool end_page_locked(struct claim *c, struct entry_slot *b, unsigned i, claim_value_fn *value, void *ctx)
{
	struct entry_slot *s;
	struct entry e = block_page(b, page_in_block(claim_address(c, i)), &s);

	uhmm_assert(pageset_has(&c->mine, i));
	pageset_del(&c->mine, i);
	if (!is_mine(c, e, i))
		return true;
	entry_set(s, value(ctx, e, i));
	return entry_has(e, ENTRY_WAITERS);
}

static void end_moved(struct claim *c, unsigned i, claim_value_fn *value, void *ctx)
{
	struct entry_slot *b = block_of(c, i);

	block_lock(b);
	(void)end_page_locked(c, b, i, value, ctx);
	block_collapse(&c->sp->table, b);
	block_unlock(b);
	pageset_del(&c->moved, i);
	uffd_wake(&c->sp->uffd, c->at[i], PAGE_BYTES);
}

bool claim_end(struct claim *c, const struct pageset *pages, claim_value_fn *value, void *ctx)
{
	bool entered = enter_if_outside(c), waiters = false;
	struct entry_slot *b = c->block;

	block_lock(b);
	look_whole_locked(c);
	if (c->whole) {
		waiters = end_whole_locked(c, value, ctx);
	} else {
		pageset_for_each(pages, i)
			if (!pageset_has(&c->moved, i))
				waiters |= end_page_locked(c, b, i, value, ctx);
		block_collapse(&c->sp->table, b);
	}
	block_unlock(b);
	pageset_for_each(pages, i)
		if (pageset_has(&c->moved, i))
			end_moved(c, i, value, ctx);
	end_if_empty(c);
	leave_if(c, entered);
	return waiters;
}

int claim_end_whole(struct claim *c, claim_value_fn *value, void *ctx)
{
	bool entered = enter_if_outside(c);
	int waiters = CLAIM_WAS_SPLIT;

	block_lock(c->block);
	look_whole_locked(c);
	if (c->whole)
		waiters = end_whole_locked(c, value, ctx);
	block_unlock(c->block);
	end_if_empty(c);
	leave_if(c, entered);
	return waiters;
}

static struct entry value_system(void *ctx, struct entry now, unsigned i)
{
	bool *mapped = ctx;

	(void)i;
	return *mapped && entry_has(now, ENTRY_ZAP) ? entry_zapped(clock_ns() / 1000000000) : entry_system();
}

bool claim_end_system(struct claim *c, const struct pageset *pages, bool mapped)
{
	return claim_end(c, pages, value_system, &mapped);
}

void claim_wake(const struct claim *c)
{
	uffd_wake(&c->sp->uffd, c->addr, BLOCK_BYTES);
}

void claim_wake_pages(const struct claim *c, const struct pageset *pages)
{
	unsigned first = pageset_next(pages, 0), end = first;

	pageset_for_each_run(pages, run, run_end)
		end = run_end;
	if (end > first)
		uffd_wake(&c->sp->uffd, c->addr + first * PAGE_BYTES, (end - first) * PAGE_BYTES);
}
