/* SPDX-License-Identifier: MIT */
/*
 * One thread gives children of fork what they have a right to: what they touch at once, and after a moment everything else,
 * so that they need this process no longer. When nothing of a child's is on a device any more, or it has called exec or
 * ended, its userfaultfd is closed: what it has not got by then is nothing, and the kernel fills it. A child with a limit gets
 * no more than there is room for (pace.h), and watches itself what it has got (let_go()).
 *
 * The pump reads the messages, and fills holes. A copy answers EAGAIN while an event of the child is unread, and this thread waits
 * for that; it could not if it had to read it itself.
 */
#include "fault/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "os/map.h"

#define EVERYTHING (UINT64_C(1) << TABLE_ADDRESS_BITS)
#define LET_GO_TRIES 100

/* ---- the pump's side ---- */

/*
 * Nothing is lent for it; nor can it be later, for what mremap brings there is announced first. It is done here and at once, inside the
 * gate in which the touch was read: the kernel would put zeros also into what the child has let leave itself, after it was let go.
 */
static bool fill_hole(struct child *c, uint64_t addr)
{
	enum entry_state state = ENTRY_SYSTEM;

	if (table_block(&c->sp.table, addr, false))
		state = entry_state(table_peek(&c->sp.table, addr));
	if (state == ENTRY_DEVICE || state == ENTRY_MIGRATING)
		return false;
	(void)uffd_zeropage(&c->sp.uffd, addr, PAGE_BYTES, 0);
	/* if it was refused because of an unread event, or somebody was faster: the child asks again */
	uffd_wake(&c->sp.uffd, addr, PAGE_BYTES);
	return true;
}

bool child_read(struct reader *rd, struct child *c, bool hand_over)
{
	struct children *ch = &rd->faults->children;
	struct migrator *m = rd->mover.m;
	struct uffd_message msg;
	bool filled = false;
	int r;

	gate_enter(&c->sp.gate, GATE_EVENTS);
	r = faults_read(rd->faults, &c->sp.uffd, &msg);
	if (r > 0 && msg.kind != UFFD_FAULT) {
		rd->mover.m = &c->m;
		event_apply(rd, &msg);
		rd->mover.m = m;
	}
	if (r > 0 && msg.kind == UFFD_FAULT)
		filled = fill_hole(c, msg.start);
	gate_leave(&c->sp.gate, GATE_EVENTS);
	if (r > 0 && msg.kind == UFFD_FAULT && !filled) {
		struct child_fault f = { c, msg.start };

		/* a full pipe means hundreds of waiting threads: this one is woken and asks again */
		if (!hand_over || write(ch->asked[1], &f, sizeof(f)) != sizeof(f))
			uffd_wake(&c->sp.uffd, msg.start, PAGE_BYTES);
	}
	return r > 0;
}

void children_tick(struct children *ch)
{
	uint64_t n;

	if (read(ch->tick, &n, sizeof(n)) != sizeof(n))
		return;
	atomic_fetch_add(&ch->ticks, 1);
	thread_wake(&ch->ticks, 1);
}

static int pump_watch(struct children *ch, struct child *c, bool watch)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };

	return epoll_ctl(ch->faults->pump->epoll, watch ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, c->sp.uffd.fd, &ev) ? -errno : 0;
}

/* On return the pump does not know the child any more: what it had in its hands when it was told so, it has done. */
static void pump_forget(struct children *ch, struct child *c)
{
	uint32_t seen = atomic_load(&ch->ticks);
	uint64_t one = 1;

	(void)pump_watch(ch, c, false);
	while (write(ch->tick, &one, sizeof(one)) < 0)
		sched_yield();
	while (atomic_load(&ch->ticks) == seen)
		thread_wait(&ch->ticks, seen);
}

/* ---- giving ---- */

