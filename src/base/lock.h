/* SPDX-License-Identifier: MIT */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

/*
 * Ranked locks. The enum is the order in which locks nest: a thread that holds one may take only those further down.
 * Builds with UHMM_DEBUG_CHECKS abort on a reversal and name both. docs/locking.md says what each protects.
 */

#include <pthread.h>
#include <stdbool.h>

enum lock_rank {
	LOCK_REGISTRY, /* drivers known, devices open */
	LOCK_SPACE,    /* arming and disarming of the address space */
	LOCK_BLOCK,    /* bit 3 of a block's entry (mem/table.h) */
	LOCK_FOLIO,    /* memory with the same addresses on devices (migrate/same.h) */
	LOCK_DEVICE,   /* a device's split blocks (mem/buddy.h) */
	LOCK_POOL,     /* staging slots */
	LOCK_LEAF,     /* metadata pages, job queue: nothing is taken under it */
	NR_LOCK_RANKS,
};

struct lock {
	pthread_mutex_t mutex;
	enum lock_rank rank;
};

void lock_init(struct lock *l, enum lock_rank rank);
void lock_fini(struct lock *l);
void lock_take(struct lock *l);
bool lock_try(struct lock *l);
void lock_drop(struct lock *l);

/* Waits on @cond; @l is held before and after. */
void lock_wait(struct lock *l, pthread_cond_t *cond);

#ifdef UHMM_DEBUG_CHECKS
void lock_rank_enter(enum lock_rank rank);
void lock_rank_leave(enum lock_rank rank);
/* What must hold before a driver is called, or memory of the program is touched. */
void lock_assert_none_held(void);
#else
static inline void lock_rank_enter(enum lock_rank rank) { (void)rank; }
static inline void lock_rank_leave(enum lock_rank rank) { (void)rank; }
static inline void lock_assert_none_held(void) { }
#endif

#endif
