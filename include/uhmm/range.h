/* SPDX-License-Identifier: MIT */
#ifndef UHMM_RANGE_H
#define UHMM_RANGE_H

/*
 * For runtimes that keep a page table, or bytes, of the program on a device's side: where is each page of a range, fault in
 * what is not there, and be told before the answer stops being true.
 *
 *	do {
 *		range.seq = uhmm_notifier_read_begin(n);       // anew in each round
 *		r = uhmm_range_fault(space, &range);
 *		if (r == -EBUSY)
 *			continue;
 *		lock(driver);
 *		stale = uhmm_notifier_read_retry(n, range.seq);
 *		if (!r && !stale)
 *			program the device with range.pages;    // holds until the callback says otherwise
 *		unlock(driver);
 *	} while (stale || r == -EBUSY);
 *
 * The callback takes the same lock and takes the range out of the device.
 */

#include <stdbool.h>

#include "uhmm/device.h"
#include "uhmm/migrate.h"

#ifdef __cplusplus
extern "C" {
#endif

struct uhmm_notifier;

/**
 * uhmm_notifier_fn - what a device knows of [start, end) stops being true
 * @ctx:   what was given to uhmm_notifier_add()
 * @start: an address, in the notifier's range
 * @end:   end of the piece
 *
 * Called before the pages go: a migration goes on, and what munmap(), mremap() or a discard drops from a device is freed, only when
 * it has returned. When it returns the device must not use what it knew of the piece any more. What munmap() and its like take
 * from Linux's own memory is gone when it is called, a moment after they have returned; uhmm_notifier_read_retry() knows of it at
 * once.
 *
 * Context: any thread, also a fault thread, several at once; none of the library's locks is held, but no event of the address
 * space is applied meanwhile. So it must not call uhmm but for uhmm_notifier_read_retry(), must not call malloc(), must not touch
 * memory that uhmm may have moved, and must not wait for a thread that is in a call of uhmm or touches such memory: a lock
 * that it takes is never held across either.
 */
typedef void uhmm_notifier_fn(void *ctx, void *start, void *end);

/**
 * uhmm_notifier_add() - be told when a range changes
 * @space:     an open space
 * @start:     first byte, a multiple of 4096
 * @len_bytes: length, rounded up to a multiple of 4096; nothing need be mapped there
 * @dev:       the device that wants to know: its own migrations to itself are no news; NULL: all are
 * @fn:        the callback
 * @ctx:       handed to it
 * @ret:       the notifier
 *
 * Told of: migrations to a device and home, munmap(), mremap() and mmap() over the range, MADV_DONTNEED and its like, and what
 * fork() brings home, where it does.
 * For memory of which nothing ever was on a device that takes a uhmm_range_fault() with this notifier, which makes the
 * mapping watched: what it reports as UHMM_RANGE_WATCHED is what is told of. Not told of, because Linux tells nobody: mprotect().
 * Protection is what it was when it was looked up; who depends on it looks it up anew, as uhmm_device_write() does. Nor of stores
 * by CPUs, and of pages that Linux moves or swaps by itself.
 *
 * Each change looks at all notifiers: few and large ones are meant.
 *
 * Return: 0; -EINVAL; -ENODEV; -ENOSPC when there are 256; -EPERM in a child of the opener.
 * Context: any thread; not from a callback.
 * Since: 0.1
 */
UHMM_API int uhmm_notifier_add(struct uhmm_space *space, void *start, size_t len_bytes, struct uhmm_device *dev,
			       uhmm_notifier_fn *fn, void *ctx, struct uhmm_notifier **ret);

/**
 * uhmm_notifier_remove() - be told no more
 * @n: a notifier, or NULL
 *
 * When it returns the callback is not running, and will not run again.
 *
 * Return: 0; -EINVAL when @n is none; -EPERM in a child of the opener.
 * Context: any thread, may block; not from a callback, nor with a lock held that the callback takes.
 * Since: 0.1
 */
UHMM_API int uhmm_notifier_remove(struct uhmm_notifier *n);

/**
 * uhmm_notifier_read_begin() - before a look at the range
 * @n: a notifier
 *
 * Waits while its callback runs.
 *
 * Return: the sequence. It must be asked for anew before each look.
 * Context: as uhmm_notifier_remove().
 * Since: 0.1
 */
UHMM_API uint64_t uhmm_notifier_read_begin(struct uhmm_notifier *n);

/**
 * uhmm_notifier_read_retry() - after it
 * @n:   a notifier
 * @seq: what uhmm_notifier_read_begin() said
 *
 * Return: true when something of the range may have changed since, and what was seen must not be used. False: it holds until the
 *   callback is called. Once munmap() and its like have returned to their caller, it is never false for what they took.
 * Context: any thread; never waits for a callback, so a lock that the callback takes may be held.
 * Since: 0.1
 */
UHMM_API bool uhmm_notifier_read_retry(struct uhmm_notifier *n, uint64_t seq);

/* ---- looking at a range ---- */

/*
 * What is known of one page. A type of its own: neither an address nor an entry of a migration, and an offset is only given out
 * for what has one.
 */
struct uhmm_range_page { uint64_t bits; };

/* out */
#define UHMM_RANGE_VALID   (1u << 0) /* there: at its address in the program, unless it is DEVICE */
#define UHMM_RANGE_WRITE   (1u << 1) /* may be written at once: not the zero page, not shared since a fork */
#define UHMM_RANGE_ERROR   (1u << 2) /* not mapped, not readable, or of a kind that cannot be faulted in */
#define UHMM_RANGE_DEVICE  (1u << 3) /* on the asking device, at uhmm_range_page_offset() */
#define UHMM_RANGE_WATCHED (1u << 4) /* the notifier is told before this stops being true; else look again before each use */
#define UHMM_RANGE_MIGRATE (1u << 5) /* taken for a migration: its entry there says what it is */
/* in */
#define UHMM_RANGE_REQ_FAULT   (1u << 6) /* fault it in, or bring it home from another device, if it is not there */
#define UHMM_RANGE_REQ_WRITE   (1u << 7) /* and so that it may be written; implies the above */
#define UHMM_RANGE_REQ_MIGRATE (1u << 8) /* in default_flags: what can migrate is taken in the same walk */

#define UHMM_RANGE_ORDER_SHIFT 12

/* The order of what maps it: 9 for a THP or a 2 MiB folio. */
static inline unsigned uhmm_range_page_order(struct uhmm_range_page p) { return p.bits >> UHMM_RANGE_ORDER_SHIFT & 15; }

/* Where on the device it is: the bytes of this very page, also within a larger folio. Ends the process for a page that is not. */
static inline uint64_t uhmm_range_page_offset(struct uhmm_range_page p)
{
	if (!(p.bits & UHMM_RANGE_DEVICE))
		__builtin_trap();
	return p.bits >> 16 << 12;
}

/* What is asked. Set sz, and 0 what is not used. */
struct uhmm_range {
	size_t sz;
	void *start;                    /* a multiple of 4096 */
	size_t len_bytes;               /* a multiple of 4096 */
	struct uhmm_device *dev;        /* who asks: its own pages are reported, not faulted; NULL: all count as another's */
	struct uhmm_notifier *notifier; /* NULL: a snapshot, nothing is WATCHED. Else its range covers this one */
	uint64_t seq;                   /* of the notifier */
	uint32_t default_flags;         /* UHMM_RANGE_REQ_*: asked for every page, */
	uint32_t page_flags_mask;       /* and those of the page's own entry that are in here */
	struct uhmm_range_page *pages;  /* one for each page, in and out; not in the range itself */
	struct uhmm_migrate **migrate;  /* with REQ_MIGRATE: receives the migration (migrate.h), NULL when nothing was taken */
	struct uhmm_migrate_args *migrate_args; /* with REQ_MIGRATE: sz, src, dst and select; the rest is filled in from here */
};

/**
 * uhmm_range_fault() - where is each page of a range, after faulting in what is asked for
 * @space: an open space
 * @range: what is asked; its pages receive the answer
 *
 * A page that a migration has in its hands is waited for. What lives on another device comes home when REQ_FAULT is asked for it,
 * and is reported as nothing otherwise; the asking device's own pages stay where they are.
 *
 * With REQ_MIGRATE and a device: what can migrate to it is taken in the same walk, present or not, as uhmm_migrate_setup() with
 * UHMM_SELECT_FAULT does, and marked MIGRATE; the caller goes on with uhmm_migrate_pages() and must end with
 * uhmm_migrate_finalize(). The rest of the range is answered as ever. After a failure there is no migration.
 *
 * Return: 0;
 *   -EINVAL  unaligned, empty or overflowing range, or not in the notifier's; unknown flag; sz not set,
 *   -EBUSY   the notifier's range has changed since @range->seq, or goes on changing: begin again, with a new sequence,
 *   -EFAULT  REQ_FAULT for a page that is not mapped or not readable, beyond the end of its file; or in user-mode-only mode, a
 *            hole of watched memory,
 *   -EPERM   REQ_WRITE for a page that is not writable; or in a child of the opener,
 *   -ENOMEM, -ENODEV; or what a driver said when a page of another device was wanted.
 * Context: any thread, may block; not from a callback. The caller's thread takes the faults, as a system call of its own would.
 * Since: 0.1
 */
UHMM_API int uhmm_range_fault(struct uhmm_space *space, struct uhmm_range *range);

#ifdef __cplusplus
}
#endif

#endif
