/* SPDX-License-Identifier: MIT */
/*
 * uhmm against the copy alone. However clever the rest is, the bytes must be copied once; so the copy, by the same
 * routine, between THPs that are there already, with as many threads, is the floor under everything. Floor and
 * uhmm take turns (A B A B), and a fraction is made of two neighbours, so that it is of one moment.
 *
 * Beside it stands a second floor, that of any user-space pager (tools/bare.h): the copy and the UFFDIO_MOVEs around it,
 * and nothing else. What a MOVE and a wake-up cost is the machine's affair; what uhmm costs is between the two.
 *
 * Part one: the way there, in sizes from 2 MiB up. Both must find the source in the same state, just brought home, so
 * the copy is followed by a round trip that nobody times.
 *
 * Part two: the way home, at the largest size. A CPU touch of a 2 MiB folio costs a copy of data that were last
 * used a whole buffer ago; so the copy beside it walks through a buffer just as large. What is left is uhmm's own
 * cost. A part of it is the machine's, which wakes a thread on an idle CPU; so it is measured with all threads on one
 * CPU, too. Then the same with two threads, each in its own half.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/bare.h"
#include "tools/bench.h"
#include "tools/clock.h"
#include "tools/cmd.h"
#include "tools/crew.h"
#include "tools/place.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/term.h"
#include "tools/touch.h"
#include "uhmm/driver.h"

#define MAX_SIZES 40
#define MAX_TRIES 10
#define FRACTION_FROM ((uint64_t)64 << 20) /* smaller buffers do not count for the summary */

struct floor {
	struct bench *bench;
	struct crew *crew;
	struct region here, there; /* what moves; where the plain copy goes */
	struct bare *bare;
};

static int floor_open(struct floor *f, struct bench *b, uint64_t bytes)
{
	unsigned nr = b->rig.copy_threads;
	int r;

	memset(f, 0, sizeof(*f));
	f->bench = b;
	r = region_init(&f->here, bytes, REGION_HUGE);
	if (!r)
		r = region_init(&f->there, bytes, REGION_HUGE);
	if (!r)
		r = crew_create(&f->crew, nr > 2 ? nr : 2);
	if (!r)
		r = bare_open(&f->bare, bytes, REGION_HUGE);
	if (r)
		return r;
	region_fill(&f->here);
	region_fill(&f->there);
	return 0;
}

static void floor_close(struct floor *f)
{
	bare_close(f->bare);
	crew_destroy(f->crew);
	region_fini(&f->there);
	region_fini(&f->here);
}

static double come(struct floor *f)
{
	struct uhmm_result moved;

	return rig_to_system(&f->bench->rig, &f->here, &moved);
}

/* A measurement is of whole buffers: when a block stays - somebody looked at its page just then - all of it comes home
 * and goes again. Return: seconds, or a negative value after saying why. */
static double go(struct floor *f, struct series *s)
{
	struct uhmm_result moved;
	double seconds;

	for (int tries = 0; tries < MAX_TRIES; tries++) {
		seconds = rig_to_device(&f->bench->rig, &f->here, 0, f->here.bytes, &moved);
		if (seconds < 0)
			return -1;
		if (moved.moved_folios[UHMM_ORDER_MAX] * UHMM_BLOCK_BYTES == f->here.bytes) {
			if (s)
				series_call(s, f->here.bytes, seconds);
			return seconds;
		}
		if (s)
			s->stayed_pages += (f->here.bytes - moved.moved_bytes) / UHMM_PAGE_BYTES;
		if (come(f) < 0)
			return -1;
	}
	say("some of the buffer never leaves as 2 MiB folios, and only those can be compared: \"uhmm doctor\" may tell why");
	return -1;
}

/* --- part one: there -------------------------------------------------------------------------------------------- */

struct there {
	struct series copy, bare, uhmm;
	struct samples fraction, bare_fraction; /* of the copy: uhmm's, and the bare one's */
};

static int there_init(struct there *t, unsigned rounds)
{
	int r;

	memset(t, 0, sizeof(*t));
	r = series_init(&t->copy, rounds);
	if (!r)
		r = series_init(&t->bare, rounds);
	if (!r)
		r = series_init(&t->uhmm, rounds);
	if (!r)
		r = samples_init(&t->fraction, rounds);
	if (!r)
		r = samples_init(&t->bare_fraction, rounds);
	return r;
}

