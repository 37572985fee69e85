/* SPDX-License-Identifier: MIT */
/*
 * Progress is drawn at most twenty times a second, and always at the end of a step: drawing must cost the measurement
 * nothing, so callers call between the timed pieces, and most calls return at once.
 */
#include "tools/term.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/clock.h"
#include "tools/size.h"

#define BAR_CHARS 24
#define REDRAW_NS 50000000u

static atomic_bool line_stands;
static uint64_t drawn_ns;

void term_progress(const char *what, uint64_t done_bytes, uint64_t total_bytes)
{
	char bar[BAR_CHARS + 1], done[SIZE_CHARS], total[SIZE_CHARS];
	uint64_t now = clock_ns();
	size_t full;

	if (!isatty(STDERR_FILENO) || !total_bytes)
		return;
	if (done_bytes < total_bytes && now - drawn_ns < REDRAW_NS)
		return;
	drawn_ns = now;
	full = (size_t)(BAR_CHARS * (double)done_bytes / (double)total_bytes);
	memset(bar, '.', BAR_CHARS);
	memset(bar, '#', full < BAR_CHARS ? full : BAR_CHARS);
	bar[BAR_CHARS] = '\0';
	atomic_store(&line_stands, true);
	fprintf(stderr, "\r%-34s [%s] %s of %s\033[K", what, bar, size_print(done_bytes, done),
		size_print(total_bytes, total));
}

const char *term_wipe(void)
{
	return atomic_exchange(&line_stands, false) ? "\r\033[K" : "";
}

void term_clear(void)
{
	fputs(term_wipe(), stderr);
}
