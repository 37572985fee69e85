/* SPDX-License-Identifier: MIT */
/*
 * libuhmm-dmirror.so: what `uhmm dmirror` puts in front of a program that talks to Linux's HMM test device. It serves
 * /dev/hmm_dmirror0 and 1 on two devices of the library (dmirror_device.c); nothing of the kernel's driver is needed.
 *
 * A node that is opened is a memory file, so that dup, poll and mmap of it work as on any file; the ioctls are recognised by
 * its inode. Nodes 2 and 3 (memory that the CPU can address) are not there, and opening them says ENOENT.
 *
 * A private writable mapping of a file becomes anonymous memory with the file's bytes: the kernel lets nobody watch the
 * other kind from user space. What others write to the file afterwards is not seen in it, which POSIX leaves open.
 */
#undef _FILE_OFFSET_BITS /* it would rename open to open64, and both are defined here */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/dmirror_device.h"

#define EXPORT __attribute__((visibility("default")))

/* ---- the nodes as files ---- */

#define MAX_FILES  256 /* opens in the life of a process */
#define NODE_BYTES (1 << 20) /* what can be mapped of a node */

static struct file { /* by inode: two descriptors may name one */
	atomic_bool used; /* set last, and never taken back: read without the lock, for the library under it calls close() too */
	dev_t dev;
	ino_t ino;
	unsigned node;
	pid_t pid; /* who opened it: the device looks at that process's memory */
} file[MAX_FILES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* opening */

static void in_child(void)
{
	dmirror_forget();
	pthread_mutex_init(&lock, NULL);
}

static const struct file *find_file(int fd)
{
	struct stat st;

	if (fd < 0 || !atomic_load(&file[0].used) || fstat(fd, &st))
		return NULL;
	for (unsigned i = 0; i < MAX_FILES && atomic_load(&file[i].used); i++)
		if (file[i].ino == st.st_ino && file[i].dev == st.st_dev)
			return &file[i];
	return NULL;
}

/* -1: it is no node of ours. */
static int node_of(const char *path)
{
	static const char prefix[] = "/dev/hmm_dmirror";
	size_t len = sizeof(prefix) - 1;

	if (!path || strncmp(path, prefix, len) || path[len] < '0' || path[len] >= '0' + DMIRROR_NODES || path[len + 1])
		return -1;
	return path[len] - '0';
}

static pthread_once_t heed = PTHREAD_ONCE_INIT;

static void heed_fork(void)
{
	pthread_atfork(NULL, NULL, in_child);
}

static int open_locked(unsigned n, int flags)
{
	struct file *f = NULL;
	struct stat st;
	int fd, r;

	for (unsigned i = 0; !f && i < MAX_FILES; i++)
		if (!file[i].used)
			f = &file[i];
	if (!f)
		return -EMFILE;
	pthread_once(&heed, heed_fork);
	r = dmirror_open(n);
	if (r)
		return r;
	fd = memfd_create("hmm_dmirror", flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, NODE_BYTES) || fstat(fd, &st)) {
		r = -errno;
		close(fd);
		return r;
	}
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->node = n;
	f->pid = getpid();
	atomic_store(&f->used, true);
	return fd;
}

static int open_node(unsigned n, int flags)
{
	int fd;

	pthread_mutex_lock(&lock);
	fd = open_locked(n, flags);
	pthread_mutex_unlock(&lock);
	if (fd >= 0)
		return fd;
	errno = -fd;
	return -1;
}

/* ---- what the program calls ---- */

/* The next definition of @name, the C library's. */
static void *next(_Atomic(void *) *at, const char *name)
{
	void *fn = atomic_load(at);

	if (!fn) {
		fn = dlsym(RTLD_NEXT, name);
		if (!fn)
			abort();
		atomic_store(at, fn);
	}
	return fn;
}

#define NEXT(type, name) ((type)next(&next_##name, #name))

typedef int open_fn(const char *, int, ...);
typedef int openat_fn(int, const char *, int, ...);
typedef int ioctl_fn(int, unsigned long, ...);
typedef int close_fn(int);
typedef void *mmap_fn(void *, size_t, int, int, int, off_t);

static _Atomic(void *) next_open, next_openat, next_ioctl, next_close, next_mmap;

static mode_t mode_arg(int flags, va_list ap)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

EXPORT int open(const char *path, int flags, ...)
{
	int n = node_of(path);
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = mode_arg(flags, ap);
	va_end(ap);
	return n >= 0 ? open_node((unsigned)n, flags) : NEXT(open_fn *, open)(path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...) __attribute__((alias("open")));

EXPORT int openat(int dir, const char *path, int flags, ...)
{
	int n = node_of(path);
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = mode_arg(flags, ap);
	va_end(ap);
	return n >= 0 ? open_node((unsigned)n, flags) : NEXT(openat_fn *, openat)(dir, path, flags, mode);
}

EXPORT int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));

/* what a program that was built with -D_FORTIFY_SOURCE calls */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

EXPORT int __open_2(const char *path, int flags)
{
	return open(path, flags, 0);
}

EXPORT int __open64_2(const char *path, int flags)
{
	return open(path, flags, 0);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	const struct file *f;
	va_list ap;
	void *arg;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	f = _IOC_TYPE(request) == 'H' ? find_file(fd) : NULL;
	if (!f)
		return NEXT(ioctl_fn *, ioctl)(fd, request, arg);
	r = request == DMIRROR_COMMAND(_IOC_NR(request)) && _IOC_NR(request) < NR_DMIRROR_COMMANDS ?
		    dmirror_run(f->node, f->pid, _IOC_NR(request), arg) : -EINVAL;
	if (!r)
		return 0;
	errno = -r;
	return -1;
}

EXPORT int close(int fd)
{
	const struct file *f = find_file(fd);

	if (f && f->pid == getpid())
		dmirror_evict(f->node);
	return NEXT(close_fn *, close)(fd);
}

/* Return: whether the bytes of the file from @off on were read; what lies beyond its end stays zeros. */
static bool read_all(int fd, char *to, size_t len, off_t off)
{
	ssize_t n = 1;

	while (len && (n = pread(fd, to, len, off)) > 0) {
		to += n;
		off += n;
		len -= (size_t)n;
	}
	return n >= 0;
}

static void *map_file_privately(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	void *mem = NEXT(mmap_fn *, mmap)(at, len, prot | PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return mem;
	if (!read_all(fd, mem, len, off)) {
		int err = errno;

		munmap(mem, len);
		errno = err;
		return MAP_FAILED;
	}
	if (!(prot & PROT_READ))
		mprotect(mem, len, prot);
	return mem;
}

EXPORT void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	struct stat st;
	void *mem;

	if (!(flags & MAP_ANONYMOUS) && find_file(fd)) {
		mem = NEXT(mmap_fn *, mmap)(at, len, prot, flags, fd, off);
		if (mem != MAP_FAILED && prot & PROT_READ)
			madvise(mem, len, MADV_POPULATE_READ); /* the driver's pages are there at once */
		return mem;
	}
	if (!(flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE && (prot & (PROT_WRITE | PROT_EXEC)) == PROT_WRITE &&
	    !fstat(fd, &st) && S_ISREG(st.st_mode))
		return map_file_privately(at, len, prot, flags, fd, off);
	return NEXT(mmap_fn *, mmap)(at, len, prot, flags, fd, off);
}

EXPORT void *mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off) __attribute__((alias("mmap")));
