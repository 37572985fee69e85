/* SPDX-License-Identifier: MIT */
#ifndef UHMM_WORK_H
#define UHMM_WORK_H

/*
 * Work on the device: code that runs there uses the program's own data, in place.
 *
 *	struct uhmm_work_range r[] = { { x, bytes, UHMM_WORK_READ }, { y, bytes, 0 } };
 *
 *	uhmm_work_acquire(dev, r, 2, 0, &work, NULL);      // both are on the device now, and stay there
 *	launch(uhmm_work_address(work, x), uhmm_work_address(work, y));
 *	... wait for the device ...
 *	uhmm_work_release(work);
 *	y[0]                                               // comes home, with what the device has written
 *
 * What the device may write to is held: a CPU that touches it waits until the release, and so does fork(2). What it only reads
 * (UHMM_WORK_READ) the CPUs may go on using: a touch brings the page home as ever, and the device goes on seeing it as it was at some
 * moment since the acquire. munmap() and discards do not wait in either case: the device's memory is kept until the release.
 *
 * So between acquire and release the thread that has acquired must not touch what is held - nor may a signal handler of it - must not
 * fork, nor call uhmm_device_read() and its like on it: it would wait for itself. A process made by _Fork(3) or clone(2) meanwhile may
 * see bytes that the device is just writing.
 *
 * Working sets larger than the device are worked on in pieces: acquire, launch, release. What was worked on longest ago makes room.
 *
 * Context of all calls: any thread, may block; not from a driver, log or notifier callback; in a child of the opener -EPERM.
 */

#include "uhmm/device.h"

#ifdef __cplusplus
extern "C" {
#endif

struct uhmm_work;

#define UHMM_WORK_READ (1u << 0) /* the device does not write to it */

struct uhmm_work_range {
	void *start;      /* a multiple of 4096 */
	size_t len_bytes; /* rounded up to a multiple of 4096 */
	uint32_t flags;   /* UHMM_WORK_READ or 0 */
	uint32_t reserved;
};

#define UHMM_WORK_RANGES 256                  /* at most in one acquire */
#define UHMM_WORK_HELD   ((uint64_t)4 << 30)  /* at most held in a process, in blocks of 2 MiB that are touched; not counting READ */

/**
 * uhmm_work_acquire() - have ranges on a device, and keep them there
 * @dev:    an open device
 * @ranges: what; they may touch, and overlap: then what any of them may write is held
 * @nr:     how many, 1 to UHMM_WORK_RANGES
 * @flags:  0
 * @ret:    the work
 * @ret_result: what was moved, and why pages could not be had; or NULL
 *
 * All of it or nothing. What is there already costs no copy; the rest goes as uhmm_to_device() would send it. When the device is
 * full, what has been used there longest ago comes home first: never what is asked for, nor what other work holds.
 *
 * Return: 0;
 *   -EINVAL  bad ranges or flags; or the calling thread's own stack, or an argument, is in a range that would be held,
 *   -EFAULT  a part of a range is not mapped, or not readable,
 *   -EPERM   a part of a range without UHMM_WORK_READ is not writable; or called in a child of the opener,
 *   -EBUSY   some pages cannot be had: shared, locked or pinned ones (@ret_result counts them by reason), or other work or a
 *            migration by hand has them, or CPUs took them back again and again,
 *   -ENOSPC  the ranges do not fit on the device beside what other work keeps there. While any work reads, what comes home from the
 *            device frees nothing there,
 *   -E2BIG   more than UHMM_WORK_HELD would be held,
 *   -EAGAIN  64 works and migrations by hand are open,
 *   -ENODEV, -ENOMEM; or what the driver said.
 * Since: 0.1
 */
UHMM_API int uhmm_work_acquire(struct uhmm_device *dev, const struct uhmm_work_range *ranges, unsigned nr, uint32_t flags,
			       struct uhmm_work **ret, struct uhmm_result *ret_result);

/**
 * uhmm_work_release() - the device has ended
 * @work: acquired, or NULL; gone afterwards
 *
 * The pages stay on the device until a CPU touches them. Who waited goes on.
 *
 * Return: 0; -EINVAL when there is no such work; -EPERM.
 * Since: 0.1
 */
UHMM_API int uhmm_work_release(struct uhmm_work *work);

/* A piece of the program's memory that lies in one piece on the device. Code on the device can use a table of these (uhmm.cl). */
struct uhmm_work_extent {
	uint64_t start;   /* the program's address, */
	uint64_t bytes;
	uint64_t offset;  /* where it is in the device's memory, */
	uint64_t address; /* and where code on the device finds it; 0: it has no address */
};

/**
 * uhmm_work_extents() - where all of it is
 * @work:   acquired
 * @ret_nr: how many there are
 *
 * Sorted by .start, without overlaps.
 *
 * Return: the table, which is the work's; NULL when there is no such work.
 * Since: 0.1
 */
UHMM_API const struct uhmm_work_extent *uhmm_work_extents(struct uhmm_work *work, size_t *ret_nr);

/**
 * uhmm_work_address() - where code on the device finds a byte
 * @work: acquired
 * @addr: in one of its ranges
 *
 * What lies side by side in the program need not do so on the device; uhmm_work_extents() says how far it does. In memory of
 * uhmm_alloc() it is @addr itself where the device can do that.
 *
 * Return: the device's address; 0 when @addr is not in the work, or the device has none (uhmm_work_extents() has the offset).
 * Since: 0.1
 */
UHMM_API uint64_t uhmm_work_address(struct uhmm_work *work, const void *addr);

/**
 * uhmm_alloc() - memory that can have the same addresses on devices
 * @space:     an open space
 * @len_bytes: how much; rounded up to a multiple of 2 MiB
 * @flags:     0
 *
 * Ordinary private memory of the program, zeros, huge where the system allows. Its addresses are kept free on each device of the
 * space that can do so (a GPU's driver can) and is open now: 2 MiB of it that a device holds as one folio have, from uhmm_work_acquire() to the release, their own address there.
 *
 * Return: the memory; NULL with errno ENOMEM, EINVAL or EPERM.
 * Since: 0.1
 */
UHMM_API void *uhmm_alloc(struct uhmm_space *space, size_t len_bytes, uint32_t flags);

/**
 * uhmm_free() - unmap it, wherever it lives
 * @space: an open space
 * @mem:   from uhmm_alloc(), or NULL
 *
 * Return: 0; -EINVAL when it is none; -EBUSY when work has a part of it; -EPERM.
 * Since: 0.1
 */
UHMM_API int uhmm_free(struct uhmm_space *space, void *mem);

/**
 * uhmm_device_native() - an object or a function of the runtime behind a device
 * @dev:  an open device
 * @name: one of those that uhmm-devices.7 lists for its driver: "context", "queue", "clEnqueueNDRangeKernel"
 * @ret:  the object
 *
 * For programs that start code on the device. The objects are the driver's: use them, release none of them.
 *
 * Return: 0; -ENOENT when the driver knows no such name; -EINVAL; -ENODEV; -EPERM.
 * Since: 0.1
 */
UHMM_API int uhmm_device_native(struct uhmm_device *dev, const char *name, void **ret);

#ifdef __cplusplus
}
#endif

#endif
