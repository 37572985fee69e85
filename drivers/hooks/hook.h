/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_HOOK_H
#define DRIVERS_HOOK_H

/* What hooks share: the device that is wrapped. */

#include <stdint.h>

#include "base/spec.h"
#include "uhmm/driver.h"

struct hook {
	const struct uhmm_driver *driver;
	void *ctx;
};

/* The memory of a hook's context, which struct hook begins; zeros, never the program's. */
#define HOOK_BYTES ((size_t)2 << 20)

/*
 * Opens "OTHER:options". Options that @keys lists are the hook's own, and fill @h, whose context is of HOOK_BYTES; all others go to
 * the device that is wrapped. @ret_props becomes what that says. Return: 0, or -errno with a sentence.
 */
int hook_open(struct hook *h, const struct spec_key *keys, const char *spec, struct uhmm_driver_props *ret_props, char *ret_why,
	      size_t why_bytes);

/* The wrapped device's callbacks, or what uhmm does for one that it does not have. @ctx begins with a struct hook. */
void hook_close(void *ctx); /* and frees it; NULL is fine */
int hook_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int hook_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int hook_fence_wait(void *ctx, uint64_t fence);
int hook_clear(void *ctx, uint64_t offset, uint64_t bytes);
int hook_folio_alloc(void *ctx, uint64_t offset, unsigned order);
void hook_folio_free(void *ctx, uint64_t offset, unsigned order);
void hook_folio_split(void *ctx, uint64_t head, unsigned old_order, uint64_t piece, unsigned new_order);
uint64_t hook_host_bytes(void *ctx);
uint64_t hook_address(void *ctx, uint64_t offset);
int hook_native(void *ctx, const char *name, void **ret);
int hook_reserve(void *ctx, uint64_t hint, uint64_t bytes, uint64_t *ret_addr);
void hook_unreserve(void *ctx, uint64_t addr, uint64_t bytes);
int hook_map(void *ctx, uint64_t addr, uint64_t offset, uint64_t bytes);
int hook_unmap(void *ctx, uint64_t addr, uint64_t bytes);

#define HOOK_WORK_CALLBACKS \
	.address = hook_address, .native = hook_native, .reserve = hook_reserve, .unreserve = hook_unreserve, .map = hook_map, \
	.unmap = hook_unmap

#endif
