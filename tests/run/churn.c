/* SPDX-License-Identifier: MIT */
/*
 * A program that knows nothing of uhmm and checks every byte: threads that allocate, free, remap, discard, touch and verify
 * pieces of memory, while the process forks children that verify what they inherited. Run alone it must pass; under `uhmm run` at a
 * quarter of its working set it must pass too.
 *
 *   churn MEGABYTES [SECONDS [THREADS [FORKS]]]   FORKS: 0 none
 *
 * The last line is "churn: N steps, N forks, all bytes right" (the numbers differ from run to run), and the exit status 0.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 32
#define PIECES      24
/* Words: such memory shrinks to a fifth, as a program's may. What does not shrink could not be kept in RAM below a limit. */
#define ALIKE       8

/* Word i of a piece is mix(seed, version, i / ALIKE); version 0 of a page: zeros. One version a page. */
struct piece {
	uint64_t *mem;
	size_t bytes;
	uint64_t seed;
	uint32_t *version; /* of each page */
	int mapped;        /* with mmap; else malloc */
};

struct worker {
	pthread_t thread;
	struct piece piece[PIECES];
	uint64_t state;
	size_t bytes, most;
	pthread_mutex_t lock; /* a fork takes all of them: children must find whole pieces */
};

static struct worker worker[MAX_THREADS];
static unsigned nr_workers;
static atomic_ulong steps;
static atomic_int stop;

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

static uint64_t pick(struct worker *w, uint64_t below)
{
	w->state = mix(w->state + UINT64_C(0x9e3779b97f4a7c15));
	return w->state % below;
}

static uint64_t word(const struct piece *p, size_t i)
{
	uint32_t v = p->version[i / 512];

	return v ? mix(p->seed + i / ALIKE * 3 + ((uint64_t)v << 40)) : 0;
}

static void wrong(const struct piece *p, size_t i)
{
	fprintf(stderr, "churn: pid %d: word %zu (page %zu) of a piece of %zu bytes at %p is %llx, not %llx\n", (int)getpid(), i,
		i / 512, p->bytes, (void *)p->mem, (unsigned long long)p->mem[i], (unsigned long long)word(p, i));
	abort();
}

static void check_page(const struct piece *p, size_t page, int all)
{
	for (size_t i = page * 512; i < (page + 1) * 512; i += all ? 1 : 73)
		if (p->mem[i] != word(p, i))
			wrong(p, i);
}

static void write_page(struct piece *p, size_t page)
{
	p->version[page]++;
	for (size_t i = page * 512; i < (page + 1) * 512; i++)
		p->mem[i] = word(p, i);
}

static void check_piece(const struct piece *p, int all)
{
	for (size_t page = 0; page < p->bytes / 4096; page++)
		check_page(p, page, all);
}

static void out_of_memory(void)
{
	fprintf(stderr, "churn: no memory: %s\n", strerror(errno));
	exit(3);
}

