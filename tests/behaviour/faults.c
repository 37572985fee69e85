/* SPDX-License-Identifier: MIT */
/* Threads that touch what is away, many at once, in signal handlers, and on stacks that are away themselves. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>

#include "rig.h"

#define SEED       71
#define BLOCKS     8
#define BYTES      (BLOCKS * BLOCK)
#define NR_THREADS 8

static pthread_barrier_t all_there;
static char *mem;

static pthread_t run(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, fn, arg), 0);
	return t;
}

static void *touch_one_block(void *arg)
{
	char *at = arg;

	pthread_barrier_wait(&all_there);
	return (void *)(intptr_t)(check_pattern(at, PAGE, SEED) + 1); /* 0: right */
}

static void touched_by_many_at_once_it_is_copied_once(void **state)
{
	struct uhmm_device *slow = open_device("emu:size=64M,latency=3ms");
	pthread_t threads[NR_THREADS];
	struct uhmm_stats before, after;
	void *wrong;

	mem = map_anon(BLOCK, true, true);
	fill_pattern(mem, BLOCK, SEED);
	if (anon_huge_bytes(mem, BLOCK) != BLOCK) {
		uhmm_device_close(slow);
		skip();
	}
	pthread_barrier_init(&all_there, NULL, NR_THREADS);
	before = stats();
	for (unsigned round = 0; round < 10; round++) {
		assert_int_equal(uhmm_to_device(space, mem, BLOCK, slow, 0, NULL), 0);
		for (unsigned i = 0; i < NR_THREADS; i++)
			threads[i] = run(touch_one_block, mem);
		for (unsigned i = 0; i < NR_THREADS; i++) {
			pthread_join(threads[i], &wrong);
			assert_null(wrong);
		}
		eventually(all_home(mem, BLOCK) && info(slow).used_bytes == 0);
		assert_pattern(mem, BLOCK, SEED);
	}
	eventually(stats().fault_bytes - before.fault_bytes >= 10 * BLOCK); /* counted when the touchers have gone on */
	after = stats();
	assert_int_equal(after.fault_bytes - before.fault_bytes, 10 * BLOCK);
	assert_true(after.fault_joined > before.fault_joined);
	assert_true(after.faults >= before.faults + 10);
	pthread_barrier_destroy(&all_there);
	assert_int_equal(uhmm_device_close(slow), 0);
	unmap_anon(mem, BLOCK);
}

static void *touch_all_blocks(void *arg)
{
	uint64_t rnd = (uintptr_t)arg;

	pthread_barrier_wait(&all_there);
	for (unsigned n = 0; n < 64; n++) {
		size_t at = next_random(&rnd) % PAGES(BYTES) * PAGE;

		if (check_pattern_at(mem + at, PAGE, SEED, at) >= 0)
			return mem + at;
	}
	return NULL;
}

static void many_threads_on_many_blocks(void **state)
{
	pthread_t threads[NR_THREADS];
	void *wrong;

	pthread_barrier_init(&all_there, NULL, NR_THREADS);
	for (unsigned round = 0; round < 8; round++) {
		mem = map_anon(BYTES, !(round & 2), round & 1);
		fill_pattern(mem, BYTES, SEED);
		go(mem, BYTES);
		for (uintptr_t i = 0; i < NR_THREADS; i++)
			threads[i] = run(touch_all_blocks, (void *)(round * 100 + i));
		for (unsigned i = 0; i < NR_THREADS; i++) {
			pthread_join(threads[i], &wrong);
			assert_null(wrong);
		}
		assert_pattern(mem, BYTES, SEED);
		unmap_anon(mem, BYTES);
	}
	pthread_barrier_destroy(&all_there);
}

static atomic_bool enough;

static void *count_up(void *arg)
{
	volatile uint64_t *word = arg;
	uint64_t n = 0;

	while (!enough)
		if ((*word)++ != n++)
			return arg;
	*word = 0;
	return NULL;
}

