/* SPDX-License-Identifier: MIT */
/*
 * The last word about a page: where it is from now on. On the way to a device that is a word of the table; on the way home
 * it is a MOVE into the program, and then the word.
 *
 * Installing into the program is done inside the gate, together with the look at the claim that says which pages the
 * program still wants, and with the end of their claim: an event is applied either before all of that, and then the page
 * is not installed, or after, and then its discard is still to come and will remove the page.
 */
#include <errno.h>
#include <sched.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "migrate/migrate.h"
#include "os/map.h"
#include "os/pagemap.h"
#include "os/thread.h"

/* ---- on a device ---- */

struct on_device {
	struct device *dev;
	const struct folios *f;
	const struct pageset *written;
	struct pageset installed; /* out */
};

static bool any_in(const struct pageset *s, unsigned first, unsigned n)
{
	unsigned next = pageset_next(s, first);

	return next < PAGES_PER_BLOCK && next < first + n;
}

static struct entry value_on_device(void *ctx, struct entry now, unsigned i)
{
	struct on_device *x = ctx;
	unsigned order = x->f->whole ? BLOCK_ORDER : x->f->order[i];
	struct entry e = entry_on_device(x->dev->index, x->f->offset[i], order);

	if (entry_has(now, ENTRY_DEAD))
		return entry_system();
	if (x->f->whole)
		x->installed = pageset_all;
	else
		pageset_add(&x->installed, i);
	if (any_in(x->written, folio_head(i, order), order_pages(order))) /* the words of a folio say the same */
		e.bits |= ENTRY_WRITTEN;
	return e;
}

/*
 * Events may have taken pages apart since the folios were had, and the folios follow: what is dropped shares none with what
 * stays. Pages that mremap has taken along are put down one after another, perhaps in several blocks; each becomes a folio
 * of its own. Inside the gate, so that nothing changes until the claim is ended. Return: 0, or -ENOMEM, nothing changed.
 */
static int follow_events(struct claim *c, struct device *dev, struct folios *f, const struct pageset *pages)
{
	struct pageset stay = *pages, moved = *pages, dead;

	claim_look(c, &dead);
	pageset_keep(&moved, &c->moved);
	pageset_remove(&stay, &dead);
	pageset_remove(&stay, &moved);
	pageset_remove(&moved, &dead);
	if (folios_cut(dev, f, &stay) || (f->whole && folios_break(dev, f)))
		return -ENOMEM;
	folios_crumble(dev, f, &moved);
	return 0;
}

int install_device(struct claim *c, struct device *dev, struct folios *f, const struct pageset *pages,
		   struct pageset *ret_installed)
{
	struct on_device x = { .dev = dev, .f = f, .written = &c->written };
	struct pageset dropped = *pages;
	int waiters = CLAIM_WAS_SPLIT, r = 0;

	claim_enter(c);
	if (f->whole)
		waiters = claim_end_whole(c, value_on_device, &x);
	if (waiters == CLAIM_WAS_SPLIT)
		r = follow_events(c, dev, f, pages);
	if (waiters == CLAIM_WAS_SPLIT && !r)
		waiters = claim_end(c, pages, value_on_device, &x);
	claim_leave(c);
	if (r)
		return r;
	pageset_remove(&dropped, &x.installed);
	if (!pageset_empty(&dropped)) {
		counter_add(&c->sp->counters.dropped_pages, pageset_count(&dropped));
		release_folios(dev, f, &dropped);
	}
	if (waiters)
		claim_wake(c);
	*ret_installed = x.installed;
	return 0;
}

/*
 * May what looked like holes be something else? Nothing is moved for them, so no ioctl would be refused. Holes of a range
 * that was no longer watched when we looked may have been filled by the kernel since: event_seq tells. And where mremap
 * has put pages down, those that are on a device look like holes until its event has been applied: so none may be unread.
 * An unread one says nothing but wait: its reader may lack a CPU.
 */
bool holes_are_stale(struct space *sp, const struct piece *p)
{
	uint64_t since = gate_events(&sp->gate);
	bool stale, unread;

	for (unsigned n = 0;; n++) {
		gate_enter(&sp->gate, GATE_MOVES);
		stale = atomic_load(&sp->event_seq) != p->seq;
		unread = !stale && uffd_held_up(&sp->uffd, sp->canary);
		gate_leave(&sp->gate, GATE_MOVES);
		if (!unread || gate_events(&sp->gate) - since > MAX_MESSAGES)
			return stale || unread;
		thread_pause(n);
	}
}

