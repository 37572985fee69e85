/* SPDX-License-Identifier: MIT */
#ifndef OS_ACCESS_H
#define OS_ACCESS_H

/*
 * Touching memory of the program that may be anything - unmapped at any moment, protected, a file's, away: what a plain load
 * would end the process for is an answer here. Pages that are away come home, as for any system call.
 */

#include <stdbool.h>
#include <stdint.h>

/* Copies @len bytes at @addr to @to. Return: bytes copied, fewer where a page cannot be read; -errno when none could. */
int64_t access_read(void *to, uint64_t addr, uint64_t len);

/* The same the other way. */
int64_t access_write(uint64_t addr, const void *from, uint64_t len);

/*
 * Faults in every page of [addr, addr + len) - page aligned - as a load or a store of each would, but without one.
 * Return: 0; -ENOMEM unmapped, or no memory; -EFAULT a page that cannot be had; -EINVAL protected, or of a special kind; -EAGAIN.
 */
int access_populate(uint64_t addr, uint64_t len, bool write);

#endif
