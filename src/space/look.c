/* SPDX-License-Identifier: MIT */
#include "space/look.h"

#define SPAN_BLOCKS 512 /* at most this much in one look: a GiB, which one leaf of the table covers */
#define MAX_TRIES   100 /* each takes microseconds, and a page needs more to leave and return */

/* What is known of the page, and up to where that holds for all pages. */
static struct entry peek(struct table *t, uint64_t addr, uint64_t *ret_end)
{
	struct entry_slot *b = table_block(t, addr, false);
	struct entry e;

	if (!b) {
		*ret_end = (addr & ~(SPAN_BLOCKS * BLOCK_BYTES - 1)) + SPAN_BLOCKS * BLOCK_BYTES;
		return entry_system();
	}
	e = entry_get(b);
	if (entry_state(e) == ENTRY_TABLE) {
		*ret_end = addr + PAGE_BYTES;
		return table_peek(t, addr);
	}
	*ret_end = block_down(addr) + BLOCK_BYTES;
	return e;
}

/* How far from @addr on nothing is away, up to @end. */
static uint64_t system_end(struct table *t, uint64_t addr, uint64_t end)
{
	uint64_t stop;

	while (addr < end && !is_away(peek(t, addr, &stop)))
		addr = stop;
	return min_u64(addr, end);
}

/* Keeps what holds of the runs. @left: the counts of the blocks before the look. Return: false when nothing does. */
static bool settle(struct space *sp, uint64_t start, const uint32_t *left, struct seen *k)
{
	uint64_t base = block_down(start);

	for (unsigned i = 0; i < k->nr; i++) {
		struct pm_run *run = &k->runs[i];
		uint64_t at = run->start;

		if (run->bits) /* a page that was there was there, whatever has become of it since */
			continue;
		while (at < run->end && space_left(sp, at) == left[(at - base) >> BLOCK_SHIFT])
			at = block_down(at) + BLOCK_BYTES;
		if (at < run->end) {
			run->end = k->stop = at;
			k->nr = i + (at > run->start);
			return k->nr;
		}
	}
	return true;
}

/* Return: 0; 1: to be done again; -errno. */
static int look_once(struct space *sp, uint64_t start, uint64_t end, struct seen *k)
{
	uint32_t left[SPAN_BLOCKS];
	uint64_t base = block_down(start);
	int r;

	end = min_u64(end, base + SPAN_BLOCKS * BLOCK_BYTES);
	k->nr = 0;
	k->e = peek(&sp->table, start, &k->stop);
	k->stop = min_u64(k->stop, end);
	if (is_away(k->e))
		return 0;
	k->e = entry_system();
	/* before the words: who sees a count sees what was claimed for it, too */
	for (uint64_t at = base; at < end; at += BLOCK_BYTES)
		left[(at - base) >> BLOCK_SHIFT] = space_left(sp, at);
	end = system_end(&sp->table, start, end);
	if (end == start)
		return 1;
	r = pagemap_scan(sp->pagemap_fd, start, end, k->runs, LOOK_RUNS, &k->nr, &k->stop);
	return r ? r : !settle(sp, start, left, k);
}

int look_at(struct space *sp, uint64_t start, uint64_t end, struct seen *ret)
{
	for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
		int r = look_once(sp, start, end, ret);

		if (r <= 0)
			return r;
	}
	ret->e = entry_migrating(0);
	ret->stop = min_u64(start + PAGE_BYTES, end);
	ret->nr = 0;
	return 0;
}
