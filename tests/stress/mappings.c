/* SPDX-License-Identifier: MIT */
/*
 * The address space changes while everything in it is being driven to a device: mappings come and go, are moved, are
 * protected and opened again, and are discarded by one thread while another writes to them.
 *
 *   visitors   map at one address, expect zeros, fill, check, unmap or map over, again and again
 *   travellers hold a filled mapping and move it back and forth with mremap, grow and shrink it
 *   guards     make a piece of a filled mapping read-only, read it, and open it again
 *   the pair   one thread counts words up, the other discards them: after madvise() a word is zero or newer than before
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "stress.h"

#define NR_VISITORS   2
#define NR_TRAVELLERS 2
#define LANE          (16 * BLOCK) /* address space for one of them, and nobody else */
#define LANES_AT      ((char *)0x110000000000)
#define TRAVEL_MAX    (3 * BLOCK)
#define PAIR_PAGES    (2 * 512)

enum { LANE_VISITOR, LANE_TRAVELLER = LANE_VISITOR + NR_VISITORS, LANE_GUARD = LANE_TRAVELLER + NR_TRAVELLERS, LANE_PAIR, NR_LANES };

static struct uhmm_device *device;
static uint64_t seed;
static _Atomic uint64_t nr_lives;
static _Atomic uint64_t pair_done[PAIR_PAGES]; /* the last number that has surely been written to each word */

static char *lane(unsigned i) { return LANES_AT + i * LANE; }

static char *map_at(char *at, size_t bytes, int how)
{
	char *mem = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | how, -1, 0);

	if (mem != at)
		wrong(at, "mmap: %s", strerror(errno));
	return mem;
}

/* Page @i of a mapping is known by its number, wherever it lies. */
static void fill(char *mem, size_t bytes, uint64_t gen)
{
	for (size_t i = 0; i < bytes; i += PAGE)
		fill_pattern_at(mem + i, PAGE, gen, i);
}

static void check(const char *mem, size_t bytes, uint64_t gen, const char *what)
{
	for (size_t i = 0; i < bytes; i += PAGE) {
		int64_t bad = gen ? check_pattern_at(mem + i, PAGE, gen, i) : check_zero(mem + i, PAGE);

		if (bad >= 0)
			wrong(mem + i, "%s: page %zu of %zu, word %lld is %llx", what, i / PAGE, bytes / PAGE, (long long)bad / 8,
			      (unsigned long long)((const uint64_t *)(mem + i))[bad / 8]);
	}
}

static void *visitor(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint64_t rnd = seed + 400 + me;

	while (!stop_now) {
		size_t bytes = PAGE * (1 + below(&rnd, below(&rnd, 30) ? 6 : 1200)), offset = below(&rnd, 2) ? 0 : PAGE;
		char *mem = map_at(lane(LANE_VISITOR + me) + offset, bytes, MAP_FIXED_NOREPLACE);
		uint64_t gen = next_random(&rnd) | 1;

		if (below(&rnd, 2))
			(void)madvise(mem, bytes, MADV_HUGEPAGE);
		if (below(&rnd, 2))
			check(mem, bytes, 0, "a fresh mapping is not zero");
		fill(mem, bytes, gen);
		check(mem, bytes, gen, "a short-lived mapping has lost its bytes");
		if (below(&rnd, 3) == 0) {
			map_at(mem, bytes, MAP_FIXED);
			check(mem, bytes, 0, "a mapping over another is not zero");
		}
		munmap(mem, bytes);
		nr_lives++;
	}
	return NULL;
}

/*
 * Moves a mapping that may have been cut in several by those who watch parts of it: mremap wants them one by one, and a
 * kernel that takes several at once may stop between two.
 */
static void move_to(char *mem, size_t bytes, char *to)
{
	unsigned char there;
	size_t at = 0, n = bytes;

	while (at < bytes) {
		n = n > bytes - at ? bytes - at : n;
		if (mremap(mem + at, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, to + at) == to + at) {
			at += n;
			n = bytes;
			continue;
		}
		if (errno != EFAULT || n == PAGE)
			wrong(mem + at, "mremap of %zu bytes: %s", n, strerror(errno));
		while (at < bytes && mincore(mem + at, PAGE, &there))
			at += PAGE;
		n = (n / 2 + PAGE - 1) & ~(PAGE - 1);
	}
}

