/* SPDX-License-Identifier: MIT */
#ifndef TESTS_BY_HAND_H
#define TESTS_BY_HAND_H

/* One migration by hand at a time. */

#include "block.h"

#define SYSTEM (UHMM_SELECT_SYSTEM | UHMM_SELECT_COMPOUND | UHMM_SELECT_FAULT)
#define HOME   (UHMM_SELECT_DEVICE | UHMM_SELECT_COMPOUND)

static struct uhmm_mpfn src[PAGES(UHMM_MIGRATE_BYTES)], dst[PAGES(UHMM_MIGRATE_BYTES)];
static struct uhmm_migrate_args args;
static struct uhmm_migrate *m;

/* A touch is served a moment before its claim ends: until then its pages would count as raced. */
static inline void settle(void *mem, size_t bytes)
{
	eventually(!count_where(mem, bytes, UHMM_WHERE_MOVING));
}

static inline void begin(void *mem, size_t bytes, uint32_t select)
{
	args = (struct uhmm_migrate_args){ .sz = sizeof(args), .start = mem, .len_bytes = bytes, .dev = dev, .select = select,
					   .src = src, .dst = dst };
	memset(dst, 0xff, sizeof(dst));
	settle(mem, bytes);
	assert_int_equal(uhmm_migrate_setup(space, &args, &m), 0);
}

/* All that was taken goes: @pages of them. */
static inline void end_all(size_t pages)
{
	assert_int_equal(uhmm_migrate_alloc(m), 0);
	assert_int_equal(uhmm_migrate_copy(m), 0);
	assert_int_equal(uhmm_migrate_pages(m), pages);
	assert_true(uhmm_migrate_finalize(m, NULL) >= 0);
}

#endif
