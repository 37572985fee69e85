/* SPDX-License-Identifier: MIT */
/*
 * libuhmm-dmirror.so: what `uhmm dmirror` puts in front of a program that talks to Linux's HMM test device. It serves
 * /dev/hmm_dmirror0 and 1, whose ABI is below, on two devices of the library; nothing of the kernel's driver is needed.
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "uhmm/driver.h"
#include "uhmm/uhmm.h"

#define EXPORT __attribute__((visibility("default")))

/* ---- the ABI ---- */

struct command {
	uint64_t addr, ptr, npages; /* in */
	uint64_t cpages, faults;    /* out */
};

#define COMMAND(n) _IOWR('H', n, struct command)
enum {
	CMD_READ, CMD_WRITE, CMD_TO_DEVICE, CMD_TO_SYSTEM, CMD_SNAPSHOT, CMD_EXCLUSIVE, CMD_CHECK_EXCLUSIVE, CMD_RELEASE,
	CMD_FLAGS, CMD_READ_UNLOCKED,
	NR_COMMANDS,
};

#define FLAG_FAIL_ALLOC 1u

/* a byte of a snapshot */
#define SEEN_ERROR 0xff
#define SEEN_READ  0x01
#define SEEN_WRITE 0x02
#define SEEN_HUGE  0x04
#define SEEN_ZERO  0x10
#define SEEN_LOCAL 0x20

#define PAGE UINT64_C(4096)

/* ---- the devices ---- */

#define NR_NODES   2
#define MAX_FILES  256 /* opens in the life of a process */
#define NODE_BYTES (1 << 20) /* what can be mapped of a node */

static struct node {
	struct uhmm_device *dev;
	void *ctx;                 /* the driver's */
	_Atomic unsigned failures; /* allocations that shall fail */
} node[NR_NODES];

static struct file { /* by inode: two descriptors may name one */
	atomic_bool used; /* set last, and never taken back: read without the lock, for the library under it calls close() too */
	dev_t dev;
	ino_t ino;
	unsigned node;
	pid_t pid; /* who opened it: the device looks at that process's memory */
} file[MAX_FILES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* all of the above */
static struct uhmm_space *space;

/* The driver under the nodes: emu, of which an allocation can be made to fail. */
static struct uhmm_driver driver;
static const struct uhmm_driver *emu;
static unsigned opening; /* the node whose device is being opened, under the lock */

static int failing_open(const char *options, struct uhmm_driver_props *props, void **ctx, char *why, size_t why_bytes)
{
	int r = emu->open(options, props, ctx, why, why_bytes);

	if (!r)
		node[opening].ctx = *ctx;
	return r;
}

static bool take_failure(const void *ctx)
{
	for (unsigned i = 0; i < NR_NODES; i++)
		if (node[i].ctx == ctx)
			return atomic_exchange(&node[i].failures, 0);
	return false;
}

static int failing_alloc(void *ctx, uint64_t offset, unsigned order)
{
	if (take_failure(ctx))
		return -ENOMEM;
	return emu->folio_alloc ? emu->folio_alloc(ctx, offset, order) : 0;
}

static int add_driver(void)
{
	const struct uhmm_driver *d;

	for (unsigned n = 0; (d = uhmm_driver_get(n)) && strcmp(d->name, "emu"); n++)
		;
	if (!d)
		return -ENODEV;
	emu = d;
	driver = *emu;
	driver.name = "dmirror";
	driver.summary = "the emu device, of which an allocation can be made to fail";
	driver.open = failing_open;
	driver.folio_alloc = failing_alloc;
	return uhmm_driver_add(&driver);
}

static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)ctx;
	(void)level;
	dprintf(STDERR_FILENO, "uhmm dmirror: %s\n", message);
}

/* The child's memory is its own: what it opens is opened anew. */
static void in_child(void)
{
	space = NULL;
	for (unsigned i = 0; i < NR_NODES; i++)
		node[i].dev = NULL;
	pthread_mutex_init(&lock, NULL);
}

static int open_device_locked(unsigned n)
{
	static bool ready;
	int r = 0;

	if (!ready) {
		if (getenv("UHMM_DMIRROR_VERBOSE"))
			uhmm_log_set(hear, NULL, UHMM_LOG_WARN);
		r = add_driver();
		if (r)
			return r;
		pthread_atfork(NULL, NULL, in_child);
		ready = true;
	}
	if (!space)
		r = uhmm_open(NULL, &space);
	if (r) {
		dprintf(STDERR_FILENO, "uhmm dmirror: this process cannot be looked after: %s; \"uhmm doctor\" tells more\n",
			uhmm_strerror(r));
		return r;
	}
	opening = n;
	return node[n].dev ? 0 : uhmm_device_open(space, "dmirror:size=4G", &node[n].dev);
}

/* ---- the commands ---- */

struct call {
	struct node *node;
	struct command *cmd;
	void *addr, *ptr;
	size_t bytes;
};

static int transfer(struct call *c, bool write, uint32_t flags)
{
	UHMM_OPTS(uhmm_access, done);
	int r;

	if (write)
		r = uhmm_device_write(c->node->dev, c->addr, c->bytes, c->ptr, flags, &done);
	else
		r = uhmm_device_read(c->node->dev, c->addr, c->bytes, c->ptr, flags, &done);
	c->cmd->cpages = done.done_bytes / PAGE;
	c->cmd->faults = done.faults;
	return r;
}

