/* SPDX-License-Identifier: MIT */
/*
 * The program has changed its address space, and the table follows. Applied inside the gate on the side of events: nobody
 * moves a page meanwhile, and nobody who enters afterwards can miss it.
 *
 *   UNMAP   the mapping is gone already. Folios are freed; dead data never travels.
 *   REMOVE  MADV_DONTNEED and its like: the mapping stays, its pages will vanish soon - the caller goes on only after we
 *           have read this. Folios are freed; pages that Linux has are marked ZAP: until they have vanished nobody may
 *           take them out of the page table, or they would escape the discard and come back later.
 *   REMAP   mremap: what is known of the old place is known of the new one. An UNMAP of the old place follows.
 *
 * A part of a block splits it; the device hears of it. A page in somebody's claim is marked DEAD, and the claimer drops it.
 */
#include <sched.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "fault/fault.h"

/* Folios to free when the block's lock has been dropped; each as the entry that named it. */
struct dropped {
	struct migrator *m;
	uint64_t *entry; /* 512 */
	unsigned nr;
};

static void free_dropped(struct dropped *d)
{
	for (unsigned k = 0; k < d->nr; k++) {
		struct entry e = { d->entry[k] };

		device_free(migrator_device(d->m, entry_device(e)), entry_offset(e), entry_order(e));
		counter_add(&d->m->sp->counters.dropped_pages, order_pages(entry_order(e)));
	}
	d->nr = 0;
}

/* One word: a page's, or a block's. */
static void drop_word(struct entry_slot *s, bool removed, struct dropped *d)
{
	struct entry e = entry_get(s);

	switch (entry_state(e)) {
	case ENTRY_SYSTEM:
		entry_mark(s, removed ? ENTRY_ZAP : 0, removed ? 0 : ENTRY_ZAP);
		break;
	case ENTRY_MIGRATING:
		entry_mark(s, ENTRY_DEAD | (removed ? ENTRY_ZAP : 0), removed ? 0 : ENTRY_ZAP);
		break;
	case ENTRY_DEVICE:
		d->entry[d->nr++] = e.bits;
		entry_set(s, entry_system());
		break;
	default:
		break;
	}
}

/* Gives the block a table, for which @words was taken; consumed when used. */
static void split_for(struct migrator *m, struct entry_slot *b, struct entry_slot **words)
{
	if (entry_state(entry_get(b)) == ENTRY_TABLE)
		return;
	/* the record of a split folio: some bytes, without which the event cannot be applied */
	while (split_block_locked(m, b, *words))
		sched_yield();
	*words = NULL;
}

static struct entry_slot *take_words(struct migrator *m)
{
	struct entry_slot *words;

	while (!(words = meta_alloc(&m->sp->table.tables)))
		sched_yield(); /* an event must be applied: 4 KiB will be found */
	return words;
}

static void put_words(struct migrator *m, struct entry_slot *words)
{
	if (words)
		meta_free(&m->sp->table.tables, words);
}

/* Pages [first, end) of a block are gone, or (@removed) about to go. */
static void drop_pages(struct reader *rd, struct entry_slot *b, unsigned first, unsigned end, bool removed)
{
	struct migrator *m = rd->faults->m;
	struct dropped d = { .m = m, .entry = rd->mover.folios.offset };
	bool all = first == 0 && end == PAGES_PER_BLOCK;
	struct entry_slot *words = all ? NULL : take_words(m);

	block_lock(b);
	if (!all && (removed || entry_state(entry_get(b)) != ENTRY_SYSTEM))
		split_for(m, b, &words);
	if (entry_state(entry_get(b)) == ENTRY_TABLE) {
		struct entry_slot *pages = entry_table(entry_get(b));

		for (unsigned i = first; i < end; i++)
			drop_word(&pages[i], removed, &d);
		block_collapse(&m->sp->table, b);
	} else if (all) {
		drop_word(b, removed, &d);
	}
	if (!removed)
		entry_mark(b, 0, ENTRY_HUGE);
	block_unlock(b);
	put_words(m, words);
	free_dropped(&d);
}

