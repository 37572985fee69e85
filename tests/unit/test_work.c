/* SPDX-License-Identifier: MIT */
#include "unit_work.h"

#include <errno.h>

#define A ((char *)(uintptr_t)0x100000)

static void ranges_become_parts(void **state)
{
	const struct uhmm_work_range r[] = {
		{ A + 0x4000, 0x2000, 0, 0 },              /* 4 5 */
		{ A, 0x1001, UHMM_WORK_READ, 0 },          /* 0 1 */
		{ A + 0x1000, 0x4000, UHMM_WORK_READ, 0 }, /* 1 2 3 4: of 4 the other wins */
		{ A + 0x8000, 0x1000, 0, 0 },              /* 8 */
		{ A + 0x9000, 0x1000, 0, 0 },              /* 9 */
		{ A + 0x8000, 0x2000, UHMM_WORK_READ, 0 },
	};
	struct work_part p[2 * UHMM_WORK_RANGES];

	(void)state;
	assert_int_equal(work_parts(r, 6, p), 3);
	assert_true(p[0].start == 0x100000 && p[0].end == 0x104000 && !p[0].write);
	assert_true(p[1].start == 0x104000 && p[1].end == 0x106000 && p[1].write);
	assert_true(p[2].start == 0x108000 && p[2].end == 0x10a000 && p[2].write);
	assert_int_equal(work_parts(r, 1, p), 1);
}

static void blocks_to_be_held_are_counted(void **state)
{
	const struct work_part p[] = { { BLOCK_BYTES, 2 * BLOCK_BYTES, true }, { 3 * BLOCK_BYTES - PAGE_BYTES, 3 * BLOCK_BYTES + PAGE_BYTES, true },
				       { 4 * BLOCK_BYTES, 9 * BLOCK_BYTES, false } };

	(void)state;
	assert_int_equal(work_blocks(p, 3), 3);
	assert_int_equal(work_blocks(p + 2, 1), 0);
}

static void what_is_missing_is_sent(void **state)
{
	struct work_part p[] = { part_of(1, 0, 10, true), part_of(2, 0, 10, false) };
	struct work *w;

	(void)state;
	fill(1, 0, 10);
	fill(2, 0, 5); /* the rest are holes */
	assert_int_equal(work_acquire(&works, &d, p, 2, &w, &t), 0);
	assert_true(manual_is_open(&ms, w));
	assert_int_equal(ms.nr_on[INDEX], 1);
	assert_int_equal(entry_state(entry_at(1, 0)), ENTRY_MIGRATING);
	assert_true(on_device(2, 0, 5));
	assert_int_equal(works.nr_held, 1);
	work_release(w);
	assert_true(on_device(1, 0, 10));
	assert_int_equal(ms.nr_open, 0);
}

static void without_memory_nothing_is_held(void **state)
{
	struct work_part p = part_of(1, 0, 10, true);
	struct work *w;

	(void)state;
	fill(1, 0, 10);
	fail_set("mmap:1", NULL);
	assert_int_equal(work_acquire(&works, &d, &p, 1, &w, &t), -ENOMEM);
	fail_set(NULL, NULL);
	assert_true(at_home(1, 0, 10));
}

static void a_device_that_fails_holds_nothing(void **state)
{
	struct work_part p = part_of(1, 0, 10, true);
	struct work *w;

	(void)state;
	fill(1, 0, 10);
	fake.copy = -EIO;
	assert_int_equal(work_acquire(&works, &d, &p, 1, &w, &t), -EIO);
	fake.copy = 0;
	assert_true(at_home(1, 0, 10));
}

static void what_others_have_is_not_waited_for(void **state)
{
	struct work_part p[] = { part_of(1, 0, 10, true), part_of(1, 9, 10, true) };
	struct work *first, *second;

	(void)state;
	fill(1, 0, 20);
	assert_int_equal(work_acquire(&works, &d, &p[0], 1, &first, &t), 0);
	assert_int_equal(work_acquire(&works, &d, &p[1], 1, &second, &t), -EBUSY);
	work_release(first);
	assert_int_equal(work_acquire(&works, &d, &p[1], 1, &second, &t), 0);
	work_release(second);
	assert_true(on_device(1, 0, 19));
}

MANUAL_MAIN(cmocka_unit_test(ranges_become_parts), cmocka_unit_test(blocks_to_be_held_are_counted), WORK_SMALL(what_is_missing_is_sent),
	    WORK_SMALL(without_memory_nothing_is_held), WORK_SMALL(a_device_that_fails_holds_nothing),
	    WORK_SMALL(what_others_have_is_not_waited_for))
