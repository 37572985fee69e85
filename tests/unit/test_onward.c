/* SPDX-License-Identifier: MIT */
#include "unit_next.h"

#include "migrate/jobs.h"

static uint64_t moved[NR_ORDERS];

static int onward(unsigned b)
{
	memset(moved, 0, sizeof(moved));
	return onward_block(&mv, block(b), &d, &next, moved);
}

#define ALL_OF_IT ALL_ORDERS_OF(FAKE_BYTES)

static void a_folio_moves_on_as_one(void **state)
{
	(void)state;
	open_next(ALL_OF_IT);
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(onward(1), 0);
	assert_int_equal(moved[BLOCK_ORDER], 1);
	assert_int_equal(used(), 0);
	assert_int_equal(next_used(), BLOCK_BYTES);
	assert_true(on_next(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(onward(1), ONWARD_NOTHING);
	migrate_to_system(&mv, at, at + LEN, NULL, &t);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	close_next();
}

static void smaller_folios_keep_their_orders(void **state)
{
	(void)state;
	open_next(ALL_OF_IT);
	put_in(1, 4);
	assert_int_equal(onward(1), 0);
	assert_int_equal(moved[4], PAGES_PER_BLOCK / 16);
	assert_true(on_next(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(used(), 0);
	close_next();
}

static void what_is_at_home_stays_there(void **state)
{
	(void)state;
	open_next(ALL_OF_IT);
	fill(1, 0, 40);
	to_device(1, 10, 20);
	assert_int_equal(onward(1), 0);
	assert_int_equal(moved[0], 10);
	assert_true(at_home(1, 0, 10) && on_next(1, 10, 20) && at_home(1, 20, 40));
	assert_int_equal(onward(2), ONWARD_NOTHING);
	close_next();
}

static void a_device_of_small_folios_takes_a_large_one_in_pieces(void **state)
{
	(void)state;
	open_next((struct uhmm_driver_props){ .size_bytes = FAKE_BYTES, .orders = 1 | 1 << 3 });
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(onward(1), 0);
	assert_int_equal(moved[3], PAGES_PER_BLOCK / 8);
	assert_true(on_next(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(used(), 0);
	close_next();
}

static void without_room_all_of_it_stays(void **state)
{
	uint64_t offset, taken[FAKE_BYTES / BLOCK_BYTES];

	(void)state;
	open_next(ALL_OF_IT);
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	for (unsigned i = 0; i < ARRAY_LEN(taken); i++)
		assert_int_equal(device_alloc(&next, BLOCK_ORDER, &taken[i]), 0);
	assert_int_equal(onward(1), ONWARD_NO_ROOM);
	device_free(&next, taken[0], BLOCK_ORDER);
	assert_int_equal(device_alloc(&next, 0, &offset), 0); /* some pages of it would fit, but not all */
	assert_int_equal(onward(1), ONWARD_NO_ROOM);
	device_free(&next, offset, 0);
	atomic_store(&next.closing, 1);
	assert_int_equal(onward(1), ONWARD_NO_ROOM);
	atomic_store(&next.closing, 0);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(entry_order(entry_at(1, 0)), BLOCK_ORDER); /* as it was */
	assert_int_equal(onward(1), 0);
	for (unsigned i = 1; i < ARRAY_LEN(taken); i++)
		device_free(&next, taken[i], BLOCK_ORDER);
	assert_true(on_next(1, 0, PAGES_PER_BLOCK));
	close_next();
}

static void a_device_that_fails_keeps_nothing_and_loses_nothing(void **state)
{
	(void)state;
	open_next(ALL_OF_IT);
	fill_thp(1);
	put_in(2, 0);
	to_device(1, 0, PAGES_PER_BLOCK);
	fake.copy = -EIO; /* out of the first */
	assert_int_equal(onward(1), -EIO);
	assert_int_equal(onward(2), -EIO);
	fake.copy = 0;
	next_copy = -EREMOTEIO; /* into the second */
	assert_int_equal(onward(1), -EREMOTEIO);
	assert_int_equal(onward(2), -EREMOTEIO);
	next_copy = 0;
	assert_int_equal(next_used(), 0);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK) && on_device(2, 0, PAGES_PER_BLOCK));
	assert_int_equal(onward(1), 0);
	assert_int_equal(onward(2), 0);
	assert_true(on_next(1, 0, PAGES_PER_BLOCK) && on_next(2, 0, PAGES_PER_BLOCK));
	close_next();
}

static void drop_two(void)
{
	mark_page(1, 3, ENTRY_DEAD);
	mark_page(1, 4, ENTRY_DEAD | ENTRY_ZAP);
}

static void drop_all(void) { mark_block(1, ENTRY_DEAD); }

static void what_is_dropped_on_the_way_is_on_neither(void **state)
{
	(void)state;
	open_next(ALL_OF_IT);
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	fake.hook = drop_two;
	assert_int_equal(onward(1), 0);
	fake.hook = NULL;
	assert_int_equal(used(), 0);
	assert_int_equal(next_used(), BLOCK_BYTES - 2 * PAGE_BYTES);
	assert_true(on_next(1, 0, 3) && on_next(1, 5, PAGES_PER_BLOCK));
	assert_int_equal(entry_state(entry_at(1, 3)), ENTRY_SYSTEM);
	close_next();
}

static void a_folio_that_is_dropped_on_the_way_is_on_neither(void **state)
{
	(void)state;
	open_next(ALL_OF_IT);
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	fake.hook = drop_all;
	assert_int_equal(onward(1), 0);
	fake.hook = NULL;
	assert_true(used() == 0 && next_used() == 0);
	assert_int_equal(entry_state(entry_at(1, 0)), ENTRY_SYSTEM);
	close_next();
}

static void what_the_device_has_written_is_remembered(void **state)
{
	(void)state;
	open_next(ALL_OF_IT);
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	mark_block(1, ENTRY_WRITTEN); /* by its device */
	assert_int_equal(onward(1), 0);
	assert_true(on_next(1, 0, PAGES_PER_BLOCK));
	assert_true(entry_has(entry_at(1, 0), ENTRY_WRITTEN));
	close_next();
}

static void what_a_child_borrows_stays(void **state)
{
	static struct device loan;

	(void)state;
	open_next(ALL_OF_IT);
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	device_lend(&d, &loan);
	assert_int_equal(onward(1), ONWARD_NOTHING);
	device_loan_end(&d);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(onward(1), 0);
	close_next();
}

/* The copy out of the first device is under way when a child is born: what it borrows is kept for it. */
static struct device born;
static void give_birth(void)
{
	if (!device_is_lent(&d))
		device_lend(&d, &born);
}

static void what_a_child_borrows_meanwhile_is_kept_for_it(void **state)
{
	(void)state;
	open_next(ALL_OF_IT);
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	fake.hook = give_birth;
	assert_int_equal(onward(1), 0);
	fake.hook = NULL;
	assert_true(on_next(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(used(), BLOCK_BYTES);
	device_loan_end(&d);
	assert_int_equal(used(), 0);
	close_next();
}

static void a_page_that_is_lost_stays_as_it_is(void **state)
{
	(void)state;
	open_next(ALL_OF_IT);
	put_in(1, 0);
	put_in(2, 0);
	mark_page(1, 7, ENTRY_LOST);
	memset(&t, 0, sizeof(t));
	migrate_onward(&mv, at, at + LEN, &d, &next, &t);
	assert_int_equal(t.error, 0);
	assert_int_equal(t.moved_folios[0], PAGES_PER_BLOCK);
	assert_true(entry_has(entry_at(1, 7), ENTRY_LOST) && entry_device(entry_at(1, 7)) == INDEX);
	assert_true(on_next(2, 0, PAGES_PER_BLOCK));
	close_next();
}

static void a_range_ends_where_one_block_cannot(void **state)
{
	(void)state;
	open_next(ALL_OF_IT);
	put_in(1, 0);
	put_in(2, 0);
	next_copy = -EIO;
	memset(&t, 0, sizeof(t));
	migrate_onward(&mv, at, at + LEN, &d, &next, &t);
	next_copy = 0;
	assert_int_equal(t.error, -EIO);
	assert_int_equal(t.skipped[UHMM_SKIP_DEVICE], 1);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK) && on_device(2, 0, PAGES_PER_BLOCK));
	close_next();
}

static void a_job_moves_all_of_a_range_on(void **state)
{
	struct jobs *j = mmap(NULL, sizeof(*j), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t home_before;

	(void)state;
	assert_true(j != MAP_FAILED && !jobs_init(j, &mig, 2));
	open_next(ALL_OF_IT);
	put_in(0, 9);
	put_in(1, 3);
	put_in(2, 0);
	home_before = sp.counters.to_system_folios[0];
	jobs_run_onward(j, block(1), at + LEN, &d, &next, &t);
	assert_int_equal(t.error, 0);
	assert_int_equal(t.moved_folios[3], PAGES_PER_BLOCK / 8);
	assert_int_equal(t.moved_folios[0], PAGES_PER_BLOCK);
	assert_int_equal(sp.counters.to_system_folios[0], home_before);
	assert_true(on_device(0, 0, PAGES_PER_BLOCK) && on_next(1, 0, PAGES_PER_BLOCK) && on_next(2, 0, PAGES_PER_BLOCK));
	jobs_fini(j);
	munmap(j, sizeof(*j));
	close_next();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(a_folio_moves_on_as_one),
		SMALL(smaller_folios_keep_their_orders),
		SMALL(what_is_at_home_stays_there),
		HUGE(a_device_of_small_folios_takes_a_large_one_in_pieces),
		HUGE(without_room_all_of_it_stays),
		HUGE(a_device_that_fails_keeps_nothing_and_loses_nothing),
		HUGE(what_is_dropped_on_the_way_is_on_neither),
		HUGE(a_folio_that_is_dropped_on_the_way_is_on_neither),
		HUGE(what_the_device_has_written_is_remembered),
		HUGE(what_a_child_borrows_stays),
		HUGE(what_a_child_borrows_meanwhile_is_kept_for_it),
		SMALL(a_page_that_is_lost_stays_as_it_is),
		SMALL(a_range_ends_where_one_block_cannot),
		SMALL(a_job_moves_all_of_a_range_on),
	};
	int r;

	if (migrate_start() || registry_add(&next_driver))
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
