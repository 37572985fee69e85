/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "base/log.h"

/* ---- acquire ---- */

static bool good_range(const struct uhmm_work_range *r)
{
	uint64_t start = (uintptr_t)r->start, limit = UINT64_C(1) << TABLE_ADDRESS_BITS;

	return page_aligned(start) && r->len_bytes && r->len_bytes <= limit && start <= limit - r->len_bytes && !r->reserved &&
	       !(r->flags & ~UHMM_WORK_READ);
}

/* What the caller needs until it can release is not held. */
static bool holds_any(const struct work_part *part, unsigned nr, const void *mem, uint64_t bytes)
{
	for (unsigned i = 0; i < nr; i++)
		if (part[i].write && overlaps(mem, bytes, part[i].start, part[i].end))
			return true;
	return false;
}

/* The program's own protection holds for the device too. */
static int check_mapped(struct uhmm_space *space, const struct work_part *p)
{
	struct mapping m;

	for (uint64_t at = p->start; at < p->end; at = m.end) {
		int r = procmap_find(&space->sp.procmap, at, &m);

		if (r == -ENOENT || (!r && (m.start > at || !(m.flags & MAPPING_READ))))
			return -EFAULT;
		if (!r && p->write && !(m.flags & MAPPING_WRITE))
			return -EPERM;
		if (r)
			return r;
	}
	return 0;
}

static int check(struct uhmm_device *dev, const struct uhmm_work_range *ranges, unsigned nr, uint32_t flags, struct uhmm_work **ret,
		 struct uhmm_result *result, struct uhmm_space **ret_space)
{
	const char *call = "uhmm_work_acquire";
	int r;

	*ret_space = space_current();
	if (!dev || !ranges || !ret || !nr || nr > UHMM_WORK_RANGES || flags || (result && result->sz < sizeof(size_t)))
		return bad_argument(call, "the device, the ranges and the place for the work must not be NULL, there are 1 to 256 ranges, "
					  "flags is 0 and the result's sz set");
	r = check_process(call, *ret_space);
	if (!r)
		r = check_device(call, *ret_space, dev);
	for (unsigned i = 0; !r && i < nr; i++)
		if (!good_range(&ranges[i]))
			r = bad_argument(call, "a range must start at a multiple of 4096, be neither empty nor beyond the address space, "
					       "and have flags 0 or UHMM_WORK_READ and reserved 0");
	return r;
}

static void fill_addresses(struct device *d, struct work *w)
{
	for (size_t i = 0; i < w->nr_extents; i++)
		w->extent[i].address = device_address(d, w->extent[i].offset);
}

int uhmm_work_acquire(struct uhmm_device *dev, const struct uhmm_work_range *ranges, unsigned nr, uint32_t flags,
		      struct uhmm_work **ret, struct uhmm_result *ret_result)
{
	struct work_part part[2 * UHMM_WORK_RANGES];
	struct uhmm_space *space;
	uint64_t stack, stack_end;
	unsigned nr_parts;
	struct tally t;
	struct work *w;
	int r = check(dev, ranges, nr, flags, ret, ret_result, &space);

	if (r)
		return r;
	nr_parts = work_parts(ranges, nr, part);
	stack_around(space, __builtin_frame_address(0), &stack, &stack_end);
	if (holds_any(part, nr_parts, (void *)(uintptr_t)stack, stack_end - stack) || holds_any(part, nr_parts, ret, sizeof(*ret)) ||
	    holds_any(part, nr_parts, ranges, nr * sizeof(*ranges)) ||
	    (ret_result && holds_any(part, nr_parts, ret_result, ret_result->sz)))
		return bad_argument("uhmm_work_acquire", "the calling thread's stack, or the arguments, lie in a range that would be held");
	if (work_blocks(part, nr_parts) > MAX_HELD_BLOCKS)
		return -E2BIG;
	for (unsigned i = 0; !r && i < nr_parts; i++)
		r = check_mapped(space, &part[i]);
	if (r)
		return r;
	r = work_acquire(&space->works, &dev->dev, part, nr_parts, &w, &t);
	fill_result(&t, ret_result);
	if (r)
		return r;
	fill_addresses(&dev->dev, w);
	lock_take(&space->sames_lock);
	w->nr_extents = same_map(&space->sames, &dev->dev, w->extent, w->nr_extents);
	lock_drop(&space->sames_lock);
	*ret = (struct uhmm_work *)w;
	return 0;
}

