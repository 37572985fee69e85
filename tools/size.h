/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_SIZE_H
#define TOOLS_SIZE_H

#include <stdint.h>

/* Sizes as people write them: 4096, 64K, 512M, 1.5G; K, M, G and T are powers of 1024. */

#define SIZE_CHARS 24

/* Return: 0, or -EINVAL when the whole of @text is not a size below 2^60. */
int size_parse(const char *text, uint64_t *ret_bytes);

/* "512 MiB", or "1.5 GiB": in the largest unit that fits. Returns @buf. */
const char *size_print(uint64_t bytes, char buf[SIZE_CHARS]);

static inline uint64_t size_round_up(uint64_t bytes, uint64_t unit)
{
	return (bytes + unit - 1) / unit * unit;
}

#endif
