/* SPDX-License-Identifier: MIT */
#include "policy/reach.h"

#define GROWTH    4  /* each touch of a stream brings so many times as much: six of them reach a block */
#define SLACK_MAX 16 /* pages */

/*
 * What a stream brought last, in pages: part of a block, a block, or that and what was fetched ahead of it. In a word:
 *   63..16 the first page's number   15 it goes down   14..0 how many
 */
struct span {
	uint64_t first, nr;
	bool down;
};

enum side { ELSEWHERE, INSIDE, BEFORE, AFTER };

static struct span span_of(uint64_t word)
{
	return (struct span){ .first = word >> 16, .nr = word & 0x7fff, .down = word & 0x8000 };
}

static uint64_t word_of(struct span s)
{
	return s.first << 16 | (uint64_t)s.down << 15 | s.nr;
}

static uint64_t block_of(uint64_t page)
{
	return page & ~(uint64_t)(PAGES_PER_BLOCK - 1);
}

/*
 * Where @page is as seen from @s. Beside it is the very next page; beside a longer one a quarter of its length, since not all readers look
 * at every page. But no more than SLACK_MAX: after one large stream touches at random would hit the blocks beside it.
 */
static enum side side_of(struct span s, uint64_t page)
{
	uint64_t slack = s.nr < 8 ? 1 : s.nr / 4;

	if (slack > SLACK_MAX)
		slack = SLACK_MAX;
	if (page >= s.first && page < s.first + s.nr)
		return INSIDE;
	if (page >= s.first + s.nr && page < s.first + s.nr + slack)
		return AFTER;
	return page < s.first && page + slack >= s.first ? BEFORE : ELSEWHERE;
}

/* Return: the stream that @page belongs to, or REACH_STREAMS. */
static unsigned find(struct reach *r, uint64_t page, struct span *ret, enum side *ret_side)
{
	unsigned inside = REACH_STREAMS;

	*ret_side = ELSEWHERE;
	for (unsigned i = 0; i < REACH_STREAMS; i++) {
		uint64_t word = atomic_load_explicit(&r->stream[i], memory_order_relaxed);
		struct span s = span_of(word);
		enum side side = word ? side_of(s, page) : ELSEWHERE;

		if (side == ELSEWHERE || (side == INSIDE && inside < REACH_STREAMS))
			continue;
		*ret = s;
		*ret_side = side;
		if (side != INSIDE)
			return i; /* it is continued: that says more than being part of another */
		inside = i;
	}
	return inside;
}

static void remember(struct reach *r, unsigned i, struct span s)
{
	if (i == REACH_STREAMS)
		i = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed) % REACH_STREAMS;
	atomic_store_explicit(&r->stream[i], word_of(s), memory_order_relaxed);
}

/* The reader is in @block of a stream that brought @was last: the blocks before him, less those that are part of @was. */
static void look_ahead(struct reach *r, unsigned i, uint64_t block, struct span was, bool down, struct window *ret)
{
	const uint64_t ahead = REACH_AHEAD * PAGES_PER_BLOCK;
	struct span now = { .first = block, .nr = PAGES_PER_BLOCK + ahead, .down = down };
	uint64_t start = block + PAGES_PER_BLOCK, end = start + ahead;

	if (down) {
		now.first = block > ahead ? block - ahead : 0;
		start = now.first;
		end = block;
	}
	if (down == was.down && was.nr > PAGES_PER_BLOCK) {
		if (!down && start < was.first + was.nr)
			start = was.first + was.nr;
		if (down && end > was.first)
			end = was.first;
	}
	if (start < end) {
		ret->ahead_start = start << PAGE_SHIFT;
		ret->ahead_end = end << PAGE_SHIFT;
	}
	remember(r, i, now);
}

void reach_touched(struct reach *r, uint64_t addr, struct window *ret)
{
	uint64_t page = addr >> PAGE_SHIFT, first, nr = 1;
	struct span was = { 0 };
	enum side side;
	unsigned i = find(r, page, &was, &side);

	*ret = (struct window){ 0 };
	if (side == INSIDE)
		nr = was.nr; /* it has left again, or has not come: as much as then */
	else if (side != ELSEWHERE)
		nr = was.nr * GROWTH;
	if (nr > PAGES_PER_BLOCK)
		nr = PAGES_PER_BLOCK;
	first = page & ~(nr - 1);
	ret->first = (unsigned)(first - block_of(page));
	ret->end = ret->first + (unsigned)nr;
	if (was.nr >= PAGES_PER_BLOCK && side != INSIDE)
		look_ahead(r, i, first, was, side == BEFORE, ret);
	else if (was.nr > PAGES_PER_BLOCK)
		look_ahead(r, i, first, was, was.down, ret);
	else
		remember(r, i, (struct span){ .first = first, .nr = nr, .down = side == BEFORE });
}

void reach_met(struct reach *r, uint64_t addr, struct window *ret)
{
	uint64_t page = addr >> PAGE_SHIFT;
	struct span was = { 0 };
	enum side side;
	unsigned i = find(r, page, &was, &side);

	*ret = (struct window){ 0 };
	if (side == INSIDE && was.nr > PAGES_PER_BLOCK)
		look_ahead(r, i, block_of(page), was, was.down, ret);
}

void reach_whole(struct reach *r, uint64_t addr, struct window *ret)
{
	uint64_t block = block_of(addr >> PAGE_SHIFT);

	*ret = (struct window){ .end = PAGES_PER_BLOCK };
	remember(r, REACH_STREAMS, (struct span){ .first = block, .nr = PAGES_PER_BLOCK });
}
