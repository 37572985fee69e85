/* SPDX-License-Identifier: MIT */
/*
 * A CPU has touched a page that is not there:
 *
 *   1 look the page up                     table
 *   2 on a device: bring it home           migrate/home.c; its folio, or below a limit as much as policy/reach.c says
 *     on its way:  say that somebody waits, and forget it: who moves it wakes the toucher
 *     in Linux's hands: a hole of watched memory: fill it, as the kernel would have
 *   3 the toucher goes on: installing wakes it
 *
 * Two touches of one block meet in step 2: the second finds MIGRATING, and costs no second copy.
 *
 * A device that cannot give the bytes back, asked COPY_TRIES times, loses the page but not the program: the page is
 * poisoned, so the toucher gets SIGBUS (a system call: EFAULT), never zeros. The bytes stay on the device, and
 * uhmm_to_system() may ask for them again.
 */
#include "fault/fault.h"

#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "os/pagemap.h"

static const char zero_page[PAGE_BYTES] __attribute__((aligned(4096)));

/* ---- a hole of watched memory ---- */

/*
 * The kernel fills a hole whoever watches it. In a child that is still given what was away, mremap may have put such memory down
 * here since the touch was read, and that is the parent's to fill. Context: inside the gate.
 */
static bool may_be_anothers(struct space *sp, const struct uffd_message *msg)
{
	return msg->seq != atomic_load(&sp->event_seq) && pace_is_served();
}

/* Fills one page of a claim and ends the claim, inside the gate. Return: the outcome of the filling. */
static int fill_page(struct reader *rd, struct claim *c, const struct uffd_message *msg)
{
	struct space *sp = c->sp;
	unsigned i = page_in_block(msg->start);
	uint64_t block = c->addr, at = block + i * PAGE_BYTES, done;
	struct pageset dead;
	bool gone;
	int r = 0;

	for (unsigned tries = 0;; tries++) {
		claim_enter(c);
		claim_look(c, &dead);
		gone = pageset_has(&dead, i) || pageset_has(&c->moved, i) || c->addr != block || may_be_anothers(sp, msg);
		if (!gone) {
			/* a store would fault again on the zero page: it gets a page of its own at once */
			if (msg->write)
				r = uffd_copy(&sp->uffd, at, zero_page, PAGE_BYTES, UFFD_DONTWAKE, &done);
			else
				r = uffd_zeropage(&sp->uffd, at, PAGE_BYTES, UFFD_DONTWAKE);
		}
		if (r != UFFD_E_AGAIN)
			break;
		claim_leave(c);
		if (tries > 3)
			sched_yield(); /* an unread event: its reader needs the gate */
		r = 0;
	}
	if (claim_end_system(c, &c->mine, true))
		claim_wake(c);
	claim_leave(c);
	mover_served(&rd->mover);
	uffd_wake(&sp->uffd, at, PAGE_BYTES); /* not before the end of the claim: claim.h */
	return r;
}

/* A whole block of nothing, in a mapping that may have THPs: the kernel would have made one, so do we. */
static bool fill_huge(struct reader *rd, struct claim *c)
{
	struct staging *st = &rd->faults->m->staging;
	struct pageset left;
	uint64_t slot;
	bool whole;

	if (!c->whole || !(entry_has(entry_get(c->block), ENTRY_HUGE) || space_wants_huge(c->sp, c->addr)))
		return false;
	if (pagemap_uniform(c->sp->pagemap_fd, c->addr, c->addr + BLOCK_BYTES) != 0)
		return false;
	slot = staging_take_zeroed(st);
	if (!slot)
		return false;
	whole = install_home(c, &pageset_all, slot, true, &left);
	if (!pageset_empty(&left))
		(void)claim_end_system(c, &left, true); /* no memory: the toucher asks again */
	claim_wake(c);
	if (whole)
		staging_put_empty(st, slot);
	else
		staging_put_dirty(st, slot);
	return true;
}

/*
 * A touch of a page whose discard was announced. If it is gone, the discard has happened for it, and for a whole block if all
 * of that is gone. If it is there, the message is an old one - its toucher has been served by another - and the discard is
 * still to come: the mark stays, or the page could leave for a device and escape it. Inside the gate, so that no other
 * discard is announced between the look and the deed. Return: it was gone, and there was memory to say so.
 */
