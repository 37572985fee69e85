/* SPDX-License-Identifier: MIT */
#include "os/procmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/fail.h"
#include "os/uapi.h"

int procmap_open(struct procmap *m)
{
	struct uapi_procmap_query q = { .size = sizeof(q), .query_flags = UAPI_COVERING_OR_NEXT };

	m->fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (m->fd < 0)
		return -errno;
	m->has_query = !os_without(WITHOUT_PROCMAP_QUERY) && !ioctl(m->fd, UAPI_PROCMAP_QUERY, &q);
	return 0;
}

void procmap_close(struct procmap *m)
{
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
}

static int find_by_query(const struct procmap *m, uint64_t addr, struct mapping *ret)
{
	struct uapi_procmap_query q = {
		.size = sizeof(q), .query_flags = UAPI_COVERING_OR_NEXT, .query_addr = addr,
	};

	if (ioctl(m->fd, UAPI_PROCMAP_QUERY, &q))
		return -errno;
	*ret = (struct mapping){ .start = q.vma_start, .end = q.vma_end };
	ret->flags = (q.vma_flags & UAPI_VMA_READABLE ? MAPPING_READ : 0) |
		     (q.vma_flags & UAPI_VMA_WRITABLE ? MAPPING_WRITE : 0) |
		     (q.vma_flags & UAPI_VMA_EXECUTABLE ? MAPPING_EXEC : 0) |
		     (q.vma_flags & UAPI_VMA_SHARED ? MAPPING_SHARED : 0);
	if (q.inode)
		ret->flags |= MAPPING_FILE;
	return 0;
}

/* "start-end rwxp offset dev inode   name" */
static bool parse_line(const char *line, struct mapping *ret)
{
	unsigned long start, end, inode;
	char prot[5];

	if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &start, &end, prot, &inode) < 4)
		return false;
	*ret = (struct mapping){ .start = start, .end = end };
	ret->flags = (prot[0] == 'r' ? MAPPING_READ : 0) | (prot[1] == 'w' ? MAPPING_WRITE : 0) |
		     (prot[2] == 'x' ? MAPPING_EXEC : 0) | (prot[3] == 's' ? MAPPING_SHARED : 0);
	if (inode)
		ret->flags |= MAPPING_FILE;
	return true;
}

/* Reads the text in pieces of its own descriptor, so that several threads can; lines cut by a piece are read again. */
static int find_by_text(uint64_t addr, struct mapping *ret)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	char buf[4096 + 1];
	size_t have = 0;
	ssize_t n;
	int r = -ENOENT;

	if (fd < 0)
		return -errno;
	while (r == -ENOENT && (n = read(fd, buf + have, sizeof(buf) - 1 - have)) > 0) {
		char *line = buf, *nl;

		have += (size_t)n;
		buf[have] = '\0';
		while ((nl = strchr(line, '\n'))) {
			*nl = '\0';
			if (parse_line(line, ret) && ret->end > addr) {
				r = 0;
				break;
			}
			line = nl + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == sizeof(buf) - 1)
			have = 256; /* a path longer than the buffer: its middle is left out, all that matters stands before it */
	}
	close(fd);
	return r;
}

int procmap_find(const struct procmap *m, uint64_t addr, struct mapping *ret)
{
	int err = os_fail(OS_PROCMAP);

	if (err)
		return -err;
	return m->has_query ? find_by_query(m, addr, ret) : find_by_text(addr, ret);
}
