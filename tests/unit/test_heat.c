/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "policy/heat.h"

static struct heat heat;

static unsigned at(uint64_t addr) { return atomic_load(heat_of(&heat, addr)); }

static void what_was_never_heard_of_is_unseen(void **state)
{
	(void)state;
	assert_int_equal(at(0), HEAT_UNSEEN);
	assert_int_equal(at(UINT64_C(0x7fffffe00000)), HEAT_UNSEEN);
}

static void blocks_are_told_apart(void **state)
{
	(void)state;
	heat_warm(&heat, 5 * BLOCK_BYTES + 4096, 1, HEAT_MAX);
	assert_int_equal(at(5 * BLOCK_BYTES), HEAT_WARM);
	assert_int_equal(at(6 * BLOCK_BYTES), HEAT_UNSEEN);
	assert_int_equal(at(4 * BLOCK_BYTES), HEAT_UNSEEN);
	assert_int_equal(at(GIB + 5 * BLOCK_BYTES), HEAT_UNSEEN);
}

static void warmth_adds_up_to_a_bound(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i++)
		heat_warm(&heat, 9 * BLOCK_BYTES, 2, HEAT_MAX);
	assert_int_equal(at(9 * BLOCK_BYTES), HEAT_MAX);
}

static void pages_that_come_one_by_one_do_not_add_up(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i++)
		heat_warm(&heat, 11 * BLOCK_BYTES, 1, HEAT_WARM);
	assert_int_equal(at(11 * BLOCK_BYTES), HEAT_WARM);
	heat_warm(&heat, 11 * BLOCK_BYTES, 3, HEAT_MAX);
	heat_warm(&heat, 11 * BLOCK_BYTES, 1, HEAT_WARM);
	assert_int_equal(at(11 * BLOCK_BYTES), HEAT_WARM + 3); /* nor do they take away */
}

static void a_lap_cools(void **state)
{
	(void)state;
	assert_false(heat_cool(&heat, 13 * BLOCK_BYTES)); /* seen for the first time */
	assert_true(heat_cool(&heat, 13 * BLOCK_BYTES));
	heat_warm(&heat, 13 * BLOCK_BYTES, 2, HEAT_MAX);
	assert_false(heat_cool(&heat, 13 * BLOCK_BYTES));
	assert_false(heat_cool(&heat, 13 * BLOCK_BYTES));
	assert_true(heat_cool(&heat, 13 * BLOCK_BYTES));
}

static void a_dense_block_is_taken_as_such_some_times(void **state)
{
	(void)state;
	assert_false(heat_take_dense(&heat, 15 * BLOCK_BYTES));
	heat_warm(&heat, 15 * BLOCK_BYTES, 2, HEAT_MAX);
	heat_dense(&heat, 15 * BLOCK_BYTES);
	assert_int_equal(at(15 * BLOCK_BYTES) & HEAT_LAPS, HEAT_COLD + 2);
	for (unsigned i = 0; i < HEAT_DENSE_MAX; i++)
		assert_true(heat_take_dense(&heat, 15 * BLOCK_BYTES));
	assert_false(heat_take_dense(&heat, 15 * BLOCK_BYTES));
	assert_int_equal(at(15 * BLOCK_BYTES), HEAT_COLD + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_never_heard_of_is_unseen),
		cmocka_unit_test(blocks_are_told_apart),
		cmocka_unit_test(warmth_adds_up_to_a_bound),
		cmocka_unit_test(pages_that_come_one_by_one_do_not_add_up),
		cmocka_unit_test(a_lap_cools),
		cmocka_unit_test(a_dense_block_is_taken_as_such_some_times),
	};
	int r;

	if (heat_init(&heat))
		return 1;
	r = cmocka_run_group_tests_name("heat", tests, NULL, NULL);
	heat_fini(&heat);
	return r;
}
