/* SPDX-License-Identifier: MIT */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

/*
 * An open device: a driver's instance and the allocator of its offsets. Only device.c calls a driver, so each
 * optional callback has its default in one place, and what a driver may not do is checked in one place.
 */

#include <stdatomic.h>
#include <stdbool.h>
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

	/* lend.c. Of a loan: what it was lent by; it allocates, frees and splits nothing */
	struct device *lender;
	_Atomic unsigned nr_loans, nr_keeps;
	struct lock loan_lock;      /* rank LEAF */
	struct meta withheld_nodes;
	struct withheld *withheld;  /* guarded by loan_lock: folios that are free but for the loans and keeps */
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

/*
 * The folio of @order at @offset becomes folios of the smaller order @to, in place. Return: 0 or -ENOMEM, that for order 9 only.
 * Context: may hold the block's lock.
 */
int device_split(struct device *d, uint64_t offset, unsigned order, unsigned to);

/* The largest order up to @limit that the device takes. */
static inline unsigned device_order(const struct device *d, unsigned limit)
{
	while (!(d->props.orders >> limit & 1))
		limit--; /* down to 0, which all take */
	return limit;
}

/* What is not allocated on it. A look that may be stale. */
static inline uint64_t device_free_bytes(struct device *d)
{
	uint64_t used = buddy_used_bytes(&d->buddy);

	return d->props.size_bytes > used ? d->props.size_bytes - used : 0;
}

/* Starts a copy; device_wait() ends it, and must follow a success. Return: 0 or -errno (never positive). */
int device_copy_in(struct device *d, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int device_copy_out(struct device *d, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int device_wait(struct device *d, uint64_t fence);

/* Makes @bytes at @offset zeros, finished on return. */
int device_clear(struct device *d, uint64_t offset, uint64_t bytes);

/* The host memory that its contents cost now, if it is made of that; else 0. Context: any thread. */
uint64_t device_host_bytes(struct device *d);

/* ---- work on the device: what driver.h has for it, or 0, -ENOENT, -EOPNOTSUPP ---- */

uint64_t device_address(struct device *d, uint64_t offset);
int device_native(struct device *d, const char *name, void **ret);
int device_reserve(struct device *d, uint64_t hint, uint64_t bytes, uint64_t *ret_addr);
void device_unreserve(struct device *d, uint64_t addr, uint64_t bytes);
int device_map(struct device *d, uint64_t addr, uint64_t offset, uint64_t bytes);
void device_unmap(struct device *d, uint64_t addr, uint64_t bytes);

/*
 * Lending: another address space - a child's, after fork(2) - names the same folios, to read them. While a device is lent,
 * a folio that its owner frees is withheld: its bytes stay until the last loan has ended. So a loan is one counter,
 * however much is on the device; what it costs is room, for as long as it lasts.
 *
 * A loan reads its folios while the owner may do so too: a driver must bear two copy_outs of one folio at a time. Nobody
 * writes to a folio of a device that is lent (mirror/access.c waits).
 */

/* Makes @ret another name of @d, which frees nothing. Context: nobody frees what the loan may name (inside the gate). */
void device_lend(struct device *d, struct device *ret);
/* One loan has ended. Context: any thread, no lock held. */
void device_loan_end(struct device *d);

static inline bool device_is_lent(struct device *d) { return atomic_load(&d->nr_loans); }

/*
 * Keeping: what code on the device reads stays where it is, also when a CPU has taken the page home. As long as it is kept, a folio
 * that is freed is withheld, and its bytes stay - if it was in an entry when the keep had begun. Others may write to it.
 * Context: any thread, no lock held.
 */
void device_keep(struct device *d);
void device_keep_end(struct device *d);

/* For device.c. Return: the folio is withheld. */
bool device_withhold(struct device *d, uint64_t offset, unsigned order);

#endif
