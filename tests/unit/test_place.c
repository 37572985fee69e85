/* SPDX-License-Identifier: MIT */
#include "unit_migrate.h"

static void a_thp_gets_one_folio(void **state)
{
	(void)state;
	fill_thp(1);
	isolate(1, 0, PAGES_PER_BLOCK);
	place_folios(&mv, &pc, &t);
	assert_true(pc.folios.whole && pc.claim.whole);
	assert_int_equal(fake.nr_allocs, 1);
	assert_int_equal(used(), BLOCK_BYTES);
	release_folios(&d, &pc.folios, &pc.claim.mine);
	give_up();
}

static void base_pages_get_a_folio_each(void **state)
{
	(void)state;
	fill(1, 0, 10);
	isolate(1, 0, 20);
	place_folios(&mv, &pc, &t);
	assert_false(pc.folios.whole);
	assert_int_equal(used(), 20 * PAGE_BYTES); /* holes too */
	for (unsigned i = 0; i < 20; i++)
		for (unsigned k = 0; k < i; k++)
			assert_int_not_equal(pc.folios.offset[i], pc.folios.offset[k]);
	release_folios(&d, &pc.folios, &pc.claim.mine);
	give_up();
}

static void a_device_of_base_pages_takes_a_thp_as_512_folios(void **state)
{
	(void)state;
	reopen("full", (struct uhmm_driver_props){ .size_bytes = FAKE_BYTES, .orders = 1 });
	fill_thp(1);
	isolate(1, 0, PAGES_PER_BLOCK);
	place_folios(&mv, &pc, &t);
	assert_false(pc.folios.whole || pc.claim.whole);
	assert_int_equal(pc.kind, PIECE_PAGES);
	assert_int_equal(fake.nr_allocs, PAGES_PER_BLOCK);
	assert_int_equal(used(), BLOCK_BYTES);
	assert_int_equal(pc.slot_holds, SLOT_THP);
	assert_true(is_huge(&sp, pc.slot)); /* the entry is split for that, the THP is not */
	copy_start(&mv, &pc);
	finish();
	assert_int_equal(t.moved_folios[0], PAGES_PER_BLOCK);
	assert_int_equal(t.moved_folios[BLOCK_ORDER], 0);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(staging_pool_bytes(&mig.staging), BLOCK_BYTES);
}

static void a_fragmented_device_takes_smaller_folios(void **state)
{
	uint64_t in_the_way[NR_BLOCKS];

	(void)state;
	/* a page in each block of the device */
	for (unsigned b = 0; b < NR_BLOCKS; b++)
		assert_int_equal(device_alloc(&d, BLOCK_ORDER, &in_the_way[b]), 0);
	for (unsigned b = 0; b < NR_BLOCKS; b++) {
		assert_int_equal(device_split(&d, in_the_way[b], BLOCK_ORDER, 0), 0);
		for (unsigned i = 1; i < PAGES_PER_BLOCK; i++)
			device_free(&d, in_the_way[b] + i * PAGE_BYTES, 0);
	}
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	/* each block of the device has one piece left of every order below 9 */
	assert_int_equal(t.moved_folios[8], 2);
	assert_int_equal(fake.nr_allocs, NR_BLOCKS + 2);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	for (unsigned b = 0; b < NR_BLOCKS; b++)
		device_free(&d, in_the_way[b], 0);
}

static void a_thp_goes_as_the_largest_that_are_taken(void **state)
{
	(void)state;
	reopen("full", (struct uhmm_driver_props){ .size_bytes = FAKE_BYTES, .orders = 0x095 });
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(t.moved_folios[7], 4);
	assert_int_equal(fake.nr_allocs, 4);
	assert_int_equal(entry_order(entry_at(1, 200)), 7);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
}

/* A hook could not see allocations: the device has room for two MiB in pieces of order 3 only. */
static void an_order_that_there_is_none_of_is_asked_for_once(void **state)
{
	static uint64_t taken[8 * PAGES_PER_BLOCK];
	unsigned n = NR_BLOCKS * PAGES_PER_BLOCK / 8, left;

	(void)state;
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(device_alloc(&d, 3, &taken[i]), 0);
	for (unsigned i = 0; i < n; i++) /* every second one, which are no buddies */
		if (taken[i] / order_bytes(3) % 2)
			device_free(&d, taken[i], 3);
	left = fake.nr_allocs;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(t.moved_folios[3], PAGES_PER_BLOCK / 8);
	assert_int_equal(fake.nr_allocs - left, PAGES_PER_BLOCK / 8);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	for (unsigned i = 0; i < n; i++)
		if (!(taken[i] / order_bytes(3) % 2))
			device_free(&d, taken[i], 3);
}

static void a_limit_caps_a_thp_and_groups_pages(void **state)
{
	(void)state;
	fill_thp(1);
	isolate(1, 0, PAGES_PER_BLOCK);
	pc.limit = 5 + 1;
	place_folios(&mv, &pc, &t);
	assert_false(pc.folios.whole);
	assert_int_equal(fake.nr_allocs, 16);
	copy_start(&mv, &pc);
	finish();
	assert_int_equal(t.moved_folios[5], 16);

	isolate(2, 6, 41); /* 6-7, 8-15, 16-31, 32-39, 40 */
	pc.limit = 4 + 1;
	piece_start(&mv, &pc, &t);
	finish();
	assert_int_equal(t.moved_folios[4], 1);
	assert_int_equal(t.moved_folios[3], 2);
	assert_int_equal(t.moved_folios[1], 1);
	assert_int_equal(t.moved_folios[0], 1);
}

