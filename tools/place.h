/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_PLACE_H
#define TOOLS_PLACE_H

#include <sched.h>

/*
 * Where the threads run decides what a fault costs: a server on the toucher's CPU is there at once, one on another CPU
 * that idles must be woken, which takes a virtual machine ten times as long. Left alone the scheduler does now this, now
 * that. Whoever compares two servers must put both in the same place.
 */
enum placement {
	PLACE_FREE,     /* as the scheduler likes */
	PLACE_ONE_CPU,  /* the caller and all others on one */
	PLACE_TWO_CPUS, /* the caller on one, all others on another */
	NR_PLACEMENTS,
};

/* Place the caller and all other threads of the process, those of the library among them. Where there is one CPU only
 * they are all the same. Return: where a new thread that is none of the caller's kind belongs. */
const cpu_set_t *place_threads(enum placement placement);

#endif
