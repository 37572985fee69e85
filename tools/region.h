/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_REGION_H
#define TOOLS_REGION_H

#include <stdbool.h>
#include <stdint.h>

enum region_pages {
	REGION_HUGE, /* MADV_HUGEPAGE */
	REGION_BASE, /* MADV_NOHUGEPAGE */
};

/* Private anonymous memory, aligned to 2 MiB, with inaccessible pages on both sides: no neighbour shares its mapping,
 * so what smaps says of it is said of it alone. */
struct region {
	unsigned char *mem;
	uint64_t bytes;
	enum region_pages pages;
	void *reserved;
	uint64_t reserved_bytes;
};

/* @bytes: a multiple of 4096. Nothing is touched. Return: 0, or a negative errno after saying why. */
int region_init(struct region *r, uint64_t bytes, enum region_pages pages);

/* Accepts a zeroed region. */
void region_fini(struct region *r);

/* Bytes of it that are mapped by THPs now (AnonHugePages). */
uint64_t region_thp_bytes(const struct region *r);

/* What region_fill() writes at the i-th 8-byte word, and region_is_intact() expects there. */
static inline uint64_t region_word(uint64_t i)
{
	return (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

void region_fill(struct region *r);
bool region_is_intact(const struct region *r);

/* A fast 64-bit checksum of @bytes, a multiple of 32: any changed, moved or missing word changes it. */
uint64_t region_sum(const void *mem, uint64_t bytes);

#endif
