/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_MIGRATE_H
#define MIGRATE_MIGRATE_H

/*
 * Moving pages. To a device, one block goes through six phases, a file each, in this order:
 *
 *   collect   claim the block's pages, and see what each is: a THP, base pages, holes
 *   isolate   MOVE them out of the program into a staging slot
 *   place     take folios of the device
 *   copy      staging -> device
 *   install   the entries say DEVICE; who waited looks again
 *   release   staging and unused folios go back; what did not make it is put back where it was
 *
 * Home (home.c) is shorter: claim, copy out, install into the program, free the folios. The same code serves
 * uhmm_to_system() and CPU faults. So is the way on, from one device to the next (onward.c).
 *
 * A mover is what one thread needs to do this: it is made when the thread starts, so that nothing is allocated later.
 */

#include "base/pageset.h"
#include "device/device.h"
#include "migrate/claim.h"
#include "migrate/folios.h"
#include "migrate/staging.h"
#include "space/space.h"
#include "uhmm/space.h"

#define MAX_DEVICES 256

/* What all movers of a space share. */
struct migrator {
	/* constant after migrator_init() */
	struct space *sp;
	struct staging staging;

	/* atomic: by index, 1..255; set before the first entry names it, cleared after the last one */
	struct device *_Atomic devices[MAX_DEVICES];

	bool checks; /* UHMM_DEBUG=2 */
};

int migrator_init(struct migrator *m, struct space *sp, uint64_t pool_bytes);
void migrator_fini(struct migrator *m);

static inline struct device *migrator_device(struct migrator *m, unsigned index)
{
	return atomic_load_explicit(&m->devices[index], memory_order_acquire);
}

/* On all devices together. A folio is freed after its bytes have been installed: while this is 0 nothing is away. */
uint64_t migrator_used_bytes(struct migrator *m);

/* What came of a migration. Pages are base pages. */
struct tally {
	uint64_t moved_folios[NR_ORDERS];
	uint64_t cleared_pages;
	uint64_t dropped_pages;    /* evicted: they were all zeros, and are holes again */
	uint64_t returned_pages;   /* evicted: somebody wanted them before they had gone */
	uint64_t skipped[UHMM_NR_SKIPS];
	int error;                 /* the first error of a driver or of the system */
	uint8_t *reasons;          /* NULL, or 512: why each page of the block being worked on stays */
};

static inline void tally_skip(struct tally *t, enum uhmm_skip why, uint64_t pages) { t->skipped[why] += pages; }

/* The same for pages of one block. */
static inline void tally_pages(struct tally *t, enum uhmm_skip why, const struct pageset *pages)
{
	t->skipped[why] += pageset_count(pages);
	if (t->reasons)
		pageset_for_each(pages, i)
			t->reasons[i] = (uint8_t)why;
}

void tally_merge(struct tally *into, const struct tally *t);

enum piece_kind {
	PIECE_HUGE,  /* one THP -> one folio of order 9 */
	PIECE_CLEAR, /* 2 MiB of holes -> one folio of order 9, cleared */
	PIECE_PAGES, /* base pages, holes among them; or what cannot be one folio of order 9 -> smaller folios */
};

/*
 * The pages of one block on their way to a device.
 *   copy and clear are disjoint, and together are claim.mine, less what has been put back.
 */
struct piece {
	bool busy;
	struct claim claim;
	enum piece_kind kind;
	struct pageset copy;      /* have bytes; once isolated, in slot, each at its own offset in the block */
	struct pageset clear;     /* have none */
	struct pageset zero;      /* of copy, until isolated: mapped the zero page when we looked */
	bool evict;               /* what has no bytes stays a hole (evict.c), */
	bool may_return;          /* and what is wanted before it has gone may come back */
	bool from_huge;           /* was one of the other kinds: may be any orders on the device */
	unsigned limit;           /* the caller's largest order + 1; 0: none was said */
	uint32_t mthp;            /* orders that base pages of its mapping may have on the host, a bit for each */
	bool read_only;           /* its mapping is, and is made writable while pages are taken */
	uint64_t seq;             /* event_seq when the range was armed, before the pages were looked at */
	uint64_t slot;            /* staging; 0 if there is none */
	enum { SLOT_EMPTY, SLOT_THP, SLOT_DIRTY } slot_holds;
	struct device *dev;
	struct folios folios;     /* the device's */
	uint64_t fence;           /* of the copy in flight */
	int copy_error;
};

struct mover {
	struct migrator *m;
	char *bounce;             /* 2 MiB: home pages that come back as base pages pass through here */
	struct uhmm_seg *segs;    /* 512 */
	struct folios folios;     /* for home, and for what moves on: where it comes from */
	struct folios onward;     /* where it goes */
	atomic_bool serving;      /* a toucher waits for what it does; relaxed: false before he is woken */
};

/* Who waited for it is about to be woken. */
static inline void mover_served(struct mover *mv)
{
	atomic_store_explicit(&mv->serving, false, memory_order_relaxed);
}

