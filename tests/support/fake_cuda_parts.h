/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAKE_CUDA_PARTS_H
#define TESTS_FAKE_CUDA_PARTS_H

/* What the two halves of the fake library share: devices, contexts and memory; and streams. */

#include <stdbool.h>
#include <stddef.h>

#include "drivers/cuda/cu.h"
#include "fake_cuda.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT extern struct fake_cuda fake_cuda;

/* The functions, with CUDA's own names. */
#define CU_DECLARE(name, there, arguments) EXPORT cu_result fake_##name arguments __asm__(there);
CU_FUNCTIONS(CU_DECLARE)

/* An object that counts as live, and its end. */
void *made(size_t bytes);
cu_result gone(void *p);

/* The failure that was ordered, once. */
static inline cu_result once(_Atomic int32_t *failure) { return atomic_exchange(failure, 0); }

/* What each call in a context asks first. */
cu_result in_context(void);

/* Is that pinned memory? It is counted. */
bool is_pinned(const void *host, uint64_t bytes);

#endif
