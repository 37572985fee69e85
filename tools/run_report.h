/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_RUN_REPORT_H
#define TOOLS_RUN_REPORT_H

#include <stddef.h>

#include "tools/run_file.h"

/* One slot as a JSON object on one line, without a newline. Uses no heap. Return: its length, as snprintf() has it. */
int run_report_json(const struct run_file *f, const struct run_slot *s, char *ret, size_t bytes);

/* A process ends: a line on stderr if --verbose, and the file of --stats if it is the run's first process. */
void run_report_end(const struct run_file *f, const struct run_slot *s);

#endif
