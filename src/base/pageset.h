/* SPDX-License-Identifier: MIT */
#ifndef BASE_PAGESET_H
#define BASE_PAGESET_H

/* A set of base pages of one block: 512 bits. */

#include <stdbool.h>
#include <stdint.h>

#include "base/pages.h"

struct pageset {
	uint64_t w[PAGES_PER_BLOCK / 64];
};

static inline bool pageset_has(const struct pageset *s, unsigned i) { return s->w[i / 64] >> (i % 64) & 1; }
static inline void pageset_add(struct pageset *s, unsigned i)       { s->w[i / 64] |= UINT64_C(1) << (i % 64); }
static inline void pageset_del(struct pageset *s, unsigned i)       { s->w[i / 64] &= ~(UINT64_C(1) << (i % 64)); }

static inline void pageset_add_range(struct pageset *s, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++)
		pageset_add(s, i);
}

static inline unsigned pageset_count(const struct pageset *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PAGES_PER_BLOCK / 64; i++)
		n += (unsigned)__builtin_popcountll(s->w[i]);
	return n;
}

static inline bool pageset_empty(const struct pageset *s)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK / 64; i++)
		if (s->w[i])
			return false;
	return true;
}

/* @s becomes what is in @s and in @of; in @s but not in @of; in either. */
static inline void pageset_keep(struct pageset *s, const struct pageset *of)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK / 64; i++)
		s->w[i] &= of->w[i];
}

static inline void pageset_remove(struct pageset *s, const struct pageset *of)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK / 64; i++)
		s->w[i] &= ~of->w[i];
}

static inline void pageset_join(struct pageset *s, const struct pageset *of)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK / 64; i++)
		s->w[i] |= of->w[i];
}

/* The first member at or after @from, 512 if there is none. */
static inline unsigned pageset_next(const struct pageset *s, unsigned from)
{
	while (from < PAGES_PER_BLOCK) {
		uint64_t rest = s->w[from / 64] >> (from % 64);

		if (rest)
			return from + (unsigned)__builtin_ctzll(rest);
		from = (from | 63) + 1;
	}
	return PAGES_PER_BLOCK;
}

/* The end of the run of members that starts at @first. */
static inline unsigned pageset_run_end(const struct pageset *s, unsigned first)
{
	while (first < PAGES_PER_BLOCK && pageset_has(s, first))
		first++;
	return first;
}

/* for each maximal run [i, end) of members */
#define pageset_for_each_run(s, i, end) \
	for (unsigned i = pageset_next((s), 0), end; i < PAGES_PER_BLOCK && ((end = pageset_run_end((s), i)), true); \
	     i = pageset_next((s), end))

#define pageset_for_each(s, i) \
	for (unsigned i = pageset_next((s), 0); i < PAGES_PER_BLOCK; i = pageset_next((s), i + 1))

#endif
