/* SPDX-License-Identifier: MIT */
#ifndef POLICY_FIGURES_H
#define POLICY_FIGURES_H

/* What the policy's threads do with the atomic fields of struct policy. */

#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>

#include "os/thread.h"

#define MS  UINT64_C(1000000) /* in nanoseconds */
#define MIB (UINT64_C(1) << 20)

/* Relaxed: figures that nothing else follows from. */
static inline uint64_t get(const _Atomic uint64_t *n) { return atomic_load_explicit(n, memory_order_relaxed); }
static inline void set(_Atomic uint64_t *n, uint64_t value) { atomic_store_explicit(n, value, memory_order_relaxed); }
static inline void add(_Atomic uint64_t *n, uint64_t by) { atomic_fetch_add_explicit(n, by, memory_order_relaxed); }

/* Wakes all who sleep on it. */
static inline void ring(_Atomic uint32_t *word)
{
	atomic_fetch_add(word, 1);
	thread_wake(word, INT_MAX);
}

#endif
