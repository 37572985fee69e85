/* SPDX-License-Identifier: MIT */
#ifndef OS_LIBS_H
#define OS_LIBS_H

/* Where the loaded libraries have their data: initialised, zeroed, and what the dynamic loader has written. */

#include <stdbool.h>
#include <stdint.h>

struct lib_data {
	uint64_t start, end; /* whole pages */
	bool own;            /* of this library, or the program that it is part of */
};

/* The writable segments of all libraries, not of the program itself. Return: how many there are; the first @max are in @ret.
 * Context: a thread of the program: it waits for whoever loads a library. */
unsigned libs_data(struct lib_data *ret, unsigned max);

#endif
