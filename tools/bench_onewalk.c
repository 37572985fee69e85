/* SPDX-License-Identifier: MIT */
/*
 * One walk against two. A range that is absent, wholly or by half, is sent to the device as it is: what is present
 * travels and what is absent is taken in the same pass, as folios that the device clears. The other way is what a program
 * does that lets absent pages fault in first: MADV_POPULATE_WRITE, then the same call. The two take turns on new memory
 * each time, and which of them begins changes from round to round.
 *
 * The contents are compared after coming home, out of the timing: what was written where pages were present, zeros
 * elsewhere.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "tools/bench.h"
#include "tools/clock.h"
#include "tools/cmd.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/term.h"

#define BASE_MAX_BYTES ((uint64_t)64 << 20) /* single pages take their time */
#define WORDS_PER_PAGE (UHMM_PAGE_BYTES / sizeof(uint64_t))

enum way { ONE_WALK, POPULATE_FIRST, NR_WAYS };

static const char *const way_names[NR_WAYS] = { "one_walk", "populate_first" };

/* What is present: of every two units the first, or nothing when unit_bytes is 0. */
static const struct pattern {
	const char *name;
	uint64_t unit_bytes;
	enum region_pages pages; /* single pages are present where no THP can be */
	const char *figure, *words;
} patterns[] = {
	{ "absent", 0, REGION_HUGE, "absent_ratio",
	  "\nnever touched:                   one walk takes %.2f of the time of populating first (wanted: at most 0.60)" },
	{ "half_blocks", UHMM_BLOCK_BYTES, REGION_HUGE, "half_blocks_ratio",
	  "every second 2 MiB present:      %.2f (wanted: at most 0.60)" },
	{ "half_pages", UHMM_PAGE_BYTES, REGION_BASE, "half_pages_ratio",
	  "every second base page present:  %.2f" },
};

#define NR_PATTERNS (sizeof(patterns) / sizeof(patterns[0]))

static uint64_t pattern_bytes(const struct bench *b, const struct pattern *p)
{
	return p->pages == REGION_BASE && b->max_bytes > BASE_MAX_BYTES ? BASE_MAX_BYTES : b->max_bytes;
}

static bool is_present(const struct pattern *p, uint64_t at_bytes)
{
	return p->unit_bytes && at_bytes / p->unit_bytes % 2 == 0;
}

static void fill(const struct pattern *p, struct region *r)
{
	uint64_t *word = (uint64_t *)r->mem;

	for (uint64_t at = 0; at < r->bytes; at += UHMM_PAGE_BYTES)
		for (uint64_t i = at / sizeof(*word), end = i + WORDS_PER_PAGE; is_present(p, at) && i < end; i++)
			word[i] = region_word(i);
}

static bool is_intact(const struct pattern *p, const struct region *r)
{
	const uint64_t *word = (const uint64_t *)r->mem;
	uint64_t wrong = 0;

	for (uint64_t at = 0; at < r->bytes; at += UHMM_PAGE_BYTES) {
		bool present = is_present(p, at);

		for (uint64_t i = at / sizeof(*word), end = i + WORDS_PER_PAGE; i < end; i++)
			wrong |= word[i] ^ (present ? region_word(i) : 0);
	}
	if (wrong)
		say("the bytes that came back are not those that left, or zeros: please report this with the output of "
		    "\"uhmm doctor\"");
	return !wrong;
}

static int populate(const struct region *r)
{
	if (!madvise(r->mem, r->bytes, MADV_POPULATE_WRITE))
		return 0;
	say("MADV_POPULATE_WRITE failed: %s; try a smaller --size", strerror(errno));
	return -errno;
}

