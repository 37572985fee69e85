/* SPDX-License-Identifier: MIT */
/* What events do to a page under its claim, done here to the table by hand. The rest of claim.c is in test_claim.c. */
#include "base/clock.h"
#include "unit_space.h"

#include "migrate/claim.h"

static char *mem;
static uint64_t at, to;
static struct claim c;
static struct claim_misses misses;

static int make(void **state)
{
	(void)state;
	mem = map_blocks(4 * BLOCK_BYTES, false);
	at = addr_of(mem);
	to = at + 2 * BLOCK_BYTES;
	for (unsigned i = 0; i < 4; i++)
		atomic_store(&table_block(&sp.table, at + i * BLOCK_BYTES, true)->word, 0);
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	unmap_blocks(mem, 4 * BLOCK_BYTES);
	return 0;
}

static struct entry page_at(uint64_t addr, unsigned i) { return table_peek(&sp.table, addr + i * PAGE_BYTES); }

static struct pageset one(unsigned i)
{
	struct pageset s = { 0 };

	pageset_add(&s, i);
	return s;
}

static void claim_pages(unsigned first, unsigned end)
{
	assert_int_equal(claim_system(&c, &sp, at, first, end, &misses), 0);
}

/* As an event does: under the block's lock, with a word of its own for the page. */
static void change_page(uint64_t addr, unsigned i, uint64_t add, const struct entry *set)
{
	struct entry_slot *b = table_block(&sp.table, addr, true), *s;

	block_lock(b);
	assert_int_equal(block_split(&sp.table, b), 0);
	(void)block_page(b, i, &s);
	if (set)
		entry_set(s, *set);
	entry_mark(s, add, 0);
	block_unlock(b);
}

static void change_block(uint64_t addr, uint64_t add, const struct entry *set)
{
	struct entry_slot *b = table_block(&sp.table, addr, true);

	block_lock(b);
	if (set)
		entry_set(b, *set);
	entry_mark(b, add, 0);
	block_unlock(b);
}

static struct entry to_folio(void *ctx, struct entry now, unsigned i)
{
	(void)ctx;
	(void)now;
	(void)i;
	return entry_on_device(1, 0, BLOCK_ORDER);
}

static struct entry to_page(void *ctx, struct entry now, unsigned i)
{
	(void)ctx;
	(void)now;
	return entry_on_device(1, i * PAGE_BYTES, 0);
}

static void a_quiet_claim_has_nothing_dead(void **state)
{
	struct pageset dead = pageset_all;

	(void)state;
	claim_pages(0, PAGES_PER_BLOCK);
	claim_look(&c, &dead);
	assert_true(c.whole && pageset_empty(&dead) && pageset_empty(&c.moved));
	(void)claim_end_system(&c, &pageset_all, true);
}

static void a_split_under_the_claim_is_noticed(void **state)
{
	struct pageset dead;

	(void)state;
	claim_pages(0, PAGES_PER_BLOCK);
	change_page(at, 5, ENTRY_DEAD, NULL);
	assert_true(c.whole);
	assert_int_equal(claim_end_whole(&c, to_folio, NULL), CLAIM_WAS_SPLIT);
	assert_int_equal(entry_state(page_at(at, 6)), ENTRY_MIGRATING); /* nothing has changed */
	claim_look(&c, &dead);
	assert_false(c.whole);
	assert_int_equal(pageset_count(&dead), 1);
	assert_true(pageset_has(&dead, 5));
	(void)claim_end(&c, &pageset_all, to_page, NULL);
	assert_true(claim_empty(&c));
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_int_equal(page_at(at, i).bits, entry_on_device(1, i * PAGE_BYTES, 0).bits);
}

