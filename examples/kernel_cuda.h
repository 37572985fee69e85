/* SPDX-License-Identifier: MIT */
#ifndef EXAMPLES_KERNEL_CUDA_H
#define EXAMPLES_KERNEL_CUDA_H

/*
 * A CUDA kernel on the memory of a device of uhmm: made in the driver's own context, by the functions of its own libcuda, which
 * uhmm_device_native() gives. Programs with cuda.h at hand take the types from there; a context is current inside these functions
 * only, as whatever else the program does with CUDA has another.
 *
 * The kernel is PTX, which the NVIDIA driver compiles for the GPU it finds: neither a toolkit nor a GPU is needed to build this.
 * "nvcc -ptx" makes such text of CUDA C++, too. The first parameters of the kernel are always these:
 *
 *	.param .u64 table,  .param .u64 nr      the table of uhmm_work_extents(), on the device; and how many extents it has
 *	.param .u64 items                       how many there are: blocks are whole, so some threads have nothing to do
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <uhmm/uhmm.h>

#define CUDA_ERROR_LOG       5 /* CU_JIT_ERROR_LOG_BUFFER */
#define CUDA_ERROR_LOG_BYTES 6 /* CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES */
#define CUDA_BLOCK           256u
#define CUDA_MAX_ARGS        12u

/*
 * The beginning of each text, and what uhmm.cl has for OpenCL:
 *
 *	call (%to), uhmm_at, (%table, %nr, %addr)   where the byte at the program's address %addr is; 0 when the work does not have
 *	                                            it. What follows it is valid up to the end of its extent.
 *	call (%i), uhmm_item, ()                    which of the items this thread is
 */
#define CUDA_KERNEL_BEGIN \
	".version 6.0\n" \
	".target sm_50\n" \
	".address_size 64\n" \
	".func (.reg .u64 %to) uhmm_at (.reg .u64 %table, .reg .u64 %nr, .reg .u64 %addr)\n" \
	"{\n" \
	"	.reg .u64 %low, %high, %mid, %extent, %start, %bytes;\n" \
	"	.reg .pred %is;\n" \
	"	mov.u64 %to, 0;\n" \
	"	mov.u64 %low, 0;\n" \
	"	mov.u64 %high, %nr;\n" \
	"NEXT:\n" \
	"	setp.ge.u64 %is, %low, %high;\n" \
	"	@%is bra END;\n" \
	"	add.u64 %mid, %low, %high;\n" \
	"	shr.u64 %mid, %mid, 1;\n" \
	"	shl.b64 %extent, %mid, 5;\n" \
	"	add.u64 %extent, %table, %extent;\n" \
	"	ld.global.u64 %start, [%extent];\n" \
	"	setp.lt.u64 %is, %addr, %start;\n" \
	"	@%is mov.u64 %high, %mid;\n" \
	"	@%is bra NEXT;\n" \
	"	ld.global.u64 %bytes, [%extent+8];\n" \
	"	sub.u64 %start, %addr, %start;\n" \
	"	setp.ge.u64 %is, %start, %bytes;\n" \
	"	@%is add.u64 %low, %mid, 1;\n" \
	"	@%is bra NEXT;\n" \
	"	ld.global.u64 %to, [%extent+24];\n" \
	"	add.u64 %to, %to, %start;\n" \
	"END:\n" \
	"	ret;\n" \
	"}\n" \
	".func (.reg .u64 %item) uhmm_item ()\n" \
	"{\n" \
	"	.reg .u32 %block, %size, %thread;\n" \
	"	.reg .u64 %in;\n" \
	"	mov.u32 %block, %ctaid.x;\n" \
	"	mov.u32 %size, %ntid.x;\n" \
	"	mov.u32 %thread, %tid.x;\n" \
	"	mul.wide.u32 %item, %block, %size;\n" \
	"	cvt.u64.u32 %in, %thread;\n" \
	"	add.u64 %item, %item, %in;\n" \
	"	ret;\n" \
	"}\n"

_Static_assert(sizeof(struct uhmm_work_extent) == 32 && offsetof(struct uhmm_work_extent, address) == 24, "uhmm_at knows it so");

struct cuda_kernel {
	void *context, *stream, *module, *function;
	uint64_t args[CUDA_MAX_ARGS]; /* their values */
	int (*push)(void *context);
	int (*pop)(void **ret_context);
	int (*error_name)(int error, const char **ret);
	int (*load)(void **ret_module, const void *text, unsigned nr, int *options, void **values);
	int (*unload)(void *module);
	int (*find)(void **ret_function, void *module, const char *name);
	int (*alloc)(uint64_t *ret, size_t bytes);
	int (*free)(uint64_t at);
	int (*copy_in)(uint64_t to, const void *from, size_t bytes, void *stream);
	int (*launch)(void *function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z, unsigned threads_x, unsigned threads_y,
		      unsigned threads_z, unsigned shared_bytes, void *stream, void **args, void **extra);
	int (*wait)(void *stream);
};