/* Bits that any page of the range has. No heap: a command may write beyond what a careless program has allocated for its result,
 * as the driver would, and programs get away with that until the next malloc(). */
static int look(struct call *c, uint8_t *ret_any)
{
	uint8_t view[512];
	int r = 0;

	*ret_any = 0;
	for (uint64_t at = 0; !r && at < c->cmd->npages; at += sizeof(view)) {
		uint64_t n = c->cmd->npages - at < sizeof(view) ? c->cmd->npages - at : sizeof(view);

		r = uhmm_device_snapshot(c->node->dev, (char *)c->addr + at * PAGE, n * PAGE, view);
		for (uint64_t i = 0; !r && i < n; i++)
			*ret_any |= view[i];
	}
	return r;
}

static int to_device(struct call *c)
{
	uint8_t any;
	int r = look(c, &any);

	if (!r && any & UHMM_VIEW_ERROR)
		return -EINVAL;
	if (!r)
		r = uhmm_to_device(space, c->addr, c->bytes, c->node->dev, UHMM_MOVE_READ_ONLY, NULL);
	/* what stayed is found missing by the device's own look */
	return r < 0 ? r : transfer(c, false, UHMM_ACCESS_RESIDENT);
}

static int to_system(struct call *c)
{
	struct uhmm_result res = { .sz = sizeof(res) };
	int r = uhmm_to_system(space, c->addr, c->bytes, 0, &res);

	for (unsigned k = 0; k < UHMM_NR_ORDERS; k++)
		c->cmd->cpages += res.moved_folios[k];
	return r < 0 ? r : 0;
}

static uint8_t seen(uint8_t view)
{
	uint8_t s = 0;

	if (view & UHMM_VIEW_ERROR)
		return SEEN_ERROR;
	if (!view || view & UHMM_VIEW_ATOMIC)
		return 0;
	if (view & UHMM_VIEW_LOCAL)
		s |= SEEN_LOCAL;
	if (view & UHMM_VIEW_HUGE)
		s |= SEEN_HUGE;
	if (view & UHMM_VIEW_ZERO)
		s |= SEEN_ZERO;
	return s | (view & UHMM_VIEW_WRITE ? SEEN_WRITE : SEEN_READ);
}

static int snapshot(struct call *c)
{
	uint8_t *view = c->ptr;
	int r = uhmm_device_snapshot(c->node->dev, c->addr, c->bytes, view);

	for (uint64_t i = 0; !r && i < c->cmd->npages; i++)
		view[i] = seen(view[i]);
	c->cmd->cpages = c->cmd->npages;
	return r;
}

static int exclusive(struct call *c)
{
	int r = uhmm_device_exclusive(c->node->dev, c->addr, c->bytes);

	return r ? r : transfer(c, false, 0);
}

static int check_exclusive(struct call *c)
{
	uint8_t any;
	int r = look(c, &any);

	return !r && any & UHMM_VIEW_ATOMIC ? -EPERM : r;
}

static int run(struct call *c, unsigned n)
{
	switch (n) {
	case CMD_READ:
	case CMD_READ_UNLOCKED:   return transfer(c, false, 0);
	case CMD_WRITE:           return transfer(c, true, 0);
	case CMD_TO_DEVICE:       return to_device(c);
	case CMD_TO_SYSTEM:       return to_system(c);
	case CMD_SNAPSHOT:        return snapshot(c);
	case CMD_EXCLUSIVE:       return exclusive(c);
	case CMD_CHECK_EXCLUSIVE: return check_exclusive(c);
	case CMD_RELEASE:         return uhmm_device_release(c->node->dev);
	default:                  return -EINVAL;
	}
}

static int command(const struct file *f, unsigned n, struct command *user)
{
	struct command cmd;
	struct call c;
	int r;

	if (!user)
		return -EFAULT;
	cmd = *user;
	cmd.cpages = cmd.faults = 0;
	if (n == CMD_FLAGS) {
		atomic_store(&node[f->node].failures, cmd.npages & FLAG_FAIL_ALLOC);
		return 0;
	}
	if (f->pid != getpid())
		return -EINVAL; /* the memory that this file is about is another process's */
	c = (struct call){ &node[f->node], &cmd, (void *)(uintptr_t)cmd.addr, (void *)(uintptr_t)cmd.ptr, cmd.npages * PAGE };
	if (n != CMD_RELEASE && (cmd.addr % PAGE || !cmd.npages || cmd.npages >> 36 || cmd.addr + c.bytes < cmd.addr))
		return -EINVAL;
	r = run(&c, n);
	if (!r)
		*user = cmd;
	return r;
}

/* ---- the nodes as files ---- */

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

	if (!path || strncmp(path, prefix, len) || path[len] < '0' || path[len] >= '0' + NR_NODES || path[len + 1])
		return -1;
	return path[len] - '0';
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
	r = open_device_locked(n);
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
	r = request == COMMAND(_IOC_NR(request)) && _IOC_NR(request) < NR_COMMANDS ? command(f, _IOC_NR(request), arg) : -EINVAL;
	if (!r)
		return 0;
	errno = -r;
	return -1;
}

EXPORT int close(int fd)
{
	const struct file *f = find_file(fd);

	/* closing a node evicts the device; by an error the pages stay where they are, and still come home when touched */
	if (f && f->pid == getpid() && node[f->node].dev)
		(void)uhmm_device_release(node[f->node].dev);
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
