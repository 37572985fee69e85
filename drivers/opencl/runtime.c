/* SPDX-License-Identifier: MIT */
/*
 * Loaders of OpenCL drivers, opened when the first device is and kept until the process ends: drivers do not expect to be
 * opened twice, and a namespace cannot be had back.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "drivers/opencl/opencl.h"

#define MAX_RUNTIMES 4

static struct runtime {
	char library[SPEC_PATH_BYTES];
	bool apart;
	struct cl cl;
} runtimes[MAX_RUNTIMES]; /* guarded by lock; an entry is constant once it counts */
static unsigned nr_runtimes;
static pid_t owner; /* who opened the first; 0: nobody */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool runtime_is_ours(void) { return !owner || owner == getpid(); }

static int load_locked(const char *library, bool apart, const struct cl **ret, char *why, size_t why_bytes)
{
	struct runtime *r = &runtimes[nr_runtimes];
	const char *missing;

	if (nr_runtimes == MAX_RUNTIMES)
		return err_why(why, why_bytes, -ENOSPC, "this process has opened %d OpenCL loaders already", MAX_RUNTIMES);
	missing = cl_load(&r->cl, library, apart);
	if (missing == library && !strcmp(library, CL_LOADER))
		return err_why(why, why_bytes, -ENODEV, "the loader of OpenCL drivers, %s, cannot be opened (Debian has it in %s)",
			       library, CL_LOADER_PACKAGE);
	if (missing == library)
		return err_why(why, why_bytes, -ENODEV, "%s cannot be opened: %s", library, dlerror());
	if (missing)
		return err_why(why, why_bytes, -ENODEV, "%s has no %s: OpenCL 1.2 is needed", library, missing);
	snprintf(r->library, sizeof(r->library), "%s", library);
	r->apart = apart;
	owner = getpid();
	nr_runtimes++;
	*ret = &r->cl;
	return 0;
}

int runtime_get(const char *library, bool apart, const struct cl **ret, char *ret_why, size_t why_bytes)
{
	int r = 1;

	pthread_mutex_lock(&lock);
	if (!runtime_is_ours())
		r = err_why(ret_why, why_bytes, -ENODEV, "OpenCL was used before fork(2), and its threads are not in the child: let "
							 "the child call execve(2), or the parent open no opencl: before it forks");
	for (unsigned i = 0; r > 0 && i < nr_runtimes; i++)
		if (runtimes[i].apart == apart && !strcmp(runtimes[i].library, library)) {
			*ret = &runtimes[i].cl;
			r = 0;
		}
	if (r > 0)
		r = load_locked(library, apart, ret, ret_why, why_bytes);
	pthread_mutex_unlock(&lock);
	return r;
}
