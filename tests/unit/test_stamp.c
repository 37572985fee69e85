/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "mem/stamp.h"
#include "os/fail.h"

#define AT   (UINT64_C(5) * GIB)
#define STEP (UINT64_C(1) << 22)

static struct stamps s;

static int make(void **state)
{
	(void)state;
	return stamps_init(&s);
}

static int unmake(void **state)
{
	(void)state;
	fail_set(NULL, NULL);
	stamps_fini(&s);
	return 0;
}

static void what_never_happened_has_no_time_and_costs_nothing(void **state)
{
	(void)state;
	assert_int_equal(stamps_get(&s, AT, 100 * STEP), 0);
	assert_int_equal(stamps_bytes(&s), 0);
	assert_int_equal(stamps_get(&s, UINT64_MAX, 100 * STEP), 0);
	stamps_set(&s, UINT64_MAX, 100 * STEP);
	assert_int_equal(stamps_bytes(&s), 0);
}

static void each_block_has_its_own_time(void **state)
{
	(void)state;
	stamps_set(&s, AT, 100 * STEP);
	stamps_set(&s, AT + BLOCK_BYTES, 103 * STEP + STEP / 2);
	assert_int_equal(stamps_get(&s, AT, 1000 * STEP), 100 * STEP);
	assert_int_equal(stamps_get(&s, AT + BLOCK_BYTES - 1, 1000 * STEP), 100 * STEP);
	assert_int_equal(stamps_get(&s, AT + BLOCK_BYTES, 1000 * STEP), 103 * STEP); /* in steps */
	assert_int_equal(stamps_get(&s, AT + 2 * BLOCK_BYTES, 1000 * STEP), 0);
	assert_int_equal(stamps_get(&s, AT + GIB, 1000 * STEP), 0);
	assert_int_equal(stamps_bytes(&s), 2048);
	stamps_set(&s, AT + GIB - 1, 7 * STEP);
	assert_int_equal(stamps_bytes(&s), 2048);
	stamps_set(&s, AT + GIB, 7 * STEP);
	assert_int_equal(stamps_bytes(&s), 4096);
}

static void the_last_time_counts(void **state)
{
	(void)state;
	for (uint64_t n = 1; n < 10; n++)
		stamps_set(&s, AT, n * STEP);
	assert_int_equal(stamps_get(&s, AT, 20 * STEP), 9 * STEP);
}

/* The clock has run for months, and its lower bits have begun anew. */
static void a_time_before_the_bits_ran_over_is_still_right(void **state)
{
	const uint64_t over = UINT64_C(3) << 32;

	(void)state;
	stamps_set(&s, AT, (over - 5) * STEP);
	assert_int_equal(stamps_get(&s, AT, (over + 5) * STEP), (over - 5) * STEP);
	stamps_set(&s, AT, over * STEP);
	assert_int_equal(stamps_get(&s, AT, (over + 5) * STEP), (over - 1) * STEP); /* 0 means never */
}

static void at_the_very_first_moment_is_not_never(void **state)
{
	(void)state;
	stamps_set(&s, AT, 0);
	assert_int_not_equal(stamps_get(&s, AT, 5 * STEP), 0);
	assert_true(stamps_get(&s, AT, 5 * STEP) <= 5 * STEP);
	stamps_set(&s, AT, STEP);
	assert_int_equal(stamps_get(&s, AT, STEP), STEP);
}

static void without_memory_it_is_forgotten(void **state)
{
	(void)state;
	fail_set("mmap:1", NULL);
	stamps_set(&s, AT, STEP);
	assert_int_equal(stamps_get(&s, AT, STEP), 0);
	stamps_set(&s, AT, 2 * STEP);
	assert_int_equal(stamps_get(&s, AT, 2 * STEP), 2 * STEP);
	stamps_fini(&s);
	fail_set("mmap:1", NULL);
	assert_int_equal(stamps_init(&s), -ENOMEM);
	stamps_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_never_happened_has_no_time_and_costs_nothing, make, unmake),
		cmocka_unit_test_setup_teardown(each_block_has_its_own_time, make, unmake),
		cmocka_unit_test_setup_teardown(the_last_time_counts, make, unmake),
		cmocka_unit_test_setup_teardown(a_time_before_the_bits_ran_over_is_still_right, make, unmake),
		cmocka_unit_test_setup_teardown(at_the_very_first_moment_is_not_never, make, unmake),
		cmocka_unit_test_setup_teardown(without_memory_it_is_forgotten, make, unmake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
