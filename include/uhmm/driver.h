/* SPDX-License-Identifier: MIT */
#ifndef UHMM_DRIVER_H
#define UHMM_DRIVER_H

/*
 * For those who write a driver: how uhmm talks to one kind of device.
 *
 * A device is a private address space of size_bytes bytes, named by offsets from 0. uhmm decides which offset holds
 * what: it hands out folios - naturally aligned pieces of 2^order base pages - and takes them back; the driver keeps no
 * list of them. A driver's whole duty is to copy bytes between host memory and an offset, and to answer honestly.
 *
 * What holds for every callback:
 * - it may be called from several threads at once, for different folios; for one folio calls come one after another, except
 *   that several copy_outs may overlap: a process and its child after fork(2) read the same folio;
 * - it holds none of uhmm's locks, and must not call uhmm_to_device() and its like;
 * - it may run in a fault thread, while the program's threads wait for it - one of them perhaps inside malloc(): it
 *   must not call malloc(), nor touch memory that was given to uhmm - malloc()'s own may be. What it needs it takes from
 *   uhmm_host_alloc() and its like in open(), its context too;
 * - a failure is a negative errno and leaves things as they were: uhmm keeps the source until a copy has succeeded.
 *
 * "emu" (drivers/emu) is the specification: what is not said here is what emu does.
 */

#include <stddef.h>
#include <stdint.h>

#include "uhmm/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One piece of a copy: bytes at the device's offset and at host. Both are multiples of 4096, and so is bytes. A
 * segment may cover several folios that lie side by side. */
struct uhmm_seg {
	uint64_t offset;
	void *host;
	uint64_t bytes;
};

#define UHMM_CAP_COHERENT (1u << 0) /* the CPU can address the device's memory (reserved) */
#define UHMM_CAP_ASYNC    (1u << 1) /* copies may return a fence before they have ended */
/* Calls need ordinary memory of this process, a heap that is not the program's: no policy, which looks after any memory, may be
 * at work in the space. */
#define UHMM_CAP_HEAP     (1u << 2)

struct uhmm_driver_props {
	size_t sz;
	uint64_t size_bytes; /* a multiple of 2 MiB, at most 2^51 */
	uint32_t orders;     /* bit k: folios of order k are taken, and come of splits; bit 0 must be set; 0 means all, 0..9 */
	uint32_t caps;       /* UHMM_CAP_* */
};

struct uhmm_driver {
	size_t sz;           /* sizeof(struct uhmm_driver) */
	const char *name;    /* what stands before the colon of a spec: letters, digits, '_' */
	const char *summary; /* one line for people */

	/*
	 * Required. @options is what stands after the colon, "" if nothing. Fill in @ret_props and @ret_ctx.
	 * On failure, a sentence for people may be written to @ret_why (of @why_bytes); return -EINVAL for bad options.
	 * Opening touches memory in proportion to what is used, not to the device's size.
	 * Context: a thread of the program; may block and allocate.
	 */
	int (*open)(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why,
		    size_t why_bytes);

	/* Required. Nothing is allocated on the device any more. Accepts a NULL context. Context: as open. */
	void (*close)(void *ctx);

