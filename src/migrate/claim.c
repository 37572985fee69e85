/* SPDX-License-Identifier: MIT */
#include "migrate/claim.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "os/pagemap.h"
#include "os/thread.h"

const struct pageset pageset_all = { { ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul } };

/* Of a block in which all that is wanted is in other hands: yields, no sleep. */
#define MAX_TRIES 40

static void begin(struct claim *c, struct space *sp, uint64_t addr)
{
	memset(c, 0, sizeof(*c));
	c->sp = sp;
	c->addr = addr;
	do {
		c->token = (atomic_fetch_add_explicit(&sp->last_token, 1, memory_order_relaxed) + 1) & ENTRY_TOKEN_MASK;
	} while (!c->token);
}

/*
 * A discard was announced for pages of this block and may not have happened yet. It has, for a page that is not there
 * now: those lose the mark. The scan is older than the lock, but a page can only come back through a fault of ours, which
 * takes the mark away itself.
 */
static void settle_zaps(struct claim *c)
{
	struct pm_run runs[64];
	uint64_t stop;
	unsigned nr;

	if (pagemap_scan(c->sp->pagemap_fd, c->addr, c->addr + BLOCK_BYTES, runs, ARRAY_LEN(runs), &nr, &stop))
		return;
	block_lock(c->block);
	if (entry_state(entry_get(c->block)) == ENTRY_SYSTEM) {
		if (nr == 1 && stop == c->addr + BLOCK_BYTES && !runs[0].bits)
			entry_mark(c->block, 0, ENTRY_ZAP);
	} else if (entry_state(entry_get(c->block)) == ENTRY_TABLE) {
		struct entry_slot *words = entry_table(entry_get(c->block));

		for (unsigned k = 0; k < nr; k++) {
			if (runs[k].bits)
				continue;
			for (uint64_t at = runs[k].start; at < runs[k].end; at += PAGE_BYTES)
				if (entry_state(entry_get(&words[page_in_block(at)])) == ENTRY_SYSTEM)
					entry_mark(&words[page_in_block(at)], 0, ENTRY_ZAP);
		}
		block_collapse(&c->sp->table, c->block);
	}
	block_unlock(c->block);
}

