/* SPDX-License-Identifier: MIT */
#include "os/thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/fail.h"
#include "os/map.h"

/* glibc keeps its record of a thread on the thread's stack, and a child of fork walks those: so stacks are inherited.
 * Room for thread-local data of other libraries and for the sanitizers; only what is touched costs memory. */
#define STACK_BYTES (1u << 20)
#define GUARD_BYTES (16u << 10)

#define EXEC_PAUSE_NS 1000000
#define EXEC_PAUSES   500

static _Atomic unsigned nr_own;

unsigned thread_nr_own(void)
{
	return atomic_load(&nr_own);
}

/* While another thread is in execve(2) the kernel makes none: either this process ends, or the exec fails and it can be made. */
static int create(struct thread *t, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	const struct timespec pause = { .tv_nsec = EXEC_PAUSE_NS };
	int err;

	for (unsigned n = 0; (err = pthread_create(&t->id, attr, run, arg)) == EAGAIN && n < EXEC_PAUSES; n++)
		nanosleep(&pause, NULL);
	return err;
}

int thread_start(struct thread *t, const char *name, void *(*run)(void *), void *arg)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int err = os_fail(OS_THREAD);

	if (err)
		return -err;
	t->stack = map_own(STACK_BYTES, MAP_OWN_INHERIT);
	if (!t->stack)
		return -ENOMEM;
	(void)mprotect(t->stack, GUARD_BYTES, PROT_NONE);
	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, (char *)t->stack + GUARD_BYTES, STACK_BYTES - GUARD_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = create(t, &attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (err) {
		map_own_free(t->stack, STACK_BYTES);
		t->stack = NULL;
		return -err;
	}
	atomic_fetch_add(&nr_own, 1);
	pthread_setname_np(t->id, name);
	return 0;
}

void thread_join(struct thread *t)
{
	pthread_join(t->id, NULL);
	atomic_fetch_sub(&nr_own, 1);
	map_own_free(t->stack, STACK_BYTES);
	t->stack = NULL;
}

void thread_pause(unsigned n)
{
	const struct timespec t = { .tv_nsec = 50000 };

	if (n < 4)
		cpu_relax();
	else if (n < 40)
		sched_yield();
	else
		nanosleep(&t, NULL);
}

void thread_wait(_Atomic uint32_t *word, uint32_t seen)
{
	(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

void thread_wait_for(_Atomic uint32_t *word, uint32_t seen, uint64_t ns)
{
	const struct timespec t = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &t, NULL, 0);
}

void thread_wake(_Atomic uint32_t *word, unsigned n)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

bool thread_shares_descriptors(pid_t tid)
{
	return syscall(SYS_kcmp, gettid(), tid, KCMP_FILES, 0, 0) <= 0;
}

unsigned thread_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	return (unsigned)CPU_COUNT(&set);
}
