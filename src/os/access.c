/* SPDX-License-Identifier: MIT */
#include "os/access.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "os/uapi.h"

int64_t access_read(void *to, uint64_t addr, uint64_t len)
{
	struct iovec here = { to, len }, there = { (void *)(uintptr_t)addr, len };
	ssize_t n = process_vm_readv(getpid(), &here, 1, &there, 1, 0);

	return n < 0 ? -errno : n;
}

int64_t access_write(uint64_t addr, const void *from, uint64_t len)
{
	struct iovec here = { (void *)(uintptr_t)from, len }, there = { (void *)(uintptr_t)addr, len };
	ssize_t n = process_vm_writev(getpid(), &here, 1, &there, 1, 0);

	return n < 0 ? -errno : n;
}

int access_populate(uint64_t addr, uint64_t len, bool write)
{
	return madvise((void *)(uintptr_t)addr, len, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) ? -errno : 0;
}
