/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_RUN_DIVIDE_H
#define TOOLS_RUN_DIVIDE_H

/*
 * How processes divide a limit. While there is room left, each may take an equal part of it. When there is none, what can leave of each
 * must leave in equal proportion: not what it shares with a child of fork, which neither of the two can let go, nor what uhmm itself
 * has there, nor the memory of processes that nobody looks after. Or a parent would have to make up for what the child holds with the
 * few pages that are its own, and throw out what it has just used.
 */

#include <stdbool.h>
#include <stdint.h>

struct run_part {
	uint64_t held;   /* bytes */
	uint64_t pinned; /* of them: what cannot leave */
	bool managed;    /* a policy is at work */
};

/*
 * How much part @mine, which is managed, may hold: no less than @at_least, and a quarter of that and a twelfth of what is pinned beside what
 * is pinned. That is the distance of a policy's marks from its limit (set_limit() in src/policy/policy.c), at @at_least 48 MiB.
 */
uint64_t run_divide(uint64_t limit, const struct run_part *part, unsigned nr, unsigned mine, uint64_t at_least);

#endif
