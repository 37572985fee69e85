/* SPDX-License-Identifier: MIT */
/*
 * state holds, 16 bits each: inside[MOVES], inside[EVENTS], waiting[MOVES], waiting[EVENTS].
 *
 * A newcomer enters at once when nobody is inside that excludes it and nobody of the other side waits. Otherwise it counts
 * itself as waiting. Who waits does not join those of its own side who are inside while the other side waits too: they
 * leave soon, and then it is anybody's turn. So neither side is locked out by newcomers of the other.
 */
#include "base/gate.h"

#include <sched.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/err.h"

#define INSIDE(side)  (UINT64_C(1) << (16 * (side)))
#define WAITING(side) (UINT64_C(1) << (32 + 16 * (side)))
#define FIELD         UINT64_C(0xffff)

static uint64_t inside(uint64_t state, unsigned side)
{
	return state >> (16 * side) & FIELD;
}

static uint64_t waiting(uint64_t state, unsigned side)
{
	return state >> (32 + 16 * side) & FIELD;
}

/* May one more of @side come in, next to those who are in? EVENTS excludes itself too. */
static bool admits(uint64_t s, unsigned side)
{
	return !inside(s, !side) && (side == GATE_MOVES || !inside(s, side));
}

/* Who is inside does one ioctl: if it has not left after some microseconds it has lost its CPU. */
static void backoff(unsigned spins)
{
	if (spins < 200)
		cpu_relax();
	else
		sched_yield();
}

void gate_enter(struct gate *g, enum gate_side side)
{
	uint64_t s = atomic_load_explicit(&g->state, memory_order_relaxed);

	while (admits(s, side) && !waiting(s, !side)) {
		if (atomic_compare_exchange_weak_explicit(&g->state, &s, s + INSIDE(side), memory_order_acquire,
							  memory_order_relaxed))
			return;
	}

	s = atomic_fetch_add_explicit(&g->state, WAITING(side), memory_order_relaxed) + WAITING(side);
	for (unsigned spins = 0;; backoff(spins++)) {
		if (admits(s, side) && !(inside(s, side) && waiting(s, !side))) {
			if (atomic_compare_exchange_weak_explicit(&g->state, &s, s + INSIDE(side) - WAITING(side),
								  memory_order_acquire, memory_order_relaxed))
				return;
		}
		s = atomic_load_explicit(&g->state, memory_order_relaxed);
	}
}

void gate_leave(struct gate *g, enum gate_side side)
{
	uint64_t s;

	/* counted before it is out: who sees it out sees it counted, or was not waiting for it */
	if (side == GATE_EVENTS)
		atomic_fetch_add_explicit(&g->events_left, 1, memory_order_release);
	s = atomic_fetch_sub_explicit(&g->state, INSIDE(side), memory_order_release);
	uhmm_assert(inside(s, side) > 0);
}

#define NO_BOUND 0
#define MOMENT   2000 /* spins: some microseconds, more than it takes to read a message and apply it */

/* One reader after another may be inside whenever we look, so looking for an empty side would not do: one has to leave. */
static bool await_events(const struct gate *g, unsigned max_spins)
{
	uint64_t left = atomic_load_explicit(&g->events_left, memory_order_acquire);

	for (unsigned spins = 0; inside(atomic_load_explicit(&g->state, memory_order_acquire), GATE_EVENTS) &&
				 atomic_load_explicit(&g->events_left, memory_order_acquire) == left; spins++) {
		if (max_spins && spins == max_spins)
			return false;
		if (max_spins)
			cpu_relax();
		else
			backoff(spins);
	}
	return true;
}

void gate_await_events(const struct gate *g)
{
	(void)await_events(g, NO_BOUND);
}

bool gate_has_events(const struct gate *g)
{
	return !await_events(g, MOMENT);
}
