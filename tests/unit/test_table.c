/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "mem/table.h"
#include "os/fail.h"

#define AT (UINT64_C(5) << 40) /* an address; nothing is mapped there, and nothing need be */

static struct table t;

static int make_table(void **state)
{
	(void)state;
	return table_init(&t);
}

static int free_table(void **state)
{
	(void)state;
	fail_set(NULL, NULL);
	table_fini(&t);
	table_fini(&t); /* once more is fine */
	return 0;
}

static void nothing_is_known_at_first(void **state)
{
	(void)state;
	assert_null(table_block(&t, 0, false));
	assert_null(table_block(&t, AT, false));
	assert_int_equal(table_peek(&t, AT).bits, 0);
	assert_int_equal(table_bytes(&t), 0);
}

static void a_block_has_one_word_for_ever(void **state)
{
	struct entry_slot *b = table_block(&t, AT, true);

	(void)state;
	assert_non_null(b);
	assert_int_equal(entry_get(b).bits, 0);
	assert_ptr_equal(table_block(&t, AT, true), b);
	assert_ptr_equal(table_block(&t, AT + BLOCK_BYTES - 1, false), b);
	assert_ptr_equal(table_block(&t, AT + BLOCK_BYTES, false), b + 1);
	assert_ptr_equal(table_block(&t, AT + GIB - 1, false), b + 511);
	assert_null(table_block(&t, AT + GIB, false));
	assert_null(table_block(&t, AT - 1, false));
	assert_int_equal(table_bytes(&t), PAGE_BYTES);
}

static void addresses_end_at_48_bits(void **state)
{
	(void)state;
	assert_non_null(table_block(&t, (UINT64_C(1) << 48) - 1, true));
	assert_null(table_block(&t, UINT64_C(1) << 48, true));
	assert_null(table_block(&t, UINT64_MAX, true));
	assert_int_equal(table_peek(&t, UINT64_MAX).bits, 0);
}

static void without_memory_there_is_no_word(void **state)
{
	(void)state;
	fail_set("mmap:1", NULL);
	assert_null(table_block(&t, AT, true));
	assert_non_null(table_block(&t, AT, true));
}

/* A block in the state @e. */
static struct entry_slot *block_in(struct entry e)
{
	struct entry_slot *b = table_block(&t, AT, true);

	atomic_store(&b->word, e.bits);
	return b;
}

static void a_split_says_the_same_of_every_page(struct entry e)
{
	struct entry_slot *b = block_in(e), *s;

	block_lock(b);
	assert_int_equal(block_split(&t, b), 0);
	assert_int_equal(entry_state(entry_get(b)), ENTRY_TABLE);
	assert_int_equal(entry_has(entry_get(b), ENTRY_HUGE), entry_has(e, ENTRY_HUGE));
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		struct entry page = block_page(b, i, &s);

		assert_ptr_not_equal(s, b);
		assert_int_equal(page.bits, entry_of_page(e, i, 0).bits);
		assert_int_equal(entry_state(page), entry_state(e));
		assert_false(entry_has(page, ENTRY_HUGE | ENTRY_LOCK));
	}
	block_unlock(b);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_int_equal(table_peek(&t, AT + i * PAGE_BYTES).bits, entry_of_page(e, i, 0).bits);
}

static void system_memory_splits(void **state)
{
	(void)state;
	a_split_says_the_same_of_every_page(entry_system());
}

static void zapped_memory_splits(void **state)
{
	(void)state;
	a_split_says_the_same_of_every_page(entry_zapped(7));
	assert_true(entry_has(table_peek(&t, AT + 5 * PAGE_BYTES), ENTRY_ZAP));
}

static void a_huge_claim_with_flags_splits(void **state)
{
	struct entry e = { entry_migrating(77).bits | ENTRY_WAITERS | ENTRY_DEAD | ENTRY_HUGE };

	(void)state;
	a_split_says_the_same_of_every_page(e);
	e = table_peek(&t, AT + 5 * PAGE_BYTES);
	assert_int_equal(e.bits, entry_migrating(token_of_page(77, 5)).bits | ENTRY_WAITERS | ENTRY_DEAD);
}

