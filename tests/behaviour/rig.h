/* SPDX-License-Identifier: MIT */
#ifndef TESTS_RIG_H
#define TESTS_RIG_H

/* What the programs here stand on: a space, an emu device, and shorthands for what they ask again and again. */

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "support.h"

#define PAGE     ((size_t)4096)
#define BLOCK    (2 * MIB)
#define PAGES(n) ((n) / PAGE)

#define RESULT(name) struct uhmm_result name = { .sz = sizeof(struct uhmm_result) }

static struct uhmm_space *space;
static struct uhmm_device *dev;

/* For what is true a moment after a call or a touch has returned. A test whose moment does not come is ended by its alarm. */
#define eventually(condition)                                                    \
	do {                                                                     \
		waiting_for = __FILE__ ":" LINE_TEXT(__LINE__) ": " #condition "\n"; \
		while (!(condition))                                             \
			sched_yield();                                           \
		waiting_for = "a call that does not return\n";                   \
	} while (0)
#define LINE_TEXT(line)  LINE_TEXT_(line)
#define LINE_TEXT_(line) #line

static const char *volatile waiting_for = "a call that does not return\n";

static inline void too_long(int sig)
{
	ssize_t n = write(STDERR_FILENO, "still waiting for ", 18) + write(STDERR_FILENO, waiting_for, strlen(waiting_for));

	_exit(n < 0 ? 1 : sig);
}

static inline struct uhmm_device *open_device(const char *spec)
{
	struct uhmm_device *d;

	assert_int_equal(uhmm_device_open(space, spec, &d), 0);
	return d;
}

/* For main(): ends the program with 77 where uhmm cannot work. */
static inline void rig_open(const char *spec)
{
	signal(SIGALRM, too_long);
	alarm(110); /* a hang ends here, and not with the whole run */
	space = open_space_or_skip(NULL);
	if (uhmm_device_open(space, spec, &dev))
		exit(1);
}

/* For main(), after the cases. */
static inline int rig_close(int failures)
{
	return uhmm_close(space) || failures;
}

static inline struct uhmm_stats stats(void)
{
	struct uhmm_stats st = { .sz = sizeof(st) };

	assert_int_equal(uhmm_stats(space, &st), 0);
	return st;
}

/* Are children of fork served while their memory stays on the device (else everything comes home first)? */
static inline bool serves_children(void)
{
	struct uhmm_probe host = { .sz = sizeof(host) };

	assert_int_equal(uhmm_probe(&host), 0);
	return host.has_fork_event;
}

static inline struct uhmm_device_info info(struct uhmm_device *d)
{
	struct uhmm_device_info i = { .sz = sizeof(i) };

	assert_int_equal(uhmm_device_query(d, &i), 0);
	return i;
}

static inline uint64_t used_bytes(void) { return info(dev).used_bytes; }

/* How many pages of a range are in a state. */
static inline size_t count_where(const void *mem, size_t bytes, enum uhmm_where where)
{
	uint64_t at = (uintptr_t)mem, end = at + bytes;
	size_t nr, sum = 0;

	while (at < end) {
		struct uhmm_extent ext[8];

		assert_int_equal(uhmm_query(space, (void *)(uintptr_t)at, end - at, ext, 8, &nr), 0);
		assert_true(nr > 0 && nr <= 8);
		for (size_t i = 0; i < nr; i++) {
			assert_true(ext[i].start == at && ext[i].end > at && ext[i].end <= end);
			sum += ext[i].where == where ? PAGES(ext[i].end - ext[i].start) : 0;
			at = ext[i].end;
		}
	}
	return sum;
}

/* On no device, and not on the way from one any more. */
static inline bool all_home(const void *mem, size_t bytes)
{
	return !count_where(mem, bytes, UHMM_WHERE_DEVICE) && !count_where(mem, bytes, UHMM_WHERE_MOVING);
}

static inline bool all_on_device(const void *mem, size_t bytes)
{
	return count_where(mem, bytes, UHMM_WHERE_DEVICE) == PAGES(bytes);
}

static inline void go(void *mem, size_t bytes)
{
	assert_int_equal(uhmm_to_device(space, mem, bytes, dev, 0, NULL), 0);
	assert_true(all_on_device(mem, bytes));
}

static inline void come(void *mem, size_t bytes)
{
	assert_int_equal(uhmm_to_system(space, mem, bytes, 0, NULL), 0);
	assert_int_equal(count_where(mem, bytes, UHMM_WHERE_DEVICE), 0);
}

/* All pages of a migration that went nowhere, or were skipped for the reasons in @why, a bit for each. */
static inline uint64_t skipped(const struct uhmm_result *res, uint32_t why)
{
	uint64_t sum = 0;

	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		sum += why >> k & 1 ? res->skipped_pages[k] : 0;
	return sum;
}

#define ANY_REASON (~0u)

#define assert_pattern(mem, len, seed) assert_int_equal(check_pattern((mem), (len), (seed)), -1)
#define assert_zeros(mem, len)         assert_int_equal(check_zero((mem), (len)), -1)

/* @call is refused with @error, and says so once. */
#define refused(error, call)                              \
	do {                                              \
		support_log_clear();                      \
		assert_int_equal((call), (error));        \
		assert_int_equal(support_log_count(), 1); \
	} while (0)

/* The two ways home: a touch, and uhmm_to_system(). */
enum way { BY_TOUCH, BY_CALL, NR_WAYS };

static inline void go_and_return(void *mem, size_t bytes, uint64_t seed)
{
	for (enum way way = 0; way < NR_WAYS; way++) {
		go(mem, bytes);
		if (way == BY_CALL)
			come(mem, bytes);
		assert_pattern(mem, bytes, seed);
		eventually(all_home(mem, bytes) && used_bytes() == 0);
		assert_int_equal(count_where(mem, bytes, UHMM_WHERE_SYSTEM), PAGES(bytes));
	}
}

#endif
