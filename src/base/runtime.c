/* SPDX-License-Identifier: MIT */
#include "base/runtime.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Why a library is not open. One that is there, and does not like a namespace, may like the program's. */
static int why_not(const struct runtime_kind *k, const char *library, bool apart, char *why, size_t why_bytes)
{
	const char *said = dlerror();
	bool absent = !said || strstr(said, strerror(ENOENT));

	if (absent && !strcmp(library, k->file))
		return err_why(why, why_bytes, -ENODEV, "%s, %s, cannot be opened (%s)", k->is, library, k->package);
	return err_why(why, why_bytes, -ENODEV, "%s cannot be opened%s: %s%s", library, absent || !apart ? "" : " in a namespace of its own",
		       said ? said : "nobody says why", absent || !apart ? "" : "; apart=off opens it beside the program's libraries");
}

static int load_locked(struct runtime_kind *k, const char *library, bool apart, const struct runtime **ret, char *why,
		       size_t why_bytes)
{
	struct runtime *r = &k->opened[k->nr];
	const char *missing;

	if (k->nr == RUNTIME_MAX)
		return err_why(why, why_bytes, -ENOSPC, "this process has opened %d libraries of %s already", RUNTIME_MAX, k->name);
	r->table = (char *)k->tables + k->nr * k->table_bytes;
	missing = dl_load(r->table, &r->handle, library, apart, k->symbols);
	if (missing == library)
		return why_not(k, library, apart, why, why_bytes);
	if (missing)
		return err_why(why, why_bytes, -ENODEV, "%s has no %s: %s", library, missing, k->needed);
	snprintf(r->library, sizeof(r->library), "%s", library);
	r->apart = apart;
	k->owner = getpid();
	k->nr++;
	*ret = r;
	return 0;
}

int runtime_get(struct runtime_kind *k, const char *library, bool apart, const struct runtime **ret, char *ret_why, size_t why_bytes)
{
	int r = 1;

	pthread_mutex_lock(&lock);
	if (k->owner && k->owner != getpid())
		r = err_why(ret_why, why_bytes, -ENODEV, "%s was used before fork(2), and its threads are not in the child: let "
							 "the child call execve(2), or the parent open no %s before it forks",
			    k->name, k->driver);
	for (unsigned i = 0; r > 0 && i < k->nr; i++)
		if (k->opened[i].apart == apart && !strcmp(k->opened[i].library, library)) {
			*ret = &k->opened[i];
			r = 0;
		}
	if (r > 0)
		r = load_locked(k, library, apart, ret, ret_why, why_bytes);
	pthread_mutex_unlock(&lock);
	return r;
}

int runtime_quietly(int (*fn)(void *ctx, char *why, size_t why_bytes), void *ctx, char *ret_why, size_t why_bytes)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = fn(ctx, ret_why, why_bytes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}