void install_piece(struct mover *mv, struct piece *p, struct tally *t)
{
	struct pageset done, all;

	if (claim_empty(&p->claim))
		return;

	if (!pageset_empty(&p->clear) && holes_are_stale(mv->m->sp, p)) {
		struct pageset holes = p->clear;

		uhmm_assert(!p->folios.whole || pageset_empty(&p->copy)); /* a folio for all of a block is all holes, or none */
		release_folios(p->dev, &p->folios, &holes);
		tally_pages(t, UHMM_SKIP_RACED, &holes);
		install_back(p, &holes);
		if (claim_empty(&p->claim))
			return;
	}

	all = p->claim.mine;
	if (install_device(&p->claim, p->dev, &p->folios, &all, &done)) {
		tally_pages(t, UHMM_SKIP_NO_ROOM, &all);
		release_folios(p->dev, &p->folios, &all);
		install_back(p, &all);
		return;
	}
	folios_count(&p->folios, &done, t->moved_folios);
	pageset_for_each(&p->clear, i)
		t->cleared_pages += pageset_has(&done, i);
	pageset_remove(&all, &done);
	tally_pages(t, UHMM_SKIP_RACED, &all);
}

/* ---- in the program ---- */

struct home {
	struct claim *c;
	struct pageset todo;
	uint64_t from;
	bool moving;        /* else copying */
	unsigned longest;   /* pages tried at once */
	bool whole;         /* out: arrived by one MOVE */
	struct pageset left;
};

static void remove_from(struct pageset *s, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		pageset_del(s, i);
}

static void end_run(struct home *h, unsigned first, unsigned end, bool mapped)
{
	struct pageset run = { 0 };

	pageset_add_range(&run, first, end);
	(void)claim_end_system(h->c, &run, mapped);
	remove_from(&h->todo, first, end);
}

/* Ends what the program has dropped. Context: inside the gate. */
static void end_dead(struct home *h)
{
	struct pageset dead;

	claim_look(h->c, &dead);
	pageset_keep(&dead, &h->todo);
	if (pageset_empty(&dead))
		return;
	counter_add(&h->c->sp->counters.dropped_pages, pageset_count(&dead));
	(void)claim_end_system(h->c, &dead, false);
	pageset_remove(&h->todo, &dead);
}

/*
 * From now on pages are copied out of the slot. A MOVE may have taken one that it did not own up to (isolate.c): copying the
 * hole it left would be a touch of watched memory, inside the gate. Return: as refused().
 */
static bool stop_moving(struct home *h)
{
	unsigned first = pageset_next(&h->todo, 0);
	uint64_t at = h->from + first * PAGE_BYTES, stop;
	struct pm_run runs[64];
	unsigned nr;

	if (h->c->whole && claim_split(h->c))
		return true; /* pages are ended one by one from here on */
	while (at < h->from + BLOCK_BYTES) {
		if (pagemap_scan(h->c->sp->pagemap_fd, at, h->from + BLOCK_BYTES, runs, ARRAY_LEN(runs), &nr, &stop))
			return true;
		for (unsigned k = 0; k < nr; k++)
			for (; at < runs[k].end; at += PAGE_BYTES) {
				unsigned i = page_in_block(at);

				if (!runs[k].bits && pageset_has(&h->todo, i))
					end_run(h, i, i + 1, true);
			}
		at = stop;
	}
	h->moving = false;
	return false;
}

/* What to do about a run that did not go at all. Return: worth waiting a moment before the next try. */
static bool refused(struct home *h, unsigned first, unsigned end, int r)
{
	unsigned n = end - first;

	switch (r) {
	case UFFD_E_AGAIN:
		return true;
	case UFFD_E_NO_MEMORY:
		pageset_add_range(&h->left, first, end);
		remove_from(&h->todo, first, end);
		return false;
	case UFFD_E_EXISTS:
		/* some page is there: go one by one; it wins, because it is what the program sees */
		if (n > 1) {
			h->longest = 1;
			return false;
		}
		break;
	case UFFD_E_MISSING:
		/* the mapping may have moved away, and its event be unread: then this is no answer */
		if (uffd_held_up(&h->c->sp->uffd, h->c->sp->canary))
			return true;
		/* fall through */
	default:
		/* MOVE wants one writable mapping; COPY takes any protection; and one page lies in one mapping at most */
		if (h->moving)
			return stop_moving(h);
		if (n > 1) {
			h->longest = n / 2;
			return false;
		}
		if (r == UFFD_E_MISSING)
			break; /* no mapping of ours: the program has unmapped it */
		log_once(UHMM_LOG_ERROR, "a page could not be put into the program at 0x%llx (%d); its bytes are kept",
			 (unsigned long long)claim_address(h->c, first), r);
		pageset_add(&h->left, first);
		remove_from(&h->todo, first, end);
		return false;
	}
	end_run(h, first, end, r == UFFD_E_EXISTS);
	return false;
}

