/* SPDX-License-Identifier: MIT */
/*
 * A doctor examines, names what is wrong in words, and says what helps. Nothing is taken on trust where it can be
 * tried: the probe makes a userfaultfd, moves a page, asks for a THP; the devices are opened.
 */
#include "tools/doctor.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tools/args.h"
#include "tools/cmd.h"
#include "tools/say.h"

static const char *const state_names[NR_FOUND] = { "ok", "degraded", "missing" };

void report_add(struct report *rep, enum finding_state state, const char *name, const char *mend, const char *fmt, ...)
{
	struct finding *f = &rep->findings[rep->nr < DOCTOR_MAX_FINDINGS ? rep->nr++ : DOCTOR_MAX_FINDINGS - 1];
	va_list ap;

	f->state = state;
	f->name = name;
	f->mend = state == FOUND_OK ? NULL : mend;
	va_start(ap, fmt);
	vsnprintf(f->value, sizeof(f->value), fmt, ap);
	va_end(ap);
}

static size_t count(const struct report *rep, enum finding_state state)
{
	size_t nr = 0;

	for (size_t i = 0; i < rep->nr; i++)
		nr += rep->findings[i].state == state;
	return nr;
}

static void print_text(const struct report *rep)
{
	for (size_t i = 0; i < rep->nr; i++) {
		const struct finding *f = &rep->findings[i];

		printf("%-9s %-26s %s\n", state_names[f->state], f->name, f->value);
		if (f->mend)
			printf("%-9s %-26s -> %s\n", "", "", f->mend);
	}
	printf("\n%zu ok, %zu degraded, %zu missing: uhmm %s\n", count(rep, FOUND_OK), count(rep, FOUND_DEGRADED),
	       count(rep, FOUND_MISSING),
	       count(rep, FOUND_MISSING) ? "cannot work here" :
	       count(rep, FOUND_DEGRADED) ? "works here, and could work better" : "works here");
}

static void print_json(const struct report *rep)
{
	json_t *list = json_array(), *o;

	for (size_t i = 0; i < rep->nr; i++) {
		const struct finding *f = &rep->findings[i];

		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s?}", "check", f->name, "state",
						      state_names[f->state], "value", f->value, "mend", f->mend));
	}
	o = json_pack("{s:s, s:b, s:i, s:i, s:o}", "version", uhmm_version(), "works",
		      (int)(count(rep, FOUND_MISSING) == 0), "degraded", (int)count(rep, FOUND_DEGRADED),
		      "missing", (int)count(rep, FOUND_MISSING), "checks", list);
	json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(o);
}

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "Print one JSON object instead of lines", 0 },
	ARGS_COMMON
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	if (key != 'j')
		return args_common(key, arg, state);
	*(bool *)state->input = true;
	return 0;
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.help_filter = args_help_filter,
	.doc = "Tell what this machine offers uhmm.\n\n"
	       "Every line begins with \"ok\", \"degraded\" (uhmm works, but less well) or \"missing\" (uhmm cannot work), and "
	       "what can be mended says how.\v"
	       "Exit status: 0 when uhmm can work here, 1 when something essential is missing, 2 for wrong usage.",
};

int doctor_main(int argc, char **argv)
{
	static struct report rep;
	bool json = false;

	args_parse(&argp, argc, argv, &json);
	rep.probe.sz = sizeof(rep.probe);
	if (uhmm_probe(&rep.probe)) {
		say("the host cannot be examined: this command and libuhmm %s do not fit together", uhmm_version());
		return EXIT_FAILED;
	}
	doctor_kernel(&rep);
	doctor_thp(&rep);
	doctor_limits(&rep);
	doctor_cuda(&rep);
	doctor_devices(&rep);
	doctor_opencl(&rep);
	if (json)
		print_json(&rep);
	else
		print_text(&rep);
	return count(&rep, FOUND_MISSING) ? EXIT_FAILED : EXIT_DONE;
}
