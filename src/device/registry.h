/* SPDX-License-Identifier: MIT */
#ifndef DEVICE_REGISTRY_H
#define DEVICE_REGISTRY_H

/* The drivers that are known, built-in ones first; the list of those comes from above (src/api/drivers.c). */

#include <stddef.h>

#include "uhmm/driver.h"

/* Return: 0, -EINVAL, -EEXIST, -ENOSPC. */
int registry_add(const struct uhmm_driver *driver);

const struct uhmm_driver *registry_get(unsigned n);

/* The driver that "name:options" or "name" names; @ret_options points into @spec. Return: NULL when there is none. */
const struct uhmm_driver *registry_find(const char *spec, const char **ret_options);

/* "emu, file, zstd" */
void registry_names(char *ret, size_t bytes);

#endif
