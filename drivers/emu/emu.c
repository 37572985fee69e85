/* SPDX-License-Identifier: MIT */
/*
 * emu: the device every driver is held against.
 *
 *   size=SIZE        its memory, default 1G
 *   latency=TIME     added to each copy call, default 0
 *   bandwidth=SIZE   bytes a second that a copy may reach, default unlimited
 *   populate=on      all memory is there from the start, as on a card; else host memory is taken as it is first used
 *   async=on         copies are done by an engine thread, and the caller gets a fence
 *   orders=WHICH     all (default), ends (0 and 9), or a list such as 0+4+9
 *   fail_alloc=N     the next N allocations of an order above 0 are refused
 *   fail_copy_in=N, fail_copy_out=N   the next N copies fail with EIO, nothing copied
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pages.h"
#include "base/spec.h"
#include "drivers/emu/emu.h"

static const struct spec_key keys[] = {
	{ "size", SPEC_SIZE, offsetof(struct emu, size) },
	{ "latency", SPEC_TIME, offsetof(struct emu, latency) },
	{ "bandwidth", SPEC_SIZE, offsetof(struct emu, bandwidth) },
	{ "populate", SPEC_BOOL, offsetof(struct emu, populate) },
	{ "async", SPEC_BOOL, offsetof(struct emu, async) },
	{ "orders", SPEC_WORD, offsetof(struct emu, orders) },
	{ "fail_alloc", SPEC_COUNT, offsetof(struct emu, fail_alloc) },
	{ "fail_copy_in", SPEC_COUNT, offsetof(struct emu, fail_copy_in) },
	{ "fail_copy_out", SPEC_COUNT, offsetof(struct emu, fail_copy_out) },
	{ NULL, 0, 0 },
};

/* Return: the mask, or 0 when the text is none. */
static uint32_t parse_orders(const char *text)
{
	uint32_t mask = 0;
	char *end;

	if (!strcmp(text, "all"))
		return (1u << NR_ORDERS) - 1;
	if (!strcmp(text, "ends"))
		return 1u | 1u << BLOCK_ORDER;
	do {
		unsigned long k = strtoul(text, &end, 10);

		if (end == text || k > BLOCK_ORDER)
			return 0;
		mask |= 1u << k;
		text = end + 1;
	} while (*end == '+');
	return *end || !(mask & 1) ? 0 : mask;
}

static int emu_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why,
		    size_t why_bytes)
{
	struct emu asked = { .size = UINT64_C(1) << 30, .orders = "all" }, *e = &asked;
	uint32_t orders = 0;
	int r = spec_parse(options, keys, e, ret_why, why_bytes);

	if (!r && (!e->size || !block_aligned(e->size)))
		r = err_why(ret_why, why_bytes, -EINVAL, "size must be a multiple of 2M, at least 2M");
	if (!r && !(orders = parse_orders(e->orders)))
		r = err_why(ret_why, why_bytes, -EINVAL, "orders=%s is not all, ends, or numbers from 0 to 9 with 0 among them, "
							 "joined by +", e->orders);
	if (!r)
		r = emu_memory_open(&e, ret_why, why_bytes);
	if (r)
		return r;
	e->alloc_failures = (int64_t)e->fail_alloc;
	e->copy_in_failures = (int64_t)e->fail_copy_in;
	e->copy_out_failures = (int64_t)e->fail_copy_out;
	if (e->async) {
		r = emu_engine_start(e);
		if (r) {
			emu_memory_close(e);
			return r;
		}
	}
	ret_props->size_bytes = e->size;
	ret_props->orders = orders;
	ret_props->caps = e->async ? UHMM_CAP_ASYNC : 0;
	*ret_ctx = e;
	return 0;
}

static void emu_close(void *ctx)
{
	struct emu *e = ctx;

	if (!e)
		return;
	emu_engine_stop(e);
	emu_memory_close(e);
}

const struct uhmm_driver uhmm_driver_emu = {
	.sz = sizeof(struct uhmm_driver),
	.name = "emu",
	.summary = "hidden host memory with a cost model and failures on demand",
	.open = emu_open,
	.close = emu_close,
	.copy_in = emu_copy_in,
	.copy_out = emu_copy_out,
	.fence_wait = emu_fence_wait,
	.clear = emu_clear,
	.folio_alloc = emu_folio_alloc,
	.host_bytes = emu_host_bytes,
	.address = emu_address,
};
