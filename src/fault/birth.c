/* SPDX-License-Identifier: MIT */
/*
 * A child is born: its table says of each page where it was when the kernel copied the program's page tables.
 *
 * Between that copy and the read of the event no MOVE, COPY or ZEROPAGE succeeds, and this runs inside the gate, right after
 * the read. So what the table says now is what it said then, but for claims that have begun or ended as DEVICE since, which
 * change no page table:
 *
 *   SYSTEM     the child has what Linux has
 *   DEVICE     lent to the child
 *   MIGRATING  home or within a device: the claim says which folio has the bytes; lent
 *              to a device: what has been taken out of the program is in a staging slot, and is copied into the child at
 *              once. Only a fork without fork handlers meets this; the others stop migrations before (api/fork.c)
 *              a hole that is being filled: the child has a hole
 *
 * A folio that the program frees from now on is withheld while it is lent (device/lend.c). What a device writes to a folio is
 * held up as long (mirror/access.c).
 */
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "fault/fault.h"
#include "os/map.h"
#include "os/pagemap.h"

#define EVERYTHING (UINT64_C(1) << TABLE_ADDRESS_BITS)

struct birth {
	struct reader *rd;
	struct space *from;
	struct child *child;
};

/* ---- words ---- */

/* What a word of the program's says to the child. @i: of the page in its block. */
static struct entry lent_word(struct space *from, struct entry e, uint64_t *ret_staged)
{
	struct claim *c;
	unsigned i;

	*ret_staged = 0;
	if (entry_state(e) == ENTRY_DEVICE) {
		/* a lost page is poisoned, and so is the child's: the kernel has copied that */
		return entry_has(e, ENTRY_LOST) ? entry_system() : entry_on_device(entry_device(e), entry_offset(e), entry_order(e));
	}
	if (entry_state(e) != ENTRY_MIGRATING)
		return entry_system();
	c = claim_of(from, e);
	i = token_page(entry_token(e));
	while (atomic_load(&c->writing))
		cpu_relax(); /* a driver's copy, which waits for nobody; there is one only at a fork without fork handlers */
	if (c->from)
		return entry_on_device(c->from_device, c->from_whole ? c->from[0] + i * PAGE_BYTES : c->from[i], 0);
	if (c->staged)
		*ret_staged = c->staged + i * PAGE_BYTES;
	return entry_system();
}

static void put(struct entry_slot *s, struct entry e)
{
	atomic_store_explicit(&s->word, e.bits, memory_order_relaxed); /* nobody else sees this table yet */
}

static struct entry_slot *child_block(struct child *c, uint64_t addr)
{
	struct entry_slot *b;

	while (!(b = table_block(&c->sp.table, addr, true)))
		sched_yield(); /* the event must be applied: 4 KiB will be found */
	return b;
}

static struct entry_slot *child_table(struct child *c, uint64_t addr)
{
	struct entry_slot *b = child_block(c, addr), *words;

	if (entry_state(entry_get(b)) == ENTRY_TABLE)
		return entry_table(entry_get(b));
	while (!(words = meta_alloc(&c->sp.table.tables)))
		sched_yield();
	memset(words, 0, PAGE_BYTES);
	put(b, entry_of_table(words));
	return words;
}

static void lend_page(struct birth *x, uint64_t addr, struct entry e, uint64_t *ret_staged)
{
	struct entry lent = lent_word(x->from, e, ret_staged);

	if (entry_state(lent) == ENTRY_DEVICE)
		put(&child_table(x->child, addr)[page_in_block(addr)], lent);
}

/* A block that is one word. */
static void lend_block(struct birth *x, uint64_t addr, struct entry e, uint64_t *ret_staged)
{
	struct entry lent = lent_word(x->from, e, ret_staged);

	for (unsigned i = 1; *ret_staged && i < PAGES_PER_BLOCK; i++)
		ret_staged[i] = ret_staged[0] + i * PAGE_BYTES;
	if (entry_state(lent) == ENTRY_DEVICE)
		put(child_block(x->child, addr), entry_on_device(entry_device(lent), entry_offset(lent), BLOCK_ORDER));
}

/* ---- staged pages ---- */