static void make(struct worker *w, struct piece *p)
{
	size_t pages = pick(w, 8) ? 1 + pick(w, 2048) : 1 + pick(w, 16);

	p->bytes = pages * 4096;
	if (w->bytes + p->bytes > w->most)
		return;
	p->seed = mix(w->state);
	p->version = calloc(pages, sizeof(*p->version));
	p->mapped = pick(w, 3) != 0;
	if (p->mapped) {
		p->mem = mmap(NULL, p->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	} else {
		p->mem = aligned_alloc(4096, p->bytes);
		if (p->mem)
			memset(p->mem, 0, p->bytes);
	}
	if (!p->version || !p->mem || p->mem == MAP_FAILED)
		out_of_memory();
	w->bytes += p->bytes;
	for (size_t page = 0; page < pages; page++)
		if (pick(w, 10))
			write_page(p, page);
}

static void end(struct worker *w, struct piece *p)
{
	check_piece(p, 0);
	w->bytes -= p->bytes;
	if (p->mapped)
		munmap(p->mem, p->bytes);
	else
		free(p->mem);
	free(p->version);
	memset(p, 0, sizeof(*p));
}

static void discard(struct worker *w, struct piece *p)
{
	size_t pages = p->bytes / 4096, first = pick(w, pages), nr = 1 + pick(w, pages - first);

	if (!p->mapped)
		return;
	if (madvise((char *)p->mem + first * 4096, nr * 4096, MADV_DONTNEED))
		out_of_memory();
	memset(p->version + first, 0, nr * sizeof(*p->version));
}

static void resize(struct worker *w, struct piece *p)
{
	size_t old = p->bytes / 4096, pages = 1 + pick(w, 2048);
	void *mem;

	if (!p->mapped || w->bytes - p->bytes + pages * 4096 > w->most)
		return;
	mem = mremap(p->mem, p->bytes, pages * 4096, MREMAP_MAYMOVE);
	if (mem == MAP_FAILED)
		out_of_memory();
	p->version = realloc(p->version, pages * sizeof(*p->version));
	if (!p->version)
		out_of_memory();
	if (pages > old)
		memset(p->version + old, 0, (pages - old) * sizeof(*p->version));
	w->bytes += pages * 4096 - p->bytes;
	p->mem = mem;
	p->bytes = pages * 4096;
}

/* To an address that the kernel chooses, whole. */
static void carry(struct piece *p)
{
	void *to, *mem;

	if (!p->mapped)
		return;
	to = mmap(NULL, p->bytes + (2 << 20), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (to == MAP_FAILED)
		out_of_memory();
	munmap((char *)to + p->bytes, 2 << 20);
	mem = mremap(p->mem, p->bytes, p->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (mem == MAP_FAILED)
		out_of_memory();
	p->mem = mem;
}

/* The kernel reads and writes it. */
static void through_pipe(struct worker *w, struct piece *p)
{
	size_t pages = p->bytes / 4096, from = pick(w, pages), to = pick(w, pages);
	int fd[2];

	if (pipe(fd))
		return;
	if (write(fd[1], (char *)p->mem + from * 4096, 4096) != 4096)
		abort();
	p->version[to] = 0;
	if (read(fd[0], (char *)p->mem + to * 4096, 4096) != 4096)
		abort();
	close(fd[0]);
	close(fd[1]);
	for (size_t i = 0; i < 512; i++)
		if (p->mem[to * 512 + i] != (from == to ? p->mem[from * 512 + i] : word(p, from * 512 + i)))
			abort();
	write_page(p, to);
}

static void step(struct worker *w)
{
	struct piece *p = &w->piece[pick(w, PIECES)];

	if (!p->mem) {
		make(w, p);
		return;
	}
	switch (pick(w, 14)) {
	case 0:
		end(w, p);
		break;
	case 1:
		discard(w, p);
		break;
	case 2:
		resize(w, p);
		break;
	case 3:
		carry(p);
		break;
	case 4:
		check_piece(p, 1);
		break;
	case 5:
		through_pipe(w, p);
		break;
	default:
		for (unsigned n = 0; n < 20; n++) {
			size_t page = pick(w, p->bytes / 4096);

			check_page(p, page, 0);
			if (pick(w, 2))
				write_page(p, page);
		}
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&stop)) {
		pthread_mutex_lock(&w->lock);
		step(w);
		pthread_mutex_unlock(&w->lock);
		atomic_fetch_add(&steps, 1);
	}
	return NULL;
}

/* The child checks all it has inherited, writes to some of it, and checks again. */
static void fork_once(void)
{
	int status;
	pid_t pid;

	for (unsigned i = 0; i < nr_workers; i++)
		pthread_mutex_lock(&worker[i].lock);
	pid = fork();
	if (!pid) {
		for (unsigned i = 0; i < nr_workers; i++)
			for (unsigned k = 0; k < PIECES; k++) {
				struct piece *p = &worker[i].piece[k];

				if (!p->mem)
					continue;
				check_piece(p, 0);
				write_page(p, 0);
				check_page(p, 0, 1);
			}
		_exit(0);
	}
	for (unsigned i = 0; i < nr_workers; i++)
		pthread_mutex_unlock(&worker[i].lock);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
		fprintf(stderr, "churn: a child failed (%d)\n", pid < 0 ? errno : status);
		abort();
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	size_t bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 256) << 20;
	double seconds = argc > 2 ? atof(argv[2]) : 5, began = now();
	unsigned long forks = 0;
	int may_fork = argc > 4 ? atoi(argv[4]) : 1;

	nr_workers = argc > 3 ? (unsigned)atoi(argv[3]) : 4;
	if (nr_workers < 1 || nr_workers > MAX_THREADS)
		return 2;
	for (unsigned i = 0; i < nr_workers; i++) {
		worker[i].state = i * 1000 + 7;
		worker[i].most = bytes / nr_workers;
		pthread_mutex_init(&worker[i].lock, NULL);
		if (pthread_create(&worker[i].thread, NULL, work, &worker[i]))
			out_of_memory();
	}
	while (now() - began < seconds) {
		usleep(200000);
		if (may_fork) {
			fork_once();
			forks++;
		}
	}
	atomic_store(&stop, 1);
	for (unsigned i = 0; i < nr_workers; i++)
		pthread_join(worker[i].thread, NULL);
	for (unsigned i = 0; i < nr_workers; i++)
		for (unsigned k = 0; k < PIECES; k++)
			if (worker[i].piece[k].mem)
				end(&worker[i], &worker[i].piece[k]);
	printf("churn: %lu steps, %lu forks, all bytes right\n", atomic_load(&steps), forks);
	return 0;
}
