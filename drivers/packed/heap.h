/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_PACKED_HEAP_H
#define DRIVERS_PACKED_HEAP_H

/* Objects of any size in one arena of host memory, named by their offset; 0 names none. */

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_NR_FL 48 /* powers of two */
#define HEAP_NR_SL 16 /* bins between two of them */

struct heap {
	/* constant after heap_init() */
	char *base;
	uint64_t bytes;

	/* guarded by lock */
	pthread_mutex_t lock;
	uint64_t bins;                 /* bit fl: some bin of that power is not empty */
	uint16_t bins_of[HEAP_NR_FL];
	uint64_t first[HEAP_NR_FL][HEAP_NR_SL];
	uint64_t *touched;             /* a bit for each page of the arena: the kernel has given memory for it */
	uint64_t top;                  /* above it nothing is touched but the last page */
	uint64_t freed_bytes;          /* since something was given back */
	unsigned trims;                /* blocks that are out of their bins because their memory is being given back */

	/* atomic; written under lock */
	_Atomic uint64_t used_bytes;   /* of objects, with their headers */
	_Atomic uint64_t touched_bytes;
};

/* @bytes: a multiple of 2 MiB; nothing is touched but a page or two. Return: 0 or -ENOMEM. */
int heap_init(struct heap *h, uint64_t bytes);
void heap_fini(struct heap *h);

/* Return: the object, a multiple of 8; 0 when there is no room. Context: any thread, fault thread. */
uint64_t heap_alloc(struct heap *h, size_t bytes);

/* 0 is fine. May give memory back to the system, some tens of microseconds. */
void heap_free(struct heap *h, uint64_t object);

static inline void *heap_at(const struct heap *h, uint64_t object) { return h->base + object; }

/* Walks everything; the first thing that is wrong, or NULL. Context: nobody else uses the heap. */
const char *heap_check(struct heap *h);

#endif
