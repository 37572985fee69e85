/* SPDX-License-Identifier: MIT */
#ifndef UHMM_SPACE_H
#define UHMM_SPACE_H

#include <stddef.h>
#include <stdint.h>

#include "uhmm/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct uhmm_space;
struct uhmm_device;

/* Order k is 2^k base pages of 4 KiB; order 9 is 2 MiB, what one page-table entry of the upper level maps. */
#define UHMM_PAGE_BYTES  ((uint64_t)4096)
#define UHMM_BLOCK_BYTES ((uint64_t)2 << 20)
#define UHMM_ORDER_MAX   9
#define UHMM_NR_ORDERS   (UHMM_ORDER_MAX + 1)

/*
 * Options start with their own size and zero means the default, so that a program built against an older header
 * goes on working: UHMM_OPTS(uhmm_space_opts, o, .fault_threads = 2);
 */
#define UHMM_OPTS(type, name, ...) struct type name = { .sz = sizeof(struct type), __VA_ARGS__ }

struct uhmm_space_opts {
	size_t sz;              /* sizeof(struct uhmm_space_opts); a longer one with unknown non-zero fields is -E2BIG */
	unsigned fault_threads; /* threads that serve CPU faults, 1..64; 0: one per CPU, at most 4 */
	unsigned copy_threads;  /* threads that share one large migration, the caller included, 1..64; 0: one per CPU, at most 4 */
	uint64_t pool_bytes;    /* most memory kept in recycled THPs, in bytes; 0: 256 MiB, or 1/16 of RAM if that is less */
	uint32_t flags;         /* UHMM_SPACE_* */
	uint32_t reserved;      /* 0 */
};

/* Accept a userfaultfd that serves user-mode touches only (all that an unprivileged process may get by default):
 * system calls on device-resident memory then fail with EFAULT. Without this flag uhmm_open() refuses with -EPERM. */
#define UHMM_SPACE_USER_MODE_ONLY (1u << 0)

/**
 * uhmm_open() - start looking after this process's memory
 * @opts:      options, or NULL for the defaults
 * @ret_space: the open space
 *
 * There is one space per process. Opening starts the fault threads and costs no memory but theirs; nothing is
 * looked after until something is migrated.
 *
 * Return: 0;
 *   -EINVAL   an option is out of range,
 *   -E2BIG    the options are from a newer header and use a field this library does not know,
 *   -EBUSY    this process has an open space already,
 *   -ENOSYS   the kernel has no userfaultfd,
 *   -EOPNOTSUPP  the kernel lacks UFFDIO_MOVE (Linux 6.8) or another feature that uhmm cannot do without,
 *   -EPERM    userfaultfd is refused to this user,
 *   -ENOMEM, -EMFILE, -EAGAIN  as mmap(2), userfaultfd(2) and pthread_create(3) say.
 * Context: any thread, may block.
 * Since: 0.1
 */
UHMM_API int uhmm_open(const struct uhmm_space_opts *opts, struct uhmm_space **ret_space);

/**
 * uhmm_close() - bring everything home and stop
 * @space: an open space, or NULL
 *
 * Every device of the space is closed too. If a device cannot give its bytes back the space stays open, so that
 * they can be asked for again.
 *
 * Return: 0; -EIO or what the driver said, the space then is still open; -EBUSY, still open too, when there are notifiers or
 * migrations that have not been ended (range.h, migrate.h); -EPERM in a child of the opener.
 * Context: any thread, may block; no other call on @space may be in progress.
 * Since: 0.1
 */
UHMM_API int uhmm_close(struct uhmm_space *space);

