/* SPDX-License-Identifier: MIT */
/*
 * A program that saves its memory as a database does: a child of fork reads all of it, while the parent goes on writing.
 * The last one also fills as much memory of its own.
 *   snapshot MIB
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t *mem;
static size_t nr;

static uint64_t word(size_t i, uint64_t seed)
{
	return i % 16 ? seed : (i + seed) * UINT64_C(0x9e3779b97f4a7c15);
}

static void fill(size_t from, size_t step, uint64_t seed)
{
	for (size_t i = from; i < nr; i += step)
		mem[i] = word(i, seed);
}

/* How many words are not what they were at the fork: those of each 1024 have been written since the one before. */
static size_t wrong(uint64_t seed)
{
	size_t n = 0;

	for (size_t i = 0; i < nr; i++)
		n += mem[i] != word(i, i % 1024 ? 0 : seed);
	return n;
}

/* How many words of new memory do not hold what was written there. */
static size_t wrong_in_new(void)
{
	mem = malloc(nr * sizeof(*mem));
	if (!mem)
		return nr;
	fill(0, 1, 0);
	return wrong(0);
}

int main(int argc, char **argv)
{
	nr = (argc > 1 ? (size_t)atoi(argv[1]) : 64) << 17;
	mem = malloc(nr * sizeof(*mem));
	if (!mem)
		return 1;
	fill(0, 1, 0);
	for (uint64_t seed = 0; seed < 2; seed++) {
		int status;
		pid_t child = fork();

		if (!child) {
			size_t n = wrong(seed);

			n += seed ? wrong_in_new() : 0;
			printf("snapshot %llu: %zu words are wrong\n", (unsigned long long)seed, n);
			fflush(stdout);
			_exit(n != 0);
		}
		fill(0, 1024, seed + 1);
		if (waitpid(child, &status, 0) != child || status)
			return 1;
		printf("after it: %zu words are wrong\n", wrong(seed + 1));
		fflush(stdout);
	}
	return 0;
}
