/* SPDX-License-Identifier: MIT */
#ifndef SPACE_SPACE_H
#define SPACE_SPACE_H

/*
 * The process's address space as uhmm sees it: the userfaultfd that watches it, the table that says where each page lives,
 * and the gate that keeps events and moves apart. One per process; it lies in memory of our own.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/gate.h"
#include "base/lock.h"
#include "mem/stamp.h"
#include "mem/table.h"
#include "os/procmap.h"
#include "os/uffd.h"
#include "space/counters.h"
#include "space/notify.h"

struct claim;
#define MAX_DEPARTED 32 /* threads that are between two messages of one mremap */
#define MAX_CLAIMS 8192 /* 64 workers with two batches of 32 pieces each, and 65 readers with two */
#define NR_LEFT 1024 /* blocks within 2 GiB do not share a count */

struct space {
	/* constant after space_init() */
	struct uffd uffd;
	struct procmap procmap;
	int pagemap_fd;
	int tasks_fd; /* has one position: read under tasks_lock */
	pid_t pid;
	uint64_t canary; /* a watched page that is always there: uffd_held_up() */

	struct lock tasks_lock; /* rank LEAF */
	struct table table;
	struct stamps faulted; /* when a CPU last faulted in each block */
	struct gate gate;

	/* Grows with every unmap and remap event, inside the gate: who armed a range at one value and finds another inside
	 * the gate may be looking at a different mapping, and arms again. */
	_Atomic uint64_t event_seq;

	/* mremaps whose own UNMAP of the old place is still to come (fault/events.c). Inside the gate: changed on the side of
	 * events; movers look whether there are any, and say that none is to come any more */
	struct {
		struct departed {
			uint64_t start, end;
		} at[MAX_DEPARTED];
		unsigned nr;
		atomic_bool over;
	} departed;

	/* rank SPACE: taken to disarm a range, and (shared use is enough, but it is short) to arm one */
	struct lock arm_lock;
	/* atomic: threads between arming a range and their last install into it; disarming needs 0 */
	_Atomic uint32_t nr_arming;

	/* atomic: claims that are held, by the slot that their tokens name (migrate/claim.h) */
	struct claim *_Atomic claims[MAX_CLAIMS];
	_Atomic uint64_t last_claim;

	/* atomic: how often a page of the block left Linux's hands, by the block's number: space_leaves() */
	_Atomic uint32_t left[NR_LEFT];

	/* atomic: the system's mTHP settings when they were last read, at mthp_read_ns; 0: never (vma.c) */
	_Atomic uint64_t mthp_read_ns;
	_Atomic uint32_t mthp;

	/* Constant while anything is watched; may be NULL. Told of every place whose page goes elsewhere, is dropped or about to be:
	 * after it has been claimed, before its bytes go. @owner: the device that takes it, 0 for none. Context: any thread, fault
	 * thread, inside the gate or not; no lock held. */
	void (*changed)(void *ctx, uint64_t start, uint64_t end, unsigned owner);
	void *changed_ctx;

	/* and the program's own, told of the same after that */
	struct notifiers notifiers;

	/* atomic; NULL while there is none */
	const struct space_policy *_Atomic policy;

	struct counters counters;
};

/*
 * Who watches over the process's memory (src/policy) is asked before the program gets more of it, and told what has come.
 * Context of both: fault thread, no lock held, outside the gate. A space_policy lives as long as the space.
 */
struct space_policy {
	/* Memory is about to be taken for a page of the program; @thp: as one THP, for which a recycled one does. May wait for other
	 * threads to make room, not for ever. */
	void (*admit)(void *ctx, uint64_t bytes, bool thp);
	/* Shall a block of nothing be filled as one THP? Its own advice says no more than that it may. */
	bool (*wants_huge)(void *ctx, uint64_t block);
	/* The page at @addr is on a device and has been touched: pages [*ret_first, *ret_end) of its block come home with it. */
	void (*reach)(void *ctx, uint64_t addr, unsigned *ret_first, unsigned *ret_end);
	/* It has been touched while it is on its way. */
	void (*met)(void *ctx, uint64_t addr);
	/* @pages pages at @addr have been touched while they were away, and are there now: one, some, or the whole block. */
	void (*arrived)(void *ctx, uint64_t addr, unsigned pages);
	void *ctx;
};

static inline void space_admit(struct space *sp, uint64_t bytes, bool thp)
{
	const struct space_policy *p = atomic_load_explicit(&sp->policy, memory_order_acquire);

	if (p)
		p->admit(p->ctx, bytes, thp);
}

static inline bool space_wants_huge(struct space *sp, uint64_t block)
{
	const struct space_policy *p = atomic_load_explicit(&sp->policy, memory_order_acquire);

	return p && p->wants_huge(p->ctx, block);
}

/* Return: false when nobody has an opinion. */
static inline bool space_reach(struct space *sp, uint64_t addr, unsigned *ret_first, unsigned *ret_end)
{
	const struct space_policy *p = atomic_load_explicit(&sp->policy, memory_order_acquire);

	if (p)
		p->reach(p->ctx, addr, ret_first, ret_end);
	return p;
}

static inline void space_met(struct space *sp, uint64_t addr)
{
	const struct space_policy *p = atomic_load_explicit(&sp->policy, memory_order_acquire);

	if (p)
		p->met(p->ctx, addr);
}

static inline void space_arrived(struct space *sp, uint64_t addr, unsigned pages)
{
	const struct space_policy *p = atomic_load_explicit(&sp->policy, memory_order_acquire);

	if (p)
		p->arrived(p->ctx, addr, pages);
}

static inline void space_changed(struct space *sp, uint64_t start, uint64_t end, unsigned owner)
{
	if (sp->changed)
		sp->changed(sp->changed_ctx, start, end, owner);
	notify_changed(&sp->notifiers, start, end, owner);
}

/*
 * Words of the block have gone from SYSTEM to something else. Called after that and before anything follows from it: before
 * bytes go, and before the words can be SYSTEM again (space/look.h).
 */
static inline void space_leaves(struct space *sp, uint64_t addr)
{
	atomic_fetch_add_explicit(&sp->left[(addr >> BLOCK_SHIFT) % NR_LEFT], 1, memory_order_release);
}

static inline uint32_t space_left(const struct space *sp, uint64_t addr)
{
	return atomic_load_explicit(&sp->left[(addr >> BLOCK_SHIFT) % NR_LEFT], memory_order_acquire);
}

/* A MOVE or a COPY has succeeded: no message was unread, so no mremap is between its two. Context: inside the gate. */
static inline void space_no_message_was_unread(struct space *sp)
{
	if (sp->departed.nr)
		atomic_store_explicit(&sp->departed.over, true, memory_order_relaxed);
}

/* @mode: see uffd_open(). Return: 0 or -errno, nothing left behind; the log has a sentence. */
int space_init(struct space *sp, enum uffd_open_mode mode);

/* Closes the userfaultfd. Only when all is home and nothing of the program is watched. */
void space_stop(struct space *sp);
void space_fini(struct space *sp);

#endif
