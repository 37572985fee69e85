/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_WORK_H
#define TESTS_UNIT_WORK_H

/* For the tests of work on a device, on what the tests of migration by hand stand on. */

#include "unit_manual.h"

#include "migrate/work.h"

static struct works works;

static inline int make_work_small(void **state)
{
	int r = make_manual_small(state);

	memset(&works, 0, sizeof(works));
	return r ? r : works_init(&works, &ms);
}

static inline int make_work_huge(void **state)
{
	int r = make_manual_huge(state);

	memset(&works, 0, sizeof(works));
	return r ? r : works_init(&works, &ms);
}

static inline int unmake_work(void **state)
{
	bool left = works.nr_held || atomic_load(&d.nr_keeps);

	works_fini(&works);
	if (left)
		print_error("a work is left\n");
	return unmake_manual(state) || left;
}

static inline struct work_part part_of(unsigned b, unsigned first, unsigned nr, bool write)
{
	return (struct work_part){ page(b, first), page(b, first) + nr * PAGE_BYTES, write };
}

#define WORK_SMALL(name) cmocka_unit_test_setup_teardown(name, make_work_small, unmake_work)
#define WORK_HUGE(name)  cmocka_unit_test_setup_teardown(name, make_work_huge, unmake_work)

#endif
