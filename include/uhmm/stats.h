/* SPDX-License-Identifier: MIT */
#ifndef UHMM_STATS_H
#define UHMM_STATS_H

#include "uhmm/space.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Counters since uhmm_open(). Set sz before the call; a shorter struct of an older header is filled as far as it goes. */
struct uhmm_stats {
	size_t sz;

	/* migrations */
	uint64_t to_device_bytes;
	uint64_t to_device_folios[UHMM_NR_ORDERS];
	uint64_t to_system_bytes; /* by uhmm_to_system(), uhmm_close(), uhmm_device_close() */
	uint64_t to_system_folios[UHMM_NR_ORDERS];
	uint64_t skipped_pages[UHMM_NR_SKIPS];
	uint64_t dropped_pages;   /* device pages freed because the program unmapped or discarded them */

	/* CPU faults */
	uint64_t faults;          /* messages that a fault thread handled */
	uint64_t fault_bytes;     /* brought home by them */
	uint64_t fault_folios[UHMM_NR_ORDERS];
	uint64_t fault_zero;      /* of faults: touches of pages that were nowhere, served with zeros */
	uint64_t fault_joined;    /* of faults: met a block that was already on its way */
	uint64_t fault_stale;     /* of faults: the page was there already when the message was read */
	uint64_t fault_small;     /* 2 MiB folios that came home as base pages because no THP could be had */
	uint64_t fault_lost;      /* pages that the device could not give back: SIGBUS */
	uint64_t fault_ns_p50, fault_ns_p99, fault_ns_max; /* from message read to page installed */

	/* address-space events */
	uint64_t events_remove, events_unmap, events_remap;
	uint64_t forks;           /* fork(2) calls, with or without anything on a device */

	/* the pool of recycled THPs */
	uint64_t pool_bytes;      /* held now */
	uint64_t pool_bytes_max;  /* the bound */
	uint64_t pool_hits;       /* a recycled THP was at hand */
	uint64_t pool_fresh;      /* the kernel had to clear one */
	uint64_t pool_failed;     /* no THP could be had */
	uint64_t pool_freed;      /* THPs given back to the kernel */

	/* what uhmm itself keeps */
	uint64_t metadata_bytes;  /* tables and device metadata */
	uint64_t device_bytes;    /* of the program's memory, on devices now */

	/* prefetch */
	uint64_t prefetches, prefetches_failed;

	/* children of fork(2), where there are fork events */
	uint64_t children;        /* that had memory of which a part may have been away */
	uint64_t child_bytes;     /* copied into them from devices */
};

/**
 * uhmm_stats() - read the counters
 * @space: an open space
 * @ret:   filled in; @ret->sz must be set
 *
 * Counters are read one after another while others count on: sums may be off by what happens meanwhile.
 *
 * Return: 0; -EINVAL when @ret->sz is not set; -EPERM in a child of the opener.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API int uhmm_stats(struct uhmm_space *space, struct uhmm_stats *ret);

/* How far this host can carry uhmm. Set sz before the call. */
struct uhmm_probe {
	size_t sz;
	int uffd_errno;            /* 0: a full userfaultfd can be had; else why not (EPERM, ENOSYS, ...) */
	int uffd_user_errno;       /* the same for a user-mode-only one */
	char uffd_path[32];        /* "syscall", "/dev/userfaultfd" or "user-mode-only": what uhmm_open() would use; "" if none */
	uint64_t uffd_features;    /* as granted by UFFDIO_API */
	uint8_t has_move;          /* UFFDIO_MOVE */
	uint8_t has_events;        /* remove, unmap and remap events */
	uint8_t has_fork_event;    /* fork events, which need a privilege */
	uint8_t has_poison;        /* UFFDIO_POISON */
	uint8_t has_pagemap_scan;
	uint8_t has_procmap_query;
	uint8_t has_pt_reclaim;    /* MADV_DONTNEED frees an empty page table */
	uint8_t has_thp;           /* a 2 MiB page could be had just now */
	char copy_routine[32];     /* how 2 MiB are copied on this CPU */
};

/**
 * uhmm_probe() - what this host offers, found by trying
 * @ret: filled in; @ret->sz must be set
 *
 * Needs no open space and leaves nothing behind.
 *
 * Return: 0; -EINVAL when @ret->sz is not set.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API int uhmm_probe(struct uhmm_probe *ret);

#ifdef __cplusplus
}
#endif

#endif
