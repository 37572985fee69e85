/* SPDX-License-Identifier: MIT */
/*
 * Children of fork(2) while everything is under way. Threads fill, check, discard, unmap, move and device-write blocks, others
 * drive them to slow devices and home, and others fork: by fork(3) and by _Fork(3). What each page held at the fork a child knows
 * from its own copy of the oracle, because writers are stopped for that moment - and for no longer: who forks with handlers
 * lets them go on in a handler that runs before ours. The child checks all of it, changes its address space and its pages,
 * forks too, calls exec, or is killed in the middle.
 *
 * A child closes what it has inherited: a child of _Fork(3) may hold the descriptor that watches its elder brother.
 *
 * usage: children [--seconds N]
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "stress.h"

#define NR_BLOCKS   8
#define NR_WRITERS  2
#define NR_MOVERS   2
#define NR_FORKERS  2
#define NR_CHILDREN 3 /* of each forker, at a time */
#define PAGES       (BLOCK / PAGE)
#define KILLED      100 /* what a child does that is killed by its parent */

struct block {
	pthread_mutex_t lock;
	char *home[2];       /* two places, at one of which the block is */
	unsigned place;
	uint64_t gen[PAGES]; /* the seed of each page's pattern; 0: zeros */
};

static struct block block[NR_BLOCKS];
static struct uhmm_device *device[2];
static uint64_t seed;
static pthread_rwlock_t world = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP; /* for writing: a fork */
static _Thread_local bool stops_writers;
static _Atomic uint64_t nr_forks, nr_checks, nr_device_writes;

static char *page_of(const struct block *b, size_t i) { return b->home[b->place] + i * PAGE; }

/* ---- what a writer does, and a child to its own copy ---- */

static void check_page(const struct block *b, size_t i)
{
	const char *page = page_of(b, i);
	int64_t bad = b->gen[i] ? check_pattern(page, PAGE, b->gen[i]) : check_zero(page, PAGE);

	if (bad >= 0)
		wrong(page, "%s: block %td, page %zu: not generation %llx: word %lld is %llx", space ? "the program" : "a child",
		      b - block, i, (unsigned long long)b->gen[i], (long long)bad / 8, (unsigned long long)((const uint64_t *)page)[bad / 8]);
	nr_checks++;
}

static void check_some(const struct block *b, uint64_t *rnd, size_t first, size_t n)
{
	for (size_t i = first; i < first + n; i += 1 + below(rnd, 3))
		check_page(b, i);
}

