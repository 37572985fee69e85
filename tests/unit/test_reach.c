/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "policy/reach.h"

#define BASE (UINT64_C(64) << 30) /* of a block */

static struct reach r;
static struct window w;

static int fresh(void **state)
{
	(void)state;
	memset(&r, 0, sizeof(r));
	return 0;
}

/* Page @i from BASE on is touched. Return: how many pages come. */
static unsigned touch(int64_t i)
{
	uint64_t addr = BASE + (uint64_t)(i * (int64_t)PAGE_BYTES);

	reach_touched(&r, addr + 123 % PAGE_BYTES, &w);
	assert_true(w.first <= page_in_block(addr) && page_in_block(addr) < w.end && w.end <= PAGES_PER_BLOCK);
	return w.end - w.first;
}

static bool ahead(int64_t first_block, int64_t end_block)
{
	return w.ahead_start == BASE + (uint64_t)(first_block * (int64_t)BLOCK_BYTES) &&
	       w.ahead_end == BASE + (uint64_t)(end_block * (int64_t)BLOCK_BYTES);
}

static bool nothing_ahead(void) { return w.ahead_start == w.ahead_end; }

static void touches_here_and_there_bring_a_page_each(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (unsigned k = 0; k < 10000; k++) {
		unsigned n = touch((int64_t)(next_random(&seed) % (1u << 24)));

		assert_true(n == 1 || n == 4); /* two of them may be neighbours by chance */
		assert_true(nothing_ahead());
	}
}

static void every_other_page_is_not_a_stream(void **state)
{
	(void)state;
	for (int k = 0; k < 2000; k++)
		assert_int_equal(touch(2 * k), 1);
}

static void a_stream_brings_more_each_time(void **state)
{
	static const unsigned at[] = { 0, 1, 4, 16, 64, 256 }, nr[] = { 1, 4, 16, 64, 256, 512 };

	(void)state;
	for (unsigned k = 0; k < 6; k++) {
		assert_int_equal(touch(at[k]), nr[k]);
		assert_int_equal(w.first, k == 4 || k == 5 ? 0 : at[k] / nr[k] * nr[k]);
		assert_true(nothing_ahead());
	}
	assert_int_equal(touch(512), 512);
	assert_true(ahead(2, 4));
	/* these have come: the next touch is beyond them */
	assert_int_equal(touch(4 * 512), 512);
	assert_true(ahead(5, 7));
}

static void a_stream_downwards_is_one_too(void **state)
{
	static const int at[] = { 511, 510, 507, 495, 447, 255 };
	static const unsigned nr[] = { 1, 4, 16, 64, 256, 512 };

	(void)state;
	for (unsigned k = 0; k < 6; k++)
		assert_int_equal(touch(at[k]), nr[k]);
	assert_int_equal(touch(-1), 512);
	assert_true(ahead(-3, -1));
	assert_int_equal(touch(-3 * 512 - 1), 512);
	assert_true(ahead(-6, -4));
}

static void who_meets_what_was_fetched_ahead_has_more_fetched(void **state)
{
	(void)state;
	reach_whole(&r, BASE, &w);
	assert_int_equal(touch(512), 512);
	assert_true(ahead(2, 4));
	reach_met(&r, BASE + 2 * BLOCK_BYTES + 7 * PAGE_BYTES, &w);
	assert_true(ahead(4, 5));
	/* the same block again calls for nothing */
	reach_met(&r, BASE + 2 * BLOCK_BYTES + 8 * PAGE_BYTES, &w);
	assert_true(nothing_ahead());
	/* it was promised but has not come: all of it, and the promise is repeated from there */
	assert_int_equal(touch(3 * 512), 512);
	assert_true(ahead(5, 6));
}

static void who_meets_anything_else_has_nothing_fetched(void **state)
{
	(void)state;
	reach_met(&r, BASE, &w);
	assert_true(nothing_ahead());
	reach_whole(&r, BASE, &w);
	reach_met(&r, BASE + 5 * PAGE_BYTES, &w);
	assert_true(nothing_ahead());
}

/* Of the block beside one that came as a whole only the near end continues it. */
static void the_block_beside_is_not_hit_by_chance(void **state)
{
	(void)state;
	reach_whole(&r, BASE, &w);
	assert_int_equal(touch(512 + 16), 1);
	assert_int_equal(touch(-17), 1);
	assert_int_equal(touch(512 + 15), 512);
}

static void streams_side_by_side_are_told_apart(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(touch((int64_t)k << 20), 1);
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(touch(((int64_t)k << 20) + 1), 4);
	for (unsigned k = 0; k < 8; k++)
		assert_int_equal(touch(((int64_t)k << 20) + 4), 16);
}

static void a_stream_is_forgotten_after_many_others(void **state)
{
	(void)state;
	assert_int_equal(touch(0), 1);
	for (unsigned k = 1; k < REACH_STREAMS; k++)
		(void)touch((int64_t)k << 20);
	assert_int_equal(touch(1), 4);
	for (unsigned k = 1; k <= REACH_STREAMS; k++)
		(void)touch((int64_t)(k + 100) << 20);
	assert_int_equal(touch(4), 1);
}

/* The first block of all has none before it. */
static void the_bottom_of_memory_is_the_end(void **state)
{
	(void)state;
	reach_whole(&r, BLOCK_BYTES, &w);
	reach_touched(&r, BLOCK_BYTES - PAGE_BYTES, &w);
	assert_int_equal(w.end - w.first, PAGES_PER_BLOCK);
	assert_true(nothing_ahead());
}

#define CASE(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(touches_here_and_there_bring_a_page_each),
		CASE(every_other_page_is_not_a_stream),
		CASE(a_stream_brings_more_each_time),
		CASE(a_stream_downwards_is_one_too),
		CASE(who_meets_what_was_fetched_ahead_has_more_fetched),
		CASE(who_meets_anything_else_has_nothing_fetched),
		CASE(the_block_beside_is_not_hit_by_chance),
		CASE(streams_side_by_side_are_told_apart),
		CASE(a_stream_is_forgotten_after_many_others),
		CASE(the_bottom_of_memory_is_the_end),
	};

	return cmocka_run_group_tests_name("reach", tests, NULL, NULL);
}
