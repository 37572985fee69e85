/* SPDX-License-Identifier: MIT */
#include "drivers/opencl/look.h"

#include <stdio.h>
#include <string.h>

#include "base/spec.h"

static void look_at_device(const struct cl *cl, struct cl_device *device, unsigned platform, struct cl_device_seen *ret)
{
	*ret = (struct cl_device_seen){ .device = device, .platform = platform };
	if (cl->device_info(device, CL_DEVICE_NAME, sizeof(ret->name), ret->name, NULL))
		snprintf(ret->name, sizeof(ret->name), "a device without a name");
	(void)cl->device_info(device, CL_DEVICE_VERSION, sizeof(ret->version), ret->version, NULL);
	(void)cl->device_info(device, CL_DEVICE_TYPE, sizeof(ret->type), &ret->type, NULL);
	(void)cl->device_info(device, CL_DEVICE_HOST_UNIFIED_MEMORY, sizeof(ret->unified), &ret->unified, NULL);
	(void)cl->device_info(device, CL_DEVICE_AVAILABLE, sizeof(ret->available), &ret->available, NULL);
	ret->error = cl->device_info(device, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(ret->memory), &ret->memory, NULL);
	if (!ret->error)
		ret->error = cl->device_info(device, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(ret->max_buffer), &ret->max_buffer, NULL);
}

static void look_at_platform(const struct cl *cl, unsigned platform, struct cl_seen *s)
{
	struct cl_device *devices[CL_MAX_DEVICES];
	uint32_t nr = 0, room = CL_MAX_DEVICES - s->nr_devices;

	if (cl->platform_info(s->platforms[platform].platform, CL_PLATFORM_NAME, CL_NAME_BYTES, s->platforms[platform].name, NULL))
		snprintf(s->platforms[platform].name, CL_NAME_BYTES, "a platform without a name");
	if (!room || cl->get_devices(s->platforms[platform].platform, CL_DEVICE_TYPE_ALL, room, devices, &nr))
		return;
	for (uint32_t i = 0; i < nr && i < room; i++)
		look_at_device(cl, devices[i], platform, &s->devices[s->nr_devices++]);
}

int32_t cl_look(const struct cl *cl, struct cl_seen *ret)
{
	struct cl_platform *platforms[CL_MAX_PLATFORMS];
	uint32_t nr = 0;
	int32_t r = cl->get_platforms(CL_MAX_PLATFORMS, platforms, &nr);

	memset(ret, 0, sizeof(*ret));
	if (r)
		return r == CL_PLATFORM_NOT_FOUND_KHR ? CL_SUCCESS : r;
	ret->nr_platforms = nr < CL_MAX_PLATFORMS ? nr : CL_MAX_PLATFORMS;
	for (unsigned i = 0; i < ret->nr_platforms; i++) {
		ret->platforms[i].platform = platforms[i];
		look_at_platform(cl, i, ret);
	}
	return CL_SUCCESS;
}

int cl_pick(const struct cl_seen *s, const char *platform, const char *device)
{
	unsigned number = 0;
	int found = -1;

	for (unsigned i = 0; i < s->nr_devices; i++) {
		const struct cl_device_seen *d = &s->devices[i];

		if (!spec_means(platform, d->platform, s->platforms[d->platform].name) || !spec_means(device, number++, d->name))
			continue;
		if (*device || !(d->type & CL_DEVICE_TYPE_CPU))
			return (int)i;
		if (found < 0)
			found = (int)i;
	}
	return found;
}