static void drop_range(struct reader *rd, uint64_t start, uint64_t end, bool removed)
{
	struct table *t = &rd->faults->m->sp->table;

	while (start < end) {
		uint64_t stop = min_u64(block_down(start) + BLOCK_BYTES, end);
		unsigned first = page_in_block(start), last = first + (unsigned)((stop - start) >> PAGE_SHIFT);
		/* a discard must be remembered for memory that nobody has claimed yet, too */
		struct entry_slot *b = table_block(t, start, removed);

		if (b)
			drop_pages(rd, b, first, last, removed);
		start = stop;
	}
}

/* ---- mremap ---- */

/* Takes what is known of one page, or of a whole block. */
static struct entry take_word(struct entry_slot *s)
{
	struct entry e = entry_get(s);

	if (entry_state(e) == ENTRY_SYSTEM)
		entry_mark(s, 0, ENTRY_ZAP);
	else if (entry_state(e) == ENTRY_DEVICE)
		entry_set(s, entry_system());
	return e;
}

static void put_word(struct entry_slot *s, struct entry e)
{
	if (entry_state(e) == ENTRY_SYSTEM) {
		entry_mark(s, e.bits & ENTRY_ZAP, 0);
		return;
	}
	entry_set(s, entry_migrating());
	entry_set(s, e);
}

/* A page, or with @whole a block that is aligned in both places. */
static void move_entry(struct migrator *m, uint64_t from, uint64_t to, bool whole)
{
	struct entry_slot *b = table_block(&m->sp->table, from, false), *s;
	struct entry e = entry_system();
	bool huge = false;

	if (!b)
		return;
	block_lock(b);
	if (whole) {
		huge = entry_has(entry_get(b), ENTRY_HUGE);
		e = take_word(b);
	} else {
		(void)block_page(b, page_in_block(from), &s);
		if (s != b)
			e = take_word(s);
		block_collapse(&m->sp->table, b);
	}
	block_unlock(b);
	if (entry_state(e) == ENTRY_SYSTEM && !entry_has(e, ENTRY_ZAP))
		return;

	while (!(b = table_block(&m->sp->table, to, true)) || (!whole && split_block(m, to)))
		sched_yield();
	block_lock(b);
	(void)block_page(b, page_in_block(to), &s);
	put_word(s, e);
	if (huge)
		entry_mark(b, ENTRY_HUGE, 0);
	block_unlock(b);
}

static void remap_range(struct reader *rd, uint64_t from, uint64_t end, uint64_t to)
{
	struct migrator *m = rd->faults->m;
	bool aligned = !((from ^ to) & (BLOCK_BYTES - 1));

	while (from < end) {
		uint64_t step = min_u64(block_down(from) + BLOCK_BYTES, end) - from;
		struct entry_slot *b = table_block(&m->sp->table, from, false);
		bool whole = aligned && step == BLOCK_BYTES && b && entry_state(entry_get(b)) != ENTRY_TABLE;

		if (whole) {
			move_entry(m, from, to, true);
		} else if (b && (entry_get(b).bits & ~(ENTRY_LOCK | ENTRY_HUGE))) {
			while (split_block(m, from))
				sched_yield();
			for (uint64_t at = 0; at < step; at += PAGE_BYTES)
				move_entry(m, from + at, to + at, false);
		}
		from += step;
		to += step;
	}
}

void event_apply(struct reader *rd, const struct uffd_message *msg)
{
	struct migrator *m = rd->faults->m;

	if (staging_is_window(&m->staging, msg->start, msg->end))
		return;
	switch (msg->kind) {
	case UFFD_REMOVE:
		drop_range(rd, msg->start, msg->end, true);
		break;
	case UFFD_UNMAP:
		atomic_fetch_add(&m->sp->event_seq, 1);
		drop_range(rd, msg->start, msg->end, false);
		break;
	case UFFD_REMAP:
		atomic_fetch_add(&m->sp->event_seq, 1);
		remap_range(rd, msg->start, msg->end, msg->to);
		break;
	default:
		log_once(UHMM_LOG_WARN, "the userfaultfd sent a message of a kind that was not asked for");
	}
}
