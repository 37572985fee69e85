/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_PRELOAD_H
#define TOOLS_PRELOAD_H

/* For the commands that run a program with a library of ours in it. */

#include <stddef.h>

/* The file @name: beside this command, as in a build, or where it was installed. Return: 0 or -1. */
int preload_find(const char *name, char *ret, size_t bytes);

/* Puts @first before what the environment has under @name, with @sep between. Return: 0 or -1. */
int preload_env(const char *name, const char *first, const char *sep);

#endif
