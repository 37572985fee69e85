/* SPDX-License-Identifier: MIT */
/* CUDA devices, by the numbers that a spec takes. The library is opened beside the program's: nothing is away now, and what keeps
 * it from working in a namespace is told by the device's own line. */
#include <stdio.h>
#include <stdlib.h>

#include "drivers/cuda/look.h"
#include "tools/doctor.h"
#include "tools/size.h"

static void list_device(struct report *rep, const struct cu_seen *s, unsigned i)
{
	const struct cu_device_seen *d = &s->devices[i];
	const char *lacks = cu_lacks(d);
	char memory[SIZE_CHARS];

	if (lacks)
		report_add(rep, FOUND_DEGRADED, "CUDA", "see docs/gpu.md for what cuda: needs", "cuda:device=%u is %s, and %s", i, d->name, lacks);
	else
		report_add(rep, FOUND_OK, "CUDA", NULL,
			   "cuda:device=%u is %s, %s, %d copy engine%s, compute capability %d.%d; the driver is for CUDA %d.%d", i, d->name,
			   size_print(d->memory, memory), d->copy_engines, d->copy_engines == 1 ? "" : "s", d->major, d->minor,
			   s->version / 1000, s->version % 1000 / 10);
}

void doctor_cuda(struct report *rep)
{
	struct cu_seen *s = calloc(1, sizeof(*s));
	struct cu cu;
	const char *missing = s ? dl_load(&cu, NULL, CU_LIBRARY, false, cu_symbols) : NULL;
	cu_result r = s && !missing ? cu_look(&cu, s) : 0;

	if (!s || missing)
		report_add(rep, FOUND_OK, "CUDA", NULL, "none: no NVIDIA driver, or none that is new enough: %s is missing",
			   missing ? missing : "memory");
	else if (r)
		report_add(rep, FOUND_DEGRADED, "CUDA", "see nvidia-smi(1): is the kernel's module loaded, and of the library's version?",
			   "the driver answers %s (%s)", cu_error_name(&cu, r), cu_error_text(&cu, r));
	else if (s->version < CU_MIN_VERSION)
		report_add(rep, FOUND_DEGRADED, "CUDA", "install a newer NVIDIA driver", "the driver is for CUDA %d.%d, 11.2 is needed",
			   s->version / 1000, s->version % 1000 / 10);
	else if (!s->nr)
		report_add(rep, FOUND_OK, "CUDA", NULL, "none: no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it");
	for (unsigned i = 0; s && i < s->nr; i++)
		list_device(rep, s, i);
	free(s);
}
