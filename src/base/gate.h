/* SPDX-License-Identifier: MIT */
#ifndef BASE_GATE_H
#define BASE_GATE_H

/*
 * A gate with two sides, never with threads on both. It keeps the readers of userfaultfd events apart from those who move
 * pages (docs/locking.md, "Events and moves"): any number of movers may be inside at once, but one reader only, because
 * events must be applied in the order in which they were read. What is done inside is short - one ioctl - so those who
 * wait spin, then yield.
 *
 * Fair: while somebody of the other side waits, newcomers of this side wait too, so neither side starves.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum gate_side { GATE_MOVES, GATE_EVENTS };

/*
 *   inside[MOVES] == 0 || inside[EVENTS] == 0          both packed into state, 16 bits a side
 *   inside[EVENTS] <= 1
 *   waiting[s] counts threads that have asked for side s and are not in yet
 */
struct gate {
	_Alignas(64) _Atomic uint64_t state;
	_Atomic uint64_t events_left; /* how many have left the side of events */
};

static inline void gate_init(struct gate *g)
{
	atomic_init(&g->state, 0);
	atomic_init(&g->events_left, 0);
}

void gate_enter(struct gate *g, enum gate_side side);
void gate_leave(struct gate *g, enum gate_side side);

/* How many have left the side of events. */
static inline uint64_t gate_events(const struct gate *g)
{
	return atomic_load_explicit(&g->events_left, memory_order_acquire);
}

/*
 * Waits until whoever is on the side of events now has left it. Does not enter, so it keeps nobody out: a thread of the
 * program may wait here. Not for one that is itself inside.
 */
void gate_await_events(const struct gate *g);

/* The same, but for some microseconds only. Return: whoever was there may still be. */
bool gate_has_events(const struct gate *g);

#endif
