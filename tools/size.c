/* SPDX-License-Identifier: MIT */
#include "tools/size.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char units[] = "KMGT";

/* What stands after the number: "", "B", or K, M, G, T with nothing, "B" or "iB" behind. */
static double unit_factor(const char *suffix)
{
	const char *unit = *suffix ? strchr(units, *suffix) : NULL;
	double factor = 1;

	if (!*suffix || !strcmp(suffix, "B"))
		return 1;
	if (!unit || (suffix[1] && strcmp(suffix + 1, "B") && strcmp(suffix + 1, "iB")))
		return 0;
	for (const char *u = units; u <= unit; u++)
		factor *= 1024;
	return factor;
}

int size_parse(const char *text, uint64_t *ret_bytes)
{
	double value, factor;
	char *suffix;

	if (*text < '0' || *text > '9' || text[1] == 'x' || text[1] == 'X')
		return -EINVAL;
	value = strtod(text, &suffix);
	factor = unit_factor(suffix);
	if (factor == 0 || !(value * factor < 0x1p60))
		return -EINVAL;
	*ret_bytes = (uint64_t)(value * factor);
	return 0;
}

const char *size_print(uint64_t bytes, char buf[SIZE_CHARS])
{
	double value = (double)bytes;
	const char *unit = "";

	while (value >= 1024 && (!*unit || unit[1])) {
		value /= 1024;
		unit = *unit ? unit + 1 : units;
	}
	if (!*unit)
		snprintf(buf, SIZE_CHARS, "%.0f B", value);
	else
		snprintf(buf, SIZE_CHARS, "%.*f %ciB", value == (double)(uint64_t)value ? 0 : 1, value, *unit);
	return buf;
}