static void no_write_is_lost_on_the_way(void **state)
{
	pthread_t threads[4];
	void *wrong;

	mem = map_anon(2 * BLOCK, true, true);
	enough = false;
	for (unsigned i = 0; i < 4; i++)
		threads[i] = run(count_up, mem + i * (BLOCK / 2) + i * 8);
	for (unsigned n = 0; n < 200; n++) {
		assert_true(uhmm_to_device(space, mem, 2 * BLOCK, dev, 0, NULL) >= 0);
		assert_int_equal(uhmm_to_system(space, mem, 2 * BLOCK, 0, NULL), 0);
	}
	enough = true;
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
	unmap_anon(mem, 2 * BLOCK);
}

/* ---- stacks ---- */

/* Sends away the stack it stands on. */
static void *leave_own_stack(void *arg)
{
	pthread_attr_t attr;
	size_t bytes;
	void *stack;
	char mark[64];

	fill_pattern(mark, sizeof(mark), SEED);
	pthread_getattr_np(pthread_self(), &attr);
	pthread_attr_getstack(&attr, &stack, &bytes);
	pthread_attr_destroy(&attr);
	for (unsigned i = 0; i < 20; i++) {
		RESULT(res);
		int r = uhmm_to_device(space, stack, bytes, dev, 0, &res);

		if (r < 0 || check_pattern(mark, sizeof(mark), SEED) >= 0)
			return arg;
		if (uhmm_to_system(space, stack, bytes, 0, &res))
			return arg;
	}
	return NULL;
}

static void a_thread_moves_its_own_stack(void **state)
{
	void *wrong;

	for (unsigned i = 0; i < 4; i++) {
		pthread_join(run(leave_own_stack, &wrong), &wrong);
		assert_null(wrong);
	}
}

static void the_main_stack_moves(void **state)
{
	volatile char here = 42;
	char *block = (char *)((uintptr_t)&here & ~(BLOCK - 1));

	for (unsigned i = 0; i < 10; i++) {
		int r = uhmm_to_device(space, block, BLOCK, dev, 0, NULL);

		assert_true(r == 0 || r == UHMM_E_PARTIAL);
		assert_int_equal(here, 42);
	}
	assert_true(uhmm_to_system(space, block, BLOCK, 0, NULL) == 0);
}

static _Atomic uint64_t piled;

static void *pile_up(void *arg)
{
	unsigned char frame[16 * KIB];
	RESULT(res);

	memset(frame, (int)(uintptr_t)arg, sizeof(frame));
	if (uhmm_to_device(space, mem, BLOCK, dev, 0, &res) < 0)
		return (void *)1;
	for (size_t i = 0; i < sizeof(frame); i++)
		if (frame[i] != (unsigned char)(uintptr_t)arg)
			return (void *)1;
	piled += res.moved_bytes;
	return NULL;
}

/* Threads that end while their stacks are being driven away: the kernel's last write to each must find its page. */
static void stacks_in_one_block_move_under_their_threads(void **state)
{
	pthread_t threads[8];
	void *wrong;

	piled = 0;
	for (unsigned round = 0; round < 40; round++) {
		mem = map_anon(BLOCK, true, round % 4 == 0);
		for (uintptr_t i = 0; i < 8; i++) {
			pthread_attr_t attr;

			pthread_attr_init(&attr);
			assert_int_equal(pthread_attr_setstack(&attr, mem + i * 256 * KIB, 256 * KIB), 0);
			assert_int_equal(pthread_create(&threads[i], &attr, pile_up, (void *)(i + 1)), 0);
			pthread_attr_destroy(&attr);
		}
		for (unsigned i = 0; i < 8; i++) {
			pthread_join(threads[i], &wrong);
			assert_null(wrong);
		}
		unmap_anon(mem, BLOCK);
	}
	assert_true(piled > 0);
}

static void *wait_to_end(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&all_there); /* the kernel knows its control block from here on */
	pthread_barrier_wait(&all_there);
	return NULL;
}

