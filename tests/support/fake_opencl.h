/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAKE_OPENCL_H
#define TESTS_FAKE_OPENCL_H

/*
 * A loader with devices of its own, which fail when they are told to: opencl:library=FAKE. Opened with apart=off it is the
 * same instance for the driver and for the test, which finds this struct under the name "fake_opencl".
 *
 * Platforms: "Fake One" has "fake cpu"; "Fake Two" has "fake small cpu" and "fake gpu". Each device has 512 MiB, of which one
 * buffer may have 128 MiB.
 */

#include <stdatomic.h>
#include <stdint.h>

struct fake_opencl {
	uint32_t nr_platforms;    /* 0 to 2 */
	uint32_t no_devices;      /* 1: platforms have none */
	uint32_t unavailable;     /* 1: devices are not available */
	const char *version;      /* NULL: OpenCL 1.2 */

	/* The next time it is called it fails so; 0: it does not. */
	_Atomic int32_t create_context, create_buffer, migrate, enqueue;
	_Atomic int32_t status; /* a command is taken, and its event tells of this */

	_Atomic int32_t live;     /* contexts, queues, buffers and events that were not released */
	_Atomic int32_t commands; /* ever */
};

#endif
