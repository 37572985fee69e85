/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_CUDA_H
#define DRIVERS_CUDA_H

/* Memory of an NVIDIA GPU. README.md says which file has what; cuda.c, what a caller should know. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/pages.h"
#include "base/runtime.h"
#include "base/spec.h"
#include "drivers/cuda/cu.h"
#include "drivers/cuda/look.h"
#include "uhmm/driver.h"

#define CUDA_LANES      8u /* copies that may be under way at once, each with a stream of its own */
#define CUDA_SLOTS      4u /* of a lane's ring: while one is filled or emptied, others are on the bus */
#define CUDA_SLOT_BYTES (UINT64_C(512) << 10)
#define CUDA_RING_BYTES (CUDA_SLOTS * CUDA_SLOT_BYTES)

enum way { IN, OUT, CLEAR };

/* Pinned memory, through which a part of a copy passes. It is idle (nothing in it), being filled, or busy: its event is recorded. */
struct slot {
	char *mem;
	struct cu_event *event;
	bool busy;
	uint64_t used;                                          /* bytes */
	unsigned nr_pieces;                                     /* OUT: where the bytes are to go, one behind the other */
	struct { void *host; uint64_t bytes; } pieces[CUDA_SLOT_BYTES / PAGE_BYTES];
};

/* What one copy needs. Whoever has taken it is its owner. */
struct lane {
	struct lane *next; /* a free one's; guarded by lanes_lock */
	struct cu_stream *stream; /* constant after open */
	struct cu_event *event;   /* the end of a copy that does not pass the ring */
	enum way way;
	bool ring;
	unsigned at;              /* the slot that is filled next, the oldest of those that are busy */
	struct slot slots[CUDA_SLOTS];
};

struct cuda {
	/* constant after open; bytes */
	uint64_t size;             /* of the device: block-aligned */
	uint64_t chunk, nr_chunks; /* physical memory is had in these: whole blocks */
	uint64_t apart;
	char device_text[SPEC_WORD_BYTES], staging_text[SPEC_WORD_BYTES], library[SPEC_PATH_BYTES];
	const struct cu *cu;
	const struct runtime *runtime;
	struct cu_device_seen chosen;
	struct cu_context *context;
	struct cu_stream *work;   /* for native() */
	cu_ptr window;            /* where offset 0 is */
	cu_handle *handles;       /* one for each chunk */
	uint64_t nr_mapped;       /* chunks that are there, at the window's start */
	char *ring_memory;        /* all lanes' slots; NULL: nothing passes a ring */
	bool ring[2];             /* by way: copies pass the ring */

	_Atomic uint64_t said[1024 / 64]; /* bit r: the log has told of a call that failed with r */

	/* guarded by lanes_lock */
	pthread_mutex_t lanes_lock;
	struct lane *free_lanes;
	struct lane lanes[CUDA_LANES];

	pthread_mutex_t shared_lock; /* held for a whole copy of who found no lane */
	struct lane shared;
};

/* choose.c: the device that c->device_text names. Return: 0 with c->chosen, or -ENODEV with a sentence. */
int cuda_choose(struct cuda *c, char *ret_why, size_t why_bytes);

/* memory.c: a context, and memory of c->size, behind one window. Return: 0, or -errno with a sentence. */
int cuda_memory_open(struct cuda *c, char *ret_why, size_t why_bytes);
void cuda_memory_close(struct cuda *c); /* also what is half open */

/* memory.c: the context is current for this thread in between; another one, of the program, is so again afterwards. */
cu_result cuda_enter(struct cuda *c);
void cuda_leave(struct cuda *c);

/* memory.c: callbacks */
uint64_t cuda_address(void *ctx, uint64_t offset);
int cuda_reserve(void *ctx, uint64_t hint, uint64_t bytes, uint64_t *ret_addr);
void cuda_unreserve(void *ctx, uint64_t addr, uint64_t bytes);
int cuda_map(void *ctx, uint64_t addr, uint64_t offset, uint64_t bytes);
int cuda_unmap(void *ctx, uint64_t addr, uint64_t bytes);

/* lanes.c: streams, events, the rings. The context is current. Return: 0, or CUDA's answer. */
cu_result cuda_lanes_open(struct cuda *c);
void cuda_lanes_close(struct cuda *c);
void cuda_ring_close(struct cuda *c); /* none of the lanes is taken */
struct lane *cuda_lane_take(struct cuda *c); /* NULL: all are taken */
void cuda_lane_put(struct cuda *c, struct lane *l);

/* staging.c: measures both ways, and sets c->ring by it. Return: 0, or -errno with a sentence. */
int cuda_staging_choose(struct cuda *c, char *ret_why, size_t why_bytes);

/* errors.c: the errno of an answer; and of a call that failed, once the log has its name. */
int cuda_errno(cu_result r);
int cuda_tell(struct cuda *c, const char *call, cu_result r);

/* copy.c */
int cuda_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int cuda_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int cuda_fence_wait(void *ctx, uint64_t fence);
int cuda_clear(void *ctx, uint64_t offset, uint64_t bytes);

#endif
