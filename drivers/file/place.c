/* SPDX-License-Identifier: MIT */
/*
 * What a path names, opened so that it does no harm: a file that exists, and a block device, are overwritten only when
 * keep=on says so; what we make ourselves has no name from the start, or loses it at once, and is for its owner's eyes alone.
 * Nothing that is found in it is believed. Two devices never share one: flock() sees to files, O_EXCL to block devices.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/pages.h"
#include "drivers/file/file.h"

#define DEFAULT_BYTES (UINT64_C(1) << 30)

#define FAIL(r, ...) err_why(why, why_bytes, r, __VA_ARGS__)

static int say_errno(const struct file *f, int err, const char *what, char *why, size_t why_bytes)
{
	return FAIL(-err, "%s cannot be %s: %s", f->path, what, strerrordesc_np(err));
}

/* A file without a name, in a directory. */
static int open_nameless(struct file *f, char *why, size_t why_bytes)
{
	char name[FILE_PATH + 16];

	if (f->keep)
		return FAIL(-EINVAL, "%s is a directory, and keep=on wants a file", f->path);
	f->fd = open(f->path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (f->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)
		return say_errno(f, errno, "written to", why, why_bytes);
	snprintf(name, sizeof(name), "%s/uhmm-XXXXXX", f->path);
	f->fd = mkostemp(name, O_CLOEXEC);
	if (f->fd < 0)
		return say_errno(f, errno, "written to", why, why_bytes);
	unlink(name);
	return 0;
}

static int open_new(struct file *f, char *why, size_t why_bytes)
{
	f->fd = open(f->path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (f->fd < 0)
		return say_errno(f, errno, "made", why, why_bytes);
	f->created = true;
	if (!f->keep) {
		unlink(f->path);
		f->created = false;
	}
	return 0;
}

static int open_old(struct file *f, bool block, char *why, size_t why_bytes)
{
	if (!f->keep)
		return FAIL(-EEXIST, "%s %s; keep=on lets uhmm overwrite what is in it", f->path,
			    block ? "is a block device" : "is there already");
	f->fd = open(f->path, O_RDWR | O_CLOEXEC | (block ? O_EXCL : 0));
	if (f->fd < 0 && errno == EBUSY)
		return FAIL(-EBUSY, "%s is mounted, or in use by somebody else", f->path);
	return f->fd < 0 ? say_errno(f, errno, "opened", why, why_bytes) : 0;
}

static int open_path(struct file *f, struct stat *st, char *why, size_t why_bytes)
{
	int r;

	if (stat(f->path, st))
		r = errno == ENOENT ? open_new(f, why, why_bytes) : say_errno(f, errno, "looked at", why, why_bytes);
	else if (S_ISDIR(st->st_mode))
		r = open_nameless(f, why, why_bytes);
	else if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		r = open_old(f, S_ISBLK(st->st_mode), why, why_bytes);
	else
		r = FAIL(-EINVAL, "%s is no file, directory or block device", f->path);
	if (r)
		return r;
	if (fstat(f->fd, st)) /* the file may be another one by now */
		return say_errno(f, errno, "looked at", why, why_bytes);
	if (flock(f->fd, LOCK_EX | LOCK_NB)) {
		f->created = false; /* somebody has found it in the meantime */
		return FAIL(-EBUSY, "%s is in use by another device, of this process or another", f->path);
	}
	return 0;
}

/* Writing past this limit raises a signal that ends the program. */
static bool too_large(uint64_t size)
{
	struct rlimit lim;

	return !getrlimit(RLIMIT_FSIZE, &lim) && lim.rlim_cur != RLIM_INFINITY && size > lim.rlim_cur;
}

static int size_file(struct file *f, const struct stat *st, char *why, size_t why_bytes)
{
	uint64_t has = (uint64_t)st->st_size;

	if (!f->size)
		f->size = block_down(has) ? block_down(has) : DEFAULT_BYTES;
	if (too_large(f->size))
		return FAIL(-EFBIG, "%s may not be made as large as %llu bytes: the limit on file sizes (ulimit -f) is lower", f->path,
			    (unsigned long long)f->size);
	if (has < f->size && ftruncate(f->fd, (off_t)f->size))
		return say_errno(f, errno, "made that large", why, why_bytes);
	if (f->reserve && fallocate(f->fd, 0, 0, (off_t)f->size)) {
		if (errno == ENOSPC)
			return FAIL(-ENOSPC, "the disk has no room for the %llu bytes of %s", (unsigned long long)f->size, f->path);
		return say_errno(f, errno, "given its room in advance (reserve=on)", why, why_bytes);
	}
	return 0;
}

static int size_block(struct file *f, char *why, size_t why_bytes)
{
	uint64_t has = 0;

	if (ioctl(f->fd, BLKGETSIZE64, &has))
		return say_errno(f, errno, "measured", why, why_bytes);
	if (!f->size)
		f->size = block_down(has);
	if (!f->size || f->size > has)
		return FAIL(-EINVAL, "%s has %llu bytes only", f->path, (unsigned long long)has);
	return 0;
}

/* Past the page cache, if that is allowed for pages at any multiple of 4096: it is tried. */
static void set_direct(struct file *f)
{
	void *page = uhmm_host_reserve(BLOCK_BYTES);
	int flags = fcntl(f->fd, F_GETFL);

	if (page && f->direct && !fcntl(f->fd, F_SETFL, flags | O_DIRECT) && pread(f->fd, page, PAGE_BYTES, 0) == (ssize_t)PAGE_BYTES) {
		uhmm_host_free(page, BLOCK_BYTES);
		return;
	}
	uhmm_host_free(page, BLOCK_BYTES);
	(void)fcntl(f->fd, F_SETFL, flags);
	if (f->direct)
		log_say(UHMM_LOG_WARN, "%s does not take direct reads and writes: what goes there passes through the page cache",
			f->path);
	f->direct = 0;
}

int place_open(struct file *f, char *why, size_t why_bytes)
{
	struct stat st;
	int r = open_path(f, &st, why, why_bytes);

	if (!r)
		r = S_ISBLK(st.st_mode) ? size_block(f, why, why_bytes) : size_file(f, &st, why, why_bytes);
	if (!r) {
		set_direct(f);
		return 0;
	}
	if (f->created)
		unlink(f->path);
	place_close(f);
	return r;
}

void place_close(struct file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}
