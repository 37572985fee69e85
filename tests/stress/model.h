/* SPDX-License-Identifier: MIT */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

/*
 * The plain model that model.c holds the program's memory against: a byte array and a state for each page. Only an
 * arena's own thread changes what is mapped there and what is in it, so its model is exact at every step; other threads
 * move its pages about, which must never show.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "stress.h"

#define ARENA_PAGES  ((size_t)4096)
#define ARENA_BYTES  (ARENA_PAGES * PAGE)
/*
 * Far from where the kernel puts mappings whose place nobody asks for: nothing else falls into an arena's holes. Of what
 * is far, this is what the sanitizers leave to programs.
 */
#define ARENAS_AT    ((char *)0x551000000000)
#define ARENA_STRIDE (ARENA_BYTES + BLOCK)
#define FILE_BYTES   ((size_t)256 << 10)
#define NR_NOTES     48

enum state { UNMAPPED, NONE, READABLE, WRITABLE };

/* What a thread has done, for the report. */
struct note {
	uint64_t step;
	const char *what;
	unsigned arena;
	size_t first, n, more;
};

struct arena {
	unsigned id;
	char *mem;                        /* NULL: a thread without an arena, which moves those of others */
	unsigned char *bytes;             /* what must be there; means nothing where no page is */
	unsigned char state[ARENA_PAGES]; /* enum state */
	uint64_t rnd;
	_Atomic uint64_t step;
	uint64_t limit;
	struct note notes[NR_NOTES];
	uint64_t nr_notes;
	unsigned char *buffer; /* ARENA_BYTES, never migrated */
	int pipe[2];
	int file;
	unsigned char *image; /* what is in the file */
};

struct range {
	size_t first, n; /* pages */
};

static struct arena *arenas;
static unsigned nr_arenas, nr_players; /* the last players have no arena */
static uint64_t seed;
static bool in_child;

static inline uint64_t draw(struct arena *a, uint64_t n) { return below(&a->rnd, n); }
static inline char *at_page(const struct arena *a, size_t page) { return a->mem + page * PAGE; }

static inline void note(struct arena *a, const char *what, unsigned arena, struct range r, size_t more)
{
	a->notes[a->nr_notes++ % NR_NOTES] = (struct note){ a->step, what, arena, r.first, r.n, more };
}

static inline void print_notes(const struct arena *a, unsigned arena)
{
	uint64_t i = a->nr_notes > NR_NOTES ? a->nr_notes - NR_NOTES : 0;

	for (; i < a->nr_notes; i++) {
		const struct note *n = &a->notes[i % NR_NOTES];

		if (n->arena == arena)
			fprintf(stderr, "  thread %u, step %llu: %s of %zu pages at page %zu, %zu\n", a->id, (unsigned long long)n->step,
				n->what, n->n, n->first, n->more);
	}
}

/* Says who was at which step, and what was done to the arena before. */
static inline void tell(const struct arena *a)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;

	while (atomic_flag_test_and_set(&said))
		pause();
	fprintf(stderr, "seed %llu, thread %u, step %llu%s; what was done to arena %u, at %p:\n", (unsigned long long)seed, a->id,
		(unsigned long long)a->step, in_child ? ", in a child" : "", a->id, (void *)a->mem);
	for (unsigned i = 0; i < nr_players; i++)
		if (i != a->id)
			print_notes(&arenas[i], a->id);
	print_notes(a, a->id);
}

#define MUST(a, condition, at, ...)                                                                                    \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			tell(a);                                                                                       \
			wrong(at, __VA_ARGS__);                                                                        \
		}                                                                                                      \
	} while (0)

/* The oracle: @found, which lies or has lain at @offset of the arena, is what the model says. */
static inline void expect(struct arena *a, const void *found, size_t offset, size_t len, const char *how)
{
	const unsigned char *is = found, *must = a->bytes + offset;
	size_t i = 0, differ = 0;

	if (!memcmp(is, must, len))
		return;
	for (size_t k = len; k-- > 0;)
		if (is[k] != must[k]) {
			differ++;
			i = k;
		}
	MUST(a, false, a->mem + offset + i, "%s page %zu, byte %zu: %02x was expected, and %02x found; %zu of %zu bytes differ now", how,
	     (offset + i) / PAGE, (offset + i) % PAGE, must[i], is[i], differ, len);
}

