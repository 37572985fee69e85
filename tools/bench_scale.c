/* SPDX-License-Identifier: MIT */
/*
 * What the size of a device costs. Devices from 1 GiB to 1 TiB, none of whose memory is there before it is used, are
 * opened and closed in turns; then each gets the same bytes, and what uhmm keeps for them is counted. Neither may depend
 * on the size.
 *
 * Beside it stands what the kernel keeps when it manages device memory itself: a struct page for each page frame, there
 * from the moment the memory is registered.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "tools/bench.h"
#include "tools/clock.h"
#include "tools/cmd.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/term.h"

/*
 * sizeof(struct page) on 64-bit kernels (include/linux/mm_types.h; Documentation/mm/vmemmap_dedup.rst counts with it).
 * Memory that is given to memremap_pages() as MEMORY_DEVICE_PRIVATE (Documentation/mm/hmm.rst) has one for each 4 KiB.
 */
#define STRUCT_PAGE_BYTES      UINT64_C(64)
#define STRUCT_BYTES_PER_BLOCK (UHMM_BLOCK_BYTES / UHMM_PAGE_BYTES * STRUCT_PAGE_BYTES)

#define MAX_TRIES 10

static const struct size {
	const char *spec;
	uint64_t bytes;
} sizes[] = {
	{ "emu:size=1G", (uint64_t)1 << 30 },
	{ "emu:size=16G", (uint64_t)16 << 30 },
	{ "emu:size=128G", (uint64_t)128 << 30 },
	{ "emu:size=1T", (uint64_t)1 << 40 },
};

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))
#define SMALLEST 0
#define LARGEST  (NR_SIZES - 1)

/* What lies on a device in 2 MiB folios, or in 4 KiB folios, costs this. */
struct kept {
	uint64_t device_bytes; /* uhmm_device_info: what depends on the device */
	uint64_t all_bytes;    /* uhmm_stats: the tables of the program's memory, too */
};

struct scale {
	struct samples open_us[NR_SIZES], library_us[NR_SIZES];
	uint64_t open_bytes[NR_SIZES]; /* metadata just after opening, the most of the rounds */
	struct kept huge[NR_SIZES], base[NR_SIZES];
};

static int scale_init(struct scale *s, unsigned rounds)
{
	int r = 0;

	memset(s, 0, sizeof(*s));
	for (size_t i = 0; i < NR_SIZES && !r; i++) {
		r = samples_init(&s->open_us[i], rounds);
		if (!r)
			r = samples_init(&s->library_us[i], rounds);
	}
	return r;
}

static void scale_fini(struct scale *s)
{
	for (size_t i = 0; i < NR_SIZES; i++) {
		samples_fini(&s->open_us[i]);
		samples_fini(&s->library_us[i]);
	}
}

static int close_device(struct rig *rig)
{
	unsigned errors = say_library_errors();
	int r = uhmm_device_close(rig->dev);

	rig->dev = NULL;
	if (r)
		say_failed(errors, r, "the device did not give everything back");
	return r;
}

/* --- opening ---------------------------------------------------------------------------------------------------- */

static int time_open(struct bench *b, struct scale *s, size_t i, bool keep)
{
	uint64_t start = clock_ns();
	double us;
	int r = rig_open_device(&b->rig, sizes[i].spec);

	us = clock_us_since(start);
	if (r)
		return r;
	if (b->rig.info.metadata_bytes > s->open_bytes[i])
		s->open_bytes[i] = b->rig.info.metadata_bytes;
	if (keep) {
		samples_add(&s->open_us[i], us);
		samples_add(&s->library_us[i], (double)b->rig.info.open_ns / 1e3);
	}
	return close_device(&b->rig);
}

static int time_opens(struct bench *b, struct scale *s)
{
	int r = 0;

	for (unsigned round = 0; round <= b->rounds && !r; round++)
		for (size_t i = 0; i < NR_SIZES && !r; i++)
			r = time_open(b, s, i, round > 0);
	return r;
}

