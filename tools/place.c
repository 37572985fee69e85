/* SPDX-License-Identifier: MIT */
#include "tools/place.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

static cpu_set_t allowed, others;
static bool asked;

/* A thread that ends meanwhile is none to place. */
static void place_all(const cpu_set_t *set)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;

	if (!tasks)
		return;
	while ((task = readdir(tasks)))
		if (task->d_name[0] != '.')
			(void)sched_setaffinity((pid_t)atoi(task->d_name), sizeof(*set), set);
	closedir(tasks);
}

static int next_allowed(int cpu)
{
	for (int i = 1; i <= CPU_SETSIZE; i++)
		if (CPU_ISSET((cpu + i) % CPU_SETSIZE, &allowed))
			return (cpu + i) % CPU_SETSIZE;
	return cpu;
}

const cpu_set_t *place_threads(enum placement placement)
{
	int here = sched_getcpu();
	cpu_set_t mine;

	if (!asked)
		sched_getaffinity(0, sizeof(allowed), &allowed);
	asked = true;
	mine = others = allowed;
	if (placement != PLACE_FREE && here >= 0) {
		CPU_ZERO(&mine);
		CPU_SET(here, &mine);
		CPU_ZERO(&others);
		CPU_SET(placement == PLACE_TWO_CPUS ? next_allowed(here) : here, &others);
	}
	place_all(&others);
	(void)sched_setaffinity(0, sizeof(mine), &mine);
	return &others;
}
