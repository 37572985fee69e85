/* SPDX-License-Identifier: MIT */
#include "tools/samples.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/say.h"

int samples_init(struct samples *s, size_t room)
{
	s->nr = 0;
	s->room = room;
	s->value = malloc(room * sizeof(double));
	if (!s->value) {
		say("there is no memory for %zu measurements", room);
		return -ENOMEM;
	}
	memset(s->value, 0xff, room * sizeof(double)); /* touched now, not while something is timed */
	return 0;
}

void samples_fini(struct samples *s)
{
	free(s->value);
	memset(s, 0, sizeof(*s));
}

void samples_fold(const struct samples *s, size_t from, size_t group, struct samples *ret)
{
	size_t real = s->nr - from < group ? s->nr - from : group;

	for (size_t i = from; real && i + real <= s->nr; i += real) {
		struct samples part = { .value = s->value + i, .nr = real };

		samples_add(ret, samples_sum(&part) * (double)group / (double)real);
	}
}

double samples_sum(const struct samples *s)
{
	double sum = 0;

	for (size_t i = 0; i < s->nr; i++)
		sum += s->value[i];
	return sum;
}

double samples_mean(const struct samples *s)
{
	return s->nr ? samples_sum(s) / (double)s->nr : 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double samples_at(struct samples *s, double rank)
{
	size_t i;

	if (!s->nr)
		return 0;
	qsort(s->value, s->nr, sizeof(double), by_value);
	i = (size_t)(rank * (double)s->nr);
	if ((double)i == rank * (double)s->nr && i)
		i--;
	return s->value[i < s->nr ? i : s->nr - 1];
}
