/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_TOUCH_H
#define TOOLS_TOUCH_H

#include <stdint.h>

#include "tools/region.h"
#include "tools/samples.h"

enum touch_how {
	TOUCH_READ,
	TOUCH_WRITE, /* writes what region_fill() wrote there, so the contents stay */
};

/*
 * Touch the first word of every @step bytes of [from_bytes, to_bytes), one after another, and add how long each touch
 * took, in microseconds, to @ret_us (NULL: do not time them singly).
 * Return: the time of all together, in seconds.
 */
double touch_range(const struct region *r, uint64_t from_bytes, uint64_t to_bytes, uint64_t step, enum touch_how how,
		   struct samples *ret_us);

#endif
