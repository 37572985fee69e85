/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_RUN_EXE_H
#define TOOLS_RUN_EXE_H

#include <stddef.h>

/*
 * Finds the program as execvp() would, and looks whether a preload library can work in it.
 * @ret_path: where it is
 * Return: 0; else an exit status - 125, 126 or 127, as env(1) has them - after saying why.
 */
int run_exe_check(const char *program, char *ret_path, size_t bytes);

#define EXIT_NOT_RUN   125 /* uhmm itself could not */
#define EXIT_NO_EXEC   126
#define EXIT_NOT_FOUND 127

#endif
