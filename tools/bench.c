/* SPDX-License-Identifier: MIT */
/*
 * What the benches share: options, rows, and how a row and a summary look to a person and to a program. Rows appear as
 * they are measured. With --json every line is one object whose keys carry their units, and the summary is the last.
 */
#include "tools/bench.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "tools/args.h"
#include "tools/cmd.h"
#include "tools/plot.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/term.h"

static const struct kind {
	const char *name;
	int (*run)(struct bench *b);
	uint64_t default_bytes;
	unsigned default_rounds;
	bool one_device; /* it measures on a device that can be chosen */
	const char *sizes; /* to draw throughput over; NULL: there are none */
} kinds[] = {
	{ "thp", bench_thp, (uint64_t)256 << 20, 5, true, "buffer" },
	{ "floor", bench_floor, (uint64_t)256 << 20, 11, true, "buffer" },
	{ "onewalk", bench_onewalk, (uint64_t)256 << 20, 11, true, NULL },
	{ "device", bench_device, (uint64_t)256 << 20, 5, true, "moved, touched or asked for at a time" },
	{ "scale", bench_scale, (uint64_t)64 << 20, 21, false, NULL },
};

#define NR_KINDS (sizeof(kinds) / sizeof(kinds[0]))

int series_init(struct series *s, size_t room)
{
	memset(s, 0, sizeof(*s));
	return samples_init(&s->us, room);
}

void series_fini(struct series *s)
{
	samples_fini(&s->us);
}

void series_forget(struct series *s)
{
	s->us.nr = 0;
	s->bytes = s->seconds = 0;
	s->stayed_pages = 0;
}

void series_call(struct series *s, uint64_t bytes, double seconds)
{
	samples_add(&s->us, seconds * 1e6);
	s->bytes += (double)bytes;
	s->seconds += seconds;
}

void series_move(struct series *s, uint64_t asked_bytes, const struct uhmm_result *moved, double seconds)
{
	series_call(s, moved->moved_bytes, seconds);
	s->stayed_pages += (asked_bytes - moved->moved_bytes) / UHMM_PAGE_BYTES;
}

static void print_row_json(const struct bench *b, const struct row *row)
{
	json_t *o = json_pack("{s:s, s:I, s:i, s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:I, s:I}",
			      "bench", b->name, "size_bytes", (json_int_t)row->size_bytes, "order", (int)row->order,
			      "pages", row->pages, "dir", row->dir, "threads", (int)row->threads, "gib_s", row->gib_s,
			      "us_p50", row->us_p50, "us_p99", row->us_p99, "us_mean", row->us_mean,
			      "samples", (json_int_t)row->samples, "stayed_pages", (json_int_t)row->stayed_pages);

	if (row->fraction > 0)
		json_object_set_new(o, "fraction_of_copy", json_real(row->fraction));
	if (row->pattern)
		json_object_set_new(o, "pattern", json_string(row->pattern));
	json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(o);
}

static void print_row(const struct bench *b, const struct row *row)
{
	char size[SIZE_CHARS];

	if (b->nr_rows == 1)
		printf("%10s  %-7s %5s  %-18s %7s %9s %11s %11s %11s\n", "size", "pages", "order", "direction", "threads",
		       "GiB/s", "us mean", "us p50", "us p99");
	printf("%10s  %-7s %5u  %-18s %7u %9.2f %11.1f %11.1f %11.1f", size_print(row->size_bytes, size), row->pages,
	       row->order, row->dir, row->threads, row->gib_s, row->us_mean, row->us_p50, row->us_p99);
	if (row->fraction > 0)
		printf("  %.3f of the copy", row->fraction);
	if (row->pattern)
		printf("  %s", row->pattern);
	if (row->stayed_pages)
		printf("  (%llu pages stayed)", (unsigned long long)row->stayed_pages);
	putchar('\n');
}

const struct row *bench_row(struct bench *b, struct row row, struct series *s)
{
	struct row *kept = &b->rows[b->nr_rows < BENCH_MAX_ROWS ? b->nr_rows++ : BENCH_MAX_ROWS - 1];

	row.samples = s->us.nr;
	row.gib_s = s->seconds > 0 ? s->bytes / s->seconds / 0x1p30 : 0;
	row.us_mean = samples_mean(&s->us);
	row.us_p50 = samples_at(&s->us, 0.50);
	row.us_p99 = samples_at(&s->us, 0.99);
	row.stayed_pages = s->stayed_pages;
	*kept = row;
	term_clear();
	if (b->json)
		print_row_json(b, kept);
	else
		print_row(b, kept);
	fflush(stdout);
	return kept;
}

