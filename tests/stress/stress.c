/* SPDX-License-Identifier: MIT */
/*
 * Everything at once, and an oracle for every byte.
 *
 *   words     pages in which each writer owns a word that it counts up, all writers share one that they add to, and the
 *             rest never changes; a lost write shows as a wrong count, a page in the wrong place as wrong rest
 *   patterns  pages that are rewritten as a whole, each by one writer; stale pages show
 *   scratch   pages that one thread writes, discards and expects to be zero
 *   visitors  mappings that come and go at one address (HOST.md, section 5), fresh ones zero, others as filled
 *
 * Two threads move random pieces of all of this between the system and two devices, one large, one small and asynchronous;
 * a third drives the visitors' whole address range away, again and again.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "stress.h"

#define NR_WRITERS   3
#define NR_MOVERS    2
#define NR_VISITORS  2
#define SHARED_WORD  NR_WRITERS        /* of a page of words */
#define REST         (NR_WRITERS + 1)  /* from here on it never changes */
#define VISIT_BYTES  (3 * BLOCK)
#define VISIT_AT     ((char *)0x100000000000)
#define VISIT_STRIDE (4 * BLOCK)

struct region {
	char *mem;
	size_t pages;
	bool huge;
};

enum { WORDS_HUGE, WORDS_SMALL, PATTERNS_HUGE, PATTERNS_SMALL, SCRATCH, NR_REGIONS };

static struct region region[NR_REGIONS] = {
	[WORDS_HUGE]     = { NULL, 8 * 512, true },
	[WORDS_SMALL]    = { NULL, 2 * 512, false },
	[PATTERNS_HUGE]  = { NULL, 8 * 512, true },
	[PATTERNS_SMALL] = { NULL, 2 * 512, false },
	[SCRATCH]        = { NULL, 4 * 512, true },
};

static struct uhmm_device *device[2];
static uint64_t seed;
static uint64_t *own_count[NR_WRITERS][2], *added[NR_WRITERS][2]; /* by page of the two regions of words */
static uint64_t *generation[NR_REGIONS];                          /* by page: the seed of its pattern; SCRATCH: 0, zeros */
static _Atomic uint64_t nr_checks;

static char *page_of(const struct region *r, size_t i) { return r->mem + i * PAGE; }

static void check_rest(const char *page)
{
	int64_t bad = check_pattern_at(page + REST * 8, PAGE - REST * 8, seed, (uintptr_t)page);

	if (bad >= 0)
		wrong(page, "a word that never changes has changed, at %lld", (long long)bad + REST * 8);
	nr_checks++;
}

static void check_page(const char *page, uint64_t gen)
{
	int64_t bad = gen ? check_pattern(page, PAGE, gen) : check_zero(page, PAGE);

	if (bad >= 0)
		wrong(page, "the page does not hold generation %llx: word %lld is %llx", (unsigned long long)gen, (long long)bad / 8,
		      (unsigned long long)((const uint64_t *)page)[bad / 8]);
	nr_checks++;
}

static void count_up(unsigned me, unsigned which, size_t i)
{
	_Atomic uint64_t *shared = (_Atomic uint64_t *)page_of(&region[which], i) + SHARED_WORD;
	volatile uint64_t *word = (volatile uint64_t *)page_of(&region[which], i) + me;
	uint64_t was = (*word)++, total;

	if (was != own_count[me][which][i]++)
		wrong((const void *)word, "writer %u had counted to %llu, and found %llu", me,
		      (unsigned long long)own_count[me][which][i] - 1, (unsigned long long)was);
	total = atomic_fetch_add(shared, 1);
	if (total < added[me][which][i]++)
		wrong(shared, "the shared word is %llu, and writer %u alone has added more", (unsigned long long)total, me);
}

static void rewrite(unsigned which, size_t i, uint64_t gen)
{
	check_page(page_of(&region[which], i), generation[which][i]);
	fill_pattern(page_of(&region[which], i), PAGE, gen);
	generation[which][i] = gen;
}

static void *writer(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint64_t rnd = seed + 100 + me;

	while (!stop_now) {
		unsigned small = below(&rnd, 2);
		size_t i = below(&rnd, region[WORDS_HUGE + small].pages);

		/* a run of pages, so that not every touch is a fault */
		for (unsigned n = 0; n < 20 && i < region[WORDS_HUGE + small].pages; n++, i++)
			count_up(me, small, i);
		i = below(&rnd, region[PATTERNS_HUGE + small].pages / NR_WRITERS - 8) * NR_WRITERS + me;
		for (unsigned n = 0; n < 8; n++)
			rewrite(PATTERNS_HUGE + small, i + n * NR_WRITERS, next_random(&rnd) | 1);
	}
	return NULL;
}

