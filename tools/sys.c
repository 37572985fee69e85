/* SPDX-License-Identifier: MIT */
#include "tools/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sys_line(const char *path, char *ret, size_t bytes)
{
	FILE *f = fopen(path, "re");
	int r = 0;

	if (!f)
		return -errno;
	if (!fgets(ret, (int)bytes, f))
		r = -ENODATA;
	else
		ret[strcspn(ret, "\n")] = '\0';
	fclose(f);
	return r;
}

uint64_t sys_meminfo(const char *field)
{
	FILE *f = fopen("/proc/meminfo", "re");
	uint64_t kib, found = 0;
	char line[128], name[64];

	if (!f)
		return 0;
	while (!found && fgets(line, sizeof(line), f))
		if (sscanf(line, "%63[^:]: %" SCNu64, name, &kib) == 2 && !strcmp(name, field))
			found = kib * 1024;
	fclose(f);
	return found;
}

unsigned sys_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	return (unsigned)CPU_COUNT(&set);
}

static uint64_t read_limit(const char *root, const char *group, const char *file)
{
	char path[1024], line[64], *end;
	uint64_t bytes;

	snprintf(path, sizeof(path), "%s%s/%s", root, group, file);
	if (sys_line(path, line, sizeof(line)))
		return SYS_NO_LIMIT;
	bytes = strtoull(line, &end, 10);
	/* v2 says "max"; v1 says a number near 2^63 */
	return end == line || bytes >= (uint64_t)1 << 60 ? SYS_NO_LIMIT : bytes;
}

/* A group is bound by the limits of the groups above it too. In a container the path may name a place outside of what
 * is mounted; then at least the root that is mounted is asked. */
static uint64_t walk_up(const char *root, char *group, const char *file)
{
	uint64_t limit, tightest = SYS_NO_LIMIT;
	char *slash;

	for (;;) {
		limit = read_limit(root, group, file);
		if (limit < tightest)
			tightest = limit;
		slash = strrchr(group, '/');
		if (!slash)
			return tightest;
		*slash = '\0';
	}
}

static uint64_t limit_of(char *line)
{
	char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!group)
		return SYS_NO_LIMIT;
	*group++ = '\0';
	group[strcspn(group, "\n")] = '\0';
	if (!controllers[1])
		return walk_up("/sys/fs/cgroup", group, "memory.max");
	if (strstr(controllers + 1, "memory"))
		return walk_up("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
	return SYS_NO_LIMIT;
}

uint64_t sys_cgroup_limit(void)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	uint64_t limit, tightest = SYS_NO_LIMIT;
	char line[900];

	if (!f)
		return SYS_NO_LIMIT;
	while (fgets(line, sizeof(line), f)) {
		limit = limit_of(line);
		if (limit < tightest)
			tightest = limit;
	}
	fclose(f);
	return tightest;
}