static void a_whole_block_may_die(void **state)
{
	struct pageset dead;

	(void)state;
	claim_pages(0, PAGES_PER_BLOCK);
	change_block(at, ENTRY_DEAD, NULL);
	claim_look(&c, &dead);
	assert_true(c.whole);
	assert_int_equal(pageset_count(&dead), PAGES_PER_BLOCK);
	(void)claim_end_system(&c, &dead, false);
	assert_int_equal(page_at(at, 0).bits, 0);
}

static void who_waits_is_told_at_the_end(void **state)
{
	struct pageset p = one(10);

	(void)state;
	claim_pages(0, PAGES_PER_BLOCK);
	change_block(at, ENTRY_WAITERS, NULL);
	assert_true(claim_end_system(&c, &pageset_all, true));
	claim_pages(0, PAGES_PER_BLOCK);
	change_block(at, ENTRY_WAITERS, NULL);
	assert_int_equal(claim_end_whole(&c, to_folio, NULL), 1);
	change_block(at, 0, &(struct entry){ 0 });

	claim_pages(10, 12);
	change_page(at, 11, ENTRY_WAITERS, NULL);
	assert_false(claim_end_system(&c, &p, true));
	p = one(11);
	assert_true(claim_end_system(&c, &p, true));
	assert_int_equal(page_at(at, 11).bits, 0);
}

static void a_pending_discard_keeps_its_mark_where_the_page_is(void **state)
{
	struct pageset p = one(10);

	(void)state;
	claim_pages(10, 12);
	change_page(at, 10, ENTRY_DEAD | ENTRY_ZAP, NULL);
	change_page(at, 11, ENTRY_DEAD | ENTRY_ZAP, NULL);
	(void)claim_end_system(&c, &p, true);
	assert_true(entry_state(page_at(at, 10)) == ENTRY_SYSTEM && entry_has(page_at(at, 10), ENTRY_ZAP));
	p = one(11);
	(void)claim_end_system(&c, &p, false);
	assert_int_equal(page_at(at, 11).bits, 0);
}

/* What a word says of a discard that was announced @ago_s seconds ago. */
static uint64_t announced(uint64_t ago_s)
{
	return entry_zapped(clock_ns() / 1000000000 - ago_s).bits;
}

static void a_discard_that_has_happened_is_over(void **state)
{
	(void)state;
	change_block(at, 0, &(struct entry){ announced(0) }); /* nothing was ever there */
	claim_pages(0, PAGES_PER_BLOCK);
	assert_true(c.whole);
	(void)claim_end_system(&c, &pageset_all, true);
	change_page(at, 10, 0, &(struct entry){ announced(0) });
	claim_pages(10, 11);
	assert_true(pageset_has(&c.mine, 10));
	(void)claim_end_system(&c, &(struct pageset){ { c.mine.w[0] } }, true);
	assert_int_equal(entry_get(table_block(&sp.table, at, false)).bits, 0);
}

/* Also behind so many runs of pages and holes that one look does not take them all in. */
static void a_discard_among_many_holes_is_over(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i += 2) {
		mem[i * PAGE_BYTES] = 1;
		change_page(at, i + 1, 0, &(struct entry){ announced(0) });
	}
	change_page(at, 500, 0, &(struct entry){ announced(0) }); /* still there */
	claim_pages(0, PAGES_PER_BLOCK);
	assert_int_equal(pageset_count(&misses.busy), 1);
	assert_true(pageset_has(&misses.busy, 500));
	assert_int_equal(pageset_count(&c.mine), PAGES_PER_BLOCK - 1);
	(void)claim_end_system(&c, &(struct pageset){ { c.mine.w[0], c.mine.w[1], c.mine.w[2], c.mine.w[3], c.mine.w[4],
							c.mine.w[5], c.mine.w[6], c.mine.w[7] } }, true);
}

