/* SPDX-License-Identifier: MIT */
/*
 * Random sequences of whatever a program may do to its memory, each step against a plain model (model.h), while other
 * threads move the same memory to two devices and back. Each thread draws its steps from its own sequence of numbers:
 *
 *   model [--seed N] [--threads N] [--steps N | --seconds N]
 * In the notes of a failure the last number of a move is the device, 0 or 1, and ten times the largest order and one.
 *
 * --steps is the sum over all threads. What a seed repeats is each thread's steps, not how they interleave.
 */
#include <fcntl.h>
#include <sys/wait.h>

#include "model_ops.h"

#define MAX_THREADS 64

static struct uhmm_device *device[2];

static void op_discard(struct arena *a)
{
	struct range r;
	int res;

	if (!any_run(a, NONE, &r))
		return;
	note(a, "uhmm_discard", a->id, r, 0);
	res = uhmm_discard(space, at_page(a, r.first), r.n * PAGE);
	MUST(a, res == 0, at_page(a, r.first), "uhmm_discard: %s", uhmm_strerror(res));
	model_zero(a, r);
}

static void look_at(struct arena *a, const struct uhmm_extent *ext)
{
	for (uint64_t at = ext->start; at < ext->end; at += PAGE) {
		size_t page = (at - (uintptr_t)a->mem) / PAGE;

		MUST(a, (ext->where == UHMM_WHERE_UNMAPPED) == (a->state[page] == UNMAPPED), at_page(a, page),
		     "uhmm_query says %d of a page in state %d", ext->where, a->state[page]);
		MUST(a, ext->where != UHMM_WHERE_HOLE || check_zero(a->bytes + page * PAGE, PAGE) < 0, at_page(a, page),
		     "uhmm_query calls a page a hole that has bytes");
	}
}

static void op_query(struct arena *a)
{
	struct range r = any_range(a);
	uint64_t at = (uintptr_t)at_page(a, r.first), end = at + r.n * PAGE;
	size_t room = 1 + draw(a, 16), nr;
	struct uhmm_extent exts[16];

	note(a, "uhmm_query", a->id, r, room);
	while (at < end) {
		int res = uhmm_query(space, (void *)(uintptr_t)at, end - at, exts, room, &nr);

		MUST(a, !res && nr && nr <= room, at_page(a, r.first), "uhmm_query: %s, %zu extents", uhmm_strerror(res), nr);
		for (size_t i = 0; i < nr; at = exts[i++].end) {
			const struct uhmm_extent *e = &exts[i];
			bool away = e->where == UHMM_WHERE_DEVICE || e->where == UHMM_WHERE_LOST;

			MUST(a, e->start == at && e->end > at && e->end <= end && e->end % PAGE == 0, (void *)(uintptr_t)at,
			     "uhmm_query leaves a gap: %llx to %llx", (unsigned long long)e->start, (unsigned long long)e->end);
			MUST(a, e->where != UHMM_WHERE_LOST && away == (e->dev == device[0] || e->dev == device[1]),
			     (void *)(uintptr_t)at, "uhmm_query names state %d, device %p", e->where, (void *)e->dev);
			look_at(a, e);
		}
	}
}

/* Mostly what suits; else folios of some largest order. */
static uint32_t any_order(struct arena *a)
{
	return draw(a, 3) ? 0 : UHMM_MOVE_ORDER(draw(a, UHMM_NR_ORDERS));
}

/* Moves a piece of any arena; of its own a thread knows whether anything is mapped. */
static void op_migrate(struct arena *a)
{
	unsigned whose = a->mem && draw(a, 3) ? a->id : (unsigned)draw(a, nr_arenas), way = (unsigned)draw(a, 10);
	struct arena *b = &arenas[whose];
	struct range r = draw(a, 60) ? any_range(a) : all_of_it();
	char *at = at_page(b, r.first);
	size_t bytes = r.n * PAGE;
	struct uhmm_device *dev = device[draw(a, 3) == 0];
	uint32_t order = way < 6 ? any_order(a) : 0;
	bool empty = true;
	int res;

	if (a == b)
		for (size_t i = r.first; i < r.first + r.n; i++)
			empty = empty && a->state[i] == UNMAPPED;
	note(a, way < 6 ? "uhmm_to_device" : way < 8 ? "uhmm_to_system" : "uhmm_prefetch", whose, r,
	     (way == 9 ? 2 : dev == device[1]) + (order >> 8) * 10);
	if (way < 6)
		res = uhmm_to_device(space, at, bytes, dev, order, NULL);
	else if (way < 8)
		res = uhmm_to_system(space, at, bytes, 0, NULL);
	else
		res = uhmm_prefetch(space, at, bytes, way == 8 ? dev : NULL);
	if (res == -EAGAIN && way >= 8)
		res = uhmm_prefetch_wait(space);
	MUST(a, res == 0 || res == UHMM_E_PARTIAL || (res == -EFAULT && empty && way < 8), at, "moving it: %s", uhmm_strerror(res));
}

