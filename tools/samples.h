/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_SAMPLES_H
#define TOOLS_SAMPLES_H

#include <stddef.h>

/* A fixed number of measurements, made room for before the measuring begins. */
struct samples {
	double *value;
	size_t nr, room;
};

/* Return: 0 or -ENOMEM, after saying so. */
int samples_init(struct samples *s, size_t room);

/* Accepts a zeroed one. */
void samples_fini(struct samples *s);

/* What does not fit is left out. */
static inline void samples_add(struct samples *s, double value)
{
	if (s->nr < s->room)
		s->value[s->nr++] = value;
}

/*
 * Add up what came after the first @from of @s in groups of @group and add each sum to @ret: 512 touches of 4 KiB
 * become one 2 MiB. If there are fewer than @group, they count as if there were as many. @s must not have been
 * sorted.
 */
void samples_fold(const struct samples *s, size_t from, size_t group, struct samples *ret);

double samples_sum(const struct samples *s);
double samples_mean(const struct samples *s);

/* Nearest rank: samples_at(s, 0.99) is the value that 99 % do not exceed. Sorts. 0 when there are none. */
double samples_at(struct samples *s, double rank);

#endif
