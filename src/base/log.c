/* SPDX-License-Identifier: MIT */
/*
 * One callback for the whole process. It is replaced rarely and read anywhere, also in fault threads, so the three words
 * are published by the last of them: a reader that sees the new function sees its context and level too. A reader may
 * still be inside the old callback when log_set() returns; the header says so by promising "any thread".
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

static void *_Atomic log_ctx;
static _Atomic int log_level = UHMM_LOG_WARN;
static _Atomic(uhmm_log_fn *) log_fn;

void log_set(uhmm_log_fn *fn, void *ctx, enum uhmm_log_level level)
{
	atomic_store(&log_fn, NULL);
	atomic_store(&log_ctx, ctx);
	atomic_store(&log_level, (int)level);
	atomic_store_explicit(&log_fn, fn, memory_order_release);
}

void log_say(enum uhmm_log_level level, const char *fmt, ...)
{
	uhmm_log_fn *fn = atomic_load_explicit(&log_fn, memory_order_acquire);
	char line[400];
	va_list ap;

	if (!fn || (int)level > atomic_load_explicit(&log_level, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fn(atomic_load_explicit(&log_ctx, memory_order_relaxed), level, line);
}
