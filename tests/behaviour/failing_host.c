/* SPDX-License-Identifier: MIT */
/*
 * The n-th call to the kernel fails, for every n until there is no n-th one. This program runs itself again and again for
 * that, as a program that migrates, touches, discards and closes. Whatever fails, it must keep its bytes; a call may fail
 * with an errno that its header names, and only once, because the kernel has failed only once.
 */
#include "rig.h"

#include <spawn.h>
#include <sys/wait.h>

#define SEED 41

/* What a run of the scenario says by its exit status. */
enum { GOOD = 0, BAD = 2, NOT_REACHED = 3 };

/* ---- the scenario ---- */

/* Three kinds of memory: THPs, base pages with holes between them, nothing at all. */
static struct area {
	size_t bytes;
	bool huge;
	char *mem;
	bool zero[PAGES(3 * BLOCK)]; /* what each page must hold: zeros or its part of the pattern */
} areas[] = { { 3 * BLOCK, true, NULL, { 0 } }, { 64 * PAGE, false, NULL, { 0 } }, { 2 * BLOCK, true, NULL, { 0 } } };

#define HUGE  (&areas[0])
#define SMALL (&areas[1])
#define EMPTY (&areas[2])

static void __attribute__((noreturn)) bad(const char *what, int64_t value)
{
	fprintf(stderr, "UHMM_TEST_FAIL=%s: %s: %lld\n", getenv("UHMM_TEST_FAIL"), what, (long long)value);
	_exit(BAD);
}

static void check(const struct area *a, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++) {
		char *at = a->mem + i * PAGE;
		int64_t wrong = a->zero[i] ? check_zero(at, PAGE) : check_pattern_at(at, PAGE, SEED, i * PAGE);

		if (wrong >= 0)
			bad(a->zero[i] ? "a byte that should be zero, at offset" : "a wrong byte, at offset",
			    (int64_t)(i * PAGE) + wrong);
	}
}

static void check_all(void)
{
	for (size_t k = 0; k < 3; k++)
		check(&areas[k], 0, PAGES(areas[k].bytes));
}

static void write_page(struct area *a, size_t i)
{
	fill_pattern_at(a->mem + i * PAGE, PAGE, SEED, i * PAGE);
	a->zero[i] = false;
}

static bool failed;

/* The outcome of a call. Return: it has failed for the first time, and is to be made again. */
static bool again(const char *call, int r, const char *documented)
{
	char name[16];

	if (!r)
		return false;
	if (failed)
		bad(call, r);
	failed = true;
	snprintf(name, sizeof(name), " %d ", r);
	if (!strstr(documented, name))
		bad(call, r);
	return true;
}

/* Partial (1), -EIO, -EFAULT, -ENOMEM, -EAGAIN, as the headers have them. */
#define OPEN_ERRORS    " -12 -24 -11 -22 -38 -95 -1 -16 "
#define MIGRATE_ERRORS " 1 -5 -12 "
#define DISCARD_ERRORS " -11 -12 "
#define CLOSE_ERRORS   " -5 -12 "

/* A page that has just been touched may still be in a fault thread's hands: that is no failure, it goes a moment later. */
static bool only_raced(int r, const struct uhmm_result *res)
{
	return r == UHMM_E_PARTIAL &&
	       skipped(res, 1u << UHMM_SKIP_RACED | 1u << UHMM_SKIP_ABSENT) == skipped(res, ANY_REASON);
}

static void leave(struct area *a)
{
	RESULT(res);
	int r;

	do {
		r = uhmm_to_device(space, a->mem, a->bytes, dev, 0, &res);
	} while (only_raced(r, &res) || again("uhmm_to_device", r, MIGRATE_ERRORS));
}

static void come_home(struct area *a)
{
	while (again("uhmm_to_system", uhmm_to_system(space, a->mem, a->bytes, 0, NULL), MIGRATE_ERRORS))
		;
}

static void discard(struct area *a, size_t first, size_t end)
{
	while (again("uhmm_discard", uhmm_discard(space, a->mem + first * PAGE, (end - first) * PAGE), DISCARD_ERRORS))
		;
	for (size_t i = first; i < end; i++)
		a->zero[i] = true;
}

static void set_up(void)
{
	for (size_t k = 0; k < 3; k++)
		areas[k].mem = map_anon(areas[k].bytes, true, areas[k].huge);
	memset(EMPTY->zero, true, sizeof(EMPTY->zero));
	for (size_t i = 0; i < PAGES(HUGE->bytes); i++)
		write_page(HUGE, i);
	for (size_t i = 0; i < PAGES(SMALL->bytes); i++)
		if (i % 8 < 3)
			SMALL->zero[i] = true;
		else
			write_page(SMALL, i);
}

