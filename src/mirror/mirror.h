/* SPDX-License-Identifier: MIT */
#ifndef MIRROR_MIRROR_H
#define MIRROR_MIRROR_H

/*
 * Reading and writing the program's memory on a device's behalf, wherever each page lives:
 *
 *   on this device        under a claim, so that nobody moves the page meanwhile: the driver copies
 *   on another device     it comes home first
 *   in Linux's hands      through the kernel, which knows what may be read and written
 *
 * What a device has alone (exclusive access) is on its companion: a second device, of host memory, that nothing else uses.
 * A CPU that touches such a page faults and gets it back, and with that the device's access is over; munmap, mremap and fork
 * treat it as any page that is away.
 */

#include "mirror/view.h"
#include "migrate/jobs.h"
#include "migrate/migrate.h"

struct mirror {
	/* constant after mirror_init() */
	struct migrator *m;
	struct jobs *jobs;

	/* atomic: by device index; NULL: the device has never looked */
	struct view *_Atomic view[MAX_DEVICES];
	_Atomic unsigned end; /* from here on all are NULL: raised before one of them is set */
	/* atomic: by device index: index of the companion, 0 for none */
	_Atomic uint8_t companion[MAX_DEVICES];
};

/* From now on views hear of what changes. @jobs may not run yet. */
void mirror_init(struct mirror *mi, struct migrator *m, struct jobs *jobs);
void mirror_fini(struct mirror *mi);

/* The device at @index is closed. */
void mirror_forget(struct mirror *mi, unsigned index);

#define MIRROR_WRITE    (1u << 0)
#define MIRROR_RESIDENT (1u << 1) /* what is not on the device is an error, rather than looked for */

/*
 * Copies between [addr, addr + len) and @buf for @dev.
 * @ret_faults: how often the device had to ask for rights that it did not have
 * @ret_done:   bytes from the start that were copied
 * Return: 0; -EFAULT unmapped or unreadable; -EPERM not writable; -ENOENT not on the device (RESIDENT); -EBUSY it is taken away
 * again and again; -ENOMEM; what the driver said. Context: a thread of the program.
 */
int mirror_access(struct mirror *mi, struct device *dev, uint64_t addr, uint64_t len, void *buf, unsigned flags,
		  uint64_t *ret_faults, uint64_t *ret_done);

#endif
