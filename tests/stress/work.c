/* SPDX-License-Identifier: MIT */
/*
 * Kernels and CPUs count in the same words. A kernel adds one to each word of a tile that it holds, without any atomic operation; CPUs
 * add to words atomically, and wait while they are held. Meanwhile tiles are read by other work, are moved about, come home for
 * lack of room, and the process forks. A count that is lost is a page that was stale, or was held by two.
 */
#include "stress.h"

#include <errno.h>
#include <sys/wait.h>

#define TILES   24
#define TILE    (UINT64_C(1) << 20) /* half a block: two tiles share one */
#define STRIDE  (PAGE / 8)          /* one word in each page counts */
#define WORDS   (TILE / PAGE)
#define THREADS 6

static struct uhmm_device *dev;
static uint64_t seed;
static _Atomic uint64_t *words; /* TILES * TILE bytes */
static _Atomic uint64_t expected[TILES * WORDS];
static _Atomic uint64_t works, busy, touches, forks;

static _Atomic uint64_t *word_of(unsigned tile, unsigned i)
{
	return &words[(tile * WORDS + i) * STRIDE];
}

/* A kernel: adds one to each word of some tiles. */
static void hold(uint64_t *rnd)
{
	unsigned first = (unsigned)below(rnd, TILES), nr = 1 + (unsigned)below(rnd, 3);
	struct uhmm_work_range r = { .start = word_of(first, 0) };
	struct uhmm_work *w;
	int got;

	nr = first + nr > TILES ? TILES - first : nr;
	r.len_bytes = nr * TILE;
	got = uhmm_work_acquire(dev, &r, 1, 0, &w, NULL);
	if (got == -EBUSY || got == -ENOSPC) { /* others have a part of it, or all the room */
		busy++;
		return;
	}
	if (got)
		wrong(NULL, "acquire: %s", uhmm_strerror(got));
	for (unsigned i = 0; i < nr * WORDS; i++) {
		volatile uint64_t *word = (uint64_t *)(uintptr_t)uhmm_work_address(w, word_of(first, i));

		if (!word)
			wrong(NULL, "word %u of tile %u has no address", i, first);
		expected[first * WORDS + i]++;
		*word += 1;
	}
	if (uhmm_work_release(w))
		wrong(NULL, "release");
	works++;
}

/* A kernel that only reads sees no more than there is. */
static void look(uint64_t *rnd)
{
	unsigned tile = (unsigned)below(rnd, TILES);
	struct uhmm_work_range r = { word_of(tile, 0), TILE, UHMM_WORK_READ, 0 };
	struct uhmm_work *w;
	int got = uhmm_work_acquire(dev, &r, 1, 0, &w, NULL);

	if (got == -EBUSY || got == -ENOSPC) {
		busy++;
		return;
	}
	if (got)
		wrong(NULL, "acquire to read: %s", uhmm_strerror(got));
	for (unsigned i = 0; i < WORDS; i++) {
		volatile uint64_t *word = (uint64_t *)(uintptr_t)uhmm_work_address(w, word_of(tile, i));
		uint64_t seen = *word;

		if (seen > expected[tile * WORDS + i])
			wrong(NULL, "word %u of tile %u reads %llu on the device", i, tile, (unsigned long long)seen);
	}
	if (uhmm_work_release(w))
		wrong(NULL, "release of what was read");
	works++;
}

static void add(uint64_t *rnd)
{
	for (unsigned k = 0; k < 20; k++) {
		unsigned at = (unsigned)below(rnd, TILES * WORDS);

		expected[at]++;
		atomic_fetch_add(&words[at * STRIDE], 1);
		touches++;
	}
}

static void move(uint64_t *rnd)
{
	unsigned tile = (unsigned)below(rnd, TILES);
	int r = below(rnd, 2) ? uhmm_to_device(space, word_of(tile, 0), TILE, dev, 0, NULL) :
				uhmm_to_system(space, word_of(tile, 0), TILE, 0, NULL);

	if (r < 0)
		wrong(NULL, "moving: %s", uhmm_strerror(r));
}

/* Counts go on while the process is copied, so a child may find some that it does not know of. */
#define SINCE 100000

static void fork_once(void)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		for (unsigned i = 0; i < TILES * WORDS; i += 7)
			if (words[i * STRIDE] > expected[i] + SINCE)
				_exit(1);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		wrong(NULL, "a child has found something else");
	forks++;
}

static void *run(void *arg)
{
	uint64_t rnd = seed + (uintptr_t)arg;

	while (!stop_now) {
		unsigned what = (unsigned)below(&rnd, 100);

		if (what < 40)
			hold(&rnd);
		else if (what < 55)
			look(&rnd);
		else if (what < 85)
			add(&rnd);
		else if (what < 99 || (uintptr_t)arg % THREADS)
			move(&rnd);
		else
			fork_once();
	}
	return NULL;
}

int main(void)
{
	unsigned seconds = stress_seconds(15);
	pthread_t threads[THREADS];

	skip_unless_uffd();
	seed = seed_from_env();
	space = open_space_or_skip(NULL);
	/* two thirds of the tiles fit */
	if (uhmm_device_open(space, "emu:size=16M", &dev))
		wrong(NULL, "the device cannot be opened");
	words = map_anon(TILES * TILE, true, true);
	for (uintptr_t i = 0; i < THREADS; i++)
		start(&threads[i], run, (void *)i);
	run_for(seconds);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < TILES * WORDS; i++)
		if (words[i * STRIDE] != expected[i])
			wrong((void *)(uintptr_t)&words[i * STRIDE], "it counts %llu, and there were %llu",
			      (unsigned long long)words[i * STRIDE], (unsigned long long)expected[i]);
	printf("%llu works, %llu refused; %llu touches, %llu forks\n", (unsigned long long)works, (unsigned long long)busy,
	       (unsigned long long)touches, (unsigned long long)forks);
	print_stats();
	if (!works || !touches)
		wrong(NULL, "nothing was done");
	return uhmm_close(space) ? 1 : 0;
}
