/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_MANUAL_H
#define MIGRATE_MANUAL_H

/*
 * Migration by hand (include/uhmm/migrate.h): the same phases as ever, but the program stands between them.
 *
 *   take    manual_take.c   collect and isolate; or, for the way home, claim                by a worker
 *           the program     place and copy, on its own or with what manual_copy.c has
 *   decide  manual_end.c    what has a destination goes, the rest is put back               by a worker
 *           the program     tells its device
 *   end     manual_end.c    install and release                                             by a worker
 *
 * The caller's arrays and its stack may be anywhere in the program, so workers see copies in memory of ours only. A fork waits
 * until no migration is open, and holds nothing up before.
 */

#include "migrate/jobs.h"
#include "migrate/loose.h"
#include "migrate/migrate.h"
#include "uhmm/migrate.h"

#define MAX_MANUALS       64
#define MAX_MANUAL_BLOCKS 256 /* in all of them; of MAX_CLAIMS, and of the window's spare slots */
#define NO_SLOT           UINT32_MAX
#define WHY_NONE          255 /* it migrates */

enum manual_from { FROM_SYSTEM, FROM_DEVICE, FROM_OFFSETS };

/* One block of the program. */
struct manual_piece {
	struct piece p;
	uint32_t slot[PAGES_PER_BLOCK]; /* which entry each page has, or NO_SLOT */
};

struct manual {
	/* constant after manual_open() */
	struct manuals *all;
	struct device *dev;
	pid_t opener;                /* a thread's number */
	enum manual_from from;
	uint32_t select;             /* UHMM_SELECT_* */
	uint64_t start, end;         /* addresses; FROM_OFFSETS: offsets */
	struct { uint64_t start, end; } keep[3]; /* what the caller needs until it can finalize: it stays */
	uint64_t bytes;              /* of this memory */
	char *home;                  /* for the way home of base pages: 2 MiB for each piece, touched where used */
	unsigned max_pieces;
	struct uhmm_mpfn *user_src, *user_dst; /* the caller's, for the API: not for workers */

	/* by one call at a time */
	struct manual_piece *piece;  /* nr_pieces; touched where used */
	uint64_t *offsets;           /* 512 for each: the pieces' folios */
	struct uhmm_mpfn *src, *dst; /* nr_slots each: ours; the API copies them from and to the caller's */
	uint32_t *where;             /* by slot: piece * 512 + page, or NO_SLOT */
	uint8_t *why;                /* by slot: enum uhmm_skip or WHY_NONE */
	unsigned nr_slots, nr_pieces;
	unsigned arms;               /* vma_arm_begin() calls to be ended */
	bool decided;
	struct tally tally;          /* what moved; why the rest stayed is in .why */
	uint8_t reasons[PAGES_PER_BLOCK]; /* of the block being worked on; tally.reasons */
	struct control_words words;
	struct mapping mapping;      /* the last that was looked up */
	int error;                   /* of the last step */
};

/* All of a space. */
struct manuals {
	/* constant after manuals_init() */
	struct migrator *m;
	struct jobs *jobs;

	struct loose loose;
	/* atomic */
	void *_Atomic open[MAX_MANUALS]; /* struct manual or, of work.h, struct work */
	_Atomic pid_t opener[MAX_MANUALS]; /* of each */
	_Atomic uint32_t nr_open;    /* who wants to pause sleeps on it */
	_Atomic uint32_t nr_pausing; /* threads that want none to be open; who has none open waits for them, and sleeps on it */
	_Atomic unsigned nr_blocks;
	_Atomic unsigned nr_on[MAX_DEVICES]; /* open ones, by device */
};

/* Return: 0 or -ENOMEM. */
int manuals_init(struct manuals *ms, struct migrator *m, struct jobs *jobs);
void manuals_fini(struct manuals *ms);

/* Is it an open one? Looks at the address only. */
bool manual_is_open(struct manuals *ms, const void *m);

/*
 * From here on @m counts as open, and a fork waits for it. Return: 0 or -EAGAIN. Context of both: a worker. A thread that is about to
 * ask for it lets those go first that wait for there to be none.
 */
int manuals_enter(struct manuals *ms, void *m, pid_t opener, const struct device *dev);
void manuals_leave(struct manuals *ms, void *m, const struct device *dev);
void manuals_await_pauses(struct manuals *ms, pid_t opener);

/* What devices hold and what lies between two steps, all together; loose folios hold nothing. 0: all is home. */
uint64_t manuals_away(struct manuals *ms);

/* Waits until none is open, and pauses the jobs (jobs_pause()): until jobs_resume() none is opened. */
void manuals_pause(struct manuals *ms);

/* What is wanted of manual_open(). */
struct manual_wish {
	struct device *dev;
	pid_t opener;
	enum manual_from from;
	uint32_t select;
	uint64_t start, end;
	struct { uint64_t start, end; } keep[3];
};

/*
 * Opens one and takes what can move. Return: 0; -EAGAIN, -ENOMEM, or what /proc said: nothing is taken.
 * Context of all below: a thread of the program.
 */
int manual_open(struct manuals *ms, const struct manual_wish *wish, struct manual **ret);

/* Destinations, and copies: for all that has MIGRATE in src. @m->dst is in and out. Return: 0 or -errno. */
int manual_alloc(struct manual *m);
int manual_copy(struct manual *m);

void manual_decide(struct manual *m);
/* Installs, or puts back when nothing was decided. @ret: what was done. The memory stays until manual_free(). */
void manual_end(struct manual *m);
void manual_free(struct manual *m);

/* Where the bytes of an entry are; 0 for one that has none. */
uint64_t manual_host(const struct manual *m, unsigned slot);

/* Base pages that still migrate. */
unsigned manual_nr_going(const struct manual *m);

/* ---- the steps, for workers ---- */

void manual_take(struct mover *mv, void *m);
void manual_alloc_step(struct mover *mv, void *m);
void manual_copy_step(struct mover *mv, void *m);
void manual_decide_step(struct mover *mv, void *m);
void manual_end_step(struct mover *mv, void *m);

/* Where the bytes of a piece are: page @i at i * 4096 from here. 0: none. */
uint64_t manual_piece_host(const struct manual *m, const struct manual_piece *mp);

/* The entry of page @i does not migrate. */
void manual_stays(struct manual *m, struct manual_piece *mp, unsigned i, enum uhmm_skip why);

static inline bool mpfn_has(struct uhmm_mpfn e, uint64_t flag) { return e.bits & flag; }

static inline struct uhmm_mpfn mpfn_on_device(uint64_t offset, unsigned order)
{
	return (struct uhmm_mpfn){ uhmm_mpfn_host(order).bits | UHMM_MPFN_DEVICE_PRIVATE | offset };
}

#endif
