/* SPDX-License-Identifier: MIT */
/*
 * Huge folios against base pages. Two buffers of each size, one of THPs and one of base pages, take turns round by
 * round, so that whatever slows the machine for a moment slows both. A round goes there three times and comes home
 * in three ways: by touches that read, by touches that write, and by one call.
 *
 * Touches are as far apart as the smallest folio that left: one per 2 MiB, or one per 4 KiB. A fault's figures are
 * those of one touch; the latency ratio compares what 2 MiB cost, so 512 base faults are added up before the
 * median is taken.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/bench.h"
#include "tools/cmd.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/term.h"
#include "tools/touch.h"

#define MAX_SIZES 9

enum dir { TO_DEVICE, TO_SYSTEM, FAULT, FAULT_WRITE, NR_DIRS };

static const char *const dir_names[NR_DIRS] = { "to_device", "to_system", "fault", "fault_write" };

/* One of the two buffers, and what it took. */
struct side {
	struct region region;
	unsigned order;
	struct series series[NR_DIRS];
	struct samples block_us; /* read touches: the time of 2 MiB */
};

/* What the ratios are made of, per kind of page. */
struct outcome {
	double gib_s[NR_DIRS];
	double block_us_p50;
};

static int side_init(struct side *s, uint64_t bytes, enum region_pages pages, unsigned rounds)
{
	size_t touches = (size_t)(bytes / UHMM_PAGE_BYTES) * rounds;
	int r;

	memset(s, 0, sizeof(*s));
	r = region_init(&s->region, bytes, pages);
	for (int d = 0; d < NR_DIRS && !r; d++)
		r = series_init(&s->series[d], d < FAULT ? 3 * rounds : touches);
	if (!r)
		r = samples_init(&s->block_us, (bytes / UHMM_BLOCK_BYTES + 1) * rounds);
	if (!r)
		region_fill(&s->region);
	return r;
}

static void side_fini(struct side *s)
{
	region_fini(&s->region);
	for (int d = 0; d < NR_DIRS; d++)
		series_fini(&s->series[d]);
	samples_fini(&s->block_us);
}

static void forget(struct side *s)
{
	for (int d = 0; d < NR_DIRS; d++)
		series_forget(&s->series[d]);
	s->block_us.nr = 0;
}

static void tell_not_huge(const struct side *s, const struct uhmm_result *moved)
{
	static bool told;
	uint64_t blocks = s->region.bytes / UHMM_BLOCK_BYTES, huge = moved->moved_folios[UHMM_ORDER_MAX];

	if (told || s->region.pages != REGION_HUGE || huge == blocks)
		return;
	told = true;
	say("only %llu of %llu blocks left as 2 MiB folios, so the \"huge\" rows are mixed: \"uhmm doctor\" may tell why",
	    (unsigned long long)huge, (unsigned long long)blocks);
}

static int go(struct bench *b, struct side *s)
{
	struct uhmm_result moved;
	double seconds = rig_to_device(&b->rig, &s->region, 0, s->region.bytes, &moved);

	if (seconds < 0)
		return -EIO;
	series_move(&s->series[TO_DEVICE], s->region.bytes, &moved, seconds);
	s->order = rig_smallest_order(&moved);
	tell_not_huge(s, &moved);
	return 0;
}

static int come(struct bench *b, struct side *s)
{
	struct uhmm_result moved;
	double seconds = rig_to_system(&b->rig, &s->region, &moved);

	if (seconds < 0)
		return -EIO;
	series_move(&s->series[TO_SYSTEM], moved.moved_bytes, &moved, seconds);
	return 0;
}

static void touch_home(struct side *s, enum dir dir)
{
	struct series *series = &s->series[dir];
	size_t before = series->us.nr;

	series->seconds += touch_range(&s->region, 0, s->region.bytes, UHMM_PAGE_BYTES << s->order,
				       dir == FAULT ? TOUCH_READ : TOUCH_WRITE, &series->us);
	series->bytes += (double)s->region.bytes;
	if (dir == FAULT)
		samples_fold(&series->us, before, (size_t)1 << (UHMM_ORDER_MAX - s->order), &s->block_us);
}

static int run_round(struct bench *b, struct side *s)
{
	if (go(b, s))
		return -EIO;
	touch_home(s, FAULT);
	if (go(b, s))
		return -EIO;
	touch_home(s, FAULT_WRITE);
	if (go(b, s))
		return -EIO;
	return come(b, s);
}

