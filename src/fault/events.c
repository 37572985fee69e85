/* SPDX-License-Identifier: MIT */
/*
 * The program has changed its address space, and the table follows. Applied inside the gate on the side of events: nobody
 * moves a page meanwhile, and nobody who enters afterwards can miss it.
 *
 *   UNMAP   the mapping is gone already. Folios are freed; dead data never travels.
 *   REMOVE  MADV_DONTNEED and its like: the mapping stays, its pages will vanish soon - the caller goes on only after we
 *           have read this. Folios are freed; pages that Linux has are marked ZAP: until they have vanished nobody may
 *           take them out of the page table, or they would escape the discard and come back later.
 *   REMAP   mremap: what is known of the old place is known of the new one. An UNMAP of the old place follows, unless it was
 *           MREMAP_DONTUNMAP. It tells nothing new, and by then another thread's mremap may have put pages down there, and
 *           have been heard of: so it is recognized and passed over.
 *   FORK    a child has all that the program has: birth.c
 *
 * A part of a block splits it, and a part of a folio the folio, into the largest that hold; the device hears of it. A page in
 * somebody's claim is marked DEAD, and the claimer drops it.
 */
#include <sched.h>
#include <string.h>

#include "base/clock.h"
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

		/* counted first: who sees the folio free sees it counted */
		counter_add(&d->m->sp->counters.dropped_pages, order_pages(entry_order(e)));
		device_free(migrator_device(d->m, entry_device(e)), entry_offset(e), entry_order(e));
	}
	d->nr = 0;
}

/* Of each folio the first word: where all the others are dropped, too. */
static bool is_head(struct entry e)
{
	return !(entry_offset(e) & (order_bytes(entry_order(e)) - 1));
}

