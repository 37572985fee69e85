/* SPDX-License-Identifier: MIT */
#include "drivers/hooks/hook.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/pages.h"

#define SPEC_BYTES 1600

#define HAS(drv, callback) \
	((drv)->sz >= offsetof(struct uhmm_driver, callback) + sizeof((drv)->callback) && (drv)->callback)

static bool is_own(const struct spec_key *keys, const char *item, size_t len)
{
	for (const struct spec_key *k = keys; k->name; k++)
		if (len > strlen(k->name) && item[strlen(k->name)] == '=' && !strncmp(item, k->name, strlen(k->name)))
			return true;
	return false;
}

static void append(char *list, const char *item, size_t len)
{
	size_t used = strlen(list);

	snprintf(list + used, SPEC_BYTES - used, "%s%.*s", used && list[used - 1] != ':' ? "," : "", (int)len, item);
}

/* "emu:size=4M,delay=1us" is "emu:size=4M" and "delay=1us". */
static void sort_options(const struct spec_key *keys, const char *spec, char *ret_own, char *ret_rest)
{
	size_t name = strcspn(spec, ":");
	const char *item = spec[name] ? spec + name + 1 : spec + name;

	snprintf(ret_rest, SPEC_BYTES, "%.*s:", (int)name, spec);
	ret_own[0] = '\0';
	while (*item) {
		size_t len = strcspn(item, ",");

		append(is_own(keys, item, len) ? ret_own : ret_rest, item, len);
		item += len + (item[len] == ',');
	}
}

int hook_open(struct hook *h, const struct spec_key *keys, const char *spec, struct uhmm_driver_props *ret_props, char *ret_why,
	      size_t why_bytes)
{
	char own[SPEC_BYTES], rest[SPEC_BYTES];
	const struct uhmm_driver *driver;
	const char *options;
	int r;

	if (strlen(spec) > SPEC_BYTES - 8)
		return err_why(ret_why, why_bytes, -EINVAL, "the spec is longer than %d bytes", SPEC_BYTES - 8);
	sort_options(keys, spec, own, rest);
	r = spec_parse(own, keys, h, ret_why, why_bytes);
	if (r)
		return r;
	driver = uhmm_driver_find(rest, &options, ret_why, why_bytes);
	if (!driver)
		return -EINVAL;
	r = driver->open(options, ret_props, &h->ctx, ret_why, why_bytes);
	if (r)
		return r;
	h->driver = driver;
	return 0;
}

void hook_close(void *ctx)
{
	struct hook *h = ctx;

	if (!h)
		return;
	if (h->driver)
		h->driver->close(h->ctx);
	uhmm_host_free(h, HOOK_BYTES);
}

int hook_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct hook *h = ctx;

	return h->driver->copy_in(h->ctx, segs, nr, ret_fence);
}

int hook_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct hook *h = ctx;

	return h->driver->copy_out(h->ctx, segs, nr, ret_fence);
}

int hook_fence_wait(void *ctx, uint64_t fence)
{
	struct hook *h = ctx;

	return h->driver->fence_wait(h->ctx, fence);
}

int hook_clear(void *ctx, uint64_t offset, uint64_t bytes)
{
	static const char zeros[64 << 10] __attribute__((aligned(4096)));
	struct hook *h = ctx;
	int r = 0;

	if (h->driver->clear)
		return h->driver->clear(h->ctx, offset, bytes);
	for (uint64_t at = 0; !r && at < bytes; at += sizeof(zeros)) {
		struct uhmm_seg seg = { offset + at, (void *)(uintptr_t)zeros, min_u64(sizeof(zeros), bytes - at) };
		uint64_t fence = 0;

		r = h->driver->copy_in(h->ctx, &seg, 1, &fence);
		if (!r && fence)
			r = h->driver->fence_wait(h->ctx, fence);
	}
	return r;
}

int hook_folio_alloc(void *ctx, uint64_t offset, unsigned order)
{
	struct hook *h = ctx;

	return h->driver->folio_alloc ? h->driver->folio_alloc(h->ctx, offset, order) : 0;
}

void hook_folio_free(void *ctx, uint64_t offset, unsigned order)
{
	struct hook *h = ctx;

	if (h->driver->folio_free)
		h->driver->folio_free(h->ctx, offset, order);
}

void hook_folio_split(void *ctx, uint64_t head, unsigned old_order, uint64_t piece, unsigned new_order)
{
	struct hook *h = ctx;

	if (h->driver->folio_split)
		h->driver->folio_split(h->ctx, head, old_order, piece, new_order);
}

uint64_t hook_host_bytes(void *ctx)
{
	struct hook *h = ctx;

	return HAS(h->driver, host_bytes) ? h->driver->host_bytes(h->ctx) : 0;
}

/* ---- work on the device: nothing of it goes wrong, is slow or is told ---- */

uint64_t hook_address(void *ctx, uint64_t offset)
{
	struct hook *h = ctx;

	return HAS(h->driver, address) ? h->driver->address(h->ctx, offset) : 0;
}

int hook_native(void *ctx, const char *name, void **ret)
{
	struct hook *h = ctx;

	return HAS(h->driver, native) ? h->driver->native(h->ctx, name, ret) : -ENOENT;
}

int hook_reserve(void *ctx, uint64_t hint, uint64_t bytes, uint64_t *ret_addr)
{
	struct hook *h = ctx;

	return HAS(h->driver, reserve) ? h->driver->reserve(h->ctx, hint, bytes, ret_addr) : -EOPNOTSUPP;
}

void hook_unreserve(void *ctx, uint64_t addr, uint64_t bytes)
{
	struct hook *h = ctx;

	h->driver->unreserve(h->ctx, addr, bytes);
}

int hook_map(void *ctx, uint64_t addr, uint64_t offset, uint64_t bytes)
{
	struct hook *h = ctx;

	return h->driver->map(h->ctx, addr, offset, bytes);
}

int hook_unmap(void *ctx, uint64_t addr, uint64_t bytes)
{
	struct hook *h = ctx;

	return h->driver->unmap(h->ctx, addr, bytes);
}
