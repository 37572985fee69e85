/* SPDX-License-Identifier: MIT */
/* A device that fails now and then, in each way it can, costs no byte; by the hook faulty+ around the device that is tested. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support.h"

#define PAGE  ((size_t)4096)
#define BLOCK (2 * MIB)
#define BYTES (2 * BLOCK)

static struct uhmm_space *space;
static struct uhmm_device *dev;
static char *mem;
static uint64_t seed;

static int open_faulty(const char *how)
{
	char spec[600];
	const char *inner = device_spec();
	size_t len = strlen(inner);

	snprintf(spec, sizeof(spec), "faulty+%s%s%s", inner, len && inner[len - 1] == ':' ? "" : ",", how);
	return uhmm_device_open(space, spec, &dev);
}

static void start(const char *how, bool huge)
{
	assert_int_equal(open_faulty(how), 0);
	mem = map_anon(BYTES, true, huge);
	fill_pattern(mem, BYTES, ++seed);
}

static void finish(void)
{
	assert_int_equal(check_pattern(mem, BYTES, seed), -1);
	assert_int_equal(uhmm_device_close(dev), 0);
	assert_int_equal(check_pattern(mem, BYTES, seed), -1);
	unmap_anon(mem, BYTES);
}

/* A page that lost a race stays, and is nobody's failure. */
static int to_device(struct uhmm_result *res)
{
	int r;

	memset(res, 0, sizeof(*res));
	res->sz = sizeof(*res);
	r = uhmm_to_device(space, mem, BYTES, dev, 0, res);
	return r == UHMM_E_PARTIAL && !res->skipped_pages[UHMM_SKIP_NO_ROOM] ? 0 : r;
}

static void a_copy_to_it_fails(void **state)
{
	for (int huge = 0; huge < 2; huge++) {
		struct uhmm_result res;
		uint64_t moved = 0, failed = 0;

		start("in=3,every=on", huge);
		for (unsigned round = 0; round < 12; round++) {
			int r = to_device(&res);

			assert_true(r == 0 || r == -EIO);
			assert_true(!!r == !!res.skipped_pages[UHMM_SKIP_DEVICE]);
			moved += res.moved_bytes;
			failed += res.skipped_pages[UHMM_SKIP_DEVICE];
			assert_int_equal(check_pattern(mem, BYTES, seed), -1);
		}
		assert_true(moved && failed);
		finish();
	}
}

static void a_fence_says_that_a_copy_has_failed(void **state)
{
	struct uhmm_result res;
	unsigned failed = 0;

	start("in=2,every=on,late=on,errno=61", true);
	for (unsigned round = 0; round < 6; round++) {
		int r = to_device(&res);

		assert_true(r == 0 || r == -61);
		failed += r != 0;
		assert_int_equal(check_pattern(mem, BYTES, seed), -1);
	}
	assert_true(failed);
	finish();
}

/* It is asked three times before anybody hears of it. */
static void a_copy_from_it_fails_twice(void **state)
{
	for (int huge = 0; huge < 2; huge++) {
		struct uhmm_result res;

		start("out=2,every=on", huge);
		for (unsigned round = 0; round < 6; round++) {
			assert_int_equal(to_device(&res), 0);
			if (round % 2)
				assert_int_equal(uhmm_to_system(space, mem, BYTES, 0, NULL), 0);
			assert_int_equal(check_pattern(mem, BYTES, seed), -1);
		}
		finish();
	}
}

static void it_has_no_folio_of_order_9(void **state)
{
	struct uhmm_result res;

	start("alloc=1,every=on,order=9", true);
	assert_int_equal(to_device(&res), 0);
	assert_int_equal(res.moved_bytes / PAGE + res.skipped_pages[UHMM_SKIP_RACED], BYTES / PAGE);
	assert_int_equal(res.moved_folios[9], 0);
	finish();
}

static void it_has_none_for_some_pages(void **state)
{
	struct uhmm_result res;

	start("alloc=3,every=on,order=0", false);
	assert_int_equal(to_device(&res), UHMM_E_PARTIAL);
	assert_true(res.skipped_pages[UHMM_SKIP_NO_ROOM] && res.moved_bytes); /* a device without one page is not asked for the next */
	assert_int_equal(res.moved_bytes / PAGE + res.skipped_pages[UHMM_SKIP_NO_ROOM] + res.skipped_pages[UHMM_SKIP_RACED],
			 BYTES / PAGE);
	finish();
}

static void a_clear_fails(void **state)
{
	struct uhmm_result res;
	int r;

	assert_int_equal(open_faulty("clear=1"), 0);
	mem = map_anon(BYTES, true, true); /* holes */
	r = to_device(&res);
	assert_int_equal(r, -EIO);
	assert_int_equal(check_zero(mem, BYTES), -1);
	(void)to_device(&res);
	assert_int_equal(check_zero(mem, BYTES), -1);
	assert_int_equal(uhmm_device_close(dev), 0);
	unmap_anon(mem, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_copy_to_it_fails),
		cmocka_unit_test(a_fence_says_that_a_copy_has_failed),
		cmocka_unit_test(a_copy_from_it_fails_twice),
		cmocka_unit_test(it_has_no_folio_of_order_9),
		cmocka_unit_test(it_has_none_for_some_pages),
		cmocka_unit_test(a_clear_fails),
	};
	int failures;

	alarm(115);
	space = open_space_or_skip(NULL);
	support_log_start(UHMM_LOG_ERROR);
	if (open_faulty("in=0"))
		support_skip("%s cannot be opened here", device_spec());
	uhmm_device_close(dev);
	seed = seed_from_env() | 1;
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	return uhmm_close(space) || failures;
}