static void claim_page_locked(struct claim *c, unsigned i, struct claim_misses *misses, bool *ret_zap)
{
	struct entry_slot *s;
	struct entry e = block_page(c->block, i, &s);

	switch (entry_state(e)) {
	case ENTRY_SYSTEM:
		if (entry_has(e, ENTRY_ZAP)) {
			*ret_zap = true;
			pageset_add(&misses->busy, i);
			break;
		}
		entry_set(s, entry_migrating(c->token));
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
	*ret_zap = entry_has(e, ENTRY_ZAP);
	if (entry_state(e) == ENTRY_SYSTEM && !*ret_zap) {
		if (first == 0 && end == PAGES_PER_BLOCK) {
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
	if (!c->block)
		return -ENOMEM;
	for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
		memset(ret_misses, 0, sizeof(*ret_misses));
		block_lock(c->block);
		r = claim_system_locked(c, first, end, ret_misses, &zap);
		block_unlock(c->block);
		if (r || !claim_empty(c) || pageset_empty(&ret_misses->busy))
			break;
		/* a fault thread wakes the toucher first, and ends its claim a moment later: that is worth waiting for */
		if (zap)
			settle_zaps(c);
		else
			thread_pause(tries);
	}
	return r;
}

void claim_device(struct claim *c, struct space *sp, uint64_t addr, unsigned first, unsigned end, unsigned device,
		  unsigned *ret_device, uint64_t *offsets, bool *ret_need_split)
{
	struct entry_slot *s;
	struct entry e;

	begin(c, sp, addr);
	*ret_need_split = false;
	c->block = table_block(&sp->table, addr, false);
	if (!c->block)
		return;
	block_lock(c->block);
	e = entry_get(c->block);
	if (entry_state(e) == ENTRY_DEVICE && (!device || device == entry_device(e))) {
		if (first == 0 && end == PAGES_PER_BLOCK) {
			offsets[0] = entry_offset(e);
			*ret_device = entry_device(e);
			entry_set(c->block, entry_migrating(c->token));
			c->whole = true;
			c->mine = pageset_all;
		} else {
			*ret_need_split = true;
		}
	} else if (entry_state(e) == ENTRY_TABLE) {
		for (unsigned i = first; i < end; i++) {
			e = block_page(c->block, i, &s);
			if (entry_state(e) != ENTRY_DEVICE || (device && device != entry_device(e)))
				continue;
			device = *ret_device = entry_device(e);
			offsets[i] = entry_offset(e);
			entry_set(s, entry_migrating(c->token));
			pageset_add(&c->mine, i);
		}
	}
	block_unlock(c->block);
}

bool claim_empty(const struct claim *c)
{
	return !c->whole && pageset_empty(&c->mine);
}

static bool is_mine(const struct claim *c, struct entry e)
{
	return entry_state(e) == ENTRY_MIGRATING && entry_token(e) == c->token;
}

/* A whole block that was moved as a whole: the claim is there now. Context: holds the old block's lock, and then the new. */
static void follow_whole_locked(struct claim *c, struct entry e)
{
	unsigned record = entry_forward(e);
	uint64_t to = forward_address(&c->sp->forwards, record, c->addr);

	entry_set(c->block, entry_system());
	block_unlock(c->block);
	claim_wake(c);
	forward_drop(&c->sp->forwards, record);
	c->addr = to;
	c->block = table_block(&c->sp->table, to, true);
	block_lock(c->block);
}

/* The word that speaks for page @i now, and its address. Returns with its block locked. */
static struct entry_slot *final_word_lock(const struct claim *c, unsigned i, uint64_t *ret_addr, struct entry_slot **ret_block)
{
	uint64_t addr = c->addr + i * PAGE_BYTES;
	struct entry_slot *b = c->block, *s;

	for (;;) {
		struct entry e;

		block_lock(b);
		e = block_page(b, page_in_block(addr), &s);
		if (!is_mine(c, e) || !entry_has(e, ENTRY_MOVED))
			break;
		block_unlock(b);
		addr = forward_address(&c->sp->forwards, entry_forward(e), addr);
		b = table_block(&c->sp->table, addr, true);
	}
	*ret_addr = addr;
	*ret_block = b;
	return s;
}

uint64_t claim_address(struct claim *c, unsigned i)
{
	uint64_t addr = c->addr + i * PAGE_BYTES;
	struct entry_slot *b;

	if (pageset_has(&c->moved, i)) {
		(void)final_word_lock(c, i, &addr, &b);
		block_unlock(b);
	}
	return addr;
}

/* Which pages are elsewhere; which are DEAD or lost here. Context: holds the lock of c->block, which may change. */
static void look_locked(struct claim *c, struct pageset *ret_dead)
{
	struct entry e = entry_get(c->block);

	memset(ret_dead, 0, sizeof(*ret_dead));
	memset(&c->moved, 0, sizeof(c->moved));
	while (c->whole && is_mine(c, e) && entry_has(e, ENTRY_MOVED)) {
		follow_whole_locked(c, e);
		e = entry_get(c->block);
	}
	if (c->whole && entry_state(e) == ENTRY_TABLE)
		c->whole = false;
	if (c->whole) {
		if (!is_mine(c, e) || entry_has(e, ENTRY_DEAD))
			*ret_dead = pageset_all;
		return;
	}
	pageset_for_each(&c->mine, i) {
		struct entry_slot *s;

		e = block_page(c->block, i, &s);
		if (!is_mine(c, e) || entry_has(e, ENTRY_DEAD))
			pageset_add(ret_dead, i);
		else if (entry_has(e, ENTRY_MOVED))
			pageset_add(&c->moved, i);
	}
}

void claim_look(struct claim *c, struct pageset *ret_dead)
{
	block_lock(c->block);
	look_locked(c, ret_dead);
	block_unlock(c->block);
	pageset_for_each(&c->moved, i) {
		struct entry_slot *b, *s;
		uint64_t addr;

		s = final_word_lock(c, i, &addr, &b);
		if (!is_mine(c, entry_get(s)) || entry_has(entry_get(s), ENTRY_DEAD))
			pageset_add(ret_dead, i);
		block_unlock(b);
	}
}

int claim_split(struct claim *c)
{
	struct pageset dead;
	int r = 0;

	block_lock(c->block);
	look_locked(c, &dead);
	if (c->whole && is_mine(c, entry_get(c->block)))
		r = block_split(&c->sp->table, c->block);
	if (!r)
		c->whole = false;
	block_unlock(c->block);
	return r;
}

static bool end_whole_locked(struct claim *c, claim_value_fn *value, void *ctx)
{
	struct entry e = entry_get(c->block);
	bool mine = is_mine(c, e);

	if (mine)
		entry_set(c->block, value(ctx, e, 0));
	c->whole = false;
	memset(&c->mine, 0, sizeof(c->mine));
	return !mine || entry_has(e, ENTRY_WAITERS);
}

/* A page that mremap has moved: its word is elsewhere, and the words on the way there are given up. */
static void end_moved(struct claim *c, unsigned i, claim_value_fn *value, void *ctx)
{
	uint64_t addr = c->addr + i * PAGE_BYTES;
	struct entry_slot *b = c->block, *s;

	for (;;) {
		struct entry e;

		block_lock(b);
		e = block_page(b, page_in_block(addr), &s);
		if (!is_mine(c, e) || !entry_has(e, ENTRY_MOVED)) {
			if (is_mine(c, e))
				entry_set(s, value(ctx, e, i));
			block_unlock(b);
			uffd_wake(&c->sp->uffd, addr, PAGE_BYTES);
			return;
		}
		entry_set(s, entry_system());
		block_unlock(b);
		uffd_wake(&c->sp->uffd, addr, PAGE_BYTES);
		addr = forward_address(&c->sp->forwards, entry_forward(e), addr);
		forward_drop(&c->sp->forwards, entry_forward(e));
		b = table_block(&c->sp->table, addr, true);
	}
}

static bool end_page_locked(struct claim *c, unsigned i, claim_value_fn *value, void *ctx)
{
	struct entry_slot *s;
	struct entry e = block_page(c->block, i, &s);

	uhmm_assert(pageset_has(&c->mine, i));
	pageset_del(&c->mine, i);
	if (!is_mine(c, e))
		return true;
	entry_set(s, value(ctx, e, i));
	return entry_has(e, ENTRY_WAITERS);
}

bool claim_end(struct claim *c, const struct pageset *pages, claim_value_fn *value, void *ctx)
{
	struct pageset dead, moved = { 0 };
	bool waiters = false;

	block_lock(c->block);
	look_locked(c, &dead);
	if (c->whole) {
		waiters = end_whole_locked(c, value, ctx);
	} else {
		pageset_for_each(pages, i) {
			if (pageset_has(&c->moved, i))
				pageset_add(&moved, i);
			else
				waiters |= end_page_locked(c, i, value, ctx);
		}
		block_collapse(&c->sp->table, c->block);
	}
	block_unlock(c->block);
	pageset_for_each(&moved, i) {
		pageset_del(&c->mine, i);
		end_moved(c, i, value, ctx);
	}
	return waiters;
}

int claim_end_whole(struct claim *c, claim_value_fn *value, void *ctx)
{
	int waiters = CLAIM_WAS_SPLIT;
	struct pageset dead;

	block_lock(c->block);
	look_locked(c, &dead);
	if (c->whole)
		waiters = end_whole_locked(c, value, ctx);
	block_unlock(c->block);
	return waiters;
}

static struct entry value_system(void *ctx, struct entry now, unsigned i)
{
	bool *mapped = ctx;

	(void)i;
	return *mapped && entry_has(now, ENTRY_ZAP) ? entry_zapped() : entry_system();
}

bool claim_end_system(struct claim *c, const struct pageset *pages, bool mapped)
{
	return claim_end(c, pages, value_system, &mapped);
}

void claim_wake(const struct claim *c)
{
	uffd_wake(&c->sp->uffd, c->addr, BLOCK_BYTES);
}
