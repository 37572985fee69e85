/* SPDX-License-Identifier: MIT */
#include "os/copy.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "os/copy_x86.h"

/* Below this a copy fits the caches and plain stores win. */
#define NT_MIN_BYTES (64u << 10)

static void copy_plain(void *dst, const void *src, uint64_t bytes)
{
	memcpy(dst, src, bytes);
}

struct candidate {
	struct copy_variant variant;
	const char *cpu_feature; /* NULL: always */
};

/* Best first. On aarch64 glibc's memcpy is written for each core and uses non-temporal pairs where they win. */
static const struct candidate candidates[] = {
#if defined(__x86_64__)
	{ { "avx512-nt4", copy_avx512_nt4 }, "avx512f" },
	{ { "avx2-nt4", copy_avx2_nt4 }, "avx2" },
	{ { "sse2-nt4", copy_sse2_nt4 }, NULL },
#endif
	{ { "memcpy", copy_plain }, NULL },
};

#define NR_CANDIDATES (sizeof(candidates) / sizeof(candidates[0]))

static int can_run(const struct candidate *c)
{
	if (!c->cpu_feature)
		return 1;
#if defined(__x86_64__)
	__builtin_cpu_init();
	return !strcmp(c->cpu_feature, "avx512f") ? __builtin_cpu_supports("avx512f") : __builtin_cpu_supports("avx2");
#else
	return 0;
#endif
}

const struct copy_variant *copy_variant(unsigned n)
{
	for (unsigned i = 0; i < NR_CANDIDATES; i++)
		if (can_run(&candidates[i]) && !n--)
			return &candidates[i].variant;
	return NULL;
}

static const struct copy_variant *best(void)
{
	static const struct copy_variant *_Atomic chosen;
	const struct copy_variant *v = atomic_load_explicit(&chosen, memory_order_relaxed);

	if (!v) {
		v = copy_variant(0);
		atomic_store_explicit(&chosen, v, memory_order_relaxed);
	}
	return v;
}

void copy_bytes(void *dst, const void *src, uint64_t bytes)
{
	if (bytes < NT_MIN_BYTES)
		memcpy(dst, src, bytes);
	else
		best()->run(dst, src, bytes);
}

void copy_bytes_away(void *dst, const void *src, uint64_t bytes)
{
	best()->run(dst, src, bytes);
}

void clear_bytes_away(void *dst, uint64_t bytes)
{
#if defined(__x86_64__)
	clear_sse2_nt(dst, bytes);
#else
	memset(dst, 0, bytes); /* dc zva, which reads nothing first either */
#endif
}

const char *copy_routine(void)
{
	return best()->name;
}