/* A huge page full of bytes that goes to a device as one: what follows finds it there, and takes it apart. */
static void op_block(struct arena *a)
{
	struct range r = { draw(a, ARENA_PAGES / 512) * 512, 512 };
	struct uhmm_device *dev = device[draw(a, 3) == 0];
	char *at = at_page(a, r.first);
	uint32_t order = any_order(a);
	int res;

	note(a, "a huge page to a device", a->id, r, (dev == device[1]) + (order >> 8) * 10);
	MUST(a, mmap(at, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at, at, "mmap: %s",
	     strerror(errno));
	(void)madvise(at, BLOCK, MADV_HUGEPAGE);
	model_map(a, r, WRITABLE);
	model_write(a, r.first * PAGE, BLOCK);
	memcpy(at, a->bytes + r.first * PAGE, BLOCK);
	res = uhmm_to_device(space, at, BLOCK, dev, order, NULL);
	MUST(a, res == 0 || res == UHMM_E_PARTIAL, at, "moving it: %s", uhmm_strerror(res));
}

static void op_fork(struct arena *a);

/* Weights; and whether a child, which has no space, can do it. */
static const struct {
	void (*run)(struct arena *);
	unsigned weight;
	bool child;
} op[] = {
	{ op_map, 40, true },      { op_unmap, 20, true },   { op_move, 30, true },    { op_grow, 20, true },
	{ op_shrink, 6, true },    { op_protect, 50, true }, { op_dontneed, 16, true }, { op_move_and_resize, 10, true },
	{ op_free, 8, true },      { op_advise, 30, true },  { op_write, 140, true },  { op_poke, 60, true },
	{ op_read, 80, true },     { op_pipe, 40, true },    { op_file, 40, false },   { op_peek, 20, true },
	{ op_discard, 16, false }, { op_query, 40, false },  { op_fork, 1, false },    { op_migrate, 200, false },
	{ op_block, 12, false },
};

static void step(struct arena *a)
{
	unsigned sum = 0, k = 0, drawn;

	for (size_t i = 0; i < sizeof(op) / sizeof(*op); i++)
		sum += in_child && !op[i].child ? 0 : op[i].weight;
	drawn = (unsigned)draw(a, sum);
	for (;; k++) {
		if (in_child && !op[k].child)
			continue;
		if (drawn < op[k].weight)
			break;
		drawn -= op[k].weight;
	}
	op[k].run(a);
	if (draw(a, 8) == 0)
		verify(a, any_range(a));
}

/* The child does as it likes to its copy, against its own copy of the model, and the parent must not see it. */
static void op_fork(struct arena *a)
{
	uint64_t childs = next_random(&a->rnd), saw = childs;
	int status;
	pid_t pid;

	note(a, "fork", a->id, all_of_it(), 0);
	pid = fork();
	MUST(a, pid >= 0, NULL, "fork: %s", strerror(errno));
	if (pid == 0) {
		in_child = true;
		space = NULL;
		a->rnd = childs;
		for (unsigned i = 0; i < 16; i++)
			verify(a, any_range(a));
		for (unsigned i = 0; i < 40; i++)
			step(a);
		for (unsigned i = 0; i < 16; i++)
			verify(a, any_range(a));
		_exit(7);
	}
	MUST(a, waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7, NULL, "a child has ended with %x",
	     (unsigned)status);
	for (unsigned i = 0; i < 8; i++)
		verify(a, (struct range){ below(&saw, ARENA_PAGES - 64), 64 });
}

static void *player(void *arg)
{
	struct arena *a = arg;

	for (; !stop_now && a->step < a->limit; a->step++) {
		if (!a->mem) {
			op_migrate(a);
			continue;
		}
		step(a);
		if (a->step % 2048 == 2047)
			verify(a, all_of_it());
	}
	/* what is protected is looked at too in the end */
	for (size_t i = 0; a->mem && i < ARENA_PAGES; i++)
		if (a->state[i] == NONE && !mprotect(at_page(a, i), PAGE, PROT_READ))
			a->state[i] = READABLE;
	if (a->mem)
		verify(a, all_of_it());
	return NULL;
}

static void prepare(struct arena *a, unsigned id, bool has_arena)
{
	FILE *file = has_arena ? tmpfile() : NULL;

	a->id = id;
	a->rnd = seed + id * UINT64_C(0x632be59bd9b4e019);
	if (!has_arena)
		return;
	a->mem = mmap(ARENAS_AT + id * ARENA_STRIDE, ARENA_BYTES, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	a->bytes = calloc(ARENA_PAGES, PAGE);
	a->buffer = calloc(ARENA_PAGES, PAGE);
	a->image = calloc(1, FILE_BYTES);
	if (a->mem != ARENAS_AT + id * ARENA_STRIDE || !a->bytes || !a->buffer || !a->image || pipe(a->pipe) || !file ||
	    munmap(a->mem, ARENA_BYTES))
		wrong(NULL, "an arena cannot be had: %s", strerror(errno));
	a->file = fileno(file); /* it goes when the program ends */
	if (ftruncate(a->file, FILE_BYTES))
		wrong(NULL, "a file cannot be had: %s", strerror(errno));
}

static uint64_t steps_done(unsigned players)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < players; i++)
		sum += arenas[i].step;
	return sum;
}

