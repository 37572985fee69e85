/* SPDX-License-Identifier: MIT */
/*
 * Which device a spec means. A platform, and a device, is named by its number as the loader counts, or by a part of its name,
 * large and small letters alike. device=N counts the devices of platform=, or of all platforms; without device= the first that is
 * no CPU is taken, if there is one: a machine with a GPU may well have a CPU's driver, too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "drivers/opencl/opencl.h"

#define MAX_PLATFORMS 16u
#define MAX_DEVICES   64u

struct seen {
	const struct cl *cl;
	struct cl_platform *platforms[MAX_PLATFORMS];
	struct cl_device *devices[MAX_DEVICES]; /* of the platforms that are meant */
	unsigned platform_of[MAX_DEVICES];
	uint32_t nr_platforms, nr_devices;
};

static const char *platform_name(const struct seen *s, unsigned i, char *ret, size_t bytes)
{
	if (s->cl->platform_info(s->platforms[i], CL_PLATFORM_NAME, bytes, ret, NULL))
		snprintf(ret, bytes, "a platform without a name");
	return ret;
}

static const char *device_name(const struct seen *s, unsigned i, char *ret, size_t bytes)
{
	if (s->cl->device_info(s->devices[i], CL_DEVICE_NAME, bytes, ret, NULL))
		snprintf(ret, bytes, "a device without a name");
	return ret;
}

/* Does @text, a number or a part of a name, mean the one that has number @i and @name? Nothing means all. */
static bool means(const char *text, unsigned i, const char *name)
{
	if (text[strspn(text, "0123456789")])
		return strcasestr(name, text);
	return !*text || strtoul(text, NULL, 10) == i;
}

/* "0 = Portable Computing Language, 1 = ..." */
static void list(const struct seen *s, unsigned nr, const char *(*name)(const struct seen *, unsigned, char *, size_t), char *ret,
		 size_t bytes)
{
	size_t used = 0;
	char one[128];

	ret[0] = '\0';
	for (unsigned i = 0; i < nr && used < bytes; i++)
		used += (size_t)snprintf(ret + used, bytes - used, "%s%u = %s", i ? ", " : "", i, name(s, i, one, sizeof(one)));
}

static int find_platforms(struct seen *s, char *why, size_t why_bytes)
{
	int32_t r = s->cl->get_platforms(MAX_PLATFORMS, s->platforms, &s->nr_platforms);

	if (r && r != CL_PLATFORM_NOT_FOUND_KHR)
		return err_why(why, why_bytes, -ENODEV, "the OpenCL platforms cannot be listed: %s (%d)", cl_error_name(r), r);
	if (r || !s->nr_platforms)
		return err_why(why, why_bytes, -ENODEV, "there is no OpenCL platform: no driver (ICD) is installed (Debian has one for "
							"CPUs in pocl-opencl-icd)");
	s->nr_platforms = (uint32_t)min_u64(s->nr_platforms, MAX_PLATFORMS);
	return 0;
}

static void add_devices(struct seen *s, unsigned platform)
{
	uint32_t nr = 0, room = MAX_DEVICES - s->nr_devices;

	if (!room || s->cl->get_devices(s->platforms[platform], CL_DEVICE_TYPE_ALL, room, s->devices + s->nr_devices, &nr))
		return;
	for (nr = (uint32_t)min_u64(nr, room); nr; nr--)
		s->platform_of[s->nr_devices++] = platform;
}

static int find_devices(struct seen *s, const char *text, char *why, size_t why_bytes)
{
	char name[128], names[240];
	unsigned nr = 0;

	for (unsigned i = 0; i < s->nr_platforms; i++)
		if (means(text, i, platform_name(s, i, name, sizeof(name)))) {
			add_devices(s, i);
			nr++;
		}
	list(s, s->nr_platforms, platform_name, names, sizeof(names));
	if (!nr)
		return err_why(why, why_bytes, -ENODEV, "there is no OpenCL platform \"%s\"; the platforms are %s", text, names);
	if (!s->nr_devices)
		return err_why(why, why_bytes, -ENODEV, "there is no OpenCL device on platform%s %s", nr > 1 ? "s" : "",
			       *text ? text : names);
	return 0;
}

static bool is_cpu(const struct seen *s, unsigned i)
{
	uint64_t type = 0;

	return !s->cl->device_info(s->devices[i], CL_DEVICE_TYPE, sizeof(type), &type, NULL) && type & CL_DEVICE_TYPE_CPU;
}

static int pick(const struct seen *s, const char *text, unsigned *ret, char *why, size_t why_bytes)
{
	char name[128], names[240];
	bool found = false;

	for (unsigned i = 0; i < s->nr_devices; i++) {
		if (!means(text, i, device_name(s, i, name, sizeof(name))))
			continue;
		if (!found)
			*ret = i;
		found = true;
		if (*text || !is_cpu(s, i)) {
			*ret = i;
			return 0;
		}
	}
	if (found)
		return 0;
	list(s, s->nr_devices, device_name, names, sizeof(names));
	return err_why(why, why_bytes, -ENODEV, "there is no OpenCL device \"%s\"; the devices are %s", text, names);
}

/* What is to be known of it. */
static int ask(const struct seen *s, unsigned i, struct chosen *ret, char *why, size_t why_bytes)
{
	uint32_t available = 0, unified = 0;
	char version[64] = "";
	int32_t r;

	ret->device = s->devices[i];
	device_name(s, i, ret->name, sizeof(ret->name));
	platform_name(s, s->platform_of[i], ret->platform, sizeof(ret->platform));
	r = s->cl->device_info(ret->device, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(ret->memory), &ret->memory, NULL);
	if (!r)
		r = s->cl->device_info(ret->device, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(ret->max_buffer), &ret->max_buffer, NULL);
	if (!r)
		r = s->cl->device_info(ret->device, CL_DEVICE_AVAILABLE, sizeof(available), &available, NULL);
	if (r)
		return err_why(why, why_bytes, -ENODEV, "%s does not tell its memory: %s (%d)", ret->name, cl_error_name(r), r);
	if (!available)
		return err_why(why, why_bytes, -ENODEV, "%s is not available now", ret->name);
	(void)s->cl->device_info(ret->device, CL_DEVICE_VERSION, sizeof(version), version, NULL);
	if (!strncmp(version, "OpenCL 1.0", 10) || !strncmp(version, "OpenCL 1.1", 10))
		return err_why(why, why_bytes, -ENODEV, "%s has %s; OpenCL 1.2 is needed", ret->name, version);
	(void)s->cl->device_info(ret->device, CL_DEVICE_HOST_UNIFIED_MEMORY, sizeof(unified), &unified, NULL);
	ret->unified = unified;
	return 0;
}

int choose(struct opencl *o, char *ret_why, size_t why_bytes)
{
	struct seen s = { .cl = o->cl };
	unsigned i = 0;
	int r = find_platforms(&s, ret_why, why_bytes);

	if (!r)
		r = find_devices(&s, o->platform_text, ret_why, why_bytes);
	if (!r)
		r = pick(&s, o->device_text, &i, ret_why, why_bytes);
	return r ? r : ask(&s, i, &o->chosen, ret_why, why_bytes);
}