/* A run of pages that still lie side by side in the program: those that mremap has moved go alone. */
static unsigned run_end(const struct home *h, unsigned first)
{
	unsigned end = first + 1;

	if (pageset_has(&h->c->moved, first))
		return end;
	while (end < PAGES_PER_BLOCK && pageset_has(&h->todo, end) && !pageset_has(&h->c->moved, end))
		end++;
	return end;
}

/* One try, inside the gate. Return: worth waiting a moment before the next one. */
static bool try_run(struct home *h)
{
	const struct uffd *u = &h->c->sp->uffd;
	unsigned first = pageset_next(&h->todo, 0), end = run_end(h, first);
	uint64_t at = claim_address(h->c, first), from = h->from + first * PAGE_BYTES, done;
	int r;

	if (end > first + h->longest)
		end = first + h->longest;
	if (h->c->whole && (!h->moving || end - first < PAGES_PER_BLOCK) && claim_split(h->c))
		return true; /* no memory for a table: somebody will free some */
	if (h->moving)
		r = uffd_move(u, at, from, (uint64_t)(end - first) * PAGE_BYTES, UFFD_DONTWAKE, &done);
	else
		r = uffd_copy(u, at, (void *)(uintptr_t)from, (uint64_t)(end - first) * PAGE_BYTES, UFFD_DONTWAKE, &done);
	if (!done)
		return refused(h, first, end, r);
	space_no_message_was_unread(h->c->sp);
	if (h->c->whole && done < BLOCK_BYTES)
		while (claim_split(h->c))
			sched_yield();
	h->whole = done == BLOCK_BYTES && h->moving;
	end_run(h, first, first + (unsigned)(done >> PAGE_SHIFT), true);
	return false;
}

bool install_home(struct claim *c, const struct pageset *pages, uint64_t from, bool may_move, struct pageset *ret_left)
{
	struct home h = { .c = c, .todo = *pages, .from = from, .moving = may_move, .longest = PAGES_PER_BLOCK };
	unsigned waits = 0;

	while (!pageset_empty(&h.todo)) {
		bool wait = false;

		claim_enter(c);
		end_dead(&h);
		if (!pageset_empty(&h.todo))
			wait = try_run(&h);
		claim_leave(c);
		/* an unread event: its reader needs the gate, and a CPU */
		if (wait && ++waits > 3)
			sched_yield();
	}
	*ret_left = h.left;
	return h.whole;
}

bool is_huge(struct space *sp, uint64_t block)
{
	int bits = pagemap_uniform(sp->pagemap_fd, block, block + BLOCK_BYTES);

	return bits > 0 && bits & PM_HUGE;
}

/*
 * Why not MOVE into a mapping that is made writable for it? Whatever the program stores there meanwhile would be let through,
 * though it must fault, and the protection that is set back afterwards may be older than one the program has set since.
 * A collapse gives nobody any right. It is done when the claim has ended and the toucher has been woken, since it may take
 * a millisecond and more. Then the block may be anybody's - the program may have unmapped it and mapped another one - and for
 * that one it is as harmless: only pages that are all there are asked for, so that no hole is filled.
 */
void make_huge_again(struct space *sp, uint64_t block)
{
	for (unsigned tries = 0; tries < 3; tries++) {
		int r;

		if (pagemap_uniform(sp->pagemap_fd, block, block + BLOCK_BYTES) != PM_PRESENT)
			return;
		r = map_collapse(block, BLOCK_BYTES);
		if (r != -EAGAIN && r != -EBUSY)
			return;
		thread_pause(tries + 4); /* a page was in use for a moment */
	}
}

void install_back(struct piece *p, const struct pageset *pages)
{
	struct pageset bytes = *pages, holes = *pages;

	pageset_keep(&bytes, &p->copy);
	pageset_keep(&holes, &p->clear);
	pageset_remove(&p->copy, &bytes);
	pageset_remove(&p->clear, &holes);
	if (!pageset_empty(&holes) && claim_end_system(&p->claim, &holes, true))
		claim_wake(&p->claim);
	while (!pageset_empty(&bytes)) {
		struct pageset left;
		bool whole = install_home(&p->claim, &bytes, p->slot, true, &left);

		claim_wake_pages(&p->claim, &bytes);
		/* only a THP that left as one leaves no page table behind */
		p->slot_holds = whole && p->slot_holds == SLOT_THP && is_huge(p->claim.sp, p->claim.addr) ? SLOT_EMPTY : SLOT_DIRTY;
		bytes = left;
		if (!pageset_empty(&left))
			sched_yield(); /* no memory for a page table: it must go back, so try until it does */
	}
}
