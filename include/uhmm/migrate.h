/* SPDX-License-Identifier: MIT */
#ifndef UHMM_MIGRATE_H
#define UHMM_MIGRATE_H

/*
 * Migration by hand, for runtimes that choose the device's memory and schedule the copies themselves. Three calls, in this order:
 *
 *	uhmm_migrate_setup()     what can move is taken out of the program; src says what each page is
 *	    ... allocate destinations into dst, copy ...
 *	uhmm_migrate_pages()     what still can go, and has a destination, will; src loses MIGRATE for the rest, which is put back
 *	    ... make the device use what will be there: no CPU can touch it yet ...
 *	uhmm_migrate_finalize()  the pages are in dst now; whoever waited goes on
 *
 *	struct uhmm_migrate_args args = { .sz = sizeof(args), .start = mem, .len_bytes = bytes, .dev = dev, .src = src, .dst = dst,
 *					  .select = UHMM_SELECT_SYSTEM | UHMM_SELECT_COMPOUND | UHMM_SELECT_FAULT };
 *	uhmm_migrate_setup(space, &args, &m);
 *	uhmm_migrate_alloc(m);                 // or uhmm_folio_alloc() for each
 *	r = uhmm_migrate_copy(m);              // or copies of one's own, from uhmm_migrate_host(m, i)
 *	if (!r)
 *		uhmm_migrate_pages(m);
 *	uhmm_migrate_finalize(m, NULL);        // always
 *
 * There is one entry for each base page. What is taken as a whole has its head entry marked COMPOUND, and 511 that are 0.
 *
 * From setup to finalize a CPU that touches one of the pages waits, and so does fork(). So the thread that migrates must not touch
 * the range itself - nor may a signal handler of it - must not fork, nor call uhmm_device_read(), uhmm_range_fault() or
 * uhmm_device_release() on it: it would wait for itself. Other threads may do what they like: munmap(), mremap() and discards do not
 * wait, and what they take is dropped, or ends where mremap has put it.
 *
 * The calls on one migration come one after another. Context of all: any thread, may block; not from a driver, log or notifier
 * callback; in a child of the opener -EPERM.
 */

#include <stdbool.h>

#include "uhmm/device.h"