static bool forget_zap(struct space *sp, struct entry_slot *b, uint64_t addr)
{
	uint64_t block = block_down(addr);
	bool gone, all_gone;
	struct entry_slot *s;

	gate_enter(&sp->gate, GATE_MOVES);
	all_gone = pagemap_uniform(sp->pagemap_fd, block, block + BLOCK_BYTES) == 0;
	gone = all_gone || pagemap_uniform(sp->pagemap_fd, addr, addr + PAGE_BYTES) == 0;
	block_lock(b);
	if (gone && !all_gone && entry_state(entry_get(b)) == ENTRY_SYSTEM)
		gone = !block_split(&sp->table, b);
	if (gone && entry_state(block_page(b, page_in_block(addr), &s)) == ENTRY_SYSTEM)
		entry_set(s, entry_system());
	block_unlock(b);
	gate_leave(&sp->gate, GATE_MOVES);
	return gone;
}

/*
 * The message may be an old one: another has served the toucher since. No claim then, which would take the page, or the THP that it
 * is in, out of the hands of whoever is about to move it.
 */
static bool is_there(struct space *sp, uint64_t addr)
{
	return pagemap_uniform(sp->pagemap_fd, addr, addr + PAGE_BYTES) > 0;
}

static void fill(struct reader *rd, struct entry_slot *b, const struct uffd_message *msg, struct entry page)
{
	struct space *sp = rd->faults->m->sp;
	unsigned i = page_in_block(msg->start);
	bool whole = entry_state(entry_get(b)) != ENTRY_TABLE;
	struct claim_misses misses;
	struct claim c;
	int r;

	if (entry_has(page, ENTRY_ZAP) ? !forget_zap(sp, b, msg->start) : is_there(sp, msg->start)) {
		counter_add(&sp->counters.fault_stale, 1);
		uffd_wake(&sp->uffd, msg->start, PAGE_BYTES); /* without memory it asks again */
		return;
	}
	r = claim_system(&c, sp, block_down(msg->start), whole ? 0 : i, whole ? PAGES_PER_BLOCK : i + 1, &misses);
	if (r || (!c.whole && !pageset_has(&c.mine, i))) {
		/* somebody was faster; let the toucher look again, and the message that follows finds the new state */
		if (!claim_empty(&c))
			(void)claim_end_system(&c, &c.mine, true);
		uffd_wake(&sp->uffd, block_down(msg->start), BLOCK_BYTES);
		return;
	}
	if (fill_huge(rd, &c)) {
		counter_add(&sp->counters.fault_zero, 1);
		space_arrived(sp, msg->start, PAGES_PER_BLOCK);
		return;
	}
	r = fill_page(rd, &c, msg);
	space_arrived(sp, msg->start, 1);
	counter_add(r == UFFD_E_EXISTS ? &sp->counters.fault_stale : &sp->counters.fault_zero, 1);
	if (r < 0 || r == UFFD_E_REFUSED)
		log_once(UHMM_LOG_ERROR, "a hole at 0x%llx cannot be filled (%d)", (unsigned long long)msg->start, r);
	if (r)
		sched_yield();
}

/* ---- a page on a device ---- */

