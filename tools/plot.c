/* SPDX-License-Identifier: MIT */
/*
 * gnuplot reads its commands from a pipe and writes the picture to the file that is its standard output: so no
 * file name has to be quoted for it, and a path that cannot be written is known before anything is measured.
 */
#include "tools/plot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/say.h"

extern char **environ;

struct plot {
	const char *path;
	const char *terminal; /* gnuplot commands that choose one */
	int fd;
};

static const char svg_terminal[] = "set terminal svg size 960,600 dynamic font 'sans,14' background 'white'\n";
static const char png_terminal[] = "if (strstrt(GPVAL_TERMINALS, 'pngcairo') > 0) {\n"
				   "set terminal pngcairo size 960,600 font 'sans,11'\n"
				   "} else {\nset terminal png size 960,600\n}\n";

static bool have_gnuplot(void)
{
	const char *path = getenv("PATH"), *end;
	char file[1024];

	for (; path && *path; path = *end ? end + 1 : end) {
		end = strchrnul(path, ':');
		snprintf(file, sizeof(file), "%.*s/gnuplot", (int)(end - path), path);
		if (!access(file, X_OK))
			return true;
	}
	return false;
}

static const char *terminal_for(const char *path)
{
	const char *suffix = strrchr(path, '.');

	if (suffix && !strcmp(suffix, ".svg"))
		return svg_terminal;
	if (suffix && !strcmp(suffix, ".png"))
		return png_terminal;
	return NULL;
}

int plot_open(struct plot **ret, const char *path)
{
	struct plot plot = { .path = path };

	if (!path)
		return EXIT_DONE;
	plot.terminal = terminal_for(path);
	if (!plot.terminal) {
		say("--plot=%s says no format: let the name end in .svg or .png", path);
		return EXIT_MISUSE;
	}
	if (!have_gnuplot()) {
		say("--plot needs gnuplot, which is not installed: install it (apt-get install gnuplot-nox) or leave --plot away");
		return EXIT_FAILED;
	}
	plot.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (plot.fd < 0) {
		say("%s cannot be written: %s", path, strerror(errno));
		return EXIT_FAILED;
	}
	*ret = malloc(sizeof(plot));
	if (!*ret) {
		close(plot.fd);
		say("there is no memory for a picture");
		return EXIT_FAILED;
	}
	**ret = plot;
	return EXIT_DONE;
}

void plot_close(struct plot *plot)
{
	struct stat st;

	if (!plot)
		return;
	if (!fstat(plot->fd, &st) && S_ISREG(st.st_mode) && !st.st_size)
		unlink(plot->path);
	close(plot->fd);
	free(plot);
}

/* Does the kind of pages follow from the size? */
static bool any_pages(const struct bench *b)
{
	return !strcmp(b->name, "device");
}

/* A curve is every row with the same direction, pages and threads. */
static bool same_curve(const struct bench *b, size_t i, size_t j)
{
	const struct row *x = &b->rows[i], *y = &b->rows[j];

	return !strcmp(x->dir, y->dir) && x->threads == y->threads && (any_pages(b) || !strcmp(x->pages, y->pages));
}

static bool is_first_of_curve(const struct bench *b, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (same_curve(b, j, i))
			return false;
	return true;
}

static void write_curve(FILE *f, const struct bench *b, size_t first)
{
	fprintf(f, "$curve%zu << END\n", first);
	for (size_t i = first; i < b->nr_rows; i++)
		if (same_curve(b, first, i))
			fprintf(f, "%.6f %.6f\n", (double)b->rows[i].size_bytes / 0x1p20, b->rows[i].gib_s);
	fprintf(f, "END\n");
}

static void write_script(FILE *f, const struct plot *plot, const struct bench *b)
{
	const char *comma = "";

	fprintf(f, "%sset output\nset logscale x 2\nset logscale y 10\nset grid\nset key outside right noenhanced\n",
		plot->terminal);
	fprintf(f, "set title 'uhmm bench %s' noenhanced\nset xlabel '%s, MiB'\nset ylabel 'GiB/s'\n", b->name, b->sizes);
	for (size_t i = 0; i < b->nr_rows; i++)
		if (is_first_of_curve(b, i))
			write_curve(f, b, i);
	fprintf(f, "plot ");
	for (size_t i = 0; i < b->nr_rows; i++) {
		if (!is_first_of_curve(b, i))
			continue;
		fprintf(f, "%s$curve%zu using 1:2 with linespoints title '%s, %s%s%u thread%s'", comma, i, b->rows[i].dir,
			any_pages(b) ? "" : b->rows[i].pages, any_pages(b) ? "" : ", ", b->rows[i].threads,
			b->rows[i].threads == 1 ? "" : "s");
		comma = ", ";
	}
	fprintf(f, "\n");
}

/* Return: 0 with the child and a stream to its standard input, or a positive errno. */
static int start_gnuplot(const struct plot *plot, pid_t *ret_child, FILE **ret_script)
{
	char *argv[] = { (char *)"gnuplot", NULL };
	posix_spawn_file_actions_t actions;
	int ends[2], err;

	if (pipe2(ends, O_CLOEXEC))
		return errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, plot->fd, STDOUT_FILENO);
	err = posix_spawnp(ret_child, "gnuplot", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[0]);
	if (err) {
		close(ends[1]);
		return err;
	}
	*ret_script = fdopen(ends[1], "w");
	if (*ret_script)
		return 0;
	close(ends[1]);
	return ENOMEM;
}

int plot_draw(struct plot *plot, const struct bench *b)
{
	int err, status = 0;
	FILE *script = NULL;
	pid_t child;

	if (!plot)
		return EXIT_DONE;
	signal(SIGPIPE, SIG_IGN); /* gnuplot may end early; its exit status tells */
	err = start_gnuplot(plot, &child, &script);
	if (err) {
		say("gnuplot cannot be started: %s", strerror(err));
		return EXIT_FAILED;
	}
	write_script(script, plot, b);
	fclose(script);
	if (waitpid(child, &status, 0) < 0 || status) {
		say("gnuplot failed to draw %s; what it said stands above", plot->path);
		return EXIT_FAILED;
	}
	return EXIT_DONE;
}
