/* SPDX-License-Identifier: MIT */
#include "base/spec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

struct unit {
	const char *suffix;
	double factor;
};

static const struct unit size_units[] = {
	{ "", 1 }, { "B", 1 },
	{ "K", 0x1p10 }, { "KiB", 0x1p10 }, { "M", 0x1p20 }, { "MiB", 0x1p20 },
	{ "G", 0x1p30 }, { "GiB", 0x1p30 }, { "T", 0x1p40 }, { "TiB", 0x1p40 },
};
static const struct unit time_units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 } };
static const struct unit count_units[] = { { "", 1 } };

static const char *const kind_hints[] = {
	[SPEC_SIZE]  = "a size such as 64K, 512M or 1G",
	[SPEC_TIME]  = "a time such as 500ns, 20us or 1ms",
	[SPEC_COUNT] = "a whole number",
	[SPEC_BOOL]  = "on or off",
	[SPEC_WORD]  = "a word of at most 31 letters",
	[SPEC_PATH]  = "a path of at most 255 letters",
};

/* Digits, perhaps a point and more digits, whatever the locale's idea of a point. Return: what follows. */
static const char *read_decimal(const char *text, double *ret)
{
	double v = 0, place = 1;

	for (; *text >= '0' && *text <= '9'; text++)
		v = v * 10 + (*text - '0');
	if (*text == '.')
		for (text++; *text >= '0' && *text <= '9'; text++)
			v += (*text - '0') * (place /= 10);
	*ret = v;
	return text;
}

static int parse_number(const char *text, const struct unit *units, size_t nr_units, uint64_t *ret)
{
	const char *end;
	double v;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	end = read_decimal(text, &v);
	for (size_t i = 0; i < nr_units; i++) {
		if (strcmp(end, units[i].suffix))
			continue;
		v *= units[i].factor;
		if (!(v >= 0 && v < 0x1p63))
			return -EINVAL;
		*ret = (uint64_t)v;
		return 0;
	}
	return -EINVAL;
}

int spec_parse_value(const char *text, enum spec_kind kind, void *ret_value)
{
	switch (kind) {
	case SPEC_SIZE:
		return parse_number(text, size_units, ARRAY_LEN(size_units), ret_value);
	case SPEC_TIME:
		return parse_number(text, time_units, ARRAY_LEN(time_units), ret_value);
	case SPEC_COUNT:
		if (strspn(text, "0123456789") != strlen(text))
			return -EINVAL;
		return parse_number(text, count_units, ARRAY_LEN(count_units), ret_value);
	case SPEC_BOOL:
		if (strcmp(text, "on") && strcmp(text, "1") && strcmp(text, "off") && strcmp(text, "0"))
			return -EINVAL;
		*(uint64_t *)ret_value = !strcmp(text, "on") || !strcmp(text, "1");
		return 0;
	case SPEC_WORD:
	case SPEC_PATH:
		if (!*text || strlen(text) >= (kind == SPEC_WORD ? SPEC_WORD_BYTES : SPEC_PATH_BYTES))
			return -EINVAL;
		strcpy(ret_value, text);
		return 0;
	}
	return -EINVAL;
}

static void list_keys(const struct spec_key *keys, char *ret, size_t bytes)
{
	size_t used = 0;

	ret[0] = '\0';
	for (const struct spec_key *k = keys; k->name && used < bytes; k++)
		used += (size_t)snprintf(ret + used, bytes - used, "%s%s", k == keys ? "" : ", ", k->name);
}

static int parse_one(char *item, const struct spec_key *keys, void *fields, char *why, size_t why_bytes)
{
	char *value = strchr(item, '=');
	char known[200];

	if (!value)
		return err_why(why, why_bytes, -EINVAL, "option \"%s\" has no value; write %s=...", item, item);
	*value++ = '\0';
	for (const struct spec_key *k = keys; k->name; k++) {
		if (strcmp(k->name, item))
			continue;
		if (!spec_parse_value(value, k->kind, (char *)fields + k->offset))
			return 0;
		return err_why(why, why_bytes, -EINVAL, "%s=%s is not %s", item, value, kind_hints[k->kind]);
	}
	list_keys(keys, known, sizeof(known));
	return err_why(why, why_bytes, -EINVAL, "there is no option \"%s\"; the options are %s", item, known);
}

int spec_parse(const char *options, const struct spec_key *keys, void *fields, char *ret_why, size_t why_bytes)
{
	char copy[512], *rest = copy, *item;
	int r;

	if (strlen(options) >= sizeof(copy))
		return err_why(ret_why, why_bytes, -EINVAL, "the options are longer than %zu bytes", sizeof(copy) - 1);
	strcpy(copy, options);
	if (!*copy)
		return 0;
	while ((item = strsep(&rest, ","))) {
		r = parse_one(item, keys, fields, ret_why, why_bytes);
		if (r)
			return r;
	}
	return 0;
}
