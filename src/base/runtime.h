/* SPDX-License-Identifier: MIT */
#ifndef BASE_RUNTIME_H
#define BASE_RUNTIME_H

/*
 * The runtimes behind devices, OpenCL or CUDA: opened when the first device is and kept until the process ends, as they do not
 * expect to be opened twice, and a namespace cannot be had back. A child of fork(2) has a copy of its parent's without the
 * threads: it is refused.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/dl.h"
#include "base/spec.h"

#define RUNTIME_MAX 4 /* libraries of one kind */

struct runtime {
	char library[SPEC_PATH_BYTES];
	bool apart;
	void *handle; /* for dlsym(3) */
	void *table;  /* the functions */
};

struct runtime_kind {
	/* constant */
	const char *name, *driver; /* "OpenCL", "opencl:" */
	const char *file;          /* the library that is usually meant */
	const char *is;            /* what that is: "the loader of OpenCL drivers" */
	const char *package;       /* where it comes from: "Debian has it in ..." */
	const char *needed;        /* said when a function is missing: "OpenCL 1.2 is needed" */
	const struct dl_symbol *symbols;
	void *tables;              /* room for RUNTIME_MAX tables: in the data of this library, which is never on a device */
	size_t table_bytes;

	/* guarded by a lock; an entry is constant once it counts */
	struct runtime opened[RUNTIME_MAX];
	unsigned nr;
	pid_t owner; /* who opened the first; 0: nobody */
};

/* Return: 0, or -errno with a sentence: -ENODEV when there is none, -ENOSPC. Context: as dl_load(). */
int runtime_get(struct runtime_kind *kind, const char *library, bool apart, const struct runtime **ret, char *ret_why,
		size_t why_bytes);

/* Calls @fn with all signals blocked: threads that a runtime starts in it keep it so, as the program's handlers are not for them. */
int runtime_quietly(int (*fn)(void *ctx, char *why, size_t why_bytes), void *ctx, char *ret_why, size_t why_bytes);

#endif
