/* SPDX-License-Identifier: MIT */
/*
 * uhmm run: runs a program in less memory than it wants. The command checks everything that can be checked - program, limit,
 * devices, privilege - while there is still somebody to tell, writes what was asked for to the run's file (run_file.h), and becomes the
 * program: so process number, exit status, signals and terminal are the program's own. The work is done in the preload library.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/args.h"
#include "tools/cmd.h"
#include "tools/preload.h"
#include "tools/run_exe.h"
#include "tools/run_file.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/sys.h"
#include "uhmm/driver.h"
#include "uhmm/uhmm.h"

#define LIBRARY "libuhmm-run.so"

struct wish {
	const char *limit;
	const char *spec[RUN_DEVICES];
	unsigned nr_specs;
	const char *stats;
	uint32_t flags;
	char **program;
};

enum { KEY_LIMIT = 'l', KEY_DEVICE = 'd', KEY_STATS = 's', KEY_VERBOSE = 'v', KEY_EMU = 256, KEY_NO_HUGE, KEY_USER };

/* What is wrong with the words ends in 125: 2 could be the program's own. */
_Noreturn static void wrong(const char *fmt, const char *what)
{
	char sentence[500];

	snprintf(sentence, sizeof(sentence), fmt, what);
	say("%s", sentence);
	exit(EXIT_NOT_RUN);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct wish *w = state->input;

	switch (key) {
	case KEY_LIMIT:
		w->limit = arg;
		return 0;
	case KEY_DEVICE:
		if (w->nr_specs == RUN_DEVICES)
			wrong("more than 16 devices: %s is one too many", arg);
		if (strlen(arg) >= RUN_SPEC_BYTES)
			wrong("the device %.60s... is longer than 255 letters", arg);
		w->spec[w->nr_specs++] = arg;
		return 0;
	case KEY_STATS:
		w->stats = arg;
		return 0;
	case KEY_VERBOSE:
		w->flags |= RUN_VERBOSE;
		return 0;
	case KEY_EMU:
		w->flags |= RUN_EMU_APART;
		return 0;
	case KEY_NO_HUGE:
		w->flags |= RUN_NOT_HUGE;
		return 0;
	case KEY_USER:
		w->flags |= RUN_USER_MODE;
		return 0;
	case ARGP_KEY_ARG:
		state->next--; /* the program, and all that follows is its own */
		w->program = &state->argv[state->next];
		state->next = state->argc;
		return 0;
	default:
		return args_common(key, arg, state);
	}
}

static const struct argp_option options[] = {
	{ "limit", KEY_LIMIT, "SIZE", 0, "Private memory that the program and its children may hold together, such as 512M (default: "
	  "three quarters of the machine's, or of the control group's)", 0 },
	{ "device", KEY_DEVICE, "SPEC", 0, "Where memory goes; may be repeated: the first is filled first (default: zstd:)", 0 },
	{ "stats", KEY_STATS, "FILE", 0, "Write the figures of the program, as JSON, to FILE when it ends", 0 },
	{ "verbose", KEY_VERBOSE, NULL, 0, "Say on standard error what was done when a process ends, and let warnings be heard", 0 },
	{ "emu-apart", KEY_EMU, NULL, 0, "Do not count the bytes of emu: devices: they stand for memory elsewhere", 0 },
	{ "no-huge", KEY_NO_HUGE, NULL, 0, "Do not ask for huge pages", 0 },
	{ "user-mode", KEY_USER, NULL, 0, "Go on without the privilege to serve the kernel's touches: system calls on memory "
	  "that has left then fail with EFAULT", 0 },
	ARGS_COMMON
};

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[--] PROGRAM [ARGUMENT...]",
	.doc = "Runs a program with its private memory kept below a limit: what has not been touched for long moves to devices, and "
	       "comes back when it is touched.\v"
	       "The exit status is the program's; 125 when uhmm could not run it, 126 when it cannot be executed, 127 when there is "
	       "none.",
	.help_filter = args_help_filter,
};

/* ---- checks ---- */

static uint64_t default_limit(void)
{
	uint64_t ram = sys_meminfo("MemTotal"), group = sys_cgroup_limit();

	return (group < ram ? group : ram) / 4 * 3;
}

static uint64_t check_limit(const struct wish *w)
{
	char least[SIZE_CHARS];
	uint64_t bytes;

	if (!w->limit)
		return default_limit();
	if (size_parse(w->limit, &bytes) || !bytes)
		wrong("--limit=%s is not a size: write a number and K, M, G or T, such as 512M", w->limit);
	if (bytes < UHMM_POLICY_LIMIT_MIN) {
		say("--limit=%s is below %s, which uhmm needs for itself and for some blocks of the program", w->limit,
		    size_print(UHMM_POLICY_LIMIT_MIN, least));
		exit(EXIT_NOT_RUN);
	}
	return bytes;
}

static void check_devices(struct wish *w)
{
	bool all_emu = true;

	if (!w->nr_specs) {
		const struct uhmm_driver *d;

		for (unsigned n = 0; (d = uhmm_driver_get(n)) && strcmp(d->name, "zstd"); n++)
			;
		if (!d)
			wrong("--device is needed: this uhmm was built without %s, the default", "zstd:");
		w->spec[w->nr_specs++] = "zstd:";
	}
	for (unsigned i = 0; i < w->nr_specs; i++)
		all_emu &= !strncmp(w->spec[i], "emu:", 4);
	if (all_emu && !(w->flags & RUN_EMU_APART))
		wrong("the bytes of %s stay in this machine's memory and count against the limit, so nothing would be won: name "
		      "another device, or say --emu-apart to count them as if they were elsewhere", w->spec[0]);
}

