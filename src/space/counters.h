/* SPDX-License-Identifier: MIT */
#ifndef SPACE_COUNTERS_H
#define SPACE_COUNTERS_H

/* What has happened since the space was opened. All relaxed: no decision rests on a counter. */

#include <stdatomic.h>
#include <stdint.h>

#include "base/hist.h"
#include "base/pages.h"
#include "uhmm/space.h"

struct counters {
	_Atomic uint64_t to_device_folios[NR_ORDERS], to_system_folios[NR_ORDERS], fault_folios[NR_ORDERS];
	_Atomic uint64_t skipped_pages[UHMM_NR_SKIPS];
	_Atomic uint64_t dropped_pages;
	_Atomic uint64_t faults, fault_zero, fault_joined, fault_stale, fault_small, fault_lost;
	_Atomic uint64_t events_remove, events_unmap, events_remap, forks;
	_Atomic uint64_t children, child_pages;
	_Atomic uint64_t pool_hits, pool_fresh, pool_failed, pool_freed;
	_Atomic uint64_t prefetches, prefetches_failed;
	struct hist fault_ns;
};

static inline void counter_add(_Atomic uint64_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static inline uint64_t counter_get(const _Atomic uint64_t *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

#endif