/* A device cannot give back the page: the child gets SIGBUS there, never zeros. */
static void poison_page(struct child *c, uint64_t addr)
{
	struct entry_slot *b = table_block(&c->sp.table, addr, false), *s;
	int r = UFFD_E_AGAIN;
	struct entry e;

	while (r == UFFD_E_AGAIN || r == UFFD_E_NO_MEMORY) {
		sched_yield();
		gate_enter(&c->sp.gate, GATE_MOVES);
		r = UFFD_E_MISSING;
		if (entry_state(table_peek(&c->sp.table, addr)) == ENTRY_DEVICE)
			r = uffd_poison(&c->sp.uffd, addr, PAGE_BYTES);
		gate_leave(&c->sp.gate, GATE_MOVES);
	}
	if (r < 0 || r == UFFD_E_REFUSED)
		return; /* this kernel has no poison: who touches the page waits, and the child is never settled */
	block_lock(b);
	e = block_page(b, page_in_block(addr), &s);
	if (entry_state(e) == ENTRY_DEVICE && !entry_order(e)) {
		entry_set(s, entry_migrating(TOKEN_MASK)); /* on the way to any other state */
		entry_set(s, entry_system());
	}
	block_unlock(b);
	uffd_wake(&c->sp.uffd, addr, PAGE_BYTES);
}

static bool is_over(const struct child *c)
{
	return uffd_is_over(&c->sp.uffd, c->sp.canary);
}

/* Copies what of pages [first, end) of a block is lent into the child. Return: as home_block(), at the end. */
static int give_once(struct children *ch, struct child *c, uint64_t block, unsigned first, unsigned end)
{
	uint64_t moved[NR_ORDERS] = { 0 }, pages = 0;
	int r;

	ch->mover.m = &c->m;
	do {
		r = home_block(&ch->mover, block, first, end, NULL, moved);
		if (r == HOME_NO_MEMORY)
			sched_yield(); /* as a fault does: the OOM killer decides */
	} while ((!r || r == HOME_NO_MEMORY) && !is_over(c));
	ch->mover.m = ch->faults->m;
	for (unsigned k = 0; k < NR_ORDERS; k++)
		pages += moved[k] << k;
	counter_add(&ch->faults->m->sp->counters.child_pages, pages);
	pace_given(&ch->pace, pages * PAGE_BYTES);
	return r;
}

/* One by one: a page that cannot be read says nothing of the others. */
static void give_pages(struct children *ch, struct child *c, uint64_t block, unsigned first, unsigned end)
{
	unsigned lost = 0;
	int error = 0;

	for (unsigned i = first; i < end; i++) {
		int r = give_once(ch, c, block, i, i + 1);

		if (r >= 0)
			continue;
		poison_page(c, block + i * PAGE_BYTES);
		error = r;
		lost++;
	}
	if (lost)
		log_say(UHMM_LOG_ERROR, "a child of fork cannot have %u pages at 0x%llx from a device (%s): it gets SIGBUS there",
			lost, (unsigned long long)(block + first * PAGE_BYTES), strerrordesc_np(-error));
}

/* Return: something of the block is lent. Context: inside the child's gate, and nothing is claimed. */
static int visit_lent(void *ctx, uint64_t addr, struct entry_slot *b)
{
	enum entry_state state;

	(void)ctx;
	(void)addr;
	block_lock(b);
	state = entry_state(entry_get(b));
	for (unsigned i = 0; state == ENTRY_TABLE && i < PAGES_PER_BLOCK; i++)
		if (entry_state(entry_get(&entry_table(entry_get(b))[i])) == ENTRY_DEVICE)
			state = ENTRY_DEVICE;
	block_unlock(b);
	return state == ENTRY_DEVICE;
}

/*
 * The child watches it from now on itself, and lets it leave again. An mremap may have carried lent pages here that is not told
 * of yet: until that has been read, which this side of the gate keeps from happening, they must be watched. So one that was not
 * to be seen before is looked for after.
 */
static bool try_let_go(struct child *c, uint64_t block)
{
	struct entry_slot *b = table_block(&c->sp.table, block, false);
	bool done = true;

	gate_enter(&c->sp.gate, GATE_MOVES);
	if (!(b && visit_lent(NULL, block, b))) {
		done = !uffd_held_up(&c->sp.uffd, c->sp.canary);
		if (done && !uffd_unregister(&c->sp.uffd, block, block + BLOCK_BYTES) && uffd_held_up(&c->sp.uffd, c->sp.canary)) {
			(void)uffd_register(&c->sp.uffd, block, block + BLOCK_BYTES);
			done = false;
		}
	}
	gate_leave(&c->sp.gate, GATE_MOVES);
	return done;
}

/* What is not let go stays in the child until that has everything: so events elsewhere, which come and go, are waited for a while. */
static void let_go(struct child *c, uint64_t block)
{
	for (unsigned n = 0; n < LET_GO_TRIES && !try_let_go(c, block); n++)
		thread_pause(n);
}

