/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_BARE_H
#define TOOLS_BARE_H

#include <sched.h>
#include <stdint.h>

#include "tools/crew.h"
#include "tools/region.h"
#include "tools/samples.h"

/*
 * The floor that any user-space pager stands on: a raw userfaultfd, one thread that reads its messages and answers, one
 * thread that touches. No uhmm in it.
 *
 *   REGION_BASE   the answer is UFFDIO_COPY of 4 KiB
 *   REGION_HUGE   the answer is uhmm_copy() of 2 MiB into a THP that is there already, and one UFFDIO_MOVE
 */
struct bare;

/* Room for @bytes, a multiple of 4096, or of 2 MiB. Return: 0, or a negative errno after saying why. */
int bare_open(struct bare **ret, uint64_t bytes, enum region_pages pages);

/* Accepts NULL. */
void bare_close(struct bare *b);

/*
 * Empty the memory, so that it can be touched again. Base pages are dropped. THPs are moved out as uhmm does it - one
 * thread moves some, then @nr members of @crew copy them to their store - and how long that takes is the floor of a way to
 * a device. Return: seconds, or a negative value after saying why.
 */
double bare_empty(struct bare *b, struct crew *crew, unsigned nr);

/* Touch every page once, with the server on @server_cpus, adding the time of each touch in microseconds to @ret_us. All of
 * it must be empty, and is full again afterwards. Return: the time of all together in seconds, or a negative value after
 * saying why. */
double bare_pass(struct bare *b, const cpu_set_t *server_cpus, struct samples *ret_us);

#endif
