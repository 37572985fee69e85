/* SPDX-License-Identifier: MIT */
#include "os/fail.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	int usual_errno;
} calls[NR_OS_CALLS] = {
	[OS_UFFD_OPEN]  = { "uffd_open", EMFILE },
	[OS_UFFD_API]   = { "uffd_api", EINVAL },
	[OS_REGISTER]   = { "register", ENOMEM },
	[OS_UNREGISTER] = { "unregister", ENOMEM },
	[OS_MOVE]       = { "move", EAGAIN },
	[OS_MOVE_REPORT] = { "move_report", EAGAIN },
	[OS_COPY]       = { "copy", ENOMEM },
	[OS_ZEROPAGE]   = { "zeropage", ENOMEM },
	[OS_WAKE]       = { "wake", EINVAL },
	[OS_POISON]     = { "poison", ENOMEM },
	[OS_PAGEMAP]    = { "pagemap", ENOMEM },
	[OS_PROCMAP]    = { "procmap", ENOMEM },
	[OS_TASKS]      = { "tasks", ENOMEM },
	[OS_MMAP]       = { "mmap", ENOMEM },
	[OS_MADVISE]    = { "madvise", EAGAIN },
	[OS_THREAD]     = { "thread", EAGAIN },
	[OS_THP]        = { "thp", ENOMEM },
};

static const char *const without_names[NR_WITHOUTS] = { "userfaultfd", "privilege",    "move",          "events",
							"poison",      "pagemap_scan", "procmap_query", "thp",
							"fork_event",  "watches_apart" };

atomic_bool fail_armed;
static int fail_call;         /* NR_OS_CALLS: any */
static int fail_errno;        /* 0: the call's usual one */
static atomic_long fail_left; /* calls until it fails; at most 0: it has */
static bool without[NR_WITHOUTS];

static void set_fail(const char *text)
{
	char name[32] = "";
	long n = 0;
	int err = 0;

	if (sscanf(text, "%31[a-z_]:%ld:%d", name, &n, &err) < 2 || n < 1)
		return;
	fail_errno = err;
	fail_call = -1;
	if (!strcmp(name, "any"))
		fail_call = NR_OS_CALLS;
	for (int c = 0; c < NR_OS_CALLS; c++)
		if (!strcmp(name, calls[c].name))
			fail_call = c;
	atomic_store(&fail_left, n);
	atomic_store(&fail_armed, fail_call >= 0);
}

void fail_set(const char *fail, const char *lacking)
{
	atomic_store(&fail_armed, false);
	memset(without, 0, sizeof(without));
	for (int w = 0; lacking && w < NR_WITHOUTS; w++) {
		const char *at = strstr(lacking, without_names[w]);
		size_t len = strlen(without_names[w]);

		without[w] = at && (at == lacking || at[-1] == ',') && (!at[len] || at[len] == ',');
	}
	if (fail)
		set_fail(fail);
}

static void read_environment(void)
{
	fail_set(secure_getenv("UHMM_TEST_FAIL"), secure_getenv("UHMM_TEST_WITHOUT"));
}

void fail_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, read_environment);
}

int fail_check(enum os_call call)
{
	if (fail_call != (int)call && (fail_call != NR_OS_CALLS || call == OS_MOVE_REPORT))
		return 0;
	if (atomic_fetch_sub(&fail_left, 1) != 1)
		return 0;
	return fail_errno ? fail_errno : calls[call].usual_errno;
}

bool os_without(enum os_without what)
{
	return without[what];
}
