/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/err.h"

static void why_is_filled_and_the_value_returned(void **state)
{
	char why[64];

	(void)state;
	assert_int_equal(err_why(why, sizeof(why), -EINVAL, "%s=%d is wrong", "size", 3), -EINVAL);
	assert_string_equal(why, "size=3 is wrong");
}

static void why_is_cut_to_the_buffer(void **state)
{
	char why[8] = "xxxxxxx";

	(void)state;
	assert_int_equal(err_why(why, 4, 7, "abcdef"), 7);
	assert_string_equal(why, "abc");
	assert_memory_equal(why + 4, "xxx", 3);
}

static void why_may_be_null_or_empty(void **state)
{
	char why[2] = "x";

	(void)state;
	assert_int_equal(err_why(NULL, 0, -ENOMEM, "nobody reads this"), -ENOMEM);
	assert_int_equal(err_why(NULL, 10, -ENOMEM, "nobody reads this"), -ENOMEM);
	assert_int_equal(err_why(why, 0, -ENOMEM, "nobody reads this"), -ENOMEM);
	assert_string_equal(why, "x");
}

static void fold_lets_success_and_errors_through(void **state)
{
	struct said *s = said_start();

	(void)state;
	assert_int_equal(err_fold(0, "MOVE"), 0);
	assert_int_equal(err_fold(-ENOMEM, "MOVE"), -ENOMEM);
	assert_int_equal(s->nr, 0);
	said_end(s);
}

static void fold_reports_an_outcome_nobody_handled(void **state)
{
	struct said *s = said_start();

	(void)state;
	assert_int_equal(err_fold(4, "MOVE"), -EPROTO);
	assert_int_equal(s->nr, 1);
	assert_int_equal(s->level, UHMM_LOG_ERROR);
	assert_non_null(strstr(s->line, "MOVE"));
	assert_non_null(strstr(s->line, "4"));
	assert_non_null(strstr(s->line, "test_err.c"));
	said_end(s);
}

static int violate(void *arg)
{
	const int *two = arg;

	uhmm_assert(*two == 3);
	return 0;
}

static void a_violated_assertion_speaks_and_aborts(void **state)
{
	struct said *s = said_start();
	int two = 2, three = 3;

	(void)state;
	assert_true(aborts(violate, &two));
	assert_non_null(strstr(s->line, "*two == 3"));
	assert_non_null(strstr(s->line, "test_err.c"));
	assert_int_equal(value_in_child(violate, &three), 0);
	said_end(s);
}

static void container_of_finds_the_struct(void **state)
{
	struct { char c; int a, b; } x[2];

	(void)state;
	assert_ptr_equal(container_of(&x[0].b, __typeof__(x[0]), b), &x[0]);
	assert_int_equal(ARRAY_LEN(x), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(why_is_filled_and_the_value_returned),
		cmocka_unit_test(why_is_cut_to_the_buffer),
		cmocka_unit_test(why_may_be_null_or_empty),
		cmocka_unit_test(fold_lets_success_and_errors_through),
		cmocka_unit_test(fold_reports_an_outcome_nobody_handled),
		cmocka_unit_test(a_violated_assertion_speaks_and_aborts),
		cmocka_unit_test(container_of_finds_the_struct),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
