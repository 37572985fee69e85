/* SPDX-License-Identifier: MIT */
/* tools/run_divide.c: how processes divide a limit. */
#include "unit.h"

#include "tools/run_divide.h"

#define LEAST 48

static uint64_t divide(uint64_t limit, const struct run_part *part, unsigned nr, unsigned mine)
{
	return run_divide(limit, part, nr, mine, LEAST);
}

static void alone_it_has_all(void **state)
{
	struct run_part p = { 100, 0, true };

	(void)state;
	assert_int_equal(divide(400, &p, 1, 0), 400);
	p.held = 500;
	assert_int_equal(divide(400, &p, 1, 0), 400);
	p.held = 0;
	assert_int_equal(divide(10, &p, 1, 0), LEAST);
}

static void what_is_left_is_for_all_who_are_looked_after(void **state)
{
	struct run_part p[] = { { 100, 0, true }, { 200, 0, true }, { 20, 0, false } };

	(void)state;
	assert_int_equal(divide(400, p, 3, 0), 140);
	assert_int_equal(divide(400, p, 3, 1), 240);
}

static void when_nothing_is_left_all_shrink_alike(void **state)
{
	struct run_part p[] = { { 200, 0, true }, { 400, 0, true }, { 100, 0, false } };

	(void)state;
	/* nobody can have the third one let anything go */
	assert_int_equal(divide(400, p, 3, 0), 100);
	assert_int_equal(divide(400, p, 3, 1), 200);
}

static void what_a_child_shares_is_not_to_be_made_up_for(void **state)
{
	struct run_part p[] = { { 330, 240, true }, { 150, 0, true } };

	(void)state;
	/* of 240 that can leave 160 may stay */
	assert_int_equal(divide(400, p, 2, 0), 240 + 60);
	assert_int_equal(divide(400, p, 2, 1), 100);
	/* a child's figure may be out of date */
	p[0].pinned = 1000;
	assert_int_equal(divide(400, p, 2, 0), 330 + 330 / 12 + LEAST / 4);
}

static void nobody_is_left_with_less_than_the_least(void **state)
{
	struct run_part p[] = { { 340, 300, true }, { 200, 0, true } };

	(void)state;
	assert_int_equal(divide(400, p, 2, 0), 300 + 25 + 12);
	/* the other one makes up for it */
	assert_int_equal(divide(400, p, 2, 1), 400 - 300 - 25 - 12);
	/* as long as it can */
	p[0].pinned = p[0].held = 480;
	assert_int_equal(divide(400, p, 2, 0), 480 + 40 + 12);
	assert_int_equal(divide(400, p, 2, 1), LEAST);
	/* also while there is room */
	p[0] = (struct run_part){ 204, 204, true };
	p[1] = (struct run_part){ 190, 0, true };
	assert_int_equal(divide(400, p, 2, 0), 204 + 17 + 12);
	assert_int_equal(divide(400, p, 2, 1), 193);
	/* what is pinned may be little */
	p[0] = (struct run_part){ 24, 24, true };
	p[1].held = 500;
	assert_int_equal(divide(400, p, 2, 0), LEAST);
	assert_int_equal(divide(400, p, 2, 1), 376);
}

static void many_small_ones(void **state)
{
	struct run_part p[11];

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		p[i] = (struct run_part){ 10, 0, true };
	p[10] = (struct run_part){ 400, 0, true };
	assert_int_equal(divide(400, p, 11, 0), LEAST);
	assert_int_equal(divide(400, p, 11, 10), 300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alone_it_has_all),
		cmocka_unit_test(what_is_left_is_for_all_who_are_looked_after),
		cmocka_unit_test(when_nothing_is_left_all_shrink_alike),
		cmocka_unit_test(what_a_child_shares_is_not_to_be_made_up_for),
		cmocka_unit_test(nobody_is_left_with_less_than_the_least),
		cmocka_unit_test(many_small_ones),
	};

	return cmocka_run_group_tests_name("run_divide", tests, NULL, NULL);
}