/* --- with something on it ---------------------------------------------------------------------------------------- */

/* All of it has to be there, or what is kept cannot be compared: what somebody looked at just then goes once more. */
static int send_all(struct rig *rig, const struct region *r)
{
	struct uhmm_result moved;

	for (int tries = 0; tries < MAX_TRIES; tries++) {
		if (rig_to_device(rig, r, 0, r->bytes, &moved) < 0)
			return -EIO;
		if (moved.moved_bytes == r->bytes)
			return 0;
		if (rig_to_system(rig, r, &moved) < 0)
			return -EIO;
	}
	say("some of the buffer never leaves, and only the whole of it can be compared: \"uhmm doctor\" may tell why");
	return -EIO;
}

static int count_kept(struct rig *rig, const struct region *r, struct kept *ret)
{
	struct uhmm_device_info info = { .sz = sizeof(info) };
	struct uhmm_stats stats = { .sz = sizeof(stats) };
	struct uhmm_result moved;

	if (send_all(rig, r) || uhmm_device_query(rig->dev, &info) || uhmm_stats(rig->space, &stats))
		return -EIO;
	ret->device_bytes = info.metadata_bytes;
	ret->all_bytes = stats.metadata_bytes;
	if (rig_to_system(rig, r, &moved) < 0)
		return -EIO;
	return bench_intact(r) ? 0 : -EIO;
}

/* The first trip makes the tables of the program's memory, which stay: it does not count. */
static int measure_kept(struct bench *b, enum region_pages pages, struct kept ret[NR_SIZES])
{
	struct region region;
	int r = region_init(&region, b->max_bytes, pages);

	if (r)
		return r;
	region_fill(&region);
	for (size_t trip = 0; trip <= NR_SIZES && !r; trip++) {
		size_t i = trip ? trip - 1 : 0;

		term_progress(sizes[i].spec, b->max_bytes * trip, b->max_bytes * (NR_SIZES + 1));
		r = rig_open_device(&b->rig, sizes[i].spec);
		if (r)
			break;
		r = count_kept(&b->rig, &region, &ret[i]);
		if (close_device(&b->rig))
			r = -EIO;
	}
	term_clear();
	region_fini(&region);
	return r;
}

/* --- what it says ------------------------------------------------------------------------------------------------ */

static double per_block(const struct bench *b, uint64_t bytes)
{
	return (double)bytes / ((double)b->max_bytes / (double)UHMM_BLOCK_BYTES);
}

static void print_row(const struct bench *b, struct scale *s, size_t i)
{
	char kernel[SIZE_CHARS];

	if (i == SMALLEST)
		printf("%-14s %9s %11s %9s  %10s %10s %10s %10s  %11s %12s\n%-14s %9s %11s %9s  %10s %10s %10s %10s  %11s %12s\n",
		       "device", "open", "of which", "metadata", "2 MiB on", "in base", "with", "in base", "struct page",
		       "and for the", "", "us p50", "uhmm us p50", "bytes", "it, bytes", "pages", "tables", "pages",
		       "per 2 MiB", "whole device");
	printf("%-14s %9.1f %11.1f %9llu  %10.0f %10.0f %10.0f %10.0f  %11llu %12s\n", sizes[i].spec,
	       samples_at(&s->open_us[i], 0.50), samples_at(&s->library_us[i], 0.50),
	       (unsigned long long)s->open_bytes[i], per_block(b, s->huge[i].device_bytes),
	       per_block(b, s->base[i].device_bytes), per_block(b, s->huge[i].all_bytes),
	       per_block(b, s->base[i].all_bytes), (unsigned long long)STRUCT_BYTES_PER_BLOCK,
	       size_print(sizes[i].bytes / UHMM_PAGE_BYTES * STRUCT_PAGE_BYTES, kernel));
}

