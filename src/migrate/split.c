/* SPDX-License-Identifier: MIT */
/*
 * Folios of pages that nobody has claimed, split in place. The words that name a folio and the folio itself change under the
 * block's lock, so that whoever looks under it finds them agreeing. Bytes never move.
 *
 * A folio is split because a part of it goes its own way: it is unmapped, discarded, taken along by mremap, lost, or wanted
 * at home alone. What stays together is as large as it can be: of an order-9 folio that loses one page, the orders 0, 1 ... 8
 * are left. With a device that takes only some orders, those are used.
 *
 * Only the first split of a 2 MiB folio needs memory: a table for the block, and the allocator's record.
 */
#include <errno.h>

#include "base/err.h"
#include "migrate/migrate.h"

int split_block_locked(struct migrator *m, struct entry_slot *b, struct entry_slot *words)
{
	struct entry e = entry_get(b);
	unsigned order = 0;

	if (entry_state(e) == ENTRY_DEVICE) {
		struct device *dev = migrator_device(m, entry_device(e));
		int r;

		order = device_order(dev, BLOCK_ORDER - 1);
		r = device_split(dev, entry_offset(e), BLOCK_ORDER, order);
		if (r)
			return r;
	}
	block_split_into(b, words, order);
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

void split_folio_locked(struct migrator *m, struct entry_slot *words, unsigned i, unsigned order)
{
	struct entry e = entry_get(&words[i]);
	unsigned old = entry_order(e);
	int r = device_split(migrator_device(m, entry_device(e)), entry_offset(e) & ~(order_bytes(old) - 1), old, order);

	uhmm_assert(!r); /* its block is split: no memory is needed */
	words_split(words, i, order);
}

void split_before_locked(struct migrator *m, struct entry_slot *words, unsigned i)
{
	while (i < PAGES_PER_BLOCK) {
		struct entry e = entry_get(&words[i]);

		if (entry_state(e) != ENTRY_DEVICE || folio_head(i, entry_order(e)) == i)
			return;
		split_folio_locked(m, words, i, device_order(migrator_device(m, entry_device(e)), entry_order(e) - 1));
	}
}

int split_range(struct migrator *m, uint64_t addr, unsigned first, unsigned end)
{
	struct entry_slot *b;
	bool again;

	do {
		struct entry e;

		if (split_block(m, addr))
			return -ENOMEM;
		b = table_block(&m->sp->table, addr, false);
		block_lock(b);
		e = entry_get(b);
		if (entry_state(e) == ENTRY_TABLE) {
			split_before_locked(m, entry_table(e), first);
			split_before_locked(m, entry_table(e), end);
		}
		again = entry_state(e) == ENTRY_DEVICE; /* all of it was home in between, and has left again as one */
		block_unlock(b);
	} while (again);
	return 0;
}
