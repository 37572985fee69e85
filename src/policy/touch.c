/* SPDX-License-Identifier: MIT */
/* What fault threads ask and tell about pages that are away: how much comes home, what is fetched ahead, who is warm. */
#include "policy/policy.h"

static bool is_away(struct policy *p, uint64_t addr)
{
	return entry_state(table_peek(&p->sp->table, addr)) == ENTRY_DEVICE;
}

/* The next blocks of a sequential reader, by workers, if they find room: nobody waits for it yet. */
static void fetch_ahead(struct policy *p, const struct window *w)
{
	for (uint64_t at = w->ahead_start; at < w->ahead_end; at += BLOCK_BYTES) {
		if (!is_away(p, at) && !is_away(p, at + BLOCK_BYTES / 2) && !is_away(p, at + BLOCK_BYTES - PAGE_BYTES))
			continue;
		if (!policy_take_room(p, BLOCK_BYTES))
			return;
		/* it is to stay until it has been read */
		heat_warm(&p->heat, at, 1, HEAT_MAX);
		if (jobs_post(p->jobs, JOB_TO_SYSTEM, at, at + BLOCK_BYTES, NULL))
			return;
		atomic_fetch_add_explicit(&p->ahead_bytes, BLOCK_BYTES, memory_order_relaxed);
	}
}

void touch_reach(void *ctx, uint64_t addr, unsigned *ret_first, unsigned *ret_end)
{
	struct policy *p = ctx;
	int64_t plenty = (int64_t)(atomic_load_explicit(&p->high, memory_order_relaxed) / 4);
	struct window w;

	reach_touched(&p->reach, addr, &w);
	if (w.end - w.first == PAGES_PER_BLOCK)
		heat_dense(&p->heat, addr);
	else if (atomic_load(&p->room) > plenty || heat_take_dense(&p->heat, addr))
		reach_whole(&p->reach, addr, &w);
	fetch_ahead(p, &w);
	*ret_first = w.first;
	*ret_end = w.end;
}

void touch_met(void *ctx, uint64_t addr)
{
	struct policy *p = ctx;
	struct window w;

	heat_warm(&p->heat, addr, 1, HEAT_MAX); /* if it was about to leave, that was a mistake */
	reach_met(&p->reach, addr, &w);
	fetch_ahead(p, &w);
}

/* Who was missed often may stay longer; but pages that come one by one do not add up. */
void touch_arrived(void *ctx, uint64_t addr, unsigned pages)
{
	struct policy *p = ctx;

	heat_warm(&p->heat, addr, 1, pages == PAGES_PER_BLOCK ? HEAT_MAX : HEAT_WARM);
}
