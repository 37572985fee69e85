/* SPDX-License-Identifier: MIT */
#include "mem/check.h"

#include "base/err.h"

/* Which flags may stand beside each state; LOCK and HUGE stand in block words only, and there beside any. */
static const uint64_t flags_allowed[NR_ENTRY_STATES] = {
	[ENTRY_SYSTEM]    = ENTRY_ZAP,
	[ENTRY_MIGRATING] = ENTRY_WAITERS | ENTRY_DEAD | ENTRY_ZAP,
	[ENTRY_DEVICE]    = ENTRY_LOST | ENTRY_WRITTEN,
};

#define FLAGS (ENTRY_WAITERS | ENTRY_DEAD | ENTRY_ZAP | ENTRY_LOST | ENTRY_WRITTEN)

struct checking {
	mem_check_device_fn *device;
	void *ctx;
	const char *wrong;
	uint64_t addr;
};

static const char *check_folio(struct checking *c, struct entry e)
{
	struct buddy *b = c->device(c->ctx, entry_device(e));

	if (!b)
		return "names a device that is not open";
	if (entry_offset(e) & (order_bytes(entry_order(e)) - 1))
		return "names a folio that is not aligned to its size";
	if (!buddy_is_used(b, entry_offset(e), entry_order(e)))
		return "names a folio that is free";
	return NULL;
}

/* The words of one folio say the same, but for their own places. */
static const char *check_part(struct checking *c, const struct entry_slot *words, unsigned i)
{
	struct entry e = entry_get(&words[i]);
	unsigned head = folio_head(i, entry_order(e)), end = i + order_pages(entry_order(e));
	const char *differ = "is of a folio whose other pages say something else";

	if (entry_order(e) >= BLOCK_ORDER)
		return "names a folio that is larger than what the entry covers";
	if (i != head) /* its other words are looked at from there */
		return e.bits - entry_get(&words[head]).bits == (i - head) * PAGE_BYTES ? NULL : differ;
	for (unsigned k = i + 1; k < end; k++)
		if (entry_get(&words[k]).bits - e.bits != (k - i) * PAGE_BYTES)
			return differ;
	return check_folio(c, e);
}

static const char *check_word(struct entry e, bool whole)
{
	switch (entry_state(e)) {
	case ENTRY_SYSTEM:
	case ENTRY_MIGRATING:
	case ENTRY_DEVICE:
		break;
	default:
		return "has a state that it cannot have";
	}
	if (e.bits & FLAGS & ~flags_allowed[entry_state(e)])
		return "has a flag that its state does not allow";
	if (!whole && e.bits & (ENTRY_LOCK | ENTRY_HUGE))
		return "is a page's, and has a flag of blocks";
	if (entry_state(e) == ENTRY_MIGRATING && !entry_token(e))
		return "is migrating, and nobody has claimed it";
	return NULL;
}

static const char *check_block(struct checking *c, struct entry e)
{
	const char *wrong = check_word(e, true);

	if (wrong || entry_state(e) != ENTRY_DEVICE)
		return wrong;
	return entry_order(e) == BLOCK_ORDER ? check_folio(c, e) : "names a folio that is not of the size of what the entry covers";
}

static const char *check_page(struct checking *c, const struct entry_slot *words, unsigned i)
{
	const char *wrong = check_word(entry_get(&words[i]), false);

	return wrong || entry_state(entry_get(&words[i])) != ENTRY_DEVICE ? wrong : check_part(c, words, i);
}

static int visit(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct checking *c = ctx;
	struct entry e;

	block_lock(b);
	e = entry_get(b);
	if (entry_state(e) != ENTRY_TABLE) {
		c->wrong = check_block(c, e);
		c->addr = addr;
	}
	for (unsigned i = 0; entry_state(e) == ENTRY_TABLE && !c->wrong && i < PAGES_PER_BLOCK; i++) {
		c->wrong = check_page(c, entry_table(e), i);
		c->addr = addr + i * PAGE_BYTES;
	}
	block_unlock(b);
	return c->wrong != NULL;
}

const char *mem_check(struct table *t, mem_check_device_fn *device, void *ctx, uint64_t *ret_addr)
{
	struct checking c = { .device = device, .ctx = ctx };

	(void)table_walk(t, 0, UINT64_C(1) << TABLE_ADDRESS_BITS, visit, &c);
	if (c.wrong)
		*ret_addr = c.addr;
	return c.wrong;
}