static void migrate_touch_and_discard(void)
{
	for (size_t k = 0; k < 3; k++)
		leave(&areas[k]);
	check(HUGE, 100, 103);
	check(SMALL, 0, 20);
	check(EMPTY, 511, 513);
	write_page(HUGE, 600);
	write_page(SMALL, 33);
	write_page(EMPTY, 7);
	come_home(HUGE);
	come_home(SMALL);
	check_all();

	for (size_t k = 0; k < 3; k++)
		leave(&areas[k]);
	discard(HUGE, 0, 512);
	discard(HUGE, 700, 1100);
	discard(SMALL, 20, 30);
	discard(EMPTY, 3, 9);
	check(HUGE, 510, 515);
	check(HUGE, 699, 701);
	check(SMALL, 18, 22);
	check(EMPTY, 2, 8);
	write_page(HUGE, 300);
	write_page(HUGE, 800);
	leave(HUGE);
}

/* Did the failure not come at all? Probing calls the kernel, too, so that it comes now. */
static int reached(void)
{
	for (unsigned k = 0; k < 8; k++) {
		struct uhmm_probe host = { .sz = sizeof(host) };

		if (uhmm_probe(&host) || host.uffd_errno)
			return NOT_REACHED;
	}
	return GOOD;
}

static int scenario(void)
{
	alarm(20); /* a hang */
	set_up();
	while (again("uhmm_open", uhmm_open(NULL, &space), OPEN_ERRORS))
		check_all();
	while (again("uhmm_device_open", uhmm_device_open(space, "emu:size=16M", &dev), " -12 -11 "))
		;
	migrate_touch_and_discard();
	while (again("uhmm_close", uhmm_close(space), CLOSE_ERRORS))
		check_all();
	check_all();
	return reached();
}

/* ---- running it ---- */

static int outcome_with(const char *fail)
{
	char *const args[] = { (char *)"failing_host", (char *)"scenario", NULL };
	pid_t child;
	int status;

	assert_int_equal(setenv("UHMM_TEST_FAIL", fail, 1), 0);
	assert_int_equal(posix_spawn(&child, "/proc/self/exe", NULL, NULL, args, environ), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status))
		print_error("UHMM_TEST_FAIL=%s: ended by signal %d (%s)\n", fail, WTERMSIG(status), strsignal(WTERMSIG(status)));
	return WIFEXITED(status) ? WEXITSTATUS(status) : BAD;
}

static void any_call_may_fail_once(void **state)
{
	unsigned nr_bad = 0, n = 1;
	int r = GOOD;

	/* one by one through opening and the first migration, in steps after that */
	for (; n < 5000 && r != NOT_REACHED; n += n < 450 ? 1 : 3) {
		char fail[32];

		snprintf(fail, sizeof(fail), "any:%u", n);
		r = outcome_with(fail);
		nr_bad += r != GOOD && r != NOT_REACHED;
	}
	print_message("# up to any:%u\n", n);
	assert_int_equal(nr_bad, 0);
	assert_int_equal(r, NOT_REACHED);
}

static void each_call_may_fail_early(void **state)
{
	static const char *const calls[] = {
		"uffd_open:%u", "uffd_api:%u", "register:%u", "register:%u:16", "unregister:%u", "move:%u", "move:%u:16",
		"move:%u:12", "copy:%u", "zeropage:%u", "wake:%u", "pagemap:%u", "procmap:%u", "mmap:%u", "madvise:%u",
		"thread:%u", "thp:%u",
	};
	unsigned nr_bad = 0;

	for (size_t k = 0; k < sizeof(calls) / sizeof(*calls); k++)
		for (unsigned n = 1; n <= 5; n++) {
			char fail[32];
			int r;

			snprintf(fail, sizeof(fail), calls[k], n);
			r = outcome_with(fail);
			nr_bad += r != GOOD && r != NOT_REACHED;
		}
	assert_int_equal(nr_bad, 0);
}

static void a_host_that_does_not_fail_makes_no_call_fail(void **state)
{
	assert_int_equal(outcome_with("any:1000000"), GOOD);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_host_that_does_not_fail_makes_no_call_fail),
		cmocka_unit_test(each_call_may_fail_early),
		cmocka_unit_test(any_call_may_fail_once),
	};

	if (argc > 1)
		return scenario();
	skip_unless_uffd();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
