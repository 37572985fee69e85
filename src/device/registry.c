/* SPDX-License-Identifier: MIT */
#include "device/registry.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/lock.h"

#define MAX_DRIVERS 32

static struct {
	struct lock lock;
	const struct uhmm_driver *driver[MAX_DRIVERS];
	unsigned nr;
} known = { .lock = { PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF } };

/* The callbacks of 0.1; a driver built against an older header is shorter and cannot be used. */
static bool complete(const struct uhmm_driver *d)
{
	if (!d || d->sz < sizeof(*d) || !d->name || !*d->name || !d->summary)
		return false;
	for (const char *c = d->name; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != '_')
			return false;
	return d->open && d->close && d->copy_in && d->copy_out;
}

static const struct uhmm_driver *find_locked(const char *name, size_t len)
{
	for (unsigned i = 0; i < known.nr; i++)
		if (strlen(known.driver[i]->name) == len && !memcmp(known.driver[i]->name, name, len))
			return known.driver[i];
	return NULL;
}

int registry_add(const struct uhmm_driver *driver)
{
	int r = 0;

	if (!complete(driver))
		return -EINVAL;
	lock_take(&known.lock);
	if (find_locked(driver->name, strlen(driver->name)))
		r = -EEXIST;
	else if (known.nr == MAX_DRIVERS)
		r = -ENOSPC;
	else
		known.driver[known.nr++] = driver;
	lock_drop(&known.lock);
	return r;
}

const struct uhmm_driver *registry_get(unsigned n)
{
	const struct uhmm_driver *d;

	lock_take(&known.lock);
	d = n < known.nr ? known.driver[n] : NULL;
	lock_drop(&known.lock);
	return d;
}

const struct uhmm_driver *registry_find(const char *spec, const char **ret_options)
{
	const char *colon = strchrnul(spec, ':');
	const struct uhmm_driver *d;

	lock_take(&known.lock);
	d = find_locked(spec, (size_t)(colon - spec));
	lock_drop(&known.lock);
	if (d)
		*ret_options = *colon ? colon + 1 : colon;
	return d;
}

void registry_names(char *ret, size_t bytes)
{
	size_t used = 0;

	ret[0] = '\0';
	lock_take(&known.lock);
	for (unsigned i = 0; i < known.nr && used < bytes; i++)
		used += (size_t)snprintf(ret + used, bytes - used, "%s%s", i ? ", " : "", known.driver[i]->name);
	lock_drop(&known.lock);
}