static void copy_staged_run(struct birth *x, uint64_t to, uint64_t from, uint64_t len)
{
	struct child *c = x->child;

	while (len) {
		uint64_t done;
		int r = uffd_copy(&c->sp.uffd, to, (void *)(uintptr_t)from, len, 0, &done);

		if (!done && r == UFFD_E_AGAIN) {
			while (child_read(x->rd, c)) /* the child is alive already, and nobody else reads what it says yet */
				;
			continue;
		}
		if (!done && r == UFFD_E_NO_MEMORY) {
			sched_yield();
			continue;
		}
		if (!done) /* the child has a page there, or does not inherit the mapping, or is gone */
			done = PAGE_BYTES;
		to += done;
		from += done;
		len -= done;
	}
}

/* A page that is not in its slot has not been taken out of the program: the child has it. */
static void copy_staged(struct birth *x, uint64_t addr, const uint64_t *staged)
{
	for (unsigned i = 0, end; i < PAGES_PER_BLOCK; i = end) {
		uint64_t at = staged[i], stop;
		struct pm_run runs[32];
		unsigned nr;

		for (end = i + 1; at && end < PAGES_PER_BLOCK && staged[end] == at + (end - i) * PAGE_BYTES; end++)
			;
		stop = at + (end - i) * PAGE_BYTES;
		while (at && at < stop) {
			while (pagemap_scan(x->rd->faults->m->sp->pagemap_fd, at, stop, runs, ARRAY_LEN(runs), &nr, &at))
				sched_yield(); /* without the answer a page could be lost */
			for (unsigned k = 0; k < nr; k++)
				if (runs[k].bits)
					copy_staged_run(x, addr + i * PAGE_BYTES + (runs[k].start - staged[i]), runs[k].start,
							runs[k].end - runs[k].start);
		}
	}
}

static int visit_block(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct birth *x = ctx;
	uint64_t staged[PAGES_PER_BLOCK];
	bool any = false;
	struct entry e;

	if (entry_state(entry_get(b)) == ENTRY_SYSTEM) /* it can only become MIGRATING, from the program */
		return 0;
	block_lock(b);
	e = entry_get(b);
	if (entry_state(e) == ENTRY_TABLE) {
		for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
			lend_page(x, addr + i * PAGE_BYTES, entry_get(&entry_table(e)[i]), &staged[i]);
			any |= staged[i] != 0;
		}
	} else {
		memset(staged, 0, sizeof(staged));
		lend_block(x, addr, e, staged);
		any = staged[0];
	}
	block_unlock(b);
	if (any)
		copy_staged(x, addr, staged);
	return 0;
}

/* ---- the child ---- */

static struct child *child_make(struct children *ch, int fd, const struct uffd *like)
{
	struct child *c;

	while (!(c = map_own(sizeof(*c), 0)))
		sched_yield();
	while (table_init(&c->sp.table))
		sched_yield();
	c->sp.uffd = (struct uffd){ .fd = fd, .features = like->features, .user_mode_only = like->user_mode_only,
				    .fork_events = true, .path = like->path };
	c->sp.procmap.fd = c->sp.pagemap_fd = c->sp.tasks_fd = -1;
	c->sp.canary = ch->faults->m->sp->canary;
	gate_init(&c->sp.gate);
	c->m.sp = &c->sp;
	c->born_ns = clock_ns();
	return c;
}

/* The child of a child borrows from the same devices. */
static void borrow(struct children *ch, struct child *c, struct migrator *from)
{
	for (unsigned i = 1; i < MAX_DEVICES; i++) {
		struct device *d = migrator_device(from, i);

		if (!d)
			continue;
		device_lend(d->lender ? d->lender : d, &ch->loan[i]);
		atomic_store(&c->m.devices[i], &ch->loan[i]);
	}
}

void child_born(struct reader *rd, int fd)
{
	struct migrator *from = rd->mover.m;
	struct children *ch = &rd->faults->children;
	struct birth x = { .rd = rd, .from = from->sp };
	uint64_t one = 1;

	x.child = child_make(ch, fd, &from->sp->uffd);
	borrow(ch, x.child, from);
	atomic_fetch_add(&ch->nr_alive, 1);
	(void)table_walk(&from->sp->table, 0, EVERYTHING, visit_block, &x);

	x.child->next = atomic_load(&ch->newborn);
	while (!atomic_compare_exchange_weak(&ch->newborn, &x.child->next, x.child))
		;
	if (write(ch->news, &one, sizeof(one)) < 0)
		log_say(UHMM_LOG_ERROR, "the thread that serves children of fork cannot be woken");
}
