/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_NEXT_H
#define TESTS_UNIT_NEXT_H

/* A second device beside that of unit_migrate.h, with memory of its own, for what moves on. */

#include "unit_migrate.h"

#define NEXT 4 /* its index */
#define ALL_ORDERS_OF(bytes) ((struct uhmm_driver_props){ .size_bytes = (bytes) })

static char next_memory[FAKE_BYTES];
static struct device next;
static int next_copy; /* what its copies in answer */

static int next_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	int r = fake_open(options, ret_props, ret_ctx, ret_why, why_bytes);

	*ret_ctx = next_memory;
	return r;
}

static int next_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return next_copy ? next_copy : fake_copy_in(ctx, segs, nr, ret_fence);
}

static const struct uhmm_driver next_driver = {
	.sz = sizeof(struct uhmm_driver), .name = "next", .summary = "for a test", .open = next_open, .close = fake_close,
	.copy_in = next_copy_in, .copy_out = fake_copy_out, .folio_alloc = fake_folio_alloc, .folio_free = fake_folio_free,
};

static inline uint64_t next_used(void) { return buddy_used_bytes(&next.buddy); }

static inline void open_next(struct uhmm_driver_props props)
{
	fake.props = props;
	memset(&next, 0, sizeof(next));
	assert_int_equal(device_open(&next, "next", NEXT, why, sizeof(why)), 0);
	atomic_store(&mig.devices[NEXT], &next);
}

static inline void close_next(void)
{
	migrate_to_system(&mv, at, at + LEN, &next, &t);
	assert_int_equal(next_used(), 0);
	atomic_store(&mig.devices[NEXT], NULL);
	device_close(&next);
}

/* The next device has them, with their bytes, and the program has nothing there. */
static inline bool on_next(unsigned b, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++) {
		struct entry e = entry_at(b, i);
		uint64_t in = entry_order(e) == BLOCK_ORDER ? i * PAGE_BYTES : 0;

		if (entry_state(e) != ENTRY_DEVICE || entry_device(e) != NEXT || bits_at(page(b, i), PAGE_BYTES) != 0)
			return false;
		if (!holds(next_memory + entry_offset(e) + in, b, i, i + 1))
			return false;
	}
	return true;
}

#endif
