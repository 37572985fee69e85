/* SPDX-License-Identifier: MIT */
#ifndef UHMM_MIRROR_H
#define UHMM_MIRROR_H

/*
 * The device's side: what runs on a device reads and writes the program's memory through these calls, at the program's own
 * addresses, wherever each page lives at the moment. The program's protection holds for the device too.
 *
 * Context of all calls: any thread, may block; not from a driver, log or notifier callback.
 */

#include "uhmm/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What one access did. Set sz before the call. */
struct uhmm_access {
	size_t sz;
	uint64_t done_bytes; /* from the start */
	uint64_t faults;     /* rounds in which the device had to ask for rights; it keeps those for pages of its own */
};

/* Pages that are not on the device are an error (-ENOENT), not looked for elsewhere. */
#define UHMM_ACCESS_RESIDENT (1u << 0)

/**
 * uhmm_device_read() - what a load by the device does
 * @dev:       an open device
 * @addr:      where in the program's memory, any alignment
 * @len_bytes: how much, at least 1
 * @buf:       receives the bytes
 * @flags:     UHMM_ACCESS_*
 * @ret:       what it took, or NULL
 *
 * Memory of any kind: private, shared, a file's. Pages on @dev are read there and stay; pages on another device come home
 * first. Each page is read at once; of several pages others may change some meanwhile.
 *
 * Return: 0;
 *   -EINVAL  bad argument,
 *   -EFAULT  part of it is not mapped, or not readable; or in user-mode-only mode, has left meanwhile,
 *   -ENOENT  UHMM_ACCESS_RESIDENT, and part of it is not on @dev,
 *   -EBUSY   it was taken away again and again,
 *   -ENODEV, -EPERM (in a child of the opener), -ENOMEM; or what the driver said.
 * After a failure @ret says how much of it was done.
 * Since: 0.1
 */
UHMM_API int uhmm_device_read(struct uhmm_device *dev, const void *addr, size_t len_bytes, void *buf, uint32_t flags,
			      struct uhmm_access *ret);

/** uhmm_device_write() - what a store by the device does. As uhmm_device_read(), and -EPERM where it is not writable. Since: 0.1 */
UHMM_API int uhmm_device_write(struct uhmm_device *dev, void *addr, size_t len_bytes, const void *buf, uint32_t flags,
			       struct uhmm_access *ret);

/**
 * uhmm_device_exclusive() - give a device a range alone, for atomic operations
 * @dev:       an open device
 * @start:     first byte, a multiple of 4096
 * @len_bytes: length, rounded up to a multiple of 4096
 *
 * From now on uhmm_device_read() and uhmm_device_write() of one page by @dev are atomic towards every CPU: a CPU that touches
 * the page waits, and then has it back, and with it the device's access is over. So it is after fork(2), after another
 * device's access, and when the page is unmapped or discarded. Pages of @dev itself count as given up by it first.
 *
 * Return: 0; -EBUSY when some pages could not be had (shared, pinned, of a file: those that could are @dev's alone);
 * -EFAULT not mapped; -EPERM not readable and writable, or a child of the opener; -EINVAL; -ENODEV; -ENOMEM; or what the driver
 * said.
 * Since: 0.1
 */
UHMM_API int uhmm_device_exclusive(struct uhmm_device *dev, void *start, size_t len_bytes);

/* What a snapshot says of a page: bits. */
#define UHMM_VIEW_READ   (1u << 0) /* there, and readable */
#define UHMM_VIEW_WRITE  (1u << 1) /* writable at once: not the zero page, not shared since a fork */
#define UHMM_VIEW_HUGE   (1u << 2) /* part of a THP, or of a 2 MiB folio */
#define UHMM_VIEW_ZERO   (1u << 3) /* the zero page */
#define UHMM_VIEW_LOCAL  (1u << 4) /* on the asking device */
#define UHMM_VIEW_ATOMIC (1u << 5) /* the asking device has it alone */
#define UHMM_VIEW_ERROR  (1u << 7) /* not mapped, or not readable */

/**
 * uhmm_device_snapshot() - what a device could do with each page now, without changing anything
 * @dev:       an open device
 * @start:     first byte, a multiple of 4096
 * @len_bytes: length, rounded up to a multiple of 4096
 * @ret_view:  one byte for each page: UHMM_VIEW_*; 0 for a page that is not there, or on another device
 *
 * Stale when it arrives, if the program goes on meanwhile.
 *
 * Return: 0; -EINVAL; -ENODEV; -EPERM in a child of the opener; what /proc said.
 * Since: 0.1
 */
UHMM_API int uhmm_device_snapshot(struct uhmm_device *dev, const void *start, size_t len_bytes, uint8_t *ret_view);

/**
 * uhmm_device_release() - bring home everything that lives on a device
 * @dev: an open device; it stays open
 *
 * By the device's memory, wherever in the program its pages belong, exclusive ones too.
 *
 * Return: 0; -ENODEV; -EPERM in a child of the opener; -ENOMEM; -EBUSY while a migration by hand has some of it (migrate.h); or
 * what the driver said: what it could not give back is still
 * there.
 * Since: 0.1
 */
UHMM_API int uhmm_device_release(struct uhmm_device *dev);

#ifdef __cplusplus
}
#endif

#endif
