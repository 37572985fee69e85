/* SPDX-License-Identifier: MIT */
/* Claims of whole blocks and of pages, by one thread; what events do to them is in test_claim_events.c. */
#include "unit_space.h"

#include "migrate/claim.h"

static char *mem;
static uint64_t at;
static struct claim c;
static struct claim_misses misses;

static int make(void **state)
{
	(void)state;
	mem = map_blocks(4 * BLOCK_BYTES, false);
	at = addr_of(mem);
	for (unsigned i = 0; i < 4; i++)
		atomic_store(&table_block(&sp.table, at + i * BLOCK_BYTES, true)->word, 0);
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	fail_set(NULL, NULL);
	unmap_blocks(mem, 4 * BLOCK_BYTES);
	return 0;
}

static struct entry page(unsigned i) { return table_peek(&sp.table, at + i * PAGE_BYTES); }
static struct entry_slot *block(void) { return table_block(&sp.table, at, false); }

/* What page @i of the claim says. */
static uint64_t word_of(unsigned i) { return entry_migrating(token_of_page(c.token, i)).bits; }

static struct pageset range(unsigned first, unsigned end)
{
	struct pageset s = { 0 };

	pageset_add_range(&s, first, end);
	return s;
}

static void assert_set(const struct pageset *got, unsigned first, unsigned end)
{
	struct pageset want = range(first, end);

	assert_memory_equal(got, &want, sizeof(want));
}

static void claim_pages(unsigned first, unsigned end)
{
	assert_int_equal(claim_system(&c, &sp, at, first, end, &misses), 0);
}

static void a_whole_block_is_one_word(void **state)
{
	(void)state;
	claim_pages(0, PAGES_PER_BLOCK);
	assert_true(c.whole);
	assert_false(claim_empty(&c));
	assert_set(&c.mine, 0, PAGES_PER_BLOCK);
	assert_true(pageset_empty(&misses.device) && pageset_empty(&misses.busy));
	assert_int_equal(page(7).bits, entry_migrating(c.token).bits);
	assert_int_equal(claim_address(&c, 7), at + 7 * PAGE_BYTES);
	assert_false(claim_end_system(&c, &pageset_all, true));
	assert_true(claim_empty(&c));
	assert_int_equal(entry_get(block()).bits, 0);
}

static void a_part_of_a_block_is_words_of_its_pages(void **state)
{
	(void)state;
	claim_pages(10, 20);
	assert_false(c.whole);
	assert_set(&c.mine, 10, 20);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_int_equal(page(i).bits, i >= 10 && i < 20 ? word_of(i) : 0);
	assert_false(claim_end_system(&c, &c.mine, true));
	assert_true(claim_empty(&c));
	assert_int_equal(entry_get(block()).bits, 0); /* one word again */
}

static void pages_of_a_claim_end_one_by_one(void **state)
{
	struct pageset some = range(12, 14);

	(void)state;
	claim_pages(10, 20);
	(void)claim_end_system(&c, &some, true);
	assert_int_equal(pageset_count(&c.mine), 8);
	assert_int_equal(page(12).bits, 0);
	assert_int_equal(entry_state(page(11)), ENTRY_MIGRATING);
	(void)claim_end_system(&c, &(struct pageset){ { c.mine.w[0] } }, true);
	assert_true(claim_empty(&c));
}

static void what_is_claimed_is_busy_to_others(void **state)
{
	struct claim other;

	(void)state;
	claim_pages(10, 20);
	assert_int_equal(claim_system(&other, &sp, at, 15, 25, &misses), 0);
	assert_int_not_equal(other.token, c.token);
	assert_set(&other.mine, 20, 25);
	assert_set(&misses.busy, 15, 20);
	(void)claim_end_system(&other, &(struct pageset){ { other.mine.w[0] } }, true);
	(void)claim_end_system(&c, &(struct pageset){ { c.mine.w[0] } }, true);

	claim_pages(0, PAGES_PER_BLOCK);
	assert_int_equal(claim_system(&other, &sp, at, 3, 5, &misses), 0);
	assert_true(claim_empty(&other));
	assert_set(&misses.busy, 3, 5);
	(void)claim_end_system(&c, &pageset_all, true);
}

