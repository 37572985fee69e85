/* SPDX-License-Identifier: MIT */
#include "fault/pace.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "os/map.h"

#define SILENT_NS UINT64_C(5000000000) /* a child looks every 20 ms at the latest */
#define STUCK_NS  UINT64_C(5000000000) /* it speaks, but makes no room: perhaps what would make some needs what has not come */

/* The page that this process shares with its children, and how many forks it has been used for. */
static struct {
	struct pace *shared;
	uint32_t nr_forks;
} mine;

/* In a child: its parent's. */
static struct {
	struct pace *shared;
	uint32_t nr_forks;
	_Atomic pid_t parent; /* 0: nothing is to come */
} theirs;

/* ---- in the program ---- */

void pace_begin(struct pace_giver *g, uint64_t room)
{
	if (!mine.shared)
		mine.shared = map_shared(sizeof(*mine.shared));
	mine.nr_forks++;
	if (!mine.shared)
		return;
	atomic_store(&mine.shared->held, 0);
	atomic_store(&mine.shared->beats, 0);
	atomic_store(&mine.shared->given, 0);
	atomic_store(&mine.shared->allowed, room);
	atomic_store(&g->shared, mine.shared);
}

void pace_end(struct pace_giver *g)
{
	struct pace *p = atomic_load(&g->shared);

	if (!p)
		return;
	atomic_store(&p->allowed, PACE_ALL);
	atomic_store(&p->settled, mine.nr_forks);
}

bool pace_is_bounded(struct pace_giver *g)
{
	struct pace *p = atomic_load(&g->shared);

	return p && atomic_load(&p->allowed) != PACE_ALL;
}

bool pace_is_set(struct pace_giver *g)
{
	struct pace *p = atomic_load(&g->shared);

	return !p || atomic_load(&p->beats);
}

bool pace_may_give(struct pace_giver *g, uint64_t bytes)
{
	struct pace *p = atomic_load(&g->shared);
	uint64_t now, given, allowed = p ? atomic_load(&p->allowed) : PACE_ALL;
	uint32_t beats;
	bool first;

	if (allowed == PACE_ALL)
		return true;
	given = atomic_load(&p->given);
	if (given + bytes <= allowed)
		return true;
	now = clock_ns();
	beats = atomic_load(&p->beats);
	first = !atomic_exchange(&p->held, 1);
	if (first || given != g->seen_given) {
		g->seen_given = given;
		g->stuck_since_ns = now;
	}
	if (first || beats != g->seen_beats) {
		g->seen_beats = beats;
		g->silent_since_ns = now;
	}
	if (now - g->silent_since_ns > SILENT_NS) {
		log_say(UHMM_LOG_WARN, "a child of fork has made no room for what was away: it is given all of it at once");
		atomic_store(&p->allowed, PACE_ALL);
		return true;
	}
	return now - g->stuck_since_ns > STUCK_NS;
}

void pace_given(struct pace_giver *g, uint64_t bytes)
{
	struct pace *p = atomic_load(&g->shared);

	if (p)
		atomic_fetch_add(&p->given, bytes);
}

/* ---- in the child ---- */

void pace_born(void)
{
	if (mine.shared) {
		theirs.shared = mine.shared;
		theirs.nr_forks = mine.nr_forks;
		mine.shared = NULL;
		mine.nr_forks = 0;
	} /* else it is a child's child, and who serves both is done with both at once */
	atomic_store(&theirs.parent, getppid());
}

bool pace_is_served(void)
{
	pid_t parent = atomic_load(&theirs.parent);

	return parent && theirs.shared && atomic_load(&theirs.shared->settled) < theirs.nr_forks && getppid() == parent;
}

bool pace_was_bounded(void)
{
	return pace_is_served() && atomic_load(&theirs.shared->allowed) != PACE_ALL;
}

bool pace_is_held(void)
{
	return pace_was_bounded() && atomic_load(&theirs.shared->held);
}

void pace_beat(void)
{
	if (pace_was_bounded())
		atomic_fetch_add(&theirs.shared->beats, 1);
}

void pace_allow(uint64_t room)
{
	struct pace *p = theirs.shared;
	uint64_t before;

	if (!pace_was_bounded())
		return;
	before = atomic_load(&p->allowed);
	/* only where nobody has lifted the bound meanwhile */
	if (before != PACE_ALL)
		(void)atomic_compare_exchange_strong(&p->allowed, &before, atomic_load(&p->given) + room);
	pace_beat();
}

void pace_take_all(void)
{
	if (pace_is_served())
		atomic_store(&theirs.shared->allowed, PACE_ALL);
}

void pace_forget(void)
{
	atomic_store(&theirs.parent, 0);
}
