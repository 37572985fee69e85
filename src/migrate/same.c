/* SPDX-License-Identifier: MIT */
#include "migrate/same.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "os/map.h"
#include "os/procmap.h"

static bool is_on_device(const struct same *a, const struct device *d)
{
	return a->on[d->index / 64] >> d->index % 64 & 1;
}

/* ---- having it, and giving it back ---- */

/* May the program's memory be put there? @ret_mapped: something that nobody can access is in its place. */
static bool may_replace(const struct procmap *p, uint64_t start, uint64_t end, bool *ret_mapped)
{
	struct mapping m;
	int r;

	*ret_mapped = false;
	for (uint64_t at = start; at < end; at = m.end) {
		r = procmap_find(p, at, &m);
		if (r == -ENOENT || (!r && m.start >= end))
			return true;
		if (r || m.flags & (MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC))
			return false;
		*ret_mapped = true;
	}
	return true;
}

static void unreserve(struct same *a, struct device *d)
{
	device_unreserve(d, a->start, a->bytes);
	a->on[d->index / 64] &= ~(UINT64_C(1) << d->index % 64);
}

/* The first device that can chooses the place, and others that can follow. */
static void reserve(struct same *a, struct migrator *m)
{
	for (unsigned i = 1; i < MAX_DEVICES; i++) {
		struct device *d = migrator_device(m, i);
		uint64_t at;

		if (!d || atomic_load(&d->closing) || device_reserve(d, a->start, a->bytes, &at))
			continue;
		if ((a->start && at != a->start) || !block_aligned(at) || (!a->start && !may_replace(&m->sp->procmap, at, at + a->bytes,
												  &a->was_mapped))) {
			device_unreserve(d, at, a->bytes);
			continue;
		}
		a->start = at;
		a->on[i / 64] |= UINT64_C(1) << i % 64;
	}
}

static void unreserve_all(struct same *a, struct migrator *m)
{
	for (unsigned i = 1; i < MAX_DEVICES; i++) {
		struct device *d = migrator_device(m, i);

		if (d && is_on_device(a, d))
			unreserve(a, d);
	}
}

static struct same *find_free(struct sames *s)
{
	for (unsigned i = 0; i < MAX_SAMES; i++)
		if (!s->same[i].start)
			return &s->same[i];
	return NULL;
}

uint64_t same_alloc(struct sames *s, struct migrator *m, uint64_t bytes)
{
	struct same *slot = find_free(s), a = { .bytes = bytes };
	uint64_t mem;

	if (!slot)
		return 0;
	reserve(&a, m);
	mem = map_program(a.start, bytes);
	if (!mem) {
		unreserve_all(&a, m);
		return 0;
	}
	a.start = mem;
	*slot = a;
	if (s->nr < slot - s->same + 1)
		s->nr = (unsigned)(slot - s->same) + 1;
	return mem;
}

int same_free(struct sames *s, struct migrator *m, uint64_t start)
{
	for (unsigned i = 0; start && i < s->nr; i++) {
		struct same *a = &s->same[i];

		if (a->start != start)
			continue;
		if (a->nr_users)
			return -EBUSY;
		map_program_free(a->start, a->bytes, a->was_mapped);
		unreserve_all(a, m);
		a->start = 0;
		return 0;
	}
	return -EINVAL;
}

void same_forget_device(struct sames *s, struct device *dev)
{
	for (unsigned i = 0; i < s->nr; i++)
		if (s->same[i].start && is_on_device(&s->same[i], dev))
			unreserve(&s->same[i], dev);
}

/* ---- what work has of it ---- */

/* The part of @e that can be at its own addresses: in @a, and in whole blocks in the program and on the device. */
static bool find_part(const struct same *a, const struct uhmm_work_extent *e, uint64_t *ret_start, uint64_t *ret_end)
{
	*ret_start = block_up(max_u64(a->start, e->start));
	*ret_end = block_down(min_u64(a->start + a->bytes, e->start + e->bytes));
	return *ret_start < *ret_end && block_aligned(e->offset - e->start);
}

/* Cuts the extent at @at in two, if that is in its middle. Return: how many more there are. */
static size_t cut(struct uhmm_work_extent *e, size_t nr_behind, uint64_t at)
{
	uint64_t left = at - e->start;

	if (at <= e->start || at >= e->start + e->bytes)
		return 0;
	memmove(e + 1, e, (nr_behind + 1) * sizeof(*e));
	e->bytes = left;
	e[1].start += left;
	e[1].offset += left;
	e[1].bytes -= left;
	if (e[1].address)
		e[1].address += left;
	return 1;
}

/* One allocation. Return: how many extents there are now. */
static size_t map_same(const struct same *a, struct device *dev, struct uhmm_work_extent *extent, size_t nr)
{
	uint64_t start, end;

	for (size_t i = 0; i < nr; i++) {
		if (extent[i].address == extent[i].start || !find_part(a, &extent[i], &start, &end))
			continue;
		if (device_map(dev, start, extent[i].offset + (start - extent[i].start), end - start)) {
			log_once(UHMM_LOG_WARN, "a device could not show memory at the program's own addresses; it has others");
			continue;
		}
		if (cut(&extent[i], nr - i - 1, start)) {
			nr++;
			i++;
		}
		nr += cut(&extent[i], nr - i - 1, end);
		extent[i].address = start;
	}
	return nr;
}

static bool is_used(const struct same *a, const struct uhmm_work_extent *extent, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (extent[i].start < a->start + a->bytes && extent[i].start + extent[i].bytes > a->start)
			return true;
	return false;
}

size_t same_map(struct sames *s, struct device *dev, struct uhmm_work_extent *extent, size_t nr)
{
	for (unsigned i = 0; i < s->nr; i++) {
		struct same *a = &s->same[i];

		if (!a->start || !is_used(a, extent, nr))
			continue;
		a->nr_users++;
		if (is_on_device(a, dev))
			nr = map_same(a, dev, extent, nr);
	}
	return nr;
}

void same_unmap(struct sames *s, struct device *dev, const struct uhmm_work_extent *extent, size_t nr)
{
	for (unsigned i = 0; i < s->nr; i++) {
		struct same *a = &s->same[i];

		/* without users: the program has unmapped the memory under the work, and got these addresses again */
		if (!a->start || !a->nr_users || !is_used(a, extent, nr))
			continue;
		a->nr_users--;
		for (size_t k = 0; is_on_device(a, dev) && k < nr; k++)
			if (extent[k].address == extent[k].start && extent[k].start >= a->start &&
			    extent[k].start < a->start + a->bytes)
				device_unmap(dev, extent[k].start, extent[k].bytes);
	}
}