/* Until the time is over or the steps are done; the alarm ends a run in which nobody comes on. */
static void run_players(pthread_t *threads, unsigned seconds, uint64_t steps)
{
	uint64_t end = now_ns() + seconds * UINT64_C(1000000000), seen = 0, now;

	alarm(150);
	for (unsigned i = 0; i < nr_players; i++)
		start(&threads[i], player, &arenas[i]);
	while (steps ? steps_done(nr_arenas) < steps : now_ns() < end) {
		usleep(20000);
		now = steps_done(nr_players);
		if (now != seen)
			alarm(150);
		seen = now;
	}
	/* with a number of steps, each ends at its own last one */
	for (unsigned i = 0; steps && i < nr_arenas; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&stop_now, true);
	for (unsigned i = steps ? nr_arenas : 0; i < nr_players; i++)
		pthread_join(threads[i], NULL);
	alarm(150);
}

int main(int argc, char **argv)
{
	unsigned seconds = stress_seconds(25);
	pthread_t threads[MAX_THREADS + 1];
	uint64_t steps = 0;

	skip_unless_uffd();
	nr_arenas = 3;
	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(argv[i], "--seed"))
			setenv("UHMM_SEED", value, 1);
		else if (!strcmp(argv[i], "--threads"))
			nr_arenas = (unsigned)strtoul(value, NULL, 0);
		else if (!strcmp(argv[i], "--steps"))
			steps = strtoull(value, NULL, 0);
		else if (!strcmp(argv[i], "--seconds"))
			seconds = (unsigned)strtoul(value, NULL, 0);
		else
			nr_arenas = 0;
	}
	if (nr_arenas < 1 || nr_arenas > MAX_THREADS) {
		fprintf(stderr, "usage: %s [--seed N] [--threads N] [--steps N | --seconds N]\n", argv[0]);
		return 2;
	}
	seed = seed_from_env();
	space = open_space_or_skip(NULL);
	if (uhmm_device_open(space, "emu:size=64M", &device[0]) || uhmm_device_open(space, "emu:size=8M,async=on,orders=0+3+4+7+9", &device[1]))
		wrong(NULL, "the devices cannot be opened");
	nr_players = nr_arenas + 1;
	arenas = calloc(nr_players, sizeof(*arenas));
	steps = (steps + nr_arenas - 1) / nr_arenas * nr_arenas;
	for (unsigned i = 0; i < nr_players; i++) {
		prepare(&arenas[i], i, i < nr_arenas);
		arenas[i].limit = steps && i < nr_arenas ? steps / nr_arenas : UINT64_MAX;
	}
	run_players(threads, seconds, steps);
	printf("# %llu steps, and %llu moves by a thread that does nothing else\n", (unsigned long long)steps_done(nr_arenas),
	       (unsigned long long)arenas[nr_arenas].step);
	for (unsigned i = 0; steps && i < nr_arenas; i++) /* the same whenever the same steps were drawn */
		printf("# thread %u has drawn up to %llx\n", i, (unsigned long long)arenas[i].rnd);
	print_stats();
	if (uhmm_close(space))
		wrong(NULL, "uhmm_close failed");
	space = NULL;
	for (unsigned i = 0; i < nr_arenas; i++)
		verify(&arenas[i], all_of_it());
	return 0;
}
