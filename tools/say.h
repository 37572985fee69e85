/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_SAY_H
#define TOOLS_SAY_H

/* Sentences for people, on stderr, each one line that begins with "uhmm: ". */

void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Hear the library's errors and warnings, too. */
void say_hear_library(void);

/* How many errors the library has told so far: a caller that sees the count grow need not repeat them. */
unsigned say_library_errors(void);

/* @what failed with the library's outcome @r; quiet if the library has told more than @errors_before errors. */
void say_failed(unsigned errors_before, int r, const char *what);

#endif