void bench_summary(const struct bench *b, uint64_t size_bytes, const struct figure *figures)
{
	json_t *o = json_pack("{s:s, s:b, s:I, s:i, s:i}", "bench", b->name, "summary", 1, "size_bytes",
			      (json_int_t)size_bytes, "rounds", (int)b->rounds, "copy_threads", (int)b->rig.copy_threads);

	if (b->rig.info.spec[0])
		json_object_set_new(o, "device", json_string(b->rig.info.spec));
	for (const struct figure *f = figures; f->name; f++) {
		json_object_set_new(o, f->name, json_real(f->value));
		if (!b->json && f->words) {
			printf(f->words, f->value);
			putchar('\n');
		}
	}
	if (b->json) {
		json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
		putchar('\n');
	}
	json_decref(o);
}

bool bench_intact(const struct region *r)
{
	if (region_is_intact(r))
		return true;
	say("the bytes that came back are not those that left: please report this with the output of \"uhmm doctor\"");
	return false;
}

static const struct argp_option options[] = {
	{ "device", 'd', "SPEC", 0, "The device to use (default: an emu: that fits, with its memory populated)", 0 },
	{ "size", 's', "SIZE", 0, "Largest buffer (default 256M, scale 64M)", 0 },
	{ "rounds", 'r', "N", 0, "Timed rounds after one to warm up (default: thp and device 5, scale 21, others 11)", 0 },
	{ "json", 'j', NULL, 0, "Print one JSON object a line, the summary last", 0 },
	{ "plot", 'p', "FILE", 0, "Draw the result, too, with gnuplot; FILE ends in .svg or .png", 0 },
	ARGS_COMMON
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct bench *b = state->input;

	switch (key) {
	case 'd':
		b->spec = arg;
		return 0;
	case 's':
		b->max_bytes = args_size("--size", arg);
		return 0;
	case 'r':
		b->rounds = args_count("--rounds", arg, 1000);
		return 0;
	case 'j':
		b->json = true;
		return 0;
	case 'p':
		b->plot = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (b->name)
			return ARGP_ERR_UNKNOWN;
		b->name = arg;
		return 0;
	default:
		return args_common(key, arg, state);
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.help_filter = args_help_filter,
	.args_doc = "thp|floor|onewalk|device|scale",
	.doc = "Measure how fast memory moves to a device and back.\n\n"
	       "thp    2 MiB folios against 4 KiB pages, for buffers of 512 KiB to --size: to the device, home by a call, "
	       "and home by CPU touches that read or write one word per folio\n"
	       "floor  uhmm against the copy alone, measured in turns: how near to memory bandwidth the way to the device "
	       "is, what a CPU fault costs beyond its copy, and what a second thread brings\n"
	       "onewalk  memory that is absent, wholly or by half, sent in one walk against the same populated first\n"
	       "device  one device, 4 KiB, 64 KiB and 2 MiB at a time: there by a call, home by a touch, and by prefetch both ways; "
	       "an OpenCL or CUDA device beside what the runtime reaches by itself\n"
	       "scale  what opening a device of 1G to 1T costs, and what is kept for each 2 MiB on it, beside struct page\v"
	       "Times are of one call, or of one touch for the fault rows. Compare ratios of one run; absolute figures move "
	       "with the machine's mood.",
};

static const struct kind *find_kind(const char *name)
{
	for (size_t i = 0; i < NR_KINDS; i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	args_wrong("there is no bench \"%s\": write thp, floor, onewalk, device or scale", name);
}

int bench_main(int argc, char **argv)
{
	const struct kind *kind;
	struct plot *plot = NULL;
	struct bench b = { 0 };
	int status;

	args_parse(&argp, argc, argv, &b);
	if (!b.name)
		args_wrong("say what to measure: \"uhmm bench thp\", \"floor\", \"onewalk\", \"device\" or \"scale\"");
	kind = find_kind(b.name);
	if (b.spec && !kind->one_device)
		args_wrong("bench %s opens devices of its own: leave --device away", b.name);
	if (b.plot && !kind->sizes)
		args_wrong("bench %s has no curve to draw: leave --plot away", b.name);
	b.sizes = kind->sizes;
	if (!b.max_bytes)
		b.max_bytes = kind->default_bytes;
	if (!b.rounds)
		b.rounds = kind->default_rounds;
	status = plot_open(&plot, b.plot);
	if (status == EXIT_DONE)
		status = kind->run(&b);
	if (status == EXIT_DONE)
		status = plot_draw(plot, &b);
	plot_close(plot);
	return status;
}
