/* SPDX-License-Identifier: MIT */
#include "base/hist.h"

static unsigned bucket_of(uint64_t v)
{
	unsigned shift, b;

	if (v < HIST_SUB)
		return (unsigned)v;
	shift = 63 - (unsigned)__builtin_clzll(v) - 4;
	b = (shift + 1) * HIST_SUB + (unsigned)((v >> shift) & (HIST_SUB - 1));
	return b < HIST_BUCKETS ? b : HIST_BUCKETS - 1;
}

static uint64_t bucket_end(unsigned b)
{
	unsigned shift;

	if (b < HIST_SUB)
		return b;
	shift = b / HIST_SUB - 1;
	return ((uint64_t)(HIST_SUB + b % HIST_SUB + 1) << shift) - 1;
}

void hist_add(struct hist *h, uint64_t ns)
{
	uint64_t max = atomic_load_explicit(&h->max, memory_order_relaxed);

	atomic_fetch_add_explicit(&h->count[bucket_of(ns)], 1, memory_order_relaxed);
	while (ns > max && !atomic_compare_exchange_weak_explicit(&h->max, &max, ns, memory_order_relaxed,
								  memory_order_relaxed))
		;
}

uint64_t hist_quantile(const struct hist *h, double q)
{
	uint64_t max = atomic_load_explicit(&h->max, memory_order_relaxed);
	uint64_t total = 0, seen = 0, rank;

	for (unsigned b = 0; b < HIST_BUCKETS; b++)
		total += atomic_load_explicit(&h->count[b], memory_order_relaxed);
	if (!total)
		return 0;
	rank = (uint64_t)(q * (double)(total - 1));
	for (unsigned b = 0; b < HIST_BUCKETS; b++) {
		seen += atomic_load_explicit(&h->count[b], memory_order_relaxed);
		if (seen > rank)
			return bucket_end(b) < max ? bucket_end(b) : max;
	}
	return max;
}
