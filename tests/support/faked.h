/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAKED_H
#define TESTS_FAKED_H

/*
 * For a test of a driver whose runtime is a library of ours, which fails when it is told to (fake_opencl.h, fake_cuda.h): opened with
 * apart=off, so that driver and test have one instance. Included by one program only, after cmocka.h.
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"
#include "uhmm/driver.h"
#include "uhmm/policy.h"

static struct uhmm_space *space;
static const char *driver, *library;
static _Atomic int32_t *live; /* what the fake has made, and did not get back */

/* "opencl" and the variable that has the library's path. Return: the fake's struct of this name; or NULL, said. */
static inline void *faked_start(const char *driver_name, const char *variable, const char *symbol)
{
	void *lib, *found;

	driver = driver_name;
	library = getenv(variable);
	if (!library)
		support_skip("%s does not name tests/support/%s.c, built", variable, symbol);
	space = open_space_or_skip(NULL);
	support_log_start(UHMM_LOG_ERROR);
	lib = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	found = lib ? dlsym(lib, symbol) : NULL;
	if (!found)
		printf("# %s\n", dlerror());
	return found;
}

/* Valid until the next call. */
static inline const char *spec(const char *options)
{
	static char s[400];

	snprintf(s, sizeof(s), "%s:library=%s,apart=off,%s", driver, library, options);
	return s;
}

static inline struct uhmm_device *open_device(const char *options)
{
	struct uhmm_device *dev = NULL;

	assert_int_equal(uhmm_device_open(space, spec(options), &dev), 0);
	return dev;
}

/* The driver, without uhmm in between. */
static inline const struct uhmm_driver *open_driver(const char *opts, void **ret_ctx)
{
	struct uhmm_driver_props props = { .sz = sizeof(props) };
	const char *options;
	const struct uhmm_driver *d = uhmm_driver_find(spec(opts), &options, NULL, 0);
	char why[300];

	assert_non_null(d);
	assert_int_equal(d->open(options, &props, ret_ctx, why, sizeof(why)), 0);
	return d;
}

/* Opening fails with this errno and a sentence that has these words, and leaves nothing behind. */
static inline void refused(const char *options, int r, const char *words)
{
	struct uhmm_device *dev = NULL;

	support_log_clear();
	assert_int_equal(uhmm_device_open(space, spec(options), &dev), r);
	assert_int_equal(support_log_count(), 1);
	if (!strstr(support_last_log(), words))
		fail_msg("\"%s\" has not \"%s\"", support_last_log(), words);
	assert_int_equal(*live, 0);
}

/* A child is given what is away, and can open no such device. */
static inline void child_is_refused(size_t bytes)
{
	struct uhmm_device *dev = open_device("size=64M");
	char *mem = map_anon(bytes, true, true);
	int status;
	pid_t pid;

	fill_pattern(mem, bytes, 4);
	assert_int_equal(uhmm_to_device(space, mem, bytes, dev, 0, NULL), 0);
	pid = fork();
	if (!pid) {
		struct uhmm_space *own;
		bool good = check_pattern(mem, bytes, 4) == -1 && !uhmm_open(NULL, &own) &&
			    uhmm_device_open(own, spec("size=64M"), &dev) == -ENODEV && strstr(support_last_log(), "fork(2)");

		_exit(!good);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(check_pattern(mem, bytes, 4), -1);
	assert_int_equal(uhmm_device_close(dev), 0);
	unmap_anon(mem, bytes);
}

/* Holds @nr fences at once of copies of @segs, waits for them, and copies once more. Some have to be asynchronous, not all. */
static inline void hold_fences(const struct uhmm_driver *d, void *ctx, const struct uhmm_seg *segs, unsigned nr_segs, unsigned nr)
{
	uint64_t fences[64] = { 0 };
	unsigned asynchronous = 0;

	for (unsigned i = 0; i < nr; i++) {
		assert_int_equal(d->copy_in(ctx, segs, nr_segs, &fences[i]), 0);
		asynchronous += fences[i] != 0;
	}
	assert_true(asynchronous >= 2 && asynchronous < nr);
	for (unsigned i = 0; i < nr; i++)
		assert_true(!fences[i] || !d->fence_wait(ctx, fences[i]));
	fences[0] = 0; /* there are lanes again */
	assert_int_equal(d->copy_in(ctx, segs, nr_segs, &fences[0]), 0);
	assert_true(fences[0] && !d->fence_wait(ctx, fences[0]));
}

#endif