/* Addresses in pages that must not leave, because the kernel writes there when a thread ends (os/tasks.h). */
#define MAX_CONTROL_WORDS 8192

struct control_words {
	uint64_t *at;
	unsigned nr;
};

/*
 * Pieces that one worker has isolated, for all workers to copy. Isolating a THP costs 1 us while the other CPUs sleep and
 * 15 us and more while they run this program (the kernel interrupts each of them to flush its TLB, docs/migration.md): so
 * the pieces of a batch are isolated in one go, and then copied by everybody.
 */
#define BATCH_PIECES 32 /* 64 MiB: a touch of an isolated block waits for milliseconds at most */

struct batch {
	struct piece piece[BATCH_PIECES];
	struct control_words words; /* of threads that live when the batch is begun */
	bool read_only_too, evict; /* set by who fills it, */
	unsigned limit;           /* and this, as piece.limit */
	unsigned nr;              /* filled */
	unsigned taken, done;     /* done <= taken <= nr */
	uint8_t turn[BATCH_PIECES]; /* the order in which they are taken: those that are wanted first (batch_take()) */
	unsigned arms;            /* vma_arm_begin() calls to be ended with the batch */
};

/* Under UHMM_DEBUG=2: every entry must be right (mem/check.h), or the process ends. */
void migrator_check(struct migrator *m);

int mover_init(struct mover *mv, struct migrator *m);
void mover_fini(struct mover *mv);

/* The pages that must not leave because threads end there. Return: 0 or -errno, said. */
int find_control_words(struct space *sp, struct control_words *ret, uint64_t start, uint64_t end);

/* Memory for the folios of the pieces of a batch. Return: 0 or -ENOMEM. */
int batch_init(struct batch *b);
void batch_fini(struct batch *b);

/*
 * collect and isolate: fills @b with pieces of [start, end) that go to @dev, arming their mappings.
 * Return: where it stopped: @end, or earlier because the batch is full or something failed (t->error).
 */
uint64_t batch_fill(struct mover *mv, struct batch *b, uint64_t start, uint64_t end, struct device *dev, struct tally *t);

/* The next piece, of those that are left. */
struct piece *batch_take(struct batch *b);

/* All pieces are done: the mappings may be disarmed again. */
void batch_end(struct mover *mv, struct batch *b);

/* place, and copy as far as the device does it at once. */
void piece_start(struct mover *mv, struct piece *p, struct tally *t);
/* copy to its end, install, release. */
void piece_finish(struct mover *mv, struct piece *p, struct tally *t);

/* Brings home what of [start, end) is on @dev (NULL: on any). Context: a library thread. */
void migrate_to_system(struct mover *mv, uint64_t start, uint64_t end, struct device *dev, struct tally *t);

enum home_outcome {
	HOME_NOTHING = 1, /* nothing of it is on a device (any more) */
	HOME_NO_MEMORY,   /* the host has no memory for it; what is left is still on the device */
};

/*
 * Brings home what of pages [first, end) of one block lies on one device, as a THP where it left as one, and nothing else:
 * folios that reach beyond are split.
 * @dev: NULL: the device that the first of them is on
 * @moved: folios by order are added here
 * Return: 0; an outcome above; -errno of the driver, after some tries: it is still on the device.
 * Context: a library thread or a fault thread. All who waited have been woken.
 */
int home_block(struct mover *mv, uint64_t addr, unsigned first, unsigned end, struct device *dev, uint64_t *moved);
/* The same for the folio that page @i of the block is on, all of it. */
int home_folio(struct mover *mv, uint64_t addr, unsigned i, uint64_t *moved);

/* For these: the claimed @pages, in mv->folios of @dev, stay there, and their claim ends. */
void stay_on_device(struct mover *mv, struct claim *c, struct device *dev, const struct pageset *pages);

/* ---- from one device to another: onward.c ---- */

enum onward_outcome {
	ONWARD_NOTHING = 1, /* nothing of it is on @from (any more), or a child borrows from that */
	ONWARD_NO_ROOM,     /* @to has no folios for it; all of it is where it was */
};

/*
 * Moves what of the block at @addr is on @from to @to, in folios as large as they were if @to has such.
 * @moved: folios by the orders that they have on @to are added here
 * Return: 0; an outcome above; -errno of a driver: all of it is still on @from.
 * Context: a library thread. All who waited have been woken.
 */
int onward_block(struct mover *mv, uint64_t addr, struct device *from, struct device *to, uint64_t *moved);

/* The same for all blocks that begin in [start, end), until one of them cannot (t->skipped, t->error). */
void migrate_onward(struct mover *mv, uint64_t start, uint64_t end, struct device *from, struct device *to, struct tally *t);

/* ---- splitting in place: split.c ---- */

/*
 * Gives each page of the block at @addr its own word; a folio of order 9 becomes the largest below that its device takes.
 * Return: 0 or -ENOMEM, nothing changed. Context: any thread, fault thread; no lock held.
 */