static void a_folio_splits_into_pages_of_order_0(void **state)
{
	struct entry e = { entry_on_device(9, 6 * BLOCK_BYTES, BLOCK_ORDER).bits | ENTRY_HUGE };

	(void)state;
	a_split_says_the_same_of_every_page(e);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_int_equal(table_peek(&t, AT + i * PAGE_BYTES).bits,
				 entry_on_device(9, 6 * BLOCK_BYTES + i * PAGE_BYTES, 0).bits);
}

static void splitting_a_table_changes_nothing(void **state)
{
	struct entry_slot *b = block_in(entry_on_device(1, 0, BLOCK_ORDER));
	uint64_t word, bytes;

	(void)state;
	block_lock(b);
	assert_int_equal(block_split(&t, b), 0);
	word = entry_get(b).bits;
	bytes = table_bytes(&t);
	assert_int_equal(block_split(&t, b), 0);
	assert_int_equal(entry_get(b).bits, word);
	assert_int_equal(table_bytes(&t), bytes);
	block_unlock(b);
}

static void a_split_says_what_the_folio_has_become(void **state)
{
	struct entry e = entry_on_device(3, 6 * BLOCK_BYTES, BLOCK_ORDER);
	struct entry_slot *b = block_in(e), *words = meta_alloc(&t.tables);

	(void)state;
	block_lock(b);
	block_split_into(b, words, 7);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		assert_int_equal(entry_get(&words[i]).bits, entry_on_device(3, 6 * BLOCK_BYTES + i * PAGE_BYTES, 7).bits);
		assert_int_equal(entry_get(&words[i]).bits, entry_of_page(e, i, 7).bits);
	}
	words_split(words, 200, 2); /* any page of it */
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_int_equal(entry_get(&words[i]).bits, entry_of_page(e, i, i / 128 == 1 ? 2 : 7).bits);
	block_unlock(b);
}

static void a_head_is_found_by_masking(void **state)
{
	(void)state;
	assert_int_equal(folio_head(37, 0), 37);
	assert_int_equal(folio_head(37, 4), 32);
	assert_int_equal(folio_head(511, 8), 256);
	assert_int_equal(folio_head(511, 9), 0);
}

static void a_table_is_given_up_as_it_is(void **state)
{
	struct entry_slot *b = block_in(entry_migrating(3));
	uint64_t bytes;

	(void)state;
	block_lock(b);
	assert_int_equal(block_split(&t, b), 0);
	bytes = table_bytes(&t);
	block_join(&t, b);
	assert_int_equal(entry_state(entry_get(b)), ENTRY_SYSTEM);
	assert_int_equal(block_split(&t, b), 0);
	assert_int_equal(table_bytes(&t), bytes); /* the same one */
	block_unlock(b);
}

static void a_split_without_memory_changes_nothing(void **state)
{
	struct entry e = { entry_on_device(1, 0, BLOCK_ORDER).bits | ENTRY_HUGE };
	struct entry_slot *b = block_in(e);

	(void)state;
	block_lock(b);
	fail_set("mmap:1", NULL);
	assert_int_equal(block_split(&t, b), -ENOMEM);
	block_unlock(b);
	assert_int_equal(entry_get(b).bits, e.bits);
}

static void a_split_into_given_words_needs_no_memory(void **state)
{
	struct entry_slot *b = block_in(entry_migrating(3)), *words = meta_alloc(&t.tables), *s;

	(void)state;
	fail_set("mmap:1", NULL);
	block_lock(b);
	block_split_into(b, words, 0);
	assert_int_equal(block_page(b, 511, &s).bits, entry_migrating(token_of_page(3, 511)).bits);
	assert_ptr_equal(s, &words[511]);
	block_unlock(b);
}

static void a_whole_block_speaks_for_its_pages(void **state)
{
	struct entry_slot *b = block_in(entry_migrating(3)), *s;

	(void)state;
	block_lock(b);
	assert_int_equal(block_page(b, 17, &s).bits & ~ENTRY_LOCK, entry_migrating(3).bits);
	assert_ptr_equal(s, b);
	block_unlock(b);
}

