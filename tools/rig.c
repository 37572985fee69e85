/* SPDX-License-Identifier: MIT */
/*
 * A host that grants only a user-mode userfaultfd is good enough here, since nothing but the command's own touches
 * reaches memory that is away; so that is accepted, and the library tells.
 */
#include "tools/rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/clock.h"
#include "tools/cmd.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/sys.h"

/* What a default device has beyond the bytes that it must hold. */
#define SPARE_BYTES ((uint64_t)32 << 20)

bool rig_fits(uint64_t bytes)
{
	char need[SIZE_CHARS], have[SIZE_CHARS];
	uint64_t room = sys_meminfo("MemAvailable"), limit = sys_cgroup_limit();

	if (limit < room)
		room = limit;
	if (!room || bytes <= room)
		return true;
	say("this takes %s of memory and %s are available: give a smaller --size", size_print(bytes, need),
	    size_print(room, have));
	return false;
}

int rig_open_space(struct rig *rig, uint64_t bytes)
{
	unsigned cpus = sys_cpus(), errors = say_library_errors();
	struct uhmm_probe probe = { .sz = sizeof(probe) };
	int r;

	memset(rig, 0, sizeof(*rig));
	/* what the library would choose itself, said aloud so that a copy can be timed with as many */
	rig->copy_threads = cpus < 4 ? cpus : 4;
	/* THPs that left wait in the pool for their way home: measured is the way, not how the kernel clears new ones */
	rig->pool_bytes = size_round_up(bytes, UHMM_BLOCK_BYTES);
	UHMM_OPTS(uhmm_space_opts, opts, .copy_threads = rig->copy_threads, .pool_bytes = rig->pool_bytes);
	if (!uhmm_probe(&probe) && probe.uffd_errno && !probe.uffd_user_errno)
		opts.flags = UHMM_SPACE_USER_MODE_ONLY;
	r = uhmm_open(&opts, &rig->space);
	if (r)
		say_failed(errors, r, "uhmm cannot start (\"uhmm doctor\" tells more)");
	return r;
}

int rig_open_device(struct rig *rig, const char *spec)
{
	unsigned errors = say_library_errors();
	char what[300];
	int r = uhmm_device_open(rig->space, spec, &rig->dev);

	if (r) {
		snprintf(what, sizeof(what), "the device \"%.200s\" cannot be opened (uhmm(7) tells what can be written)",
			 spec);
		say_failed(errors, r, what);
		return r;
	}
	rig->info.sz = sizeof(rig->info);
	return uhmm_device_query(rig->dev, &rig->info);
}

int rig_open(struct rig *rig, const char *spec, uint64_t bytes, uint64_t host_bytes)
{
	uint64_t device_bytes = size_round_up(bytes + SPARE_BYTES, UHMM_BLOCK_BYTES);
	char fitting[64], have[SIZE_CHARS], need[SIZE_CHARS];
	int r;

	memset(rig, 0, sizeof(*rig));
	snprintf(fitting, sizeof(fitting), "emu:size=%llu,populate=on", (unsigned long long)device_bytes);
	if (!rig_fits(host_bytes + (spec ? 0 : device_bytes)) || rig_open_space(rig, bytes))
		return EXIT_FAILED;
	r = rig_open_device(rig, spec ? spec : fitting);
	if (!r && rig->info.size_bytes < bytes) {
		say("the device has %s and %s have to fit: give a larger device or a smaller --size",
		    size_print(rig->info.size_bytes, have), size_print(bytes, need));
		r = -EINVAL;
	}
	if (!r)
		return EXIT_DONE;
	rig_close(rig);
	return spec && r == -EINVAL ? EXIT_MISUSE : EXIT_FAILED;
}

int rig_close(struct rig *rig)
{
	unsigned errors = say_library_errors();
	int r = uhmm_close(rig->space);

	memset(rig, 0, sizeof(*rig));
	if (!r)
		return EXIT_DONE;
	say_failed(errors, r, "the device did not give everything back");
	return EXIT_FAILED;
}

/* Once is enough: what stays once usually stays every time, and every row has the count. */
static void tell_partial(const struct uhmm_result *result)
{
	static bool told;
	char reasons[300] = "";
	size_t used = 0;

	if (told)
		return;
	told = true;
	for (int i = 0; i < UHMM_NR_SKIPS && used < sizeof(reasons); i++)
		if (result->skipped_pages[i])
			used += (size_t)snprintf(reasons + used, sizeof(reasons) - used, " %s %llu",
						 uhmm_skip_name((enum uhmm_skip)i),
						 (unsigned long long)result->skipped_pages[i]);
	say("some pages stayed where they were:%s", reasons);
}

static double finish(unsigned errors, int r, uint64_t start_ns, const struct uhmm_result *result, const char *what)
{
	double seconds = (double)(clock_ns() - start_ns) / 1e9;

	if (r == UHMM_E_PARTIAL)
		tell_partial(result);
	if (r >= 0)
		return seconds;
	say_failed(errors, r, what);
	return -1;
}

double rig_to_device(struct rig *rig, const struct region *r, uint64_t from_bytes, uint64_t to_bytes,
		     struct uhmm_result *ret)
{
	return rig_send(rig, r, from_bytes, to_bytes, 0, ret);
}

double rig_send(struct rig *rig, const struct region *r, uint64_t from_bytes, uint64_t to_bytes, uint32_t flags,
		struct uhmm_result *ret)
{
	unsigned errors = say_library_errors();
	uint64_t start = clock_ns();
	int result;

	ret->sz = sizeof(*ret);
	result = uhmm_to_device(rig->space, r->mem + from_bytes, to_bytes - from_bytes, rig->dev, flags, ret);
	return finish(errors, result, start, ret, "moving to the device failed");
}

double rig_to_system(struct rig *rig, const struct region *r, struct uhmm_result *ret)
{
	unsigned errors = say_library_errors();
	uint64_t start = clock_ns();
	int result;

	ret->sz = sizeof(*ret);
	result = uhmm_to_system(rig->space, r->mem, r->bytes, 0, ret);
	return finish(errors, result, start, ret, "bringing home failed");
}

unsigned rig_smallest_order(const struct uhmm_result *moved)
{
	for (unsigned order = 0; order < UHMM_NR_ORDERS; order++)
		if (moved->moved_folios[order])
			return order;
	return 0;
}
