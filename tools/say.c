/* SPDX-License-Identifier: MIT */
/*
 * Every sentence is one write(2) of one line: the library may speak from a fault thread, where stdio's lock and
 * malloc are forbidden, and two speakers must not mix their words. If a progress line stands on the terminal it is
 * wiped first.
 */
#include "tools/say.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/term.h"
#include "uhmm/error.h"

static atomic_uint nr_library_errors;

static void write_line(const char *sentence)
{
	char line[700];
	int n = snprintf(line, sizeof(line), "%suhmm: %.600s\n", term_wipe(), sentence);
	ssize_t written = write(STDERR_FILENO, line, (size_t)n);

	(void)written; /* there is nobody left to tell */
}

void say(const char *fmt, ...)
{
	char sentence[601];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sentence, sizeof(sentence), fmt, ap);
	va_end(ap);
	write_line(sentence);
}

static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)ctx;
	if (level == UHMM_LOG_ERROR)
		atomic_fetch_add(&nr_library_errors, 1);
	write_line(message);
}

void say_hear_library(void)
{
	uhmm_log_set(hear, NULL, UHMM_LOG_WARN);
}

unsigned say_library_errors(void)
{
	return atomic_load(&nr_library_errors);
}

void say_failed(unsigned errors_before, int r, const char *what)
{
	if (say_library_errors() == errors_before)
		say("%s: %s", what, uhmm_strerror(r));
}
