/* SPDX-License-Identifier: MIT */
#include "unit_manual.h"

static void a_compound_gets_one_folio(void **state)
{
	(void)state;
	fill_thp(1);
	take(SYSTEM, 1, 0, PAGES_PER_BLOCK);
	manual_alloc_step(&mv, m);
	assert_int_equal(m->error, 0);
	assert_int_equal(uhmm_mpfn_order(m->dst[0]), BLOCK_ORDER);
	assert_int_equal(m->dst[1].bits, 0);
	manual_alloc_step(&mv, m); /* once more changes nothing */
	assert_int_equal(ms.loose.nr, 1);
	manual_copy_step(&mv, m);
	assert_int_equal(m->error, 0);
	assert_true(holds(memory + uhmm_mpfn_offset(m->dst[0]), 1, 0, PAGES_PER_BLOCK));
	assert_int_equal(ms.loose.nr, 1); /* looked at, not taken */
	end();
}

static void or_small_ones_where_the_device_has_no_large(void **state)
{
	(void)state;
	fill_thp(1);
	reopen("full", (struct uhmm_driver_props){ .size_bytes = FAKE_BYTES, .orders = 1 });
	take(SYSTEM, 1, 0, PAGES_PER_BLOCK);
	manual_alloc_step(&mv, m);
	assert_int_equal(m->error, 0);
	assert_int_equal(ms.loose.nr, PAGES_PER_BLOCK);
	manual_copy_step(&mv, m);
	assert_int_equal(m->error, 0);
	assert_true(holds(memory + uhmm_mpfn_offset(m->dst[77]), 1, 77, 78));
	end();
}

static void holes_are_cleared(void **state)
{
	(void)state;
	fill(1, 0, 2);
	take(SYSTEM, 1, 0, 4);
	manual_alloc_step(&mv, m);
	manual_copy_step(&mv, m);
	assert_int_equal(fake.nr_clears, 2);
	assert_true(zeros_at(memory + uhmm_mpfn_offset(m->dst[3]), 1));
	end();
}

static void what_has_no_destination_is_not_copied(void **state)
{
	(void)state;
	fill(1, 0, 4);
	take(SYSTEM, 1, 0, 4);
	manual_copy_step(&mv, m);
	assert_int_equal(m->error, 0);
	assert_int_equal(fake.nr_copies, 0);
	fake.folio_alloc = -EIO;
	manual_alloc_step(&mv, m);
	assert_int_equal(m->error, -ENOMEM);
	fake.folio_alloc = 0;
	m->dst[0] = mpfn_on_device(0, 0); /* nobody's */
	manual_copy_step(&mv, m);
	assert_int_equal(m->error, -EINVAL);
	assert_int_equal(fake.nr_copies, 0);
	m->dst[0] = uhmm_mpfn_host(0);
	manual_copy_step(&mv, m);
	assert_int_equal(m->error, -EINVAL);
	m->dst[0].bits = 0;
	end();
}

static void a_driver_that_fails_is_heard(void **state)
{
	(void)state;
	fill(1, 0, 4);
	take(SYSTEM, 1, 0, 4);
	manual_alloc_step(&mv, m);
	fake.copy = -EIO;
	manual_copy_step(&mv, m);
	assert_int_equal(m->error, -EIO);
	fake.copy = 0;
	end();
	assert_true(at_home(1, 0, 4));
	to_device(1, 0, 4);
	take(HOME, 1, 0, 4);
	manual_alloc_step(&mv, m);
	fake.copy = -EIO;
	manual_copy_step(&mv, m);
	assert_int_equal(m->error, -EIO);
	fake.copy = 0;
	manual_copy_step(&mv, m);
	assert_int_equal(m->error, 0);
	assert_true(holds((void *)(uintptr_t)manual_host(m, 0), 1, 0, 4));
	end();
	assert_true(on_device(1, 0, 4));
}

MANUAL_MAIN(MANUAL_HUGE(a_compound_gets_one_folio), MANUAL_HUGE(or_small_ones_where_the_device_has_no_large),
	    MANUAL_SMALL(holes_are_cleared), MANUAL_SMALL(what_has_no_destination_is_not_copied),
	    MANUAL_SMALL(a_driver_that_fails_is_heard))