int split_block(struct migrator *m, uint64_t addr);
/* The same with the block's lock held; @words is a table taken before with meta_alloc(), and is used up on success. */
int split_block_locked(struct migrator *m, struct entry_slot *b, struct entry_slot *words);

/* Splits the block, and folios until none reaches across @first or @end. Return and Context: as split_block(). */
int split_range(struct migrator *m, uint64_t addr, unsigned first, unsigned end);

/* Of a block that has a table; the block's lock is held. Until no folio reaches across the start of page @i (512: no-op): */
void split_before_locked(struct migrator *m, struct entry_slot *words, unsigned i);
/* The folio that page @i is on becomes several of @order, which is less. */
void split_folio_locked(struct migrator *m, struct entry_slot *words, unsigned i, unsigned order);

/* ---- the phases ---- */

/* @seq: when the range was armed. Return: does the piece hold anything? */
bool collect_block(struct mover *mv, struct piece *p, uint64_t addr, unsigned first, unsigned end, struct device *dev,
	     uint64_t seq, const struct control_words *words, struct tally *t);
/* Pages that cannot go leave the claim. */
void isolate_pages(struct mover *mv, struct piece *p, struct tally *t);
/* For eviction: holes stay; and pages that turn out to be all zeros become holes. */
void evict_trim(struct piece *p, struct tally *t);
void evict_zeros(struct piece *p, struct tally *t);
/* What somebody waits for goes back into the program. @placed: it has folios, which are freed. */
void evict_return(struct piece *p, bool placed, struct tally *t);
void place_folios(struct mover *mv, struct piece *p, struct tally *t);
void copy_start(struct mover *mv, struct piece *p);
void copy_finish(struct mover *mv, struct piece *p, struct tally *t);
void install_piece(struct mover *mv, struct piece *p, struct tally *t);
void release_piece(struct mover *mv, struct piece *p);

/*
 * Segments for the pages of @set, which lie at their own offsets from @host; neighbours on both sides share one.
 * @segs: 512. Return: how many.
 */
unsigned copy_segments(struct uhmm_seg *segs, const struct folios *f, const struct pageset *set, uint64_t host);

/* Device to memory of our own, finished on return: @pages, each to its own offset from @to. Return: 0 or -errno. */
int copy_out(struct mover *mv, struct device *dev, const struct folios *f, const struct pageset *pages, uint64_t to);

/* Puts pages of a piece back into the program: what MOVE has taken out returns, holes are holes again. */
void install_back(struct piece *p, const struct pageset *pages);

/*
 * Ends the claim of @pages: they are on @dev now, in @f. Folios of pages that the program has dropped meanwhile are freed.
 * @ret_installed: the others
 * Return: 0; -ENOMEM when an event has split the block and the folio could not follow: nothing has changed.
 */
int install_device(struct claim *c, struct device *dev, struct folios *f, const struct pageset *pages,
		   struct pageset *ret_installed);

/*
 * Installs @pages of @c from memory of our own into the program and ends their claim as SYSTEM. Each lies at its own
 * offset from @from. Pages that the program has dropped meanwhile are not installed, but ended too.
 * @may_move: @from is a staging slot: its pages are given away rather than copied
 * @ret_left: pages for which the host had no memory; still claimed
 * Return: the block arrived whole, by one MOVE. Nobody has been woken: that is the caller's business, when all is done.
 */
bool install_home(struct claim *c, const struct pageset *pages, uint64_t from, bool may_move, struct pageset *ret_left);

/* While an event is unread nothing can be moved, and its reader may lack a CPU: that is waited for. But no longer than until
 * so many messages have been read: a program that raises one event after another does not hold up a page for ever. */
#define MAX_MESSAGES 10000

/*
 * After install_home() of @pages, which were in mv->folios of @dev: folios of what left the device are freed, @left stays on it and
 * its claim ends. @as_pages: what was one folio of order 9 has come as base pages, and counts as those. @moved: folios by order are
 * added. Return: 0 or HOME_NO_MEMORY when something stayed.
 */
int home_settle(struct mover *mv, struct claim *c, struct device *dev, const struct pageset *pages, const struct pageset *left,
		bool as_pages, uint64_t *moved);

/* May what looked like holes be something else? To be asked before holes are installed as what was cleared. */
bool holes_are_stale(struct space *sp, const struct piece *p);

/* Is the block one THP now? */
bool is_huge(struct space *sp, uint64_t block);

/*
 * A block has come home by base pages, all of it: makes a THP of them, if the kernel can. Nothing depends on it: whoever owns
 * the block by now sees the same bytes under the same protection.
 */
void make_huge_again(struct space *sp, uint64_t block);

/* Pages of a piece that are not isolated yet, or were holes, leave it and stay in the program. */
void release_pages(struct piece *p, const struct pageset *pages, enum uhmm_skip why, struct tally *t);

#endif
