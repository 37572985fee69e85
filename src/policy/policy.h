/* SPDX-License-Identifier: MIT */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

/*
 * A limit for what the process holds (include/uhmm/policy.h).
 *
 *   0 ............ low ....... high ....... hard == limit - reserve
 *                  |           |            growth waits: admit() in policy.c
 *                  |           blocks begin to leave
 *                  until here
 *
 * Growth can be held up only where a fault thread serves it, so before it matters every mapping is armed (watch.c). Until then
 * the kernel serves first touches, and the policy costs one look in some milliseconds.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "migrate/coldest.h"
#include "migrate/jobs.h"
#include "migrate/migrate.h"
#include "os/libs.h"
#include "os/rss.h"
#include "os/thread.h"
#include "policy/heat.h"
#include "policy/reach.h"
#include "uhmm/policy.h"

#define MAX_ADVISED 256 /* mappings that are remembered as advised to be huge */
#define MAX_WORDS   1024
#define GATHER_MAX  64
#define MAX_LIBS    256

/* Addresses in control blocks of threads: their stacks stay. */
struct thread_words {
	uint64_t at[MAX_WORDS];
	unsigned nr;
};

struct policy {
	/* constant after policy_start() */
	struct space *sp;
	struct migrator *m;
	struct jobs *jobs;
	uint32_t flags;
	unsigned nr_devices;
	struct device *device[UHMM_POLICY_DEVICES_MAX];
	uhmm_policy_round_fn *round;
	void *round_ctx;
	int rss_fd, tasks_fd[2];  /* the watcher's and the evictor's: it has a position */
	uint64_t main_stack;      /* an address in it */
	struct lib_data lib[MAX_LIBS]; /* of libraries loaded before; what is loaded later is small, and none of ours */
	unsigned nr_libs;
	struct thread watcher, evictor;
	struct space_policy hooks;
	struct heat heat;
	struct reach reach;
	struct stamps left;       /* when the policy last sent something of each block away; used with several devices */

	/* atomic: between the policy's thread and those who wait for room */
	_Atomic int64_t room;     /* bytes that may still come before somebody looks again */
	_Atomic int64_t mercy;    /* bytes that may come though there is no room, since nothing can leave */
	_Atomic uint32_t looked;  /* grows with each look; waiters sleep on it */
	_Atomic uint32_t bell;    /* grows when it is time to look; the watcher sleeps on it */
	_Atomic uint32_t short_of; /* grows when blocks shall leave; the evictor sleeps on it */
	_Atomic unsigned nr_waiting;
	atomic_bool hopeless;     /* nothing can leave: nobody shall wait */
	atomic_bool touching;     /* the evictor itself touches memory: who waited now could wait for it */
	atomic_bool stop, running;
	_Atomic uint32_t never; /* for sleeping a while, unless it is stopped */

	_Atomic uint64_t spare;   /* to be left free for a child that is about to be born */

	/* atomic, written by the watcher */
	_Atomic uint64_t limit, hard, high, low;

	/* the evictor alone */
	uint64_t hand;            /* of the clock */
	uint64_t full_until_ns[UHMM_POLICY_DEVICES_MAX];
	uint64_t onward_until_ns[UHMM_POLICY_DEVICES_MAX]; /* nothing could move on from it */
	struct thread_words evictor_words;

	/* the watcher alone */
	uint64_t limit_bytes;     /* asked for */
	uint64_t seen_stuck;      /* when more was last allowed to come */
	bool was_bounded;         /* this process was still being given something by its parent */
	bool armed;               /* everything is, and new mappings shall be */
	bool maps;                /* the last look found more mapped than the one before */
	uint64_t seen_mapped;     /* of rss.mapped_bytes, when mappings were last looked through */
	struct range advised[MAX_ADVISED];
	unsigned next_advised;
	struct thread_words watcher_words;

	/* atomic, written by the evictor: which device it waits for (from 1), and since when */
	_Atomic uint64_t busy_device, busy_since_ns;

	/* atomic, relaxed: counters, the first to the last */
	_Atomic uint64_t resident, resident_max, rounds, laps, evicted_bytes, zero_bytes, ahead_bytes, returned_bytes, waits, wait_ns,
		over, stuck, onward_bytes, full;
};

/* @opts: checked; @devices: of @m. @p: zeroed memory of our own, which lives as long as the space. Return: 0 or -errno. */
int policy_start(struct policy *p, struct migrator *m, struct jobs *jobs, const struct uhmm_policy_opts *opts,
		 struct device *const *devices);
/* Accepts one that was never started. */
void policy_stop(struct policy *p);
void policy_stats(struct policy *p, struct uhmm_policy_stats *ret);

/* Has the watcher look now, and waits until it has. Return: what is held. Context: any thread but the watcher. */
uint64_t policy_look_again(struct policy *p);

/* ---- room.c ---- */

/* The evictor's thread. @p: of struct policy. */
void *room_evictor(void *p);

/* ---- heirs.c ---- */

/*
 * From now on so much less is held that a child of fork which is to have a policy too can begin with it. Waits until there is that
 * room, or cannot be. Context: thread of the program, which must hold no lock that a fault thread or a worker takes.
 */
void heirs_spare(struct policy *p);
void heirs_spare_end(struct policy *p);
/* How much more the process may come to hold before growth waits. A look that may be stale. */
uint64_t heirs_room(struct policy *p);
/* In a child: how much of what the parent has may come. Context: the watcher, after it has looked. */
void heirs_allow(struct policy *p);

/* Is there room for so much more? Then it is taken. Context: any thread. */
bool policy_take_room(struct policy *p, uint64_t bytes);

/* ---- touch.c: the hooks of struct space_policy about pages that are away ---- */

void touch_reach(void *ctx, uint64_t addr, unsigned *ret_first, unsigned *ret_end);
void touch_met(void *ctx, uint64_t addr);
void touch_arrived(void *ctx, uint64_t addr, unsigned pages);

/* ---- watch.c: the program's mappings ---- */

/* What counts against the limit now. Return: 0 or -errno. */
int watch_resident(struct policy *p, uint64_t *ret_bytes, uint64_t *ret_mapped);

/* Arms (if @arm) and advises all mappings that are looked after. */
void watch_mappings(struct policy *p, bool arm);

/* The first piece at or after @from that may leave. Return: false when there is none. */
bool watch_next(struct policy *p, const struct thread_words *words, uint64_t from, struct range *ret);

/* Learns where libraries have their data; that of this library counts as memory of our own. */
void watch_libraries(struct policy *p);

/* Learns where threads have their control blocks. */
void watch_threads(int tasks_fd, struct thread_words *ret);

bool watch_wants_huge(void *p, uint64_t block);

/* ---- clock.c: who leaves ---- */

/* Cold blocks from the hand on, @want bytes of pages in all if there are so many. Return: how many ranges. */
unsigned clock_gather(struct policy *p, uint64_t want, struct range *ret, unsigned max);

/* ---- tiers.c: who moves on from a device that is not the last. Context of all: the evictor ---- */

/* What of the range was in the program has gone to a device. */
void tiers_left(struct policy *p, const struct range *r);

/* Before @want bytes go to the first device, and after: each device but the last has room again, if the next ones have. */
void tiers_make_room(struct policy *p, uint64_t want);

/* The room, in bytes, that is kept on a device of @size bytes. */
uint64_t tiers_room(uint64_t size);

/* Of the blocks on the device with that index those that have been away the longest, @want bytes. Return: how many ranges. */
unsigned tiers_gather(struct policy *p, unsigned device, uint64_t want, struct range *ret, unsigned max);

#endif
