/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_PLOT_H
#define TOOLS_PLOT_H

#include "tools/bench.h"

/* A picture of a bench's rows, drawn by gnuplot. What can go wrong is found in plot_open(), before the measuring. */
struct plot;

/* @path: ends in .svg or .png; NULL for no picture. Return: an exit status, after saying why. */
int plot_open(struct plot **ret, const char *path);

/* Accepts NULL and draws nothing then. Return: an exit status, after saying why. */
int plot_draw(struct plot *plot, const struct bench *b);

/* Accepts NULL. An empty picture is taken away. */
void plot_close(struct plot *plot);

#endif