static void print_row_json(const struct bench *b, struct scale *s, size_t i)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I}",
			      "bench", b->name, "device", sizes[i].spec, "size_bytes", (json_int_t)sizes[i].bytes,
			      "samples", (json_int_t)s->open_us[i].nr, "open_us_p50", samples_at(&s->open_us[i], 0.50),
			      "open_us_p99", samples_at(&s->open_us[i], 0.99), "library_open_us_p50",
			      samples_at(&s->library_us[i], 0.50), "metadata_bytes", (json_int_t)s->open_bytes[i],
			      "on_device_bytes", (json_int_t)b->max_bytes,
			      "huge_device_metadata_bytes_per_2mib", per_block(b, s->huge[i].device_bytes),
			      "base_device_metadata_bytes_per_2mib", per_block(b, s->base[i].device_bytes),
			      "huge_metadata_bytes_per_2mib", per_block(b, s->huge[i].all_bytes),
			      "base_metadata_bytes_per_2mib", per_block(b, s->base[i].all_bytes),
			      "struct_page_bytes_per_2mib", (json_int_t)STRUCT_BYTES_PER_BLOCK, "struct_page_bytes",
			      (json_int_t)(sizes[i].bytes / UHMM_PAGE_BYTES * STRUCT_PAGE_BYTES));

	json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(o);
}

/* Nothing against nothing is as flat as can be. */
static double ratio(double a, double b)
{
	if (a == b)
		return 1;
	return b > 0 ? a / b : 0;
}

static void summarize(const struct bench *b, struct scale *s)
{
	const struct kept *huge = s->huge, *base = s->base;
	const struct figure figures[] = {
		{ "open_ratio", ratio(samples_at(&s->open_us[LARGEST], 0.50), samples_at(&s->open_us[SMALLEST], 0.50)),
		  "\n1 TiB against 1 GiB:  opening takes %.2f times as long (medians; wanted: 1, whatever the size)" },
		{ "library_open_ratio",
		  ratio(samples_at(&s->library_us[LARGEST], 0.50), samples_at(&s->library_us[SMALLEST], 0.50)),
		  "                      the library's part of it %.2f times as long" },
		{ "huge_metadata_ratio", ratio((double)huge[LARGEST].all_bytes, (double)huge[SMALLEST].all_bytes),
		  "                      metadata of the same 2 MiB folios %.2f times as much (wanted: 1)" },
		{ "base_metadata_ratio", ratio((double)base[LARGEST].all_bytes, (double)base[SMALLEST].all_bytes),
		  "                      metadata of the same base pages %.2f times as much (wanted: 1)" },
		{ "open_metadata_bytes_more", (double)s->open_bytes[LARGEST] - (double)s->open_bytes[SMALLEST],
		  "                      metadata of an empty device %.0f bytes more (wanted: 0)" },
		{ 0 },
	};

	bench_summary(b, b->max_bytes, figures);
}

static int measure(struct bench *b, struct scale *s)
{
	if (time_opens(b, s) || measure_kept(b, REGION_HUGE, s->huge) || measure_kept(b, REGION_BASE, s->base))
		return EXIT_FAILED;
	for (size_t i = 0; i < NR_SIZES; i++)
		(b->json ? print_row_json : print_row)(b, s, i);
	memset(&b->rig.info, 0, sizeof(b->rig.info)); /* the summary is of all devices */
	summarize(b, s);
	return EXIT_DONE;
}

int bench_scale(struct bench *b)
{
	struct scale s;
	int status;

	b->max_bytes = size_round_up(b->max_bytes, UHMM_BLOCK_BYTES);
	if (b->max_bytes > sizes[SMALLEST].bytes) {
		say("the smallest device of this bench has 1 GiB: give a --size that fits it");
		return EXIT_MISUSE;
	}
	if (!rig_fits(3 * b->max_bytes) || rig_open_space(&b->rig, b->max_bytes))
		return EXIT_FAILED;
	status = scale_init(&s, b->rounds) ? EXIT_FAILED : measure(b, &s);
	scale_fini(&s);
	return rig_close(&b->rig) == EXIT_DONE ? status : EXIT_FAILED;
}
