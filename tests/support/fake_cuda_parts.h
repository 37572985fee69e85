/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAKE_CUDA_PARTS_H
#define TESTS_FAKE_CUDA_PARTS_H

/* What the parts of the fake library share: devices, contexts and memory that is mapped; memory that is not (fake_cuda_alloc.c);
 * streams; kernels. */

#include <stdbool.h>
#include <stddef.h>

#include "drivers/cuda/cu.h"
#include "fake_cuda.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT extern struct fake_cuda fake_cuda;

/* The functions, with CUDA's own names. */
#define CU_DECLARE(name, there, arguments) EXPORT cu_result fake_##name arguments __asm__(there);
CU_FUNCTIONS(CU_DECLARE)

/* Of what a device can be asked beyond the driver's needs */
#define MANAGED_MEMORY    83
#define CONCURRENT_ACCESS 89

#define NR_RANGES 512u

struct range {
	char *start;   /* NULL: none. The device's address of its memory, the host's of pinned memory */
	uint64_t bytes;
	char *host;    /* where its bytes are; addresses that are reserved only have none */
	bool closed;   /* the device must not use it yet */
};

/* An object that counts as live, and its end. */
void *made(size_t bytes);
cu_result gone(void *p);

/* The failure that was ordered, once. */
static inline cu_result once(_Atomic int32_t *failure) { return atomic_exchange(failure, 0); }

/* What each call in a context asks first. */
cu_result in_context(void);

/* Is that pinned memory? It is counted. */
bool is_pinned(const void *host, uint64_t bytes);

/* Lists of memory, each range of which counts as live. Dropped: how long it was; 0: there is none that begins here. */
extern struct range pinned[NR_RANGES], allocated[NR_RANGES], managed[NR_RANGES];
bool is_within(struct range *list, const char *at, uint64_t bytes);
cu_result add_range(struct range *list, char *at, uint64_t bytes, char *host);
uint64_t drop_range(struct range *list, char *at);

/* The memory around this, if the device may read and write it; or nothing. */
struct range device_range(const char *at, uint64_t bytes);

/* The byte at a device's address, for a test that has this library; NULL: the device has none there. */
EXPORT void *fake_cuda_host(uint64_t at);

/* Another command for a stream: @fn(@ctx), whose answer who waits is told. */
cu_result stream_call(struct cu_stream *s, cu_result (*fn)(void *ctx), void *ctx);

#endif
