/* SPDX-License-Identifier: MIT */
#ifndef FAULT_PACE_H
#define FAULT_PACE_H

/*
 * How fast a child of fork(2) is given what was away. Everything at once, as a rule. But where the program is kept below a limit,
 * and its children will be (UHMM_POLICY_CHILDREN), all that is away would not fit: then the child says how much may come, makes
 * room by letting what it has got leave to devices of its own, and says so again.
 *
 * What both look at is one page that a process shares with all its children; it speaks of the child of the last fork with fork
 * handlers. fork() returns in the program when that child has everything: so there is one at a time. A child of _Fork(3) that is
 * served meanwhile goes by the same bound.
 *
 * A child that says nothing any more - it has failed, or is stopped - is given the rest as if there were no bound; one that makes
 * no room for seconds, a little then: what would make room, a driver's thread, may need it.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PACE_ALL UINT64_MAX

/* Zero until the first fork. Shared: everything is atomic. */
struct pace {
	_Atomic uint32_t settled; /* the children of that many forks have everything, or have ended */
	_Atomic uint32_t held;    /* more is to come than is allowed: it is for the child to make room */
	_Atomic uint32_t beats;   /* grows with each word of the child's; 0: it has said nothing yet */
	_Atomic uint64_t given;   /* bytes, since the fork */
	_Atomic uint64_t allowed; /* bytes that may be given since the fork; PACE_ALL: no bound */
};

/* ---- in the program ---- */

/* Who gives, and how long the child has been silent. Zero until the first fork; of the thread that gives, but for shared. */
struct pace_giver {
	struct pace *_Atomic shared;
	uint32_t seen_beats;
	uint64_t silent_since_ns;
	uint64_t seen_given;
	uint64_t stuck_since_ns;  /* nothing has been given since */
};

/* Before a fork: no child is being given anything. @room: bytes that it may be given unasked; PACE_ALL: no bound. */
void pace_begin(struct pace_giver *g, uint64_t room);
/* After it: the child has everything, or has ended. */
void pace_end(struct pace_giver *g);

/* May a child get @bytes more now? */
bool pace_may_give(struct pace_giver *g, uint64_t bytes);
void pace_given(struct pace_giver *g, uint64_t bytes);
/* Is there a bound? Then what has been given must be able to leave again. */
bool pace_is_bounded(struct pace_giver *g);
/* Does the child say what may come? Before it does, whatever it needs to be able to is given nevertheless, page by page. */
bool pace_is_set(struct pace_giver *g);

/* ---- in the child ---- */

/* In the child of a fork, before it has other threads. */
void pace_born(void);

/* Is something still to come? */
bool pace_is_served(void);
/* ... and does it wait for room? */
bool pace_is_held(void);
/* ... and is there a bound? */
bool pace_was_bounded(void);

/* As much as @room bytes may come from now on. */
void pace_allow(uint64_t room);
/* As much as before; the child is there. */
void pace_beat(void);
/* The child will make no room. */
void pace_take_all(void);

/* The child is about to have children itself, or to be told of nothing any more. Nothing is to come. */
void pace_forget(void);

#endif