static struct entry to_device(void *ctx, struct entry now, unsigned i)
{
	const uint64_t *offset = ctx;

	(void)now;
	return entry_on_device(i % 2 ? 2 : 1, *offset + i * PAGE_BYTES, 0);
}

static struct entry to_folio(void *ctx, struct entry now, unsigned i)
{
	(void)now;
	(void)i;
	return entry_on_device(1, *(const uint64_t *)ctx, BLOCK_ORDER);
}

static uint64_t offsets[PAGES_PER_BLOCK];
static struct folios folios = { .offset = offsets };

static void a_folio_is_claimed_whole_and_cut_on_demand(void **state)
{
	uint64_t offset = 6 * BLOCK_BYTES;
	unsigned device = 0;
	bool need_split;

	(void)state;
	claim_pages(0, PAGES_PER_BLOCK);
	assert_int_equal(claim_end_whole(&c, to_folio, &offset), 0);
	claim_pages(5, 9);
	assert_true(claim_empty(&c));
	assert_set(&misses.device, 5, 9);

	claim_device(&c, &sp, at, 0, 100, 0, &device, &folios, &need_split);
	assert_true(need_split && claim_empty(&c));
	claim_device(&c, &sp, at, 0, PAGES_PER_BLOCK, 2, &device, &folios, &need_split);
	assert_true(!need_split && claim_empty(&c)); /* on another device */
	claim_device(&c, &sp, at, 0, PAGES_PER_BLOCK, 0, &device, &folios, &need_split);
	assert_true(!need_split && c.whole);
	assert_int_equal(device, 1);
	assert_true(folios.whole);
	assert_int_equal(offsets[0], offset);
	(void)claim_end_system(&c, &pageset_all, true);
}

static struct entry to_folios_of_16(void *ctx, struct entry now, unsigned i)
{
	(void)now;
	return entry_on_device(1, *(const uint64_t *)ctx + i * PAGE_BYTES, 4);
}

static void a_folio_is_claimed_with_all_its_pages(void **state)
{
	uint64_t offset = 6 * BLOCK_BYTES;
	struct pageset pages = range(16, 48);
	unsigned device = 0;
	bool need_split;

	(void)state;
	claim_pages(16, 48);
	(void)claim_end(&c, &pages, to_folios_of_16, &offset);

	claim_device(&c, &sp, at, 20, 48, 0, &device, &folios, &need_split);
	assert_true(need_split && claim_empty(&c));
	claim_device(&c, &sp, at, 0, 33, 0, &device, &folios, &need_split);
	assert_true(need_split && claim_empty(&c));
	claim_device(&c, &sp, at, 20, 33, 2, &device, &folios, &need_split);
	assert_true(!need_split && claim_empty(&c)); /* on another device */
	claim_device(&c, &sp, at, 0, 32, 0, &device, &folios, &need_split);
	assert_false(need_split);
	assert_set(&c.mine, 16, 32);
	pages = range(16, 32);
	(void)claim_end(&c, &pages, to_folios_of_16, &offset);

	/* a page stands for its folio */
	claim_device(&c, &sp, at, 40, 41, 0, &device, &folios, NULL);
	assert_set(&c.mine, 32, 48);
	assert_false(folios.whole);
	for (unsigned i = 32; i < 48; i++) {
		assert_int_equal(folios.offset[i], offset + i * PAGE_BYTES);
		assert_int_equal(folios.order[i], 4);
	}
	pages = range(32, 48);
	(void)claim_end_system(&c, &pages, true);
	claim_device(&c, &sp, at, 40, 41, 0, &device, &folios, NULL);
	assert_true(claim_empty(&c));
	claim_device(&c, &sp, at, 0, PAGES_PER_BLOCK, 0, &device, &folios, NULL);
	assert_set(&c.mine, 16, 32);
	pages = range(16, 32);
	(void)claim_end_system(&c, &pages, true);
}

