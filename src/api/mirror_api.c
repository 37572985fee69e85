/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "base/log.h"
#include "mirror/mirror.h"
#include "os/pagemap.h"
#include "os/sysinfo.h"

/* Return: 0; -EINVAL, -EPERM or -ENODEV, said. */
static int check(const char *call, struct uhmm_device *dev, struct uhmm_space **ret_space)
{
	struct uhmm_space *space = space_current();
	int r;

	*ret_space = space;
	if (!dev)
		return bad_argument(call, "there is no device");
	r = check_process(call, space);
	return r ? r : check_device(call, space, dev);
}

static int access(const char *call, struct uhmm_device *dev, const void *addr, size_t len, void *buf, uint32_t flags,
		  unsigned how, struct uhmm_access *ret)
{
	uint64_t at = (uintptr_t)addr, limit = UINT64_C(1) << TABLE_ADDRESS_BITS;
	struct uhmm_access full = { .sz = 0 };
	struct uhmm_space *space;
	int r;

	if (!buf || !len || len > limit || at > limit - len || (flags & ~UHMM_ACCESS_RESIDENT) || (ret && ret->sz < sizeof(size_t)))
		return bad_argument(call, "the buffer must not be NULL, the range neither empty nor beyond the address space, "
					  "flags 0 or UHMM_ACCESS_RESIDENT, and the result's sz set");
	r = check(call, dev, &space);
	if (r)
		return r;
	if (flags & UHMM_ACCESS_RESIDENT)
		how |= MIRROR_RESIDENT;
	r = mirror_access(&space->mirror, &dev->dev, at, len, buf, how, &full.faults, &full.done_bytes);
	if (ret) {
		full.sz = ret->sz;
		memcpy(ret, &full, full.sz < sizeof(full) ? full.sz : sizeof(full));
	}
	return r;
}

int uhmm_device_read(struct uhmm_device *dev, const void *addr, size_t len_bytes, void *buf, uint32_t flags,
		     struct uhmm_access *ret)
{
	return access("uhmm_device_read", dev, addr, len_bytes, buf, flags, 0, ret);
}

int uhmm_device_write(struct uhmm_device *dev, void *addr, size_t len_bytes, const void *buf, uint32_t flags,
		      struct uhmm_access *ret)
{
	/* only read from: MIRROR_WRITE says so */
	return access("uhmm_device_write", dev, addr, len_bytes, (void *)(uintptr_t)buf, flags, MIRROR_WRITE, ret);
}

/* ---- exclusive access ---- */

/* The device of host memory on which @dev's exclusive pages are; opened at the first need. */
static int open_companion(struct uhmm_space *space, struct uhmm_device *dev, struct uhmm_device **ret)
{
	char spec[48];
	unsigned index;
	int r = 0;

	lock_take(&space->lock);
	index = atomic_load(&space->mirror.companion[dev->dev.index]);
	if (index) {
		*ret = &space->device[index];
	} else {
		snprintf(spec, sizeof(spec), "emu:size=%llu", (unsigned long long)block_up(sysinfo_ram_bytes()));
		r = device_open_locked(space, spec, ret);
		if (!r) {
			(*ret)->companion_of = dev;
			atomic_store(&space->mirror.companion[dev->dev.index], (uint8_t)(*ret)->dev.index);
		}
	}
	lock_drop(&space->lock);
	return r;
}

/* Return: 0, -EFAULT or -EPERM: all of it must be readable and writable. */
static int check_writable(struct uhmm_space *space, uint64_t start, uint64_t end)
{
	const uint32_t rw = MAPPING_READ | MAPPING_WRITE;
	struct mapping m;

	while (start < end) {
		int r = procmap_find(&space->sp.procmap, start, &m);

		if (r == -ENOENT || (!r && m.start > start))
			return -EFAULT;
		if (!r && (m.flags & rw) != rw)
			return -EPERM;
		if (r)
			return r;
		start = m.end;
	}
	return 0;
}

