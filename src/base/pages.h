/* SPDX-License-Identifier: MIT */
#ifndef BASE_PAGES_H
#define BASE_PAGES_H

/* Page arithmetic: base pages of 4 KiB, blocks of 2 MiB (512 base pages, order 9). */

#include <stdbool.h>
#include <stdint.h>

#define PAGE_SHIFT      12
#define PAGE_BYTES      (UINT64_C(1) << PAGE_SHIFT)
#define BLOCK_SHIFT     21
#define BLOCK_BYTES     (UINT64_C(1) << BLOCK_SHIFT)
#define BLOCK_ORDER     9
#define PAGES_PER_BLOCK 512u
#define NR_ORDERS       10

static inline uint64_t page_down(uint64_t a)  { return a & ~(PAGE_BYTES - 1); }
static inline uint64_t page_up(uint64_t a)    { return (a + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1); }
static inline uint64_t block_down(uint64_t a) { return a & ~(BLOCK_BYTES - 1); }
static inline uint64_t block_up(uint64_t a)   { return (a + BLOCK_BYTES - 1) & ~(BLOCK_BYTES - 1); }

static inline bool page_aligned(uint64_t a)  { return !(a & (PAGE_BYTES - 1)); }
static inline bool block_aligned(uint64_t a) { return !(a & (BLOCK_BYTES - 1)); }

/* Which base page of its block an address lies in, 0..511. */
static inline unsigned page_in_block(uint64_t a) { return (unsigned)((a & (BLOCK_BYTES - 1)) >> PAGE_SHIFT); }

static inline uint64_t order_bytes(unsigned order) { return PAGE_BYTES << order; }
static inline unsigned order_pages(unsigned order) { return 1u << order; }

static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

#endif
