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

/*
 * Calls @fn for each line until it returns true. Reads in pieces by a descriptor of its own, so that several threads can; lines
 * cut by a piece are read again. Return: 0; -ENOENT when @fn never did; -errno.
 */
static int each_line(const char *path, bool (*fn)(void *ctx, const char *line), void *ctx)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
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
		while (r && (nl = strchr(line, '\n'))) {
			*nl = '\0';
			if (fn(ctx, line))
				r = 0;
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

struct finding {
	uint64_t addr;
	struct mapping *ret;
};

static bool reaches(void *ctx, const char *line)
{
	struct finding *f = ctx;

	return parse_line(line, f->ret) && f->ret->end > f->addr;
}

static int find_by_text(uint64_t addr, struct mapping *ret)
{
	struct finding f = { addr, ret };

	return each_line("/proc/self/maps", reaches, &f);
}

struct wiped {
	void (*fn)(void *ctx, uint64_t start, uint64_t end);
	void *ctx;
	struct mapping at; /* of the lines that follow */
};

/* Flags are words of two letters, each followed by a space. */
static bool tell_wiped(void *ctx, const char *line)
{
	struct wiped *w = ctx;
	struct mapping m;

	if (parse_line(line, &m))
		w->at = m;
	else if (!strncmp(line, "VmFlags:", 8) && strstr(line, " wf "))
		w->fn(w->ctx, w->at.start, w->at.end);
	return false;
}

int procmap_for_wiped(void (*fn)(void *ctx, uint64_t start, uint64_t end), void *ctx)
{
	struct wiped w = { .fn = fn, .ctx = ctx };
	int r = each_line("/proc/self/smaps", tell_wiped, &w);

	return r == -ENOENT ? 0 : r;
}

int procmap_find(const struct procmap *m, uint64_t addr, struct mapping *ret)
{
	int err = os_fail(OS_PROCMAP);

	if (err)
		return -err;
	return m->has_query ? find_by_query(m, addr, ret) : find_by_text(addr, ret);
}
