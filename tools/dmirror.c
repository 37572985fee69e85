/* SPDX-License-Identifier: MIT */
/* uhmm dmirror: runs a program with the preload library that serves Linux's HMM test device (dmirror_preload.c). */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/args.h"
#include "tools/cmd.h"
#include "tools/preload.h"
#include "tools/say.h"

#define LIBRARY "libuhmm-dmirror.so"

/* as env(1) has it */
#define EXIT_NOT_RUN   125
#define EXIT_NO_EXEC   126
#define EXIT_NOT_FOUND 127

static int verbose;

static error_t parse(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 'v':
		verbose = 1;
		return 0;
	case ARGP_KEY_ARG:
		state->next--; /* the program, and all that follows is its own */
		state->next = state->next < 0 ? 0 : state->next;
		*(char ***)state->input = &state->argv[state->next];
		state->next = state->argc;
		return 0;
	default:
		return args_common(key, arg, state);
	}
}

static const struct argp_option options[] = {
	{ "verbose", 'v', NULL, 0, "Let the library's warnings be heard on standard error", 0 },
	ARGS_COMMON
};

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[--] PROGRAM [ARGUMENT...]",
	.doc = "Runs a program that talks to Linux's HMM test device: /dev/hmm_dmirror0 and 1 are served by two emu devices.\v"
	       "The exit status is the program's; 125 when it was not run, 126 when it cannot be executed, 127 when there is none.",
	.help_filter = args_help_filter,
};

int dmirror_main(int argc, char **argv)
{
	char library[PATH_MAX + 32];
	char **program = NULL;

	args_parse(&argp, argc, argv, &program);
	if (!program)
		args_wrong("dmirror needs a program to run: uhmm dmirror -- PROGRAM");
	if (preload_find(LIBRARY, library, sizeof(library))) {
		say("%s is neither beside this command nor in %s: is the installation whole?", LIBRARY, UHMM_PRELOAD_DIR);
		return EXIT_NOT_RUN;
	}
	if (preload_env("LD_PRELOAD", library, ":") || (verbose && setenv("UHMM_DMIRROR_VERBOSE", "1", 1))) {
		say("the environment cannot be set: %s", strerror(errno));
		return EXIT_NOT_RUN;
	}
	execvp(program[0], program);
	say("%s cannot be run: %s", program[0], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NO_EXEC;
}
