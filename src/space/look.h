/* SPDX-License-Identifier: MIT */
#ifndef SPACE_LOOK_H
#define SPACE_LOOK_H

/*
 * Looking at pages without a lock and without stopping anybody: our table says what is away, the kernel's page table the rest.
 *
 * The two are looked at one after the other, and a page can leave in between, and return: the table says before, and after
 * as well, that Linux has it, the kernel says that there is none, and a page with bytes would pass for a hole. But a page that
 * leaves is claimed first and then counted, before its bytes go (space_leaves()). So it is a hole if the count of its block,
 * asked for before the word and after the kernel, has not changed. The rest is looked at again:
 *
 *   who looks    count   word: SYSTEM   the kernel: nothing   count again: the same
 *   who moves            word: MIGRATING     count + 1    MOVE
 */

#include "os/pagemap.h"
#include "space/space.h"

#define LOOK_RUNS 64

/* What is seen of [start, stop). */
struct seen {
	uint64_t stop;
	struct entry e; /* DEVICE, MIGRATING: all of it. SYSTEM: see the runs, which say what Linux has at each page */
	unsigned nr;    /* with SYSTEM: at least 1 */
	struct pm_run runs[LOOK_RUNS];
};

/* Is the page not in Linux's hands? */
static inline bool is_away(struct entry e)
{
	return entry_state(e) == ENTRY_DEVICE || entry_state(e) == ENTRY_MIGRATING;
}

/*
 * Looks at as much of [start, end) as one look may tell, at least a page. A page that is claimed again and again meanwhile is
 * said to be MIGRATING.
 * Return: 0, or -errno of the scan. Context: any thread.
 */
int look_at(struct space *sp, uint64_t start, uint64_t end, struct seen *ret);

#endif
