/* SPDX-License-Identifier: MIT */
#include "tools/run_divide.h"

static uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t fixed(const struct run_part *p)
{
	return p->managed ? min_u64(p->pinned, p->held) : p->held;
}

static uint64_t loose(const struct run_part *p) { return p->held - fixed(p); }

/* What it may have beside what is fixed, whatever the others hold: so much that a policy does not want anything of the fixed part to go. */
static uint64_t least_loose(const struct run_part *p, uint64_t least)
{
	uint64_t margin = least / 4 + fixed(p) / 12;

	return least > fixed(p) + margin ? least - fixed(p) : margin;
}

/* Of @bytes, as many as @part is of @all. */
static uint64_t proportion(uint64_t bytes, uint64_t part, uint64_t all)
{
	return all ? (uint64_t)((double)bytes * (double)part / (double)all) : 0;
}

uint64_t run_divide(uint64_t limit, const struct run_part *part, unsigned nr, unsigned mine, uint64_t at_least)
{
	uint64_t held = 0, stays = 0, goes, divided, all = 0, least;
	unsigned managed = 0;

	for (unsigned i = 0; i < nr; i++) {
		held += part[i].held;
		stays += fixed(&part[i]);
		managed += part[i].managed;
	}
	least = least_loose(&part[mine], at_least);
	if (held <= limit)
		return max_u64(part[mine].held + (limit - held) / managed, fixed(&part[mine]) + least);

	/* who would be left with less than that may keep it; the others divide the rest */
	goes = held - stays;
	divided = limit > stays ? limit - stays : 0;
	for (unsigned i = 0; i < nr; i++) {
		uint64_t own = loose(&part[i]), own_least = least_loose(&part[i], at_least);

		if (proportion(divided, own, goes) < own_least)
			stays += min_u64(own, own_least);
		else
			all += own;
	}
	if (proportion(divided, loose(&part[mine]), goes) < least)
		return fixed(&part[mine]) + least;
	return fixed(&part[mine]) + max_u64(proportion(limit > stays ? limit - stays : 0, loose(&part[mine]), all), least);
}
