/* SPDX-License-Identifier: MIT */
#ifndef MEM_STAMP_H
#define MEM_STAMP_H

/*
 * When something last happened to each block: 4 bytes a block, in steps of 4 ms. The stamps of a GiB come into being with
 * the first of them, so memory that nothing happens to costs nothing. No locks: a reader may see the stamp before the last.
 *
 *   root[address >> 30] -> leaf[512 stamps]
 */

#include <stdatomic.h>
#include <stdint.h>

#include "mem/meta.h"

struct stamps {
	/* constant after stamps_init() */
	_Atomic uint32_t *_Atomic *root; /* 2^18 pointers, touched where used */

	struct meta leaves; /* of 2 KiB */
};

int stamps_init(struct stamps *s);
void stamps_fini(struct stamps *s);

/* It has happened in the block at @addr, at @now_ns. Without memory it is forgotten. Context: any thread, fault thread. */
void stamps_set(struct stamps *s, uint64_t addr, uint64_t now_ns);

/* When it last happened, at most 4.2 ms too early; 0: never. Wrong for what is longer ago than 208 days: it seems later. */
uint64_t stamps_get(const struct stamps *s, uint64_t addr, uint64_t now_ns);

uint64_t stamps_bytes(struct stamps *s);

#endif
