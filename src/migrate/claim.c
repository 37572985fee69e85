/* SPDX-License-Identifier: MIT */
#include "migrate/claim.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "os/pagemap.h"

const struct pageset pageset_all = { { ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul, ~0ul } };

static void begin(struct claim *c, struct space *sp, uint64_t addr)
{
	memset(c, 0, sizeof(*c));
	c->sp = sp;
	c->addr = addr;
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
		entry_set(s, entry_migrating());
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
			entry_set(c->block, entry_migrating());
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
	for (unsigned tries = 0; tries < 2; tries++) {
		memset(ret_misses, 0, sizeof(*ret_misses));
		block_lock(c->block);
		r = claim_system_locked(c, first, end, ret_misses, &zap);
		block_unlock(c->block);
		if (r || !zap || !claim_empty(c))
			break;
		settle_zaps(c);
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
			entry_set(c->block, entry_migrating());
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
			entry_set(s, entry_migrating());
			pageset_add(&c->mine, i);
		}
	}
	block_unlock(c->block);
}

bool claim_empty(const struct claim *c)
{
	return !c->whole && pageset_empty(&c->mine);
}

static void look_locked(struct claim *c, struct pageset *ret_dead)
{
	struct entry e = entry_get(c->block);

	memset(ret_dead, 0, sizeof(*ret_dead));
	if (c->whole && entry_state(e) == ENTRY_TABLE)
		c->whole = false;
	if (c->whole) {
		if (entry_has(e, ENTRY_DEAD))
			*ret_dead = pageset_all;
		return;
	}
	pageset_for_each(&c->mine, i)
		if (entry_has(entry_get(&entry_table(e)[i]), ENTRY_DEAD))
			pageset_add(ret_dead, i);
}

void claim_look(struct claim *c, struct pageset *ret_dead)
{
	block_lock(c->block);
	look_locked(c, ret_dead);
	block_unlock(c->block);
}

int claim_split(struct claim *c)
{
	int r = 0;

	block_lock(c->block);
	if (c->whole)
		r = block_split(&c->sp->table, c->block);
	if (!r)
		c->whole = false;
	block_unlock(c->block);
	return r;
}

static bool end_whole_locked(struct claim *c, struct entry (*value)(void *ctx, unsigned i), void *ctx)
{
	bool waiters = entry_has(entry_get(c->block), ENTRY_WAITERS);

	entry_set(c->block, value(ctx, 0));
	c->whole = false;
	memset(&c->mine, 0, sizeof(c->mine));
	return waiters;
}

bool claim_end(struct claim *c, const struct pageset *pages, struct entry (*value)(void *ctx, unsigned i), void *ctx)
{
	bool waiters = false;
	struct pageset dead;
	struct entry_slot *s;

	block_lock(c->block);
	look_locked(c, &dead);
	if (c->whole) {
		waiters = end_whole_locked(c, value, ctx);
	} else {
		pageset_for_each(pages, i) {
			uhmm_assert(pageset_has(&c->mine, i));
			waiters |= entry_has(block_page(c->block, i, &s), ENTRY_WAITERS);
			entry_set(s, value(ctx, i));
			pageset_del(&c->mine, i);
		}
		if (pageset_empty(&c->mine))
			block_collapse(&c->sp->table, c->block);
	}
	block_unlock(c->block);
	return waiters;
}

int claim_end_whole(struct claim *c, struct entry (*value)(void *ctx, unsigned i), void *ctx)
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

struct end_system {
	struct claim *c;
	bool mapped;
};

static struct entry value_system(void *ctx, unsigned i)
{
	struct end_system *end = ctx;
	struct entry_slot *s;
	struct entry e = block_page(end->c->block, i, &s);

	return end->mapped && entry_has(e, ENTRY_ZAP) ? entry_zapped() : entry_system();
}

bool claim_end_system(struct claim *c, const struct pageset *pages, bool mapped)
{
	struct end_system end = { c, mapped };

	return claim_end(c, pages, value_system, &end);
}

void claim_wake(const struct claim *c)
{
	uffd_wake(&c->sp->uffd, c->addr, BLOCK_BYTES);
}
