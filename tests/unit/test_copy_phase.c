/* SPDX-License-Identifier: MIT */
/* src/migrate/copy.c. The copies of src/os are in test_copy.c. */
#include "unit_migrate.h"

static void a_thp_is_one_segment(void **state)
{
	(void)state;
	fill_thp(1);
	start(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(fake.nr_copies, 1);
	assert_int_equal(fake.nr_segs, 1);
	assert_int_equal(fake.nr_clears, 0);
	assert_true(holds(memory + pc.folios.offset[0], 1, 0, PAGES_PER_BLOCK));
	finish();
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
}

/* place_folios() with folios that lie in the order of the pages, whatever the allocator would give. */
static void place_side_by_side(void)
{
	uint64_t head;

	assert_int_equal(device_alloc(&d, BLOCK_ORDER, &head), 0);
	assert_int_equal(device_split(&d, head, BLOCK_ORDER, 0), 0);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		pc.folios.offset[i] = head + i * PAGE_BYTES;
		if (!pageset_has(&pc.claim.mine, i))
			device_free(&d, head + i * PAGE_BYTES, 0);
	}
	copy_start(&mv, &pc);
}

static void folios_side_by_side_are_one_segment(void **state)
{
	(void)state;
	fill(1, 0, PAGES_PER_BLOCK);
	isolate(1, 0, PAGES_PER_BLOCK);
	place_side_by_side();
	finish();
	assert_int_equal(fake.nr_copies, 1);
	assert_int_equal(fake.nr_segs, 1);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
}

static void pages_apart_are_a_segment_each(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i += 4)
		fill(1, i, i + 2);
	isolate(1, 0, 20);
	place_side_by_side();
	finish();
	assert_int_equal(fake.nr_copies, 1);
	assert_int_equal(fake.nr_segs, 5);
	for (unsigned i = 0; i < 20; i += 4)
		assert_true(on_device(1, i, i + 2));
}

static void folios_apart_are_a_segment_each(void **state)
{
	struct pageset four = pages(0, 4);

	(void)state;
	fill(1, 0, 8);
	isolate(1, 0, 8);
	for (unsigned i = 0; i < 8; i++) /* backwards */
		assert_int_equal(device_alloc(&d, 0, &pc.folios.offset[i]), 0);
	for (unsigned i = 0; i < 8; i++)
		for (unsigned k = i + 1; k < 8; k++)
			if (pc.folios.offset[k] > pc.folios.offset[i]) {
				uint64_t o = pc.folios.offset[i];

				pc.folios.offset[i] = pc.folios.offset[k];
				pc.folios.offset[k] = o;
			}
	copy_start(&mv, &pc);
	assert_int_equal(fake.nr_copies, 1);
	assert_int_equal(fake.nr_segs, 8);
	assert_int_equal(copy_out(&mv, &d, &pc.folios, &four, addr_of(mv.bounce)), 0);
	assert_int_equal(fake.nr_segs, 12);
	assert_true(holds(mv.bounce, 1, 0, 4));
	finish();
	assert_true(on_device(1, 0, 8));
}

static void holes_are_cleared_and_nothing_of_them_travels(void **state)
{
	(void)state;
	fill(1, 5, 8);
	start(1, 0, 20);
	assert_int_equal(fake.nr_clears, 17);
	assert_in_range(fake.nr_segs, 1, 3);
	finish();
	assert_int_equal(t.cleared_pages, 17);
	assert_int_equal(t.moved_folios[0], 20);
	assert_true(on_device(1, 5, 8));
	for (unsigned i = 0; i < 20; i++)
		if (i < 5 || i >= 8)
			assert_true(zeros_at(bytes_away(1, i), 1));
}

static void a_block_of_holes_is_cleared_at_once(void **state)
{
	(void)state;
	if (!vma_wants_huge(&sp, block(1)))
		skip();
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(fake.nr_clears, 1);
	assert_int_equal(fake.nr_copies, 0);
	assert_int_equal(t.cleared_pages, PAGES_PER_BLOCK);
	assert_int_equal(t.moved_folios[BLOCK_ORDER], 1);
	assert_true(zeros_at(bytes_away(1, 0), PAGES_PER_BLOCK));
}

static void a_driver_without_clear_gets_zeros(void **state)
{
	(void)state;
	reopen("bare", (struct uhmm_driver_props){ .size_bytes = FAKE_BYTES });
	fill(1, 5, 8);
	to_device(1, 0, 20);
	assert_true(on_device(1, 5, 8));
	for (unsigned i = 8; i < 20; i++)
		assert_true(zeros_at(bytes_away(1, i), 1));
}

/* What has gone wrong in a start() leaves the program as it was. */
static void assert_put_back(int error, unsigned nr)
{
	finish();
	assert_int_equal(t.error, error);
	assert_int_equal(t.skipped[UHMM_SKIP_DEVICE], nr);
	assert_int_equal(t.moved_folios[0] + t.moved_folios[BLOCK_ORDER] + t.cleared_pages, 0);
	assert_int_equal(used(), 0);
	assert_true(claim_empty(&pc.claim) && !pc.busy);
}

