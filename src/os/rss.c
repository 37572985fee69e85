/* SPDX-License-Identifier: MIT */
#include "os/rss.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/pages.h"

/* sscanf() and strtoul() ask the locale, which the program may have on its heap: this thread must not touch that. */
static const char *number(const char *at, uint64_t *ret)
{
	if (!at)
		return NULL;
	while (*at == ' ')
		at++;
	if (*at < '0' || *at > '9')
		return NULL;
	for (*ret = 0; *at >= '0' && *at <= '9'; at++)
		*ret = *ret * 10 + (uint64_t)(*at - '0');
	return at;
}

int rss_open(int *ret_fd)
{
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

void rss_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

int rss_read(int fd, struct rss *ret)
{
	uint64_t mapped, resident, shared, skip, data; /* proc(5): size resident shared text lib data dt */
	char text[128];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	if (!number(number(number(number(number(number(text, &mapped), &resident), &shared), &skip), &skip), &data))
		return -EIO;
	ret->mapped_bytes = (mapped + data) * PAGE_BYTES;
	ret->anon_bytes = (resident > shared ? resident - shared : 0) * PAGE_BYTES;
	return 0;
}
