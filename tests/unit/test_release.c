/* SPDX-License-Identifier: MIT */
#include "unit_migrate.h"

static void the_slot_of_a_thp_goes_to_the_pool(void **state)
{
	uint64_t slot;

	(void)state;
	fill_thp(1);
	isolate(1, 0, PAGES_PER_BLOCK);
	slot = pc.slot;
	piece_start(&mv, &pc, &t);
	finish();
	assert_int_equal(pc.slot, 0);
	assert_false(pc.busy);
	assert_int_equal(staging_pool_bytes(&mig.staging), BLOCK_BYTES);
	assert_int_equal(staging_take_thp(&mig.staging), slot); /* and serves the next fault */
	assert_int_equal(bits_at(slot, BLOCK_BYTES), PM_PRESENT | PM_HUGE);
	staging_put_thp(&mig.staging, slot);
}

static void the_slot_of_a_thp_that_went_back_is_empty(void **state)
{
	uint64_t slot;

	(void)state;
	fill_thp(1);
	isolate(1, 0, PAGES_PER_BLOCK);
	slot = pc.slot;
	give_up();
	assert_int_equal(staging_pool_bytes(&mig.staging), 0);
	assert_int_equal(mig.staging.empty.nr, 1);
	assert_int_equal(mig.staging.dirty.nr, 0);
	assert_int_equal(staging_take_empty(&mig.staging, false), slot);
	assert_int_equal(bits_at(slot, BLOCK_BYTES), 0);
}

static void the_slot_of_base_pages_is_dirty(void **state)
{
	uint64_t slot;

	(void)state;
	fill(1, 0, 20);
	isolate(1, 0, 20);
	slot = pc.slot;
	piece_start(&mv, &pc, &t);
	finish();
	assert_int_equal(mig.staging.dirty.nr, 1);
	assert_int_equal(mig.staging.empty.nr + mig.staging.full.nr, 0);
	assert_int_not_equal(staging_take_empty(&mig.staging, false), slot);
}

static void a_piece_without_a_slot_gives_none_back(void **state)
{
	(void)state;
	to_device(1, 0, 20); /* holes */
	assert_int_equal(t.moved_folios[0], 20);
	assert_int_equal(mig.staging.dirty.nr + mig.staging.empty.nr + mig.staging.full.nr, 0);
	assert_false(pc.busy);
}

static int release_too_early(void *arg)
{
	(void)arg;
	release_piece(&mv, &pc);
	return 0;
}

static void releasing_what_is_still_claimed_aborts(void **state)
{
	(void)state;
	fill(1, 0, 20);
	assert_true(collect(1, 0, 20));
	assert_true(aborts(release_too_early, NULL));
	isolate_pages(&mv, &pc, &t);
	give_up();
}

static void pages_that_are_released_stay_where_they_are(void **state)
{
	struct pageset set = pages(5, 15), none = { 0 };

	(void)state;
	fill(1, 0, 10);
	assert_true(collect(1, 0, 20));
	release_pages(&pc, &set, UHMM_SKIP_FILE, &t);
	assert_int_equal(t.skipped[UHMM_SKIP_FILE], 10);
	assert_true(same_set(&pc.copy, pages(0, 5)));
	assert_true(same_set(&pc.clear, pages(15, 20)));
	assert_int_equal(entry_state(entry_at(1, 5)), ENTRY_SYSTEM);
	assert_int_equal(entry_state(entry_at(1, 14)), ENTRY_SYSTEM);
	assert_int_equal(entry_state(entry_at(1, 4)), ENTRY_MIGRATING);
	release_pages(&pc, &none, UHMM_SKIP_FILE, &t);
	assert_int_equal(t.skipped[UHMM_SKIP_FILE], 10);
	isolate_pages(&mv, &pc, &t);
	give_up();
	assert_true(at_home(1, 0, 10));
}

static void folios_are_freed_as_they_were_taken(void **state)
{
	uint64_t offset[PAGES_PER_BLOCK];
	struct folios f = { .whole = true, .offset = offset };
	struct pageset set = pages(2, 4);

	(void)state;
	assert_int_equal(device_alloc(&d, BLOCK_ORDER, &offset[0]), 0);
	release_folios(&d, &f, &pageset_all);
	assert_int_equal(fake.nr_frees, 1);
	assert_int_equal(fake.freed_order, BLOCK_ORDER);
	assert_int_equal(used(), 0);

	f.whole = false;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(device_alloc(&d, 0, &offset[i]), 0);
	release_folios(&d, &f, &set);
	assert_int_equal(used(), 3 * PAGE_BYTES);
	assert_int_equal(fake.freed_at, offset[3]);
	set = pages(0, 2);
	pageset_add(&set, 4);
	release_folios(&d, &f, &set);
	assert_int_equal(used(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(the_slot_of_a_thp_goes_to_the_pool),
		HUGE(the_slot_of_a_thp_that_went_back_is_empty),
		SMALL(the_slot_of_base_pages_is_dirty),
		SMALL(a_piece_without_a_slot_gives_none_back),
		SMALL(releasing_what_is_still_claimed_aborts),
		SMALL(pages_that_are_released_stay_where_they_are),
		SMALL(folios_are_freed_as_they_were_taken),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
