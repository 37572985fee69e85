/* SPDX-License-Identifier: MIT */
#ifndef TESTS_DIRECT_H
#define TESTS_DIRECT_H

/* A driver called as uhmm calls it, with the defaults that uhmm has for what it leaves out, and nothing of uhmm in between. */

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support.h"
#include "uhmm/driver.h"

#define PAGE      ((size_t)4096)
#define BLOCK     (2 * MIB)
#define TOP_ORDER 9
#define MAX_SEGS  512

struct direct {
	const struct uhmm_driver *driver;
	void *ctx;
	struct uhmm_driver_props props;
};

/* How a callback is asked for that a shorter struct does not have. */
#define HAS(drv, callback) \
	((drv)->sz >= offsetof(struct uhmm_driver, callback) + sizeof((drv)->callback) && (drv)->callback)

/* Return: 0, or -errno with a sentence in @why. */
static inline int direct_open(struct direct *d, const char *spec, char *why, size_t why_bytes)
{
	const char *options;
	int r;

	memset(d, 0, sizeof(*d));
	d->props.sz = sizeof(d->props);
	why[0] = '\0';
	d->driver = uhmm_driver_find(spec, &options, why, why_bytes);
	if (!d->driver)
		return -EINVAL;
	r = d->driver->open(options, &d->props, &d->ctx, why, why_bytes);
	if (!r && !d->props.orders)
		d->props.orders = (1u << (TOP_ORDER + 1)) - 1;
	return r;
}

/* For main(). */
static inline void direct_open_or_skip(struct direct *d)
{
	char why[300];

	if (direct_open(d, device_spec(), why, sizeof(why)))
		support_skip("%s cannot be opened here: %s", device_spec(), why);
}

static inline void direct_close(struct direct *d)
{
	d->driver->close(d->ctx);
}

static inline int direct_wait(struct direct *d, int r, uint64_t fence)
{
	return r || !fence ? r : d->driver->fence_wait(d->ctx, fence);
}

static inline int direct_copy_in(struct direct *d, const struct uhmm_seg *segs, unsigned nr)
{
	uint64_t fence = 0;
	int r = d->driver->copy_in(d->ctx, segs, nr, &fence);

	return direct_wait(d, r, fence);
}

static inline int direct_copy_out(struct direct *d, const struct uhmm_seg *segs, unsigned nr)
{
	uint64_t fence = 0;
	int r = d->driver->copy_out(d->ctx, segs, nr, &fence);

	return direct_wait(d, r, fence);
}

static inline int direct_alloc(struct direct *d, uint64_t offset, unsigned order)
{
	return d->driver->folio_alloc ? d->driver->folio_alloc(d->ctx, offset, order) : 0;
}

static inline void direct_free(struct direct *d, uint64_t offset, unsigned order)
{
	if (d->driver->folio_free)
		d->driver->folio_free(d->ctx, offset, order);
}

static inline void direct_split(struct direct *d, uint64_t head, unsigned from, unsigned to)
{
	if (!d->driver->folio_split)
		return;
	for (uint64_t at = PAGE << to; at < PAGE << from; at += PAGE << to)
		d->driver->folio_split(d->ctx, head, from, head + at, to);
	d->driver->folio_split(d->ctx, head, from, UINT64_MAX, to);
}

static inline int direct_clear(struct direct *d, uint64_t offset, uint64_t bytes)
{
	static char zeros[64 << 10] __attribute__((aligned(4096)));
	int r = 0;

	if (d->driver->clear)
		return d->driver->clear(d->ctx, offset, bytes);
	for (uint64_t at = 0; !r && at < bytes; at += sizeof(zeros)) {
		struct uhmm_seg seg = { offset + at, zeros, bytes - at < sizeof(zeros) ? bytes - at : sizeof(zeros) };

		r = direct_copy_in(d, &seg, 1);
	}
	return r;
}

/*
 * What a program's pages hold, by a seed: 0 zeros, and from the seed's last digit noise that nothing can shrink, one word all
 * over, zeros but for one word, or text.
 */
static inline void content_fill(void *mem, uint64_t seed)
{
	uint64_t *words = mem, state = seed;

	if (!seed) {
		memset(mem, 0, PAGE);
		return;
	}
	switch (seed % 5) {
	case 0:
		for (size_t i = 0; i < PAGE / 8; i++)
			words[i] = seed;
		break;
	case 1:
		memset(mem, 0, PAGE);
		words[seed / 5 % (PAGE / 8)] = seed;
		break;
	case 2:
		for (size_t i = 0; i < PAGE; i++)
			((char *)mem)[i] = "the quick brown fox jumps over a lazy dog "[(i + i / 97 * seed) % 42];
		words[0] = seed;
		break;
	case 3:
		for (size_t i = 0; i < PAGE / 8; i++)
			words[i] = i % 4 ? i : next_random(&state);
		break;
	default:
		for (size_t i = 0; i < PAGE / 8; i++)
			words[i] = next_random(&state);
	}
}

static inline bool content_is(const void *mem, uint64_t seed)
{
	uint64_t want[PAGE / 8];

	content_fill(want, seed);
	return !memcmp(mem, want, PAGE);
}

#endif