static void there_fini(struct there *t)
{
	series_fini(&t->copy);
	series_fini(&t->bare);
	series_fini(&t->uhmm);
	samples_fini(&t->fraction);
	samples_fini(&t->bare_fraction);
}

/* Moves the bare pager's memory out and has it touched home. Return: seconds of the way out, or a negative value. */
static double bare_trip(struct floor *f)
{
	double seconds = bare_empty(f->bare, f->crew, f->bench->rig.copy_threads);
	struct samples nobody = { 0 };

	if (seconds < 0 || bare_pass(f->bare, place_threads(PLACE_FREE), &nobody) < 0)
		return -1;
	return seconds;
}

static int there_round(struct floor *f, struct there *t, bool keep)
{
	uint64_t bytes = f->here.bytes;
	double uhmm_s, copy_s, bare_s;

	uhmm_s = go(f, keep ? &t->uhmm : NULL);
	if (uhmm_s < 0 || come(f) < 0)
		return -EIO;
	copy_s = crew_copy(f->crew, f->bench->rig.copy_threads, f->there.mem, f->here.mem, bytes);
	if (go(f, NULL) < 0 || come(f) < 0)
		return -EIO;
	bare_s = bare_trip(f);
	if (bare_s < 0)
		return -EIO;
	if (!keep)
		return 0;
	series_call(&t->copy, bytes, copy_s);
	series_call(&t->bare, bytes, bare_s);
	samples_add(&t->bare_fraction, copy_s / bare_s);
	samples_add(&t->fraction, copy_s / uhmm_s);
	return 0;
}

/* Medians over the rounds, of the copy's throughput. */
struct fractions {
	double uhmm, bare;
};

static void there_rows(struct floor *f, struct there *t, struct fractions *ret)
{
	struct row row = {
		.dir = "copy",
		.pages = "huge",
		.order = UHMM_ORDER_MAX,
		.threads = f->bench->rig.copy_threads,
		.size_bytes = f->here.bytes,
	};

	bench_row(f->bench, row, &t->copy);
	row.dir = "bare_move";
	row.fraction = ret->bare = samples_at(&t->bare_fraction, 0.50);
	bench_row(f->bench, row, &t->bare);
	row.dir = "to_device";
	row.fraction = ret->uhmm = samples_at(&t->fraction, 0.50);
	bench_row(f->bench, row, &t->uhmm);
}

/* Return: 0, or a negative errno after saying why. */
static int measure_there(struct bench *b, uint64_t bytes, struct fractions *ret)
{
	char what[64], size[SIZE_CHARS];
	struct there t = { 0 };
	struct floor f;
	int r = floor_open(&f, b, bytes);

	if (!r)
		r = there_init(&t, b->rounds);
	snprintf(what, sizeof(what), "to the device, %s", size_print(bytes, size));
	for (unsigned round = 0; round <= b->rounds && !r; round++) {
		term_progress(what, bytes * round, bytes * (b->rounds + 1));
		r = there_round(&f, &t, round > 0);
	}
	if (!r && !bench_intact(&f.here))
		r = -EIO;
	if (!r)
		there_rows(&f, &t, ret);
	there_fini(&t);
	floor_close(&f);
	return r;
}

/* --- part two: home --------------------------------------------------------------------------------------------- */

enum pass { FAULT_1, COPY_1, BARE_1, FAULT_ONE_CPU, BARE_ONE_CPU, FAULT_2, COPY_2, NR_PASSES };
enum what { DO_TOUCH, DO_COPY, DO_BARE };

static const struct pass_kind {
	const char *dir;
	unsigned threads;
	enum what what;
	enum placement placement;
} kinds[NR_PASSES] = {
	[FAULT_1]       = { "fault", 1, DO_TOUCH, PLACE_FREE },
	[COPY_1]        = { "copy_2mib", 1, DO_COPY, PLACE_FREE },
	[BARE_1]        = { "bare_fault", 1, DO_BARE, PLACE_FREE },
	[FAULT_ONE_CPU] = { "fault_one_cpu", 1, DO_TOUCH, PLACE_ONE_CPU },
	[BARE_ONE_CPU]  = { "bare_fault_one_cpu", 1, DO_BARE, PLACE_ONE_CPU },
	[FAULT_2]       = { "fault", 2, DO_TOUCH, PLACE_FREE },
	[COPY_2]        = { "copy_2mib", 2, DO_COPY, PLACE_FREE },
};