/* ---- what comes after ---- */

/* Looks at the address only. Return: 0; -EPERM or -EINVAL, said. */
static int check_open(const char *call, struct uhmm_work *handle, struct uhmm_space **ret_space)
{
	int r;

	*ret_space = space_current();
	r = check_process(call, *ret_space);
	if (!r && !manual_is_open(&(*ret_space)->manuals, handle))
		return bad_argument(call, "the work is none, or has been released");
	return r;
}

int uhmm_work_release(struct uhmm_work *handle)
{
	struct work *w = (struct work *)handle;
	struct uhmm_space *space;
	int r;

	if (!handle)
		return 0;
	r = check_open("uhmm_work_release", handle, &space);
	if (r)
		return r;
	lock_take(&space->sames_lock);
	same_unmap(&space->sames, w->dev, w->extent, w->nr_extents);
	lock_drop(&space->sames_lock);
	work_release(w);
	return 0;
}

const struct uhmm_work_extent *uhmm_work_extents(struct uhmm_work *handle, size_t *ret_nr)
{
	struct uhmm_space *space;

	if (!ret_nr || check_open("uhmm_work_extents", handle, &space))
		return NULL;
	*ret_nr = ((struct work *)handle)->nr_extents;
	return ((struct work *)handle)->extent;
}

uint64_t uhmm_work_address(struct uhmm_work *handle, const void *addr)
{
	uint64_t at = (uintptr_t)addr;
	size_t low = 0, high;
	const struct uhmm_work_extent *e = uhmm_work_extents(handle, &high);

	while (e && low < high) {
		size_t mid = low + (high - low) / 2;

		if (at < e[mid].start)
			high = mid;
		else if (at >= e[mid].start + e[mid].bytes)
			low = mid + 1;
		else
			return e[mid].address ? e[mid].address + (at - e[mid].start) : 0;
	}
	return 0;
}

/* ---- memory at the same addresses ---- */

void *uhmm_alloc(struct uhmm_space *space, size_t len_bytes, uint32_t flags)
{
	uint64_t mem;

	if (!len_bytes || flags || len_bytes > UINT64_C(1) << (TABLE_ADDRESS_BITS - 1)) {
		errno = -bad_argument("uhmm_alloc", "the length must not be 0 nor more than the address space, and flags 0");
		return NULL;
	}
	if (check_process("uhmm_alloc", space)) {
		errno = EPERM;
		return NULL;
	}
	lock_take(&space->sames_lock);
	mem = same_alloc(&space->sames, &space->migrator, block_up(len_bytes));
	lock_drop(&space->sames_lock);
	if (!mem)
		errno = ENOMEM;
	return (void *)(uintptr_t)mem;
}

int uhmm_free(struct uhmm_space *space, void *mem)
{
	int r;

	if (!mem)
		return 0;
	r = check_process("uhmm_free", space);
	if (r)
		return r;
	lock_take(&space->sames_lock);
	r = same_free(&space->sames, &space->migrator, (uintptr_t)mem);
	lock_drop(&space->sames_lock);
	if (r == -EINVAL)
		return bad_argument("uhmm_free", "the memory is none of uhmm_alloc(), or was freed before");
	return r;
}

/* ---- the runtime behind a device ---- */

int uhmm_device_native(struct uhmm_device *dev, const char *name, void **ret)
{
	struct uhmm_space *space = space_current();
	int r;

	if (!dev || !name || !ret)
		return bad_argument("uhmm_device_native", "the device, the name and the place for the object must not be NULL");
	r = check_process("uhmm_device_native", space);
	if (!r)
		r = check_device("uhmm_device_native", space, dev);
	return r ? r : device_native(&dev->dev, name, ret);
}