/* Why a page stayed where it was. Counts are in base pages. */
enum uhmm_skip {
	UHMM_SKIP_ABSENT,      /* already where it was asked to go, or (to the system) never left */
	UHMM_SKIP_UNMAPPED,    /* no mapping there */
	UHMM_SKIP_SHARED,      /* MAP_SHARED memory */
	UHMM_SKIP_FILE,        /* a mapping of a file, or of a special object */
	UHMM_SKIP_PROT,        /* not readable and writable, or executable too */
	UHMM_SKIP_LOCKED,      /* mlock(2) */
	UHMM_SKIP_FORKED,      /* shared with a child or a parent since fork(2) */
	UHMM_SKIP_PINNED,      /* pinned for I/O, or not written since a fork whose other side has ended */
	UHMM_SKIP_RACED,       /* changed, was unmapped or was discarded while it was looked at */
	UHMM_SKIP_NO_ROOM,     /* the device, or the host, had no memory for it */
	UHMM_SKIP_DEVICE,      /* the driver reported an error */
	UHMM_SKIP_OTHER_DEVICE,/* lives on another device */
	UHMM_SKIP_OWN,         /* memory of uhmm itself */
	UHMM_SKIP_REFUSED,     /* the kernel would not watch it (another userfaultfd, a special mapping) */
	UHMM_SKIP_THREAD,      /* holds a living thread's control block, which the kernel writes to when the thread ends */
	UHMM_NR_SKIPS,
};

/**
 * uhmm_skip_name() - the short name of a skip reason ("pinned")
 * @reason: one of enum uhmm_skip
 *
 * Return: a string that is never freed; "?" for a value that is none.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API const char *uhmm_skip_name(enum uhmm_skip reason);

/* What one migration did. Set sz before the call. */
struct uhmm_result {
	size_t sz;
	uint64_t moved_bytes;
	uint64_t moved_folios[UHMM_NR_ORDERS]; /* by order */
	uint64_t cleared_pages;                /* of these, base pages that held only zeros and were not copied */
	uint64_t skipped_pages[UHMM_NR_SKIPS]; /* base pages, by reason */
};

/*
 * Read-only memory too. The kernel gives up pages of writable mappings only, so each piece of the range is made writable for the
 * microseconds in which its pages are taken: a store of the program that should have raised SIGSEGV may be done in that
 * time. And nobody may change the protection of the range meanwhile, or it ends as read-only. Without this flag such pages
 * stay, as UHMM_SKIP_PROT.
 */
#define UHMM_MOVE_READ_ONLY (1u << 0)

/*
 * Folios of at most order @k, 0..9. Below 9 a THP goes as pieces of that order, which come home as base pages. Base pages that are side by side and aligned go as folios of up to that order too, 8 at most, where without this
 * flag they do so only for sizes that the system itself has enabled (mTHP).
 */
#define UHMM_MOVE_ORDER(k) (((uint32_t)(k) + 1) << 8)

/**
 * uhmm_to_device() - move a range to a device
 * @space:     an open space
 * @start:     first byte, a multiple of 4096
 * @len_bytes: length, rounded up to a multiple of 4096
 * @dev:       a device of @space
 * @flags:     UHMM_MOVE_*, or 0
 * @ret:       what was done, or NULL
 *
 * Works on private anonymous memory of any kind: THPs that lie wholly inside the range go as 2 MiB folios, or as the largest
 * smaller ones that the device has; base pages as 4 KiB folios, or larger ones where the system has such pages (mTHP); pages
 * that were never touched as cleared folios. A folio is a unit: a touch of one page brings all of it home. Other threads may
 * use the range all the while: a touch waits until the page is back. Pages that cannot go stay and are counted in @ret.
 *
 * Return: 0 when the whole range now lives on @dev;
 *   UHMM_E_PARTIAL  some pages stayed,
 *   -EINVAL  unaligned, empty or overflowing range, unknown flag, order above 9,
 *   -EFAULT  nothing is mapped in the range,
 *   -EPERM   called in a child of the opener,
 *   -ENODEV  @dev is not a device of @space,
 *   -EIO     or what the driver said, when the driver failed; every page it failed on is back where it was.
 * Context: any thread, may block; not from a driver or log callback.
 * Since: 0.1
 */
UHMM_API int uhmm_to_device(struct uhmm_space *space, void *start, size_t len_bytes, struct uhmm_device *dev,
			    uint32_t flags, struct uhmm_result *ret);

/**
 * uhmm_to_system() - bring a range home
 * @space:     an open space
 * @start:     first byte, a multiple of 4096
 * @len_bytes: length, rounded up to a multiple of 4096
 * @flags:     0
 * @ret:       what was done, or NULL
 *
 * Nothing but the range: of a folio that it cuts, the rest stays where it is, in smaller folios. Pages that are not on a device count as UHMM_SKIP_ABSENT and make nothing partial. When all of a mapping in the
 * range is home, and no device holds anything any more, uhmm stops watching it.
 *
 * Return: 0 when nothing of the range is on a device; -ENOMEM when the host had no memory for some of it, which is still on
 * its device; UHMM_E_PARTIAL, -EINVAL, -EFAULT, -EPERM, -EIO as above.
 * Context: any thread, may block; not from a driver or log callback.
 * Since: 0.1
 */