/* Has the device such a runtime? */
static inline int cuda_kernel_possible(struct uhmm_device *dev)
{
	void *found;

	return !uhmm_device_native(dev, "cuLaunchKernel", &found);
}

static inline int cuda_kernel_error(struct cuda_kernel *k, const char *what, int r)
{
	const char *name = NULL;

	(void)k->error_name(r, &name);
	fprintf(stderr, "%s failed with %s (%d)\n", what, name ? name : "an error without a name", r);
	return -EIO;
}

/* The context is current. */
static inline int cuda_kernel_load(struct cuda_kernel *k, const char *text, const char *name)
{
	char log[4096] = "";
	int options[] = { CUDA_ERROR_LOG, CUDA_ERROR_LOG_BYTES };
	void *values[] = { log, (void *)(uintptr_t)sizeof(log) };
	int r = k->load(&k->module, text, 2, options, values);

	if (r) {
		k->module = NULL;
		fprintf(stderr, "%.*s\n", (int)sizeof(log), log);
		return cuda_kernel_error(k, "cuModuleLoadDataEx", r);
	}
	r = k->find(&k->function, k->module, name);
	return r ? cuda_kernel_error(k, "cuModuleGetFunction", r) : 0;
}

/* Return: 0; -ENOENT when the runtime lacks something; -EIO, said. */
static inline int cuda_kernel_make(struct cuda_kernel *k, struct uhmm_device *dev, const char *text, const char *name)
{
	static const char *const functions[] = { "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2", "cuGetErrorName", "cuModuleLoadDataEx",
						 "cuModuleUnload", "cuModuleGetFunction", "cuMemAlloc_v2", "cuMemFree_v2",
						 "cuMemcpyHtoDAsync_v2", "cuLaunchKernel", "cuStreamSynchronize" };
	void *ours;
	int r;

	if (uhmm_device_native(dev, "context", &k->context) || uhmm_device_native(dev, "stream", &k->stream))
		return -ENOENT;
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		void *found;

		if (uhmm_device_native(dev, functions[i], &found))
			return -ENOENT;
		memcpy((char *)k + offsetof(struct cuda_kernel, push) + i * sizeof(found), &found, sizeof(found));
	}
	r = k->push(k->context);
	if (r)
		return cuda_kernel_error(k, "cuCtxPushCurrent", r);
	r = cuda_kernel_load(k, text, name);
	(void)k->pop(&ours);
	return r;
}

/* Argument number @i, from 3 on; at most 8 bytes. */
static inline int cuda_kernel_arg(struct cuda_kernel *k, uint32_t i, size_t bytes, const void *value)
{
	if (i >= CUDA_MAX_ARGS || bytes > sizeof(*k->args))
		return -EINVAL;
	memcpy(&k->args[i], value, bytes);
	return 0;
}

/* The context is current. The stream keeps their order: the table arrives before the kernel begins. */
static inline int cuda_kernel_launch(struct cuda_kernel *k, const struct uhmm_work_extent *extents, size_t nr)
{
	void *args[CUDA_MAX_ARGS];
	uint64_t blocks = (k->args[2] + CUDA_BLOCK - 1) / CUDA_BLOCK;
	const char *call = "cuMemcpyHtoDAsync";
	int waited, r = k->copy_in(k->args[0], extents, nr * sizeof(*extents), k->stream);

	for (unsigned i = 0; i < CUDA_MAX_ARGS; i++)
		args[i] = &k->args[i]; /* how many of them the kernel has, and how long they are, it says itself */
	if (!r) {
		call = "cuLaunchKernel";
		r = k->launch(k->function, (unsigned)blocks, 1, 1, CUDA_BLOCK, 1, 1, 0, k->stream, args, NULL);
	}
	waited = k->wait(k->stream); /* also after a failure: what was begun reads the table */
	if (r)
		return cuda_kernel_error(k, call, r);
	return waited ? cuda_kernel_error(k, "the kernel", waited) : 0;
}

/* Runs @items of it on what @work has, and waits. Return: 0; -EIO, said. */
static inline int cuda_kernel_run(struct cuda_kernel *k, struct uhmm_work *work, size_t items)
{
	size_t nr;
	const struct uhmm_work_extent *extents = uhmm_work_extents(work, &nr);
	void *ours;
	int r = k->push(k->context);

	if (r)
		return cuda_kernel_error(k, "cuCtxPushCurrent", r);
	r = k->alloc(&k->args[0], nr * sizeof(*extents));
	if (r) {
		r = cuda_kernel_error(k, "cuMemAlloc", r);
	} else {
		k->args[1] = nr;
		k->args[2] = items;
		r = cuda_kernel_launch(k, extents, nr);
		(void)k->free(k->args[0]);
	}
	(void)k->pop(&ours);
	return r;
}

/* Accepts a zeroed one. */
static inline void cuda_kernel_drop(struct cuda_kernel *k)
{
	void *ours;

	if (!k->module || k->push(k->context))
		return;
	(void)k->unload(k->module);
	(void)k->pop(&ours);
	k->module = NULL;
}

#endif
