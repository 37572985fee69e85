/* SPDX-License-Identifier: MIT */
#include "device/device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "device/registry.h"

/* What NULL for clear means: zeros from here. 64 KiB: one piece of it stays in the caches. */
static const char zeros[64 << 10] __attribute__((aligned(4096)));

static int check_props(const struct uhmm_driver *drv, struct uhmm_driver_props *p, char *why, size_t why_bytes)
{
	if (!p->orders)
		p->orders = (1u << NR_ORDERS) - 1;
	if (!p->size_bytes || !block_aligned(p->size_bytes) || p->size_bytes > UINT64_C(1) << 51)
		return err_why(why, why_bytes, -EINVAL, "a device's size must be a multiple of 2M, at least 2M; driver %s offers %llu bytes",
			       drv->name, (unsigned long long)p->size_bytes);
	if (!(p->orders & 1) || p->orders >> NR_ORDERS)
		return err_why(why, why_bytes, -EINVAL, "driver %s must take order 0, and none above 9", drv->name);
	if ((p->caps & UHMM_CAP_ASYNC) && !drv->fence_wait)
		return err_why(why, why_bytes, -EINVAL, "driver %s says its copies are asynchronous but has no fence_wait", drv->name);
	return 0;
}

int device_open(struct device *d, const char *spec, unsigned index, char *ret_why, size_t why_bytes)
{
	const char *options;
	uint64_t began;
	int r;

	d->driver = registry_find(spec, &options, ret_why, why_bytes);
	if (!d->driver)
		return -EINVAL;
	d->props = (struct uhmm_driver_props){ .sz = sizeof(d->props) };
	if (why_bytes)
		ret_why[0] = '\0';
	r = d->driver->open(options, &d->props, &d->ctx, ret_why, why_bytes);
	if (r) {
		const char *text = r < 0 ? strerrordesc_np(-r) : NULL;

		if (why_bytes && !ret_why[0])
			err_why(ret_why, why_bytes, r, "driver %s failed with %s (%d)", d->driver->name,
				text ? text : "a number that is no errno", r);
		return r < 0 ? r : -EPROTO;
	}
	began = clock_ns();
	r = check_props(d->driver, &d->props, ret_why, why_bytes);
	if (!r) {
		r = buddy_init(&d->buddy, d->props.size_bytes);
		if (r)
			err_why(ret_why, why_bytes, r, "there is no address space for the metadata of %s", spec);
	}
	if (r) {
		d->driver->close(d->ctx);
		return r;
	}
	lock_init(&d->loan_lock, LOCK_LEAF);
	meta_init(&d->withheld_nodes, sizeof(uint64_t) * 3);
	d->index = index;
	snprintf(d->spec, sizeof(d->spec), "%s", spec);
	d->open_ns = clock_ns() - began;
	return 0;
}

void device_close(struct device *d)
{
	uhmm_assert(!buddy_used_bytes(&d->buddy));
	d->driver->close(d->ctx);
	meta_fini(&d->withheld_nodes);
	lock_fini(&d->loan_lock);
	buddy_fini(&d->buddy);
}

int device_alloc(struct device *d, unsigned order, uint64_t *ret_offset)
{
	uint64_t offset;
	int r;

	lock_assert_none_held();
	if (!(d->props.orders >> order & 1))
		return -ENOMEM;
	r = buddy_alloc(&d->buddy, order, &offset);
	if (r)
		return r;
	if (d->driver->folio_alloc)
		r = d->driver->folio_alloc(d->ctx, offset, order);
	if (r)
		buddy_free(&d->buddy, offset, order);
	else
		*ret_offset = offset;
	return r > 0 ? -EPROTO : r;
}

void device_free(struct device *d, uint64_t offset, unsigned order)
{
	if (device_withhold(d, offset, order))
		return;
	if (d->driver->folio_free)
		d->driver->folio_free(d->ctx, offset, order);
	buddy_free(&d->buddy, offset, order);
}