static int run_rounds(struct bench *b, struct side sides[2])
{
	uint64_t bytes = sides[0].region.bytes;
	char what[64], size[SIZE_CHARS];

	snprintf(what, sizeof(what), "huge and base pages, %s", size_print(bytes, size));
	for (unsigned round = 0; round <= b->rounds; round++) {
		term_progress(what, bytes * round, bytes * (b->rounds + 1));
		for (int i = 0; i < 2; i++) {
			if (run_round(b, &sides[i]))
				return -EIO;
			if (round == 0)
				forget(&sides[i]);
		}
	}
	term_clear();
	return bench_intact(&sides[0].region) && bench_intact(&sides[1].region) ? 0 : -EIO;
}

static void print_side(struct bench *b, struct side *s, struct outcome *ret)
{
	for (int d = 0; d < NR_DIRS; d++) {
		struct row row = {
			.dir = dir_names[d],
			.pages = s->region.pages == REGION_HUGE ? "huge" : "base",
			.order = s->order,
			.threads = d < FAULT ? b->rig.copy_threads : 1,
			.size_bytes = s->region.bytes,
		};

		ret->gib_s[d] = bench_row(b, row, &s->series[d])->gib_s;
	}
	ret->block_us_p50 = samples_at(&s->block_us, 0.50);
}

static int measure_size(struct bench *b, uint64_t bytes, struct outcome ret[2])
{
	struct side sides[2] = { 0 };
	int r = side_init(&sides[0], bytes, REGION_HUGE, b->rounds);

	if (!r)
		r = side_init(&sides[1], bytes, REGION_BASE, b->rounds);
	if (!r)
		r = run_rounds(b, sides);
	for (int i = 0; i < 2; i++) {
		if (!r)
			print_side(b, &sides[i], &ret[i]);
		side_fini(&sides[i]);
	}
	return r;
}

/* PMD size x 1/4, 1/2, 1, 2, 4, 8 and 128 as far as the largest allows, and the largest itself. */
static size_t choose_sizes(uint64_t max_bytes, uint64_t sizes[MAX_SIZES])
{
	static const unsigned quarters[] = { 1, 2, 4, 8, 16, 32, 512 };
	uint64_t unit = max_bytes < UHMM_BLOCK_BYTES ? UHMM_PAGE_BYTES : UHMM_BLOCK_BYTES;
	size_t nr = 0;

	max_bytes = size_round_up(max_bytes, unit);
	for (size_t i = 0; i < sizeof(quarters) / sizeof(quarters[0]); i++)
		if (quarters[i] * UHMM_BLOCK_BYTES / 4 <= max_bytes)
			sizes[nr++] = quarters[i] * UHMM_BLOCK_BYTES / 4;
	if (!nr || sizes[nr - 1] != max_bytes)
		sizes[nr++] = max_bytes;
	return nr;
}

static double ratio(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static void summarize(const struct bench *b, uint64_t bytes, const struct outcome *huge, const struct outcome *base)
{
	const struct figure figures[] = {
		{ "fault_throughput_ratio", ratio(huge->gib_s[FAULT], base->gib_s[FAULT]),
		  "\nhome by read touches:  huge has %.1f times the throughput of base" },
		{ "fault_latency_ratio", ratio(base->block_us_p50, huge->block_us_p50),
		  "                       and 2 MiB take base %.1f times as long (medians)" },
		{ "fault_write_throughput_ratio", ratio(huge->gib_s[FAULT_WRITE], base->gib_s[FAULT_WRITE]),
		  "home by write touches: huge has %.1f times the throughput" },
		{ "to_device_throughput_ratio", ratio(huge->gib_s[TO_DEVICE], base->gib_s[TO_DEVICE]),
		  "to the device:         huge has %.1f times the throughput" },
		{ "to_system_throughput_ratio", ratio(huge->gib_s[TO_SYSTEM], base->gib_s[TO_SYSTEM]),
		  "home by a call:        huge has %.1f times the throughput" },
		{ "huge_us_per_2mib_p50", huge->block_us_p50, NULL },
		{ "base_us_per_2mib_p50", base->block_us_p50, NULL },
		{ 0 },
	};

	bench_summary(b, bytes, figures);
}

int bench_thp(struct bench *b)
{
	uint64_t sizes[MAX_SIZES];
	size_t nr = choose_sizes(b->max_bytes, sizes);
	struct outcome outcome[2] = { 0 };
	uint64_t max = sizes[nr - 1];
	int status = rig_open(&b->rig, b->spec, max, 2 * max);

	if (status != EXIT_DONE)
		return status;
	for (size_t i = 0; i < nr && status == EXIT_DONE; i++)
		if (measure_size(b, sizes[i], outcome))
			status = EXIT_FAILED;
	if (status == EXIT_DONE)
		summarize(b, max, &outcome[0], &outcome[1]);
	return rig_close(&b->rig) == EXIT_DONE ? status : EXIT_FAILED;
}