static void *reader(void *arg)
{
	uint64_t rnd = seed + 200;

	while (!stop_now) {
		struct region *r = &region[below(&rnd, 2)];

		check_rest(page_of(r, below(&rnd, r->pages)));
	}
	return arg;
}

/* Writes, discards (in three ways), and looks. */
static void *discarder(void *arg)
{
	struct region *r = &region[SCRATCH];
	uint64_t rnd = seed + 300, *gen = generation[SCRATCH];

	while (!stop_now) {
		size_t first = below(&rnd, r->pages), n = below(&rnd, 8) ? 1 + below(&rnd, 20) : 512 + below(&rnd, 600);

		if (below(&rnd, 4) == 0) {
			first &= ~(size_t)511;
			n = 512;
		}
		if (first + n > r->pages)
			n = r->pages - first;
		switch (below(&rnd, 4)) {
		case 0:
			if (uhmm_discard(space, page_of(r, first), n * PAGE))
				wrong(page_of(r, first), "uhmm_discard failed");
			memset(gen + first, 0, n * sizeof(*gen));
			break;
		case 1:
			if (madvise(page_of(r, first), n * PAGE, MADV_DONTNEED))
				wrong(page_of(r, first), "madvise failed");
			memset(gen + first, 0, n * sizeof(*gen));
			break;
		default:
			for (size_t i = first; i < first + n; i++)
				rewrite(SCRATCH, i, next_random(&rnd) | 1);
		}
		for (size_t i = first; i < first + n; i += 1 + below(&rnd, 4))
			check_page(page_of(r, i), gen[i]);
	}
	return arg;
}

