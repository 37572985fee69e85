/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_EMU_H
#define DRIVERS_EMU_H

/* The built-in device: hidden host memory with a cost model and failures on demand. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "uhmm/driver.h"

extern const struct uhmm_driver uhmm_driver_emu;

#define EMU_QUEUE 64 /* copies that may be in flight with async=on */

/* A copy that the engine thread does, async=on. A free one has fence 0. */
struct emu_copy {
	uint64_t fence;
	struct uhmm_seg *segs;   /* EMU_SEGS of them: the caller's list is gone when the copy is done */
	unsigned nr;
	int out;                 /* direction */
	int done, result;
};

#define EMU_SEGS 512

struct emu {
	/* constant after open; sizes in bytes, times in ns */
	uint64_t size, latency, bandwidth, populate, async;
	uint64_t fail_alloc, fail_copy_in, fail_copy_out;
	char orders[32];
	char *memory;

	/* atomic: how many more shall fail */
	_Atomic int64_t alloc_failures, copy_in_failures, copy_out_failures;

	/* atomic: 1 for each 2 MiB that has been used, and how many bytes these are */
	_Atomic uint8_t *touched;
	_Atomic uint64_t touched_bytes;

	/* guarded by lock */
	pthread_mutex_t lock;
	pthread_cond_t posted, finished;
	struct emu_copy queue[EMU_QUEUE];
	struct uhmm_seg *seg_memory; /* EMU_QUEUE * EMU_SEGS */
	uint64_t last_copy;
	int stop, engine_runs;
	pthread_t engine;
};

/* memory.c */
/* *@e is what was asked for; it becomes the device, in memory that is never the program's. */
int emu_memory_open(struct emu **e, char *ret_why, size_t why_bytes);
void emu_memory_close(struct emu *e);
int emu_folio_alloc(void *ctx, uint64_t offset, unsigned order);
int emu_clear(void *ctx, uint64_t offset, uint64_t bytes);
uint64_t emu_host_bytes(void *ctx);
uint64_t emu_address(void *ctx, uint64_t offset);

/* The bytes at @offset are about to be written. */
void emu_touch(struct emu *e, uint64_t offset, uint64_t bytes);

/* Is this call one of those that shall fail? */
bool emu_take_failure(_Atomic int64_t *left);

/* copy.c */
int emu_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int emu_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int emu_fence_wait(void *ctx, uint64_t fence);
int emu_engine_start(struct emu *e);
void emu_engine_stop(struct emu *e);

#endif
