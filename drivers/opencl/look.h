/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_OPENCL_LOOK_H
#define DRIVERS_OPENCL_LOOK_H

/* What there is of OpenCL on this machine, and which of it a spec means. The uhmm command lists and measures by the same two
 * functions, so that a device has one number. */

#include <stdbool.h>
#include <stdint.h>

#include "drivers/opencl/cl.h"

#define CL_MAX_PLATFORMS 16u
#define CL_MAX_DEVICES   64u
#define CL_NAME_BYTES    128

struct cl_seen {
	uint32_t nr_platforms, nr_devices;
	struct {
		struct cl_platform *platform;
		char name[CL_NAME_BYTES];
	} platforms[CL_MAX_PLATFORMS];
	struct cl_device_seen {
		struct cl_device *device;
		unsigned platform; /* whose it is */
		char name[CL_NAME_BYTES], version[64];
		uint64_t type, memory, max_buffer; /* CL_DEVICE_TYPE_*, bytes */
		uint32_t available, unified;       /* unified: its memory is the host's */
		int32_t error;                     /* why it did not tell of its memory; 0: it did */
	} devices[CL_MAX_DEVICES]; /* by platform */
};

/* Return: CL_SUCCESS, also when there is nothing; else the loader's answer. Context: a thread of the program. */
int32_t cl_look(const struct cl *cl, struct cl_seen *ret);

/*
 * The device that the two texts mean; "" leaves it open. @device as a number counts the devices of the platforms that are
 * meant; left open, it is the first that is no CPU, if there is one: a machine with a GPU may well have a CPU's driver, too.
 * Return: its index, or -1.
 */
int cl_pick(const struct cl_seen *s, const char *platform, const char *device);

#endif
