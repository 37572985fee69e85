/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

/*
 * What the programs of this folder share. cmocka's asserts jump out of the function that fails, so only the thread that
 * runs main() uses them: other threads count what went wrong, and main() asserts that the count is 0.
 */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/pages.h"

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif
#ifndef THREAD_SANITIZER
#define THREAD_SANITIZER 0
#endif

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* For main(): the whole program cannot run here. */
static inline int skip_all(const char *why)
{
	printf("SKIP: %s\n", why);
	return 77;
}

static inline uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Runs @fn in a child. Return: what waitpid() says of it; the child ends with @fn's value. */
static inline int in_child(int (*fn)(void *), void *arg)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		_exit(fn(arg));
	}
	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return status;
}

static inline bool aborts(int (*fn)(void *), void *arg)
{
	int status = in_child(fn, arg);

	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* The value that @fn had in the child, -1 if it did not end by itself. */
static inline int value_in_child(int (*fn)(void *), void *arg)
{
	int status = in_child(fn, arg);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The last sentence of the log, and how many there were; said_start() makes one that children share. */
struct said {
	unsigned nr;
	enum uhmm_log_level level;
	char line[512];
};

static inline void said_hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	struct said *s = ctx;

	s->nr++;
	s->level = level;
	snprintf(s->line, sizeof(s->line), "%s", message);
}

static inline struct said *said_start(void)
{
	struct said *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(s, MAP_FAILED);
	log_set(said_hear, s, UHMM_LOG_DEBUG);
	return s;
}

static inline void said_end(struct said *s)
{
	log_set(NULL, NULL, UHMM_LOG_WARN);
	munmap(s, sizeof(*s));
}

/*
 * Private anonymous memory, untouched, aligned to 2 MiB, between inaccessible pages so that it shares a mapping with
 * nothing else. unmap_blocks() takes all of it away.
 */
static inline char *map_blocks(uint64_t bytes, bool huge)
{
	char *base = mmap(NULL, bytes + 3 * BLOCK_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *mem;

	assert_ptr_not_equal(base, MAP_FAILED);
	mem = (char *)(uintptr_t)block_up((uintptr_t)base + BLOCK_BYTES);
	munmap(base, (size_t)(mem - base) - PAGE_BYTES);
	munmap(mem + bytes + PAGE_BYTES, (size_t)(base + 3 * BLOCK_BYTES - mem) - PAGE_BYTES);
	assert_int_equal(mprotect(mem, bytes, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(madvise(mem, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE), 0);
	return mem;
}

static inline void unmap_blocks(char *mem, uint64_t bytes)
{
	munmap(mem - PAGE_BYTES, bytes + 2 * PAGE_BYTES);
}

static inline uint64_t addr_of(const void *mem) { return (uintptr_t)mem; }

static inline pthread_t spawn(void *(*run)(void *), void *arg)
{
	pthread_t id;

	assert_int_equal(pthread_create(&id, NULL, run, arg), 0);
	return id;
}

#endif