static void a_failed_copy_puts_a_thp_back_whole(void **state)
{
	(void)state;
	fill_thp(1);
	fake.copy = -EIO;
	start(1, 0, PAGES_PER_BLOCK);
	assert_put_back(-EIO, PAGES_PER_BLOCK);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_true(is_huge(&sp, block(1)));
}

static void a_failed_copy_puts_pages_and_holes_back(void **state)
{
	(void)state;
	fill(1, 5, 15);
	fake.copy = -EIO;
	start(1, 0, 20);
	assert_put_back(-EIO, 20);
	assert_true(at_home(1, 5, 15));
	assert_int_equal(bits_at(page(1, 15), 5 * PAGE_BYTES), 0);
	assert_int_equal(entry_at(1, 0).bits, 0);
}

static void a_failed_clear_puts_all_back(void **state)
{
	(void)state;
	fill(1, 5, 15);
	fake.clear = -ENXIO;
	start(1, 0, 20);
	assert_int_equal(fake.nr_copies, 0);
	assert_put_back(-ENXIO, 20);
	assert_true(at_home(1, 5, 15));
}

static void a_driver_that_answers_nonsense_has_failed(void **state)
{
	(void)state;
	fill(1, 0, 20);
	fake.copy = 1;
	start(1, 0, 20);
	assert_put_back(-EPROTO, 20);
	assert_true(at_home(1, 0, 20));
}

static void open_async(void)
{
	reopen("full", (struct uhmm_driver_props){ .size_bytes = FAKE_BYTES, .caps = UHMM_CAP_ASYNC });
	fake.fence = 77;
}

static void a_copy_in_flight_is_waited_for(void **state)
{
	(void)state;
	open_async();
	fill(1, 0, 20);
	start(1, 0, 20);
	assert_int_equal(pc.fence, 77);
	assert_int_equal(fake.nr_waits, 0);
	assert_int_equal(entry_state(entry_at(1, 0)), ENTRY_MIGRATING); /* not before it has arrived */
	finish();
	assert_int_equal(fake.nr_waits, 1);
	assert_int_equal(fake.last_fence, 77);
	assert_true(on_device(1, 0, 20));
}

static void a_copy_that_fails_in_flight_puts_all_back(void **state)
{
	(void)state;
	open_async();
	fill_thp(1);
	fake.fence_wait = -EIO;
	start(1, 0, PAGES_PER_BLOCK);
	assert_put_back(-EIO, PAGES_PER_BLOCK);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_true(is_huge(&sp, block(1)));
}

static void the_first_error_is_the_one_that_is_told(void **state)
{
	(void)state;
	fill(1, 0, 20);
	t.error = -ENODEV;
	fake.copy = -EIO;
	start(1, 0, 20);
	assert_put_back(-ENODEV, 20);
}

static void pages_come_out_at_their_own_offsets(void **state)
{
	struct pageset set = pages(3, 5);

	(void)state;
	fill(1, 0, 20);
	start(1, 0, 20);
	memset(mv.bounce, 0x77, BLOCK_BYTES);
	pageset_add(&set, 17);
	assert_int_equal(copy_out(&mv, &d, &pc.folios, &set, addr_of(mv.bounce)), 0);
	assert_true(holds(mv.bounce + 3 * PAGE_BYTES, 1, 3, 5));
	assert_true(holds(mv.bounce + 17 * PAGE_BYTES, 1, 17, 18));
	assert_int_equal(mv.bounce[5 * PAGE_BYTES], 0x77);
	assert_int_equal(mv.bounce[3 * PAGE_BYTES - 1], 0x77);
	fake.copy = -EIO;
	assert_int_equal(copy_out(&mv, &d, &pc.folios, &set, addr_of(mv.bounce)), -EIO);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(a_thp_is_one_segment),
		SMALL(folios_side_by_side_are_one_segment),
		SMALL(pages_apart_are_a_segment_each),
		SMALL(folios_apart_are_a_segment_each),
		SMALL(holes_are_cleared_and_nothing_of_them_travels),
		HUGE(a_block_of_holes_is_cleared_at_once),
		SMALL(a_driver_without_clear_gets_zeros),
		HUGE(a_failed_copy_puts_a_thp_back_whole),
		SMALL(a_failed_copy_puts_pages_and_holes_back),
		SMALL(a_failed_clear_puts_all_back),
		SMALL(a_driver_that_answers_nonsense_has_failed),
		SMALL(a_copy_in_flight_is_waited_for),
		HUGE(a_copy_that_fails_in_flight_puts_all_back),
		SMALL(the_first_error_is_the_one_that_is_told),
		SMALL(pages_come_out_at_their_own_offsets),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
