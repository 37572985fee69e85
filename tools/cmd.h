/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_CMD_H
#define TOOLS_CMD_H

/* The sub-commands. Each takes its own words only - argv[0] is "uhmm doctor" - and returns one of the exit statuses. */

enum {
	EXIT_DONE   = 0,
	EXIT_FAILED = 1, /* it was tried and did not work, or this host lacks something */
	EXIT_MISUSE = 2, /* what was typed cannot be meant */
};

int doctor_main(int argc, char **argv);
int demo_main(int argc, char **argv);
int bench_main(int argc, char **argv);
int dmirror_main(int argc, char **argv);
int run_main(int argc, char **argv);
int stat_main(int argc, char **argv);
int top_main(int argc, char **argv);

#endif
