/* SPDX-License-Identifier: MIT */
#include "tools/touch.h"

#include <stddef.h>

#include "tools/clock.h"

static inline void touch(const struct region *r, uint64_t at, enum touch_how how)
{
	volatile uint64_t *word = (volatile uint64_t *)(r->mem + at);

	if (how == TOUCH_WRITE)
		*word = region_word(at / sizeof(*word));
	else
		(void)*word;
}

double touch_range(const struct region *r, uint64_t from_bytes, uint64_t to_bytes, uint64_t step, enum touch_how how,
		   struct samples *ret_us)
{
	uint64_t start = clock_ns(), before = start, after;

	for (uint64_t at = from_bytes; at < to_bytes; at += step) {
		touch(r, at, how);
		if (!ret_us)
			continue;
		after = clock_ns();
		samples_add(ret_us, (double)(after - before) / 1e3);
		before = after;
	}
	return (double)(clock_ns() - start) / 1e9;
}
