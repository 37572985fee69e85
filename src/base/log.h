/* SPDX-License-Identifier: MIT */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>

#include "uhmm/error.h"

/* The library does not print: sentences go to the callback of uhmm_log_set(), whole, without a newline. Safe in a fault
 * thread: no allocation, a bounded buffer on the stack (longer sentences are cut at 400 bytes). */
void log_say(enum uhmm_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The last words before abort(). With no callback they go to stderr: nothing else would tell what happened. */
_Noreturn void log_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Says it the first time only; @once is a static flag of the place that calls. */
#define log_once(level, ...) \
	do { \
		static atomic_bool said_; \
		if (!atomic_exchange_explicit(&said_, true, memory_order_relaxed)) \
			log_say(level, __VA_ARGS__); \
	} while (0)

void log_set(uhmm_log_fn *fn, void *ctx, enum uhmm_log_level level);

#endif
