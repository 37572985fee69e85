/* SPDX-License-Identifier: MIT */
/*
 * uhmm: the library's command.
 *
 * A word chooses a sub-command from the table below; everything after it is that sub-command's own. What the library
 * has to say to people arrives through its log callback and goes to stderr in the same form as the command's own
 * sentences, so that a reader need not know which of the two spoke.
 */
#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/say.h"
#include "uhmm/uhmm.h"

struct command {
	const char *name;
	const char *summary;
	int (*main)(int argc, char **argv);
	const char *full_name; /* what its own messages begin with */
};

static const struct command commands[] = {
	{ "doctor", "tell what this machine offers, what is missing, and how to mend it", doctor_main, "uhmm doctor" },
	{ "demo", "move real data to a device and back, check it, and show what it took", demo_main, "uhmm demo" },
	{ "bench", "measure: \"thp\", huge folios against base pages; \"floor\", uhmm against the copy alone; "
		   "\"onewalk\", absent memory; \"scale\", large devices", bench_main,
	  "uhmm bench" },
	{ "run", "run a program, unmodified, in less memory than it wants", run_main, "uhmm run" },
	{ "stat", "tell what a process under \"uhmm run\" holds and does", stat_main, "uhmm stat" },
	{ "top", "the same, live, for one run or all", top_main, "uhmm top" },
	{ "dmirror", "run a program that talks to Linux's HMM test device, with two emu devices in its place", dmirror_main,
	  "uhmm dmirror" },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(void)
{
	printf("Usage: uhmm COMMAND [OPTION...]\n"
	       "Heterogeneous memory management in user space.\n\n"
	       "Commands:\n");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		printf("  %-8s %s\n", commands[i].name, commands[i].summary);
	printf("\n"
	       "Options:\n"
	       "  -h, --help     give this help\n"
	       "  -V, --version  tell the version\n\n"
	       "\"uhmm COMMAND --help\" tells more; so do uhmm(1) and uhmm(7).\n"
	       "Exit status: 0 done, 1 failed, 2 wrong usage.\n");
}

static int run(const struct command *cmd, int argc, char **argv)
{
	char name[32];

	snprintf(name, sizeof(name), "%s", cmd->full_name);
	argv[0] = name;
	return cmd->main(argc, argv);
}

static int dispatch(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;

	if (!word) {
		say("a command is needed: \"uhmm --help\" lists them");
		return EXIT_MISUSE;
	}
	if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
		print_help();
		return EXIT_DONE;
	}
	if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
		printf("uhmm %s\n", uhmm_version());
		return EXIT_DONE;
	}
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(word, commands[i].name))
			return run(&commands[i], argc - 1, argv + 1);
	say("there is no command \"%s\": \"uhmm --help\" lists them", word);
	return EXIT_MISUSE;
}

int main(int argc, char **argv)
{
	int status;

	say_hear_library();
	status = dispatch(argc, argv);
	if ((fflush(stdout) || ferror(stdout)) && status == EXIT_DONE) {
		say("the result could not be written to standard output");
		status = EXIT_FAILED;
	}
	return status;
}