struct home {
	struct floor *floor;
	enum pass pass;
	struct samples part[2];             /* of the pass that runs now, one per thread */
	struct series series[NR_PASSES];    /* every block's time */
	struct samples pass_us[NR_PASSES];  /* every pass's time */
};

static int home_init(struct home *h, struct floor *f)
{
	size_t blocks = f->here.bytes / UHMM_BLOCK_BYTES;
	int r = 0;

	memset(h, 0, sizeof(*h));
	h->floor = f;
	for (int i = 0; i < 2 && !r; i++)
		r = samples_init(&h->part[i], blocks);
	for (int p = 0; p < NR_PASSES && !r; p++) {
		r = series_init(&h->series[p], blocks * f->bench->rounds);
		if (!r)
			r = samples_init(&h->pass_us[p], f->bench->rounds);
	}
	return r;
}

static void home_fini(struct home *h)
{
	for (int i = 0; i < 2; i++)
		samples_fini(&h->part[i]);
	for (int p = 0; p < NR_PASSES; p++) {
		series_fini(&h->series[p]);
		samples_fini(&h->pass_us[p]);
	}
}

static void copy_blocks(const struct floor *f, uint64_t from, uint64_t to, struct samples *ret_us)
{
	for (uint64_t at = from; at < to; at += UHMM_BLOCK_BYTES) {
		uint64_t start = clock_ns();

		uhmm_copy(f->there.mem + at, f->here.mem + at, UHMM_BLOCK_BYTES);
		samples_add(ret_us, clock_us_since(start));
	}
}

static void home_part(void *arg, unsigned index, unsigned nr)
{
	struct home *h = arg;
	const struct floor *f = h->floor;
	uint64_t blocks = f->here.bytes / UHMM_BLOCK_BYTES;
	uint64_t from = blocks * index / nr * UHMM_BLOCK_BYTES, to = blocks * (index + 1) / nr * UHMM_BLOCK_BYTES;

	h->part[index].nr = 0;
	if (kinds[h->pass].what == DO_TOUCH)
		touch_range(&f->here, from, to, UHMM_BLOCK_BYTES, TOUCH_READ, &h->part[index]);
	else
		copy_blocks(f, from, to, &h->part[index]);
}

static double run_placed(struct home *h)
{
	const struct pass_kind *kind = &kinds[h->pass];
	const cpu_set_t *others = place_threads(kind->placement);
	double seconds;

	if (kind->what == DO_BARE) {
		h->part[0].nr = 0;
		seconds = bare_pass(h->floor->bare, others, &h->part[0]);
	} else {
		seconds = crew_run(h->floor->crew, kind->threads, home_part, h);
	}
	place_threads(PLACE_FREE);
	return seconds;
}

static int run_pass(struct home *h, enum pass pass, bool keep)
{
	struct floor *f = h->floor;
	struct series *s = &h->series[pass];
	double seconds;

	h->pass = pass;
	if (kinds[pass].what == DO_TOUCH && go(f, NULL) < 0)
		return -EIO;
	if (kinds[pass].what == DO_BARE && bare_empty(f->bare, f->crew, f->bench->rig.copy_threads) < 0)
		return -EIO;
	seconds = run_placed(h);
	if (seconds < 0)
		return -EIO;
	if (!keep)
		return 0;
	samples_add(&h->pass_us[pass], seconds * 1e6);
	s->seconds += seconds;
	s->bytes += (double)h->floor->here.bytes;
	for (unsigned i = 0; i < kinds[pass].threads; i++)
		for (size_t k = 0; k < h->part[i].nr; k++)
			samples_add(&s->us, h->part[i].value[k]);
	return 0;
}

static int home_round(struct home *h, bool keep)
{
	int r = 0;

	for (int pass = 0; pass < NR_PASSES && !r; pass++)
		r = run_pass(h, (enum pass)pass, keep);
	return r;
}

struct home_figures {
	double overhead_us, overhead_one_cpu_us, bare_us, bare_one_cpu_us, fault_ratio, copy_ratio;
};

