/* SPDX-License-Identifier: MIT */
#ifndef OS_COPY_H
#define OS_COPY_H

/*
 * The big copies. Cold memory of 2 MiB is copied fastest by non-temporal stores on four streams at once (docs/copy.md
 * has the measurements); which instructions, the CPU decides at the first call.
 */

#include <stdint.h>

/* @dst and @src are multiples of 64 and do not overlap, @bytes is a multiple of 4096. On return every store is visible
 * to every thread. */
void copy_bytes(void *dst, const void *src, uint64_t bytes);

/* The same for bytes that no CPU will read soon, in pieces of any size: the caches are bypassed from the first page on. */
void copy_bytes_away(void *dst, const void *src, uint64_t bytes);

/* Zeros, likewise. @dst: a multiple of 64; @bytes: of 4096 */
void clear_bytes_away(void *dst, uint64_t bytes);

/* The routine in use: "avx512-nt4", "avx2-nt4", "sse2-nt4", "memcpy". */
const char *copy_routine(void);

/* All routines this CPU can run, for measuring them against one another; NULL past the last. */
struct copy_variant {
	const char *name;
	void (*run)(void *dst, const void *src, uint64_t bytes);
};
const struct copy_variant *copy_variant(unsigned n);

#endif
