/* SPDX-License-Identifier: MIT */
/*
 * uhmm top: every second a table of the processes under `uhmm run`, with what has happened since the last one. Only files are
 * read; no process is stopped or asked.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/args.h"
#include "tools/cmd.h"
#include "tools/run_file.h"
#include "tools/run_report.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/sys.h"

#define MAX_SEEN 1024

struct wish {
	pid_t pid;
	unsigned count;    /* tables; 0: until it is stopped */
	double delay;
};

/* What a process had told a table ago. */
struct seen {
	int64_t pid;
	uint64_t now_ns, evicted, came_home, faults;
};

struct table {
	const struct wish *wish;
	struct seen seen[MAX_SEEN];
	unsigned nr_seen;
};

enum { KEY_COUNT = 'n', KEY_DELAY = 'd' };

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct wish *w = state->input;
	char *end;

	switch (key) {
	case KEY_COUNT:
		w->count = args_count("--count", arg, 1000000);
		return 0;
	case KEY_DELAY:
		w->delay = strtod(arg, &end);
		if (*end || !(w->delay >= 0.1 && w->delay <= 3600))
			args_wrong("--delay=%s is out of range: write seconds from 0.1 to 3600", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (w->pid)
			return ARGP_ERR_UNKNOWN;
		w->pid = args_pid(arg);
		return 0;
	default:
		return args_common(key, arg, state);
	}
}

static const struct argp_option options[] = {
	{ "count", KEY_COUNT, "N", 0, "End after N tables", 0 },
	{ "delay", KEY_DELAY, "SECONDS", 0, "Time from one table to the next (default: 1)", 0 },
	ARGS_COMMON
};

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[PID]",
	.doc = "Shows the processes under \"uhmm run\", or one of them, live.",
	.help_filter = args_help_filter,
};

static struct seen *seen_of(struct table *t, int64_t pid)
{
	for (unsigned i = 0; i < t->nr_seen; i++)
		if (t->seen[i].pid == pid)
			return &t->seen[i];
	if (t->nr_seen == MAX_SEEN)
		t->nr_seen = 0;
	t->seen[t->nr_seen] = (struct seen){ .pid = pid };
	return &t->seen[t->nr_seen++];
}

static double rate(uint64_t now, uint64_t before, double seconds)
{
	return now > before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

/* One line for 64 cells. */
static void print_map(const struct run_file *f, const struct run_slot *s)
{
	uint64_t nr = run_get(&s->map_cells);
	char size[SIZE_CHARS];

	if (!nr || nr > RUN_MAP_CELLS)
		return;
	printf("%8s a character for %s: %c in RAM, %c nothing", "", size_print(run_get(&s->map_cell_bytes), size), RUN_MAP_HOME,
	       RUN_MAP_HOLE);
	for (unsigned i = 0; i < f->nr_devices; i++)
		printf(", %c %s", i < 9 ? '1' + (int)i : 'a' + (int)i - 9, f->spec[i]);
	for (uint64_t i = 0; i < nr; i++) {
		char c = atomic_load_explicit(&s->map[i], memory_order_relaxed);

		if (i % 64 == 0)
			printf("\n%8s ", "");
		putchar(c > ' ' && c <= '~' ? c : '?');
	}
	putchar('\n');
}

static void row(struct table *t, const struct run_file *f, struct run_slot *s)
{
	char name[32] = "?", path[64], resident[SIZE_CHARS], limit[SIZE_CHARS], away[SIZE_CHARS];
	struct seen *before = seen_of(t, atomic_load(&s->pid)), now = {
		atomic_load(&s->pid), run_get(&s->now_ns), run_get(&s->evicted), run_get(&s->came_home), run_get(&s->faults),
	};
	uint64_t bytes = 0, busy = run_get(&s->busy_device), since = before->now_ns ? before->now_ns : run_get(&s->began_ns);
	double seconds = (double)(now.now_ns - since) / 1e9;

	for (unsigned i = 0; i < f->nr_devices; i++)
		bytes += run_get(&s->used[i]);
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)now.pid);
	(void)sys_line(path, name, sizeof(name));
	printf("%8d %-15s %10s %10s %10s %9.0f %8.3f %8.3f %8.1f %8.1f\n", (int)now.pid, name, size_print(run_get(&s->resident), resident),
	       size_print(run_get(&s->limit) ? run_get(&s->limit) : f->limit, limit), size_print(bytes, away),
	       rate(now.faults, before->faults, seconds), rate(now.evicted, before->evicted, seconds) / 1e9,
	       rate(now.came_home, before->came_home, seconds) / 1e9, (double)run_get(&s->fault_ns_p50) / 1e3,
	       (double)run_get(&s->fault_ns_p99) / 1e3);
	if (t->wish->pid)
		for (unsigned i = 0; i < f->nr_devices; i++)
			printf("%8s %-36s %10s of %s\n", "", f->spec[i], size_print(run_get(&s->used[i]), away),
			       size_print(run_get(&s->size[i]), limit));
	if (t->wish->pid && f->nr_devices > 1)
		printf("%8s %-36s %10s\n", "", "moved on", size_print(run_get(&s->onward), away));
	if (busy && busy <= f->nr_devices && run_get(&s->busy_ns) > RUN_STALL_NS)
		printf("%8s %s has not answered for %.1f s\n", "", f->spec[busy - 1], (double)run_get(&s->busy_ns) / 1e9);
	if (t->wish->pid)
		print_map(f, s);
	*before = now;
}

static void rows(void *ctx, struct run_file *f, const char *path)
{
	struct table *t = ctx;

	(void)path;
	for (unsigned i = 0; i < RUN_SLOTS; i++)
		if ((!t->wish->pid || atomic_load(&f->slot[i].pid) == t->wish->pid) && run_slot_lives(&f->slot[i]))
			row(t, f, &f->slot[i]);
}

static void draw(struct table *t, bool terminal)
{
	if (terminal)
		fputs("\033[H\033[2J", stdout);
	printf("%8s %-15s %10s %10s %10s %9s %8s %8s %8s %8s\n", "PID", "PROGRAM", "RESIDENT", "LIMIT", "AWAY", "FAULTS/s", "GB/s out",
	       "GB/s in", "p50 us", "p99 us");
	if (t->wish->pid) {
		struct run_slot *s;
		struct run_file *f = run_file_find(t->wish->pid, &s);

		if (f)
			row(t, f, s);
		run_file_close(f);
	} else {
		run_file_each(rows, t);
	}
	fflush(stdout);
}

static bool is_there(pid_t pid)
{
	struct run_slot *s;
	struct run_file *f = run_file_find(pid, &s);

	run_file_close(f);
	return f;
}

int top_main(int argc, char **argv)
{
	struct wish w = { .delay = 1 };
	static struct table t;
	bool terminal = isatty(STDOUT_FILENO);
	struct timespec pause;

	args_parse(&argp, argc, argv, &w);
	t.wish = &w;
	pause = (struct timespec){ (time_t)w.delay, (long)((w.delay - (double)(time_t)w.delay) * 1e9) };
	for (unsigned n = 0; !w.count || n < w.count; n++) {
		if (n)
			nanosleep(&pause, NULL);
		if (w.pid && !is_there(w.pid)) {
			if (!n)
				say("process %d does not run under \"uhmm run\", or not as this user", (int)w.pid);
			return n ? EXIT_DONE : EXIT_FAILED;
		}
		draw(&t, terminal);
	}
	return EXIT_DONE;
}
