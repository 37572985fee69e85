/* SPDX-License-Identifier: MIT */
/*
 * One walk against two. A range that is absent, wholly or by half, is sent to the device as it is: what is present
 * travels and what is absent is taken in the same pass, as folios that the device clears. The other way is what a program
 * does that lets absent pages fault in first: MADV_POPULATE_WRITE, then the same call. Beside them, the floor: what is
 * present copied and what is absent cleared by as many threads, in memory that is there already, with no page taken from
 * anybody. The three take turns on new memory each time, and which of them begins changes from round to round.
 *
 * The contents are compared after coming home, out of the timing: what was written where pages were present, zeros
 * elsewhere.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "tools/bench.h"
#include "tools/clock.h"
#include "tools/cmd.h"
#include "tools/crew.h"
#include "tools/say.h"
#include "tools/size.h"
#include "tools/term.h"
#include "uhmm/driver.h"

#define BASE_MAX_BYTES ((uint64_t)64 << 20) /* single pages take their time */
#define WORDS_PER_PAGE (UHMM_PAGE_BYTES / sizeof(uint64_t))

enum way { ONE_WALK, POPULATE_FIRST, BYTES_ALONE, NR_WAYS };

static const char *const way_names[NR_WAYS] = { "one_walk", "populate_first", "bytes_alone" };

/* What is present: of every two units the first, or nothing when unit_bytes is 0. */
static const struct pattern {
	const char *name;
	uint64_t unit_bytes;
	enum region_pages pages; /* single pages are present where no THP can be */
	const char *figure, *words, *floor;
} patterns[] = {
	{ "absent", 0, REGION_HUGE, "absent_ratio",
	  "\nnever touched:                   one walk takes %.2f of the time of populating first (wanted: at most 0.60)",
	  "absent_floor" },
	{ "half_blocks", UHMM_BLOCK_BYTES, REGION_HUGE, "half_blocks_ratio",
	  "every second 2 MiB present:      %.2f (wanted: at most 0.60)", "half_blocks_floor" },
	{ "half_pages", UHMM_PAGE_BYTES, REGION_BASE, "half_pages_ratio",
	  "every second base page present:  %.2f (wanted: at most 0.60)", "half_pages_floor" },
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

/* The floor: the bytes of a range, by pieces of 2 MiB. */
struct bytes_alone {
	const struct pattern *pattern;
	const struct region *from, *to;
	_Atomic uint64_t next; /* first byte that nobody has taken */
};

static void bytes_part(void *arg, unsigned index, unsigned nr)
{
	struct bytes_alone *a = arg;
	uint64_t unit = a->pattern->unit_bytes && a->pattern->unit_bytes < UHMM_BLOCK_BYTES ? a->pattern->unit_bytes : UHMM_BLOCK_BYTES;
	uint64_t at;

	(void)index;
	(void)nr;
	while ((at = atomic_fetch_add(&a->next, UHMM_BLOCK_BYTES)) < a->from->bytes)
		for (uint64_t end = at + UHMM_BLOCK_BYTES; at < end; at += unit) {
			if (is_present(a->pattern, at))
				uhmm_copy_away(a->to->mem + at, a->from->mem + at, unit);
			else
				uhmm_clear_away(a->to->mem + at, unit);
		}
}

struct floor {
	struct crew *crew;
	struct region store;
};

static int floor_init(struct floor *t, const struct bench *b, const struct pattern *p)
{
	t->crew = NULL;
	if (region_init(&t->store, pattern_bytes(b, p), REGION_HUGE))
		return -ENOMEM;
	memset(t->store.mem, 1, t->store.bytes); /* there from the start, as the device's memory is */
	if (!crew_create(&t->crew, b->rig.copy_threads))
		return 0;
	region_fini(&t->store);
	return -ENOMEM;
}

static void floor_fini(struct floor *t)
{
	crew_destroy(t->crew);
	region_fini(&t->store);
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

static int trip(struct bench *b, const struct pattern *p, enum way way, struct floor *t, struct series *s, unsigned *ret_order)
{
	struct uhmm_result moved;
	struct region r;

	if (region_init(&r, pattern_bytes(b, p), p->pages))
		return -ENOMEM;
	fill(p, &r);
	if (way == BYTES_ALONE) {
		struct bytes_alone a = { p, &r, &t->store, 0 };

		series_call(s, r.bytes, crew_run(t->crew, b->rig.copy_threads, bytes_part, &a));
		region_fini(&r);
		return 0;
	}
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
	struct floor t;
	int r = floor_init(&t, b, p);

	snprintf(what, sizeof(what), "%s, %s", p->name, size_print(bytes, size));
	for (unsigned round = 0; !r && round <= b->rounds; round++) {
		term_progress(what, bytes * round, bytes * (b->rounds + 1));
		for (unsigned i = 0; !r && i < NR_WAYS; i++) {
			enum way way = (round + i) % NR_WAYS;

			r = trip(b, p, way, &t, &s[way], &order[way]);
		}
		for (unsigned i = 0; round == 0 && i < NR_WAYS; i++)
			series_forget(&s[i]);
	}
	term_clear();
	if (t.crew)
		floor_fini(&t);
	return r;
}

/* The median times over that of populating first. */
static void print_rows(struct bench *b, const struct pattern *p, struct series s[NR_WAYS], const unsigned order[NR_WAYS],
		       double ratio[NR_WAYS])
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
	for (int way = 0; way < NR_WAYS; way++)
		ratio[way] = us[POPULATE_FIRST] > 0 ? us[way] / us[POPULATE_FIRST] : 0;
}

/* Return: 0 with the ratios of the median times, or a negative errno after saying why. */
static int measure(struct bench *b, const struct pattern *p, double ratio[NR_WAYS])
{
	struct series s[NR_WAYS] = { 0 };
	unsigned order[NR_WAYS] = { 0 };
	int r = 0;

	for (int way = 0; way < NR_WAYS && !r; way++)
		r = series_init(&s[way], b->rounds);
	if (!r)
		r = run_rounds(b, p, s, order);
	if (!r)
		print_rows(b, p, s, order, ratio);
	for (int way = 0; way < NR_WAYS; way++)
		series_fini(&s[way]);
	return r;
}

int bench_onewalk(struct bench *b)
{
	struct figure figures[2 * NR_PATTERNS + 1] = { 0 };
	int status;

	b->max_bytes = size_round_up(b->max_bytes, 2 * UHMM_BLOCK_BYTES); /* half of it is whole blocks */
	status = rig_open(&b->rig, b->spec, b->max_bytes, 3 * b->max_bytes);
	if (status != EXIT_DONE)
		return status;
	for (size_t i = 0; i < NR_PATTERNS && status == EXIT_DONE; i++) {
		double ratio[NR_WAYS] = { 0 };

		if (measure(b, &patterns[i], ratio))
			status = EXIT_FAILED;
		figures[2 * i] = (struct figure){ .name = patterns[i].figure, .value = ratio[ONE_WALK], .words = patterns[i].words };
		figures[2 * i + 1] = (struct figure){ .name = patterns[i].floor, .value = ratio[BYTES_ALONE],
						      .words = "    the bytes alone, nothing taken:  %.2f" };
	}
	if (status == EXIT_DONE)
		bench_summary(b, b->max_bytes, figures);
	return rig_close(&b->rig) == EXIT_DONE ? status : EXIT_FAILED;
}
