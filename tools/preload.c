/* SPDX-License-Identifier: MIT */
#include "tools/preload.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int preload_find(const char *name, char *ret, size_t bytes)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		snprintf(ret, bytes, "%s/%s", dirname(self), name);
		if (!access(ret, R_OK))
			return 0;
	}
	snprintf(ret, bytes, "%s/%s", UHMM_PRELOAD_DIR, name);
	return access(ret, R_OK);
}

int preload_env(const char *name, const char *first, const char *sep)
{
	const char *others = getenv(name);
	char *list;
	int r;

	if (asprintf(&list, "%s%s%s", first, others && *others ? sep : "", others ? others : "") < 0)
		return -1;
	r = setenv(name, list, 1);
	free(list);
	return r;
}
