/* SPDX-License-Identifier: MIT */
/*
 * Real bytes: a demonstration with zeros or a pattern would prove little. Where the C library lives there are large
 * files on every system, and in /usr/bin too; the largest that can be read is taken.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/demo.h"
#include "tools/say.h"
#include "tools/term.h"

static void take_larger(int dir_fd, const char *dir, const char *name, struct input *best)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, 0) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size <= best->bytes)
		return;
	if (faccessat(dir_fd, name, R_OK, 0) || strlen(dir) + 1 + strlen(name) >= sizeof(best->name))
		return;
	best->bytes = (uint64_t)st.st_size;
	snprintf(best->name, sizeof(best->name), "%s/%s", dir, name);
}

static void search(const char *dir, struct input *best)
{
	DIR *d = opendir(dir);
	struct dirent *entry;

	if (!d)
		return;
	while ((entry = readdir(d)))
		take_larger(dirfd(d), dir, entry->d_name, best);
	closedir(d);
}

static int find_libc(struct dl_phdr_info *info, size_t size, void *ret_dir)
{
	const char *slash = strrchr(info->dlpi_name, '/');

	(void)size;
	if (!slash || strncmp(slash, "/libc.so", 8) || slash - info->dlpi_name >= PATH_MAX)
		return 0;
	sprintf(ret_dir, "%.*s", (int)(slash - info->dlpi_name), info->dlpi_name);
	return 1;
}

static void choose(struct input *ret)
{
	char dir[PATH_MAX] = "/lib";

	dl_iterate_phdr(find_libc, dir);
	search(dir, ret);
	search("/usr/bin", ret);
}

/* Return: bytes read, which may be 0, or a negative errno after saying why. */
static int64_t read_file(const char *path, unsigned char *dst, uint64_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = fd < 0 ? errno : 0;
	uint64_t got = 0;
	ssize_t n = 1;

	while (!err && n && got < room) {
		n = read(fd, dst + got, room - got < (1u << 26) ? room - got : 1u << 26);
		if (n < 0)
			err = errno;
		else
			got += (uint64_t)n;
		term_progress("reading", got, room);
	}
	if (fd >= 0)
		close(fd);
	if (!err)
		return (int64_t)got;
	say("%s cannot be read: %s", path, strerror(err));
	return -err;
}

static void repeat(struct region *r, uint64_t bytes)
{
	for (uint64_t at = bytes; at < r->bytes; at += bytes) {
		memcpy(r->mem + at, r->mem, r->bytes - at < bytes ? r->bytes - at : bytes);
		term_progress("repeating", at, r->bytes);
	}
}

int input_fill(struct region *r, char **files, unsigned nr_files, struct input *ret)
{
	char *chosen = ret->name;
	int64_t n;

	memset(ret, 0, sizeof(*ret));
	if (!nr_files) {
		choose(ret);
		ret->bytes = 0;
		files = &chosen;
		nr_files = 1;
	} else {
		snprintf(ret->name, sizeof(ret->name), "%s", files[0]);
	}
	for (; ret->nr_files < nr_files && ret->bytes < r->bytes; ret->nr_files++) {
		n = read_file(files[ret->nr_files], r->mem + ret->bytes, r->bytes - ret->bytes);
		if (n < 0)
			return (int)n;
		ret->bytes += (uint64_t)n;
	}
	if (!ret->bytes) {
		say("%s is empty: name a file with something in it", ret->name);
		return -ENODATA;
	}
	repeat(r, ret->bytes);
	term_clear();
	return 0;
}