static void a_block_collapses_when_all_pages_are_plain(void **state)
{
	struct entry_slot *b = block_in((struct entry){ ENTRY_HUGE }), *s;
	uint64_t bytes;

	(void)state;
	block_lock(b);
	block_collapse(&t, b); /* not a table: nothing to do */
	assert_int_equal(block_split(&t, b), 0);
	bytes = table_bytes(&t);
	(void)block_page(b, 511, &s);
	entry_mark(s, ENTRY_ZAP, 0);
	block_collapse(&t, b);
	assert_int_equal(entry_state(entry_get(b)), ENTRY_TABLE);
	entry_mark(s, 0, ENTRY_ZAP);
	block_collapse(&t, b);
	assert_int_equal(entry_get(b).bits, ENTRY_SYSTEM | ENTRY_HUGE | ENTRY_LOCK);
	assert_int_equal(block_split(&t, b), 0); /* with the same table */
	assert_int_equal(table_bytes(&t), bytes);
	block_unlock(b);
}

struct walk {
	uint64_t seen[8];
	unsigned nr, stop_at;
};

static int see(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct walk *w = ctx;

	if (b != table_block(&t, addr, false))
		return -1;
	if (entry_get(b).bits && w->nr < 8)
		w->seen[w->nr++] = addr;
	return w->stop_at && w->nr == w->stop_at ? 42 : 0;
}

static void a_walk_visits_known_blocks_in_order(void **state)
{
	static const uint64_t place[] = {
		0, AT, AT + BLOCK_BYTES, AT + GIB - BLOCK_BYTES, AT + 900 * GIB, (UINT64_C(1) << 48) - BLOCK_BYTES,
	};
	struct walk w = { .nr = 0 };

	(void)state;
	for (unsigned i = 6; i-- > 0;)
		atomic_store(&table_block(&t, place[i], true)->word, entry_migrating(1).bits);
	assert_int_equal(table_walk(&t, 0, UINT64_MAX, see, &w), 0);
	assert_int_equal(w.nr, 6);
	assert_memory_equal(w.seen, place, sizeof(place));

	w = (struct walk){ .stop_at = 2 };
	assert_int_equal(table_walk(&t, 0, UINT64_MAX, see, &w), 42);
	assert_int_equal(w.nr, 2);
}

static void a_walk_stays_in_its_range(void **state)
{
	struct walk w = { .nr = 0 };

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		atomic_store(&table_block(&t, AT + i * BLOCK_BYTES, true)->word, entry_migrating(1).bits);
	/* a part of a block is the block; the end is not in it */
	assert_int_equal(table_walk(&t, AT + BLOCK_BYTES + PAGE_BYTES, AT + 3 * BLOCK_BYTES, see, &w), 0);
	assert_int_equal(w.nr, 2);
	assert_int_equal(w.seen[0], AT + BLOCK_BYTES);
	assert_int_equal(w.seen[1], AT + 2 * BLOCK_BYTES);
	w.nr = 0;
	assert_int_equal(table_walk(&t, AT, AT, see, &w), 0);
	assert_int_equal(table_walk(&t, AT + 2 * GIB, AT + 3 * GIB, see, &w), 0);
	assert_int_equal(w.nr, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make_table, free_table)

/* Threads are in test_table_threads.c. */
int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(nothing_is_known_at_first),
		CASE(a_block_has_one_word_for_ever),
		CASE(addresses_end_at_48_bits),
		CASE(without_memory_there_is_no_word),
		CASE(system_memory_splits),
		CASE(zapped_memory_splits),
		CASE(a_huge_claim_with_flags_splits),
		CASE(a_folio_splits_into_pages_of_order_0),
		CASE(splitting_a_table_changes_nothing),
		CASE(a_split_says_what_the_folio_has_become),
		CASE(a_head_is_found_by_masking),
		CASE(a_table_is_given_up_as_it_is),
		CASE(a_split_without_memory_changes_nothing),
		CASE(a_split_into_given_words_needs_no_memory),
		CASE(a_whole_block_speaks_for_its_pages),
		CASE(a_block_collapses_when_all_pages_are_plain),
		CASE(a_walk_visits_known_blocks_in_order),
		CASE(a_walk_stays_in_its_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