static void pages_share_folios_of_the_sizes_the_host_uses(void **state)
{
	(void)state;
	fill(1, 0, 48);
	isolate(1, 0, 48);
	pc.mthp = 1u << 4 | 1u << 2;
	piece_start(&mv, &pc, &t);
	finish();
	assert_int_equal(t.moved_folios[4], 3);
	fill(2, 2, 22);
	isolate(2, 2, 22); /* 2, 3, 4-7, 8-11, 12-15, 16-19, 20, 21 */
	pc.mthp = 1u << 4 | 1u << 2;
	piece_start(&mv, &pc, &t);
	finish();
	assert_int_equal(t.moved_folios[2], 4);
	assert_int_equal(t.moved_folios[0], 4);
	assert_true(on_device(1, 0, 48) && on_device(2, 2, 22));
}

static void without_room_all_goes_back(void **state)
{
	uint64_t all;

	(void)state;
	reopen("full", (struct uhmm_driver_props){ .size_bytes = BLOCK_BYTES });
	assert_int_equal(device_alloc(&d, BLOCK_ORDER, &all), 0);
	fill_thp(1);
	isolate(1, 0, PAGES_PER_BLOCK);
	place_folios(&mv, &pc, &t);
	assert_true(claim_empty(&pc.claim));
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], PAGES_PER_BLOCK);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	copy_start(&mv, &pc);
	finish(); /* nothing is left to do */
	assert_int_equal(fake.nr_copies, 0);
	assert_int_equal(t.moved_folios[0] + t.moved_folios[BLOCK_ORDER], 0);
	device_free(&d, all, BLOCK_ORDER);
}

static void what_finds_no_room_goes_back_and_the_rest_goes_on(void **state)
{
	enum { TAKEN = PAGES_PER_BLOCK - 12 };
	uint64_t taken[TAKEN];

	(void)state;
	reopen("full", (struct uhmm_driver_props){ .size_bytes = BLOCK_BYTES });
	for (unsigned i = 0; i < TAKEN; i++)
		assert_int_equal(device_alloc(&d, 0, &taken[i]), 0);
	fill(1, 0, 20);
	to_device(1, 0, 20);
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], 8);
	assert_int_equal(t.moved_folios[0], 12);
	assert_int_equal(used(), BLOCK_BYTES);
	assert_true(on_device(1, 0, 12) && at_home(1, 12, 20));
	for (unsigned i = 0; i < TAKEN; i++)
		device_free(&d, taken[i], 0);
}

static void holes_without_room_are_holes_again(void **state)
{
	uint64_t all;

	(void)state;
	reopen("full", (struct uhmm_driver_props){ .size_bytes = BLOCK_BYTES });
	assert_int_equal(device_alloc(&d, BLOCK_ORDER, &all), 0);
	isolate(1, 0, 20);
	place_folios(&mv, &pc, &t);
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], 20);
	assert_true(claim_empty(&pc.claim));
	assert_int_equal(entry_at(1, 3).bits, 0);
	assert_int_equal(bits_at(block(1), BLOCK_BYTES), 0);
	release_piece(&mv, &pc);
	device_free(&d, all, BLOCK_ORDER);
}

static void a_driver_that_refuses_a_folio_has_no_room(void **state)
{
	(void)state;
	fill(1, 0, 20);
	fake.folio_alloc = -ENOSPC;
	to_device(1, 0, 20);
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], 20);
	assert_int_equal(t.error, 0);
	assert_int_equal(used(), 0);
	assert_true(at_home(1, 0, 20));
}

static void a_device_that_closes_gets_nothing(void **state)
{
	(void)state;
	fill_thp(1);
	fill(2, 0, 20);
	for (unsigned b = 1; b < 3; b++) {
		isolate(b, 0, b == 1 ? PAGES_PER_BLOCK : 20);
		atomic_store(&d.closing, 1);
		piece_start(&mv, &pc, &t);
		finish();
		atomic_store(&d.closing, 0);
	}
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], PAGES_PER_BLOCK + 20);
	assert_int_equal(fake.nr_allocs, 0);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK) && at_home(2, 0, 20));
	assert_true(is_huge(&sp, block(1)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(a_thp_gets_one_folio),
		SMALL(base_pages_get_a_folio_each),
		HUGE(a_device_of_base_pages_takes_a_thp_as_512_folios),
		HUGE(a_fragmented_device_takes_smaller_folios),
		HUGE(a_thp_goes_as_the_largest_that_are_taken),
		HUGE(an_order_that_there_is_none_of_is_asked_for_once),
		HUGE(a_limit_caps_a_thp_and_groups_pages),
		SMALL(pages_share_folios_of_the_sizes_the_host_uses),
		HUGE(without_room_all_goes_back),
		SMALL(what_finds_no_room_goes_back_and_the_rest_goes_on),
		SMALL(holes_without_room_are_holes_again),
		SMALL(a_driver_that_refuses_a_folio_has_no_room),
		HUGE(a_device_that_closes_gets_nothing),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
