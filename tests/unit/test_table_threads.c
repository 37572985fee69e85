/* SPDX-License-Identifier: MIT */
/* Several threads on one table; the rest of table.c is in test_table.c. */
#include "unit.h"

#include "base/lock.h"
#include "mem/table.h"

#define AT (UINT64_C(5) << 40)

static struct table t;
static _Atomic unsigned violations;
static atomic_bool stop;

static int make_table(void **state)
{
	(void)state;
	violations = 0;
	stop = false;
	return table_init(&t);
}

static int free_table(void **state)
{
	(void)state;
	table_fini(&t);
	return 0;
}

static struct entry_slot *_Atomic first_seen[64];

static void *ask_for_blocks(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 64; i++) {
		struct entry_slot *b = table_block(&t, AT + i * GIB, true), *first = NULL;

		if (!atomic_compare_exchange_strong(&first_seen[i], &first, b) && first != b)
			atomic_fetch_add(&violations, 1);
	}
	return NULL;
}

static void all_threads_get_the_same_word(void **state)
{
	pthread_t id[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		id[i] = spawn(ask_for_blocks, NULL);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(id[i], NULL);
	assert_int_equal(violations, 0);
}

static struct { uint64_t n; } guarded;

static void *count_under_the_lock(void *arg)
{
	struct entry_slot *b = table_block(&t, AT, true);

	(void)arg;
	for (unsigned i = 0; i < 20000; i++) {
		block_lock(b);
		guarded.n++;
		block_unlock(b);
	}
	return NULL;
}

static void a_blocks_lock_admits_one(void **state)
{
	pthread_t id[3];

	(void)state;
	guarded.n = 0;
	for (unsigned i = 0; i < 3; i++)
		id[i] = spawn(count_under_the_lock, NULL);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(id[i], NULL);
	assert_int_equal(guarded.n, 60000);
	assert_int_equal(entry_get(table_block(&t, AT, false)).bits, 0);
	lock_assert_none_held();
}

/* All the ways a block goes: system, claimed, on a device, split, home page by page, one word again. */
static void *live(void *arg)
{
	uint64_t at = (uintptr_t)arg;
	struct entry_slot *b = table_block(&t, at, true), *s;

	for (unsigned n = 0; n < 300; n++) {
		block_lock(b);
		entry_set(b, entry_migrating(1));
		entry_set(b, entry_on_device(1, at & (GIB - 1), BLOCK_ORDER));
		block_unlock(b);
		block_lock(b);
		if (block_split(&t, b))
			atomic_fetch_add(&violations, 1);
		block_unlock(b);
		for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
			block_lock(b);
			if (block_page(b, i, &s).bits != entry_on_device(1, (at & (GIB - 1)) + i * PAGE_BYTES, 0).bits)
				atomic_fetch_add(&violations, 1);
			entry_set(s, entry_system());
			block_collapse(&t, b);
			block_unlock(b);
		}
		if (entry_state(entry_get(b)) != ENTRY_SYSTEM)
			atomic_fetch_add(&violations, 1);
	}
	return NULL;
}

static bool may_be(struct entry e, uint64_t addr)
{
	uint64_t offset = addr & (GIB - 1);

	switch (entry_state(e)) {
	case ENTRY_SYSTEM:
		return true;
	case ENTRY_MIGRATING:
		return entry_token(e) == 1;
	case ENTRY_DEVICE:
		return entry_device(e) == 1 && entry_offset(e) == (entry_order(e) ? block_down(offset) : offset);
	default:
		return false;
	}
}

static void *peek_all_the_time(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint64_t addr = AT + (next_random(&seed) % (2 * PAGES_PER_BLOCK)) * PAGE_BYTES;

		if (!may_be(table_peek(&t, addr), addr))
			atomic_fetch_add(&violations, 1);
	}
	return NULL;
}

static void a_peek_sees_a_state_that_was(void **state)
{
	pthread_t id[4];

	(void)state;
	for (uintptr_t i = 0; i < 2; i++) {
		id[i] = spawn(live, (void *)(uintptr_t)(AT + i * BLOCK_BYTES));
		id[2 + i] = spawn(peek_all_the_time, (void *)i);
	}
	pthread_join(id[0], NULL);
	pthread_join(id[1], NULL);
	atomic_store(&stop, true);
	pthread_join(id[2], NULL);
	pthread_join(id[3], NULL);
	assert_int_equal(violations, 0);
}

static int visit_and_lock(void *ctx, uint64_t addr, struct entry_slot *b)
{
	(void)ctx;
	(void)addr;
	block_lock(b);
	block_unlock(b);
	return 0;
}

static void *walk_all_the_time(void *arg)
{
	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		(void)table_walk(&t, AT, AT + 64 * GIB, visit_and_lock, NULL);
	return NULL;
}

static void a_walk_runs_while_others_change_the_table(void **state)
{
	pthread_t id[3];

	(void)state;
	memset(first_seen, 0, sizeof(first_seen));
	id[0] = spawn(walk_all_the_time, NULL);
	id[1] = spawn(live, (void *)(uintptr_t)AT);
	id[2] = spawn(ask_for_blocks, NULL);
	pthread_join(id[1], NULL);
	pthread_join(id[2], NULL);
	atomic_store(&stop, true);
	pthread_join(id[0], NULL);
	assert_int_equal(violations, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make_table, free_table)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(all_threads_get_the_same_word),
		CASE(a_blocks_lock_admits_one),
		CASE(a_peek_sees_a_state_that_was),
		CASE(a_walk_runs_while_others_change_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
