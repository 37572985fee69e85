/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "os/fail.h"

static int disarm(void **state)
{
	(void)state;
	fail_set(NULL, NULL);
	return 0;
}

static void nothing_fails_at_first(void **state)
{
	(void)state;
	for (int call = 0; call < NR_OS_CALLS; call++)
		assert_int_equal(os_fail((enum os_call)call), 0);
	for (int what = 0; what < NR_WITHOUTS; what++)
		assert_false(os_without((enum os_without)what));
}

static void the_nth_call_fails_and_no_other(void **state)
{
	(void)state;
	fail_set("mmap:3", NULL);
	for (unsigned n = 1; n <= 10; n++) {
		assert_int_equal(os_fail(OS_MMAP), n == 3 ? ENOMEM : 0);
		assert_int_equal(os_fail(OS_MOVE), 0);
	}
}

static void each_call_has_a_name_and_an_errno_of_its_own(void **state)
{
	static const struct { const char *fail; enum os_call call; int err; } calls[] = {
		{ "uffd_open:1", OS_UFFD_OPEN, EMFILE }, { "uffd_api:1", OS_UFFD_API, EINVAL },
		{ "register:1", OS_REGISTER, ENOMEM }, { "unregister:1", OS_UNREGISTER, ENOMEM },
		{ "move:1", OS_MOVE, EAGAIN }, { "move_report:1", OS_MOVE_REPORT, EAGAIN }, { "copy:1", OS_COPY, ENOMEM },
		{ "zeropage:1", OS_ZEROPAGE, ENOMEM },
		{ "wake:1", OS_WAKE, EINVAL }, { "poison:1", OS_POISON, ENOMEM }, { "pagemap:1", OS_PAGEMAP, ENOMEM },
		{ "procmap:1", OS_PROCMAP, ENOMEM }, { "tasks:1", OS_TASKS, ENOMEM },
		{ "mmap:1", OS_MMAP, ENOMEM }, { "madvise:1", OS_MADVISE, EAGAIN },
		{ "thread:1", OS_THREAD, EAGAIN }, { "thp:1", OS_THP, ENOMEM },
	};

	(void)state;
	assert_int_equal(ARRAY_LEN(calls), NR_OS_CALLS);
	for (unsigned i = 0; i < ARRAY_LEN(calls); i++) {
		fail_set(calls[i].fail, NULL);
		assert_int_equal(os_fail(calls[i].call), calls[i].err);
		assert_int_equal(os_fail(calls[i].call), 0);
	}
}

static void an_errno_may_be_given(void **state)
{
	(void)state;
	fail_set("move:1:16", NULL);
	assert_int_equal(os_fail(OS_MOVE), 16);
}

static void any_counts_all_together(void **state)
{
	(void)state;
	fail_set("any:3", NULL);
	assert_int_equal(os_fail(OS_MMAP), 0);
	assert_int_equal(os_fail(OS_MOVE_REPORT), 0); /* not a call of its own */
	assert_int_equal(os_fail(OS_MOVE), 0);
	assert_int_equal(os_fail(OS_THREAD), EAGAIN);
	assert_int_equal(os_fail(OS_MMAP), 0);
}

static void setting_it_again_counts_anew(void **state)
{
	(void)state;
	fail_set("mmap:2", NULL);
	assert_int_equal(os_fail(OS_MMAP), 0);
	fail_set("mmap:2", NULL);
	assert_int_equal(os_fail(OS_MMAP), 0);
	assert_int_equal(os_fail(OS_MMAP), ENOMEM);
	fail_set("mmap:1", NULL);
	fail_set(NULL, NULL);
	assert_int_equal(os_fail(OS_MMAP), 0);
}

static void what_cannot_be_understood_fails_nothing(void **state)
{
	static const char *const texts[] = { "", "mmap", "mmap:", "mmap:x", "mmap:0", "mmap:-1", "nmap:1", ":1", "MMAP:1" };

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
		fail_set(texts[i], NULL);
		for (int call = 0; call < NR_OS_CALLS; call++)
			assert_int_equal(os_fail((enum os_call)call), 0);
	}
}

