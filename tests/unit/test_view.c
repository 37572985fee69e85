/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "mem/table.h"
#include "mirror/view.h"
#include "os/fail.h"

#define AT (UINT64_C(5) << 40) /* an address; nothing is mapped there, and nothing need be */

static struct view v;

static int make_view(void **state)
{
	(void)state;
	return view_init(&v);
}

static int free_view(void **state)
{
	(void)state;
	fail_set(NULL, NULL);
	view_fini(&v);
	view_fini(&v); /* once more is fine */
	return 0;
}

static void a_device_may_nothing_at_first(void **state)
{
	(void)state;
	assert_int_equal(view_get(&v, 0), 0);
	assert_int_equal(view_get(&v, AT), 0);
	view_clear(&v, 0, UINT64_C(1) << TABLE_ADDRESS_BITS); /* nothing to take away */
	assert_int_equal(view_get(&v, AT), 0);
}

static void rights_are_for_these_pages_and_no_others(void **state)
{
	(void)state;
	assert_int_equal(view_add(&v, AT + PAGE_BYTES, AT + 3 * PAGE_BYTES, VIEW_READ), 0);
	assert_int_equal(view_get(&v, AT), 0);
	assert_int_equal(view_get(&v, AT + PAGE_BYTES), VIEW_READ);
	assert_int_equal(view_get(&v, AT + 3 * PAGE_BYTES - 1), VIEW_READ);
	assert_int_equal(view_get(&v, AT + 3 * PAGE_BYTES), 0);
	assert_int_equal(view_get(&v, AT + GIB + PAGE_BYTES), 0);
}

static void rights_add_up_and_go_together(void **state)
{
	(void)state;
	assert_int_equal(view_add(&v, AT, AT + 4 * PAGE_BYTES, VIEW_READ), 0);
	assert_int_equal(view_add(&v, AT + 2 * PAGE_BYTES, AT + 6 * PAGE_BYTES, VIEW_WRITE), 0);
	assert_int_equal(view_get(&v, AT + PAGE_BYTES), VIEW_READ);
	assert_int_equal(view_get(&v, AT + 2 * PAGE_BYTES), VIEW_READ | VIEW_WRITE);
	assert_int_equal(view_get(&v, AT + 5 * PAGE_BYTES), VIEW_WRITE);
	view_clear(&v, AT + 3 * PAGE_BYTES, AT + 5 * PAGE_BYTES);
	assert_int_equal(view_get(&v, AT + 2 * PAGE_BYTES), VIEW_READ | VIEW_WRITE);
	assert_int_equal(view_get(&v, AT + 3 * PAGE_BYTES), 0);
	assert_int_equal(view_get(&v, AT + 4 * PAGE_BYTES), 0);
	assert_int_equal(view_get(&v, AT + 5 * PAGE_BYTES), VIEW_WRITE);
}

static void a_range_may_cross_gibibytes(void **state)
{
	uint64_t from = AT + GIB - PAGE_BYTES, to = AT + 2 * GIB + PAGE_BYTES;

	(void)state;
	assert_int_equal(view_add(&v, from, to, VIEW_READ), 0);
	assert_int_equal(view_get(&v, from - 1), 0);
	for (uint64_t at = from; at < to; at += BLOCK_BYTES / 2)
		assert_int_equal(view_get(&v, at), VIEW_READ);
	assert_int_equal(view_get(&v, to - 1), VIEW_READ);
	assert_int_equal(view_get(&v, to), 0);
	view_clear(&v, AT + GIB, AT + 2 * GIB);
	assert_int_equal(view_get(&v, from), VIEW_READ);
	assert_int_equal(view_get(&v, AT + GIB), 0);
	assert_int_equal(view_get(&v, AT + 2 * GIB - 1), 0);
	assert_int_equal(view_get(&v, AT + 2 * GIB), VIEW_READ);
}

static void addresses_end_at_48_bits(void **state)
{
	uint64_t end = UINT64_C(1) << TABLE_ADDRESS_BITS;

	(void)state;
	assert_int_equal(view_add(&v, end - PAGE_BYTES, end, VIEW_READ), 0);
	assert_int_equal(view_get(&v, end - 1), VIEW_READ);
	assert_int_equal(view_get(&v, end), 0);
	assert_int_equal(view_get(&v, UINT64_MAX), 0);
	view_clear(&v, 0, end);
	assert_int_equal(view_get(&v, end - 1), 0);
}

static void without_memory_nothing_is_allowed(void **state)
{
	struct view other;

	(void)state;
	fail_set("mmap:1", NULL);
	assert_int_equal(view_init(&other), -ENOMEM);
	view_fini(&other);

	fail_set("mmap:2", NULL);
	assert_int_equal(view_add(&v, AT, AT + 2 * GIB, VIEW_READ), -ENOMEM);
	assert_int_equal(view_get(&v, AT + GIB), 0);
	assert_int_equal(view_add(&v, AT, AT + 2 * GIB, VIEW_READ), 0);
	assert_int_equal(view_get(&v, AT + GIB), VIEW_READ);
}

static void a_view_that_never_began_is_empty(void **state)
{
	struct view none = { NULL };

	(void)state;
	assert_int_equal(view_get(&none, AT), 0);
	view_fini(&none);
}

/* ---- threads ---- */

#define NR_THREADS 4
#define NR_ROUNDS  200

static _Atomic unsigned nr_wrong;

/* Each has every fourth page for itself, in leaves that all of them want to create first. */
static void *add_and_clear(void *arg)
{
	uint64_t mine = (uintptr_t)arg;

	for (unsigned k = 0; k < NR_ROUNDS; k++) {
		uint64_t at = AT + (k % 20) * GIB + (k * NR_THREADS + mine) * PAGE_BYTES;

		if (view_add(&v, at, at + PAGE_BYTES, VIEW_READ) || view_get(&v, at) != VIEW_READ)
			nr_wrong++;
		if (k % 2)
			continue;
		view_clear(&v, at, at + PAGE_BYTES);
		if (view_get(&v, at))
			nr_wrong++;
	}
	return NULL;
}

static void threads_do_not_disturb_their_neighbours(void **state)
{
	pthread_t id[NR_THREADS];

	(void)state;
	nr_wrong = 0;
	for (uintptr_t i = 0; i < NR_THREADS; i++)
		id[i] = spawn(add_and_clear, (void *)i);
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(id[i], NULL);
	assert_int_equal(nr_wrong, 0);
	for (uint64_t k = 0; k < NR_ROUNDS; k++)
		for (uint64_t i = 0; i < NR_THREADS; i++)
			assert_int_equal(view_get(&v, AT + (k % 20) * GIB + (k * NR_THREADS + i) * PAGE_BYTES),
					 k % 2 ? VIEW_READ : 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_view, free_view)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_device_may_nothing_at_first),
		TEST(rights_are_for_these_pages_and_no_others),
		TEST(rights_add_up_and_go_together),
		TEST(a_range_may_cross_gibibytes),
		TEST(addresses_end_at_48_bits),
		TEST(without_memory_nothing_is_allowed),
		TEST(a_view_that_never_began_is_empty),
		TEST(threads_do_not_disturb_their_neighbours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
