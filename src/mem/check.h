/* SPDX-License-Identifier: MIT */
#ifndef MEM_CHECK_H
#define MEM_CHECK_H

/*
 * What must hold of every entry, checked by walking all of them. May run at any time: each block is looked at under its
 * lock, and a folio outlives the word that names it.
 */

#include "mem/buddy.h"
#include "mem/table.h"

/* The allocator of device @index, or NULL when there is none. */
typedef struct buddy *mem_check_device_fn(void *ctx, unsigned index);

/* Return: NULL when all is well, else a sentence about the first entry that is wrong; @ret_addr is its address. */
const char *mem_check(struct table *t, mem_check_device_fn *device, void *ctx, uint64_t *ret_addr);

#endif
