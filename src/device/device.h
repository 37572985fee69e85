/* SPDX-License-Identifier: MIT */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

/*
 * An open device: a driver's instance and the allocator of its offsets. Only this file's source calls a driver, so each
 * optional callback has its default in one place, and what a driver may not do is checked in one place.
 */

#include <stdatomic.h>
#include <stdint.h>

#include "mem/buddy.h"
#include "uhmm/driver.h"

struct device {
	/* constant after device_open() */
	const struct uhmm_driver *driver;
	void *ctx;
	struct uhmm_driver_props props;
	unsigned index;        /* 1..255: what an entry says */
	char spec[128];
	void *owner;           /* for the API: the space it belongs to */
	uint64_t open_ns;

	struct buddy buddy;

	/* atomic: migrations to it are refused from now on, and it is being emptied */
	_Atomic int closing;
};

/* @spec: "name:options". Return: 0, or -errno with a sentence in @ret_why. @d is the caller's memory, zeroed. */
int device_open(struct device *d, const char *spec, unsigned index, char *ret_why, size_t why_bytes);
void device_close(struct device *d);

/*
 * One folio. Return: 0; -ENOMEM when the device has no room at that order; what the driver said.
 * Context: any thread, fault thread; no lock held.
 */
int device_alloc(struct device *d, unsigned order, uint64_t *ret_offset);
void device_free(struct device *d, uint64_t offset, unsigned order);

/* The order-9 folio at @offset becomes 512 of order 0. Return: 0 or -ENOMEM. Context: may hold the block's lock. */
int device_split(struct device *d, uint64_t offset);

/* Starts a copy; device_wait() ends it, and must follow a success. Return: 0 or -errno (never positive). */
int device_copy_in(struct device *d, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int device_copy_out(struct device *d, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int device_wait(struct device *d, uint64_t fence);

/* Makes @bytes at @offset zeros, finished on return. */
int device_clear(struct device *d, uint64_t offset, uint64_t bytes);

/* The host memory that its contents cost now, if it is made of that; else 0. Context: any thread. */
uint64_t device_host_bytes(struct device *d);

#endif
