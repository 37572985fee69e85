/* SPDX-License-Identifier: MIT */
#include "drivers/cuda/look.h"

#include <stdio.h>
#include <string.h>

static void look_at_device(const struct cu *cu, cu_device device, struct cu_device_seen *ret)
{
	static const struct { int what; size_t offset; } asked[] = {
		{ CU_ATTR_COPY_ENGINES, offsetof(struct cu_device_seen, copy_engines) },
		{ CU_ATTR_MAJOR, offsetof(struct cu_device_seen, major) },
		{ CU_ATTR_MINOR, offsetof(struct cu_device_seen, minor) },
		{ CU_ATTR_MAPS_MEMORY, offsetof(struct cu_device_seen, maps_memory) },
		{ CU_ATTR_COMPUTE_MODE, offsetof(struct cu_device_seen, compute_mode) },
	};
	size_t memory = 0;

	*ret = (struct cu_device_seen){ .device = device };
	if (cu->device_name(ret->name, sizeof(ret->name), device))
		snprintf(ret->name, sizeof(ret->name), "a device without a name");
	for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++)
		(void)cu->device_attribute((int *)(void *)((char *)ret + asked[i].offset), asked[i].what, device);
	ret->error = cu->device_memory(&memory, device);
	ret->memory = memory;
}

cu_result cu_look(const struct cu *cu, struct cu_seen *ret)
{
	int nr = 0;
	cu_result r;

	memset(ret, 0, sizeof(*ret));
	r = cu->version(&ret->version);
	if (r || ret->version < CU_MIN_VERSION)
		return r;
	r = cu->init(0);
	if (!r)
		r = cu->device_count(&nr);
	if (r)
		return r == CU_NO_DEVICE ? CU_SUCCESS : r;
	for (int i = 0; i < nr && ret->nr < CU_MAX_DEVICES; i++) {
		cu_device device;

		if (!cu->device_get(&device, i))
			look_at_device(cu, device, &ret->devices[ret->nr++]);
	}
	return CU_SUCCESS;
}

const char *cu_lacks(const struct cu_device_seen *d)
{
	if (d->error)
		return "does not tell its memory";
	if (d->compute_mode == CU_COMPUTE_PROHIBITED)
		return "is closed to all programs (compute mode \"prohibited\": nvidia-smi -c DEFAULT opens it)";
	if (!d->maps_memory)
		return "cannot map memory where it is wanted (cuMemMap), which is needed";
	return NULL;
}
