/* SPDX-License-Identifier: MIT */
#ifndef OS_ACCESS_H
#define OS_ACCESS_H

/*
 * Touching memory of the program that may be anything - unmapped at any moment, protected, a file's, away: what a plain load
 * would end the process for is an answer here. Pages that are away come home, as for any system call.
 */

#include <stdint.h>

/* Copies @len bytes at @addr to @to. Return: bytes copied, fewer where a page cannot be read; -errno when none could. */
int64_t access_read(void *to, uint64_t addr, uint64_t len);

/* The same the other way. */
int64_t access_write(uint64_t addr, const void *from, uint64_t len);

#endif
