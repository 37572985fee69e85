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
	heat_warm(&heat, 5 * BLOCK_BYTES + 4096, 1);
	assert_int_equal(at(5 * BLOCK_BYTES), HEAT_WARM);
	assert_int_equal(at(6 * BLOCK_BYTES), HEAT_UNSEEN);
	assert_int_equal(at(4 * BLOCK_BYTES), HEAT_UNSEEN);
	assert_int_equal(at(GIB + 5 * BLOCK_BYTES), HEAT_UNSEEN);
}

static void warmth_adds_up_to_a_bound(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i++)
		heat_warm(&heat, 9 * BLOCK_BYTES, 2);
	assert_int_equal(at(9 * BLOCK_BYTES), HEAT_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_never_heard_of_is_unseen),
		cmocka_unit_test(blocks_are_told_apart),
		cmocka_unit_test(warmth_adds_up_to_a_bound),
	};
	int r;

	if (heat_init(&heat))
		return 1;
	r = cmocka_run_group_tests_name("heat", tests, NULL, NULL);
	heat_fini(&heat);
	return r;
}
