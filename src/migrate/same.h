/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_SAME_H
#define MIGRATE_SAME_H

/*
 * Memory of the program that can have the same addresses on devices (uhmm_alloc()).
 *
 * First the addresses are kept free on a device, then the program's memory is put there. The device's runtime may have put a mapping
 * there that nobody can access, to keep the program away: it is replaced, and there again when the memory is given back.
 *
 * What a device has of such memory is seen at these addresses for as long as work has it, and only in whole blocks: so a page that
 * goes home, or a folio that is used for something else, is never still seen there.
 */

#include "base/lock.h"
#include "device/device.h"
#include "migrate/migrate.h"
#include "uhmm/work.h"

#define MAX_SAMES 4096

struct same {
	uint64_t start, bytes;             /* 0: free */
	bool was_mapped;                   /* by the device's runtime */
	unsigned nr_users;                 /* works */
	uint64_t on[MAX_DEVICES / 64];     /* devices whose addresses are kept free: bits by index */
};

struct sames {
	/* guarded by the caller's lock */
	struct same same[MAX_SAMES];       /* touched where used */
	unsigned nr;                       /* from here on all are free */
};

/*
 * Context of all: a thread of the program, which holds their lock (rank FOLIO).
 *
 * @bytes: a multiple of 2 MiB. Return: the memory; 0 without memory, or after 4096 of them.
 */
uint64_t same_alloc(struct sames *s, struct migrator *m, uint64_t bytes);

/* Return: 0; -EINVAL when there is none at @start; -EBUSY when work has some of it. */
int same_free(struct sames *s, struct migrator *m, uint64_t start);

/* The device is about to be closed. */
void same_forget_device(struct sames *s, struct device *dev);

/*
 * Work has these extents on @dev: what can be at the program's own addresses is from now on, and .address says so. What is partly
 * such is cut, so there may be more of them. Return: how many.
 */
size_t same_map(struct sames *s, struct device *dev, struct uhmm_work_extent *extent, size_t nr);

/* The work ends. */
void same_unmap(struct sames *s, struct device *dev, const struct uhmm_work_extent *extent, size_t nr);

#endif
