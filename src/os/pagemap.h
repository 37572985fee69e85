/* SPDX-License-Identifier: MIT */
#ifndef OS_PAGEMAP_H
#define OS_PAGEMAP_H

/* What Linux holds at each page of a range, by PAGEMAP_SCAN: about 20 us for a GiB of THPs, 1-6 ms for one of base pages. */

#include <stdbool.h>
#include <stdint.h>

#define PM_PRESENT (1u << 0) /* a page is mapped */
#define PM_SWAPPED (1u << 1)
#define PM_ZERO    (1u << 2) /* it is the zero page, small or huge */
#define PM_HUGE    (1u << 3) /* mapped by one upper-level entry */
#define PM_FILE    (1u << 4) /* it belongs to a file or to shared memory; pagemap_uniform() alone tells */

struct pm_run {
	uint64_t start, end; /* neighbouring pages with the same bits */
	uint32_t bits;       /* PM_*; 0: a hole, or no mapping */
};

int pagemap_open(int *ret_fd);
void pagemap_close(int fd);

/*
 * Fills @runs with consecutive runs that cover [start, *ret_end).
 * @ret_nr:  how many; at least 1 on success
 * @ret_end: where it stopped: @end, or earlier when @max runs were not enough
 * Return: 0 or -errno.
 */
int pagemap_scan(int fd, uint64_t start, uint64_t end, struct pm_run *runs, unsigned max, unsigned *ret_nr,
		 uint64_t *ret_end);

/* The bits of [start, end) if one run covers it, else -1 (mixed) or -errno. */
int pagemap_uniform(int fd, uint64_t start, uint64_t end);

/* Is the page at @addr mapped by this process only? False if it cannot be told. */
bool pagemap_exclusive(int fd, uint64_t addr);

/* The same for @nr pages from @addr on, at most 512. Return: 0 or -errno. */
int pagemap_exclusives(int fd, uint64_t addr, unsigned nr, bool *ret);

#endif
