/* SPDX-License-Identifier: MIT */
#include "tools/run_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Start of a process, field 22 of its stat, which stands behind the last ')'. Return: 0 when there is none. */
static uint64_t born(pid_t pid)
{
	char path[64], text[1024];
	uint64_t ticks = 0;
	const char *at;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++) {
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	/* strtoull() would ask the locale, which may be memory that is away: the policy's thread comes here */
	for (; at && *at >= '0' && *at <= '9'; at++)
		ticks = ticks * 10 + (uint64_t)(*at - '0');
	return ticks;
}

/* XDG_RUNTIME_DIR is this user's alone; the others are everybody's, and the name is made by mkstemp. */
const char *run_file_dir(unsigned n)
{
	const char *own = secure_getenv("XDG_RUNTIME_DIR");
	const char *dirs[] = { own && *own == '/' ? own : "/dev/shm", "/dev/shm", "/tmp", NULL };

	return n < 3 ? dirs[n] : NULL;
}

static int make_in(const char *dir, char *ret_path, size_t bytes)
{
	int fd;

	if ((size_t)snprintf(ret_path, bytes, "%s/" RUN_PREFIX "%d.XXXXXX", dir, (int)getpid()) >= bytes) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(ret_path, O_CLOEXEC); /* mode 0600 */
	if (fd < 0)
		return -1;
	if (posix_fallocate(fd, 0, sizeof(struct run_file)) == 0)
		return fd;
	close(fd);
	unlink(ret_path);
	errno = ENOSPC;
	return -1;
}

static struct run_file *map_file(int fd, bool writable)
{
	void *mem = mmap(NULL, sizeof(struct run_file), PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);

	close(fd);
	return mem == MAP_FAILED ? NULL : mem;
}

struct run_file *run_file_make(char *ret_path, size_t bytes)
{
	struct run_file *f;
	const char *dir;
	int fd = -1;

	for (unsigned n = 0; fd < 0 && (dir = run_file_dir(n)); n++)
		fd = make_in(dir, ret_path, bytes);
	if (fd < 0)
		return NULL;
	f = map_file(fd, true);
	if (!f) {
		unlink(ret_path);
		return NULL;
	}
	f->magic = RUN_MAGIC;
	f->bytes = sizeof(*f);
	f->pid = getpid();
	return f;
}

struct run_file *run_file_open(const char *path, bool writable)
{
	int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
	struct run_file *f;
	struct stat st;

	if (fd < 0)
		return NULL;
	/* somebody else's file says nothing that this process may believe */
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size != sizeof(*f) || (writable && st.st_uid != geteuid())) {
		close(fd);
		errno = EINVAL;
		return NULL;
	}
	f = map_file(fd, writable);
	if (f && (f->magic != RUN_MAGIC || f->bytes != sizeof(*f))) {
		run_file_close(f);
		errno = EINVAL;
		return NULL;
	}
	return f;
}

void run_file_close(struct run_file *f)
{
	if (f)
		munmap(f, sizeof(*f));
}

static int path_of(pid_t pid, char *ret_path, size_t bytes)
{
	char path[64], *line = NULL;
	size_t room = 0;
	int r = -ENOENT;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT ? -ESRCH : -errno;
	while (r && getdelim(&line, &room, '\0', f) > 0)
		if (!strncmp(line, RUN_ENV "=", sizeof(RUN_ENV))) {
			snprintf(ret_path, bytes, "%s", line + sizeof(RUN_ENV));
			r = 0;
		}
	free(line);
	fclose(f);
	return r;
}

bool run_slot_lives(struct run_slot *s)
{
	int64_t pid = atomic_load(&s->pid);

	return pid > 0 && (!kill((pid_t)pid, 0) || errno == EPERM) && born((pid_t)pid) == atomic_load(&s->born);
}

static bool is_over(struct run_file *f)
{
	if (!kill((pid_t)f->pid, 0)) /* the command itself, or the program before it has a slot */
		return false;
	for (unsigned i = 0; i < RUN_SLOTS; i++)
		if (run_slot_lives(&f->slot[i]))
			return false;
	return true;
}

