/* SPDX-License-Identifier: MIT */
/*
 * Nothing but short-lived mappings at the same few addresses, as many as can be, while the addresses are being driven to
 * a device: an event that is applied too late, or to the next mapping in its place, shows as a wrong byte (HOST.md,
 * section 5). Between the lives there are forks and spawned programs, as in a shell.
 */
#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#include "stress.h"

#define NR_VISITORS 3
#define PLACES_AT   ((char *)0x120000000000)
#define PLACE       (2 * BLOCK)
#define MAX_PAGES   12

extern char **environ;

static struct uhmm_device *device;
static uint64_t seed;
static _Atomic uint64_t nr_lives, nr_children;

static void expect(const char *mem, size_t bytes, uint64_t gen, const char *what)
{
	for (size_t i = 0; i < bytes; i += PAGE) {
		int64_t bad = gen ? check_pattern_at(mem + i, PAGE, gen, i) : check_zero(mem + i, PAGE);

		if (bad >= 0)
			wrong(mem + i, "%s: page %zu of %zu, word %lld is %llx", what, i / PAGE, bytes / PAGE, (long long)bad / 8,
			      (unsigned long long)((const uint64_t *)(mem + i))[bad / 8]);
	}
}

static void live(char *at, uint64_t *rnd)
{
	size_t bytes = PAGE * (1 + below(rnd, MAX_PAGES)), half = bytes / 2 / PAGE * PAGE;
	uint64_t gen = next_random(rnd) | 1;
	char *mem = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (mem != at)
		wrong(at, "mmap: %s", strerror(errno));
	if (below(rnd, 2))
		expect(mem, bytes, 0, "a fresh mapping is not zero");
	for (size_t i = 0; i < bytes; i += PAGE)
		fill_pattern_at(mem + i, PAGE, gen, i);
	for (size_t n = below(rnd, 3); n; n--)
		expect(mem, bytes, gen, "a mapping has lost its bytes");
	switch (below(rnd, 4)) {
	case 0: /* its first half goes earlier than the rest */
		munmap(mem, half);
		for (size_t i = half; i < bytes; i += PAGE)
			if (check_pattern_at(mem + i, PAGE, gen, i) >= 0)
				wrong(mem + i, "what was not unmapped has lost its bytes");
		break;
	case 1:
		if (mmap(mem, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != mem)
			wrong(mem, "mmap over it: %s", strerror(errno));
		expect(mem, bytes, 0, "a mapping over another is not zero");
		break;
	case 2:
		if (madvise(mem, half ? half : bytes, MADV_DONTNEED))
			wrong(mem, "madvise: %s", strerror(errno));
		expect(mem, half ? half : bytes, 0, "discarded pages are not zero");
		break;
	default:
		break;
	}
	munmap(mem, bytes);
	nr_lives++;
}

static void *visitor(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	uint64_t rnd = seed + me;

	/* on both sides of a block's end, or right behind it */
	while (!stop_now)
		live(PLACES_AT + me * PLACE + BLOCK - PAGE * below(&rnd, 4), &rnd);
	return NULL;
}

static void *evictor(void *arg)
{
	uint64_t rnd = seed + 100 + (uintptr_t)arg;

	while (!stop_now) {
		char *at = PLACES_AT + below(&rnd, NR_VISITORS) * PLACE + BLOCK - 4 * PAGE;
		int r = below(&rnd, 8) ? uhmm_to_device(space, at, 16 * PAGE, device, 0, NULL) : uhmm_to_system(space, at, 16 * PAGE, 0, NULL);

		if (r && r != UHMM_E_PARTIAL && r != -EFAULT)
			wrong(at, "evicting: %s", uhmm_strerror(r));
	}
	return NULL;
}

/* A child looks at memory that is on the device now and then, and a program is started. */
static void *parent(void *arg)
{
	char *argv[] = { (char *)"true", NULL }, *mem = map_anon(16 * PAGE, false, false);
	uint64_t rnd = seed + 200;

	while (!stop_now) {
		uint64_t gen = next_random(&rnd) | 1;
		pid_t child;
		int status = 0;

		for (size_t i = 0; i < 16; i++)
			fill_pattern_at(mem + i * PAGE, PAGE, gen, i * PAGE);
		(void)uhmm_to_device(space, mem, 16 * PAGE, device, 0, NULL);
		if (below(&rnd, 2)) {
			child = fork();
			if (!child)
				_exit(check_pattern(mem, 16 * PAGE, gen) >= 0);
		} else if (posix_spawnp(&child, "true", NULL, NULL, argv, environ)) {
			wrong(NULL, "posix_spawnp failed");
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status)
			wrong(mem, "a child has failed: %x", status);
		expect(mem, 16 * PAGE, gen, "a parent has lost its bytes");
		nr_children++;
		usleep((useconds_t)below(&rnd, 20000)); /* not all of the time is the children's */
	}
	return arg;
}

int main(void)
{
	unsigned nr = 0, seconds = stress_seconds(20);
	pthread_t threads[NR_VISITORS + 3];

	skip_unless_uffd();
	seed = seed_from_env();
	space = open_space_or_skip(NULL);
	if (uhmm_device_open(space, "emu:size=16M", &device))
		wrong(NULL, "the device cannot be opened");
	for (uintptr_t i = 0; i < NR_VISITORS; i++)
		start(&threads[nr++], visitor, (void *)i);
	for (uintptr_t i = 0; i < 2; i++)
		start(&threads[nr++], evictor, (void *)i);
	start(&threads[nr++], parent, NULL);
	run_for(seconds);
	while (nr)
		pthread_join(threads[--nr], NULL);
	printf("# %llu lives, %llu children\n", (unsigned long long)nr_lives, (unsigned long long)nr_children);
	print_stats();
	if (uhmm_close(space))
		wrong(NULL, "uhmm_close failed");
	return 0;
}
