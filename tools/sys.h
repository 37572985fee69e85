/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_SYS_H
#define TOOLS_SYS_H

#include <stddef.h>
#include <stdint.h>

/* Facts about this machine that the library has no reason to tell. */

#define SYS_NO_LIMIT UINT64_MAX

/* First line of a file, without its newline. Return: 0 or a negative errno. */
int sys_line(const char *path, char *ret, size_t bytes);

/* A field of /proc/meminfo in bytes, 0 if there is none. */
uint64_t sys_meminfo(const char *field);

/* The tightest memory limit of the control groups (v1 or v2) that this process is in. */
uint64_t sys_cgroup_limit(void);

/* CPUs that this process may run on. */
unsigned sys_cpus(void);

#endif