/* Return: 0 or -EINVAL, said. */
static int check_caps(struct uhmm_device *dev, const char *spec)
{
	struct uhmm_device_info info = { .sz = sizeof(info) };

	if (uhmm_device_query(dev, &info) || !(info.caps & UHMM_CAP_HEAP))
		return 0;
	say("%s needs memory of the program's process for itself, which would be looked after like all other: name another device",
	    spec);
	return -EINVAL;
}

/* A space and each device are opened once here, because in the program nobody would be told. */
static int try_devices(const struct wish *w)
{
	UHMM_OPTS(uhmm_space_opts, opts, .fault_threads = 1, .copy_threads = 1,
		  .flags = w->flags & RUN_USER_MODE ? UHMM_SPACE_USER_MODE_ONLY : 0);
	unsigned errors = say_library_errors();
	struct uhmm_space *space;
	struct uhmm_device *dev;
	int r = uhmm_open(&opts, &space);

	if (r) {
		if (r == -EPERM)
			say("without a full userfaultfd (run as root, or with CAP_SYS_PTRACE, or set vm.unprivileged_userfaultfd=1) every "
			    "system call on memory that has left would fail; --user-mode goes on all the same");
		else
			say_failed(errors, r, "uhmm cannot work here");
		return EXIT_NOT_RUN;
	}
	for (unsigned i = 0; !r && i < w->nr_specs; i++) {
		char spec[RUN_SPEC_BYTES + 16];
		const char *at = strstr(w->spec[i], "%p");

		snprintf(spec, sizeof(spec), "%.*s%s%s", at ? (int)(at - w->spec[i]) : 255, w->spec[i], at ? "0" : "", at ? at + 2 : "");
		r = uhmm_device_open(space, spec, &dev);
		if (r)
			say_failed(errors, r, w->spec[i]);
		else
			r = check_caps(dev, w->spec[i]);
	}
	(void)uhmm_close(space);
	return r ? EXIT_NOT_RUN : 0;
}

/* ---- the environment ---- */

static int set_environment(const struct wish *w, const char *library, const char *path)
{
	if (preload_env("LD_PRELOAD", library, ":") || setenv(RUN_ENV, path, 1))
		return -1;
	/* glibc's malloc asks for huge pages by itself; what the user has set comes last, and wins */
	return w->flags & RUN_NOT_HUGE ? 0 : preload_env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", ":");
}

static int write_file(const struct wish *w, uint64_t limit, char *ret_path, size_t bytes)
{
	struct run_file *f;

	run_file_sweep();
	f = run_file_make(ret_path, bytes);
	if (!f)
		return -errno;
	f->limit = limit;
	f->flags = w->flags;
	f->nr_devices = w->nr_specs;
	for (unsigned i = 0; i < w->nr_specs; i++)
		snprintf(f->spec[i], sizeof(f->spec[i]), "%s", w->spec[i]);
	if (w->stats && *w->stats == '/')
		snprintf(f->stats_path, sizeof(f->stats_path), "%s", w->stats);
	else if (w->stats && getcwd(f->stats_path, sizeof(f->stats_path) - strlen(w->stats) - 2))
		snprintf(f->stats_path + strlen(f->stats_path), sizeof(f->stats_path) - strlen(f->stats_path), "/%s", w->stats);
	run_file_close(f);
	return 0;
}

static void check_stats(const struct wish *w)
{
	FILE *f = w->stats ? fopen(w->stats, "we") : NULL;

	if (w->stats && !f)
		wrong("%s cannot be written", w->stats);
	if (f)
		fclose(f);
}

int run_main(int argc, char **argv)
{
	char library[PATH_MAX + 32], exe[PATH_MAX], path[PATH_MAX];
	struct wish w = { .limit = NULL };
	uint64_t limit;
	int r;

	args_status(EXIT_NOT_RUN);
	args_parse(&argp, argc, argv, &w);
	if (!w.program)
		wrong("run needs a program: %s", "uhmm run --limit 1G -- PROGRAM");
	limit = check_limit(&w);
	r = run_exe_check(w.program[0], exe, sizeof(exe));
	if (r)
		return r;
	check_devices(&w);
	check_stats(&w);
	r = try_devices(&w);
	if (r)
		return r;
	if (preload_find(LIBRARY, library, sizeof(library))) {
		say("%s is neither beside this command nor in %s: is the installation whole?", LIBRARY, UHMM_PRELOAD_DIR);
		return EXIT_NOT_RUN;
	}
	r = write_file(&w, limit, path, sizeof(path));
	if (r || set_environment(&w, library, path)) {
		say("what the processes of this run share cannot be written: %s", strerror(r ? -r : errno));
		return EXIT_NOT_RUN;
	}
	execvp(w.program[0], w.program);
	r = errno;
	unlink(path);
	say("%s cannot be run: %s", w.program[0], strerror(r));
	return r == ENOENT ? EXIT_NOT_FOUND : EXIT_NO_EXEC;
}
