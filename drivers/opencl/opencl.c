/* SPDX-License-Identifier: MIT */
/*
 * opencl:[platform=N|NAME][,device=N|NAME][,size=SIZE]: memory of an OpenCL device.
 *
 *   platform, device  a number, or a part of a name (look.h)
 *   size=SIZE         default: half of the device's memory, so that the program's own kernels find the other half
 *   buffer=SIZE       the largest buffer to ask for; default: the largest that the device allows
 *   library=PATH      the loader, default libOpenCL.so.1
 *   apart=off         share the program's C library with it, see below
 *
 * What OpenCL may and may not be called from
 *
 * A driver's callbacks run in fault threads, while a thread of the program waits for its page: one that is inside malloc(),
 * perhaps, or inside OpenCL itself, in a call that was given memory which is away. Every call of OpenCL allocates, and takes
 * locks. In the program's own C library a fault thread would then wait for an arena's lock that the waiting thread holds, or
 * touch a page of malloc()'s that is on the device - and wait for itself; and in the program's own OpenCL it would wait for the
 * lock of a queue or a context that is held across the touch. Neither can be seen coming, and it need not happen often to
 * happen.
 *
 * So OpenCL is opened apart, in a link namespace of its own (dlmopen): a second copy of the loader, its drivers and the C
 * library, with a heap and locks that no thread of the program ever holds or knows. What is allocated there lies in mappings of
 * its own - a C library that is not the first leaves brk alone - which nobody gives to uhmm by name. Threads of that heap run
 * with all signals blocked, as the program's handlers are not for them.
 *
 * What remains:
 * - A policy, and so `uhmm run`, looks after any memory of the process, those mappings too: this device says UHMM_CAP_HEAP, and
 *   uhmm_policy_start() refuses to work beside it.
 * - A program must not hand OpenCL's own mappings to uhmm: whole-address-space sweeps are not for this device.
 * - With apart=off, for drivers that do not work in a namespace, the rule is the program's to keep: nothing that malloc() gave,
 *   and no memory in use by a call of OpenCL, may be on the device.
 * - A child of fork(2) has no threads of OpenCL: it can open no such device if its parent had one (src/base/runtime.c). What was away is
 *   given to it by its parent's process, as from any device.
 * - When the process ends, drivers' destructors may run before the program's. Exit handlers (atexit) come before both; who
 *   touches memory on the device in a destructor asks a driver that may be gone.
 * - The namespace's C library sees the environment that the process was started with, not what setenv() changed.
 *
 * Kernels on this memory
 *
 * A kernel must be made in the driver's own context, by the functions of its own copy of OpenCL: uhmm_device_native() gives both. By
 * name: "context", "device", "queue" (for the program's commands too; OpenCL lets threads share it), "buffer0" and so on - the buffers lie
 * one behind the other in the device's offsets, so a folio at offset O is in buffer O / B, for B see buffer= - and any function of the
 * standard, as "clCreateKernel". include/uhmm/uhmm.cl has what a kernel needs to follow the program's pointers. What the program gives
 * to these functions must not be on the device, nor may they be called while the program holds what a touch of it waits for (work.h).
 */
#include "drivers/opencl/opencl.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/runtime.h"

static const struct spec_key keys[] = {
	{ "platform", SPEC_WORD, offsetof(struct opencl, platform_text) },
	{ "device", SPEC_WORD, offsetof(struct opencl, device_text) },
	{ "size", SPEC_SIZE, offsetof(struct opencl, size) },
	{ "buffer", SPEC_SIZE, offsetof(struct opencl, buffer) },
	{ "library", SPEC_PATH, offsetof(struct opencl, library) },
	{ "apart", SPEC_BOOL, offsetof(struct opencl, apart) },
	{ NULL, 0, 0 },
};

static uint64_t context_bytes(void) { return block_up(sizeof(struct opencl)); }