static void home_rows(struct home *h, struct home_figures *ret)
{
	double p50[NR_PASSES], pass_p50[NR_PASSES];

	for (int p = 0; p < NR_PASSES; p++) {
		struct row row = {
			.dir = kinds[p].dir,
			.pages = "huge",
			.order = UHMM_ORDER_MAX,
			.threads = kinds[p].threads,
			.size_bytes = h->floor->here.bytes,
		};

		p50[p] = bench_row(h->floor->bench, row, &h->series[p])->us_p50;
		pass_p50[p] = samples_at(&h->pass_us[p], 0.50);
	}
	ret->overhead_us = p50[FAULT_1] - p50[COPY_1];
	ret->overhead_one_cpu_us = p50[FAULT_ONE_CPU] - p50[COPY_1];
	ret->bare_us = p50[BARE_1] - p50[COPY_1];
	ret->bare_one_cpu_us = p50[BARE_ONE_CPU] - p50[COPY_1];
	ret->fault_ratio = pass_p50[FAULT_2] > 0 ? pass_p50[FAULT_1] / pass_p50[FAULT_2] : 0;
	ret->copy_ratio = pass_p50[COPY_2] > 0 ? pass_p50[COPY_1] / pass_p50[COPY_2] : 0;
}

static int measure_home(struct bench *b, uint64_t bytes, struct home_figures *ret)
{
	struct home h = { 0 };
	struct floor f;
	int r = floor_open(&f, b, bytes);

	if (!r)
		r = home_init(&h, &f);
	for (unsigned round = 0; round <= b->rounds && !r; round++) {
		term_progress("home by CPU touches", bytes * round, bytes * (b->rounds + 1));
		r = home_round(&h, round > 0);
	}
	if (!r && !bench_intact(&f.here))
		r = -EIO;
	if (!r)
		home_rows(&h, ret);
	home_fini(&h);
	floor_close(&f);
	return r;
}

/* --- both ------------------------------------------------------------------------------------------------------- */

static void summarize(const struct bench *b, uint64_t bytes, const struct fractions *there, const struct home_figures *home)
{
	const struct figure figures[] = {
		{ "to_device_fraction", there->uhmm,
		  "\nto the device:  %.3f of the copy's throughput, at the worst of the large sizes" },
		{ "bare_move_fraction", there->bare, "                %.3f is what moving and copying alone reach there" },
		{ "fault_overhead_us_p50", home->overhead_us, "home by a touch: %.1f us per 2 MiB beyond the copy (medians)" },
		{ "bare_overhead_us_p50", home->bare_us, "                %.1f us for a bare userfaultfd that copies and moves" },
		{ "fault_overhead_one_cpu_us_p50", home->overhead_one_cpu_us,
		  "                %.1f us with all threads on one CPU, so that none has to be woken elsewhere" },
		{ "bare_overhead_one_cpu_us_p50", home->bare_one_cpu_us, "                %.1f us for the bare one there" },
		{ "fault_threads_ratio", home->fault_ratio, "two threads:    touch home %.2f times as fast as one" },
		{ "copy_threads_ratio", home->copy_ratio, "                and copy %.2f times as fast as one" },
		{ 0 },
	};

	bench_summary(b, bytes, figures);
}

static int measure(struct bench *b, const uint64_t *sizes, size_t nr)
{
	uint64_t max = sizes[nr - 1], count_from = max < FRACTION_FROM ? max : FRACTION_FROM;
	struct fractions there = { 0 }, worst = { 0 };
	struct home_figures home = { 0 };

	for (size_t i = 0; i < nr; i++) {
		if (measure_there(b, sizes[i], &there))
			return EXIT_FAILED;
		if (sizes[i] >= count_from && (worst.uhmm == 0 || there.uhmm < worst.uhmm))
			worst = there;
	}
	if (measure_home(b, max, &home))
		return EXIT_FAILED;
	summarize(b, max, &worst, &home);
	return EXIT_DONE;
}

int bench_floor(struct bench *b)
{
	uint64_t sizes[MAX_SIZES], max = size_round_up(b->max_bytes, UHMM_BLOCK_BYTES);
	size_t nr = 0;
	int status;

	for (uint64_t bytes = UHMM_BLOCK_BYTES; bytes <= max && nr < MAX_SIZES - 1; bytes *= 2)
		sizes[nr++] = bytes;
	if (sizes[nr - 1] != max)
		sizes[nr++] = max;
	status = rig_open(&b->rig, b->spec, max, 4 * max);
	if (status != EXIT_DONE)
		return status;
	status = measure(b, sizes, nr);
	return rig_close(&b->rig) == EXIT_DONE ? status : EXIT_FAILED;
}
