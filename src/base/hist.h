/* SPDX-License-Identifier: MIT */
#ifndef BASE_HIST_H
#define BASE_HIST_H

/*
 * A histogram of durations: 16 buckets for each power of two, so a quantile is at most 6.25 % too high. Adding is one
 * relaxed increment, from any thread; reading while others add is good enough for statistics.
 */

#include <stdatomic.h>
#include <stdint.h>

#define HIST_SUB     16
#define HIST_BUCKETS (HIST_SUB * 40) /* up to 2^43 ns, more than two hours; longer ones land in the last */

struct hist {
	_Atomic uint64_t count[HIST_BUCKETS];
	_Atomic uint64_t max;
};

void hist_add(struct hist *h, uint64_t ns);

/* Upper edge of the bucket that holds quantile @q (0..1), never above the largest value seen; 0 when empty. */
uint64_t hist_quantile(const struct hist *h, double q);

#endif
