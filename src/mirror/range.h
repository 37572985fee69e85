/* SPDX-License-Identifier: MIT */
#ifndef MIRROR_RANGE_H
#define MIRROR_RANGE_H

/* Where each page of a range is, after faulting in what is asked for: what include/uhmm/range.h promises. */

#include "mirror/mirror.h"
#include "uhmm/range.h"

struct range_query {
	struct mirror *mi;
	uint64_t start, end;
	struct device *dev;          /* NULL: nobody's */
	struct notifier *notifier;   /* NULL: nothing is watched for it */
	uint64_t seq;
	uint64_t default_flags, page_flags_mask;
	struct uhmm_range_page *pages; /* the caller's; touched by its own thread only */
};

/* Pages whose entry says MIGRATE already are passed over. Return: as uhmm_range_fault(). Context: a thread of the program. */
int range_fault(const struct range_query *q);

#endif
