/* SPDX-License-Identifier: MIT */
#ifndef EXAMPLES_KERNEL_OPENCL_H
#define EXAMPLES_KERNEL_OPENCL_H

/*
 * An OpenCL kernel on the memory of a device of uhmm: made in the driver's own context, by the functions of its own runtime, which
 * uhmm_device_native() gives. Programs with the OpenCL headers at hand take the types from there.
 *
 * The first arguments of the kernel are always these:  global uchar *memory, global const struct uhmm_extent *table, ulong nr
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <uhmm/uhmm.h>

#define CL_MEM_READ_ONLY_COPY ((uint64_t)(1u << 2 | 1u << 5)) /* CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR */
#define CL_BUILD_LOG          0x1183u                          /* CL_PROGRAM_BUILD_LOG */

struct opencl_kernel {
	void *context, *device, *queue, *memory, *program, *kernel;
	void *(*create_program)(void *context, uint32_t nr, const char **text, const size_t *bytes, int32_t *ret);
	int32_t (*build)(void *program, uint32_t nr, void *const *devices, const char *options, void *notify, void *ctx);
	int32_t (*build_info)(void *program, void *device, uint32_t what, size_t bytes, void *ret, size_t *ret_bytes);
	void *(*create_kernel)(void *program, const char *name, int32_t *ret);
	void *(*create_buffer)(void *context, uint64_t flags, size_t bytes, const void *host, int32_t *ret);
	int32_t (*set_arg)(void *kernel, uint32_t index, size_t bytes, const void *value);
	int32_t (*enqueue)(void *queue, void *kernel, uint32_t dimensions, const size_t *offset, const size_t *global, const size_t *local,
			   uint32_t nr_wait, void *const *wait, void **ret_event);
	int32_t (*finish)(void *queue);
	int32_t (*release_mem)(void *mem);
	int32_t (*release_kernel)(void *kernel);
	int32_t (*release_program)(void *program);
};

/* Has the device such a runtime? */
static inline int opencl_kernel_possible(struct uhmm_device *dev)
{
	void *found;

	return !uhmm_device_native(dev, "clCreateKernel", &found);
}

static inline int opencl_kernel_error(const char *what, int32_t r)
{
	fprintf(stderr, "%s failed with OpenCL's error %d\n", what, r);
	return -EIO;
}

/* Return: 0; -ENOENT when the runtime lacks something; -EIO, said. */
static inline int opencl_kernel_make(struct opencl_kernel *k, struct uhmm_device *dev, const char *text, const char *name,
				     const char *options)
{
	static const char *const functions[] = { "clCreateProgramWithSource", "clBuildProgram", "clGetProgramBuildInfo", "clCreateKernel",
						 "clCreateBuffer", "clSetKernelArg", "clEnqueueNDRangeKernel", "clFinish",
						 "clReleaseMemObject", "clReleaseKernel", "clReleaseProgram" };
	char log[4096] = "";
	int32_t r;

	if (uhmm_device_native(dev, "context", &k->context) || uhmm_device_native(dev, "device", &k->device) ||
	    uhmm_device_native(dev, "queue", &k->queue) || uhmm_device_native(dev, "buffer0", &k->memory))
		return -ENOENT;
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		void *found;

		if (uhmm_device_native(dev, functions[i], &found))
			return -ENOENT;
		memcpy((char *)&k->create_program + i * sizeof(found), &found, sizeof(found));
	}
	k->program = k->create_program(k->context, 1, &text, NULL, &r);
	if (r)
		return opencl_kernel_error("clCreateProgramWithSource", r);
	r = k->build(k->program, 1, &k->device, options, NULL, NULL);
	if (r) {
		(void)k->build_info(k->program, k->device, CL_BUILD_LOG, sizeof(log) - 1, log, NULL);
		fprintf(stderr, "%s\n", log);
		return opencl_kernel_error("clBuildProgram", r);
	}
	k->kernel = k->create_kernel(k->program, name, &r);
	return r ? opencl_kernel_error("clCreateKernel", r) : 0;
}

/* Argument number @i, from 3 on. */
static inline int opencl_kernel_arg(struct opencl_kernel *k, uint32_t i, size_t bytes, const void *value)
{
	int32_t r = k->set_arg(k->kernel, i, bytes, value);

	return r ? opencl_kernel_error("clSetKernelArg", r) : 0;
}

/* Runs @items of it on what @work has, and waits. Return: 0; -EIO, said. */
static inline int opencl_kernel_run(struct opencl_kernel *k, struct uhmm_work *work, size_t items)
{
	size_t nr;
	const struct uhmm_work_extent *extents = uhmm_work_extents(work, &nr);
	uint64_t nr_extents = nr;
	int32_t r;
	void *table = k->create_buffer(k->context, CL_MEM_READ_ONLY_COPY, nr * sizeof(*extents), extents, &r);

	if (r)
		return opencl_kernel_error("clCreateBuffer", r);
	r = opencl_kernel_arg(k, 0, sizeof(k->memory), &k->memory) || opencl_kernel_arg(k, 1, sizeof(table), &table) ||
	    opencl_kernel_arg(k, 2, sizeof(nr_extents), &nr_extents);
	if (!r)
		r = k->enqueue(k->queue, k->kernel, 1, NULL, &items, NULL, 0, NULL, NULL);
	if (!r)
		r = k->finish(k->queue);
	(void)k->release_mem(table);
	return r ? opencl_kernel_error("the kernel", r) : 0;
}

/* Accepts a zeroed one. */
static inline void opencl_kernel_drop(struct opencl_kernel *k)
{
	if (k->kernel)
		(void)k->release_kernel(k->kernel);
	if (k->program)
		(void)k->release_program(k->program);
}

#endif
