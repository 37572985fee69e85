/* SPDX-License-Identifier: MIT */
/*
 * One device, at three sizes. A unit of 4 KiB, 64 KiB or 2 MiB is what one call moves there (as one folio), what one touch
 * brings home, and what one prefetch asks for. Calls follow one another; prefetches are all asked for, and then waited for. The
 * sizes take turns round by round; each goes by calls and comes home by touches, then goes and comes home by prefetches.
 *
 * On opencl: and cuda: the runtime alone takes its turn, too (bench_alone.h).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/bench.h"
#include "tools/bench_alone.h"
#include "tools/clock.h"
#include "tools/cmd.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/term.h"
#include "tools/touch.h"

enum way { TO_DEVICE, FAULT, PREFETCH, PREFETCH_BACK, NR_WAYS };

static const char *const way_names[NR_WAYS] = { "to_device", "fault", "prefetch", "prefetch_back" };

/* Little of the smallest: what a unit costs is soon known. */
static const struct {
	uint64_t bytes, max_bytes;
	enum region_pages pages;
	unsigned order;
} units[] = {
	{ 4 << 10, 8 << 20, REGION_BASE, 0 },
	{ 64 << 10, 64 << 20, REGION_BASE, 4 },
	{ UHMM_BLOCK_BYTES, UINT64_MAX, REGION_HUGE, UHMM_ORDER_MAX },
};

#define NR_UNITS (sizeof(units) / sizeof(units[0]))

struct side {
	struct region region;
	uint64_t unit;
	unsigned want, order; /* of a unit; of the smallest folio that moved */
	struct series series[NR_WAYS];
};

static int side_init(struct side *s, size_t i, uint64_t max_bytes, unsigned rounds)
{
	uint64_t bytes = max_bytes < units[i].max_bytes ? max_bytes : units[i].max_bytes;
	int r = region_init(&s->region, bytes, units[i].pages);

	s->unit = units[i].bytes;
	s->want = units[i].order;
	for (int way = 0; way < NR_WAYS && !r; way++) {
		/* touches are as many as folios, which may be smaller than a unit */
		size_t calls = way == FAULT ? bytes / UHMM_PAGE_BYTES : way == TO_DEVICE ? bytes / s->unit : 1;

		r = series_init(&s->series[way], calls * (rounds + 1));
	}
	if (!r)
		region_fill(&s->region);
	return r;
}

static void side_fini(struct side *s)
{
	region_fini(&s->region);
	for (int way = 0; way < NR_WAYS; way++)
		series_fini(&s->series[way]);
}

static int go(struct bench *b, struct side *s)
{
	struct uhmm_result moved;

	s->order = UHMM_ORDER_MAX;
	for (uint64_t at = 0; at < s->region.bytes; at += s->unit) {
		double seconds = rig_send(&b->rig, &s->region, at, at + s->unit, UHMM_MOVE_ORDER(s->want), &moved);
		unsigned order = rig_smallest_order(&moved);

		if (seconds < 0)
			return -EIO;
		series_move(&s->series[TO_DEVICE], s->unit, &moved, seconds);
		s->order = order < s->order ? order : s->order;
	}
	return 0;
}

static void touch_home(struct side *s)
{
	struct series *series = &s->series[FAULT];

	series->seconds += touch_range(&s->region, 0, s->region.bytes, UHMM_PAGE_BYTES << s->order, TOUCH_READ, &series->us);
	series->bytes += (double)s->region.bytes;
}

/* What is asked for faster than it is done waits until there is room to ask again. */
static int ask(struct bench *b, struct side *s, struct uhmm_device *where)
{
	int r = 0;

	for (uint64_t at = 0; !r && at < s->region.bytes; at += s->unit) {
		r = uhmm_prefetch(b->rig.space, s->region.mem + at, s->unit, where);
		if (r == -EAGAIN) {
			r = uhmm_prefetch_wait(b->rig.space);
			at -= s->unit;
		}
	}
	return r ? r : uhmm_prefetch_wait(b->rig.space);
}

