/* SPDX-License-Identifier: MIT */
#ifndef TESTS_BLOCK_H
#define TESTS_BLOCK_H

/* One huge page with a pattern in it, of which parts go their own ways. */

#include "rig.h"

#define SEED 91
#define HALF (BLOCK / 2)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static inline char *filled(size_t bytes, bool huge)
{
	char *mem = map_anon(bytes, true, huge);

	fill_pattern(mem, bytes, SEED);
	return mem;
}

static inline void put_down(char *mem, size_t bytes)
{
	unmap_anon(mem, bytes);
	eventually(used_bytes() == 0);
}

/* The bytes [first, end) of it are as they were filled in. */
static inline void expect(const char *mem, size_t first, size_t end)
{
	assert_int_equal(check_pattern_at(mem + first, end - first, SEED, first), -1);
}

#endif
