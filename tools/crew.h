/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_CREW_H
#define TOOLS_CREW_H

#include <stdint.h>

/* Threads that are there before the measuring begins, and share one job at a time with the caller. */

#define CREW_MAX 64

struct crew;

/* A member's part: @index of @nr members. */
typedef void crew_job(void *arg, unsigned index, unsigned nr);

/* @nr: the caller included, 1..CREW_MAX. Return: 0, or a negative errno after saying why. */
int crew_create(struct crew **ret, unsigned nr);

/* Accepts NULL. */
void crew_destroy(struct crew *crew);

/* Let @nr members, the caller among them, do @job. Return: seconds until the last has ended. */
double crew_run(struct crew *crew, unsigned nr, crew_job *job, void *arg);

/* uhmm_copy() by @nr members, in pieces of 2 MiB. @bytes: a multiple of 4096. Return: seconds. */
double crew_copy(struct crew *crew, unsigned nr, void *dst, const void *src, uint64_t bytes);

#endif
