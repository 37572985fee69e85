/* SPDX-License-Identifier: MIT */
/*
 * A limit far below what is used, and two devices of which the first is small: blocks move on from it all the time, while
 *
 *   writers   own pages of one large region, in turns: read one, compare all of it, write it anew
 *   visitors  map, fill, check and unmap, or discard
 *   a forker  makes children that compare what they have inherited
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>

#include "stress.h"

#define NR_WRITERS  2
#define NR_VISITORS 2
#define REGION      (80 * BLOCK)
#define INHERITED   (8 * BLOCK)

static struct uhmm_device *device[2];
static uint64_t seed;
static char *region;
static uint64_t *gen; /* of each page of it; 0: never written. Malloc'd, and a page's writer alone looks at it */
static _Atomic uint64_t nr_lives;

static char *map_new(size_t bytes)
{
	char *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		wrong(NULL, "mmap: %s", strerror(errno));
	return mem;
}

static void check(const char *at, uint64_t g, const char *what)
{
	int64_t bad = g ? check_pattern(at, PAGE, g) : check_zero(at, PAGE);

	if (bad >= 0)
		wrong(at, "%s: word %lld is %llx", what, (long long)bad / 8, (unsigned long long)((const uint64_t *)at)[bad / 8]);
}

/* A hot tenth is visited half of the time, so that some blocks stay on the first device and others move on. */
static void *writer(void *arg)
{
	uint64_t rnd = seed + 100 + (uintptr_t)arg;
	size_t pages = REGION / PAGE;

	while (!stop_now) {
		size_t i = below(&rnd, below(&rnd, 2) ? pages / 10 : pages) / NR_WRITERS * NR_WRITERS + (uintptr_t)arg;
		size_t run = 1 + below(&rnd, 64);

		for (; run && i < pages; run--, i += NR_WRITERS) {
			check(region + i * PAGE, gen[i], "a page of the region");
			gen[i] = next_random(&rnd) | 1;
			fill_pattern(region + i * PAGE, PAGE, gen[i]);
		}
	}
	return NULL;
}

static void *visitor(void *arg)
{
	uint64_t rnd = seed + 200 + (uintptr_t)arg;

	while (!stop_now) {
		size_t bytes = BLOCK * (1 + below(&rnd, 8)), hole = below(&rnd, bytes / PAGE);
		size_t n = 1 + below(&rnd, bytes / PAGE - hole);
		uint64_t g = next_random(&rnd) | 1;
		char *mem = map_new(bytes);

		for (size_t i = 0; i < bytes; i += PAGE)
			fill_pattern(mem + i, PAGE, g + i);
		sched_yield();
		if (below(&rnd, 2)) {
			if (madvise(mem + hole * PAGE, n * PAGE, MADV_DONTNEED))
				wrong(mem, "madvise: %s", strerror(errno));
		} else {
			n = 0;
		}
		for (size_t i = 0; i < bytes / PAGE; i++)
			check(mem + i * PAGE, i >= hole && i < hole + n ? 0 : g + i * PAGE, "a page of a visitor");
		munmap(mem, bytes / 2);
		munmap(mem + bytes / 2, bytes - bytes / 2);
		nr_lives++;
	}
	return NULL;
}

static void *forker(void *arg)
{
	uint64_t rnd = seed + 300, g = 1;
	char *mem = map_new(INHERITED);

	(void)arg;
	while (!stop_now) {
		int status;
		pid_t pid;

		for (size_t i = 0; i < INHERITED; i += PAGE)
			fill_pattern(mem + i, PAGE, g + i);
		usleep((useconds_t)below(&rnd, 200000)); /* some of it leaves, some moves on */
		pid = fork();
		if (!pid) {
			for (size_t i = 0; i < INHERITED; i += PAGE)
				if (check_pattern(mem + i, PAGE, g + i) >= 0)
					_exit(1);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			wrong(mem, "a child found something else than was there when it was born, or was not (%d)", pid);
		for (size_t i = 0; i < INHERITED; i += PAGE)
			check(mem + i, g + i, "a page after a fork");
		g = next_random(&rnd) | 1;
		nr_lives++;
	}
	return NULL;
}

int main(void)
{
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = UHMM_POLICY_LIMIT_MIN, .devices = device, .nr_devices = 2,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE);
	struct uhmm_policy_stats st = { .sz = sizeof(st) };
	pthread_t threads[NR_WRITERS + NR_VISITORS + 1];
	unsigned nr = 0, seconds = stress_seconds(15);

	skip_unless_uffd();
	seed = seed_from_env();
	space = open_space_or_skip(NULL);
	if (uhmm_device_open(space, "emu:size=24M", &device[0]) || uhmm_device_open(space, "emu:size=1G", &device[1]))
		wrong(NULL, "the devices cannot be opened");
	gen = calloc(REGION / PAGE, sizeof(*gen));
	region = map_new(REGION);
	if (!gen || uhmm_policy_start(space, &o))
		wrong(NULL, "the policy cannot be started");
	for (uintptr_t i = 0; i < NR_WRITERS; i++)
		start(&threads[nr++], writer, (void *)i);
	for (uintptr_t i = 0; i < NR_VISITORS; i++)
		start(&threads[nr++], visitor, (void *)i);
	start(&threads[nr++], forker, NULL);
	run_for(seconds);
	while (nr)
		pthread_join(threads[--nr], NULL);
	for (size_t i = 0; i < REGION / PAGE; i++)
		check(region + i * PAGE, gen[i], "a page of the region, at the end");
	(void)uhmm_policy_stats(space, &st);
	printf("%llu lives; %llu MiB left, %llu MiB moved on\n", (unsigned long long)nr_lives,
	       (unsigned long long)(st.evicted_bytes / MIB), (unsigned long long)(st.onward_bytes / MIB));
	if (!st.onward_bytes)
		wrong(NULL, "nothing moved on");
	return uhmm_close(space) ? 1 : 0;
}
