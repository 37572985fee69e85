/* SPDX-License-Identifier: MIT */
/* A page that was cleared, or that came as zeros among others, is a bit here and nothing on the disk. Folios of several threads
 * share words, so bits are changed atomically; which of them a thread may look at, uhmm decides. */
#include "base/pages.h"
#include "drivers/file/file.h"

uint64_t zeros_bytes(uint64_t size) { return block_up(size >> PAGE_SHIFT >> 3); }

void zeros_set(struct file *f, uint64_t offset, uint64_t bytes, bool zero)
{
	uint64_t page = offset >> PAGE_SHIFT, end = (offset + bytes) >> PAGE_SHIFT;

	while (page < end) {
		uint64_t n = min_u64(64 - page % 64, end - page);
		uint64_t mask = (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << page % 64;
		_Atomic uint64_t *word = &f->zeros[page / 64];

		if (zero)
			atomic_fetch_or_explicit(word, mask, memory_order_relaxed);
		else if (atomic_load_explicit(word, memory_order_relaxed) & mask) /* else it may never have been touched */
			atomic_fetch_and_explicit(word, ~mask, memory_order_relaxed);
		page += n;
	}
}

uint64_t zeros_run(const struct file *f, uint64_t offset, uint64_t bytes, bool *ret_zero)
{
	uint64_t first = offset >> PAGE_SHIFT, end = (offset + bytes) >> PAGE_SHIFT, page = first;
	uint64_t want = atomic_load_explicit(&f->zeros[page / 64], memory_order_relaxed) >> page % 64 & 1 ? ~UINT64_C(0) : 0;

	while (page < end) {
		uint64_t differ = (atomic_load_explicit(&f->zeros[page / 64], memory_order_relaxed) ^ want) >> page % 64;

		if (differ) {
			page += (unsigned)__builtin_ctzll(differ);
			break;
		}
		page = (page | 63) + 1;
	}
	*ret_zero = want;
	return (min_u64(page, end) - first) << PAGE_SHIFT;
}
