/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "mem/meta.h"
#include "os/fail.h"
#include "os/map.h"

static bool nothing_is_own(void)
{
	uint64_t start, end;

	return !map_is_own(0, UINT64_MAX, &start, &end);
}

static void objects_are_distinct_and_in_own_memory(void **state)
{
	enum { N = 2000 };
	static uint64_t *object[N];
	uint64_t start, end;
	struct meta m;

	(void)state;
	meta_init(&m, 184);
	for (uint64_t i = 0; i < N; i++) {
		object[i] = meta_alloc(&m);
		assert_non_null(object[i]);
		assert_int_equal(addr_of(object[i]) % 8, 0);
		for (unsigned w = 0; w < 184 / 8; w++)
			object[i][w] = i;
	}
	for (uint64_t i = 0; i < N; i++) {
		for (unsigned w = 0; w < 184 / 8; w++)
			assert_int_equal(object[i][w], i);
		assert_true(map_is_own(addr_of(object[i]), addr_of(object[i]) + 184, &start, &end));
	}
	assert_int_equal(meta_bytes(&m), N * 184);
	meta_fini(&m);
	assert_true(nothing_is_own());
}

static void pages_are_aligned_to_pages(void **state)
{
	struct meta m;

	(void)state;
	meta_init(&m, PAGE_BYTES);
	for (unsigned i = 0; i < 100; i++)
		assert_true(page_aligned(addr_of(meta_alloc(&m))));
	meta_fini(&m);
}

static void what_is_freed_is_handed_out_again(void **state)
{
	struct meta m;
	void *a, *b;

	(void)state;
	meta_init(&m, 64);
	a = meta_alloc(&m);
	b = meta_alloc(&m);
	for (unsigned i = 0; i < 1000; i++) {
		meta_free(&m, a);
		meta_free(&m, b);
		a = meta_alloc(&m);
		b = meta_alloc(&m);
		assert_ptr_not_equal(a, b);
	}
	assert_int_equal(meta_bytes(&m), 2 * 64);
	meta_fini(&m);
}

static void freed_objects_stay_readable(void **state)
{
	volatile uint64_t *object;
	struct meta m;

	(void)state;
	meta_init(&m, PAGE_BYTES);
	object = meta_alloc(&m);
	object[100] = 5;
	meta_free(&m, (void *)(uintptr_t)object);
	assert_int_equal(object[100], 5);
	meta_fini(&m);
}

static void several_pieces_of_16_mib(void **state)
{
	enum { N = 9000 }; /* 36 MiB of addresses; touched sparsely */
	static char *object[N];
	struct meta m;

	(void)state;
	meta_init(&m, PAGE_BYTES);
	for (unsigned i = 0; i < N; i++) {
		object[i] = meta_alloc(&m);
		assert_non_null(object[i]);
		if (i % 100 == 0)
			*object[i] = (char)(i / 100);
	}
	for (unsigned i = 0; i < N; i += 100)
		assert_int_equal((unsigned char)*object[i], i / 100);
	meta_fini(&m);
	assert_true(nothing_is_own());
}

static void without_memory_it_is_null_and_works_later(void **state)
{
	struct meta m;

	(void)state;
	meta_init(&m, 64);
	fail_set("mmap:1", NULL);
	assert_null(meta_alloc(&m));
	assert_int_equal(meta_bytes(&m), 0);
	assert_non_null(meta_alloc(&m));
	fail_set(NULL, NULL);
	meta_fini(&m);
}

static void an_unused_one_costs_nothing(void **state)
{
	struct meta m;

	(void)state;
	meta_init(&m, 64);
	assert_int_equal(meta_bytes(&m), 0);
	meta_fini(&m);
	assert_true(nothing_is_own());
}

struct crowd {
	struct meta m;
	_Atomic unsigned violations;
};

static void *alloc_and_free(void *arg)
{
	struct crowd *c = arg;
	uint64_t *mine[8], me = (uintptr_t)&mine;

	for (unsigned n = 0; n < 2000; n++) {
		for (unsigned i = 0; i < 8; i++) {
			mine[i] = meta_alloc(&c->m);
			mine[i][1] = me + i;
		}
		for (unsigned i = 0; i < 8; i++) {
			if (mine[i][1] != me + i)
				atomic_fetch_add(&c->violations, 1);
			meta_free(&c->m, mine[i]);
		}
	}
	return NULL;
}

static void no_object_belongs_to_two_threads(void **state)
{
	struct crowd c = { .violations = 0 };
	pthread_t t[4];

	(void)state;
	meta_init(&c.m, 64);
	for (unsigned i = 0; i < 4; i++)
		t[i] = spawn(alloc_and_free, &c);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(c.violations, 0);
	assert_in_range(meta_bytes(&c.m), 8 * 64, 32 * 64);
	meta_fini(&c.m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_distinct_and_in_own_memory),
		cmocka_unit_test(pages_are_aligned_to_pages),
		cmocka_unit_test(what_is_freed_is_handed_out_again),
		cmocka_unit_test(freed_objects_stay_readable),
		cmocka_unit_test(several_pieces_of_16_mib),
		cmocka_unit_test(without_memory_it_is_null_and_works_later),
		cmocka_unit_test(an_unused_one_costs_nothing),
		cmocka_unit_test(no_object_belongs_to_two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