static void pages_are_claimed_from_one_device_at_a_time(void **state)
{
	uint64_t offset = 6 * BLOCK_BYTES;
	struct pageset pages = range(10, 20);
	bool need_split;
	unsigned device;

	(void)state;
	claim_pages(10, 20);
	(void)claim_end(&c, &pages, to_device, &offset);
	claim_pages(8, 22);
	assert_set(&misses.device, 10, 20);
	assert_int_equal(pageset_count(&c.mine), 4);
	(void)claim_end_system(&c, &(struct pageset){ { c.mine.w[0] } }, true);

	claim_device(&c, &sp, at, 11, 18, 0, &device, &folios, &need_split); /* the first of them says which */
	assert_false(need_split);
	assert_int_equal(device, 2);
	assert_int_equal(pageset_count(&c.mine), 4);
	for (unsigned i = 11; i < 18; i += 2) {
		assert_true(pageset_has(&c.mine, i));
		assert_int_equal(offsets[i], offset + i * PAGE_BYTES);
	}
	(void)claim_end_system(&c, &(struct pageset){ { c.mine.w[0] } }, true);
	claim_device(&c, &sp, at, 0, PAGES_PER_BLOCK, 1, &device, &folios, &need_split);
	assert_int_equal(device, 1);
	assert_int_equal(pageset_count(&c.mine), 5);
	(void)claim_end_system(&c, &(struct pageset){ { c.mine.w[0] } }, true);
	claim_device(&c, &sp, at, 0, PAGES_PER_BLOCK, 0, &device, &folios, &need_split);
	assert_int_equal(pageset_count(&c.mine), 1); /* page 19 is left */
	(void)claim_end_system(&c, &(struct pageset){ { c.mine.w[0] } }, true);
	assert_int_equal(entry_get(block()).bits, 0);
}

static void nothing_is_claimed_from_memory_never_heard_of(void **state)
{
	bool need_split = true;
	unsigned device = 77;

	(void)state;
	claim_device(&c, &sp, UINT64_C(77) << 30, 0, PAGES_PER_BLOCK, 0, &device, &folios, &need_split);
	assert_true(claim_empty(&c) && !need_split);
	assert_int_equal(device, 77);
}

static void without_memory_for_a_table_nothing_is_claimed(void **state)
{
	struct entry_slot *hoard[8192];
	unsigned nr = 0;

	(void)state;
	fail_set("mmap:1", NULL); /* what the last piece still has is used up first */
	while (nr < ARRAY_LEN(hoard) && (hoard[nr] = meta_alloc(&sp.table.tables)))
		nr++;
	fail_set("mmap:1", NULL);
	assert_int_equal(claim_system(&c, &sp, at, 3, 5, &misses), -ENOMEM);
	assert_true(claim_empty(&c));
	assert_int_equal(entry_get(block()).bits, 0);
	fail_set("mmap:1", NULL);
	assert_int_equal(claim_system(&c, &sp, at, 0, PAGES_PER_BLOCK, &misses), 0);
	assert_int_equal(claim_split(&c), -ENOMEM);
	assert_true(c.whole);
	(void)claim_end_system(&c, &pageset_all, true);
	while (nr)
		meta_free(&sp.table.tables, hoard[--nr]);
}

static void a_claim_splits_on_demand(void **state)
{
	struct pageset half = range(0, 256);

	(void)state;
	claim_pages(0, PAGES_PER_BLOCK);
	assert_int_equal(claim_split(&c), 0);
	assert_false(c.whole);
	assert_set(&c.mine, 0, PAGES_PER_BLOCK);
	assert_int_equal(claim_end_whole(&c, to_folio, &(uint64_t){ 0 }), CLAIM_WAS_SPLIT);
	(void)claim_end_system(&c, &half, true);
	assert_set(&c.mine, 256, PAGES_PER_BLOCK);
	(void)claim_end_system(&c, &(struct pageset){ { 0, 0, 0, 0, ~0ull, ~0ull, ~0ull, ~0ull } }, true);
	assert_int_equal(entry_get(block()).bits, 0);
}

