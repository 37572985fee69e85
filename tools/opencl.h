/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_OPENCL_H
#define TOOLS_OPENCL_H

/* OpenCL without uhmm: what there is of it, and how fast it copies by itself. */

#include <stdbool.h>
#include <stdint.h>

#include "drivers/opencl/look.h"
#include "tools/samples.h"

/* Return: NULL; or a sentence that says why nothing can be listed. */
const char *opencl_look(struct cl_seen *ret);

/* A buffer on the device that @spec, "opencl:...", means, apart from the driver's. */
struct opencl_alone;

/* Return: 0, or a negative errno after saying why. */
int opencl_alone_open(struct opencl_alone **ret, const char *spec, uint64_t bytes);

/* Accepts NULL. */
void opencl_alone_close(struct opencl_alone *a);

/*
 * Copy all of it from @host, or to it, by commands of @unit_bytes that are waited for one by one, and add the time of each in
 * microseconds to @ret_us. Return: seconds, or a negative value after saying why.
 */
double opencl_alone_write(struct opencl_alone *a, const unsigned char *host, uint64_t unit_bytes, struct samples *ret_us);
double opencl_alone_read(struct opencl_alone *a, unsigned char *host, uint64_t unit_bytes, struct samples *ret_us);

#endif