#ifdef __cplusplus
extern "C" {
#endif

struct uhmm_migrate;

/* One entry. A type of its own, so that an offset on a device is never taken for an address: it has to be asked for. */
struct uhmm_mpfn { uint64_t bits; };

#define UHMM_MPFN_VALID    (1u << 0) /* src: has bytes; a hole has not, and its destination is to be cleared. dst: is set */
#define UHMM_MPFN_MIGRATE  (1u << 1) /* src: on its way */
#define UHMM_MPFN_WRITE    (1u << 3) /* src: its mapping is writable */
#define UHMM_MPFN_COMPOUND (1u << 4) /* head of 2^order base pages that go as one */
#define UHMM_MPFN_DEVICE_PRIVATE (1u << 5) /* the entry holds an offset on the device */

#define UHMM_MPFN_ORDER_SHIFT 8

static inline unsigned uhmm_mpfn_order(struct uhmm_mpfn e) { return e.bits >> UHMM_MPFN_ORDER_SHIFT & 15; }

/* The offset on the device. Ends the process for an entry that has none. */
static inline uint64_t uhmm_mpfn_offset(struct uhmm_mpfn e)
{
	if (!(e.bits & UHMM_MPFN_DEVICE_PRIVATE))
		__builtin_trap();
	return e.bits >> 12 << 12;
}

/* A destination in the host's memory, on the way home: the bytes at uhmm_migrate_host() are good. @order: 0, or 9 for a compound. */
static inline struct uhmm_mpfn uhmm_mpfn_host(unsigned order)
{
	return (struct uhmm_mpfn){ UHMM_MPFN_VALID | (order ? UHMM_MPFN_COMPOUND : 0) | (uint64_t)order << UHMM_MPFN_ORDER_SHIFT };
}

/* What is taken. Exactly one of the first two. */
#define UHMM_SELECT_SYSTEM    (1u << 0) /* pages in the host's memory; they go to .dev. Swapped-out and zero pages too */
#define UHMM_SELECT_DEVICE    (1u << 1) /* pages on .dev, and on no other device; they come home */
#define UHMM_SELECT_COMPOUND  (1u << 2) /* THPs and 2 MiB folios as a whole; without it they are split. Others go page by page */
#define UHMM_SELECT_FAULT     (1u << 3) /* pages never touched too, in the same walk: as MIGRATE without VALID */
#define UHMM_SELECT_READ_ONLY (1u << 4) /* read-only memory too, as UHMM_MOVE_READ_ONLY does */

/* One call handles at most this much. */
#define UHMM_MIGRATE_BYTES ((size_t)64 << 20)

struct uhmm_migrate_args {
	size_t sz;
	void *start;             /* uhmm_migrate_setup(): first byte, a multiple of 4096 */
	uint64_t offset;         /* uhmm_migrate_setup_device(): first offset, a multiple of 4096 */
	size_t len_bytes;        /* a multiple of 4096, at most UHMM_MIGRATE_BYTES */
	struct uhmm_device *dev;
	uint32_t select;         /* UHMM_SELECT_* */
	uint32_t reserved;       /* 0 */
	struct uhmm_mpfn *src;   /* len_bytes / 4096 each; the caller's until finalize, and not in the range */
	struct uhmm_mpfn *dst;   /* zeroed by setup */
	size_t cpages;           /* out: base pages that can migrate */
};

/**
 * uhmm_migrate_setup() - take what can move of a range
 * @space: an open space
 * @args:  what
 * @ret:   the migration, also when nothing can move: it must be finalized
 *
 * Pages that cannot be taken stay in the program, and uhmm_migrate_why() says why. 64 migrations may be open at a time, and they may
 * have 512 MiB of the program in their hands together; what is beyond stays, as UHMM_SKIP_NO_ROOM.
 *
 * Return: 0;
 *   -EINVAL  bad range, flags or arrays; a part of the range is not mapped, or the calling thread's own stack,
 *   -EAGAIN  64 migrations are open,
 *   -ENODEV, -EPERM (in a child of the opener), -ENOMEM; or what /proc said.
 * Since: 0.1
 */
UHMM_API int uhmm_migrate_setup(struct uhmm_space *space, struct uhmm_migrate_args *args, struct uhmm_migrate **ret);

/**
 * uhmm_migrate_setup_device() - take what a piece of a device's memory holds, to bring it home
 * @space: an open space
 * @args:  as above; .offset counts, not .start, and .select is UHMM_SELECT_DEVICE, perhaps with UHMM_SELECT_COMPOUND
 * @ret:   the migration
 *
 * Eviction: by offset, whoever the pages belong to. Entry i stands for the folio at .offset + i * 4096. A 2 MiB folio that the
 * piece cuts is split. Nothing on the device says whose a folio is, because mremap() moves pages without a word: the table of the
 * program is walked for it, some microseconds for each GiB that uhmm has ever heard of and one for each 2 MiB that is in pieces. So
 * evict much at a time. At most 256 blocks of 2 MiB of the program are taken at once; what is beyond stays (UHMM_SKIP_NO_ROOM). So does
 * what the caller will need before it can finalize: its arrays and the top of its stack (UHMM_SKIP_THREAD). Of anything else that it
 * needs until then - its heap, say - it must know that it is not there.
 * Pages that mremap() carries past the walk are missed; call again until nothing is found.
 *
 * Return: as uhmm_migrate_setup().
 * Since: 0.1
 */
UHMM_API int uhmm_migrate_setup_device(struct uhmm_space *space, struct uhmm_migrate_args *args, struct uhmm_migrate **ret);

/**
 * uhmm_migrate_host() - where the bytes of a page are, in memory of the library
 * @m: a migration, between setup and pages
 * @i: index of the entry
 *
 * On the way to a device: read them from here. On the way home: put them here. The pages of a compound lie side by side.
 *
 * Return: the address, aligned to 4096; NULL when the page does not migrate or is a hole.
 * Since: 0.1
 */
UHMM_API void *uhmm_migrate_host(struct uhmm_migrate *m, size_t i);

/**
 * uhmm_migrate_why() - why does a page not migrate?
 * @m: a migration
 * @i: index of the entry
 *
 * Return: why it stays; UHMM_NR_SKIPS for one that migrates. Pages for which dst was left 0 count as UHMM_SKIP_NO_ROOM, those with a
 *   dst that does not fit as UHMM_SKIP_REFUSED.
 * Since: 0.1
 */
UHMM_API enum uhmm_skip uhmm_migrate_why(struct uhmm_migrate *m, size_t i);

/**
 * uhmm_folio_alloc() - a folio of a device, for a dst entry
 * @dev:   an open device
 * @order: 0..9, one of those the device takes
 * @ret:   the entry
 *
 * It is the caller's until uhmm_folio_free(), or until uhmm_migrate_pages() finds it in dst, which takes orders 0 and 9. Contents are
 * undefined.
 *
 * Return: 0; -ENOMEM when there is none; -EINVAL; -ENODEV; -EPERM; or what the driver said.
 * Since: 0.1
 */
UHMM_API int uhmm_folio_alloc(struct uhmm_device *dev, unsigned order, struct uhmm_mpfn *ret);

/** uhmm_folio_free() - give it back. Return: 0; -EINVAL when it is not the caller's (any more); -ENODEV; -EPERM. Since: 0.1 */
UHMM_API int uhmm_folio_free(struct uhmm_device *dev, struct uhmm_mpfn folio);

/**
 * uhmm_migrate_alloc() - destinations for all that migrates
 * @m: a migration, between setup and pages
 *
 * To a device: for a compound a folio of its order, else one of order 0 for each page; entries of dst for which there is nothing stay
 * 0. Entries that are set already are left alone. Home: the host's memory.
 *
 * Return: 0, UHMM_E_PARTIAL when there was not enough; -EINVAL; -EPERM.
 * Since: 0.1
 */
UHMM_API int uhmm_migrate_alloc(struct uhmm_migrate *m);

/**
 * uhmm_migrate_copy() - copies all that has a destination, through the driver; clears the destinations of holes
 * @m: a migration, between setup and pages
 *
 * Return: 0; -EINVAL when a dst entry is not a folio of the caller's, or too large; -EPERM; what the driver said. Then nothing is
 *   lost: finalize puts everything back, or set dst of what failed to 0.
 * Since: 0.1
 */
UHMM_API int uhmm_migrate_copy(struct uhmm_migrate *m);

/**
 * uhmm_migrate_pages() - decide what goes
 * @m: a migration
 *
 * Its bytes are in its destination now. What has no destination, or was dropped by the program meanwhile, loses MIGRATE in src and
 * is put back. A compound src may have small destinations: it is split, and src has an entry for each page then. A compound
 * dst for a small src is refused, and so is what is not the caller's folio. Other folios in dst belong to uhmm from here on: they are
 * used, or freed.
 *
 * Return: how many base pages still migrate; -EINVAL when called twice; -EPERM.
 * Since: 0.1
 */
UHMM_API int64_t uhmm_migrate_pages(struct uhmm_migrate *m);

/**
 * uhmm_migrate_finalize() - the end of a migration, in any case
 * @m:   a migration, or NULL; gone afterwards, unless the result is -EPERM
 * @ret: what was done, or NULL
 *
 * What still has MIGRATE is in dst now, unless the program has dropped it since: then src loses MIGRATE, and the device is told as
 * of any munmap(). Without a call of uhmm_migrate_pages() everything is put back, and folios in dst stay the caller's.
 *
 * Return: 0; UHMM_E_PARTIAL when something of the range stayed; -EINVAL; -EPERM in a child of the opener.
 * Since: 0.1
 */
UHMM_API int uhmm_migrate_finalize(struct uhmm_migrate *m, struct uhmm_result *ret);

#ifdef __cplusplus
}
#endif

#endif
