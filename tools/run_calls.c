/* SPDX-License-Identifier: MIT */
/*
 * The calls that `uhmm run` puts itself in front of.
 *
 * vmsplice(2) hands the pages themselves to a pipe. Such a page may leave like any other - it is not pinned, only referenced - and
 * then the pipe would show what its recycled memory holds next. So the bytes are copied into the pipe instead.
 *
 * mmap(2) of large private anonymous memory is advised to be huge at once, not when the policy first looks: what the program fills
 * before that would stay base pages for good. What malloc() maps does not come through here; the command sets a tunable of glibc.
 */
#undef _FILE_OFFSET_BITS /* it would rename mmap to mmap64, and both are defined here */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tools/run_calls.h"

#define EXPORT __attribute__((visibility("default")))

#define HUGE_BYTES ((size_t)2 << 20)

static int advise_huge;

void run_calls_advise_huge(int on)
{
	advise_huge = on;
}

EXPORT ssize_t vmsplice(int fd, const struct iovec *iov, size_t count, unsigned flags)
{
	/* out of a pipe it copies anyway */
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
		return syscall(SYS_vmsplice, fd, iov, count, flags);
	return pwritev2(fd, iov, count > 1024 ? 1024 : (int)count, -1, flags & SPLICE_F_NONBLOCK ? RWF_NOWAIT : 0);
}

static void *map(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	const int want = MAP_PRIVATE | MAP_ANONYMOUS, never = MAP_NORESERVE | MAP_STACK | MAP_GROWSDOWN | MAP_HUGETLB;
	void *mem = (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);

	if (mem == MAP_FAILED || !advise_huge || len < HUGE_BYTES || (flags & want) != want || flags & never ||
	    prot != (PROT_READ | PROT_WRITE))
		return mem;
	if (madvise(mem, len, MADV_HUGEPAGE))
		errno = 0;
	return mem;
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return map(addr, len, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return map(addr, len, prot, flags, fd, offset);
}
