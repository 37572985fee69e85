/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <sys/stat.h>

#include "base/err.h"
#include "os/fail.h"
#include "os/tasks.h"
#include "os/thread.h"

static int fd = -1;

#define MAX 512
#define ALL 0, UINT64_MAX

static uint64_t words[MAX];

static pthread_barrier_t here;

/* Its control block is where pthread_self() points. */
static void *stay(void *arg)
{
	uint64_t *me = arg;

	*me = (uint64_t)pthread_self();
	pthread_barrier_wait(&here);
	pthread_barrier_wait(&here);
	return NULL;
}

/* Is the page of the word that pthread_join() waits for among those of the words? It lies within the first KiB. */
static bool has_control_block(uint64_t at, int nr)
{
	for (int k = 0; k < nr; k++)
		if (words[k] >= at && words[k] < at + 1024)
			return true;
	return false;
}

/* A sanitizer may have a thread in the background; one that was joined may be listed a moment longer. */
static bool alone(void)
{
	for (unsigned n = 0; n < 10000; n++) {
		struct stat st;

		assert_int_equal(fstat(fd, &st), 0);
		if (st.st_nlink - 2 <= 1 + thread_nr_own())
			return true;
		sched_yield();
	}
	return false;
}

static void a_program_without_threads_is_not_looked_through(void **state)
{
	(void)state;
	if (!alone())
		skip();
	assert_int_equal(tasks_control_words(fd, ALL, words, MAX), 0);
}

static void each_living_thread_is_found(void **state)
{
	enum { N = 20 };
	pthread_t t[N];
	uint64_t at[N];
	int nr;

	(void)state;
	pthread_barrier_init(&here, NULL, N + 1);
	for (unsigned i = 0; i < N; i++)
		t[i] = spawn(stay, &at[i]);
	pthread_barrier_wait(&here);
	nr = tasks_control_words(fd, ALL, words, MAX);
	assert_true(nr >= 2 * (N + 1)); /* and the main thread's */
	for (unsigned i = 0; i < N; i++)
		assert_true(has_control_block(at[i], nr));
	assert_true(has_control_block((uint64_t)pthread_self(), nr));

	/* only what lies in the range */
	nr = tasks_control_words(fd, at[3], at[3] + 1024, words, MAX);
	assert_int_equal(nr, 2);
	assert_true(has_control_block(at[3], nr));
	assert_int_equal(tasks_control_words(fd, at[3] + 4 * PAGE_BYTES, at[3] + 5 * PAGE_BYTES, words, MAX), 0);

	assert_int_equal(tasks_control_words(fd, ALL, words, 2 * (N + 1) - 1), -ENOMEM);
	pthread_barrier_wait(&here);
	for (unsigned i = 0; i < N; i++)
		pthread_join(t[i], NULL);
	pthread_barrier_destroy(&here);
}

static void *own_thread(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&here);
	pthread_barrier_wait(&here);
	return NULL;
}

static void threads_of_the_library_alone_are_no_reason_to_look(void **state)
{
	struct thread t;

	(void)state;
	if (!alone())
		skip();
	pthread_barrier_init(&here, NULL, 2);
	assert_int_equal(thread_nr_own(), 0);
	assert_int_equal(thread_start(&t, "own", own_thread, NULL), 0);
	assert_int_equal(thread_nr_own(), 1);
	pthread_barrier_wait(&here);
	assert_true(alone());
	assert_int_equal(tasks_control_words(fd, ALL, words, MAX), 0);
	pthread_barrier_wait(&here);
	thread_join(&t);
	assert_int_equal(thread_nr_own(), 0);
	pthread_barrier_destroy(&here);
}

static atomic_bool enough;

static void *at_once(void *arg) { return arg; }

static void *come_and_go(void *arg)
{
	while (!atomic_load(&enough))
		pthread_join(spawn(at_once, NULL), NULL);
	return arg;
}

static void who_stays_is_found_while_others_come_and_go(void **state)
{
	enum { N = 5 };
	pthread_t churn[2], t[N];
	uint64_t at[N];

	(void)state;
	pthread_barrier_init(&here, NULL, N + 1);
	for (unsigned i = 0; i < 2; i++)
		churn[i] = spawn(come_and_go, NULL);
	for (unsigned i = 0; i < N; i++)
		t[i] = spawn(stay, &at[i]);
	pthread_barrier_wait(&here);
	for (unsigned n = 0; n < 300; n++) {
		int nr = tasks_control_words(fd, ALL, words, MAX);

		for (unsigned i = 0; i < N; i++)
			assert_true(has_control_block(at[i], nr));
	}
	pthread_barrier_wait(&here);
	atomic_store(&enough, true);
	for (unsigned i = 0; i < N; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(churn[i], NULL);
	pthread_barrier_destroy(&here);
}

static void a_failure_is_forwarded(void **state)
{
	(void)state;
	fail_set("tasks:1", NULL);
	assert_int_equal(tasks_control_words(fd, ALL, words, MAX), -ENOMEM);
	fail_set(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_program_without_threads_is_not_looked_through),
		cmocka_unit_test(each_living_thread_is_found),
		cmocka_unit_test(threads_of_the_library_alone_are_no_reason_to_look),
		cmocka_unit_test(who_stays_is_found_while_others_come_and_go),
		cmocka_unit_test(a_failure_is_forwarded),
	};

	assert_int_equal(tasks_open(&fd), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
