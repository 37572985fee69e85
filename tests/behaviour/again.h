/* SPDX-License-Identifier: MIT */
#ifndef TESTS_AGAIN_H
#define TESTS_AGAIN_H

/*
 * A case on a host that fails. What shall fail is read from the environment once in a process, so the program runs itself
 * again with UHMM_TEST_FAIL set and the case's name as its argument. There, main() hands over to again_main().
 */

#include <spawn.h>
#include <sys/wait.h>

#include "rig.h"

/* Runs the case of that name in a process of its own, where @fail (CALL:N[:ERRNO], src/os/fail.h) fails. */
static inline void again(const char *name, const char *fail)
{
	char *const args[] = { (char *)"again", (char *)name, NULL };
	pid_t child;
	int status;

	assert_int_equal(setenv("UHMM_TEST_FAIL", fail, 1), 0);
	assert_int_equal(posix_spawn(&child, "/proc/self/exe", NULL, NULL, args, environ), 0);
	assert_int_equal(unsetenv("UHMM_TEST_FAIL"), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SUPPORT_SKIP)
		skip();
	if (status)
		print_error("%s with %s failing: status 0x%x\n", name, fail, status);
	assert_int_equal(status, 0);
}

/* For main() of such a process: the one case, without a pool of THPs, so that each one it needs is asked of the host. */
static inline int again_main(const char *name, const struct CMUnitTest *cases, size_t nr)
{
	UHMM_OPTS(uhmm_space_opts, no_pool, .pool_bytes = PAGE);

	setenv("CMOCKA_MESSAGE_OUTPUT", "stdout", 1); /* one TAP plan a program */
	signal(SIGALRM, too_long);
	alarm(60);
	space = open_space_or_skip(&no_pool);
	if (uhmm_device_open(space, "emu:size=16M", &dev))
		return 1;
	for (size_t i = 0; i < nr; i++)
		if (!strcmp(cases[i].name, name)) {
			const struct CMUnitTest one[] = { cases[i] };

			return rig_close(cmocka_run_group_tests(one, NULL, NULL));
		}
	return 1;
}

#endif
