/* SPDX-License-Identifier: MIT */
#ifndef OS_PROCMAP_H
#define OS_PROCMAP_H

/* The mappings of this process, looked up by address: PROCMAP_QUERY (Linux 6.11), else by reading /proc/self/maps. */

#include <stdbool.h>
#include <stdint.h>

#define MAPPING_READ   (1u << 0)
#define MAPPING_WRITE  (1u << 1)
#define MAPPING_EXEC   (1u << 2)
#define MAPPING_SHARED (1u << 3)
#define MAPPING_FILE   (1u << 4) /* of a file or a device. Private /dev/zero too: COPY answers EFAULT there */

struct mapping {
	uint64_t start, end;
	uint32_t flags;
};

struct procmap {
	int fd;          /* /proc/self/maps */
	bool has_query;
};

int procmap_open(struct procmap *m);
void procmap_close(struct procmap *m);

/* The mapping that covers @addr, or else the next one above. Return: 0; -ENOENT when there is none; -errno.
 * Context: any thread, any number at once; uses no heap. */
int procmap_find(const struct procmap *m, uint64_t addr, struct mapping *ret);

/* Calls @fn for every mapping that a child of fork gets without its contents (MADV_WIPEONFORK). Return: 0 or -errno.
 * Context: as above; takes as long as fork itself, some milliseconds a GiB of base pages. */
int procmap_for_wiped(void (*fn)(void *ctx, uint64_t start, uint64_t end), void *ctx);

#endif