static const char *const names[NR_WITHOUTS] = {
	[WITHOUT_UFFD] = "userfaultfd", [WITHOUT_PRIVILEGE] = "privilege", [WITHOUT_MOVE] = "move",
	[WITHOUT_EVENTS] = "events", [WITHOUT_POISON] = "poison", [WITHOUT_PAGEMAP_SCAN] = "pagemap_scan",
	[WITHOUT_PROCMAP_QUERY] = "procmap_query", [WITHOUT_THP] = "thp", [WITHOUT_FORK_EVENT] = "fork_event",
	[WITHOUT_WATCHES_APART] = "watches_apart",
};

static void one_thing_is_lacking(void **state)
{
	(void)state;
	for (int lacking = 0; lacking < NR_WITHOUTS; lacking++) {
		fail_set(NULL, names[lacking]);
		for (int what = 0; what < NR_WITHOUTS; what++)
			assert_int_equal(os_without((enum os_without)what), what == lacking);
	}
}

static void several_things_are_lacking(void **state)
{
	(void)state;
	fail_set(NULL, "thp,userfaultfd,procmap_query");
	for (int what = 0; what < NR_WITHOUTS; what++)
		assert_int_equal(os_without((enum os_without)what),
				 what == WITHOUT_THP || what == WITHOUT_UFFD || what == WITHOUT_PROCMAP_QUERY);
}

static void only_whole_names_count(void **state)
{
	(void)state;
	fail_set(NULL, "pagemap,remove,thps,xpoison,");
	for (int what = 0; what < NR_WITHOUTS; what++)
		assert_false(os_without((enum os_without)what));
}

static int read_environment(void *arg)
{
	(void)arg;
	setenv("UHMM_TEST_FAIL", "copy:2:5", 1);
	setenv("UHMM_TEST_WITHOUT", "move", 1);
	fail_init();
	if (os_fail(OS_COPY) || os_fail(OS_COPY) != 5 || !os_without(WITHOUT_MOVE) || os_without(WITHOUT_THP))
		return 1;
	setenv("UHMM_TEST_FAIL", "copy:1", 1);
	fail_init(); /* once only */
	return os_fail(OS_COPY) ? 2 : 0;
}

static void the_environment_is_read_once(void **state)
{
	(void)state;
	assert_int_equal(value_in_child(read_environment, NULL), 0);
}

static _Atomic unsigned nr_failed;

static void *call_often(void *arg)
{
	(void)arg;
	for (unsigned n = 0; n < 1000; n++)
		if (os_fail(OS_MADVISE))
			atomic_fetch_add(&nr_failed, 1);
	return NULL;
}

static void one_call_of_all_threads_fails(void **state)
{
	pthread_t t[3];

	(void)state;
	fail_set("madvise:1500", NULL);
	for (unsigned i = 0; i < 3; i++)
		t[i] = spawn(call_often, NULL);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(nr_failed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_fails_at_first),
		cmocka_unit_test_teardown(the_nth_call_fails_and_no_other, disarm),
		cmocka_unit_test_teardown(each_call_has_a_name_and_an_errno_of_its_own, disarm),
		cmocka_unit_test_teardown(an_errno_may_be_given, disarm),
		cmocka_unit_test_teardown(any_counts_all_together, disarm),
		cmocka_unit_test_teardown(setting_it_again_counts_anew, disarm),
		cmocka_unit_test_teardown(what_cannot_be_understood_fails_nothing, disarm),
		cmocka_unit_test_teardown(one_thing_is_lacking, disarm),
		cmocka_unit_test_teardown(several_things_are_lacking, disarm),
		cmocka_unit_test_teardown(only_whole_names_count, disarm),
		cmocka_unit_test(the_environment_is_read_once),
		cmocka_unit_test_teardown(one_call_of_all_threads_fails, disarm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
