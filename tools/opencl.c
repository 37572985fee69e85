/* SPDX-License-Identifier: MIT */
/* The loader is opened a second time, in a namespace of its own, as the driver does it: what is measured alone shares nothing
 * with what it is compared to but the device. */
#include "tools/opencl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/clock.h"
#include "tools/say.h"

struct opencl_alone {
	struct cl cl;
	struct cl_context *context;
	struct cl_queue *queue;
	struct cl_mem *mem;
	uint64_t bytes;
};

const char *opencl_look(struct cl_seen *ret)
{
	static char why[120];
	struct cl cl;
	const char *missing = cl_load(&cl, CL_LOADER, 1);
	int32_t r = missing ? 0 : cl_look(&cl, ret);

	if (missing)
		snprintf(why, sizeof(why), "no loader of OpenCL drivers, or none that is new enough: %s is missing", missing);
	else if (r)
		snprintf(why, sizeof(why), "the loader answers %s", cl_error_name(r));
	else if (!ret->nr_devices)
		snprintf(why, sizeof(why), ret->nr_platforms ? "no device" : "no driver (ICD) is installed");
	return missing || r || !ret->nr_devices ? why : NULL;
}

/* The value of a spec's option, or what it has when it is not there. */
static const char *option(const char *spec, const char *key, const char *otherwise, char *ret, size_t bytes)
{
	size_t len = strlen(key);

	for (const char *at = strchr(spec, ':'); at && *at; at = strchr(at + 1, ','))
		if (!strncmp(at + 1, key, len) && at[1 + len] == '=') {
			at += 2 + len;
			snprintf(ret, bytes, "%.*s", (int)strcspn(at, ","), at);
			return ret;
		}
	return otherwise;
}

static int failed(const char *what, int32_t r)
{
	say("OpenCL by itself, for comparison: %s failed with %s (%d)", what, cl_error_name(r), r);
	return -EIO;
}

static int open_on(struct opencl_alone *a, struct cl_device *device)
{
	int32_t r = 0;

	a->context = a->cl.create_context(NULL, 1, &device, NULL, NULL, &r);
	if (r)
		return failed("clCreateContext", r);
	a->queue = a->cl.create_queue(a->context, device, 0, &r);
	if (r)
		return failed("clCreateCommandQueue", r);
	a->mem = a->cl.create_buffer(a->context, CL_MEM_READ_WRITE, a->bytes, NULL, &r);
	return r ? failed("clCreateBuffer", r) : 0;
}

int opencl_alone_open(struct opencl_alone **ret, const char *spec, uint64_t bytes)
{
	char library[256], apart[8], platform[64], device[64];
	struct opencl_alone *a = calloc(1, sizeof(*a));
	struct cl_seen *seen = calloc(1, sizeof(*seen));
	const char *missing = NULL;
	int r = -ENOMEM, i = -1;

	*ret = a;
	if (a && seen) {
		const char *own = option(spec, "apart", "on", apart, sizeof(apart));

		a->bytes = bytes;
		missing = cl_load(&a->cl, option(spec, "library", CL_LOADER, library, sizeof(library)),
				  strcmp(own, "off") && strcmp(own, "0"));
		if (!missing && !cl_look(&a->cl, seen))
			i = cl_pick(seen, option(spec, "platform", "", platform, sizeof(platform)),
				    option(spec, "device", "", device, sizeof(device)));
		r = i >= 0 ? open_on(a, seen->devices[i].device) : -ENODEV;
		if (i < 0)
			say("OpenCL by itself, for comparison: %s", missing ? missing : "the device is not found again");
	}
	free(seen);
	if (r) {
		opencl_alone_close(a);
		*ret = NULL;
	}
	return r;
}

void opencl_alone_close(struct opencl_alone *a)
{
	if (!a)
		return;
	if (a->mem)
		(void)a->cl.release_mem(a->mem);
	if (a->queue)
		(void)a->cl.release_queue(a->queue);
	if (a->context)
		(void)a->cl.release_context(a->context);
	free(a);
}

static int32_t await(struct opencl_alone *a, struct cl_event *event)
{
	int32_t r = a->cl.flush(a->queue);

	if (!r)
		r = a->cl.wait_for_events(1, &event);
	(void)a->cl.release_event(event);
	return r;
}

double opencl_alone_write(struct opencl_alone *a, const unsigned char *host, uint64_t unit_bytes, struct samples *ret_us)
{
	uint64_t began = clock_ns();

	for (uint64_t at = 0; at + unit_bytes <= a->bytes; at += unit_bytes) {
		uint64_t start = clock_ns();
		struct cl_event *event;
		int32_t r = a->cl.enqueue_write(a->queue, a->mem, 0, at, unit_bytes, host + at, 0, NULL, &event);

		if (!r)
			r = await(a, event);
		if (r)
			return failed("clEnqueueWriteBuffer", r);
		samples_add(ret_us, clock_us_since(start));
	}
	return (double)(clock_ns() - began) / 1e9;
}

double opencl_alone_read(struct opencl_alone *a, unsigned char *host, uint64_t unit_bytes, struct samples *ret_us)
{
	uint64_t began = clock_ns();

	for (uint64_t at = 0; at + unit_bytes <= a->bytes; at += unit_bytes) {
		uint64_t start = clock_ns();
		struct cl_event *event;
		int32_t r = a->cl.enqueue_read(a->queue, a->mem, 0, at, unit_bytes, host + at, 0, NULL, &event);

		if (!r)
			r = await(a, event);
		if (r)
			return failed("clEnqueueReadBuffer", r);
		samples_add(ret_us, clock_us_since(start));
	}
	return (double)(clock_ns() - began) / 1e9;
}
