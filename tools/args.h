/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_ARGS_H
#define TOOLS_ARGS_H

#include <argp.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * argp with two manners of our own: a mistake is one sentence on stderr and exit status 2, and --help is an option
 * like any other. Every command ends its options with ARGS_COMMON and its parser with "default: return args_common()".
 */
#define ARGS_COMMON \
	{ "help", 'h', NULL, 0, "Give this help", -1 }, \
	{ 0 }

/* What a mistake exits with, if not 2. */
void args_status(int status);

/* Returns only when everything was understood. */
void args_parse(const struct argp *argp, int argc, char **argv, void *input);

/* Leaves argp's remark about long and short options away. */
char *args_help_filter(int key, const char *text, void *input);

error_t args_common(int key, char *arg, struct argp_state *state);

/* Says "uhmm: <the sentence>" and exits. */
_Noreturn void args_wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The values of options: they return only when @arg is right. */
uint64_t args_size(const char *option, const char *arg);
unsigned args_count(const char *option, const char *arg, unsigned max);
pid_t args_pid(const char *arg);

#endif
