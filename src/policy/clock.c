/* SPDX-License-Identifier: MIT */
/*
 * A hand goes round over all blocks that have pages, in the order of their addresses. A block that has come since it last
 * passed has a lap of grace (heat.h); the first time it sees a block it only marks it. So the order is that of arrival, in laps.
 *
 * A cold block of 512 base pages is made one THP first, if THPs are wanted: it takes as long as taking the pages out one by one would,
 * and from then on the block comes and goes in one piece.
 *
 * What is shared since a fork whose other side lives cannot leave, and is passed over; a collapse would copy it.
 */
#include "base/err.h"
#include "os/map.h"
#include "os/pagemap.h"
#include "policy/policy.h"

#define SCAN_BYTES (UINT64_C(256) << 20) /* looked at in one go: base pages cost up to 6 us a MiB */
#define MAX_LAPS   (HEAT_MAX + 1)       /* after so many nothing is warm any more */
#define MAX_RUNS   512

struct gathering {
	struct policy *p;
	uint64_t want, got;       /* bytes of pages */
	struct range *range;
	unsigned nr, max;
	uint64_t block, bytes;    /* the block under the hand, and its pages so far */
	bool huge;                /* it is one THP */
};

static bool is_enough(const struct gathering *g)
{
	return g->got >= g->want || g->nr == g->max;
}

/* Bytes of pages in the block that nobody shares. */
static uint64_t own_bytes(const struct gathering *g)
{
	bool own[PAGES_PER_BLOCK];
	uint64_t bytes = 0;

	if (pagemap_exclusives(g->p->sp->pagemap_fd, g->block, PAGES_PER_BLOCK, own))
		return g->bytes; /* it will be found out by trying */
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		bytes += own[i] ? PAGE_BYTES : 0;
	return min_u64(bytes, g->bytes);
}

/* The hand leaves the block. */
static void pass_block(struct gathering *g, const struct range *within)
{
	struct range *last = g->nr ? &g->range[g->nr - 1] : NULL;
	uint64_t start = max_u64(g->block, within->start), end = min_u64(g->block + BLOCK_BYTES, within->end);
	uint64_t own = g->bytes && heat_cool(&g->p->heat, g->block) ? own_bytes(g) : 0;

	if (own) {
		g->got += own;
		if (g->p->flags & UHMM_POLICY_HUGE && own == BLOCK_BYTES && !g->huge)
			(void)map_collapse(g->block, BLOCK_BYTES);
		if (last && last->end == start)
			last->end = end;
		else
			g->range[g->nr++] = (struct range){ start, end };
	}
	g->bytes = 0;
	g->huge = false;
}

/* Return: where the hand stopped. */
static uint64_t pass_run(struct gathering *g, const struct pm_run *run, const struct range *within)
{
	bool counts = run->bits & PM_PRESENT && !(run->bits & (PM_ZERO | PM_FILE));
	uint64_t at = run->start;

	if (!counts && run->end > g->block + BLOCK_BYTES) { /* as if step by step, over a hole of any size */
		pass_block(g, within);
		if (is_enough(g))
			return max_u64(at, g->block + BLOCK_BYTES);
		g->block = block_down(run->end);
	}
	while (counts && at < run->end) {
		uint64_t stop = min_u64(block_down(at) + BLOCK_BYTES, run->end);

		if (block_down(at) != g->block) {
			pass_block(g, within);
			if (is_enough(g))
				return block_down(at);
			g->block = block_down(at);
		}
		g->bytes += stop - at;
		g->huge |= run->bits & PM_HUGE;
		at = stop;
	}
	return run->end;
}

/* Return: where the hand stopped. */
static uint64_t pass_range(struct gathering *g, const struct range *within)
{
	struct pm_run runs[MAX_RUNS];
	uint64_t at = within->start, stop;
	unsigned nr;

	g->block = block_down(at);
	while (at < within->end) {
		uint64_t end = min_u64(block_down(at) + SCAN_BYTES, within->end);

		if (pagemap_scan(g->p->sp->pagemap_fd, at, end, runs, MAX_RUNS, &nr, &stop))
			return within->end;
		for (unsigned k = 0; k < nr; k++) {
			uint64_t reached = pass_run(g, &runs[k], within);

			if (reached < runs[k].end)
				return max_u64(reached, within->start);
		}
		at = stop;
	}
	pass_block(g, within);
	return within->end;
}

unsigned clock_gather(struct policy *p, uint64_t want, struct range *ret, unsigned max)
{
	struct gathering g = { .p = p, .want = want, .range = ret, .max = max };
	struct range r;

	for (unsigned laps = 0; laps < MAX_LAPS && !is_enough(&g);) {
		if (watch_next(p, &p->evictor_words, p->hand, &r)) {
			p->hand = pass_range(&g, &r);
		} else {
			p->hand = 0;
			laps++;
			atomic_fetch_add_explicit(&p->laps, 1, memory_order_relaxed);
			if (g.nr)
				break; /* what there is shall leave before the hand comes to it again */
		}
	}
	return g.nr;
}