static int prefetch(struct bench *b, struct side *s, enum way way)
{
	unsigned errors = say_library_errors();
	struct uhmm_device_info info = { .sz = sizeof(info) };
	uint64_t start = clock_ns(), left;
	int r = ask(b, s, way == PREFETCH ? b->rig.dev : NULL);
	double seconds = (double)(clock_ns() - start) / 1e9;

	if (!r)
		r = uhmm_device_query(b->rig.dev, &info);
	if (r) {
		say_failed(errors, r, "prefetching failed");
		return r;
	}
	left = way == PREFETCH ? s->region.bytes - info.used_bytes : info.used_bytes;
	series_call(&s->series[way], s->region.bytes - left, seconds);
	s->series[way].stayed_pages += left / UHMM_PAGE_BYTES;
	return 0;
}

static int run_side(struct bench *b, struct side *s)
{
	struct uhmm_result moved;

	if (go(b, s))
		return -EIO;
	touch_home(s);
	if (rig_to_system(&b->rig, &s->region, &moved) < 0 || prefetch(b, s, PREFETCH) || prefetch(b, s, PREFETCH_BACK))
		return -EIO;
	return rig_to_system(&b->rig, &s->region, &moved) < 0 ? -EIO : 0;
}

/* ---- all of it ---- */

static void forget(struct side sides[NR_UNITS], struct alone *a)
{
	for (size_t i = 0; i < NR_UNITS; i++)
		for (int way = 0; way < NR_WAYS; way++)
			series_forget(&sides[i].series[way]);
	alone_forget(a);
}

static int run_rounds(struct bench *b, struct side sides[NR_UNITS], struct alone *a)
{
	int r = 0;

	for (unsigned round = 0; !r && round <= b->rounds; round++) {
		term_progress("4 KiB, 64 KiB, 2 MiB", b->max_bytes * round, b->max_bytes * (b->rounds + 1));
		for (size_t i = 0; !r && i < NR_UNITS; i++)
			r = run_side(b, &sides[i]);
		if (!r)
			r = alone_round(a);
		if (round == 0)
			forget(sides, a);
	}
	term_clear();
	for (size_t i = 0; !r && i < NR_UNITS; i++)
		r = bench_intact(&sides[i].region) ? 0 : -EIO;
	return r || alone_intact(a) ? r : -EIO;
}

static void print(struct bench *b, struct side sides[NR_UNITS], struct alone *a)
{
	double gib_s[NR_UNITS][NR_WAYS];
	struct figure figures[ALONE_MAX_FIGURES];

	for (size_t i = 0; i < NR_UNITS; i++)
		for (int way = 0; way < NR_WAYS; way++) {
			struct row row = {
				.dir = way_names[way],
				.pages = units[i].pages == REGION_HUGE ? "huge" : "base",
				.order = sides[i].order,
				.threads = way < PREFETCH ? 1 : b->rig.copy_threads,
				.size_bytes = sides[i].unit,
			};

			gib_s[i][way] = bench_row(b, row, &sides[i].series[way])->gib_s;
		}
	const double *huge = gib_s[NR_UNITS - 1];
	const struct reached reached = { huge[TO_DEVICE], huge[FAULT], huge[PREFETCH], huge[PREFETCH_BACK] };

	alone_rows(a, b, &reached, figures);
	bench_summary(b, b->max_bytes, figures);
}

int bench_device(struct bench *b)
{
	struct side sides[NR_UNITS] = { 0 };
	struct alone alone = { 0 };
	int status, r = 0;

	b->max_bytes = size_round_up(b->max_bytes, UHMM_BLOCK_BYTES);
	status = rig_open(&b->rig, b->spec, b->max_bytes, 3 * b->max_bytes + alone_host_bytes(b));
	if (status != EXIT_DONE)
		return status;
	for (size_t i = 0; !r && i < NR_UNITS; i++)
		r = side_init(&sides[i], i, b->max_bytes, b->rounds);
	if (!r)
		r = alone_init(&alone, b);
	if (!r)
		r = run_rounds(b, sides, &alone);
	if (!r)
		print(b, sides, &alone);
	for (size_t i = 0; i < NR_UNITS; i++)
		side_fini(&sides[i]);
	alone_fini(&alone);
	return rig_close(&b->rig) == EXIT_DONE && !r ? EXIT_DONE : EXIT_FAILED;
}
