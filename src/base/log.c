/* SPDX-License-Identifier: MIT */
/*
 * One callback for the whole process, replaced rarely and read anywhere, also in fault threads: a sequence count lets
 * readers have its three words together without a lock. It is odd while they change.
 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

static struct {
	pthread_mutex_t writer;
	_Atomic unsigned seq;
	_Atomic(uhmm_log_fn *) fn;
	void *_Atomic ctx;
	_Atomic int level;
} sink = { .writer = PTHREAD_MUTEX_INITIALIZER };

void log_set(uhmm_log_fn *fn, void *ctx, enum uhmm_log_level level)
{
	pthread_mutex_lock(&sink.writer);
	sink.seq++;
	sink.fn = fn;
	sink.ctx = ctx;
	sink.level = (int)level;
	sink.seq++;
	pthread_mutex_unlock(&sink.writer);
}

static uhmm_log_fn *read_sink(void **ret_ctx, int *ret_level)
{
	uhmm_log_fn *fn;
	unsigned seq;

	do {
		while ((seq = sink.seq) & 1)
			cpu_relax();
		fn = sink.fn;
		*ret_ctx = sink.ctx;
		*ret_level = sink.level;
	} while (sink.seq != seq);
	return fn;
}

#define LINE_BYTES 400

/* Makes @line and gives it to the callback, if there is one that wants it. Return: there is a callback. */
static bool tell(enum uhmm_log_level level, char *line, const char *fmt, va_list ap)
{
	uhmm_log_fn *fn;
	void *ctx;
	int max;

	fn = read_sink(&ctx, &max);
	vsnprintf(line, LINE_BYTES, fmt, ap);
	if (fn && (int)level <= max)
		fn(ctx, level, line);
	return fn;
}

void log_say(enum uhmm_log_level level, const char *fmt, ...)
{
	char line[LINE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	(void)tell(level, line, fmt, ap);
	va_end(ap);
}

_Noreturn void log_die(const char *fmt, ...)
{
	char line[LINE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	if (!tell(UHMM_LOG_ERROR, line, fmt, ap))
		dprintf(STDERR_FILENO, "uhmm: %s\n", line);
	va_end(ap);
	abort();
}
