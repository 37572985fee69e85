/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAKE_DRIVER_H
#define TESTS_FAKE_DRIVER_H

/* A driver on an array, with and without the optional callbacks, for the tests of device.c. */

#include "unit.h"

#include "base/err.h"
#include "device/device.h"
#include "device/registry.h"

#define FAKE_BYTES (4 * BLOCK_BYTES)

/* A driver whose answers a case chooses, and which writes down what it was asked. */
static struct {
	struct uhmm_driver_props props;
	int open, copy, folio_alloc, fence_wait, clear;
	uint64_t fence;
	const char *why;

	char options[64];
	/* called in each copy, before its bytes travel */
	void (*hook)(void);
	/* called when a folio is freed */
	void (*free_hook)(void);

	/* atomic: several workers may be in the driver */
	_Atomic unsigned nr_closes, nr_copies, nr_segs, nr_waits, nr_clears, nr_allocs, nr_frees, nr_splits, nr_split_ends;
	_Atomic uint64_t freed_at, last_fence;
	_Atomic unsigned freed_order;

	/* the first calls of folio_split, in order */
	struct split_call { uint64_t head, piece; unsigned old_order, new_order; } split[1024];
	_Atomic unsigned nr_split_calls;
} fake;

static char memory[FAKE_BYTES];

static int fake_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	snprintf(fake.options, sizeof(fake.options), "%s", options);
	if (fake.open)
		return fake.why ? err_why(ret_why, why_bytes, fake.open, "%s", fake.why) : fake.open;
	ret_props->size_bytes = fake.props.size_bytes;
	ret_props->orders = fake.props.orders;
	ret_props->caps = fake.props.caps;
	*ret_ctx = memory;
	return 0;
}

static void fake_close(void *ctx)
{
	(void)ctx;
	fake.nr_closes++;
}

static int fake_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	fake.nr_copies++;
	fake.nr_segs += nr;
	if (fake.hook)
		fake.hook();
	*ret_fence = fake.fence;
	for (unsigned i = 0; !fake.copy && i < nr; i++)
		memcpy((char *)ctx + segs[i].offset, segs[i].host, segs[i].bytes);
	return fake.copy;
}

static int fake_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	fake.nr_copies++;
	fake.nr_segs += nr;
	if (fake.hook)
		fake.hook();
	*ret_fence = fake.fence;
	for (unsigned i = 0; !fake.copy && i < nr; i++)
		memcpy(segs[i].host, (char *)ctx + segs[i].offset, segs[i].bytes);
	return fake.copy;
}

static int fake_fence_wait(void *ctx, uint64_t fence)
{
	(void)ctx;
	fake.nr_waits++;
	fake.last_fence = fence;
	return fake.fence_wait;
}

static int fake_clear(void *ctx, uint64_t offset, uint64_t bytes)
{
	fake.nr_clears++;
	memset((char *)ctx + offset, 0, bytes);
	return fake.clear;
}

static int fake_folio_alloc(void *ctx, uint64_t offset, unsigned order)
{
	(void)ctx;
	(void)offset;
	(void)order;
	fake.nr_allocs++;
	return fake.folio_alloc;
}

static void fake_folio_free(void *ctx, uint64_t offset, unsigned order)
{
	(void)ctx;
	fake.nr_frees++;
	fake.freed_at = offset;
	fake.freed_order = order;
	if (fake.free_hook)
		fake.free_hook();
}

static void fake_folio_split(void *ctx, uint64_t head, unsigned old_order, uint64_t piece, unsigned new_order)
{
	(void)ctx;
	unsigned n = fake.nr_split_calls++;

	if (n < sizeof(fake.split) / sizeof(*fake.split))
		fake.split[n] = (struct split_call){ head, piece, old_order, new_order };
	if (piece == UINT64_MAX)
		fake.nr_split_ends++;
	else
		fake.nr_splits++;
}

/* From call @n on the driver was told that the folio at @head has been split. Return: the number of the next call, 0 if not. */
static inline unsigned heard_split(unsigned n, uint64_t head, unsigned old_order, unsigned new_order)
{
	for (uint64_t piece = head + order_bytes(new_order);; piece += order_bytes(new_order), n++) {
		struct split_call c = fake.split[n];
		bool last = piece == head + order_bytes(old_order);

		if (c.head != head || c.old_order != old_order || c.new_order != new_order || c.piece != (last ? UINT64_MAX : piece))
			return 0;
		if (last)
			return n + 1;
	}
}

#define REQUIRED(n) \
	.sz = sizeof(struct uhmm_driver), .name = (n), .summary = "for a test", .open = fake_open, .close = fake_close, \
	.copy_in = fake_copy_in, .copy_out = fake_copy_out

static const struct uhmm_driver bare = { REQUIRED("bare") };
static const struct uhmm_driver full = {
	REQUIRED("full"), .fence_wait = fake_fence_wait, .clear = fake_clear, .folio_alloc = fake_folio_alloc,
	.folio_free = fake_folio_free, .folio_split = fake_folio_split,
};

static struct device d;
static char why[200];

static int reset(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	memset(&d, 0, sizeof(d));
	memset(memory, 0x5a, sizeof(memory));
	fake.props.size_bytes = FAKE_BYTES;
	why[0] = '\0';
	return 0;
}

static int open_dev(const char *spec)
{
	return device_open(&d, spec, 3, why, sizeof(why));
}

static int add_drivers(void)
{
	return registry_add(&bare) || registry_add(&full);
}

#define CASE(name) cmocka_unit_test_setup(name, reset)

#endif
