/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/pages.h"
#include "os/libs.h"

#define MAX 256

static struct lib_data lib[MAX];
static int in_our_data = 1; /* the tests are linked with the archive: the library's data is the program's */

static bool covers(const struct lib_data *l, const void *p)
{
	return addr_of(p) >= l->start && addr_of(p) < l->end;
}

static void the_data_of_libraries_is_found(void **state)
{
	unsigned nr = libs_data(lib, MAX), covered = 0;

	(void)state;
	assert_in_range(nr, 1, MAX);
	for (unsigned i = 0; i < nr; i++) {
		assert_true(lib[i].start < lib[i].end && page_aligned(lib[i].start) && page_aligned(lib[i].end));
		covered += covers(&lib[i], &stdout->_fileno); /* the C library's */
	}
	assert_int_equal(covered, 1);
}

static void our_own_is_marked(void **state)
{
	unsigned nr = libs_data(lib, MAX), own = 0;

	(void)state;
	for (unsigned i = 0; i < nr; i++) {
		own += lib[i].own;
		assert_int_equal(lib[i].own, covers(&lib[i], &in_our_data));
	}
	assert_int_equal(own, 1);
}

static void a_short_list_is_filled_and_all_are_counted(void **state)
{
	struct lib_data one[2] = { { .start = 0 } };
	unsigned nr = libs_data(lib, MAX);

	(void)state;
	assert_int_equal(libs_data(one, 1), nr);
	assert_int_equal(one[0].start, lib[0].start);
	assert_int_equal(one[1].start, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_data_of_libraries_is_found),
		cmocka_unit_test(our_own_is_marked),
		cmocka_unit_test(a_short_list_is_filled_and_all_are_counted),
	};

	return cmocka_run_group_tests_name("libs", tests, NULL, NULL);
}
