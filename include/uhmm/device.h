/* SPDX-License-Identifier: MIT */
#ifndef UHMM_DEVICE_H
#define UHMM_DEVICE_H

#include "uhmm/space.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * uhmm_device_open() - open a device and attach it to a space
 * @space:   an open space
 * @spec:    "driver:key=value,key=value", e.g. "emu:size=1G,latency=20us"; uhmm-devices.7 lists them
 * @ret_dev: the device
 *
 * Return: 0;
 *   -EINVAL  no driver of that name, an unknown key or a bad value (the log sentence names it),
 *   -ENOSPC  255 devices are open already,
 *   -EBUSY   it has UHMM_CAP_HEAP, and the space has or had a policy,
 *   -EPERM   called in a child of the opener,
 *   or what the driver's open said.
 * Context: any thread, may block.
 * Since: 0.1
 */
UHMM_API int uhmm_device_open(struct uhmm_space *space, const char *spec, struct uhmm_device **ret_dev);

/**
 * uhmm_device_close() - bring home what lives on a device and close it
 * @dev: an open device, or NULL
 *
 * Return: 0; or what the driver said when it could not give its bytes back (-EIO, ...), or -ENOMEM when the host had
 * no memory for them: the device then stays open and keeps them. -EBUSY when a migration by hand (migrate.h) has not been
 * finalized, or a folio of uhmm_folio_alloc() not been freed.
 * Context: any thread, may block; no other call may name @dev meanwhile.
 * Since: 0.1
 */
UHMM_API int uhmm_device_close(struct uhmm_device *dev);

/* What a device is and holds. Set sz before the call. */
struct uhmm_device_info {
	size_t sz;
	char spec[128];                   /* as it was opened, cut to fit */
	uint64_t size_bytes;              /* its private address space */
	uint32_t orders;                  /* bit k: takes folios of order k */
	uint32_t caps;                    /* UHMM_CAP_* of driver.h */
	uint64_t used_bytes;              /* allocated folios */
	uint64_t folios[UHMM_NR_ORDERS];  /* allocated folios by order */
	uint64_t metadata_bytes;          /* what uhmm keeps in host memory to manage it */
	uint64_t open_ns;                 /* how long the library's own part of opening took */
	uint64_t host_bytes;              /* host memory that its contents cost now: 0 unless the device is made of RAM */
};

/**
 * uhmm_device_query() - what a device is and holds
 * @dev: an open device
 * @ret: filled in
 *
 * Folios that a touch brings home, or that an munmap() drops, are freed a moment after the program goes on.
 *
 * Return: 0; -EINVAL when @ret->sz is not set; -ENODEV; -EPERM in a child of the opener.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API int uhmm_device_query(struct uhmm_device *dev, struct uhmm_device_info *ret);

#ifdef __cplusplus
}
#endif

#endif
