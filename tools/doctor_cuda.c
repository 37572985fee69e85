/* SPDX-License-Identifier: MIT */
/*
 * CUDA devices, by the numbers that a spec takes.
 *
 * A child looks, before any device is opened: libcuda reserves addresses when it starts, and may not find them when another one is in
 * the process already. The driver's own is to be the only one here, so that what its line says is so in a program, too.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drivers/cuda/look.h"
#include "tools/doctor.h"
#include "tools/size.h"

/* What the child found; it lies in memory that both have. */
struct found {
	char missing[64]; /* the library or a function; "": none */
	char error[160];  /* what CUDA answers; "": it works */
	struct cu_seen seen;
};

static void look(struct found *ret)
{
	struct cu cu;
	const char *missing = dl_load(&cu, NULL, CU_LIBRARY, false, cu_symbols);
	cu_result r = missing ? CU_SUCCESS : cu_look(&cu, &ret->seen);

	if (missing)
		snprintf(ret->missing, sizeof(ret->missing), "%s", missing);
	if (r)
		snprintf(ret->error, sizeof(ret->error), "%s (%d, %s)", cu_error_name(&cu, r), r, cu_error_text(&cu, r));
}

/* Return: what there is, to be unmapped; or NULL. */
static struct found *look_in_child(void)
{
	struct found *f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 0;
	pid_t pid;

	if (f == MAP_FAILED)
		return NULL;
	pid = fork();
	if (!pid) {
		look(f);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		snprintf(f->error, sizeof(f->error), "nothing: no process can be made to ask it");
	else if (status)
		snprintf(f->error, sizeof(f->error), "nothing: the process that asked it ended with signal %d", WTERMSIG(status));
	return f;
}

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

static void list(struct report *rep, const struct found *f)
{
	const struct cu_seen *s = &f->seen;

	if (*f->missing)
		report_add(rep, FOUND_OK, "CUDA", NULL, "none: no NVIDIA driver, or none that is new enough: %s is missing", f->missing);
	else if (*f->error)
		report_add(rep, FOUND_DEGRADED, "CUDA", "see nvidia-smi(1): is the kernel's module loaded, and of the library's version?",
			   "the driver answers %s", f->error);
	else if (s->version < CU_MIN_VERSION)
		report_add(rep, FOUND_DEGRADED, "CUDA", "install a newer NVIDIA driver", "the driver is for CUDA %d.%d, 11.2 is needed",
			   s->version / 1000, s->version % 1000 / 10);
	else if (!s->nr)
		report_add(rep, FOUND_OK, "CUDA", NULL, "none: no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it");
	for (unsigned i = 0; i < s->nr; i++)
		list_device(rep, s, i);
}

void doctor_cuda(struct report *rep)
{
	struct found *f = look_in_child();

	if (!f)
		return;
	list(rep, f);
	munmap(f, sizeof(*f));
}