static int parse(struct opencl *o, const char *options, char *why, size_t why_bytes)
{
	int r;

	o->size = UINT64_MAX;
	o->buffer = UINT64_MAX;
	o->apart = 1;
	snprintf(o->library, sizeof(o->library), "%s", CL_LOADER);
	r = spec_parse(options, keys, o, why, why_bytes);
	if (r)
		return r;
	if (o->size != UINT64_MAX && (!o->size || !block_aligned(o->size) || o->size > UINT64_C(1) << 51))
		return err_why(why, why_bytes, -EINVAL, "size must be a multiple of 2M, from 2M to 2P");
	if (o->buffer != UINT64_MAX && (!o->buffer || !block_aligned(o->buffer)))
		return err_why(why, why_bytes, -EINVAL, "buffer must be a multiple of 2M, at least 2M");
	return 0;
}

/* What was asked for, and what the chosen device has. */
static int fit(struct opencl *o, char *why, size_t why_bytes)
{
	const struct cl_device_seen *c = &o->chosen;
	unsigned long long mib = c->memory >> 20;

	if (o->size == UINT64_MAX)
		o->size = block_down(c->memory / 2);
	o->buffer = min_u64(o->buffer, block_down(c->max_buffer));
	if (!o->size || !o->buffer)
		return err_why(why, why_bytes, -ENOMEM, "%s has %llu MiB, which is too little", c->name, mib);
	if (o->size > c->memory)
		return err_why(why, why_bytes, -ENOMEM, "size is more than the %llu MiB that %s has", mib, c->name);
	if ((o->size - 1) / o->buffer >= OPENCL_BUFFERS)
		return err_why(why, why_bytes, -EINVAL, "size takes more than %u buffers of %llu MiB, the largest that may be used",
			       OPENCL_BUFFERS, (unsigned long long)(o->buffer >> 20));
	return 0;
}

static void opencl_close(void *ctx)
{
	struct opencl *o = ctx;

	if (!o)
		return;
	memory_close(o);
	pthread_mutex_destroy(&o->lanes_lock);
	uhmm_host_free(o, context_bytes());
}

static int open_quietly(void *ctx, char *why, size_t why_bytes)
{
	struct opencl *o = ctx;
	int r = opencl_runtime(o, why, why_bytes);

	if (!r)
		r = choose(o, why, why_bytes);
	if (!r)
		r = fit(o, why, why_bytes);
	if (!r)
		r = memory_open(o, why, why_bytes);
	return r;
}

static int opencl_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	struct opencl *o = uhmm_host_reserve(context_bytes());
	int r;

	if (!o)
		return -ENOMEM;
	pthread_mutex_init(&o->lanes_lock, NULL);
	r = parse(o, options, ret_why, why_bytes);
	if (!r)
		r = runtime_quietly(open_quietly, o, ret_why, why_bytes);
	if (r) {
		opencl_close(o);
		return r;
	}
	ret_props->size_bytes = o->size;
	ret_props->orders = 0;
	ret_props->caps = UHMM_CAP_ASYNC | UHMM_CAP_HEAP;
	*ret_ctx = o;
	return 0;
}

static int opencl_native(void *ctx, const char *name, void **ret)
{
	struct opencl *o = ctx;
	char *end;

	if (!strcmp(name, "context")) {
		*ret = o->context;
	} else if (!strcmp(name, "device")) {
		*ret = o->chosen.device;
	} else if (!strcmp(name, "queue")) {
		*ret = o->shared;
	} else if (!strncmp(name, "buffer", 6)) {
		unsigned long n = strtoul(name + 6, &end, 10);

		if (end == name + 6 || *end || n >= o->nr_buffers)
			return -ENOENT;
		*ret = o->buffers[n];
	} else {
		*ret = strncmp(name, "cl", 2) ? NULL : dlsym(o->runtime->handle, name);
	}
	return *ret ? 0 : -ENOENT;
}

static uint64_t opencl_host_bytes(void *ctx)
{
	struct opencl *o = ctx;

	return atomic_load_explicit(&o->touched_bytes, memory_order_relaxed);
}

extern const struct uhmm_driver uhmm_driver_opencl;

const struct uhmm_driver uhmm_driver_opencl = {
	.sz = sizeof(struct uhmm_driver),
	.name = "opencl",
	.summary = "memory of an OpenCL device: a GPU's, or through PoCL a CPU's",
	.open = opencl_open,
	.close = opencl_close,
	.copy_in = opencl_copy_in,
	.copy_out = opencl_copy_out,
	.fence_wait = opencl_fence_wait,
	.clear = opencl_clear,
	.host_bytes = opencl_host_bytes,
	.native = opencl_native,
};
