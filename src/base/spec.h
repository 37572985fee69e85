/* SPDX-License-Identifier: MIT */
#ifndef BASE_SPEC_H
#define BASE_SPEC_H

/*
 * The options of a device spec, "key=value,key=value": a driver lists its keys with their kinds, and one walk fills in
 * its struct or says which key was wrong.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum spec_kind {
	SPEC_SIZE,  /* 4096, 64K, 1G, 1.5G -> uint64_t bytes */
	SPEC_TIME,  /* 500ns, 20us, 1.5ms, 1s -> uint64_t nanoseconds */
	SPEC_COUNT, /* 3 -> uint64_t */
	SPEC_BOOL,  /* on, off, 1, 0 -> uint64_t 0 or 1 */
	SPEC_WORD,  /* any text without a comma -> char[32] */
	SPEC_PATH,  /* a longer one -> char[256] */
};

#define SPEC_WORD_BYTES 32
#define SPEC_PATH_BYTES 256

struct spec_key {
	const char *name; /* NULL ends a list */
	enum spec_kind kind;
	size_t offset;    /* of the field in the caller's struct */
};

/* Return: 0, or -EINVAL with a sentence in @ret_why that names key, value and what would be right. */
int spec_parse(const char *options, const struct spec_key *keys, void *fields, char *ret_why, size_t why_bytes);

/* Return: 0 or -EINVAL. The whole of @text must be the value. */
int spec_parse_value(const char *text, enum spec_kind kind, void *ret_value);

/* Whether @text, a number or a part of a name, means what has this number and name. Nothing means everything. */
static inline bool spec_means(const char *text, unsigned number, const char *name)
{
	if (text[strspn(text, "0123456789")])
		return strcasestr(name, text);
	return !*text || strtoul(text, NULL, 10) == number;
}

#endif