/* MADV_FREE announces itself like a discard, and leaves the pages where they are. */
static void an_announcement_of_long_ago_holds_nothing_up(void **state)
{
	(void)state;
	memset(mem, 1, BLOCK_BYTES);
	change_block(at, 0, &(struct entry){ announced(60) });
	claim_pages(0, PAGES_PER_BLOCK);
	assert_true(c.whole);
	(void)claim_end_system(&c, &pageset_all, true);
	assert_int_equal(entry_get(table_block(&sp.table, at, false)).bits, 0);
}

static void a_page_about_to_be_discarded_is_busy(void **state)
{
	(void)state;
	memset(mem, 1, BLOCK_BYTES);
	change_block(at, 0, &(struct entry){ announced(0) });
	claim_pages(0, PAGES_PER_BLOCK);
	assert_true(claim_empty(&c));
	assert_int_equal(pageset_count(&misses.busy), PAGES_PER_BLOCK);
	assert_true(entry_has(page_at(at, 0), ENTRY_ZAP));
	change_page(at, 0, 0, NULL); /* a table now */
	claim_pages(3, 5);
	assert_true(claim_empty(&c));
	assert_int_equal(pageset_count(&misses.busy), 2);
}

static void a_page_that_another_has_now_is_dead(void **state)
{
	struct entry theirs = entry_migrating(12345), on_device = entry_on_device(2, BLOCK_BYTES, 0);
	struct pageset dead, mine;

	(void)state;
	claim_pages(10, 14);
	change_page(at, 11, 0, &theirs);
	change_page(at, 12, 0, &on_device);
	claim_look(&c, &dead);
	assert_int_equal(pageset_count(&dead), 2);
	assert_true(pageset_has(&dead, 11) && pageset_has(&dead, 12));
	mine = c.mine;
	assert_true(claim_end(&c, &mine, to_page, NULL)); /* better one wake too many */
	assert_true(claim_empty(&c));
	assert_int_equal(page_at(at, 11).bits, theirs.bits);
	assert_int_equal(page_at(at, 12).bits, on_device.bits);
	assert_int_equal(page_at(at, 13).bits, entry_on_device(1, 13 * PAGE_BYTES, 0).bits);
}

static void a_block_that_another_has_now_is_left_alone(void **state)
{
	struct entry theirs = entry_migrating(12345);
	struct pageset dead;

	(void)state;
	claim_pages(0, PAGES_PER_BLOCK);
	change_block(at, 0, &theirs);
	claim_look(&c, &dead);
	assert_int_equal(pageset_count(&dead), PAGES_PER_BLOCK);
	assert_int_equal(claim_end_whole(&c, to_folio, NULL), 1);
	assert_true(claim_empty(&c));
	assert_int_equal(page_at(at, 0).bits, theirs.bits);
}

/* mremap of a whole block in flight: the event carries the word to the new place and tells the claim. */
static void a_moved_block_is_followed(void **state)
{
	struct pageset dead;
	struct entry word;

	(void)state;
	claim_pages(0, PAGES_PER_BLOCK);
	word = page_at(at, 0);
	gate_enter(&sp.gate, GATE_EVENTS);
	change_block(at, 0, &(struct entry){ 0 });
	change_block(to, 0, &word);
	claim_block_moved(claim_of(&sp, word), to, table_block(&sp.table, to, true));
	gate_leave(&sp.gate, GATE_EVENTS);
	claim_look(&c, &dead);
	assert_true(c.whole && pageset_empty(&dead));
	assert_int_equal(claim_address(&c, 9), to + 9 * PAGE_BYTES);
	assert_int_equal(claim_end_whole(&c, to_folio, NULL), 0);
	assert_int_equal(page_at(to, 0).bits, entry_on_device(1, 0, BLOCK_ORDER).bits);
	assert_int_equal(page_at(at, 0).bits, 0);
}

