/* SPDX-License-Identifier: MIT */
#ifndef OS_RSS_H
#define OS_RSS_H

/* How much memory this process holds, as the kernel counts it. */

#include <stdint.h>

struct rss {
	uint64_t anon_bytes;    /* private pages in RAM: heap, stacks, memory of our own; not files, not shared memory */
	/* Of the address space, and once more what of it is private and writable: changes whenever a mapping comes, goes or grows, and when a
	 * part of what was only reserved becomes accessible. */
	uint64_t mapped_bytes;
};

/* Return: 0 or -errno. */
int rss_open(int *ret_fd);
void rss_close(int fd);

/*
 * Return: 0 or -errno. Context: any thread, any number at once; no heap, no locale. Some microseconds. Where the kernel keeps a share of
 * its counters on each CPU it may be off by 128 KiB a CPU.
 */
int rss_read(int fd, struct rss *ret);

#endif
