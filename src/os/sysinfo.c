/* SPDX-License-Identifier: MIT */
#include "os/sysinfo.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

#include "base/pages.h"
#include "os/fail.h"
#include "os/map.h"

static ssize_t read_file(const char *path, char *buf, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, bytes - 1);
	close(fd);
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

const char *sysinfo_thp_dir = "/sys/kernel/mm/transparent_hugepage";

/* A file of words, of which the one in brackets is valid. @sub: of a size, or "" for all. */
static void read_setting(const char *sub, char *text, size_t bytes)
{
	char path[256];

	snprintf(path, sizeof(path), "%s%s/enabled", sysinfo_thp_dir, sub);
	if (os_without(WITHOUT_THP) || read_file(path, text, bytes) < 0)
		text[0] = '\0';
}

enum sysinfo_thp sysinfo_thp(void)
{
	char text[64];

	read_setting("", text, sizeof(text));
	if (strstr(text, "[always]"))
		return THP_ALWAYS;
	return strstr(text, "[madvise]") ? THP_MADVISE : THP_NEVER;
}

struct sysinfo_mthp sysinfo_mthp(void)
{
	struct sysinfo_mthp m = { 0, 0 };
	char sub[32], text[64];

	for (unsigned order = 1; order < BLOCK_ORDER; order++) {
		enum sysinfo_thp is;

		snprintf(sub, sizeof(sub), "/hugepages-%llukB", (unsigned long long)(order_bytes(order) >> 10));
		read_setting(sub, text, sizeof(text));
		if (strstr(text, "[inherit]"))
			is = sysinfo_thp();
		else
			is = strstr(text, "[always]") ? THP_ALWAYS : strstr(text, "[madvise]") ? THP_MADVISE : THP_NEVER;
		m.always |= is == THP_ALWAYS ? 1u << order : 0;
		m.advised |= is == THP_NEVER ? 0 : 1u << order;
	}
	return m;
}

uint64_t sysinfo_ram_bytes(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/*
 * smaps is a header line for each mapping, "start-end ...", then lines "Key: value"; the last of them is VmFlags, where
 * "hg" and "nh" stand for the advice. Read line by line from a buffer of our own: no stdio, which would allocate.
 */
struct smaps_scan {
	uint64_t addr;
	bool inside;  /* the last header covered addr */
	bool found;
	enum sysinfo_advice advice;
};

static void smaps_line(struct smaps_scan *s, const char *line)
{
	unsigned long start, end;

	if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
		s->inside = start <= s->addr && s->addr < end;
	} else if (s->inside && !strncmp(line, "VmFlags:", 8)) {
		s->found = true;
		s->advice = strstr(line, " hg") ? ADVICE_HUGE : strstr(line, " nh") ? ADVICE_NO_HUGE : ADVICE_NONE;
	}
}

enum sysinfo_advice sysinfo_advice(uint64_t addr)
{
	int fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
	struct smaps_scan s = { .addr = addr };
	char buf[4096 + 1];
	size_t have = 0;
	ssize_t n;

	if (fd < 0)
		return ADVICE_NONE;
	while (!s.found && (n = read(fd, buf + have, sizeof(buf) - 1 - have)) > 0) {
		char *line = buf, *nl;

		have += (size_t)n;
		buf[have] = '\0';
		while (!s.found && (nl = strchr(line, '\n'))) {
			*nl = '\0';
			smaps_line(&s, line);
			line = nl + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == sizeof(buf) - 1)
			have = 0; /* a line longer than the buffer: none that matters */
	}
	close(fd);
	return s.advice;
}

/* A page table that stayed behind makes a huge MOVE arrive as base pages; only a try tells whether the advice frees it. */
bool sysinfo_has_pt_reclaim(void)
{
	char text[4096], *line;
	uint64_t before = 0, after = 0;
	char *mem = map_own(2 * BLOCK_BYTES, 0);
	char *block;

	if (!mem)
		return false;
	block = (char *)(uintptr_t)block_up((uintptr_t)mem);
	(void)madvise(mem, 2 * BLOCK_BYTES, MADV_NOHUGEPAGE);
	*(volatile char *)block = 1;
	if (read_file("/proc/self/status", text, sizeof(text)) > 0 && (line = strstr(text, "VmPTE:")))
		sscanf(line, "VmPTE: %lu", &before);
	(void)map_discard((uintptr_t)block, BLOCK_BYTES);
	if (read_file("/proc/self/status", text, sizeof(text)) > 0 && (line = strstr(text, "VmPTE:")))
		sscanf(line, "VmPTE: %lu", &after);
	map_own_free(mem, 2 * BLOCK_BYTES);
	return after < before;
}
