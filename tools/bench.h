/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/rig.h"
#include "tools/samples.h"

/* One line of a result. Throughput is in GiB/s of the bytes that moved; times are of one call ("to_device", "copy", ...)
 * or of one touch ("fault", "fault_write"). */
struct row {
	const char *dir;
	const char *pages;     /* "huge" or "base": what was asked of the kernel; "pinned" or "managed": of CUDA */
	const char *pattern;   /* which pages were there before, where a bench tells them apart; else NULL */
	unsigned order;        /* of the folios that moved: what was got */
	unsigned threads;      /* that did it */
	uint64_t size_bytes;
	uint64_t stayed_pages; /* base pages that did not move, over all rounds */
	size_t samples;
	double gib_s, us_mean, us_p50, us_p99;
	double fraction;       /* of the copy alone, median of the rounds; 0: not compared */
};

#define BENCH_MAX_ROWS 160

struct bench {
	/* as it was asked for */
	const char *name;  /* "thp", "floor", "onewalk", "device" or "scale" */
	const char *spec;  /* NULL: a fitting emu: */
	const char *plot;  /* NULL: no picture */
	const char *sizes; /* what differs from row to row of a curve; NULL: there are none */
	uint64_t max_bytes;
	unsigned rounds;
	bool json;

	/* as it goes on */
	struct rig rig;
	struct row rows[BENCH_MAX_ROWS];
	size_t nr_rows;
};

/* What is measured for one row, while it is measured. */
struct series {
	struct samples us; /* one call's, or one touch's time */
	double bytes, seconds;
	uint64_t stayed_pages;
};

int series_init(struct series *s, size_t room);
void series_fini(struct series *s);

/* What came so far was to warm up. */
void series_forget(struct series *s);

/* Add one call that moved @bytes. */
void series_call(struct series *s, uint64_t bytes, double seconds);

/* Add one migration of @asked_bytes as @moved tells it. */
void series_move(struct series *s, uint64_t asked_bytes, const struct uhmm_result *moved, double seconds);

/* Fill in what @s knows of @row, keep the row and print it. Sorts the samples. */
const struct row *bench_row(struct bench *b, struct row row, struct series *s);

/* One figure of a summary; a name that is NULL ends a list. */
struct figure {
	const char *name;  /* the JSON key */
	double value;
	const char *words; /* printf format with one %f, for people; NULL: JSON only */
};

/* @size_bytes: the largest buffer, which the figures are about */
void bench_summary(const struct bench *b, uint64_t size_bytes, const struct figure *figures);

/* The benches. Return: an exit status, after saying why. */
int bench_thp(struct bench *b);
int bench_floor(struct bench *b);
int bench_onewalk(struct bench *b);
int bench_device(struct bench *b);
int bench_scale(struct bench *b);

/* Everything must be as region_fill() left it. Return: whether it is, after saying so if not. */
bool bench_intact(const struct region *r);

#endif
