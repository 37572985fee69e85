/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_TERM_H
#define TOOLS_TERM_H

#include <stdint.h>

/* One line of progress, rewritten in place; nothing at all unless stderr is a terminal. */

void term_progress(const char *what, uint64_t done_bytes, uint64_t total_bytes);

/* Take the line away. */
void term_clear(void);

/* What wipes a line that stands on the terminal now, or "". Context: any thread. */
const char *term_wipe(void);

#endif
