/* SPDX-License-Identifier: MIT */
#include "os/tasks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/fail.h"
#include "os/thread.h"

/* The head of the list and the word are some 16 bytes apart, on x86-64 and aarch64. */
#define NEAR 64

struct scan {
	uint64_t start, end;
	uint64_t *at;
	unsigned nr, max;
};

int tasks_open(int *ret_fd)
{
	int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

void tasks_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* A directory has a link for itself, one for its parent, and here one for each thread. */
static unsigned nr_threads(int fd)
{
	struct stat st;

	return fstat(fd, &st) || st.st_nlink < 2 ? 0 : (unsigned)st.st_nlink - 2;
}

static int add(struct scan *s, uint64_t word)
{
	if (word < s->start || word >= s->end)
		return 0;
	if (s->nr == s->max)
		return -ENOMEM;
	s->at[s->nr++] = word;
	return 0;
}

static int add_thread(struct scan *s, long tid)
{
	void *head = NULL;
	size_t bytes;
	int r;

	/* it may have ended since, or never had a list: then it is not a thread that anybody joins */
	if (syscall(SYS_get_robust_list, tid, &head, &bytes) || !head)
		return 0;
	r = add(s, (uintptr_t)head - NEAR);
	return r ? r : add(s, (uintptr_t)head + NEAR);
}

/* Return: how many threads were seen, or -errno. */
static int scan_once(int fd, struct scan *s)
{
	char names[4096] __attribute__((aligned(8)));
	int seen = 0;
	ssize_t n;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	while ((n = getdents64(fd, names, sizeof(names))) > 0)
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(names + at);
			long tid = strtol(d->d_name, NULL, 10); /* "." and "..": 0 */
			int r = tid ? add_thread(s, tid) : 0;

			if (r)
				return r;
			seen += tid != 0;
			at += d->d_reclen;
		}
	return n < 0 ? -errno : seen;
}

int tasks_control_words(int fd, uint64_t start, uint64_t end, uint64_t *ret, unsigned max)
{
	struct scan s = { start, end, ret, 0, max };
	int err = os_fail(OS_TASKS), r = 0;

	if (err)
		return -err;
	if (nr_threads(fd) <= 1 + thread_nr_own())
		return 0;
	/* the kernel ends the list early when a thread ends while it is being read, and then may pass over another */
	for (unsigned tries = 0; tries < 3; tries++) {
		r = scan_once(fd, &s);
		if (r < 0 || (unsigned)r >= nr_threads(fd))
			break;
	}
	return r < 0 ? r : (int)s.nr;
}