static void map_again(struct block *b, uint64_t *rnd)
{
	char *mem = b->home[b->place];

	if (munmap(mem, BLOCK) || mmap(mem, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != mem)
		wrong(mem, "munmap, mmap: %s", strerror(errno));
	if (below(rnd, 2))
		(void)madvise(mem, BLOCK, MADV_HUGEPAGE);
	memset(b->gen, 0, sizeof(b->gen));
}

static void move_block(struct block *b)
{
	char *from = b->home[b->place], *to = b->home[!b->place];

	if (mremap(from, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		wrong(from, "mremap: %s", strerror(errno));
	b->place = !b->place;
}

static void change(struct block *b, uint64_t *rnd)
{
	size_t n = 1 + below(rnd, below(rnd, 4) ? 16 : PAGES), first = below(rnd, PAGES - n + 1);

	switch (below(rnd, 8)) {
	case 0:
		if (below(rnd, 4) == 0)
			map_again(b, rnd);
		break;
	case 1:
		move_block(b);
		break;
	case 2:
		if (madvise(page_of(b, first), n * PAGE, MADV_DONTNEED))
			wrong(page_of(b, first), "MADV_DONTNEED: %s", strerror(errno));
		memset(&b->gen[first], 0, n * sizeof(b->gen[0]));
		break;
	case 3:
	case 4:
		check_some(b, rnd, first, n);
		break;
	default:
		for (size_t i = first; i < first + n; i++) {
			b->gen[i] = next_random(rnd) | 1;
			fill_pattern(page_of(b, i), PAGE, b->gen[i]);
		}
	}
}

/* ---- the program's threads ---- */

static void device_writes(struct block *b, uint64_t *rnd)
{
	static _Thread_local _Alignas(16) char data[8 * PAGE];
	size_t n = 1 + below(rnd, 8), first = below(rnd, PAGES - n + 1);
	int r;

	for (size_t i = 0; i < n; i++) {
		b->gen[first + i] = next_random(rnd) | 1;
		fill_pattern(data + i * PAGE, PAGE, b->gen[first + i]);
	}
	do {
		r = uhmm_device_write(device[below(rnd, 2)], page_of(b, first), n * PAGE, data, 0, NULL);
	} while (r == -EBUSY);
	if (r)
		wrong(page_of(b, first), "a device's write: %s", uhmm_strerror(r));
	nr_device_writes++;
}

static void *writer(void *arg)
{
	uint64_t rnd = seed + 100 + (uintptr_t)arg;

	while (!stop_now) {
		struct block *b = &block[below(&rnd, NR_BLOCKS)];

		pthread_rwlock_rdlock(&world);
		if (!pthread_mutex_trylock(&b->lock)) {
			if (below(&rnd, 12))
				change(b, &rnd);
			else
				device_writes(b, &rnd);
			pthread_mutex_unlock(&b->lock);
		}
		pthread_rwlock_unlock(&world);
	}
	return NULL;
}

static void *mover(void *arg)
{
	uint64_t rnd = seed + 200 + (uintptr_t)arg;

	while (!stop_now) {
		const struct block *b = &block[below(&rnd, NR_BLOCKS)];
		size_t n = below(&rnd, 3) ? PAGES : 1 + below(&rnd, PAGES), first = below(&rnd, PAGES - n + 1);
		char *at = b->home[below(&rnd, 2)] + first * PAGE;
		int r = below(&rnd, 6) ? uhmm_to_device(space, at, n * PAGE, device[below(&rnd, 2)], 0, NULL)
				       : uhmm_to_system(space, at, n * PAGE, 0, NULL);

		if (r && r != UHMM_E_PARTIAL && r != -EFAULT) /* it may be at its other place */
			wrong(at, "moving %zu pages: %s", n, uhmm_strerror(r));
	}
	return NULL;
}

/* ---- children ---- */

static void check_all(void)
{
	for (unsigned k = 0; k < NR_BLOCKS; k++)
		for (size_t i = 0; i < PAGES; i++)
			check_page(&block[k], i);
}

static int outcome_of(pid_t child)
{
	int status = 0;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static int live(uint64_t *rnd, unsigned generation, bool with_handlers);

/* After _Fork() the locks of fork() may be held by nobody who is here. */
static int fork_again(uint64_t *rnd, unsigned generation, bool with_handlers)
{
	pid_t child;

	with_handlers = with_handlers && below(rnd, 2);
	child = with_handlers ? fork() : _Fork();
	if (child < 0)
		return 3;
	if (!child) {
		*rnd += 12345;
		_exit(live(rnd, generation + 1, with_handlers));
	}
	for (unsigned k = 0; k < 4; k++)
		change(&block[below(rnd, NR_BLOCKS)], rnd);
	return outcome_of(child) ? 4 : 0;
}

static int live(uint64_t *rnd, unsigned generation, bool with_handlers)
{
	unsigned deed = below(rnd, 8);
	int r = 0;

	for (uint64_t n = deed < 5 ? below(rnd, 40) : 0; n; n--)
		change(&block[below(rnd, NR_BLOCKS)], rnd);
	if (deed == 0 && !generation)
		execl("/bin/true", "true", (char *)NULL);
	if ((deed == 1 || deed == 5) && generation < 2)
		r = fork_again(rnd, generation, with_handlers);
	for (uint64_t n = deed == 2 ? below(rnd, 200) : 0; n; n--)
		move_block(&block[0]);
	check_all();
	return r;
}

static int be_child(uint64_t rnd, unsigned deed, bool with_handlers)
{
	space = NULL; /* the parent's */
	stops_writers = false;
	signal(SIGALRM, SIG_DFL);
	alarm(150);
	closefrom(3);
	if (deed != KILLED)
		return live(&rnd, 0, with_handlers);
	for (;;)
		change(&block[below(&rnd, NR_BLOCKS)], &rnd);
}

/* Of this program's handlers the first: writers go on before ours waits until the child has everything. */
static void in_parent(void)
{
	if (stops_writers)
		pthread_rwlock_unlock(&world);
	stops_writers = false;
}

struct started {
	pid_t pid;
	bool is_killed;
};

static struct started start_child(uint64_t *rnd)
{
	unsigned deed = below(rnd, 6) ? 0 : KILLED;
	bool with_handlers = below(rnd, 2);
	uint64_t draw = next_random(rnd);
	pid_t pid;

	pthread_rwlock_wrlock(&world);
	stops_writers = true;
	if (deed == KILLED)
		with_handlers = false; /* fork() would give it everything first, and that is what killing is to interrupt */
	pid = with_handlers ? fork() : _Fork();
	if (!pid)
		_exit(be_child(draw, deed, with_handlers));
	in_parent();
	if (pid < 0)
		wrong(NULL, "fork: %s", strerror(errno));
	nr_forks++;
	return (struct started){ pid, deed == KILLED };
}

static void end_child(struct started *c)
{
	int status;

	if (c->is_killed)
		kill(c->pid, SIGKILL);
	status = outcome_of(c->pid);
	if (c->is_killed ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL : status)
		wrong(NULL, "a child ended with status 0x%x", (unsigned)status);
	c->pid = 0;
}

static void *forker(void *arg)
{
	uint64_t rnd = seed + 300 + (uintptr_t)arg;
	struct started child[NR_CHILDREN] = { { 0, false } };

	while (!stop_now) {
		struct started *c = &child[below(&rnd, NR_CHILDREN)];

		if (c->pid)
			end_child(c);
		else
			*c = start_child(&rnd);
	}
	for (unsigned k = 0; k < NR_CHILDREN; k++)
		if (child[k].pid)
			end_child(&child[k]);
	return NULL;
}

static void prepare(void)
{
	for (unsigned k = 0; k < NR_BLOCKS; k++) {
		struct block *b = &block[k];

		pthread_mutex_init(&b->lock, NULL);
		b->home[0] = map_anon(BLOCK, true, k & 1);
		/* the other place is the block's own too: nobody else's memory is put there */
		b->home[1] = (char *)0x200000000000 + k * 2 * BLOCK + (k & 2 ? PAGE : 0);
		for (size_t i = 0; i < PAGES; i++) {
			b->gen[i] = seed + k * PAGES + i;
			fill_pattern(page_of(b, i), PAGE, b->gen[i]);
		}
	}
}

static unsigned seconds_from(int argc, char **argv)
{
	return argc > 2 && !strcmp(argv[1], "--seconds") ? (unsigned)strtoul(argv[2], NULL, 0) : stress_seconds(15);
}

int main(int argc, char **argv)
{
	pthread_t threads[NR_WRITERS + NR_MOVERS + NR_FORKERS];
	unsigned nr = 0, seconds = seconds_from(argc, argv);

	skip_unless_uffd();
	seed = seed_from_env();
	if (pthread_atfork(NULL, in_parent, NULL))
		return 1;
	space = open_space_or_skip(NULL);
	if (uhmm_device_open(space, "emu:size=64M,latency=20us", &device[0]) ||
	    uhmm_device_open(space, "emu:size=16M,async=on,latency=100us", &device[1]))
		wrong(NULL, "the devices cannot be opened");
	prepare();
	for (uintptr_t i = 0; i < NR_WRITERS; i++)
		start(&threads[nr++], writer, (void *)i);
	for (uintptr_t i = 0; i < NR_MOVERS; i++)
		start(&threads[nr++], mover, (void *)i);
	for (uintptr_t i = 0; i < NR_FORKERS; i++)
		start(&threads[nr++], forker, (void *)i);
	run_for(seconds);
	while (nr)
		pthread_join(threads[--nr], NULL);
	printf("# %llu forks, %llu pages checked, %llu writes by a device\n", (unsigned long long)nr_forks,
	       (unsigned long long)nr_checks, (unsigned long long)nr_device_writes);
	print_stats();
	check_all();
	if (uhmm_close(space))
		wrong(NULL, "uhmm_close failed");
	space = NULL;
	check_all();
	return 0;
}