static size_t resize(char *mem, size_t bytes, size_t now, uint64_t gen)
{
	char *last = mem + bytes - PAGE;

	if (now < bytes && munmap(mem + now, bytes - now))
		wrong(mem, "munmap: %s", strerror(errno));
	if (now > bytes) {
		if (mremap(last, PAGE, PAGE + now - bytes, 0) != last)
			wrong(mem, "mremap to grow: %s", strerror(errno));
		check(mem + bytes, now - bytes, 0, "what a mapping has grown by is not zero");
		for (size_t i = bytes; i < now; i += PAGE)
			fill_pattern_at(mem + i, PAGE, gen, i);
	}
	return now;
}

static void *traveller(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	char *home = lane(LANE_TRAVELLER + me), *mem;
	uint64_t rnd = seed + 500 + me, gen = next_random(&rnd) | 1;
	size_t bytes = 2 * BLOCK;

	mem = map_at(home, bytes, MAP_FIXED_NOREPLACE);
	(void)madvise(mem, bytes, me ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	fill(mem, bytes, gen);
	while (!stop_now) {
		/* four places, so that old and new never overlap; every second time not at a block's start */
		size_t place = ((size_t)(mem - home) / (4 * BLOCK) + 1 + below(&rnd, 2)) % 4;
		char *to = home + place * 4 * BLOCK + (below(&rnd, 2) ? 0 : PAGE * below(&rnd, 512));

		move_to(mem, bytes, to);
		mem = to;
		check(mem, bytes, gen, "a mapping has lost its bytes on a move");
		if (below(&rnd, 3) == 0)
			bytes = resize(mem, bytes, PAGE * (1 + below(&rnd, TRAVEL_MAX / PAGE)), gen);
		if (below(&rnd, 3) == 0)
			fill(mem, bytes, gen = next_random(&rnd) | 1);
		check(mem, bytes, gen, "a mapping that was moved has lost its bytes");
		nr_lives++;
	}
	return NULL;
}

static void *guard(void *arg)
{
	uint64_t rnd = seed + 600, gen = next_random(&rnd) | 1;
	size_t bytes = 4 * BLOCK;
	char *mem = map_at(lane(LANE_GUARD), bytes, MAP_FIXED_NOREPLACE);

	(void)madvise(mem, 2 * BLOCK, MADV_HUGEPAGE);
	fill(mem, bytes, gen);
	while (!stop_now) {
		size_t first = below(&rnd, bytes / PAGE), n = 1 + below(&rnd, 600);
		char *at = mem + first * PAGE;

		n = first + n > bytes / PAGE ? bytes / PAGE - first : n;
		if (mprotect(at, n * PAGE, below(&rnd, 4) ? PROT_READ : PROT_NONE) || mprotect(at, n * PAGE, PROT_READ))
			wrong(at, "mprotect: %s", strerror(errno));
		for (size_t i = 0; i < n; i += 1 + below(&rnd, 8))
			if (check_pattern_at(at + i * PAGE, PAGE, gen, (first + i) * PAGE) >= 0)
				wrong(at + i * PAGE, "a page that was made read-only has lost its bytes");
		if (mprotect(at, n * PAGE, PROT_READ | PROT_WRITE))
			wrong(at, "mprotect: %s", strerror(errno));
		for (size_t i = 0; i < n; i += 1 + below(&rnd, 8))
			if (check_pattern_at(at + i * PAGE, PAGE, gen, (first + i) * PAGE) >= 0)
				wrong(at + i * PAGE, "a page that was read-only has lost its bytes");
		if (below(&rnd, 4) == 0)
			fill(mem, bytes, gen = next_random(&rnd) | 1);
		nr_lives++;
	}
	return arg;
}

static _Atomic uint64_t *pair_word(size_t i) { return (_Atomic uint64_t *)(lane(LANE_PAIR) + i * PAGE); }

static void *pair_writer(void *arg)
{
	uint64_t rnd = seed + 700;

	for (uint64_t n = 1; !stop_now; n++) {
		size_t i = below(&rnd, PAIR_PAGES);

		atomic_store(pair_word(i), n);
		atomic_store(&pair_done[i], n);
	}
	return arg;
}

static void *pair_discarder(void *arg)
{
	uint64_t rnd = seed + 800, before[PAIR_PAGES];

	while (!stop_now) {
		size_t first = below(&rnd, PAIR_PAGES), n = below(&rnd, 4) ? 1 + below(&rnd, 4) : 1 + below(&rnd, 600);

		n = first + n > PAIR_PAGES ? PAIR_PAGES - first : n;
		for (size_t i = first; i < first + n; i++)
			before[i] = atomic_load(&pair_done[i]);
		if (below(&rnd, 2) ? madvise(lane(LANE_PAIR) + first * PAGE, n * PAGE, MADV_DONTNEED) :
				     uhmm_discard(space, lane(LANE_PAIR) + first * PAGE, n * PAGE))
			wrong(lane(LANE_PAIR) + first * PAGE, "discarding: %s", strerror(errno));
		for (size_t i = first; i < first + n; i++) {
			uint64_t now = atomic_load(pair_word(i));

			if (now && now <= before[i])
				wrong(pair_word(i), "%llu was there before the discard, at %llu, and is there again",
				      (unsigned long long)now, (unsigned long long)before[i]);
		}
		nr_lives++;
	}
	return arg;
}

/* Drives away whatever is there, and now and then brings it back. */
static void *evictor(void *arg)
{
	uint64_t rnd = seed + 900 + (uintptr_t)arg;

	while (!stop_now) {
		char *at = lane((unsigned)below(&rnd, NR_LANES));
		size_t bytes = LANE;
		int r;

		if (below(&rnd, 2)) {
			at += below(&rnd, 4) * 4 * BLOCK;
			bytes = PAGE * (1 + below(&rnd, 1024));
		}
		r = below(&rnd, 6) ? uhmm_to_device(space, at, bytes, device, 0, NULL) : uhmm_to_system(space, at, bytes, 0, NULL);
		if (r && r != UHMM_E_PARTIAL && r != -EFAULT) /* nobody was there */
			wrong(at, "evicting: %s", uhmm_strerror(r));
		for (uint64_t n = below(&rnd, 4); n; n--)
			sched_yield();
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[NR_VISITORS + NR_TRAVELLERS + 5];
	unsigned nr = 0, seconds = stress_seconds(20);

	skip_unless_uffd();
	seed = seed_from_env();
	space = open_space_or_skip(NULL);
	if (uhmm_device_open(space, "emu:size=128M", &device))
		wrong(NULL, "the device cannot be opened");
	map_at(lane(LANE_PAIR), PAIR_PAGES * PAGE, MAP_FIXED_NOREPLACE);
	(void)madvise(lane(LANE_PAIR), PAIR_PAGES / 2 * PAGE, MADV_HUGEPAGE);
	for (uintptr_t i = 0; i < NR_VISITORS; i++)
		start(&threads[nr++], visitor, (void *)i);
	for (uintptr_t i = 0; i < NR_TRAVELLERS; i++)
		start(&threads[nr++], traveller, (void *)i);
	start(&threads[nr++], guard, NULL);
	start(&threads[nr++], pair_writer, NULL);
	start(&threads[nr++], pair_discarder, NULL);
	for (uintptr_t i = 0; i < 2; i++)
		start(&threads[nr++], evictor, (void *)i);
	run_for(seconds);
	while (nr)
		pthread_join(threads[--nr], NULL);
	printf("# %llu lives and journeys\n", (unsigned long long)nr_lives);
	print_stats();
	if (uhmm_close(space))
		wrong(NULL, "uhmm_close failed");
	return 0;
}