/* mremap of page @i: to page @j of the block at @dst. */
static void move_page(unsigned i, uint64_t dst, unsigned j, uint64_t add)
{
	struct entry word;

	gate_enter(&sp.gate, GATE_EVENTS);
	change_page(at, i, 0, NULL); /* a word of its own, first */
	word = page_at(at, i);
	change_page(at, i, 0, &(struct entry){ 0 });
	if (entry_state(page_at(dst, j)) == ENTRY_DEVICE)
		change_page(dst, j, 0, &(struct entry){ 0 });
	change_page(dst, j, add, &word);
	claim_page_moved(claim_of(&sp, word), token_page(entry_token(word)), dst + j * PAGE_BYTES);
	gate_leave(&sp.gate, GATE_EVENTS);
}

static void moved_pages_end_where_they_are(void **state)
{
	struct pageset dead, mine;

	(void)state;
	claim_pages(10, 13);
	move_page(11, to, 77, 0);
	claim_look(&c, &dead);
	assert_true(pageset_empty(&dead));
	assert_int_equal(claim_address(&c, 10), at + 10 * PAGE_BYTES);
	assert_int_equal(claim_address(&c, 11), to + 77 * PAGE_BYTES);
	mine = c.mine;
	(void)claim_end(&c, &mine, to_page, NULL);
	assert_true(claim_empty(&c));
	assert_int_equal(page_at(at, 11).bits, 0);
	assert_int_equal(page_at(to, 77).bits, entry_on_device(1, 11 * PAGE_BYTES, 0).bits);
	assert_int_equal(page_at(at, 12).bits, entry_on_device(1, 12 * PAGE_BYTES, 0).bits);
}

static void a_page_moved_out_of_a_whole_block_splits_the_claim(void **state)
{
	struct pageset dead;

	(void)state;
	claim_pages(0, PAGES_PER_BLOCK);
	move_page(11, to, 0, 0);
	assert_int_equal(claim_end_whole(&c, to_folio, NULL), CLAIM_WAS_SPLIT);
	claim_look(&c, &dead);
	assert_true(!c.whole && pageset_empty(&dead));
	(void)claim_end(&c, &pageset_all, to_page, NULL);
	assert_true(claim_empty(&c));
	assert_int_equal(page_at(to, 0).bits, entry_on_device(1, 11 * PAGE_BYTES, 0).bits);
	assert_int_equal(page_at(at, 11).bits, 0);
	assert_int_equal(page_at(at, 511).bits, entry_on_device(1, 511 * PAGE_BYTES, 0).bits);
}

static void a_moved_page_may_die_at_its_new_place(void **state)
{
	struct pageset dead, mine;

	(void)state;
	claim_pages(10, 13);
	move_page(11, to, 11, ENTRY_DEAD);
	claim_look(&c, &dead);
	assert_int_equal(pageset_count(&dead), 1);
	assert_true(pageset_has(&dead, 11));
	mine = c.mine;
	(void)claim_end_system(&c, &mine, false);
	assert_int_equal(page_at(to, 11).bits, 0);
	assert_int_equal(page_at(at, 11).bits, 0);
	assert_true(claim_empty(&c));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_quiet_claim_has_nothing_dead),
		CASE(a_split_under_the_claim_is_noticed),
		CASE(a_whole_block_may_die),
		CASE(who_waits_is_told_at_the_end),
		CASE(a_pending_discard_keeps_its_mark_where_the_page_is),
		CASE(a_discard_that_has_happened_is_over),
		CASE(a_discard_among_many_holes_is_over),
		CASE(an_announcement_of_long_ago_holds_nothing_up),
		CASE(a_page_about_to_be_discarded_is_busy),
		CASE(a_page_that_another_has_now_is_dead),
		CASE(a_block_that_another_has_now_is_left_alone),
		CASE(a_moved_block_is_followed),
		CASE(moved_pages_end_where_they_are),
		CASE(a_page_moved_out_of_a_whole_block_splits_the_claim),
		CASE(a_moved_page_may_die_at_its_new_place),
	};
	int r;

	if (space_start())
		return skip_all("no full userfaultfd with MOVE and events here");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
