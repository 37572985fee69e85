/* SPDX-License-Identifier: MIT */
/* Several threads on one allocator; the rest of buddy.c is in test_buddy.c. */
#include "unit.h"

#include "mem/buddy.h"

#define BLOCKS  4u
#define THREADS 4

static struct buddy b;
static _Atomic uint32_t owner[BLOCKS * PAGES_PER_BLOCK]; /* 0: nobody */
static _Atomic unsigned violations;

static int make(uint64_t blocks)
{
	memset(owner, 0, sizeof(owner));
	violations = 0;
	return buddy_init(&b, blocks * BLOCK_BYTES);
}

static int free_it(void **state)
{
	(void)state;
	buddy_fini(&b);
	return 0;
}

static void set_owner(uint64_t at, unsigned order, uint32_t from, uint32_t to)
{
	for (unsigned i = 0; i < order_pages(order); i++)
		if (atomic_exchange(&owner[at / PAGE_BYTES + i], to) != from)
			atomic_fetch_add(&violations, 1);
}

struct worker {
	uint32_t id;
	unsigned min_order, max_order, rounds;
};

static void *alloc_and_free(void *arg)
{
	struct worker *w = arg;
	struct { uint64_t at; unsigned order; } mine[24];
	uint64_t seed = w->id;
	unsigned nr = 0;

	for (unsigned n = 0; n < w->rounds || nr; n++) {
		unsigned order = w->min_order + next_random(&seed) % (w->max_order - w->min_order + 1);

		if (n < w->rounds && nr < 24 && next_random(&seed) % 2 && !buddy_alloc(&b, order, &mine[nr].at)) {
			set_owner(mine[nr].at, order, 0, w->id);
			mine[nr++].order = order;
		} else if (nr) {
			unsigned k = next_random(&seed) % nr;

			set_owner(mine[k].at, mine[k].order, w->id, 0);
			buddy_free(&b, mine[k].at, mine[k].order);
			mine[k] = mine[--nr];
		}
	}
	return NULL;
}

static void run_workers(unsigned min_order, unsigned max_order, unsigned rounds)
{
	struct worker w[THREADS];
	pthread_t t[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ i + 1, min_order, max_order, rounds };
		t[i] = spawn(alloc_and_free, &w[i]);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(violations, 0);
	assert_int_equal(buddy_used_bytes(&b), 0);
}

static void all_is_whole_again(void)
{
	uint64_t at;

	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at), 0);
	assert_int_equal(buddy_alloc(&b, 0, &at), -ENOMEM);
}

static void no_page_has_two_owners(void **state)
{
	(void)state;
	assert_int_equal(make(BLOCKS), 0);
	run_workers(0, BLOCK_ORDER, 5000);
	all_is_whole_again();
}

static void whole_blocks_without_a_lock(void **state)
{
	(void)state;
	assert_int_equal(make(BLOCKS), 0);
	run_workers(BLOCK_ORDER, BLOCK_ORDER, 5000);
	all_is_whole_again();
}

static void single_pages(void **state)
{
	(void)state;
	assert_int_equal(make(BLOCKS), 0);
	run_workers(0, 0, 20000);
	all_is_whole_again();
}

/* Takes a half of a block's pages, meets the other thread, and gives them back. */
static pthread_barrier_t met;

static void *take_half(void *arg)
{
	uint64_t at[PAGES_PER_BLOCK / 2];
	uint32_t id = (uint32_t)(uintptr_t)arg;

	for (unsigned n = 0; n < 50; n++) {
		for (unsigned i = 0; i < PAGES_PER_BLOCK / 2; i++) {
			if (buddy_alloc(&b, 0, &at[i])) {
				atomic_fetch_add(&violations, 1);
				continue;
			}
			set_owner(at[i], 0, 0, id);
		}
		pthread_barrier_wait(&met);
		for (unsigned i = 0; i < PAGES_PER_BLOCK / 2; i++) {
			set_owner(at[i], 0, id, 0);
			buddy_free(&b, at[i], 0);
		}
		pthread_barrier_wait(&met);
		pthread_barrier_wait(&met); /* main() has looked */
	}
	return NULL;
}

static void a_free_block_serves_pages_to_two_threads_and_is_whole_again(void **state)
{
	pthread_t t[2];
	uint64_t at;

	(void)state;
	assert_int_equal(make(1), 0);
	pthread_barrier_init(&met, NULL, 3);
	assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at), 0);
	buddy_free(&b, at, BLOCK_ORDER); /* on the free stack, not fresh */
	for (uintptr_t i = 0; i < 2; i++)
		t[i] = spawn(take_half, (void *)(i + 1));
	for (unsigned n = 0; n < 50; n++) {
		pthread_barrier_wait(&met); /* both have their pages */
		pthread_barrier_wait(&met); /* both have given them back */
		if (buddy_alloc(&b, BLOCK_ORDER, &at))
			atomic_fetch_add(&violations, 1);
		else
			buddy_free(&b, at, BLOCK_ORDER);
		pthread_barrier_wait(&met);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	pthread_barrier_destroy(&met);
	assert_int_equal(violations, 0);
	assert_int_equal(buddy_used_bytes(&b), 0);
}

#define CASE(name) cmocka_unit_test_teardown(name, free_it)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(no_page_has_two_owners),
		CASE(whole_blocks_without_a_lock),
		CASE(single_pages),
		CASE(a_free_block_serves_pages_to_two_threads_and_is_whole_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
