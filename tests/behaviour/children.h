/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CHILDREN_H
#define TESTS_CHILDREN_H

/* For the programs here that fork. After rig.h, and after SEED and BYTES: what their memory holds, and how much of it there is. */

#include <sys/wait.h>

typedef int child_fn(char *mem);

/* The exit status of a child, or minus the signal that ended it. */
static inline int outcome_of(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* A child made @by fork() or _Fork(), which runs @child and ends with what that returns. */
static inline pid_t start_by(pid_t (*by)(void), child_fn *child, char *mem)
{
	pid_t pid = by();

	assert_true(pid >= 0);
	if (!pid) {
		alarm(60);
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		_exit(child(mem));
	}
	return pid;
}

static inline int holds_pattern(char *mem)
{
	return check_pattern(mem, BYTES, SEED) != -1;
}

/* Memory that holds the pattern, all of it on the device; and its end. */
static inline char *on_device(size_t bytes, bool huge)
{
	char *mem = map_anon(bytes, true, huge);

	fill_pattern(mem, bytes, SEED);
	go(mem, bytes);
	return mem;
}

static inline void forget(char *mem, size_t bytes)
{
	unmap_anon(mem, bytes);
	eventually(used_bytes() == 0);
}

#endif
