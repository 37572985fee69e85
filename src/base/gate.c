/* SPDX-License-Identifier: MIT */
/*
 * state holds, 16 bits each: inside[MOVES], inside[EVENTS], waiting[MOVES], waiting[EVENTS].
 *
 * EVENTS is exclusive of itself too; below, "the other side" of EVENTS includes EVENTS.
 *
 * A newcomer enters at once when the other side is neither inside nor waiting. Otherwise it counts itself as waiting and
 * enters when the other side is not inside: whoever waits takes precedence over newcomers of the side that is in, so the
 * sides alternate under load. Both sides waiting with nobody inside: either may enter first.
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

/* May one more of @side come in, next to those who are in? */
static bool admits(uint64_t s, unsigned side)
{
	return !inside(s, !side) && (side == GATE_MOVES || !inside(s, side));
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
	for (unsigned spins = 0;; spins++) {
		if (admits(s, side)) {
			if (atomic_compare_exchange_weak_explicit(&g->state, &s, s + INSIDE(side) - WAITING(side),
								  memory_order_acquire, memory_order_relaxed))
				return;
			continue;
		}
		/* the holder does one ioctl: if it has not left after some microseconds it has lost its CPU */
		if (spins < 200)
			cpu_relax();
		else
			sched_yield();
		s = atomic_load_explicit(&g->state, memory_order_relaxed);
	}
}

void gate_leave(struct gate *g, enum gate_side side)
{
	uint64_t s = atomic_fetch_sub_explicit(&g->state, INSIDE(side), memory_order_release);

	uhmm_assert(inside(s, side) > 0);
}
