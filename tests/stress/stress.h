/* SPDX-License-Identifier: MIT */
#ifndef TESTS_STRESS_H
#define TESTS_STRESS_H

/*
 * What the stress programs share: they run for $UHMM_STRESS_SECONDS, draw from $UHMM_SEED, and stop at the first wrong
 * byte. Oracles live in malloc'd memory, which is never migrated.
 */

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define PAGE  ((size_t)4096)
#define BLOCK (2 * MIB)

static atomic_bool stop_now;
static struct uhmm_space *space;

/* The first who finds something wrong says it, with where the page lives now, and ends the program. */
static void __attribute__((noreturn, format(printf, 2, 3))) wrong(const void *at, const char *format, ...)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;
	struct uhmm_extent ext;
	size_t nr = 0;
	va_list args;

	while (atomic_flag_test_and_set(&said))
		pause();
	va_start(args, format);
	fprintf(stderr, "WRONG at %p: ", at);
	vfprintf(stderr, format, args);
	va_end(args);
	if (at && space && !uhmm_query(space, (void *)((uintptr_t)at & ~(PAGE - 1)), PAGE, &ext, 1, &nr) && nr)
		fprintf(stderr, "; the page is now in state %d, order %u", ext.where, ext.order);
	fputc('\n', stderr);
	abort();
}

static inline unsigned stress_seconds(unsigned otherwise)
{
	const char *text = getenv("UHMM_STRESS_SECONDS");

	return text && *text ? (unsigned)strtoul(text, NULL, 0) : otherwise;
}

static inline uint64_t below(uint64_t *state, uint64_t n)
{
	return next_random(state) % n;
}

static inline void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	int err = pthread_create(t, NULL, fn, arg);

	if (err)
		wrong(NULL, "pthread_create: %d", err);
}

/* Lets the threads run, and ends a run that hangs: the alarm is for that only. */
static inline void run_for(unsigned seconds)
{
	uint64_t end = now_ns() + seconds * UINT64_C(1000000000);

	alarm(seconds + 150);
	while (now_ns() < end)
		usleep(50000);
	atomic_store(&stop_now, true);
}

static inline uint64_t between(const uint64_t *folios)
{
	uint64_t sum = 0;

	for (unsigned k = 1; k < UHMM_ORDER_MAX; k++)
		sum += folios[k];
	return sum;
}

static inline void print_stats(void)
{
	struct uhmm_stats st = { .sz = sizeof(st) };

	if (uhmm_stats(space, &st))
		wrong(NULL, "uhmm_stats failed");
	printf("# folios of order 9, between, and 0: to device %llu, %llu, %llu; home %llu, %llu, %llu; faults %llu: %llu, %llu, %llu, "
	       "%llu zero, %llu joined, %llu stale, %llu small\n",
	       (unsigned long long)st.to_device_folios[9], (unsigned long long)between(st.to_device_folios),
	       (unsigned long long)st.to_device_folios[0], (unsigned long long)st.to_system_folios[9],
	       (unsigned long long)between(st.to_system_folios), (unsigned long long)st.to_system_folios[0],
	       (unsigned long long)st.faults, (unsigned long long)st.fault_folios[9], (unsigned long long)between(st.fault_folios),
	       (unsigned long long)st.fault_folios[0],
	       (unsigned long long)st.fault_zero, (unsigned long long)st.fault_joined, (unsigned long long)st.fault_stale,
	       (unsigned long long)st.fault_small);
	printf("# events: %llu remove, %llu unmap, %llu remap; dropped %llu pages; skipped:", (unsigned long long)st.events_remove,
	       (unsigned long long)st.events_unmap, (unsigned long long)st.events_remap, (unsigned long long)st.dropped_pages);
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		if (st.skipped_pages[k])
			printf(" %s %llu", uhmm_skip_name((enum uhmm_skip)k), (unsigned long long)st.skipped_pages[k]);
	printf("\n");
	fflush(stdout);
}

#endif