int device_split(struct device *d, uint64_t offset, unsigned order, unsigned to)
{
	int r;

	if (d->lender) /* a loan only names what it has in smaller pieces */
		return 0;
	r = buddy_split(&d->buddy, offset, order, to);
	if (r || !d->driver->folio_split)
		return r;
	for (uint64_t piece = order_bytes(to); piece < order_bytes(order); piece += order_bytes(to))
		d->driver->folio_split(d->ctx, offset, order, offset + piece, to);
	d->driver->folio_split(d->ctx, offset, order, UINT64_MAX, to);
	return 0;
}

static int copy(struct device *d, int (*fn)(void *, const struct uhmm_seg *, unsigned, uint64_t *),
		const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	uint64_t fence = 0;
	int r;

	lock_assert_none_held();
	r = fn(d->ctx, segs, nr, &fence);
	if (r)
		return r < 0 ? r : -EPROTO;
	*ret_fence = d->props.caps & UHMM_CAP_ASYNC ? fence : 0;
	return 0;
}

int device_copy_in(struct device *d, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return copy(d, d->driver->copy_in, segs, nr, ret_fence);
}

int device_copy_out(struct device *d, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return copy(d, d->driver->copy_out, segs, nr, ret_fence);
}

int device_wait(struct device *d, uint64_t fence)
{
	int r = fence ? d->driver->fence_wait(d->ctx, fence) : 0;

	return r > 0 ? -EPROTO : r;
}

int device_clear(struct device *d, uint64_t offset, uint64_t bytes)
{
	int r = 0;

	if (d->driver->clear) {
		r = d->driver->clear(d->ctx, offset, bytes);
		return r > 0 ? -EPROTO : r;
	}
	for (uint64_t at = 0; !r && at < bytes; at += sizeof(zeros)) {
		/* a driver only reads from the host side of copy_in */
		struct uhmm_seg seg = { offset + at, (void *)(uintptr_t)zeros, min_u64(sizeof(zeros), bytes - at) };
		uint64_t fence;

		r = device_copy_in(d, &seg, 1, &fence);
		if (!r)
			r = device_wait(d, fence);
	}
	return r;
}

uint64_t device_host_bytes(struct device *d)
{
	return driver_has(d->driver, host_bytes) ? d->driver->host_bytes(d->ctx) : 0;
}

/* ---- work on the device ---- */

uint64_t device_address(struct device *d, uint64_t offset)
{
	return driver_has(d->driver, address) ? d->driver->address(d->ctx, offset) : 0;
}

int device_native(struct device *d, const char *name, void **ret)
{
	int r = driver_has(d->driver, native) ? d->driver->native(d->ctx, name, ret) : -ENOENT;

	return r > 0 ? -EPROTO : r;
}

int device_reserve(struct device *d, uint64_t hint, uint64_t bytes, uint64_t *ret_addr)
{
	const struct uhmm_driver *drv = d->driver;
	int r;

	if (!driver_has(drv, reserve) || !driver_has(drv, unreserve) || !driver_has(drv, map) || !driver_has(drv, unmap))
		return -EOPNOTSUPP;
	r = drv->reserve(d->ctx, hint, bytes, ret_addr);
	return r > 0 ? -EPROTO : r;
}

void device_unreserve(struct device *d, uint64_t addr, uint64_t bytes)
{
	d->driver->unreserve(d->ctx, addr, bytes);
}

int device_map(struct device *d, uint64_t addr, uint64_t offset, uint64_t bytes)
{
	int r = d->driver->map(d->ctx, addr, offset, bytes);

	return r > 0 ? -EPROTO : r;
}

void device_unmap(struct device *d, uint64_t addr, uint64_t bytes)
{
	int r = d->driver->unmap(d->ctx, addr, bytes);

	if (r)
		log_say(UHMM_LOG_ERROR, "device %s goes on seeing what was at %#llx of its addresses: %s", d->spec,
			(unsigned long long)addr, strerrordesc_np(r < 0 ? -r : EPROTO));
}
