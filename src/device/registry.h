/* SPDX-License-Identifier: MIT */
#ifndef DEVICE_REGISTRY_H
#define DEVICE_REGISTRY_H

/* The drivers that are known, built-in ones first; the list of those comes from above (src/api/drivers.c). */

#include <stddef.h>

#include "uhmm/driver.h"

/* Return: 0, -EINVAL, -EEXIST, -ENOSPC. */
int registry_add(const struct uhmm_driver *driver);

const struct uhmm_driver *registry_get(unsigned n);

/* The driver that "name:options", "name" or "hook+SPEC" names; @ret_options points into @spec. Return: NULL when there is
 * none, with a sentence in @ret_why. */
const struct uhmm_driver *registry_find(const char *spec, const char **ret_options, char *ret_why, size_t why_bytes);

/* Does @d have @callback? A driver built against an older header is shorter. */
#define driver_has(d, callback) \
	((d)->sz >= offsetof(struct uhmm_driver, callback) + sizeof((d)->callback) && (d)->callback)

/* "emu, file, zstd, faulty+" */
void registry_names(char *ret, size_t bytes);

#endif