/* The bytes cannot be had: this page raises SIGBUS from now on, the rest of its folio does not. */
static void lose_page(struct reader *rd, uint64_t addr, int error)
{
	struct migrator *m = rd->faults->m;
	struct entry_slot *b = table_block(&m->sp->table, addr, false), *s;
	int r = UFFD_E_AGAIN;
	struct entry e;
	bool here;

	while (split_range(m, block_down(addr), page_in_block(addr), page_in_block(addr) + 1))
		sched_yield();
	/* inside the gate: a page that says it is lost is poisoned, also for a child that is born now (birth.c) */
	while (r == UFFD_E_AGAIN) {
		gate_enter(&m->sp->gate, GATE_MOVES);
		e = table_peek(&m->sp->table, addr);
		here = entry_state(e) == ENTRY_DEVICE && !entry_order(e);
		if (here)
			r = uffd_poison(&m->sp->uffd, addr, PAGE_BYTES);
		block_lock(b);
		if (r != UFFD_E_AGAIN && block_page(b, page_in_block(addr), &s).bits == e.bits)
			entry_mark(s, ENTRY_LOST, 0);
		block_unlock(b);
		gate_leave(&m->sp->gate, GATE_MOVES);
		if (!here) { /* dropped by the program, or brought home by somebody: ask again */
			uffd_wake(&m->sp->uffd, addr, PAGE_BYTES);
			return;
		}
	}
	counter_add(&m->sp->counters.fault_lost, 1);
	log_say(UHMM_LOG_ERROR, "the page at 0x%llx cannot be read back from device %s, offset 0x%llx (%s): whoever touches it "
				"gets SIGBUS; uhmm_to_system() tries again", (unsigned long long)addr,
		migrator_device(m, entry_device(e))->spec, (unsigned long long)entry_offset(e), strerrordesc_np(-error));
	if (r)
		uffd_wake(&m->sp->uffd, addr, PAGE_BYTES);
}

static void come_home(struct reader *rd, const struct uffd_message *msg, struct entry e)
{
	struct space *sp = rd->faults->m->sp;
	uint64_t block = block_down(msg->start), moved[NR_ORDERS] = { 0 };
	unsigned i = page_in_block(msg->start), first = folio_head(i, entry_order(e)), end = first + order_pages(entry_order(e));
	struct device *dev = migrator_device(rd->faults->m, entry_device(e));
	bool cut = space_reach(sp, msg->start, &first, &end);
	int r = HOME_NOTHING;

	/* smaller folios come into memory of their own, also when they are all of the block */
	space_admit(sp, (end - first) * PAGE_BYTES, entry_order(e) == BLOCK_ORDER && end - first == PAGES_PER_BLOCK);
	if (cut)
		r = home_block(&rd->mover, block, first, end, dev, moved);
	/* nobody has said how much; or it lies elsewhere by now; or it shall not fail because of its neighbours */
	if (r == HOME_NOTHING || r < 0)
		r = home_folio(&rd->mover, block, i, moved);
	for (unsigned k = 0; k < NR_ORDERS; k++)
		if (moved[k])
			counter_add(&sp->counters.fault_folios[k], moved[k]);
	if (!r)
		space_arrived(sp, msg->start, end - first);
	if (r == HOME_NO_MEMORY)
		sched_yield(); /* as the kernel does without memory: the toucher tries again, and the OOM killer decides */
	else if (r < 0)
		lose_page(rd, msg->start, r);
	/* it is on no device any more, or nobody has brought it; its neighbours may have come without it */
	if (r > 0 || cut)
		uffd_wake(&sp->uffd, msg->start, PAGE_BYTES);
}

/* ---- the path ---- */

void fault_handle(struct reader *rd, const struct uffd_message *msg)
{
	struct space *sp = rd->faults->m->sp;
	struct entry_slot *b = table_block(&sp->table, msg->start, true), *s;
	uint64_t began = clock_ns();
	struct entry e;
	bool huge;

	counter_add(&sp->counters.faults, 1);
	stamps_set(&sp->faulted, msg->start, began);
	if (!b) {
		uffd_wake(&sp->uffd, msg->start, PAGE_BYTES);
		return;
	}
	block_lock(b);
	e = block_page(b, page_in_block(msg->start), &s);
	if (entry_state(e) == ENTRY_MIGRATING) {
		entry_mark(s, ENTRY_WAITERS, 0);
		atomic_store_explicit(&claim_of(sp, e)->wanted, true, memory_order_relaxed);
	}
	block_unlock(b);

	switch (entry_state(e)) {
	case ENTRY_DEVICE:
		come_home(rd, msg, e);
		break;
	case ENTRY_MIGRATING:
		counter_add(&sp->counters.fault_joined, 1);
		space_met(sp, msg->start);
		return;
	default:
		huge = s == b && (entry_has(e, ENTRY_HUGE) || space_wants_huge(sp, block_down(msg->start)));
		space_admit(sp, huge ? BLOCK_BYTES : PAGE_BYTES, huge);
		fill(rd, b, msg, e);
	}
	hist_add(&sp->counters.fault_ns, clock_ns() - began);
}