/* One life of a mapping: zeros when it is new, as filled until it ends. */
static void visit(char *at, uint64_t *rnd)
{
	size_t bytes = PAGE * (1 + below(rnd, below(rnd, 50) ? 8 : VISIT_BYTES / PAGE)), offset = below(rnd, 2) ? 0 : PAGE;
	uint64_t gen = next_random(rnd) | 1;
	char *mem;

	bytes = bytes + offset > VISIT_BYTES ? VISIT_BYTES - offset : bytes;
	mem = mmap(at + offset, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (mem != at + offset)
		wrong(at, "mmap: %s", strerror(errno));
	if (below(rnd, 2))
		(void)madvise(mem, bytes, MADV_HUGEPAGE);
	for (unsigned life = 0; life < 2; life++, gen += 2) {
		for (size_t i = 0; i < bytes; i += PAGE * (1 + below(rnd, 16)))
			check_page(mem + i, 0);
		for (size_t i = 0; i < bytes; i += PAGE)
			fill_pattern_at(mem + i, PAGE, gen, i);
		for (size_t i = 0; i < bytes; i += PAGE) {
			int64_t bad = check_pattern_at(mem + i, PAGE, gen, i);

			if (bad >= 0)
				wrong(mem + i + bad, "a short-lived mapping of %zu bytes has lost what was written", bytes);
			nr_checks++;
		}
		if (life == 0 && below(rnd, 2))
			break;
		/* a new one over it */
		if (life == 0 && mmap(mem, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != mem)
			wrong(mem, "mmap over it: %s", strerror(errno));
	}
	munmap(mem, bytes);
}

static void *visitor(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint64_t rnd = seed + 400 + me;

	while (!stop_now)
		visit(VISIT_AT + me * VISIT_STRIDE, &rnd);
	return NULL;
}

static bool fine(int r) { return r == 0 || r == UHMM_E_PARTIAL; }

static void *evictor(void *arg)
{
	uint64_t rnd = seed + 600;

	while (!stop_now) {
		char *at = below(&rnd, 2) ? VISIT_AT : VISIT_AT + below(&rnd, NR_VISITORS) * VISIT_STRIDE;
		size_t bytes = at == VISIT_AT ? NR_VISITORS * VISIT_STRIDE : below(&rnd, 2) ? 8 * PAGE : VISIT_BYTES;
		int r = uhmm_to_device(space, at, bytes, device[0], 0, NULL);

		if (!fine(r) && r != -EFAULT) /* no visitor was there */
			wrong(at, "evicting the visitors: %s", uhmm_strerror(r));
		/* let them touch some pages in between */
		for (uint64_t n = below(&rnd, 8); n; n--)
			sched_yield();
	}
	return arg;
}

static void move_something(uint64_t *rnd)
{
	struct region *r = &region[below(rnd, NR_REGIONS)];
	size_t first = below(rnd, r->pages), n = 1 + below(rnd, below(rnd, 2) ? 16 : r->pages);
	struct uhmm_device *dev = device[below(rnd, 3) == 0];
	int res;

	if (below(rnd, r->huge ? 8 : 2)) {
		first &= ~(size_t)511;
		n = 512 * (1 + below(rnd, 4));
	}
	if (r->huge && below(rnd, 4) == 0) /* what has come apart becomes huge again, or fails to: both is fine */
		(void)madvise(r->mem + first / 512 * BLOCK, BLOCK, MADV_COLLAPSE);
	if (first + n > r->pages)
		n = r->pages - first;
	switch (below(rnd, 8)) {
	case 0:
		res = uhmm_prefetch(space, page_of(r, first), n * PAGE, below(rnd, 2) ? dev : NULL);
		if (res == -EAGAIN)
			res = uhmm_prefetch_wait(space);
		break;
	case 1:
	case 2:
		res = uhmm_to_system(space, page_of(r, first), n * PAGE, 0, NULL);
		break;
	default:
		res = uhmm_to_device(space, page_of(r, first), n * PAGE, dev, 0, NULL);
	}
	if (!fine(res))
		wrong(page_of(r, first), "moving %zu pages: %s", n, uhmm_strerror(res));
}

static void *mover(void *arg)
{
	uint64_t rnd = seed + 500 + (uintptr_t)arg;

	while (!stop_now)
		move_something(&rnd);
	return NULL;
}

static void check_all(void)
{
	for (unsigned which = 0; which < 2; which++)
		for (size_t i = 0; i < region[which].pages; i++) {
			const uint64_t *words = (const uint64_t *)page_of(&region[which], i);
			uint64_t sum = 0;

			check_rest((const char *)words);
			for (unsigned t = 0; t < NR_WRITERS; t++) {
				if (words[t] != own_count[t][which][i])
					wrong(words + t, "writer %u counted to %llu, and the word is %llu", t,
					      (unsigned long long)own_count[t][which][i], (unsigned long long)words[t]);
				sum += added[t][which][i];
			}
			if (words[SHARED_WORD] != sum)
				wrong(words + SHARED_WORD, "%llu was added to the shared word, and it is %llu", (unsigned long long)sum,
				      (unsigned long long)words[SHARED_WORD]);
		}
	for (unsigned which = PATTERNS_HUGE; which < NR_REGIONS; which++)
		for (size_t i = 0; i < region[which].pages; i++)
			check_page(page_of(&region[which], i), generation[which][i]);
}

static void prepare(void)
{
	for (unsigned which = 0; which < NR_REGIONS; which++) {
		struct region *r = &region[which];

		/* small ones do not start at a block's start */
		r->mem = map_anon(r->pages * PAGE, r->huge, r->huge);
		generation[which] = calloc(r->pages, sizeof(uint64_t));
		for (unsigned t = 0; t < NR_WRITERS && which < 2; t++) {
			own_count[t][which] = calloc(r->pages, sizeof(uint64_t));
			added[t][which] = calloc(r->pages, sizeof(uint64_t));
		}
		for (size_t i = 0; i < r->pages && which < 2; i++)
			fill_pattern_at(page_of(r, i) + REST * 8, PAGE - REST * 8, seed, (uintptr_t)page_of(r, i));
	}
}

int main(void)
{
	pthread_t threads[NR_WRITERS + NR_MOVERS + NR_VISITORS + 3];
	unsigned nr = 0, seconds = stress_seconds(20);

	skip_unless_uffd();
	seed = seed_from_env();
	space = open_space_or_skip(NULL);
	if (uhmm_device_open(space, "emu:size=256M", &device[0]) || uhmm_device_open(space, "emu:size=8M,async=on", &device[1]))
		wrong(NULL, "the devices cannot be opened");
	prepare();
	for (uintptr_t i = 0; i < NR_WRITERS; i++)
		start(&threads[nr++], writer, (void *)i);
	for (uintptr_t i = 0; i < NR_MOVERS; i++)
		start(&threads[nr++], mover, (void *)i);
	for (uintptr_t i = 0; i < NR_VISITORS; i++)
		start(&threads[nr++], visitor, (void *)i);
	start(&threads[nr++], reader, NULL);
	start(&threads[nr++], discarder, NULL);
	start(&threads[nr++], evictor, NULL);
	run_for(seconds);
	while (nr)
		pthread_join(threads[--nr], NULL);
	if (uhmm_prefetch_wait(space))
		wrong(NULL, "uhmm_prefetch_wait failed");
	printf("# %llu pages checked\n", (unsigned long long)nr_checks);
	print_stats();
	check_all();
	if (uhmm_close(space))
		wrong(NULL, "uhmm_close failed");
	space = NULL;
	check_all();
	return 0;
}