/* A joiner waits for a word in it that userfaultfd would not serve. */
static void the_control_block_of_a_thread_stays(void **state)
{
	pthread_attr_t attr;
	pthread_t thread;
	RESULT(res);

	mem = map_anon(BLOCK, true, false);
	pthread_barrier_init(&all_there, NULL, 2);
	pthread_attr_init(&attr);
	assert_int_equal(pthread_attr_setstack(&attr, mem, BLOCK), 0);
	assert_int_equal(pthread_create(&thread, &attr, wait_to_end, NULL), 0);
	pthread_attr_destroy(&attr);
	pthread_barrier_wait(&all_there);
	/* again, until the thread sleeps: on its way there it touches its stack */
	eventually(uhmm_to_device(space, mem, BLOCK, dev, 0, &res) == UHMM_E_PARTIAL &&
		   count_where(mem, BLOCK, UHMM_WHERE_DEVICE) == PAGES(BLOCK) - res.skipped_pages[UHMM_SKIP_THREAD]);
	/* a page more when the control block lies across two */
	assert_in_range(res.skipped_pages[UHMM_SKIP_THREAD], 1, 2);
	pthread_barrier_wait(&all_there);
	pthread_join(thread, NULL);
	assert_int_equal(uhmm_to_device(space, mem, BLOCK, dev, 0, &res), 0);
	assert_true(all_on_device(mem, BLOCK));
	pthread_barrier_destroy(&all_there);
	unmap_anon(mem, BLOCK);
}

/* ---- signals ---- */

static volatile sig_atomic_t nr_ticks;

static void tick(int sig)
{
	size_t at = (size_t)nr_ticks * 3 % PAGES(2 * BLOCK) * PAGE;

	mem[at]++;
	mem[at]--;
	nr_ticks++;
}

/* The handler interrupts calls, copies and faults, and touches what they are just moving. */
static void a_timer_touches_what_is_moved(bool own_stack)
{
	struct sigaction before, action = { .sa_handler = tick, .sa_flags = SA_RESTART | (own_stack ? SA_ONSTACK : 0) };
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
	stack_t there = { .ss_size = 64 * KIB }, off = { .ss_flags = SS_DISABLE };

	mem = map_anon(3 * BLOCK, true, true);
	fill_pattern(mem, 2 * BLOCK, SEED);
	there.ss_sp = mem + 2 * BLOCK;
	if (own_stack)
		assert_int_equal(sigaltstack(&there, NULL), 0);
	nr_ticks = 0;
	assert_int_equal(sigaction(SIGPROF, &action, &before), 0);
	assert_int_equal(setitimer(ITIMER_PROF, &often, NULL), 0); /* of CPU time: a slow machine gets as many */
	while (nr_ticks < 300) {
		assert_true(uhmm_to_device(space, mem, 3 * BLOCK, dev, 0, NULL) >= 0);
		assert_true(uhmm_prefetch(space, mem, BLOCK, NULL) == 0);
		assert_int_equal(uhmm_prefetch_wait(space), 0);
	}
	assert_int_equal(setitimer(ITIMER_PROF, &never, NULL), 0);
	assert_int_equal(sigaction(SIGPROF, &before, NULL), 0);
	if (own_stack)
		assert_int_equal(sigaltstack(&off, NULL), 0);
	assert_pattern(mem, 2 * BLOCK, SEED);
	unmap_anon(mem, 3 * BLOCK);
}

static void a_signal_handler_touches_what_is_moved(void **state) { a_timer_touches_what_is_moved(false); }
static void a_signal_handler_stands_on_what_is_moved(void **state) { a_timer_touches_what_is_moved(true); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(touched_by_many_at_once_it_is_copied_once),
		cmocka_unit_test(many_threads_on_many_blocks),
		cmocka_unit_test(no_write_is_lost_on_the_way),
		cmocka_unit_test(a_thread_moves_its_own_stack),
		cmocka_unit_test(the_main_stack_moves),
		cmocka_unit_test(the_control_block_of_a_thread_stays),
		cmocka_unit_test(stacks_in_one_block_move_under_their_threads),
		cmocka_unit_test(a_signal_handler_touches_what_is_moved),
		cmocka_unit_test(a_signal_handler_stands_on_what_is_moved),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
