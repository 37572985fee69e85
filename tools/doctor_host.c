/* SPDX-License-Identifier: MIT */
/* The host beyond its userfaultfd: huge pages, limits, and the devices that uhmm can open on it. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tools/doctor.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/sys.h"
#include "uhmm/driver.h"

#define THP_DIR "/sys/kernel/mm/transparent_hugepage/"

#define ENOUGH_MAPS  65530
#define ENOUGH_FILES 64
#define ENOUGH_BYTES ((uint64_t)1 << 30)

/* --- 2 MiB pages ------------------------------------------------------------------------------------------------ */

/* The word in brackets of "always [madvise] never". Return: whether there is one. */
static bool chosen_word(const char *path, char *ret, size_t bytes)
{
	char line[128], *open, *close;

	if (sys_line(path, line, sizeof(line)))
		return false;
	open = strchr(line, '[');
	close = open ? strchr(open, ']') : NULL;
	if (!close)
		return false;
	*close = '\0';
	snprintf(ret, bytes, "%s", open + 1);
	return true;
}

static void check_enabled(struct report *rep)
{
	char word[32];

	if (!chosen_word(THP_DIR "enabled", word, sizeof(word)))
		report_add(rep, FOUND_DEGRADED, "THP", "boot a kernel built with CONFIG_TRANSPARENT_HUGEPAGE=y",
			   "not in this kernel: everything moves at 4 KiB");
	else
		report_add(rep, strcmp(word, "never") ? FOUND_OK : FOUND_DEGRADED, "THP",
			   "echo madvise > " THP_DIR "enabled as root", "%s%s", word,
			   strcmp(word, "never") ? "" : ": everything moves at 4 KiB");
}

static void check_defrag(struct report *rep)
{
	char word[32];
	bool direct;

	if (!chosen_word(THP_DIR "defrag", word, sizeof(word)))
		return;
	direct = strcmp(word, "never") && strcmp(word, "defer");
	report_add(rep, direct ? FOUND_OK : FOUND_DEGRADED, "THP defrag", "echo madvise > " THP_DIR "defrag as root", "%s%s",
		   word, direct ? "" : ": with fragmented memory huge pages may come home small");
}

static void check_khugepaged(struct report *rep)
{
	char on[32], none[32];

	if (sys_line(THP_DIR "khugepaged/defrag", on, sizeof(on)) ||
	    sys_line(THP_DIR "khugepaged/max_ptes_none", none, sizeof(none)))
		return;
	report_add(rep, strcmp(on, "0") ? FOUND_OK : FOUND_DEGRADED, "khugepaged",
		   "echo 1 > " THP_DIR "khugepaged/defrag as root", "defrag %s, max_ptes_none %s%s", on, none,
		   strcmp(on, "0") ? "" : ": what came home small stays small");
}

void doctor_thp(struct report *rep)
{
	check_enabled(rep);
	check_defrag(rep);
	check_khugepaged(rep);
	report_add(rep, rep->probe.has_thp ? FOUND_OK : FOUND_DEGRADED, "a 2 MiB page",
		   "echo 1 > /proc/sys/vm/compact_memory as root, or free some memory", "%s",
		   rep->probe.has_thp ? "could be had just now" : "could not be had just now");
}

/* --- limits ----------------------------------------------------------------------------------------------------- */

static void check_number(struct report *rep, const char *name, const char *path, bool (*good)(unsigned long),
			 const char *mend, const char *otherwise)
{
	unsigned long value;
	char line[64];

	if (sys_line(path, line, sizeof(line)))
		return;
	value = strtoul(line, NULL, 10);
	report_add(rep, good(value) ? FOUND_OK : FOUND_DEGRADED, name, mend, "%s%s", line, good(value) ? "" : otherwise);
}

static bool enough_maps(unsigned long n)
{
	return n >= ENOUGH_MAPS;
}

static bool may_overcommit(unsigned long mode)
{
	return mode != 2;
}

static void check_rlimit(struct report *rep, const char *name, int resource, rlim_t enough, const char *mend)
{
	struct rlimit lim;
	char text[SIZE_CHARS];

	if (getrlimit((__rlimit_resource_t)resource, &lim))
		return;
	if (lim.rlim_cur == RLIM_INFINITY)
		snprintf(text, sizeof(text), "unlimited");
	else if (resource == RLIMIT_NOFILE)
		snprintf(text, sizeof(text), "%llu", (unsigned long long)lim.rlim_cur);
	else
		size_print(lim.rlim_cur, text);
	report_add(rep, lim.rlim_cur >= enough ? FOUND_OK : FOUND_DEGRADED, name, mend, "%s", text);
}

