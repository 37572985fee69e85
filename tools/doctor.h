/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_DOCTOR_H
#define TOOLS_DOCTOR_H

#include <stddef.h>

#include "uhmm/uhmm.h"

enum finding_state {
	FOUND_OK,       /* as good as it gets */
	FOUND_DEGRADED, /* uhmm works, but less well */
	FOUND_MISSING,  /* uhmm does not work */
	NR_FOUND,
};

struct finding {
	enum finding_state state;
	const char *name;
	char value[240];
	const char *mend; /* what to type or do; NULL when nothing needs mending */
};

#define DOCTOR_MAX_FINDINGS 64

struct report {
	struct finding findings[DOCTOR_MAX_FINDINGS];
	size_t nr;
	struct uhmm_probe probe;
};

/* Add a finding. @mend is kept for states other than FOUND_OK only. */
void report_add(struct report *rep, enum finding_state state, const char *name, const char *mend, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* The examinations, in the order in which they are shown. */
void doctor_kernel(struct report *rep);  /* what the kernel can do, and lets this user do */
void doctor_thp(struct report *rep);     /* 2 MiB pages */
void doctor_limits(struct report *rep);  /* what bounds this process */
void doctor_cuda(struct report *rep);    /* what cuda: could open */
void doctor_devices(struct report *rep); /* drivers, and whether they open */
void doctor_opencl(struct report *rep);  /* what opencl: could open */

#endif