/* No byte of the page can be had, not by a system call either. */
static inline void expect_none(struct arena *a, size_t page)
{
	char byte;
	struct iovec to = { &byte, 1 }, from = { at_page(a, page), 1 };

	MUST(a, process_vm_readv(getpid(), &to, 1, &from, 1, 0) < 0, at_page(a, page), "a page that is %s can be read",
	     a->state[page] == UNMAPPED ? "not mapped" : "protected");
}

static inline void verify(struct arena *a, struct range r)
{
	for (size_t i = r.first, end = r.first + r.n, run; i < end; i += run) {
		for (run = 0; i + run < end && a->state[i + run] >= READABLE;)
			run++;
		if (run) {
			expect(a, at_page(a, i), i * PAGE, run * PAGE, "looking at");
			continue;
		}
		expect_none(a, i);
		for (run = 1; i + run < end && a->state[i + run] < READABLE;)
			run++;
	}
}

static inline struct range all_of_it(void) { return (struct range){ 0, ARENA_PAGES }; }

/* Few pages mostly, many now and then, and whole blocks. */
static inline struct range any_range(struct arena *a)
{
	static const size_t most[] = { 4, 4, 16, 16, 64, 600, 1500 };
	struct range r = { draw(a, ARENA_PAGES), 1 + draw(a, most[draw(a, 7)]) };

	if (draw(a, 4) == 0) {
		r.first &= ~(size_t)511;
		r.n = 512 * (1 + draw(a, 3));
	}
	if (r.first + r.n > ARENA_PAGES)
		r.n = ARENA_PAGES - r.first;
	return r;
}

/* Pages side by side, each in state @least or better, somewhere at or after a random place; false when there is none. */
static inline bool any_run(struct arena *a, enum state least, struct range *ret)
{
	struct range r = any_range(a);
	size_t n = 0, tried = 0;

	while (a->state[r.first] < least) {
		r.first = (r.first + 1) % ARENA_PAGES;
		if (++tried == ARENA_PAGES)
			return false;
	}
	while (n < r.n && r.first + n < ARENA_PAGES && a->state[r.first + n] >= least)
		n++;
	*ret = (struct range){ r.first, n };
	return true;
}

/* A place for the range, grown by @more, that does not overlap it; false when there is none. */
static inline bool other_place(struct arena *a, struct range r, size_t more, size_t *ret)
{
	size_t n = r.n + more, below_it = r.first >= n ? r.first - n + 1 : 0, after = r.first + r.n;
	size_t above = ARENA_PAGES >= after + n ? ARENA_PAGES - after - n + 1 : 0, k;

	if (below_it + above == 0)
		return false;
	k = draw(a, below_it + above);
	*ret = k < below_it ? k : after + k - below_it;
	/* at the same distance from a block's start, so that page tables can move as a whole */
	if (draw(a, 2) == 0) {
		k = (*ret & ~(size_t)511) + r.first % 512;
		if (k + n <= r.first || (k >= after && k + n <= ARENA_PAGES))
			*ret = k;
	}
	return true;
}

static inline void model_map(struct arena *a, struct range r, enum state state)
{
	memset(a->bytes + r.first * PAGE, 0, r.n * PAGE);
	memset(a->state + r.first, (int)state, r.n);
}

static inline void model_unmap(struct arena *a, struct range r) { memset(a->state + r.first, UNMAPPED, r.n); }

static inline void model_zero(struct arena *a, struct range r) { memset(a->bytes + r.first * PAGE, 0, r.n * PAGE); }

static inline void model_move(struct arena *a, struct range r, size_t to, bool stays)
{
	memcpy(a->bytes + to * PAGE, a->bytes + r.first * PAGE, r.n * PAGE);
	memcpy(a->state + to, a->state + r.first, r.n);
	if (stays)
		model_zero(a, r);
	else
		model_unmap(a, r);
}

/* New bytes in the model; the caller brings them into the memory. */
static inline void model_write(struct arena *a, size_t offset, size_t len)
{
	uint64_t x = next_random(&a->rnd) | 1;

	for (size_t i = 0; i < len; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(a->bytes + offset + i, &x, len - i < 8 ? len - i : 8);
	}
}

#endif
