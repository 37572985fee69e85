/* SPDX-License-Identifier: MIT */
#include "unit_work.h"

#include <errno.h>

/* One of work_new()'s, by hand. */
static struct work w;
static struct work_part part[2];
static struct held held[4];
static struct uhmm_work_extent extent[4 * PAGES_PER_BLOCK];

static void want(struct work_part a, struct work_part b)
{
	memset(&w, 0, sizeof(w));
	part[0] = a;
	part[1] = b;
	w = (struct work){ .all = &works, .dev = &d, .part = part, .nr_parts = b.end ? 2 : 1, .held = held, .extent = extent };
	w.max_held = (unsigned)work_blocks(part, w.nr_parts);
	hold_step(&mv, &w);
}

static const struct work_part none;

static void all_or_nothing(void **state)
{
	(void)state;
	fill(1, 0, 10);
	to_device(1, 0, 9);
	want(part_of(1, 0, 10, true), none);
	assert_int_equal(w.missing, 1);
	assert_true(!w.open && !w.kept && !w.nr_held && !w.nr_extents);
	assert_int_equal(works.nr_held, 0);
	assert_true(on_device(1, 0, 9));
	want(part_of(1, 0, 9, true), part_of(1, 9, 1, false));
	assert_int_equal(w.missing, 1);
	assert_true(on_device(1, 0, 9) && at_home(1, 9, 10));
}

static void extents_say_where_bytes_are(void **state)
{
	(void)state;
	fill(1, 0, 20);
	to_device(1, 0, 20);
	want(part_of(1, 2, 4, true), part_of(1, 6, 4, false));
	assert_int_equal(w.missing, 0);
	for (size_t i = 0; i < w.nr_extents; i++) {
		struct uhmm_work_extent *e = &extent[i];
		unsigned first = page_in_block(e->start), nr = (unsigned)(e->bytes / PAGE_BYTES);

		assert_true(!i || e->start >= e[-1].start + e[-1].bytes);
		assert_true(holds(memory + e->offset, 1, first, first + nr));
	}
	let_go_step(&mv, &w);
	assert_true(on_device(1, 0, 20));
	assert_true(entry_has(entry_at(1, 3), ENTRY_WRITTEN));
	assert_false(entry_has(entry_at(1, 7), ENTRY_WRITTEN));
}

static void a_folio_is_held_whole_or_split(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	want(part_of(1, 0, PAGES_PER_BLOCK, true), none);
	assert_int_equal(w.nr_extents, 1);
	assert_int_equal(extent[0].bytes, BLOCK_BYTES);
	let_go_step(&mv, &w);
	assert_int_equal(entry_order(entry_at(1, 0)), BLOCK_ORDER);

	/* pages beyond the part stay anybody's */
	want(part_of(1, 3, 2, true), none);
	assert_int_equal(w.missing, 0);
	assert_int_equal(entry_state(entry_at(1, 3)), ENTRY_MIGRATING);
	assert_int_equal(entry_state(entry_at(1, 2)), ENTRY_DEVICE);
	assert_int_equal(entry_state(entry_at(1, 5)), ENTRY_DEVICE);
	let_go_step(&mv, &w);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
}

/* A child of a fork without handlers is being given what is there: it must not change. */
static void a_lent_device_is_not_written_to(void **state)
{
	static struct device loan;

	(void)state;
	fill(1, 0, 10);
	to_device(1, 0, 10);
	memset(&loan, 0, sizeof(loan));
	device_lend(&d, &loan);
	want(part_of(1, 0, 10, true), none);
	assert_true(w.lent && !w.open);
	want(part_of(1, 0, 10, false), none);
	assert_false(w.lent);
	assert_int_equal(w.missing, 0);
	let_go_step(&mv, &w);
	device_loan_end(&d);
}

static void there_is_an_end_to_what_is_held(void **state)
{
	(void)state;
	fill(1, 0, 10);
	to_device(1, 0, 10);
	works.nr_held = MAX_HELD_BLOCKS;
	want(part_of(1, 0, 10, true), none);
	assert_int_equal(w.error, -E2BIG);
	assert_int_equal(works.nr_held, MAX_HELD_BLOCKS);
	works.nr_held = 0;
	assert_true(on_device(1, 0, 10));
}

MANUAL_MAIN(WORK_SMALL(all_or_nothing), WORK_SMALL(extents_say_where_bytes_are), WORK_HUGE(a_folio_is_held_whole_or_split),
	    WORK_SMALL(a_lent_device_is_not_written_to), WORK_SMALL(there_is_an_end_to_what_is_held))