/* One word: a page's, or a block's. A folio's words are dropped together. */
static void drop_word(struct entry_slot *s, bool removed, struct dropped *d)
{
	struct entry e = entry_get(s);

	switch (entry_state(e)) {
	case ENTRY_SYSTEM:
		entry_set(s, removed ? entry_zapped(clock_ns() / 1000000000) : entry_system());
		break;
	case ENTRY_MIGRATING:
		entry_mark(s, ENTRY_DEAD | (removed ? ENTRY_ZAP : 0), removed ? 0 : ENTRY_ZAP);
		break;
	case ENTRY_DEVICE:
		if (is_head(e))
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
	struct migrator *m = rd->mover.m;
	struct dropped d = { .m = m, .entry = rd->mover.folios.offset };
	bool all = first == 0 && end == PAGES_PER_BLOCK;
	struct entry_slot *words = all ? NULL : take_words(m);

	block_lock(b);
	if (!all && (removed || entry_state(entry_get(b)) != ENTRY_SYSTEM))
		split_for(m, b, &words);
	if (entry_state(entry_get(b)) == ENTRY_TABLE) {
		struct entry_slot *pages = entry_table(entry_get(b));

		split_before_locked(m, pages, first);
		split_before_locked(m, pages, end);
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
	struct table *t = &rd->mover.m->sp->table;

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

/*
 * What is known of a page, or of a whole block, is carried from its old word to a new one, and a claim is told where its
 * pages are now. Claimers look only inside the gate, so they never see the page between the two places.
 */

/* Takes the word away. Return: what the new place shall say. */
static struct entry take_word(struct entry_slot *s)
{
	struct entry e = entry_get(s);

	entry_set(s, entry_system());
	return (struct entry){ e.bits & ~(ENTRY_LOCK | ENTRY_WAITERS) };
}

/*
 * What the new place said of the memory that was there before is over. Mostly its UNMAP has been read and nothing is left of
 * it; where not, that UNMAP drops what this leaves, and until it is read no page can be put there. Whoever has claimed it - to fill a hole there, say - loses the claim: its token is gone, or the page is DEAD.
 */
static void put_word(struct entry_slot *s, struct entry e, struct dropped *d)
{
	drop_word(s, false, d);
	if (entry_state(e) != ENTRY_SYSTEM) {
		entry_set(s, entry_migrating(TOKEN_MASK)); /* on the way to any other state */
		entry_set(s, e);
	} else if (entry_has(e, ENTRY_ZAP) && entry_state(entry_get(s)) == ENTRY_SYSTEM) {
		entry_set(s, e);
	}
}

static struct entry_slot *block_at(struct migrator *m, uint64_t addr)
{
	struct entry_slot *b;

	while (!(b = table_block(&m->sp->table, addr, true)))
		sched_yield(); /* the event must be applied: 4 KiB will be found */
	return b;
}

/* A block that was one word. What there was in its new place is over, and with it the table that the place may have. */
static void put_block(struct migrator *m, uint64_t to, struct entry e, struct dropped *d)
{
	struct entry_slot *b = block_at(m, to);

	if (entry_state(e) == ENTRY_MIGRATING)
		claim_block_moved(claim_of(m->sp, e), to, b);
	block_lock(b);
	if (entry_state(entry_get(b)) == ENTRY_TABLE) {
		struct entry_slot *words = entry_table(entry_get(b));

		for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
			drop_word(&words[i], false, d);
		block_join(&m->sp->table, b);
	}
	put_word(b, e, d);
	entry_mark(b, e.bits & ENTRY_HUGE, 0);
	space_leaves(m->sp, to);
	block_unlock(b);
	free_dropped(d);
}

/* The words of a block, which has one for each page from now on. Returns with the block's lock held. */
static struct entry_slot *words_lock(struct migrator *m, uint64_t addr, struct entry_slot **ret_block)
{
	struct entry_slot *b = block_at(m, addr);

	for (;;) {
		while (split_block(m, addr))
			sched_yield();
		block_lock(b);
		if (entry_state(entry_get(b)) == ENTRY_TABLE)
			break;
		block_unlock(b); /* a claim has ended in between, and the block is one word again */
	}
	*ret_block = b;
	return entry_table(entry_get(b));
}

/* A folio that comes down in a place that is not aligned to its size is split until it is. Return: its pages. */
static unsigned fit_folio_locked(struct migrator *m, struct entry_slot *words, unsigned i, uint64_t to)
{
	struct entry e = entry_get(&words[i]);
	unsigned order = entry_order(e), fits = order;

	while (to & (order_bytes(fits) - 1))
		fits = device_order(migrator_device(m, entry_device(e)), fits - 1);
	if (fits < order)
		split_folio_locked(m, words, i, fits);
	return order_pages(fits);
}

/* Moves one page, or the pages of one folio, of the [@from, @end) that are left of a block. Return: how many. */
static unsigned move_pages(struct migrator *m, uint64_t from, uint64_t end, uint64_t to, struct dropped *d)
{
	struct entry_slot *b, *words = words_lock(m, from, &b);
	unsigned i = page_in_block(from), n = 1;
	struct entry e;

	split_before_locked(m, words, i);
	if (!block_aligned(end))
		split_before_locked(m, words, page_in_block(end));
	if (entry_state(entry_get(&words[i])) == ENTRY_DEVICE)
		n = fit_folio_locked(m, words, i, to);
	e = take_word(&words[i]);
	for (unsigned k = 1; k < n; k++)
		(void)take_word(&words[i + k]);
	block_collapse(&m->sp->table, b);
	block_unlock(b);
	if (!e.bits)
		return n;

	if (entry_state(e) == ENTRY_MIGRATING)
		claim_page_moved(claim_of(m->sp, e), token_page(entry_token(e)), to);
	words = words_lock(m, to, &b);
	i = page_in_block(to);
	split_before_locked(m, words, i);
	split_before_locked(m, words, i + n);
	for (unsigned k = 0; k < n; k++, e.bits += PAGE_BYTES) /* of a folio: the offset */
		put_word(&words[i + k], e, d);
	space_leaves(m->sp, to);
	block_unlock(b);
	free_dropped(d);
	return n;
}

static void remap_block(struct migrator *m, uint64_t from, uint64_t to, uint64_t len, struct dropped *d)
{
	struct entry_slot *b = table_block(&m->sp->table, from, false);
	struct entry e;

	if (!b)
		return;
	block_lock(b);
	e = entry_get(b);
	if (entry_state(e) != ENTRY_TABLE && len == BLOCK_BYTES && block_aligned(to)) {
		(void)take_word(b);
		block_unlock(b);
		e.bits &= ~(ENTRY_LOCK | ENTRY_WAITERS);
		put_block(m, to, e, d);
	} else {
		entry_mark(b, 0, ENTRY_HUGE);
		block_unlock(b);
		for (uint64_t at = 0; e.bits & ~(ENTRY_LOCK | ENTRY_HUGE) && at < len;)
			at += move_pages(m, from + at, from + len, to + at, d) * PAGE_BYTES;
	}
	/* who waits for a page at the old place asks again, and finds it gone */
	if (entry_state(e) != ENTRY_SYSTEM)
		uffd_wake(&m->sp->uffd, from, len);
}

static void remap_range(struct reader *rd, uint64_t from, uint64_t end, uint64_t to)
{
	struct dropped d = { .m = rd->mover.m, .entry = rd->mover.folios.offset };

	while (from < end) {
		uint64_t len = min_u64(block_down(from) + BLOCK_BYTES, end) - from;

		remap_block(rd->mover.m, from, to, len, &d);
		from += len;
		to += len;
	}
}

/* What is still waited for was MREMAP_DONTUNMAP, and never comes. */
static void forget_if_over(struct space *sp)
{
	if (atomic_exchange(&sp->departed.over, false))
		sp->departed.nr = 0;
}

/* An UNMAP of this range will come. */
static void departs(struct space *sp, uint64_t start, uint64_t end)
{
	forget_if_over(sp);
	if (sp->departed.nr == MAX_DEPARTED) /* those of MREMAP_DONTUNMAP */
		memmove(&sp->departed.at[0], &sp->departed.at[1], --sp->departed.nr * sizeof(sp->departed.at[0]));
	sp->departed.at[sp->departed.nr++] = (struct departed){ start, end };
}

/*
 * Is this the UNMAP that was to come? From before the REMAP was announced until this UNMAP has been read no MOVE and no COPY succeeds. So
 * when one has succeeded nothing is to come any more; and only then can a place that was left with MREMAP_DONTUNMAP have pages
 * on a device again, unless mremap brings some, which unmaps the place before.
 */
static bool was_to_come(struct space *sp, uint64_t start, uint64_t end)
{
	forget_if_over(sp);
	for (unsigned i = 0; i < sp->departed.nr; i++) {
		if (sp->departed.at[i].start != start || sp->departed.at[i].end != end)
			continue;
		sp->departed.at[i] = sp->departed.at[--sp->departed.nr];
		return true;
	}
	return false;
}

void event_apply(struct reader *rd, const struct uffd_message *msg)
{
	struct migrator *m = rd->mover.m;

	if (staging_is_window(&m->staging, msg->start, msg->end))
		return;
	if (msg->kind != UFFD_FORK)
		space_changed(m->sp, msg->start, msg->end, 0);
	switch (msg->kind) {
	case UFFD_REMOVE:
		drop_range(rd, msg->start, msg->end, true);
		break;
	case UFFD_UNMAP:
		atomic_fetch_add(&m->sp->event_seq, 1);
		if (!was_to_come(m->sp, msg->start, msg->end))
			drop_range(rd, msg->start, msg->end, false);
		break;
	case UFFD_REMAP:
		space_changed(m->sp, msg->to, msg->to + (msg->end - msg->start), 0);
		atomic_fetch_add(&m->sp->event_seq, 1);
		/* a child's table also speaks of memory that it has not inherited: no UNMAP has told that nothing is there */
		if (m != rd->faults->m)
			drop_range(rd, msg->to, msg->to + (msg->end - msg->start), false);
		remap_range(rd, msg->start, msg->end, msg->to);
		departs(m->sp, msg->start, msg->end);
		break;
	case UFFD_FORK:
		child_born(rd, msg->fd);
		break;
	default:
		log_once(UHMM_LOG_WARN, "the userfaultfd sent a message of a kind that was not asked for");
	}
}
