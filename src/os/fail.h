/* SPDX-License-Identifier: MIT */
#ifndef OS_FAIL_H
#define OS_FAIL_H

/*
 * Failure injection for tests, chosen by the environment at the first uhmm_open() or uhmm_probe():
 *
 *   UHMM_TEST_FAIL=CALL:N[:ERRNO]   the N-th CALL (from 1) fails with ERRNO, a number, default the call's own usual one;
 *                                   CALL "any" counts all of them together, but for move_report: that is no failure of a
 *                                   call but a lie about it. The N-th MOVE is done, and reported as not done
 *   UHMM_TEST_WITHOUT=NAME[,NAME]   the host seems to lack: userfaultfd, privilege, move, events, poison,
 *                                   pagemap_scan, procmap_query, thp, fork_event, watches_apart
 *
 * Ignored in set-user-ID programs. Not armed, it costs one predictable branch a call.
 */

#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"

enum os_call {
	OS_UFFD_OPEN, OS_UFFD_API, OS_REGISTER, OS_UNREGISTER, OS_MOVE, OS_MOVE_REPORT, OS_COPY, OS_ZEROPAGE, OS_WAKE, OS_POISON,
	OS_PAGEMAP, OS_PROCMAP, OS_TASKS, OS_MMAP, OS_MADVISE, OS_THREAD, OS_THP,
	NR_OS_CALLS,
};

enum os_without {
	WITHOUT_UFFD, WITHOUT_PRIVILEGE, WITHOUT_MOVE, WITHOUT_EVENTS, WITHOUT_POISON, WITHOUT_PAGEMAP_SCAN,
	WITHOUT_PROCMAP_QUERY, WITHOUT_THP, WITHOUT_FORK_EVENT, WITHOUT_WATCHES_APART,
	NR_WITHOUTS,
};

/* Reads the environment, once. */
void fail_init(void);

/* For unit tests: as UHMM_TEST_FAIL and UHMM_TEST_WITHOUT, NULL for none; counts start anew. */
void fail_set(const char *fail, const char *without);

extern atomic_bool fail_armed;
int fail_check(enum os_call call);

/* 0, or the errno (positive) this call shall fail with. */
static inline int os_fail(enum os_call call)
{
	if (likely(!atomic_load_explicit(&fail_armed, memory_order_relaxed)))
		return 0;
	return fail_check(call);
}

bool os_without(enum os_without what);

#endif