/* In one directory, which may be the same as an earlier one: then it was done. */
static void each_in(const char *dir, bool writable, void (*visit)(void *ctx, struct run_file *f, const char *path), void *ctx)
{
	struct dirent *e;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d))) {
		char path[4096];
		struct run_file *f;

		if (strncmp(e->d_name, RUN_PREFIX, strlen(RUN_PREFIX)) ||
		    (size_t)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= sizeof(path))
			continue;
		f = run_file_open(path, writable);
		if (f)
			visit(ctx, f, path);
		run_file_close(f);
	}
	if (d)
		closedir(d);
}

static void each(bool writable, void (*visit)(void *ctx, struct run_file *f, const char *path), void *ctx)
{
	const char *dir;

	for (unsigned n = 0; (dir = run_file_dir(n)); n++)
		if (n == 0 || strcmp(dir, run_file_dir(0)))
			each_in(dir, writable, visit, ctx);
}

void run_file_each(void (*visit)(void *ctx, struct run_file *f, const char *path), void *ctx)
{
	each(false, visit, ctx);
}

static void sweep(void *ctx, struct run_file *f, const char *path)
{
	(void)ctx;
	if (is_over(f))
		unlink(path);
}

void run_file_sweep(void)
{
	each(true, sweep, NULL);
}

static struct run_slot *slot_of(struct run_file *f, pid_t pid)
{
	for (unsigned i = 0; i < RUN_SLOTS; i++)
		if (atomic_load(&f->slot[i].pid) == pid && run_slot_lives(&f->slot[i]))
			return &f->slot[i];
	return NULL;
}

struct search {
	pid_t pid;
	char path[4096];
};

static void look_for(void *ctx, struct run_file *f, const char *path)
{
	struct search *s = ctx;

	if (slot_of(f, s->pid))
		snprintf(s->path, sizeof(s->path), "%s", path);
}

struct run_file *run_file_find(pid_t pid, struct run_slot **ret_slot)
{
	struct search s = { .pid = pid };
	struct run_file *f;

	run_file_each(look_for, &s);
	if (!*s.path && path_of(pid, s.path, sizeof(s.path)))
		return NULL;
	f = run_file_open(s.path, false);
	*ret_slot = f ? slot_of(f, pid) : NULL;
	if (*ret_slot)
		return f;
	run_file_close(f);
	return NULL;
}

static void reset(struct run_slot *s)
{
	int64_t pid = atomic_load(&s->pid);

	/* all fields are integers, and nobody but this process writes them */
	memset((char *)s + sizeof(s->pid), 0, sizeof(*s) - sizeof(s->pid));
	atomic_store(&s->born, born((pid_t)pid));
}

/* Who is just taking a slot has not said yet when it was born, and is not dead for that. */
void run_slot_clear(struct run_slot *s)
{
	int64_t pid = atomic_load(&s->pid);
	uint64_t then = atomic_load(&s->born);

	if (pid && then && pid == atomic_load(&s->pid) && !run_slot_lives(s) && atomic_compare_exchange_strong(&s->born, &then, 0))
		(void)atomic_compare_exchange_strong(&s->pid, &pid, 0);
}

struct run_slot *run_slot_take(struct run_file *f)
{
	int64_t me = getpid();

	for (unsigned i = 0; i < RUN_SLOTS; i++)
		if (atomic_load(&f->slot[i].pid) == me) {
			reset(&f->slot[i]);
			return &f->slot[i];
		}
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < RUN_SLOTS; i++) {
			struct run_slot *s = &f->slot[i];
			int64_t none = 0;

			if (round) /* what the dead have left */
				run_slot_clear(s);
			if (!atomic_compare_exchange_strong(&s->pid, &none, me))
				continue;
			reset(s);
			return s;
		}
	return NULL;
}

bool run_slot_drop(struct run_file *f, struct run_slot *s)
{
	atomic_store(&s->resident, 0);
	atomic_store(&s->born, 0);
	atomic_store(&s->pid, 0);
	for (unsigned i = 0; i < RUN_SLOTS; i++)
		if (run_slot_lives(&f->slot[i]))
			return false;
	return true;
}
