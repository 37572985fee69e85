/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_BARE_H
#define TOOLS_BARE_H

#include <sched.h>
#include <stdint.h>

#include "tools/samples.h"

/*
 * The floor that any user-space pager at 4 KiB stands on: a raw userfaultfd, one thread that reads its messages and
 * answers with UFFDIO_COPY of 4 KiB, one thread that touches. No uhmm in it.
 */
struct bare;

/* Room for @bytes, a multiple of 4096. Return: 0, or a negative errno after saying why. */
int bare_open(struct bare **ret, uint64_t bytes);

/* Accepts NULL. */
void bare_close(struct bare *b);

/* Touch every page once, with the server on @server_cpus, adding the time of each touch in microseconds to @ret_us. Return: the time of all together in
 * seconds, or a negative value after saying why. */
double bare_pass(struct bare *b, const cpu_set_t *server_cpus, struct samples *ret_us);

#endif
