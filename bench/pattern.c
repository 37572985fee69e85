/* SPDX-License-Identifier: MIT */
/*
 * A working set that is used in one way, over and over, so that a limit below it can be compared with another kind of limit:
 *
 *   pattern MODE BYTES COUNT
 *     seq      COUNT passes over all bytes, in order
 *     block    COUNT blocks of 2 MiB, drawn at random: all of one is read, and half of them written to
 *     random   COUNT words of 8 bytes, drawn at random: one in four pages is written to
 *
 * Standard output is a sum over what was read, the same for the same arguments however memory is provided. Standard error:
 * nanoseconds for the uses, without filling; and for `random` percentiles of those that took longer than 2 us.
 *
 * A page is text-like: a quarter of it is random, the rest repeats.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE        4096u
#define BLOCK       (UINT64_C(2) << 20)
#define WORDS       (PAGE / 8)
#define LINE        16 /* words; the first LINE / 4 are random */
#define SLOW_NS     2000
#define NR_SAMPLES  (1u << 20)

static uint64_t *mem, nr_pages;
static uint8_t *version;
static uint64_t seed = 1;

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t next_random(void)
{
	return mix(seed += 0x9e3779b97f4a7c15u);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t *page(uint64_t p) { return mem + p * WORDS; }

/* The head of each line, which changes with the page's version. */
static uint64_t head(uint64_t p, unsigned k)
{
	return mix(p * WORDS + k + ((uint64_t)version[p] << 48));
}

static void fill(void)
{
	for (uint64_t p = 0; p < nr_pages; p++)
		for (unsigned k = 0; k < WORDS; k++)
			page(p)[k] = !(k % LINE) ? head(p, k) : k % LINE < LINE / 4 ? mix(p * WORDS + k) : 0x2020202065726f6d;
}

static void check(uint64_t p, unsigned k)
{
	if (page(p)[k] == head(p, k))
		return;
	fprintf(stderr, "pattern: page %llu, word %u: %llx is wrong, it should be %llx\n", (unsigned long long)p, k,
		(unsigned long long)page(p)[k], (unsigned long long)head(p, k));
	exit(1);
}

static void change(uint64_t p)
{
	version[p]++;
	for (unsigned k = 0; k < WORDS; k += LINE)
		page(p)[k] = head(p, k);
}

static uint64_t read_page(uint64_t p)
{
	uint64_t sum = 0;

	for (unsigned k = 0; k < WORDS; k++)
		sum += page(p)[k];
	check(p, 0);
	return sum;
}

static uint64_t seq(uint64_t count)
{
	uint64_t sum = 0;

	while (count--)
		for (uint64_t p = 0; p < nr_pages; p++)
			sum += read_page(p);
	return sum;
}

static uint64_t block(uint64_t count)
{
	const uint64_t pages = BLOCK / PAGE;
	uint64_t sum = 0;

	while (count--) {
		uint64_t first = next_random() % (nr_pages / pages) * pages;

		for (uint64_t p = first; p < first + pages; p++) {
			sum += read_page(p);
			if (count & 1)
				change(p);
		}
	}
	return sum;
}

static int by_size(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static uint64_t at_random(uint64_t count)
{
	uint32_t *slow = malloc(NR_SAMPLES * sizeof(*slow));
	uint64_t sum = 0, began, took, nr = 0;

	if (!slow)
		exit(1);
	while (count--) {
		uint64_t r = next_random(), p = r % nr_pages;
		unsigned k = (unsigned)(r >> 40) % (WORDS / LINE) * LINE;

		began = now_ns();
		sum += *(volatile uint64_t *)&page(p)[k];
		took = now_ns() - began;
		check(p, k);
		if (r >> 62 == 0)
			change(p);
		if (took > SLOW_NS)
			slow[nr++ % NR_SAMPLES] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
	}
	if (nr) {
		uint64_t n = nr < NR_SAMPLES ? nr : NR_SAMPLES;

		qsort(slow, n, sizeof(*slow), by_size);
		fprintf(stderr, "slow %llu p50_ns %u p99_ns %u\n", (unsigned long long)nr, slow[n / 2], slow[n * 99 / 100]);
	}
	free(slow);
	return sum;
}

int main(int argc, char **argv)
{
	uint64_t bytes = argc == 4 ? strtoull(argv[2], NULL, 0) & ~(BLOCK - 1) : 0, began, sum, count;

	if (!bytes) {
		fprintf(stderr, "usage: pattern seq|block|random BYTES COUNT, at least 2 MiB\n");
		return 2;
	}
	count = strtoull(argv[3], NULL, 0);
	nr_pages = bytes / PAGE;
	mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	version = calloc(nr_pages, 1);
	if (mem == MAP_FAILED || !version) {
		fprintf(stderr, "pattern: no memory for %llu bytes\n", (unsigned long long)bytes);
		return 1;
	}
	fill();
	began = now_ns();
	if (!strcmp(argv[1], "seq"))
		sum = seq(count);
	else if (!strcmp(argv[1], "block"))
		sum = block(count);
	else
		sum = at_random(count);
	fprintf(stderr, "ns %llu\n", (unsigned long long)(now_ns() - began));
	printf("%016llx\n", (unsigned long long)sum);
	return 0;
}
