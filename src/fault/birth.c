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
 *              a hole that is being filled, or dead: the child has a hole
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
	bool lent; /* anything */
	struct staged *staged;
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
	/* dead: the program has discarded the page, or unmapped it and mapped another; the claimer drops the bytes */
	if (entry_state(e) != ENTRY_MIGRATING || entry_has(e, ENTRY_DEAD))
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

	if (entry_state(lent) != ENTRY_DEVICE)
		return;
	x->lent = true;
	put(&child_table(x->child, addr)[page_in_block(addr)], lent);
}

/* A block that is one word. */
static void lend_block(struct birth *x, uint64_t addr, struct entry e, uint64_t *ret_staged)
{
	struct entry lent = lent_word(x->from, e, ret_staged);

	for (unsigned i = 1; *ret_staged && i < PAGES_PER_BLOCK; i++)
		ret_staged[i] = ret_staged[0] + i * PAGE_BYTES;
	if (entry_state(lent) != ENTRY_DEVICE)
		return;
	x->lent = true;
	put(child_block(x->child, addr), entry_on_device(entry_device(lent), entry_offset(lent), BLOCK_ORDER));
}

/* ---- staged pages ---- */

/*
 * Pages that are in staging slots are claimed in the child's table, so that what the child does to its address space meanwhile -
 * it may be running already - finds them; and they are copied when all of the table is there.
 */

/* The pages of one block, each at its own offset from c.staged. */
struct staged {
	struct claim c;
	struct staged *next;
};

/* A page that is not in its slot has not been taken out of the program: the child has it. */
static bool is_staged(struct birth *x, uint64_t at)
{
	int bits;

	while ((bits = at ? pagemap_uniform(x->rd->faults->m->sp->pagemap_fd, at, at + PAGE_BYTES) : 0) < 0)
		sched_yield(); /* without the answer a page could be lost */
	return bits > 0;
}

static void claim_pages(struct birth *x, uint64_t addr, const struct pageset *pages, uint64_t base)
{
	struct claim_misses misses;
	struct pageset others;
	struct staged *n;

	while (!(n = meta_alloc(&x->rd->faults->children.staged)))
		sched_yield();
	while (claim_system(&n->c, &x->child->sp, addr, 0, PAGES_PER_BLOCK, &misses) || claim_split(&n->c))
		sched_yield();
	others = n->c.mine;
	pageset_remove(&others, pages);
	(void)claim_end_system(&n->c, &others, false);
	n->c.staged = base;
	n->next = x->staged;
	x->staged = n;
}

static void claim_staged(struct birth *x, uint64_t addr, const uint64_t *staged)
{
	struct pageset left = { 0 };

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		if (is_staged(x, staged[i]))
			pageset_add(&left, i);
	while (!pageset_empty(&left)) {
		/* all of them, unless mremap has brought pages of several claims together */
		unsigned first = pageset_next(&left, 0);
		uint64_t base = staged[first] - first * PAGE_BYTES;
		struct pageset pages = { 0 };

		pageset_for_each(&left, i)
			if (staged[i] - i * PAGE_BYTES == base)
				pageset_add(&pages, i);
		claim_pages(x, addr, &pages, base);
		pageset_remove(&left, &pages);
	}
}

/* One try, inside the child's gate. Return: as uffd_copy(). */
static int copy_some(struct child *child, struct claim *c)
{
	unsigned first = pageset_next(&c->mine, 0), end = pageset_has(&c->moved, first) ? first + 1 : pageset_run_end(&c->mine, first);
	struct pageset done = { 0 };
	uint64_t copied;
	int r;

	for (unsigned i = first + 1; i < end; i++)
		if (pageset_has(&c->moved, i))
			end = i;
	r = uffd_copy(&child->sp.uffd, claim_address(c, first), (void *)(uintptr_t)(c->staged + first * PAGE_BYTES),
		      (end - first) * PAGE_BYTES, 0, &copied);
	/* else the child has a page there, or has not inherited the mapping, or is gone */
	if (!copied && r != UFFD_E_AGAIN && r != UFFD_E_NO_MEMORY)
		copied = PAGE_BYTES;
	pageset_add_range(&done, first, first + (unsigned)(copied >> PAGE_SHIFT));
	(void)claim_end_system(c, &done, true);
	return copied ? 0 : r;
}

static void copy_claimed(struct birth *x, struct staged *n)
{
	struct claim *c = &n->c;

	while (!claim_empty(c)) {
		struct pageset dead;
		int r = 0;

		claim_enter(c);
		claim_look(c, &dead);
		(void)claim_end_system(c, &dead, false);
		if (!claim_empty(c))
			r = copy_some(x->child, c);
		claim_leave(c);
		/* nobody else reads what the child says yet */
		while (r == UFFD_E_AGAIN && child_read(x->rd, x->child, false))
			;
		if (r)
			sched_yield();
	}
	meta_free(&x->rd->faults->children.staged, n);
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
		claim_staged(x, addr, staged);
	return 0;
}

/* ---- the child ---- */

static struct child *child_make(int fd, const struct uffd *like)
{
	struct child *c;

	while (!(c = map_own(sizeof(*c), 0)))
		sched_yield();
	while (table_init(&c->sp.table))
		sched_yield();
	c->sp.uffd = (struct uffd){ .fd = fd, .features = like->features, .user_mode_only = like->user_mode_only,
				    .fork_events = true, .path = like->path };
	c->sp.procmap.fd = c->sp.pagemap_fd = c->sp.tasks_fd = -1;
	/* the program's canary is not inherited: its place is free in the child, and mremap could put lent pages down there,
	 * which then would get zeros. A page of the library's code is no memory that is watched */
	c->sp.canary = page_down((uintptr_t)child_born);
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

	x.child = child_make(fd, &from->sp->uffd);
	borrow(ch, x.child, from);
	atomic_fetch_add(&ch->nr_alive, 1);
	(void)table_walk(&from->sp->table, 0, EVERYTHING, visit_block, &x);
	while (x.staged) {
		struct staged *n = x.staged;

		x.staged = n->next;
		copy_claimed(&x, n);
	}

	if (!x.lent)
		x.child->born_ns = 0; /* there is nothing to wait for */
	x.child->next = atomic_load(&ch->newborn);
	while (!atomic_compare_exchange_weak(&ch->newborn, &x.child->next, x.child))
		;
	if (write(ch->news, &one, sizeof(one)) < 0)
		log_say(UHMM_LOG_ERROR, "the thread that serves children of fork cannot be woken");
}

void births_init(struct children *ch)
{
	meta_init(&ch->staged, sizeof(struct staged));
}
