/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_MANUAL_H
#define TESTS_UNIT_MANUAL_H

/* For the tests of migration by hand: its steps are called by the test's own thread, with the mover of unit_migrate.h. */

#include "unit_migrate.h"

#include "migrate/manual.h"

static struct jobs *jobs; /* too large for a fresh start by memset */
static struct manuals ms;
static struct manual *m;

#define SYSTEM (UHMM_SELECT_SYSTEM | UHMM_SELECT_COMPOUND | UHMM_SELECT_FAULT)
#define HOME   (UHMM_SELECT_DEVICE | UHMM_SELECT_COMPOUND)

static inline int start_manuals(int r)
{
	if (r)
		return r;
	jobs = mmap(NULL, sizeof(*jobs), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(&ms, 0, sizeof(ms));
	return jobs == MAP_FAILED || jobs_init(jobs, &mig, 1) || manuals_init(&ms, &mig, jobs);
}

static inline int make_manual_small(void **state)
{
	return start_manuals(make_small(state));
}

static inline int make_manual_huge(void **state)
{
	return start_manuals(make_huge(state));
}

static inline int unmake_manual(void **state)
{
	bool left = ms.nr_open || ms.nr_blocks || ms.loose.nr || ms.nr_on[INDEX];

	manuals_fini(&ms);
	jobs_fini(jobs);
	munmap(jobs, sizeof(*jobs));
	if (left)
		print_error("a migration, or a folio of it, is left\n");
	return unmake(state) || left;
}

static inline int open_at(enum manual_from from, uint32_t select, uint64_t start, uint64_t end)
{
	struct manual_wish w = { .dev = &d, .from = from, .select = select, .start = start, .end = end };

	return manual_open(&ms, &w, &m);
}

/* Takes pages [first, end) of a block. */
static inline void take(uint32_t select, unsigned b, unsigned first, unsigned end)
{
	enum manual_from from = select & UHMM_SELECT_SYSTEM ? FROM_SYSTEM : FROM_DEVICE;

	assert_int_equal(open_at(from, select, page(b, first), page(b, first) + (end - first) * PAGE_BYTES), 0);
}

/* The end of a migration; what is put back has its folios freed, as the caller would. */
static inline void end(void)
{
	manual_end_step(&mv, m);
	for (unsigned i = 0; !m->decided && i < m->nr_slots; i++)
		if (mpfn_has(m->dst[i], UHMM_MPFN_DEVICE_PRIVATE) &&
		    loose_take(&ms.loose, &d, uhmm_mpfn_offset(m->dst[i]), uhmm_mpfn_order(m->dst[i])))
			device_free(&d, uhmm_mpfn_offset(m->dst[i]), uhmm_mpfn_order(m->dst[i]));
	manual_free(m);
}

static inline void decide(void)
{
	manual_decide_step(&mv, m);
	m->decided = true;
}

#define MANUAL_SMALL(name) cmocka_unit_test_setup_teardown(name, make_manual_small, unmake_manual)
#define MANUAL_HUGE(name)  cmocka_unit_test_setup_teardown(name, make_manual_huge, unmake_manual)

#define MANUAL_MAIN(...)                                                \
	int main(void)                                                  \
	{                                                               \
		const struct CMUnitTest tests[] = { __VA_ARGS__ };      \
		int r;                                                  \
									\
		if (migrate_start())                                    \
			return skip_all(CANNOT_RUN);                    \
		r = cmocka_run_group_tests(tests, NULL, NULL);          \
		space_end();                                            \
		return r;                                               \
	}

#endif
