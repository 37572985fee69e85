/* SPDX-License-Identifier: MIT */
/* The device that a spec means, or a sentence that says why there is none. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "drivers/opencl/opencl.h"

struct names {
	char text[240];
	size_t used;
	unsigned nr;
};

/* "0 = Portable Computing Language, 1 = ..." */
static void add_name(struct names *n, unsigned number, const char *name)
{
	if (n->used < sizeof(n->text))
		n->used += (size_t)snprintf(n->text + n->used, sizeof(n->text) - n->used, "%s%u = %s", n->nr ? ", " : "", number, name);
	n->nr++;
}

/* Why cl_pick() found none. */
static int why_none(const struct cl_seen *s, const char *platform, const char *device, char *why, size_t why_bytes)
{
	struct names all = { 0 }, meant = { 0 }, devices = { 0 };

	for (unsigned i = 0; i < s->nr_platforms; i++) {
		add_name(&all, i, s->platforms[i].name);
		if (spec_means(platform, i, s->platforms[i].name))
			add_name(&meant, i, s->platforms[i].name);
	}
	for (unsigned i = 0; i < s->nr_devices; i++)
		if (spec_means(platform, s->devices[i].platform, s->platforms[s->devices[i].platform].name))
			add_name(&devices, devices.nr, s->devices[i].name);
	if (!all.nr)
		return err_why(why, why_bytes, -ENODEV, "there is no OpenCL platform: no driver (ICD) is installed (Debian has one for "
							"CPUs in pocl-opencl-icd)");
	if (!meant.nr)
		return err_why(why, why_bytes, -ENODEV, "there is no OpenCL platform \"%s\"; the platforms are %s", platform, all.text);
	if (!devices.nr)
		return err_why(why, why_bytes, -ENODEV, "there is no OpenCL device on platform %s", meant.text);
	return err_why(why, why_bytes, -ENODEV, "there is no OpenCL device \"%s\"; the devices are %s", device, devices.text);
}

int choose(struct opencl *o, char *ret_why, size_t why_bytes)
{
	struct cl_device_seen *d = &o->chosen;
	struct cl_seen s;
	int32_t r = cl_look(o->cl, &s);
	int i;

	if (r)
		return err_why(ret_why, why_bytes, -ENODEV, "the OpenCL platforms cannot be listed: %s (%d)", cl_error_name(r), r);
	i = cl_pick(&s, o->platform_text, o->device_text);
	if (i < 0)
		return why_none(&s, o->platform_text, o->device_text, ret_why, why_bytes);
	*d = s.devices[i];
	if (d->error)
		return err_why(ret_why, why_bytes, -ENODEV, "%s does not tell its memory: %s (%d)", d->name, cl_error_name(d->error),
			       d->error);
	if (!d->available)
		return err_why(ret_why, why_bytes, -ENODEV, "%s is not available now", d->name);
	if (!strncmp(d->version, "OpenCL 1.0", 10) || !strncmp(d->version, "OpenCL 1.1", 10))
		return err_why(ret_why, why_bytes, -ENODEV, "%s has %s; OpenCL 1.2 is needed", d->name, d->version);
	return 0;
}