	/*
	 * Required: copy @nr segments from host memory to the device, or back. All or nothing as far as the caller is
	 * concerned: after a failure the destination's contents do not matter. With UHMM_CAP_ASYNC a driver may set
	 * *@ret_fence to a non-zero token instead of waiting; it is 0 on entry. @segs is the caller's again on return, the
	 * memory that it names when the copy has ended.
	 * Context: any thread, fault thread; may block.
	 */
	int (*copy_in)(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
	int (*copy_out)(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);

	/* Required with UHMM_CAP_ASYNC, else NULL: wait for a copy. Returns the copy's own outcome, and is called exactly
	 * once for each fence. Context: as copy_in. */
	int (*fence_wait)(void *ctx, uint64_t fence);

	/* Optional (NULL: zeros are copied in): make @bytes at @offset, all in one folio, read as zeros. Context: as copy_in. */
	int (*clear)(void *ctx, uint64_t offset, uint64_t bytes);

	/* Optional (NULL: always agreed): a folio is about to be used. A negative errno refuses it; uhmm then tries smaller
	 * orders, asks for the refused one no more in these 2 MiB, and at order 0 counts the pages that are left as
	 * UHMM_SKIP_NO_ROOM. Contents are undefined. Context: as copy_in. */
	int (*folio_alloc)(void *ctx, uint64_t offset, unsigned order);

	/* Optional (NULL: nothing happens): a folio is not used any more; its order may be smaller than when it was
	 * allocated, if it was split since. Context: as copy_in; must not block for long. */
	void (*folio_free)(void *ctx, uint64_t offset, unsigned order);

	/*
	 * Optional (NULL: nothing happens): the folio of @old_order at @head becomes pieces of @new_order, any smaller one
	 * that the device takes, without moving its bytes. Called once for each piece but the first, with its offset in
	 * @piece, in ascending order, and once more with @piece UINT64_MAX when all are done. Cutting something out of a
	 * folio is several such splits, of ever smaller folios.
	 * Context: any thread, fault thread; must not block: a block's lock is held.
	 */
	void (*folio_split)(void *ctx, uint64_t head, unsigned old_order, uint64_t piece, unsigned new_order);

	/* ---- A driver whose sz ends here is valid: what follows counts as 0. ---- */

	/* Optional (NULL: 0): how many bytes of host memory stand for what is on the device now, the driver's own tables
	 * included: for a device that is made of RAM. A look that may be stale. Context: any thread; must not block. */
	uint64_t (*host_bytes)(void *ctx);

	uint32_t flags; /* UHMM_DRIVER_* */
	uint32_t reserved;

	/* ---- For work on the device (work.h); all are optional ---- */

	/* (NULL: code on the device has no address for it.) Where code that runs on the device finds the byte at @offset; what lies
	 * side by side within a folio does so there too. The same for as long as the device is open. Context: any thread; must not block. */
	uint64_t (*address)(void *ctx, uint64_t offset);

	/* (NULL: there is nothing.) An object or a function of the runtime behind the device, by a name that the driver's documentation
	 * lists. Return: 0 or -ENOENT. Context: a thread of the program. */
	int (*native)(void *ctx, const char *name, void **ret);

	/*
	 * The program's own addresses on the device. All four or none. reserve() keeps @bytes of addresses, a multiple of 2 MiB and
	 * aligned so, from being used on the device for anything else: at @hint if that is not 0 and can be had, else anywhere.
	 * uhmm then puts memory of the program there too. map() makes whole 2 MiB of such a range show the 2 MiB of the device's memory
	 * at @offset, beside address(); unmap() ends that, and code on the device that still uses it faults.
	 * Return: 0 or -errno. Context: a thread of the program; may block.
	 */
	int (*reserve)(void *ctx, uint64_t hint, uint64_t bytes, uint64_t *ret_addr);
	void (*unreserve)(void *ctx, uint64_t addr, uint64_t bytes);
	int (*map)(void *ctx, uint64_t addr, uint64_t offset, uint64_t bytes);
	int (*unmap)(void *ctx, uint64_t addr, uint64_t bytes);
};

/* It wraps another device: its specs are "name+OTHER:options", and open() gets "OTHER:options". */
#define UHMM_DRIVER_HOOK (1u << 0)

/**
 * uhmm_driver_add() - make a driver known, so that uhmm_device_open() finds it by its name
 * @driver: must stay valid until the process ends
 *
 * Return: 0; -EINVAL when a required callback is missing; -EEXIST when the name is taken; -ENOSPC after 32 drivers.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API int uhmm_driver_add(const struct uhmm_driver *driver);

/**
 * uhmm_driver_get() - the n-th driver that is known, built-in ones first
 * @n: from 0
 *
 * Return: the driver, or NULL when there are not so many.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API const struct uhmm_driver *uhmm_driver_get(unsigned n);

/**
 * uhmm_driver_find() - the driver that a spec names, for a hook that opens what it wraps
 * @spec:        "name:options", "name" or, for a hook, "name+SPEC"
 * @ret_options: what its open() wants: the part of @spec after the colon, or after the plus
 * @ret_why:     a sentence for people when there is none, of @why_bytes; may be NULL with 0
 *
 * Return: the driver; or NULL, with @ret_options untouched.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API const struct uhmm_driver *uhmm_driver_find(const char *spec, const char **ret_options, char *ret_why,
						    size_t why_bytes);

/**
 * uhmm_host_alloc() - host memory that uhmm never looks after, for a driver's own use
 * @bytes: a multiple of 2 MiB
 *
 * Aligned to 2 MiB, advised to be huge, not inherited by fork(2), not counted before it is touched.
 *
 * Return: the memory, or NULL.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API void *uhmm_host_alloc(size_t bytes);

/**
 * uhmm_host_reserve() - as uhmm_host_alloc(), but in base pages, and aligned to 4096 only
 * @bytes: a multiple of 2 MiB
 *
 * For what is used here and there, or given back in small parts by uhmm_host_discard(): 4 KiB is the unit in which it
 * costs anything.
 *
 * Return: the memory, zeros; or NULL.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API void *uhmm_host_reserve(size_t bytes);

/**
 * uhmm_host_discard() - let go of the contents of a part of such memory: it costs nothing then, and reads as zeros
 * @mem:   a multiple of 4096, in memory of uhmm_host_alloc() or uhmm_host_reserve()
 * @bytes: a multiple of 4096
 *
 * Of uhmm_host_alloc()'s memory whole 2 MiB should go: a part makes the kernel break up the huge page first.
 *
 * Context: any thread, fault thread.
 * Since: 0.1
 */
UHMM_API void uhmm_host_discard(void *mem, size_t bytes);

/** uhmm_host_free() - give it back; NULL is fine. Context: any thread. Since: 0.1 */
UHMM_API void uhmm_host_free(void *mem, size_t bytes);

/**
 * uhmm_copy() - the copy that uhmm found best for pieces of 64 KiB and more on this CPU
 * @dst:   multiple of 64
 * @src:   multiple of 64
 * @bytes: multiple of 4096; the two do not overlap
 *
 * Stores bypass the caches where that wins (docs/copy.md), and are globally visible on return.
 *
 * Context: any thread, fault thread.
 * Since: 0.1
 */
UHMM_API void uhmm_copy(void *dst, const void *src, size_t bytes);

/**
 * uhmm_copy_away() - the same for bytes that no CPU will read soon, in pieces of any size
 * @dst:   multiple of 64
 * @src:   multiple of 64
 * @bytes: multiple of 4096; the two do not overlap
 *
 * Bypasses the caches from the first page on: for what goes to a device, often in many pieces of one page.
 *
 * Context: any thread, fault thread.
 * Since: 0.1
 */
UHMM_API void uhmm_copy_away(void *dst, const void *src, size_t bytes);

/**
 * uhmm_clear_away() - zeros that no CPU will read soon
 * @dst:   multiple of 64
 * @bytes: multiple of 4096
 *
 * Context: any thread, fault thread.
 * Since: 0.1
 */
UHMM_API void uhmm_clear_away(void *dst, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