static int send(struct bench *b, enum way way, struct region *r, struct series *s, unsigned *ret_order)
{
	uint64_t start = clock_ns();
	struct uhmm_result moved;

	if (way == POPULATE_FIRST && populate(r))
		return -EIO;
	if (rig_to_device(&b->rig, r, 0, r->bytes, &moved) < 0)
		return -EIO;
	series_move(s, r->bytes, &moved, (double)(clock_ns() - start) / 1e9);
	*ret_order = rig_smallest_order(&moved);
	return 0;
}

static int trip(struct bench *b, const struct pattern *p, enum way way, struct series *s, unsigned *ret_order)
{
	struct uhmm_result moved;
	struct region r;

	if (region_init(&r, pattern_bytes(b, p), p->pages))
		return -ENOMEM;
	fill(p, &r);
	if (send(b, way, &r, s, ret_order) || rig_to_system(&b->rig, &r, &moved) < 0 || !is_intact(p, &r)) {
		region_fini(&r);
		return -EIO;
	}
	region_fini(&r);
	return 0;
}

static int run_rounds(struct bench *b, const struct pattern *p, struct series s[NR_WAYS], unsigned order[NR_WAYS])
{
	uint64_t bytes = pattern_bytes(b, p);
	char what[64], size[SIZE_CHARS];

	snprintf(what, sizeof(what), "%s, %s", p->name, size_print(bytes, size));
	for (unsigned round = 0; round <= b->rounds; round++) {
		term_progress(what, bytes * round, bytes * (b->rounds + 1));
		for (unsigned i = 0; i < NR_WAYS; i++) {
			enum way way = (round + i) % NR_WAYS;

			if (trip(b, p, way, &s[way], &order[way]))
				return -EIO;
		}
		for (unsigned i = 0; round == 0 && i < NR_WAYS; i++)
			series_forget(&s[i]);
	}
	term_clear();
	return 0;
}

static double print_rows(struct bench *b, const struct pattern *p, struct series s[NR_WAYS], const unsigned order[NR_WAYS])
{
	double us[NR_WAYS];

	for (int way = 0; way < NR_WAYS; way++) {
		struct row row = {
			.dir = way_names[way],
			.pages = p->pages == REGION_HUGE ? "huge" : "base",
			.pattern = p->name,
			.order = order[way],
			.threads = b->rig.copy_threads,
			.size_bytes = pattern_bytes(b, p),
		};

		us[way] = bench_row(b, row, &s[way])->us_p50;
	}
	return us[POPULATE_FIRST] > 0 ? us[ONE_WALK] / us[POPULATE_FIRST] : 0;
}

/* Return: 0 with the ratio of the median times, or a negative errno after saying why. */
static int measure(struct bench *b, const struct pattern *p, double *ret_ratio)
{
	struct series s[NR_WAYS] = { 0 };
	unsigned order[NR_WAYS] = { 0 };
	int r = 0;

	for (int way = 0; way < NR_WAYS && !r; way++)
		r = series_init(&s[way], b->rounds);
	if (!r)
		r = run_rounds(b, p, s, order);
	if (!r)
		*ret_ratio = print_rows(b, p, s, order);
	for (int way = 0; way < NR_WAYS; way++)
		series_fini(&s[way]);
	return r;
}

int bench_onewalk(struct bench *b)
{
	struct figure figures[NR_PATTERNS + 1] = { 0 };
	int status;

	b->max_bytes = size_round_up(b->max_bytes, 2 * UHMM_BLOCK_BYTES); /* half of it is whole blocks */
	status = rig_open(&b->rig, b->spec, b->max_bytes, 2 * b->max_bytes);
	if (status != EXIT_DONE)
		return status;
	for (size_t i = 0; i < NR_PATTERNS && status == EXIT_DONE; i++) {
		figures[i].name = patterns[i].figure;
		figures[i].words = patterns[i].words;
		if (measure(b, &patterns[i], &figures[i].value))
			status = EXIT_FAILED;
	}
	if (status == EXIT_DONE)
		bench_summary(b, b->max_bytes, figures);
	return rig_close(&b->rig) == EXIT_DONE ? status : EXIT_FAILED;
}
