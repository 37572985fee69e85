/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "mem/check.h"

#define AT (UINT64_C(5) << 40)

static struct table t;
static struct buddy b;

static int make(void **state)
{
	(void)state;
	return table_init(&t) || buddy_init(&b, 4 * BLOCK_BYTES);
}

static int unmake(void **state)
{
	(void)state;
	table_fini(&t);
	buddy_fini(&b);
	return 0;
}

static struct buddy *device(void *ctx, unsigned index)
{
	(void)ctx;
	return index == 1 ? &b : NULL;
}

static const char *check(uint64_t *ret_addr) { return mem_check(&t, device, NULL, ret_addr); }

static void put(uint64_t bits) { atomic_store(&table_block(&t, AT, true)->word, bits); }

static void put_page(unsigned i, uint64_t bits)
{
	struct entry_slot *block = table_block(&t, AT, true), *s;

	block_lock(block);
	assert_int_equal(block_split(&t, block), 0);
	(void)block_page(block, i, &s);
	atomic_store(&s->word, bits);
	block_unlock(block);
}

static void sound_tables_pass(void **state)
{
	uint64_t at[2], addr;

	(void)state;
	assert_null(check(&addr)); /* an empty one */
	put(ENTRY_HUGE | ENTRY_ZAP);
	assert_null(check(&addr));
	put(entry_migrating(5).bits | ENTRY_WAITERS | ENTRY_DEAD | ENTRY_ZAP | ENTRY_HUGE);
	assert_null(check(&addr));
	assert_int_equal(buddy_alloc(&b, BLOCK_ORDER, &at[0]), 0);
	assert_int_equal(buddy_alloc(&b, 0, &at[1]), 0);
	put(entry_on_device(1, at[0], BLOCK_ORDER).bits);
	assert_null(check(&addr));
	put(0);
	put_page(7, entry_on_device(1, at[1], 0).bits | ENTRY_LOST);
	assert_null(check(&addr));
}

/* A block's word that is wrong. */
static void assert_wrong(uint64_t bits, const char *what)
{
	uint64_t addr = 0;
	const char *why;

	put(bits);
	why = check(&addr);
	assert_non_null(why);
	assert_non_null(strstr(why, what));
	assert_int_equal(addr, AT);
}

static void flags_belong_to_their_states(void **state)
{
	(void)state;
	assert_wrong(ENTRY_WAITERS, "flag");
	assert_wrong(ENTRY_DEAD, "flag");
	assert_wrong(ENTRY_LOST, "flag");
	assert_wrong(entry_migrating(5).bits | ENTRY_LOST, "flag");
	assert_wrong(entry_on_device(1, 0, BLOCK_ORDER).bits | ENTRY_ZAP, "flag");
}

static void states_without_a_meaning_are_found(void **state)
{
	(void)state;
	assert_wrong(ENTRY_EXCLUSIVE, "state");
	assert_wrong(7, "state");
}

static void a_claim_of_nobody_is_found(void **state)
{
	(void)state;
	assert_wrong(ENTRY_MIGRATING, "nobody");
}

static void folios_must_be_there_and_taken(void **state)
{
	(void)state;
	assert_wrong(entry_on_device(2, 0, BLOCK_ORDER).bits, "not open");
	assert_wrong(entry_on_device(1, 0, BLOCK_ORDER).bits, "free");
	assert_wrong(entry_on_device(1, 4 * BLOCK_BYTES, BLOCK_ORDER).bits, "free"); /* past its end */
}

static void a_wrong_page_is_named(void **state)
{
	uint64_t addr = 0;

	(void)state;
	put_page(7, entry_on_device(1, 0, 0).bits);
	assert_non_null(strstr(check(&addr), "free"));
	assert_int_equal(addr, AT + 7 * PAGE_BYTES);
	put_page(7, ENTRY_HUGE);
	assert_non_null(strstr(check(&addr), "flag"));
	put_page(7, entry_on_device(1, 0, BLOCK_ORDER).bits);
	assert_non_null(strstr(check(&addr), "larger"));
	put_page(7, 0);
	assert_null(check(&addr));
}

static void the_words_of_a_folio_must_agree(void **state)
{
	uint64_t at, addr, wrong[] = {
		entry_on_device(1, 0, 0).bits,   /* another order */
		0,                               /* dropped alone */
		entry_migrating(5).bits,         /* claimed alone */
		0,                               /* below: another's place; a flag */
		0,
	};

	(void)state;
	assert_int_equal(buddy_alloc(&b, 3, &at), 0);
	wrong[0] |= at + 5 * PAGE_BYTES;
	wrong[3] = entry_on_device(1, at + 4 * PAGE_BYTES, 3).bits;
	wrong[4] = entry_on_device(1, at + 5 * PAGE_BYTES, 3).bits | ENTRY_LOST;
	for (unsigned i = 0; i < 8; i++)
		put_page(16 + i, entry_on_device(1, at + i * PAGE_BYTES, 3).bits);
	assert_null(check(&addr));
	for (unsigned k = 0; k < sizeof(wrong) / sizeof(*wrong); k++) {
		put_page(21, wrong[k]);
		assert_non_null(check(&addr));
		put_page(21, entry_on_device(1, at + 5 * PAGE_BYTES, 3).bits);
	}
	assert_null(check(&addr));
	for (unsigned i = 0; i < 8; i++) { /* not aligned in the block */
		put_page(16 + i, 0);
		put_page(36 + i, entry_on_device(1, at + i * PAGE_BYTES, 3).bits);
	}
	assert_non_null(check(&addr));
	for (unsigned i = 0; i < 8; i++) { /* nor on the device */
		put_page(36 + i, 0);
		put_page(16 + i, entry_on_device(1, at + (i + 4) * PAGE_BYTES, 3).bits);
	}
	assert_non_null(strstr(check(&addr), "aligned"));
	for (unsigned i = 0; i < 8; i++)
		put_page(16 + i, 0);
}

static void a_block_has_a_folio_of_its_size(void **state)
{
	uint64_t at;

	(void)state;
	assert_int_equal(buddy_alloc(&b, 8, &at), 0);
	assert_wrong(entry_on_device(1, at, 8).bits, "size");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(sound_tables_pass),
		CASE(flags_belong_to_their_states),
		CASE(states_without_a_meaning_are_found),
		CASE(a_claim_of_nobody_is_found),
		CASE(folios_must_be_there_and_taken),
		CASE(a_wrong_page_is_named),
		CASE(the_words_of_a_folio_must_agree),
		CASE(a_block_has_a_folio_of_its_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
