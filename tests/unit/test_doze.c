/* SPDX-License-Identifier: MIT */
/* fault/doze.c: who is woken in vain dozes, and how it comes back. */
#include "unit.h"

#include "fault/doze.h"

static struct doze d;

/* Return: how many wake-ups in vain it takes. */
static unsigned patience(void)
{
	unsigned n = 1;

	while (!doze_woken(&d, false))
		n++;
	return n;
}

static void it_dozes_when_it_was_woken_in_vain_too_often(void **state)
{
	(void)state;
	doze_init(&d);
	assert_in_range(patience(), 2, 100);
}

static void once_needed_counts_anew(void **state)
{
	unsigned n;

	(void)state;
	doze_init(&d);
	n = patience();
	doze_init(&d);
	for (unsigned i = 0; i < 10 * n; i++)
		assert_false(doze_woken(&d, i % n == n - 1));
}

static void it_reads_when_all_are_busy_or_none_has_read(void **state)
{
	(void)state;
	doze_init(&d);
	doze_begin(&d, 7);
	assert_int_equal(doze_look(&d, 8, false), DOZE_ON);
	assert_int_equal(doze_look(&d, 9, true), DOZE_READ);
	assert_int_equal(doze_look(&d, 10, false), DOZE_ON);
	assert_int_equal(doze_look(&d, 10, false), DOZE_READ);
	assert_int_equal(doze_look(&d, 11, false), DOZE_ON);
}

static void when_nothing_happens_it_waits_as_ever(void **state)
{
	unsigned looks = 1;

	(void)state;
	doze_init(&d);
	doze_begin(&d, 7);
	while (doze_look(&d, 7, false) == DOZE_READ)
		looks++;
	assert_in_range(looks, 2, 100);
	doze_begin(&d, 7);
	for (unsigned i = 0; i < 10 * looks; i++) /* something is read now and then */
		assert_int_not_equal(doze_look(&d, 8 + i / (looks - 1), false), DOZE_ENOUGH);
}

static void each_time_it_is_missed_it_is_more_patient(void **state)
{
	unsigned first, before, now;

	(void)state;
	doze_init(&d);
	first = now = patience();
	for (unsigned i = 0; i < 40; i++) {
		before = now;
		doze_begin(&d, 0);
		doze_needed(&d);
		now = patience();
		assert_true(now == 2 * before || (now == before && now >= 1000 * first));
	}
	/* until it was not missed for long */
	doze_begin(&d, 0);
	for (unsigned i = 0; i < 2000; i++)
		assert_int_equal(doze_look(&d, i + 1, false), DOZE_ON);
	assert_int_equal(patience(), first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_dozes_when_it_was_woken_in_vain_too_often),
		cmocka_unit_test(once_needed_counts_anew),
		cmocka_unit_test(it_reads_when_all_are_busy_or_none_has_read),
		cmocka_unit_test(when_nothing_happens_it_waits_as_ever),
		cmocka_unit_test(each_time_it_is_missed_it_is_more_patient),
	};

	return cmocka_run_group_tests_name("doze", tests, NULL, NULL);
}