/* Pages [first, end) cannot be had with the rest, they can one by one. */
static void give_block(struct children *ch, struct child *c, uint64_t block, unsigned first, unsigned end)
{
	if (give_once(ch, c, block, 0, PAGES_PER_BLOCK) < 0)
		give_pages(ch, c, block, first, end);
	if (pace_is_bounded(&ch->pace))
		let_go(c, block);
}

/* There is no room: who touches waits until step() wakes him. */
static void refuse(struct child *c, uint64_t addr)
{
	c->refused_start = c->refused_end ? min_u64(c->refused_start, addr) : addr;
	c->refused_end = max_u64(c->refused_end, addr + PAGE_BYTES);
}

/* Who touches something shall have it first: before he could ask again, the room would have gone to something else. */
static void give_refused(struct children *ch, struct child *c)
{
	uint64_t addr = c->refused_start;
	unsigned i = page_in_block(addr);

	if (table_block(&c->sp.table, addr, false) && entry_state(table_peek(&c->sp.table, addr)) == ENTRY_DEVICE)
		give_block(ch, c, block_down(addr), i, i + 1);
	/* those who touch something else ask again */
	uffd_wake(&c->sp.uffd, addr, c->refused_end - addr);
	c->refused_start = c->refused_end = 0;
}

static void serve(struct children *ch, const struct child_fault *f)
{
	struct child *c = f->child;
	uint64_t block = block_down(f->addr);
	struct entry_slot *b = table_block(&c->sp.table, f->addr, false);
	unsigned i = page_in_block(f->addr);

	if (b && entry_state(table_peek(&c->sp.table, f->addr)) == ENTRY_DEVICE) {
		c->touched = true;
		if (pace_may_give(&ch->pace, BLOCK_BYTES)) {
			/* it gets all of the block sooner or later, and one copy is cheaper than 512 */
			give_block(ch, c, block, i, i + 1);
		} else if (!pace_is_set(&ch->pace)) {
			give_pages(ch, c, block, i, i + 1);
		} else {
			refuse(c, f->addr);
			return;
		}
	}
	/* if it was refused because of an unread event, or the page has come or gone elsewhere: the child asks again */
	uffd_wake(&c->sp.uffd, f->addr, PAGE_BYTES);
}

struct giving {
	struct children *ch;
	struct child *child;
};

/* Return: not 0: enough for once. */
static int visit_give(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct giving *g = ctx;

	if (entry_state(entry_get(b)) == ENTRY_SYSTEM)
		return 0;
	give_block(g->ch, g->child, addr, 0, PAGES_PER_BLOCK);
	g->child->cursor = addr + BLOCK_BYTES;
	return 1;
}

/* mremap may carry pages past a walk, and a child that never stops doing so must not hold up a fork: inside its gate it cannot. */
static bool has_everything(struct child *c)
{
	int lent;

	gate_enter(&c->sp.gate, GATE_MOVES);
	lent = table_walk(&c->sp.table, 0, EVERYTHING, visit_lent, NULL);
	gate_leave(&c->sp.gate, GATE_MOVES);
	return !lent;
}

/* The next block that has something. Return: nothing is left. */
static bool give_some(struct children *ch, struct child *c)
{
	struct giving g = { ch, c };

	if (table_walk(&c->sp.table, c->cursor, EVERYTHING, visit_give, &g))
		return false;
	c->cursor = 0;
	return has_everything(c);
}

/* ---- from birth to the end ---- */

static void adopt(struct children *ch)
{
	struct child *c = atomic_exchange(&ch->newborn, NULL);

	while (c) {
		struct child *next = c->next;

		for (unsigned n = 0; pump_watch(ch, c, true); n++)
			thread_pause(n); /* no memory */
		c->next = ch->list;
		ch->list = c;
		counter_add(&ch->faults->m->sp->counters.children, 1);
		c = next;
	}
}

static void serve_asked(struct children *ch, const struct child *gone)
{
	struct child_fault f;

	while (read(ch->asked[0], &f, sizeof(f)) == sizeof(f))
		if (f.child != gone)
			serve(ch, &f);
}

static bool is_grown_up(const struct child *c)
{
	return clock_ns() - c->born_ns >= CHILD_GRACE_NS;
}