static void a_claim_is_known_by_its_words_until_it_has_ended(void **state)
{
	struct entry e;

	(void)state;
	claim_pages(10, 20);
	e = page(15);
	assert_ptr_equal(claim_of(&sp, e), &c);
	(void)claim_end_system(&c, &(struct pageset){ { c.mine.w[0] } }, true);
	assert_null(claim_of(&sp, e));
	for (unsigned i = 0; i < MAX_CLAIMS; i++) /* nor has any other claim of before been left behind */
		assert_null(sp.claims[i]);
}

static void a_token_is_never_0(void **state)
{
	uint64_t token;

	(void)state;
	for (unsigned n = 0; n < 200; n++) {
		atomic_store(&sp.last_claim, n * (MAX_CLAIMS / 2)); /* all slots' and all uses' ends */
		claim_pages(0, PAGES_PER_BLOCK);
		token = entry_token(page(0));
		(void)claim_end_system(&c, &pageset_all, true);
		assert_int_equal(token, c.token);
		assert_in_range(token, 1, TOKEN_MASK);
	}
}

/* Several threads claim random parts of one block; no page is ever in two claims. */
static _Atomic uint32_t owner[PAGES_PER_BLOCK];
static _Atomic unsigned violations;

static void *claim_and_end(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;
	uint64_t seed = me;

	for (unsigned n = 0; n < 1000; n++) {
		unsigned first = next_random(&seed) % PAGES_PER_BLOCK, len = 1 + next_random(&seed) % PAGES_PER_BLOCK;
		unsigned end = n % 8 ? first + len : PAGES_PER_BLOCK;
		struct claim_misses m;
		struct pageset pages;
		struct claim mine;

		first = n % 8 ? first : 0;
		end = end < PAGES_PER_BLOCK ? end : PAGES_PER_BLOCK;
		if (claim_system(&mine, &sp, at, first, end, &m))
			continue;
		pages = mine.mine;
		pageset_for_each(&pages, i)
			if (atomic_exchange(&owner[i], me))
				atomic_fetch_add(&violations, 1);
		pageset_for_each(&pages, i)
			if (atomic_exchange(&owner[i], 0) != me)
				atomic_fetch_add(&violations, 1);
		(void)claim_end_system(&mine, &pages, true);
		if (!claim_empty(&mine))
			atomic_fetch_add(&violations, 1);
	}
	return NULL;
}

static void no_page_is_in_two_claims(void **state)
{
	pthread_t t[4];

	(void)state;
	for (uintptr_t i = 0; i < 4; i++)
		t[i] = spawn(claim_and_end, (void *)(i + 1));
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(violations, 0);
	assert_int_equal(entry_get(block()).bits, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_whole_block_is_one_word),
		CASE(a_part_of_a_block_is_words_of_its_pages),
		CASE(pages_of_a_claim_end_one_by_one),
		CASE(what_is_claimed_is_busy_to_others),
		CASE(a_folio_is_claimed_whole_and_cut_on_demand),
		CASE(a_folio_is_claimed_with_all_its_pages),
		CASE(pages_are_claimed_from_one_device_at_a_time),
		CASE(nothing_is_claimed_from_memory_never_heard_of),
		CASE(without_memory_for_a_table_nothing_is_claimed),
		CASE(a_claim_splits_on_demand),
		CASE(a_claim_is_known_by_its_words_until_it_has_ended),
		CASE(a_token_is_never_0),
		CASE(no_page_is_in_two_claims),
	};
	int r;

	if (space_start())
		return skip_all("no full userfaultfd with MOVE and events here");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
