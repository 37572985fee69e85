/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/err.h"
#include "mem/entry.h"

static void unknown_memory_is_the_word_0(void **state)
{
	(void)state;
	assert_int_equal(entry_system().bits, 0);
	assert_int_equal(entry_state(entry_system()), ENTRY_SYSTEM);
	assert_int_equal(entry_state(entry_zapped(7)), ENTRY_SYSTEM);
	assert_true(entry_has(entry_zapped(7), ENTRY_ZAP));
}

static void an_entry_keeps_what_it_was_made_of(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (unsigned n = 0; n < 1000; n++) {
		unsigned device = next_random(&seed) % 256, order = next_random(&seed) % NR_ORDERS;
		uint64_t offset = (next_random(&seed) >> 12) & ENTRY_PLACE;
		struct entry e = entry_on_device(device, offset, order);

		assert_int_equal(entry_state(e), ENTRY_DEVICE);
		assert_int_equal(entry_device(e), device);
		assert_int_equal(entry_offset(e), offset);
		assert_int_equal(entry_order(e), order);
		assert_false(entry_has(e, ENTRY_LOCK | ENTRY_WAITERS | ENTRY_DEAD | ENTRY_ZAP | ENTRY_LOST | ENTRY_HUGE));
	}
}

static void a_claim_keeps_its_token(void **state)
{
	static const uint64_t tokens[] = { 1, 2, TOKEN_MASK, 0xaaaaaaa };

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(tokens); i++) {
		struct entry e = entry_migrating(tokens[i]);

		assert_int_equal(entry_state(e), ENTRY_MIGRATING);
		assert_int_equal(entry_token(e), tokens[i]);
		assert_false(entry_has(e, ENTRY_LOST | ENTRY_HUGE | ENTRY_LOCK | ENTRY_WAITERS | ENTRY_DEAD | ENTRY_ZAP));
	}
}

static void a_token_names_slot_and_page(void **state)
{
	uint64_t token = UINT64_C(8191) << TOKEN_SLOT_SHIFT | 63;

	(void)state;
	assert_int_equal(token_page(token), 0);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		uint64_t of_page = token_of_page(token, i);

		assert_int_equal(token_page(of_page), i);
		assert_int_equal(token_slot(of_page), 8191);
		assert_true(of_page <= TOKEN_MASK);
		assert_int_equal(token_of_page(of_page, 0), token);
	}
}

static void a_table_is_found_through_its_entry(void **state)
{
	struct entry_slot *words = (struct entry_slot *)(uintptr_t)0x7ffffffff000;

	(void)state;
	assert_int_equal(entry_state(entry_of_table(words)), ENTRY_TABLE);
	assert_ptr_equal(entry_table(entry_of_table(words)), words);
}

struct move { enum entry_state from, to; };

static int make_move(void *arg)
{
	struct move *m = arg;
	struct entry_slot s = { m->from };

	entry_set(&s, (struct entry){ m->to });
	return entry_state(entry_get(&s)) == m->to ? 0 : 1;
}

static void legal_moves_are_made_and_others_abort(void **state)
{
	static const bool legal[NR_ENTRY_STATES][NR_ENTRY_STATES] = {
		[ENTRY_SYSTEM][ENTRY_SYSTEM] = true,    [ENTRY_SYSTEM][ENTRY_MIGRATING] = true,
		[ENTRY_SYSTEM][ENTRY_TABLE] = true,     [ENTRY_MIGRATING][ENTRY_SYSTEM] = true,
		[ENTRY_MIGRATING][ENTRY_DEVICE] = true, [ENTRY_MIGRATING][ENTRY_MIGRATING] = true,
		[ENTRY_MIGRATING][ENTRY_TABLE] = true,  [ENTRY_DEVICE][ENTRY_SYSTEM] = true,
		[ENTRY_DEVICE][ENTRY_MIGRATING] = true, [ENTRY_DEVICE][ENTRY_TABLE] = true,
		[ENTRY_TABLE][ENTRY_SYSTEM] = true,
	};

	(void)state;
	for (int from = 0; from < NR_ENTRY_STATES; from++) {
		for (int to = 0; to < NR_ENTRY_STATES; to++) {
			struct move m = { (enum entry_state)from, (enum entry_state)to };

			if (legal[from][to])
				assert_int_equal(value_in_child(make_move, &m), 0);
			else
				assert_true(aborts(make_move, &m));
		}
	}
}

static void a_move_keeps_lock_and_huge_and_nothing_else(void **state)
{
	uint64_t kept = ENTRY_LOCK | ENTRY_HUGE, others = ENTRY_WAITERS | ENTRY_DEAD | ENTRY_ZAP | ENTRY_LOST;
	struct entry_slot s = { ENTRY_MIGRATING | kept | others };
	struct entry on = entry_on_device(3, 5 * PAGE_BYTES, 0);

	(void)state;
	entry_set(&s, on);
	assert_int_equal(entry_get(&s).bits, on.bits | kept);
	s.word = entry_on_device(3, 0, 9).bits;
	entry_set(&s, (struct entry){ entry_migrating(1).bits | kept });
	assert_int_equal(entry_get(&s).bits, entry_migrating(1).bits); /* nor can it bring them in */
}

static void marks_come_and_go_without_the_state(void **state)
{
	struct entry_slot s = { entry_migrating(7).bits };

	(void)state;
	entry_mark(&s, ENTRY_WAITERS | ENTRY_DEAD, 0);
	assert_int_equal(entry_get(&s).bits, entry_migrating(7).bits | ENTRY_WAITERS | ENTRY_DEAD);
	entry_mark(&s, ENTRY_ZAP, ENTRY_DEAD);
	assert_int_equal(entry_get(&s).bits, entry_migrating(7).bits | ENTRY_WAITERS | ENTRY_ZAP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_memory_is_the_word_0),
		cmocka_unit_test(an_entry_keeps_what_it_was_made_of),
		cmocka_unit_test(a_claim_keeps_its_token),
		cmocka_unit_test(a_token_names_slot_and_page),
		cmocka_unit_test(a_table_is_found_through_its_entry),
		cmocka_unit_test(legal_moves_are_made_and_others_abort),
		cmocka_unit_test(a_move_keeps_lock_and_huge_and_nothing_else),
		cmocka_unit_test(marks_come_and_go_without_the_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
