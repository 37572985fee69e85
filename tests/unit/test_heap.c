/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/err.h"
#include "base/pages.h"
#include "drivers/packed/heap.h"

#define ARENA (32 * MIB)

static struct heap h;
static uint64_t rnd;

static int setup(void **state)
{
	(void)state;
	rnd = 12345;
	return heap_init(&h, ARENA);
}

static int teardown(void **state)
{
	(void)state;
	heap_fini(&h);
	return 0;
}

static uint64_t random_below(uint64_t n)
{
	rnd = rnd * 6364136223846793005u + 1442695040888963407u;
	return (rnd >> 33) % n;
}

static void assert_sound(void)
{
	const char *wrong = heap_check(&h);

	if (wrong)
		fail_msg("%s", wrong);
}

static void a_fresh_arena_costs_a_page_or_two(void **state)
{
	(void)state;
	assert_sound();
	assert_true(h.touched_bytes <= 2 * PAGE_BYTES);
	assert_int_equal(h.used_bytes, 0);
}

static void objects_of_every_size_are_apart(void **state)
{
	static uint64_t at[2000];

	(void)state;
	for (unsigned n = 1; n < 2000; n++) {
		at[n] = heap_alloc(&h, n);
		assert_true(at[n] && at[n] % 8 == 0);
		memset(heap_at(&h, at[n]), (int)n, n);
	}
	assert_sound();
	for (unsigned n = 1; n < 2000; n++)
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(((unsigned char *)heap_at(&h, at[n]))[i], n & 255);
	for (unsigned n = 1; n < 2000; n += 2)
		heap_free(&h, at[n]);
	assert_sound();
	for (unsigned n = 0; n < 2000; n += 2)
		heap_free(&h, at[n]); /* 0 is fine */
	assert_sound();
	assert_int_equal(h.used_bytes, 0);
}

static void what_was_freed_is_one_piece_again(void **state)
{
	uint64_t at[64], whole;

	(void)state;
	for (unsigned i = 0; i < 64; i++)
		at[i] = heap_alloc(&h, 100 + 3000 * i % 7000);
	for (unsigned i = 0; i < 64; i++)
		heap_free(&h, at[i * 37 % 64]);
	whole = heap_alloc(&h, ARENA - 32);
	assert_true(whole);
	assert_false(heap_alloc(&h, 1));
	heap_free(&h, whole);
	assert_sound();
}

static void a_full_arena_says_so_and_is_used_again(void **state)
{
	static uint64_t at[ARENA / 1024];
	unsigned n[2] = { 0, 0 };

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		while ((at[n[round]] = heap_alloc(&h, 4000)))
			n[round]++;
		assert_true(n[round] > ARENA / 4100);
		for (unsigned i = 0; i < n[round]; i++)
			heap_free(&h, at[i]);
	}
	assert_int_equal(n[0], n[1]);
	assert_int_equal(h.used_bytes, 0);
	assert_sound();
}

static void memory_goes_back_to_the_system(void **state)
{
	static uint64_t at[6000];
	uint64_t full;

	(void)state;
	for (unsigned i = 0; i < 6000; i++) {
		at[i] = heap_alloc(&h, 4500);
		memset(heap_at(&h, at[i]), 1, 4500);
	}
	full = h.touched_bytes;
	assert_true(full >= 6000 * 4500);
	for (unsigned i = 0; i < 6000; i++)
		if (i % 100)
			heap_free(&h, at[i]);
	assert_sound();
	/* one in a hundred stays, scattered: a large free block lies between two of them */
	assert_true(h.touched_bytes < full / 4);
	for (unsigned i = 0; i < 6000; i += 100) {
		for (unsigned k = 0; k < 4500; k++)
			assert_int_equal(((char *)heap_at(&h, at[i]))[k], 1);
		heap_free(&h, at[i]);
	}
	assert_sound();
	assert_true(h.touched_bytes < 8 * MIB);
}

/* Sizes as compressed pieces have them; what is lost to holes stays small. */
static void random_objects_keep_their_bytes(void **state)
{
	static struct { uint64_t at; uint32_t size, seed; } slot[1500];

	(void)state;
	for (unsigned step = 0; step < 100000; step++) {
		unsigned i = (unsigned)random_below(1500);
		uint32_t *words;

		if (slot[i].at) {
			words = heap_at(&h, slot[i].at);
			assert_int_equal(words[0], slot[i].seed);
			assert_int_equal(words[slot[i].size / 4 - 1], slot[i].seed);
			heap_free(&h, slot[i].at);
			slot[i].at = 0;
		} else {
			slot[i].size = 8 + 4 * (uint32_t)random_below(random_below(4) ? 4000 : 100);
			slot[i].seed = step;
			slot[i].at = heap_alloc(&h, slot[i].size);
			assert_true(slot[i].at);
			words = heap_at(&h, slot[i].at);
			words[0] = words[slot[i].size / 4 - 1] = step;
		}
		if (step % 5000 == 0)
			assert_sound();
	}
	assert_true(h.touched_bytes < h.used_bytes + h.used_bytes / 2 + 4 * MIB);
	for (unsigned i = 0; i < 1500; i++)
		heap_free(&h, slot[i].at);
	assert_sound();
	assert_int_equal(h.used_bytes, 0);
}

static void *churn(void *arg)
{
	uint64_t at[50] = { 0 }, state = (uintptr_t)arg;

	for (unsigned step = 0; step < 40000; step++) {
		unsigned i = (unsigned)((state = state * 6364136223846793005u + 1442695040888963407u) >> 33) % 50;

		if (at[i] && *(uint64_t *)heap_at(&h, at[i]) != i + 100 * (uintptr_t)arg)
			return "wrong bytes";
		heap_free(&h, at[i]);
		at[i] = heap_alloc(&h, 8 + (state >> 20) % 60000);
		if (at[i])
			*(uint64_t *)heap_at(&h, at[i]) = i + 100 * (uintptr_t)arg;
	}
	for (unsigned i = 0; i < 50; i++)
		heap_free(&h, at[i]);
	return NULL;
}

static void threads_do_not_meet(void **state)
{
	pthread_t t[4];
	void *wrong;

	(void)state;
	for (uintptr_t k = 0; k < 4; k++)
		assert_int_equal(pthread_create(&t[k], NULL, churn, (void *)(k + 1)), 0);
	for (unsigned k = 0; k < 4; k++) {
		pthread_join(t[k], &wrong);
		assert_null(wrong);
	}
	assert_sound();
	assert_int_equal(h.used_bytes, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_fresh_arena_costs_a_page_or_two),
		CASE(objects_of_every_size_are_apart),
		CASE(what_was_freed_is_one_piece_again),
		CASE(a_full_arena_says_so_and_is_used_again),
		CASE(memory_goes_back_to_the_system),
		CASE(random_objects_keep_their_bytes),
		CASE(threads_do_not_meet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
