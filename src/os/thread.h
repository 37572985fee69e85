/* SPDX-License-Identifier: MIT */
#ifndef OS_THREAD_H
#define OS_THREAD_H

/*
 * Threads of the library: all signals blocked (a handler of the program must not run where it could wait for us), and
 * stack and thread-local data in memory of our own, which never goes away.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct thread {
	pthread_t id;
	void *stack;
};

/* Return: 0 or -errno. @name is at most 15 letters. */
int thread_start(struct thread *t, const char *name, void *(*run)(void *), void *arg);
void thread_join(struct thread *t);

/* Lets others run, while waiting for something that takes them microseconds: the @n-th time in a row, from 0, it spins,
 * then yields, then sleeps for 50 us. */
void thread_pause(unsigned n);

/* Sleeps while *@word is @seen; may return early. And lets at most @n of those who sleep go on. */
void thread_wait(_Atomic uint32_t *word, uint32_t seen);
void thread_wake(_Atomic uint32_t *word, unsigned n);

/* The same, for @ns nanoseconds at most. */
void thread_wait_for(_Atomic uint32_t *word, uint32_t seen, uint64_t ns);

/* How many threads of the library there are. */
unsigned thread_nr_own(void);

/* Has thread @tid of this process the same table of descriptors as the caller? Where that cannot be told: yes. */
bool thread_shares_descriptors(pid_t tid);

/* How many CPUs this process may run on. */
unsigned thread_cpus(void);

#endif
