/* SPDX-License-Identifier: MIT */
#ifndef BASE_DL_H
#define BASE_DL_H

/*
 * Libraries that are had at run time, if at all: a table of functions is filled in by name. Nothing of theirs is needed to build.
 *
 * One may be opened "apart": in a link namespace of its own, with all it needs and a C library of its own. Its malloc(), its locks
 * and its threads then have nothing to do with the program's; docs/decisions/0009 says why that matters.
 */

#include <stdbool.h>
#include <stddef.h>

struct dl_symbol {
	const char *name; /* NULL ends a list */
	size_t offset;    /* of the function's pointer in the table */
};

/*
 * Opens @file for good, and finds the functions of @ret_table. @ret_library: what dlsym(3) takes; may be NULL.
 * Return: NULL; or what is missing: @file, with dlerror(3) saying why, or the name of a function.
 * Context: a thread of the program. Threads that the library starts inherit the caller's signal mask.
 */
const char *dl_load(void *ret_table, void **ret_library, const char *file, bool apart, const struct dl_symbol *symbols);

#endif
