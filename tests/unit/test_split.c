/* SPDX-License-Identifier: MIT */
#include "unit_migrate.h"

static unsigned order_at(unsigned b, unsigned i) { return entry_order(entry_at(b, i)); }

/* A THP goes to the device in folios of @order. */
static void put_thp_in(unsigned b, unsigned order)
{
	fill_thp(b);
	put_in(b, order);
	assert_int_equal(order_at(b, 0), order);
	fake.nr_splits = fake.nr_split_ends = fake.nr_split_calls = 0;
}

static void a_block_becomes_two_of_the_next_order(void **state)
{
	(void)state;
	put_thp_in(1, 9);
	assert_int_equal(split_block(&mig, block(1)), 0);
	assert_int_equal(split_block(&mig, block(1)), 0); /* it is */
	assert_int_equal(heard_split(0, entry_offset(entry_at(1, 0)), 9, 8), 2);
	assert_int_equal(fake.nr_split_calls, 2);
	assert_true(order_at(1, 0) == 8 && order_at(1, 511) == 8);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
}

static void a_range_is_cut_at_both_ends(void **state)
{
	(void)state;
	put_thp_in(1, 4);
	assert_int_equal(split_range(&mig, block(1), 16, 32), 0);
	assert_int_equal(fake.nr_split_calls, 0); /* it cuts nothing */
	assert_int_equal(split_range(&mig, block(1), 20, 41), 0);
	assert_true(order_at(1, 16) == 2 && order_at(1, 20) == 2 && order_at(1, 24) == 3);
	assert_true(order_at(1, 32) == 3 && order_at(1, 40) == 0 && order_at(1, 41) == 0 && order_at(1, 42) == 1 && order_at(1, 44) == 2);
	assert_true(order_at(1, 15) == 4 && order_at(1, 48) == 4);
	assert_int_equal(fake.nr_splits, 2 + 4);
	assert_int_equal(fake.nr_split_ends, 6);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
}

static void what_is_in_linuxs_hands_gets_words_alone(void **state)
{
	(void)state;
	fill(1, 0, 20);
	assert_int_equal(split_range(&mig, block(1), 3, 9), 0);
	assert_int_equal(entry_state(entry_get(table_block(&sp.table, block(1), false))), ENTRY_TABLE);
	assert_int_equal(entry_at(1, 3).bits, 0);
	assert_int_equal(fake.nr_split_calls, 0);
}

static void a_folio_is_split_to_any_smaller_order(void **state)
{
	struct entry_slot *b = table_block(&sp.table, block(1), true);

	(void)state;
	put_thp_in(1, 8);
	block_lock(b);
	split_folio_locked(&mig, entry_table(entry_get(b)), 300, 3);
	block_unlock(b);
	assert_int_equal(heard_split(0, entry_offset(entry_at(1, 256)), 8, 3), 32);
	assert_int_equal(fake.nr_split_calls, 32);
	assert_true(order_at(1, 255) == 8 && order_at(1, 256) == 3 && order_at(1, 511) == 3);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
}

static void without_memory_nothing_is_split(void **state)
{
	(void)state;
	put_thp_in(1, 9);
	fail_set("mmap:1", NULL); /* of the table, or the record */
	assert_int_equal(split_range(&mig, block(1), 0, 1), -ENOMEM);
	fail_set(NULL, NULL);
	assert_int_equal(order_at(1, 0), 9);
	assert_int_equal(fake.nr_split_calls, 0);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(split_range(&mig, block(1), 0, 1), 0);
	assert_int_equal(order_at(1, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(a_block_becomes_two_of_the_next_order),
		HUGE(a_range_is_cut_at_both_ends),
		SMALL(what_is_in_linuxs_hands_gets_words_alone),
		HUGE(a_folio_is_split_to_any_smaller_order),
		HUGE(without_memory_nothing_is_split),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
