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

/* What has been added since is optional. */
#define FIRST_SZ offsetof(struct uhmm_driver, host_bytes)

static bool complete(const struct uhmm_driver *d)
{
	if (!d || d->sz < FIRST_SZ || !d->name || !*d->name || !d->summary)
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

static bool is_hook(const struct uhmm_driver *d)
{
	return driver_has(d, flags) && d->flags & UHMM_DRIVER_HOOK;
}

const struct uhmm_driver *registry_find(const char *spec, const char **ret_options, char *ret_why, size_t why_bytes)
{
	size_t len = strcspn(spec, "+:");
	const struct uhmm_driver *d;
	char names[160];

	lock_take(&known.lock);
	d = find_locked(spec, len);
	lock_drop(&known.lock);
	if (!d) {
		registry_names(names, sizeof(names));
		err_why(ret_why, why_bytes, 0, "there is no driver for device \"%.60s\"; the drivers are %s", spec, names);
		return NULL;
	}
	if (is_hook(d) != (spec[len] == '+')) {
		err_why(ret_why, why_bytes, 0, is_hook(d) ? "%s wraps another device: write %s+DEVICE:options" :
			"%s wraps no other device, so no + can follow it", d->name, d->name);
		return NULL;
	}
	*ret_options = spec + len + (spec[len] != '\0');
	return d;
}

void registry_names(char *ret, size_t bytes)
{
	size_t used = 0;

	ret[0] = '\0';
	lock_take(&known.lock);
	for (unsigned i = 0; i < known.nr && used < bytes; i++)
		used += (size_t)snprintf(ret + used, bytes - used, "%s%s%s", i ? ", " : "", known.driver[i]->name,
					 is_hook(known.driver[i]) ? "+" : "");
	lock_drop(&known.lock);
}