static void check_memory(struct report *rep)
{
	uint64_t total = sys_meminfo("MemTotal"), available = sys_meminfo("MemAvailable"), limit = sys_cgroup_limit();
	char a[SIZE_CHARS], b[SIZE_CHARS];

	report_add(rep, available >= ENOUGH_BYTES ? FOUND_OK : FOUND_DEGRADED, "memory", "free some memory",
		   "%s, %s available", size_print(total, a), size_print(available, b));
	if (limit == SYS_NO_LIMIT)
		report_add(rep, FOUND_OK, "control group", NULL, "no memory limit");
	else
		report_add(rep, limit >= ENOUGH_BYTES ? FOUND_OK : FOUND_DEGRADED, "control group",
			   "raise the group's memory limit", "memory limited to %s", size_print(limit, a));
}

void doctor_limits(struct report *rep)
{
	unsigned cpus = sys_cpus();

	report_add(rep, cpus > 1 ? FOUND_OK : FOUND_DEGRADED, "CPUs", "let this process run on two CPUs or more (taskset -p)",
		   "%u%s", cpus, cpus > 1 ? "" : ": faults share it with the program");
	report_add(rep, FOUND_OK, "copy routine", NULL, "%s", rep->probe.copy_routine);
	check_memory(rep);
	check_number(rep, "max_map_count", "/proc/sys/vm/max_map_count", enough_maps,
		     "sysctl -w vm.max_map_count=262144 as root", ": few mappings for many small pieces");
	check_number(rep, "overcommit_memory", "/proc/sys/vm/overcommit_memory", may_overcommit,
		     "sysctl -w vm.overcommit_memory=0 as root", ": reserved address space counts as memory");
	check_rlimit(rep, "RLIMIT_AS", RLIMIT_AS, RLIM_INFINITY, "ulimit -v unlimited");
	check_rlimit(rep, "RLIMIT_NOFILE", RLIMIT_NOFILE, ENOUGH_FILES, "ulimit -n 1024");
	check_rlimit(rep, "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK, 0, NULL);
}

/* --- devices ---------------------------------------------------------------------------------------------------- */

static char heard[220];

/* Opening may fail here and that is a finding, not news: the sentence goes into the report. */
static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)ctx;
	if (level == UHMM_LOG_ERROR || !heard[0])
		snprintf(heard, sizeof(heard), "%s", message);
}

/* What a driver is tried with: little, and nothing that stays. */
static const struct { const char *driver, *options; } tries[] = {
	{ "emu", ":size=16M" }, { "zstd", ":size=16M" }, { "lz4", ":size=16M" }, { "file", ":/tmp,size=16M" },
	{ "opencl", ":size=16M" }, { "cuda", ":size=16M" },
	{ "faulty", "+emu:size=16M" }, { "slow", "+emu:size=16M" }, { "trace", "+emu:size=16M" },
};

static const char *options_for(const struct uhmm_driver *driver)
{
	for (size_t i = 0; i < sizeof(tries) / sizeof(*tries); i++)
		if (!strcmp(tries[i].driver, driver->name))
			return tries[i].options;
	return ":";
}

static bool needs_hardware(const struct uhmm_driver *driver)
{
	return !strcmp(driver->name, "opencl") || !strcmp(driver->name, "cuda");
}

static void try_device(struct report *rep, struct uhmm_space *space, const struct uhmm_driver *driver)
{
	char spec[64], size[SIZE_CHARS];
	struct uhmm_device_info info = { .sz = sizeof(info) };
	struct uhmm_device *dev;
	int r;

	heard[0] = '\0';
	snprintf(spec, sizeof(spec), "%s%s", driver->name, options_for(driver));
	r = uhmm_device_open(space, spec, &dev);
	if (!r) {
		uhmm_device_query(dev, &info);
		r = uhmm_device_close(dev);
	}
	if (r) /* not every machine has a device of each kind, and need not */
		report_add(rep, r == -ENODEV && needs_hardware(driver) ? FOUND_OK : FOUND_DEGRADED, "device",
			   "see uhmm-devices(7) for what the driver needs", "%s: %s", spec,
			   heard[0] ? heard : uhmm_strerror(r));
	else
		report_add(rep, FOUND_OK, "device", NULL, "%s opens, %s (%s)%s%s", spec, size_print(info.size_bytes, size),
			   driver->summary, heard[0] ? "; " : "", heard);
}

void doctor_devices(struct report *rep)
{
	struct uhmm_space *space = NULL;
	UHMM_OPTS(uhmm_space_opts, opts, .fault_threads = 1, .copy_threads = 1);
	const struct uhmm_driver *driver;
	int r;

	if (rep->probe.uffd_errno)
		opts.flags = UHMM_SPACE_USER_MODE_ONLY;
	uhmm_log_set(hear, NULL, UHMM_LOG_WARN);
	r = uhmm_open(&opts, &space);
	report_add(rep, r ? FOUND_MISSING : FOUND_OK, "uhmm_open", "mend what is missing above", "%s",
		   !r ? "works" : heard[0] ? heard : uhmm_strerror(r));
	for (unsigned n = 0; (driver = uhmm_driver_get(n)); n++) {
		if (r)
			report_add(rep, FOUND_DEGRADED, "device", "mend what is missing above", "%s: not tried (%s)",
				   driver->name, driver->summary);
		else
			try_device(rep, space, driver);
	}
	uhmm_close(space);
	say_hear_library();
}
