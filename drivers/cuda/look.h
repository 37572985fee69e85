/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_CUDA_LOOK_H
#define DRIVERS_CUDA_LOOK_H

/* What there is of CUDA on this machine. The uhmm command lists by the same function, so that a device has one number. */

#include <stdint.h>

#include "drivers/cuda/cu.h"

#define CU_MAX_DEVICES 32u
#define CU_NAME_BYTES  128

struct cu_seen {
	int version; /* of CUDA, that the driver is for: 1000 * major + 10 * minor */
	unsigned nr;
	struct cu_device_seen {
		cu_device device;
		char name[CU_NAME_BYTES];
		uint64_t memory; /* bytes */
		int copy_engines, major, minor, maps_memory, compute_mode;
		cu_result error; /* why it did not tell of its memory; 0: it did */
	} devices[CU_MAX_DEVICES];
};

/* Return: CU_SUCCESS, also when there is nothing, or the driver is too old to be asked more than its version; else the library's
 * answer. Context: a thread of the program. */
cu_result cu_look(const struct cu *cu, struct cu_seen *ret);

/* What keeps a device from being used: the end of a sentence that begins with its name; or NULL. */
const char *cu_lacks(const struct cu_device_seen *d);

#endif