int uhmm_device_exclusive(struct uhmm_device *dev, void *start, size_t len_bytes)
{
	struct uhmm_device *companion;
	struct uhmm_space *space;
	uint64_t s, e, stayed = 0;
	struct tally t;
	int r;

	r = check("uhmm_device_exclusive", dev, &space);
	if (!r)
		r = check_range("uhmm_device_exclusive", start, len_bytes, true, &s, &e);
	if (!r)
		r = check_writable(space, s, e);
	if (!r)
		r = open_companion(space, dev, &companion);
	if (r)
		return r;
	/* what any device has, this one too, comes home, and goes on from there: but not what it has alone already */
	for (unsigned i = 1; i < MAX_DEVICES; i++) {
		struct device *d = migrator_device(&space->migrator, i);

		if (!d || d == &companion->dev)
			continue;
		jobs_run(&space->jobs, JOB_TO_SYSTEM, s, e, d, false, &t);
		if (t.error)
			return t.error;
	}
	jobs_run(&space->jobs, JOB_TO_DEVICE, s, e, &companion->dev, false, &t);
	if (t.error)
		return t.error;
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		stayed += k == UHMM_SKIP_ABSENT ? 0 : t.skipped[k];
	return stayed ? -EBUSY : 0;
}

/* ---- looking ---- */

static uint8_t view_of_entry(struct uhmm_space *space, struct uhmm_device *dev, struct entry e, uint8_t prot)
{
	struct uhmm_device *on = device_handle(space, entry_device(e));
	uint8_t huge = entry_order(e) == BLOCK_ORDER ? UHMM_VIEW_HUGE : 0;

	if (on && on->companion_of == dev)
		return prot | huge | UHMM_VIEW_LOCAL | UHMM_VIEW_ATOMIC;
	return on == dev ? prot | huge | UHMM_VIEW_LOCAL : 0;
}

static uint8_t view_of_page(struct uhmm_space *space, uint64_t addr, const struct mapping *m, uint8_t prot)
{
	int bits = pagemap_uniform(space->sp.pagemap_fd, addr, addr + PAGE_BYTES);

	if (bits <= 0 || !(bits & PM_PRESENT))
		return 0;
	if (bits & PM_ZERO)
		return UHMM_VIEW_READ | UHMM_VIEW_ZERO;
	/* shared with a child, a parent or a file: a store gets a copy first */
	if (prot & UHMM_VIEW_WRITE && !(m->flags & MAPPING_SHARED) &&
	    (bits & PM_FILE || !pagemap_exclusive(space->sp.pagemap_fd, addr)))
		prot &= (uint8_t)~UHMM_VIEW_WRITE;
	return prot | (bits & PM_HUGE ? UHMM_VIEW_HUGE : 0);
}

static void view_mapping(struct uhmm_space *space, struct uhmm_device *dev, uint64_t start, uint64_t end,
			 const struct mapping *m, uint8_t *ret)
{
	uint8_t prot = UHMM_VIEW_READ | (m->flags & MAPPING_WRITE ? UHMM_VIEW_WRITE : 0);

	for (; start < end; start += PAGE_BYTES, ret++) {
		struct entry e = table_peek(&space->sp.table, start);

		if (entry_state(e) == ENTRY_DEVICE)
			*ret = view_of_entry(space, dev, e, prot);
		else
			*ret = entry_state(e) == ENTRY_MIGRATING ? 0 : view_of_page(space, start, m, prot);
	}
}

int uhmm_device_snapshot(struct uhmm_device *dev, const void *start, size_t len_bytes, uint8_t *ret_view)
{
	struct uhmm_space *space;
	uint64_t s, e;
	int r;

	if (!ret_view)
		return bad_argument("uhmm_device_snapshot", "there is no place for the result");
	r = check("uhmm_device_snapshot", dev, &space);
	if (!r)
		r = check_range("uhmm_device_snapshot", start, len_bytes, true, &s, &e);
	if (r)
		return r;
	gate_await_events(&space->sp.gate);
	while (s < e) {
		struct mapping m;
		uint64_t stop;

		r = procmap_find(&space->sp.procmap, s, &m);
		if (r && r != -ENOENT)
			return r;
		stop = r ? e : min_u64(m.start > s ? m.start : m.end, e);
		if (r || m.start > s || !(m.flags & MAPPING_READ))
			memset(ret_view, UHMM_VIEW_ERROR, (stop - s) >> PAGE_SHIFT);
		else
			view_mapping(space, dev, s, stop, &m, ret_view);
		ret_view += (stop - s) >> PAGE_SHIFT;
		s = stop;
	}
	return 0;
}

int uhmm_device_release(struct uhmm_device *dev)
{
	struct uhmm_space *space;
	unsigned companion;
	int r;

	r = check("uhmm_device_release", dev, &space);
	if (r)
		return r;
	companion = atomic_load(&space->mirror.companion[dev->dev.index]);
	r = device_empty(space, &dev->dev);
	if (!r && companion)
		r = device_empty(space, &space->device[companion].dev);
	return r;
}