/* Shall it be given everything by now? */
static bool is_due(const struct child *c)
{
	return c->touched || is_grown_up(c);
}

/* Its memory is watched no longer from the close on: who waits there goes on with what the kernel gives. */
static void settle(struct children *ch, struct child *c)
{
	if (c->born_ns)
		atomic_store(&ch->last_was_short, !is_grown_up(c));
	pump_forget(ch, c);
	serve_asked(ch, c);
	uffd_close(&c->sp.uffd);
	for (unsigned i = 1; i < MAX_DEVICES; i++) {
		struct device *loan = migrator_device(&c->m, i);

		if (loan)
			device_loan_end(loan->lender);
	}
	table_fini(&c->sp.table);
	map_own_free(c, sizeof(*c));
	faults_refill_spares(ch->faults);
	atomic_fetch_sub(&ch->nr_alive, 1);
	atomic_fetch_add(&ch->settled, 1);
	thread_wake(&ch->settled, INT32_MAX);
}

/* Return: it is settled, and must not be looked at again. */
static bool step(struct children *ch, struct child *c)
{
	if (is_over(c))
		return true;
	if (!is_due(c))
		return false;
	c->held = !pace_may_give(&ch->pace, BLOCK_BYTES);
	if (c->held)
		return has_everything(c);
	if (!c->refused_end)
		return give_some(ch, c);
	give_refused(ch, c);
	return false;
}

static void step_all(struct children *ch)
{
	struct child **at = &ch->list;

	while (*at) {
		struct child *c = *at;

		if (step(ch, c)) {
			*at = c->next;
			settle(ch, c);
		} else {
			at = &c->next;
		}
	}
}

/* Milliseconds until there is something to do without being asked: forever, at once, or soon. */
static int patience(const struct children *ch)
{
	int ms = -1;

	for (const struct child *c = ch->list; c; c = c->next)
		ms = is_due(c) && !c->held ? 0 : ms ? 1 : 0;
	return ms;
}

static void *run(void *arg)
{
	struct children *ch = arg;
	struct pollfd p[2] = { { .fd = ch->asked[0], .events = POLLIN }, { .fd = ch->news, .events = POLLIN } };
	uint64_t n;

	while (!atomic_load(&ch->stop) || ch->list || atomic_load(&ch->newborn)) {
		(void)poll(p, 2, patience(ch));
		if (read(ch->news, &n, sizeof(n)) > 0)
			adopt(ch);
		serve_asked(ch, NULL);
		step_all(ch);
	}
	return NULL;
}

void children_await(struct children *ch)
{
	for (;;) {
		uint32_t seen = atomic_load(&ch->settled);

		if (!atomic_load(&ch->nr_alive))
			return;
		thread_wait(&ch->settled, seen);
	}
}

void children_forget_device(struct children *ch, unsigned index)
{
	memset(&ch->loan[index], 0, sizeof(ch->loan[index]));
}

int children_init(struct children *ch, struct faults *f)
{
	int r = 0;

	ch->faults = f;
	ch->news = ch->tick = ch->asked[0] = ch->asked[1] = -1;
	births_init(ch);
	if (!f->m->sp->uffd.fork_events)
		return 0;
	ch->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ch->tick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ch->news < 0 || ch->tick < 0 || pipe2(ch->asked, O_CLOEXEC | O_NONBLOCK))
		r = -errno;
	if (!r)
		r = mover_init(&ch->mover, f->m);
	if (!r) {
		r = thread_start(&ch->thread, "uhmm-child", run, ch);
		if (r)
			mover_fini(&ch->mover);
	}
	if (r)
		children_fini(ch);
	return r;
}

void children_fini(struct children *ch)
{
	uint64_t one = 1;

	if (!ch->faults)
		return;
	if (ch->thread.stack) {
		atomic_store(&ch->stop, true);
		if (write(ch->news, &one, sizeof(one)) < 0)
			log_say(UHMM_LOG_ERROR, "the thread that serves children of fork cannot be told to end");
		thread_join(&ch->thread);
		mover_fini(&ch->mover);
	}
	for (unsigned i = 0; i < 2; i++)
		if (ch->asked[i] >= 0)
			close(ch->asked[i]);
	if (ch->news >= 0)
		close(ch->news);
	if (ch->tick >= 0)
		close(ch->tick);
	meta_fini(&ch->staged);
}
