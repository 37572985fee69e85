/* SPDX-License-Identifier: MIT */
/* uhmm stat: the figures of one process under `uhmm run`, since it began to be limited. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/args.h"
#include "tools/cmd.h"
#include "tools/run_report.h"
#include "tools/say.h"
#include "tools/size.h"

struct wish {
	pid_t pid;
	int json;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct wish *w = state->input;

	switch (key) {
	case 'j':
		w->json = 1;
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
	{ "json", 'j', NULL, 0, "Print one JSON object", 0 },
	ARGS_COMMON
};

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "PID",
	.doc = "Tells what a process that runs under \"uhmm run\" holds, and what was done for it.",
	.help_filter = args_help_filter,
};

static void line(const char *what, uint64_t bytes)
{
	char size[SIZE_CHARS];

	printf("%-22s %s\n", what, size_print(bytes, size));
}

static void print_devices(const struct run_file *f, const struct run_slot *s)
{
	char used[SIZE_CHARS], size[SIZE_CHARS];
	uint64_t busy = run_get(&s->busy_device);

	for (unsigned i = 0; i < f->nr_devices; i++)
		printf("%-22s %s of %s\n", f->spec[i], size_print(run_get(&s->used[i]), used), size_print(run_get(&s->size[i]), size));
	if (busy && busy <= f->nr_devices && run_get(&s->busy_ns) > RUN_STALL_NS)
		printf("%s has not answered for %.1f s\n", f->spec[busy - 1], (double)run_get(&s->busy_ns) / 1e9);
}

static void print_text(const struct run_file *f, const struct run_slot *s)
{
	double seconds = (double)(run_get(&s->now_ns) - run_get(&s->began_ns)) / 1e9;

	seconds = seconds > 0 ? seconds : 1e-9;
	line("limit of the run", f->limit);
	if (run_get(&s->managed) != 1) {
		line("resident", run_get(&s->resident));
		puts(run_get(&s->managed) ? "it is not limited: uhmm could not start in it" : "it has not been near the limit so far");
		return;
	}
	line("limit of the process", run_get(&s->limit));
	line("resident", run_get(&s->resident));
	line("resident at most", run_get(&s->resident_max));
	print_devices(f, s);
	line("gone to devices", run_get(&s->evicted));
	line("zeros given up", run_get(&s->zero));
	if (f->nr_devices > 1)
		line("moved on", run_get(&s->onward));
	line("come back", run_get(&s->came_home));
	line("called ahead", run_get(&s->ahead));
	line("wanted as it left", run_get(&s->returned));
	printf("%-22s %llu, %.0f a second; %.1f us (p50), %.1f us (p99)\n", "faults", (unsigned long long)run_get(&s->faults),
	       (double)run_get(&s->faults) / seconds, (double)run_get(&s->fault_ns_p50) / 1e3, (double)run_get(&s->fault_ns_p99) / 1e3);
	printf("%-22s %.3f out, %.3f in, over %.1f s\n", "GB/s", (double)run_get(&s->evicted) / seconds / 1e9,
	       (double)run_get(&s->came_home) / seconds / 1e9, seconds);
	printf("%-22s %llu touches, %.3f s\n", "waited for room", (unsigned long long)run_get(&s->waits),
	       (double)run_get(&s->wait_ns) / 1e9);
	printf("%-22s %llu touches\n", "let over the limit", (unsigned long long)run_get(&s->over));
	if (run_get(&s->lost))
		printf("%-22s %llu pages\n", "lost by a device", (unsigned long long)run_get(&s->lost));
}

int stat_main(int argc, char **argv)
{
	struct wish w = { 0 };
	struct run_slot *s;
	struct run_file *f;
	char text[16384];

	args_parse(&argp, argc, argv, &w);
	if (!w.pid)
		args_wrong("stat needs the number of a process: uhmm stat PID");
	f = run_file_find(w.pid, &s);
	if (!f) {
		say("process %d does not run under \"uhmm run\", or not as this user", (int)w.pid);
		return EXIT_FAILED;
	}
	if (w.json) {
		(void)run_report_json(f, s, text, sizeof(text));
		puts(text);
	} else {
		print_text(f, s);
	}
	run_file_close(f);
	return EXIT_DONE;
}