UHMM_API int uhmm_to_system(struct uhmm_space *space, void *start, size_t len_bytes, uint32_t flags,
			    struct uhmm_result *ret);

/**
 * uhmm_prefetch() - start moving a range to where it will be needed
 * @space:     an open space
 * @start:     first byte, a multiple of 4096
 * @len_bytes: length, rounded up to a multiple of 4096
 * @dev:       a device of @space, or NULL for the system's memory
 *
 * Returns at once; a thread of the library does the work. Best effort: what cannot go stays, a range that is
 * unmapped meanwhile is passed over, and uhmm_stats() has the counts.
 *
 * Return: 0; -EINVAL, -EPERM, -ENODEV as uhmm_to_device(); -EAGAIN when 64 prefetches are waiting already.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API int uhmm_prefetch(struct uhmm_space *space, void *start, size_t len_bytes, struct uhmm_device *dev);

/**
 * uhmm_prefetch_wait() - wait until every prefetch asked for so far has ended
 * @space: an open space
 *
 * Return: 0; -EPERM in a child of the opener.
 * Context: any thread, may block.
 * Since: 0.1
 */
UHMM_API int uhmm_prefetch_wait(struct uhmm_space *space);

/**
 * uhmm_discard() - the contents of a range are not needed any more
 * @space:     an open space
 * @start:     first byte, a multiple of 4096
 * @len_bytes: length, a multiple of 4096 (rounding would take a neighbour's bytes)
 *
 * What MADV_DONTNEED does, wherever the pages live: folios on a device are freed without travelling, and the next
 * touch reads zeros.
 *
 * Return: 0; -EINVAL; -EFAULT when part of the range is not mapped; -EPERM; or what madvise(2) says.
 * Context: any thread, may block; not from a driver or log callback.
 * Since: 0.1
 */
UHMM_API int uhmm_discard(struct uhmm_space *space, void *start, size_t len_bytes);

enum uhmm_where {
	UHMM_WHERE_UNMAPPED, /* no mapping */
	UHMM_WHERE_HOLE,     /* mapped, no page: reads as zeros */
	UHMM_WHERE_SYSTEM,   /* a page in the host's memory */
	UHMM_WHERE_SWAP,     /* swapped out by the kernel */
	UHMM_WHERE_MOVING,   /* between the two at this moment */
	UHMM_WHERE_DEVICE,   /* on the device named by .dev */
	UHMM_WHERE_LOST,     /* on the device named by .dev, which failed to give it back: a touch raises SIGBUS */
	UHMM_WHERE_EXCLUSIVE, /* the device named by .dev has it alone (mirror.h), until a CPU touches it */
	UHMM_NR_WHERES,
};

struct uhmm_extent {
	uint64_t start, end;     /* addresses, [start, end) */
	enum uhmm_where where;
	unsigned order;          /* 9: whole 2 MiB units (a THP, a 2 MiB folio); else the device folio's order, 0 for base pages */
	struct uhmm_device *dev; /* for DEVICE, LOST and EXCLUSIVE, else NULL */
};

/**
 * uhmm_query() - where does each page of a range live?
 * @space:     an open space
 * @start:     first byte, a multiple of 4096
 * @len_bytes: length, rounded up to a multiple of 4096
 * @exts:      room for @nr_exts extents
 * @nr_exts:   at least 1
 * @ret_nr:    how many were filled in
 *
 * Neighbouring pages with the same answer share an extent. The extents follow one another without a gap from @start
 * on; if the last one ends before the range does, call again from there. A snapshot: it may be stale when it arrives,
 * but what the calling thread has unmapped, moved or discarded before is in it.
 *
 * Return: 0; -EINVAL; -EPERM.
 * Context: any thread; not from a driver or log callback.
 * Since: 0.1
 */
UHMM_API int uhmm_query(struct uhmm_space *space, void *start, size_t len_bytes, struct uhmm_extent *exts,
			size_t nr_exts, size_t *ret_nr);

#ifdef __cplusplus
}
#endif

#endif
