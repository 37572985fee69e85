/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/fail.h"
#include "os/map.h"
#include "os/thread.h"

struct seen {
	sigset_t blocked;
	uintptr_t stack;
	char name[16];
	void *arg;
};

static void *look_around(void *arg)
{
	struct seen *s = arg;
	int here;

	pthread_sigmask(SIG_SETMASK, NULL, &s->blocked);
	pthread_getname_np(pthread_self(), s->name, sizeof(s->name));
	s->stack = (uintptr_t)&here;
	s->arg = arg;
	return NULL;
}

static void it_runs_with_its_argument_and_ends(void **state)
{
	struct seen s = { .arg = NULL };
	struct thread t;

	(void)state;
	assert_int_equal(thread_start(&t, "uhmm-test", look_around, &s), 0);
	thread_join(&t);
	assert_ptr_equal(s.arg, &s);
}

static void all_signals_are_blocked_in_it(void **state)
{
	struct seen s;
	struct thread t;

	(void)state;
	assert_int_equal(thread_start(&t, "uhmm-test", look_around, &s), 0);
	thread_join(&t);
	for (int sig = 1; sig < 32; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			assert_true(sigismember(&s.blocked, sig));
}

static void the_starter_keeps_its_own_signals(void **state)
{
	struct thread t;
	struct seen s;
	sigset_t mine;

	(void)state;
	assert_int_equal(thread_start(&t, "uhmm-test", look_around, &s), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &mine);
	thread_join(&t);
	assert_false(sigismember(&mine, SIGTERM));
	assert_false(sigismember(&mine, SIGUSR1));
}

static void its_stack_is_memory_of_our_own(void **state)
{
	uint64_t start, end;
	struct thread t;
	struct seen s;

	(void)state;
	assert_int_equal(thread_start(&t, "uhmm-test", look_around, &s), 0);
	assert_true(map_is_own(addr_of(t.stack), addr_of(t.stack) + 1, &start, &end));
	thread_join(&t);
#ifndef __SANITIZE_ADDRESS__ /* which puts locals elsewhere */
	assert_in_range(s.stack, start, end - 1);
#endif
	assert_false(map_is_own(start, end, &start, &end));
	assert_null(t.stack);
}

static _Atomic bool may_go;

static void *wait_to_go(void *arg)
{
	while (!atomic_load(&may_go))
		sched_yield();
	return arg;
}

static void it_has_its_name(void **state)
{
	char name[16] = "";
	struct thread t;

	(void)state;
	atomic_store(&may_go, false);
	assert_int_equal(thread_start(&t, "uhmm-fifteen-15", wait_to_go, NULL), 0);
	pthread_getname_np(t.id, name, sizeof(name));
	atomic_store(&may_go, true);
	thread_join(&t);
	assert_string_equal(name, "uhmm-fifteen-15");
}

static void many_run_at_once(void **state)
{
	enum { N = 20 };
	struct thread t[N];

	(void)state;
	atomic_store(&may_go, false);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(thread_start(&t[i], "uhmm-test", wait_to_go, NULL), 0);
	atomic_store(&may_go, true);
	for (unsigned i = 0; i < N; i++)
		thread_join(&t[i]);
}

static void a_failure_is_told_and_leaves_nothing(void **state)
{
	uint64_t start, end;
	struct thread t;

	(void)state;
	fail_set("thread:1", NULL);
	assert_int_equal(thread_start(&t, "uhmm-test", wait_to_go, NULL), -EAGAIN);
	fail_set("mmap:1", NULL);
	assert_int_equal(thread_start(&t, "uhmm-test", wait_to_go, NULL), -ENOMEM);
	fail_set(NULL, NULL);
	assert_false(map_is_own(0, UINT64_MAX, &start, &end));
}

struct told {
	pid_t tid;
	bool shared_before, shared_after;
};

static void *part(void *arg)
{
	struct told *t = arg;

	t->shared_before = thread_shares_descriptors(t->tid);
	assert_int_equal(unshare(CLONE_FILES), 0);
	t->shared_after = thread_shares_descriptors(t->tid);
	return NULL;
}

static void whose_descriptors_a_thread_has_is_told(void **state)
{
	struct told told = { .tid = gettid() };
	struct thread t;

	(void)state;
	assert_int_equal(thread_start(&t, "uhmm-test", part, &told), 0);
	thread_join(&t);
	assert_true(told.shared_before);
	if (syscall(SYS_kcmp, gettid(), gettid(), 2, 0, 0) == 0) /* KCMP_FILES, where there is such a call */
		assert_false(told.shared_after);
}

static void there_are_cpus(void **state)
{
	cpu_set_t set, one;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	assert_int_equal(thread_cpus(), CPU_COUNT(&set));
	CPU_ZERO(&one);
	for (int c = 0; c < CPU_SETSIZE && !CPU_COUNT(&one); c++)
		if (CPU_ISSET(c, &set))
			CPU_SET(c, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_int_equal(thread_cpus(), 1);
	assert_int_equal(sched_setaffinity(0, sizeof(set), &set), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_runs_with_its_argument_and_ends),
		cmocka_unit_test(all_signals_are_blocked_in_it),
		cmocka_unit_test(the_starter_keeps_its_own_signals),
		cmocka_unit_test(its_stack_is_memory_of_our_own),
		cmocka_unit_test(it_has_its_name),
		cmocka_unit_test(many_run_at_once),
		cmocka_unit_test(a_failure_is_told_and_leaves_nothing),
		cmocka_unit_test(whose_descriptors_a_thread_has_is_told),
		cmocka_unit_test(there_are_cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
