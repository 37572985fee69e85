/* SPDX-License-Identifier: MIT */
/* OpenCL devices, by the numbers that a spec takes. */
#include <stdlib.h>

#include "tools/doctor.h"
#include "tools/opencl.h"
#include "tools/size.h"

#define MAX_LISTED 16u

static void list_device(struct report *rep, const struct cl_seen *s, unsigned i)
{
	const struct cl_device_seen *d = &s->devices[i];
	char memory[SIZE_CHARS], buffer[SIZE_CHARS];

	if (d->error || !d->available)
		report_add(rep, FOUND_DEGRADED, "OpenCL", "see the manual of its driver", "opencl:device=%u is %s (%s), and %s", i, d->name,
			   s->platforms[d->platform].name, d->error ? cl_error_name(d->error) : "not available");
	else
		report_add(rep, FOUND_OK, "OpenCL", NULL, "opencl:device=%u is %s (%s), %s, %s at most in one buffer", i, d->name,
			   s->platforms[d->platform].name, size_print(d->memory, memory), size_print(d->max_buffer, buffer));
}

void doctor_opencl(struct report *rep)
{
	struct cl_seen *s = calloc(1, sizeof(*s));
	const char *why = s ? opencl_look(s) : "no memory";

	if (why)
		report_add(rep, FOUND_OK, "OpenCL", NULL, "none: %s", why);
	for (unsigned i = 0; !why && i < s->nr_devices && i < MAX_LISTED; i++)
		list_device(rep, s, i);
	free(s);
}
