/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_OPENCL_H
#define DRIVERS_OPENCL_H

/* Memory of an OpenCL device. README.md says which file has what; opencl.c, what a caller should know. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/pages.h"
#include "base/runtime.h"
#include "base/spec.h"
#include "drivers/opencl/cl.h"
#include "drivers/opencl/look.h"
#include "uhmm/driver.h"

#define OPENCL_LANES    8u   /* copies that may be under way at once, each with a queue of its own */
#define OPENCL_COMMANDS 512u /* of one copy, before it has to wait for them */
#define OPENCL_BUFFERS  256u

/* What one copy needs. Whoever has taken it is its owner. */
struct lane {
	struct lane *next; /* a free one's; guarded by lanes_lock */
	struct cl_queue *queue; /* in order; constant after open */
	bool out;
	unsigned nr;
	struct cl_event *events[OPENCL_COMMANDS]; /* of the commands that were begun and not waited for */
};

struct opencl {
	/* constant after open; bytes */
	uint64_t size, buffer; /* of the device, and of each buffer but the last: block-aligned */
	uint64_t apart;
	char platform_text[SPEC_WORD_BYTES], device_text[SPEC_WORD_BYTES], library[SPEC_PATH_BYTES];
	const struct cl *cl;
	const struct runtime *runtime;
	struct cl_device_seen chosen;
	struct cl_context *context;
	struct cl_mem *buffers[OPENCL_BUFFERS];
	unsigned nr_buffers;
	_Atomic uint8_t *touched; /* 1 for each 2 MiB that was written, of a device whose memory is the host's; else NULL */
	struct cl_queue *shared;  /* for who finds no lane: it waits for its own commands at once */

	_Atomic uint64_t touched_bytes;
	_Atomic uint64_t said; /* bit -r: the log has told of a command that failed with r */

	/* guarded by lanes_lock */
	pthread_mutex_t lanes_lock;
	struct lane *free_lanes;
	struct lane lanes[OPENCL_LANES];
};

/* runtime.c: the functions of o->library, as o->cl. Return: 0, or -errno with a sentence. */
int opencl_runtime(struct opencl *o, char *ret_why, size_t why_bytes);

/* choose.c: the device that o->platform_text and o->device_text name. Return: 0 with o->chosen, or -ENODEV with a sentence. */
int choose(struct opencl *o, char *ret_why, size_t why_bytes);

/* memory.c: context, queues, buffers, of o->size in pieces of o->buffer. Return: 0, or -errno with a sentence. */
int memory_open(struct opencl *o, char *ret_why, size_t why_bytes);
void memory_close(struct opencl *o); /* also what is half open */
int opencl_errno(int32_t r);

/* copy.c */
int opencl_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int opencl_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int opencl_fence_wait(void *ctx, uint64_t fence);
int opencl_clear(void *ctx, uint64_t offset, uint64_t bytes);

#endif
