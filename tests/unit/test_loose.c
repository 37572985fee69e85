/* SPDX-License-Identifier: MIT */
#include "migrate/loose.h"
#include "os/fail.h"

#include "fake_driver.h"

static struct loose l;

static int make(void **state)
{
	(void)reset(state);
	memset(&l, 0, sizeof(l));
	return open_dev("full") || loose_init(&l);
}

static int unmake(void **state)
{
	(void)state;
	loose_fini(&l);
	device_close(&d);
	return 0;
}

static void a_folio_is_known_until_it_is_taken(void **state)
{
	uint64_t offset;

	(void)state;
	assert_int_equal(loose_alloc(&l, &d, 2, &offset), 0);
	assert_int_equal(l.bytes[d.index], 4 * PAGE_BYTES);
	assert_true(loose_has(&l, &d, offset, 2));
	assert_false(loose_has(&l, &d, offset, 0));
	assert_false(loose_take(&l, &d, offset + PAGE_BYTES, 2));
	assert_true(loose_take(&l, &d, offset, 2));
	assert_false(loose_take(&l, &d, offset, 2));
	assert_int_equal(l.bytes[d.index], 0);
	device_free(&d, offset, 2);
}

/* Taken in another order than they came in, so that the table's chains are broken everywhere. */
static void many_come_and_go(void **state)
{
	static uint64_t offset[2 * PAGES_PER_BLOCK];
	uint64_t seed = 5;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		unsigned nr = sizeof(offset) / sizeof(*offset);

		for (unsigned i = 0; i < nr; i++)
			assert_int_equal(loose_alloc(&l, &d, 0, &offset[i]), 0);
		while (nr) {
			unsigned i = (unsigned)(next_random(&seed) % nr);

			assert_true(loose_take(&l, &d, offset[i], 0));
			device_free(&d, offset[i], 0);
			offset[i] = offset[--nr];
			for (unsigned k = 0; nr && k < 3; k++)
				assert_true(loose_has(&l, &d, offset[next_random(&seed) % nr], 0));
		}
		assert_int_equal(l.nr, 0);
	}
}

static void without_room_nothing_is_allocated(void **state)
{
	uint64_t offset;

	(void)state;
	l.nr = MAX_LOOSE / 2;
	assert_int_equal(loose_alloc(&l, &d, 0, &offset), -ENOMEM);
	l.nr = 0;
	fake.folio_alloc = -EIO;
	assert_int_equal(loose_alloc(&l, &d, 0, &offset), -EIO);
	fake.folio_alloc = 0;
	atomic_store(&d.closing, 1);
	assert_int_equal(loose_alloc(&l, &d, 0, &offset), -ENOMEM);
	assert_int_equal(buddy_used_bytes(&d.buddy), 0);
}

static void without_memory_there_is_none(void **state)
{
	(void)state;
	loose_fini(&l);
	fail_set("mmap:1", NULL);
	assert_int_equal(loose_init(&l), -ENOMEM);
	fail_set(NULL, NULL);
	assert_int_equal(loose_init(&l), 0);
}

int main(void)
{
#define KEPT(name) cmocka_unit_test_setup_teardown(name, make, unmake)
	const struct CMUnitTest tests[] = {
		KEPT(a_folio_is_known_until_it_is_taken),
		KEPT(many_come_and_go),
		KEPT(without_room_nothing_is_allocated),
		KEPT(without_memory_there_is_none),
	};

	if (add_drivers())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
