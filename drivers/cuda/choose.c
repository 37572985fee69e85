/* SPDX-License-Identifier: MIT */
/* The device that a spec means, or a sentence that says why there is none. */
#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "drivers/cuda/cuda.h"

static int no_such(const struct cu_seen *s, const char *text, char *why, size_t why_bytes)
{
	char names[240];
	size_t used = 0;

	for (unsigned i = 0; i < s->nr && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%u = %s", i ? ", " : "", i, s->devices[i].name);
	return err_why(why, why_bytes, -ENODEV, "there is no CUDA device \"%s\"; the devices are %s", text, names);
}

/* The library is there, and does not work. */
static int no_answer(const struct cuda *c, cu_result r, char *why, size_t why_bytes)
{
	return err_why(why, why_bytes, -ENODEV, "CUDA does not start: %s (%d, %s)%s", cu_error_name(c->cu, r), r, cu_error_text(c->cu, r),
		       c->apart ? "; if it does in other programs, try apart=off" : "");
}

int cuda_choose(struct cuda *c, char *ret_why, size_t why_bytes)
{
	struct cu_seen s;
	cu_result r = cu_look(c->cu, &s);
	const struct cu_device_seen *found = NULL;

	if (r)
		return no_answer(c, r, ret_why, why_bytes);
	if (s.version < CU_MIN_VERSION)
		return err_why(ret_why, why_bytes, -ENODEV, "the NVIDIA driver is for CUDA %d.%d; 11.2 or newer is needed", s.version / 1000,
			       s.version % 1000 / 10);
	if (!s.nr)
		return err_why(ret_why, why_bytes, -ENODEV, "there is no CUDA device: no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it");
	for (unsigned i = 0; i < s.nr; i++)
		if (spec_means(c->device_text, i, s.devices[i].name) && (!found || (!*c->device_text && cu_lacks(found))))
			found = &s.devices[i];
	if (!found)
		return no_such(&s, c->device_text, ret_why, why_bytes);
	c->chosen = *found;
	return cu_lacks(found) ? err_why(ret_why, why_bytes, -ENODEV, "%s %s", found->name, cu_lacks(found)) : 0;
}
