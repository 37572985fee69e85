/* SPDX-License-Identifier: MIT */
#ifndef EXAMPLES_KERNEL_H
#define EXAMPLES_KERNEL_H

/*
 * A kernel on the memory of a device of uhmm, whichever runtime is behind it: OpenCL (kernel_opencl.h) or CUDA (kernel_cuda.h). Its
 * text is given for each; what is around it is the same.
 *
 * The first three arguments are the runtime's own, and set here: they are what the kernel needs to find the program's addresses.
 * The program's are counted from KERNEL_ARGS on.
 */
#include "kernel_cuda.h"
#include "kernel_opencl.h"

#define KERNEL_ARGS 3

struct kernel_source {
	const char *name;
	const char *opencl; /* OpenCL C */
	const char *cuda;   /* PTX */
};

struct kernel {
	int by_cuda;
	struct cuda_kernel cuda;
	struct opencl_kernel opencl;
};

/* Has the device a runtime that we have kernels for? */
static inline int kernel_possible(struct uhmm_device *dev)
{
	return opencl_kernel_possible(dev) || cuda_kernel_possible(dev);
}

/* Return: 0; -ENOENT when the runtime lacks something; -EIO, said. */
static inline int kernel_make(struct kernel *k, struct uhmm_device *dev, const struct kernel_source *source)
{
	k->by_cuda = cuda_kernel_possible(dev);
	return k->by_cuda ? cuda_kernel_make(&k->cuda, dev, source->cuda, source->name) :
			    opencl_kernel_make(&k->opencl, dev, source->opencl, source->name, "-I " UHMM_INCLUDE);
}

/* Argument number @i, from KERNEL_ARGS on; at most 8 bytes. */
static inline int kernel_arg(struct kernel *k, uint32_t i, size_t bytes, const void *value)
{
	return k->by_cuda ? cuda_kernel_arg(&k->cuda, i, bytes, value) : opencl_kernel_arg(&k->opencl, i, bytes, value);
}

/* Runs @items of it on what @work has, and waits. Return: 0; -EIO, said. */
static inline int kernel_run(struct kernel *k, struct uhmm_work *work, size_t items)
{
	return k->by_cuda ? cuda_kernel_run(&k->cuda, work, items) : opencl_kernel_run(&k->opencl, work, items);
}

/* Accepts a zeroed one. */
static inline void kernel_drop(struct kernel *k)
{
	cuda_kernel_drop(&k->cuda);
	opencl_kernel_drop(&k->opencl);
}

#endif
