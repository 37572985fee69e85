/* SPDX-License-Identifier: MIT */
#include "migrate/coldest.h"

#include "base/clock.h"
#include "base/err.h"

#define MAX_COLD 128 /* blocks at a time */

struct cold {
	uint64_t block, since, bytes;
};

/* The coldest blocks of one device so far, coldest first; of the same age the lower address. */
struct search {
	struct space *sp;
	const struct stamps *const *stamps;
	unsigned nr_stamps, device;
	coldest_spare_fn *spare;
	const void *ctx;
	uint64_t now, want, got;
	unsigned nr;
	struct cold cold[MAX_COLD];
};

/* How much of a block is on the device. */
static uint64_t bytes_on(struct space *sp, uint64_t addr, struct entry_slot *b, unsigned device)
{
	struct entry e = entry_get(b);
	uint64_t n = 0;

	if (entry_state(e) != ENTRY_TABLE)
		return entry_state(e) == ENTRY_DEVICE && entry_device(e) == device ? BLOCK_BYTES : 0;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		e = table_peek(&sp->table, addr + i * PAGE_BYTES);
		n += entry_state(e) == ENTRY_DEVICE && entry_device(e) == device;
	}
	return n * PAGE_BYTES;
}

static uint64_t last_used(const struct search *s, uint64_t addr)
{
	uint64_t since = 0;

	for (unsigned i = 0; i < s->nr_stamps; i++)
		since = max_u64(since, stamps_get(s->stamps[i], addr, s->now));
	return since;
}

static int visit(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct search *s = ctx;
	struct cold c = { addr, last_used(s, addr), 0 };
	unsigned i;

	if ((s->got >= s->want || s->nr == MAX_COLD) && s->nr && c.since >= s->cold[s->nr - 1].since)
		return 0;
	c.bytes = s->spare && s->spare(s->ctx, addr) ? 0 : bytes_on(s->sp, addr, b, s->device);
	if (!c.bytes)
		return 0;
	if (s->nr == MAX_COLD)
		s->got -= s->cold[--s->nr].bytes;
	for (i = s->nr++; i && s->cold[i - 1].since > c.since; i--)
		s->cold[i] = s->cold[i - 1];
	s->cold[i] = c;
	s->got += c.bytes;
	while (s->got - s->cold[s->nr - 1].bytes >= s->want)
		s->got -= s->cold[--s->nr].bytes;
	return 0;
}

unsigned coldest_gather(struct space *sp, unsigned device, const struct stamps *const *stamps, unsigned nr_stamps,
			coldest_spare_fn *spare, const void *ctx, uint64_t want, struct range *ret, unsigned max)
{
	struct search s = { .sp = sp, .stamps = stamps, .nr_stamps = nr_stamps, .device = device, .spare = spare, .ctx = ctx,
			    .now = clock_ns(), .want = max_u64(want, 1) };
	unsigned nr = 0;

	(void)table_walk(&sp->table, 0, UINT64_C(1) << TABLE_ADDRESS_BITS, visit, &s);
	for (unsigned i = 0; i < s.nr; i++) {
		if (nr && ret[nr - 1].end == s.cold[i].block)
			ret[nr - 1].end += BLOCK_BYTES;
		else if (nr < max)
			ret[nr++] = (struct range){ s.cold[i].block, s.cold[i].block + BLOCK_BYTES };
		else
			break;
	}
	return nr;
}
