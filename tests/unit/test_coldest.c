/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include "unit_manual.h"

#include "migrate/coldest.h"

static struct stamps first, second;
static const struct stamps *both[] = { &first, &second };

#define MS UINT64_C(1000000)

static int make_stamps(void **state)
{
	memset(&first, 0, sizeof(first));
	memset(&second, 0, sizeof(second));
	return make_manual_small(state) || stamps_init(&first) || stamps_init(&second);
}

static int unmake_stamps(void **state)
{
	stamps_fini(&first);
	stamps_fini(&second);
	return unmake_manual(state);
}

static void away(unsigned b, unsigned nr)
{
	fill(b, 0, nr);
	to_device(b, 0, nr);
}

static void the_latest_of_both_stamps_counts(void **state)
{
	uint64_t now = clock_ns();
	struct range r[4];

	(void)state;
	for (unsigned b = 0; b < 3; b++)
		away(b, 10);
	stamps_set(&first, block(0), now);
	stamps_set(&second, block(0), now - 900 * MS);
	stamps_set(&first, block(1), now - 1000 * MS);
	stamps_set(&second, block(1), now - 500 * MS);
	stamps_set(&second, block(2), now - 700 * MS);
	assert_int_equal(coldest_gather(&sp, INDEX, both, 2, NULL, NULL, 1, r, 4), 1);
	assert_int_equal(r[0].start, block(2));
	/* as much as is wanted; neighbours are one range only in the order of their ages */
	assert_int_equal(coldest_gather(&sp, INDEX, both, 2, NULL, NULL, 11 * PAGE_BYTES, r, 4), 2);
	assert_int_equal(r[1].start, block(1));
	assert_int_equal(coldest_gather(&sp, INDEX, both, 2, NULL, NULL, UINT64_MAX, r, 2), 2);
}

static void only_what_is_on_the_device(void **state)
{
	struct range r[4];

	(void)state;
	fill(0, 0, 10);
	away(1, 1);
	away(2, 1);
	assert_int_equal(coldest_gather(&sp, INDEX, both, 2, NULL, NULL, UINT64_MAX, r, 4), 1);
	assert_int_equal(r[0].start, block(1));
	assert_int_equal(r[0].end, block(3));
	assert_int_equal(coldest_gather(&sp, INDEX + 1, both, 2, NULL, NULL, UINT64_MAX, r, 4), 0);
}

#define CASE_OF(name) cmocka_unit_test_setup_teardown(name, make_stamps, unmake_stamps)

MANUAL_MAIN(CASE_OF(the_latest_of_both_stamps_counts), CASE_OF(only_what_is_on_the_device))
