/* SPDX-License-Identifier: MIT */
/* fault/pace.c: what may be given, and what the child says of it, over a real fork. */
#include "unit.h"

#include <sys/wait.h>

#include "fault/pace.h"

static struct pace_giver g;

/* Runs @child in one, and returns its exit status. */
static int of_child(int (*child)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		pace_born();
		_exit(child());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int is_served(void) { return pace_is_served() | pace_is_held() << 1 | pace_was_bounded() << 2; }

static void there_is_no_bound_before_the_first_fork(void **state)
{
	(void)state;
	assert_true(pace_may_give(&g, UINT64_MAX));
	assert_false(pace_is_bounded(&g));
	assert_false(pace_is_served());
	pace_allow(1); /* nobody hears it */
	pace_take_all();
}

static void everything_may_come_where_nothing_is_said(void **state)
{
	(void)state;
	pace_begin(&g, PACE_ALL);
	assert_false(pace_is_bounded(&g));
	pace_given(&g, UINT64_C(1) << 40);
	assert_true(pace_may_give(&g, UINT64_C(1) << 40));
	assert_int_equal(of_child(is_served), 1);
	pace_end(&g);
	assert_int_equal(of_child(is_served), 0);
}

static int allows_10(void)
{
	pace_allow(10);
	return is_served();
}

static void a_bound_is_what_has_come_and_the_room(void **state)
{
	(void)state;
	pace_begin(&g, 100);
	assert_true(pace_is_bounded(&g));
	assert_true(pace_may_give(&g, 100));
	pace_given(&g, 60);
	assert_true(pace_may_give(&g, 40));
	assert_int_equal(of_child(is_served), 1 | 4);
	assert_false(pace_may_give(&g, 41));
	assert_false(pace_is_set(&g));
	assert_int_equal(of_child(allows_10), 1 | 2 | 4);
	assert_true(pace_is_set(&g));
	assert_true(pace_may_give(&g, 10));
	assert_false(pace_may_give(&g, 11));
	pace_end(&g);
	assert_true(pace_may_give(&g, 1000));
}

static int takes_all(void)
{
	pace_take_all();
	pace_allow(1);
	return is_served();
}

static void who_takes_all_has_no_bound_again(void **state)
{
	(void)state;
	pace_begin(&g, 0);
	assert_false(pace_may_give(&g, 1));
	assert_int_equal(of_child(takes_all), 1); /* and waits for nobody */
	assert_true(pace_may_give(&g, UINT64_C(1) << 40));
	pace_end(&g);
}

static void each_fork_begins_anew(void **state)
{
	(void)state;
	pace_begin(&g, 0);
	assert_false(pace_may_give(&g, 1));
	pace_end(&g);
	pace_begin(&g, 5);
	assert_true(pace_may_give(&g, 5));
	assert_int_equal(of_child(is_served), 1 | 4);
	pace_end(&g);
}

static int forgets(void)
{
	pace_forget();
	return is_served();
}

static int has_a_child(void)
{
	return of_child(is_served);
}

static void a_childs_child_is_served_by_the_same(void **state)
{
	(void)state;
	pace_begin(&g, 0);
	assert_int_equal(of_child(has_a_child), 1 | 4);
	assert_int_equal(of_child(forgets), 0);
	pace_end(&g);
	assert_int_equal(of_child(has_a_child), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_is_no_bound_before_the_first_fork),
		cmocka_unit_test(everything_may_come_where_nothing_is_said),
		cmocka_unit_test(a_bound_is_what_has_come_and_the_room),
		cmocka_unit_test(who_takes_all_has_no_bound_again),
		cmocka_unit_test(each_fork_begins_anew),
		cmocka_unit_test(a_childs_child_is_served_by_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
