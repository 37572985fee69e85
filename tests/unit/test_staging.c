/* SPDX-License-Identifier: MIT */
#include "unit_space.h"

#include "migrate/staging.h"

#define POOL_SLOTS 4u

static struct staging st;

static int make(void **state)
{
	(void)state;
	memset(&sp.counters, 0, sizeof(sp.counters));
	return staging_init(&st, &sp, POOL_SLOTS * BLOCK_BYTES);
}

static int unmake(void **state)
{
	(void)state;
	fail_set(NULL, NULL);
	staging_fini(&st);
	return 0;
}

static bool in_window(uint64_t slot) { return staging_is_window(&st, slot, slot + BLOCK_BYTES); }

/* A window slot with a THP full of @value, as an isolated page leaves one; 0 without THPs. */
static uint64_t thp_in_window(char value)
{
	uint64_t from = staging_take_thp(&st), slot, moved;

	if (!from || in_window(from))
		return from;
	memset((void *)(uintptr_t)from, value, BLOCK_BYTES);
	slot = staging_take_empty(&st, false);
	assert_true(slot && in_window(slot));
	assert_int_equal(uffd_move(&sp.uffd, slot, from, BLOCK_BYTES, 0, &moved), 0);
	assert_int_equal(moved, BLOCK_BYTES);
	staging_put_empty(&st, from);
	return slot;
}

static bool all_zero(uint64_t slot)
{
	const uint64_t *w = (const uint64_t *)(uintptr_t)slot;

	for (unsigned i = 0; i < BLOCK_BYTES / 8; i++)
		if (w[i])
			return false;
	return true;
}

static void empty_slots_are_distinct_and_in_the_window(void **state)
{
	uint64_t slot[20], own_start, own_end;

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		slot[i] = staging_take_empty(&st, i % 2);
		assert_true(block_aligned(slot[i]) && in_window(slot[i]));
		assert_true(map_is_own(slot[i], slot[i] + BLOCK_BYTES, &own_start, &own_end));
		assert_int_equal(bits_at(slot[i], BLOCK_BYTES), 0);
		for (unsigned k = 0; k < i; k++)
			assert_int_not_equal(slot[i], slot[k]);
	}
	for (unsigned i = 0; i < 20; i++)
		staging_put_empty(&st, slot[i]);
	assert_int_equal(staging_take_empty(&st, false), slot[19]);
}

static void the_window_ends_where_it_ends(void **state)
{
	(void)state;
	assert_true(staging_is_window(&st, st.window, st.window + 1));
	assert_false(staging_is_window(&st, st.window - PAGE_BYTES, st.window));
	assert_false(staging_is_window(&st, st.nursery, st.nursery + BLOCK_BYTES));
}

static void empty_slots_come_to_an_end(void **state)
{
	uint64_t slot, last = 0;
	unsigned n = 0;

	(void)state;
	while ((slot = staging_take_empty(&st, false))) {
		last = slot;
		assert_true(++n < 100000);
	}
	assert_true(n >= POOL_SLOTS);
	assert_int_equal(staging_take_empty(&st, true), 0);
	staging_put_empty(&st, last);
	assert_int_equal(staging_take_empty(&st, true), last);
}

static void a_fresh_thp_is_huge_and_not_of_the_window(void **state)
{
	uint64_t slot = staging_take_thp(&st);

	(void)state;
	if (!slot)
		skip();
	assert_false(in_window(slot));
	assert_int_equal(bits_at(slot, BLOCK_BYTES), PM_PRESENT | PM_HUGE);
	assert_int_equal(sp.counters.pool_fresh, 1);
	staging_put_thp(&st, slot); /* not needed after all: the kernel has it again */
	assert_int_equal(bits_at(slot, BLOCK_BYTES), 0);
	assert_int_equal(staging_pool_bytes(&st), 0);
	assert_int_equal(staging_take_thp(&st), slot);
	staging_put_thp(&st, slot);
}

static void a_thp_that_comes_back_is_used_again(void **state)
{
	uint64_t slot = thp_in_window(5);

	(void)state;
	if (!slot)
		skip();
	staging_put_thp(&st, slot);
	assert_int_equal(staging_pool_bytes(&st), BLOCK_BYTES);
	assert_int_equal(staging_take_thp(&st), slot);
	assert_int_equal(bits_at(slot, BLOCK_BYTES), PM_PRESENT | PM_HUGE);
	assert_int_equal(sp.counters.pool_hits, 1);
	assert_int_equal(sp.counters.pool_fresh, 1);
	assert_int_equal(staging_pool_bytes(&st), 0);
	staging_put_thp(&st, slot);
}

static void the_pool_keeps_no_more_than_its_bound(void **state)
{
	enum { N = POOL_SLOTS + 20 }; /* more than a batch too many */
	uint64_t slot[N];

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		slot[i] = thp_in_window(1);
		if (!slot[i])
			skip();
	}
	for (unsigned i = 0; i < N; i++)
		staging_put_thp(&st, slot[i]);
	assert_int_equal(staging_pool_bytes(&st), POOL_SLOTS * BLOCK_BYTES);
	assert_int_equal(sp.counters.pool_freed, N - POOL_SLOTS);
	for (unsigned i = POOL_SLOTS; i < N; i++)
		assert_int_equal(bits_at(slot[i], BLOCK_BYTES), 0); /* empty again, and huge pages fit */
	assert_true(st.nr_bin < 20);
	for (unsigned i = 0; i < POOL_SLOTS; i++)
		assert_int_equal(bits_at(slot[i], BLOCK_BYTES), PM_PRESENT | PM_HUGE);
}

static void a_drained_pool_holds_nothing_and_fills_again(void **state)
{
	uint64_t slot[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		slot[i] = thp_in_window(1);
		if (!slot[i])
			skip();
	}
	staging_put_thp(&st, slot[0]);
	staging_put_thp(&st, slot[1]);
	assert_int_equal(staging_drain_pool(&st), 2 * BLOCK_BYTES);
	assert_int_equal(staging_pool_bytes(&st), 0);
	assert_int_equal(bits_at(slot[0], BLOCK_BYTES), 0);
	assert_int_equal(staging_drain_pool(&st), 0);
	staging_put_thp(&st, slot[2]);
	assert_int_equal(staging_pool_bytes(&st), BLOCK_BYTES);
}

static void a_bin_that_refuses_makes_the_slot_dirty(void **state)
{
	uint64_t slot[POOL_SLOTS + 1];

	(void)state;
	for (unsigned i = 0; i <= POOL_SLOTS; i++) {
		slot[i] = thp_in_window(1);
		if (!slot[i])
			skip();
	}
	fail_set("move:1:16", NULL);
	for (unsigned i = 0; i <= POOL_SLOTS; i++)
		staging_put_thp(&st, slot[i]);
	assert_int_equal(staging_pool_bytes(&st), POOL_SLOTS * BLOCK_BYTES);
	assert_int_equal(staging_take_empty(&st, true), slot[POOL_SLOTS]); /* dirty ones serve pages first */
	assert_int_equal(bits_at(slot[POOL_SLOTS], BLOCK_BYTES), 0);
}

static void a_zeroed_thp_is_zero_fresh_or_not(void **state)
{
	uint64_t slot = thp_in_window(5), zeroed;

	(void)state;
	if (!slot)
		skip();
	staging_put_thp(&st, slot);
	zeroed = staging_take_zeroed(&st);
	assert_false(in_window(zeroed)); /* a fresh one is zero without our doing */
	assert_true(all_zero(zeroed));
	staging_put_thp(&st, zeroed);
	fail_set("thp:1", NULL);
	assert_int_equal(staging_take_zeroed(&st), slot);
	assert_true(all_zero(slot));
	staging_put_thp(&st, slot);
}

static void fresh_ones_come_to_an_end(void **state)
{
	uint64_t slot;
	unsigned n = 0;

	(void)state;
	fail_set("thp:3", NULL);
	while ((slot = staging_take_thp(&st)) && n < 10)
		n++;
	assert_true(n <= 2);
	assert_int_equal(sp.counters.pool_failed, 1);
}

static void without_thp_there_is_none(void **state)
{
	uint64_t slot = thp_in_window(5);

	(void)state;
	if (slot)
		staging_put_thp(&st, slot);
	fail_set(NULL, "thp");
	assert_int_equal(staging_take_thp(&st), 0);
	assert_int_equal(staging_take_zeroed(&st), 0);
	assert_true(sp.counters.pool_failed >= 1);
	assert_true(staging_take_empty(&st, true) != 0); /* slots there are all the same */
	fail_set(NULL, NULL);
	assert_int_equal(staging_take_thp(&st), slot);
}

/* A window slot with one base page in it. */
static uint64_t dirty_slot(void)
{
	uint64_t slot = staging_take_empty(&st, true), n;
	static char page[PAGE_BYTES];

	memset(page, 3, sizeof(page));
	assert_int_equal(uffd_copy(&sp.uffd, slot + 7 * PAGE_BYTES, page, PAGE_BYTES, 0, &n), 0);
	return slot;
}

static void dirty_slots_serve_pages_first_and_are_emptied(void **state)
{
	uint64_t slot = dirty_slot();

	(void)state;
	staging_put_dirty(&st, slot);
	assert_int_not_equal(staging_take_empty(&st, false), slot); /* a THP would arrive in pieces there */
	assert_int_equal(staging_take_empty(&st, true), slot);
	assert_int_equal(bits_at(slot, BLOCK_BYTES), 0);
	assert_true(drain.nr_removes > 0);
}

static void a_slot_that_cannot_be_emptied_stays_dirty(void **state)
{
	uint64_t slot = dirty_slot();

	(void)state;
	staging_put_dirty(&st, slot);
	fail_set("madvise:1", NULL);
	assert_int_equal(staging_take_empty(&st, true), 0);
	assert_int_equal(staging_take_empty(&st, true), slot);
	assert_int_equal(bits_at(slot, BLOCK_BYTES), 0);
}

static void a_nursery_slot_with_pages_is_emptied(void **state)
{
	uint64_t slot = staging_take_thp(&st);

	(void)state;
	if (!slot)
		skip();
	assert_int_equal(madvise((void *)(uintptr_t)slot, PAGE_BYTES, MADV_DONTNEED), 0);
	staging_put_dirty(&st, slot);
	assert_int_equal(bits_at(slot, BLOCK_BYTES), 0);
	assert_int_equal(staging_take_thp(&st) == slot, st.pt_reclaim); /* else it is forgotten */
}

static unsigned nr_own(void)
{
	uint64_t start, end, from = 0;
	unsigned n = 0;

	for (; map_is_own(from, UINT64_MAX, &start, &end); from = end)
		n++;
	return n;
}

static void every_failed_open_leaves_nothing(void **state)
{
	unsigned before = nr_own(), nr_failed = 0;

	(void)state;
	for (unsigned n = 1; n < 20; n++) {
		char fail[16];
		int r;

		snprintf(fail, sizeof(fail), "any:%u", n);
		fail_set(fail, NULL);
		r = staging_init(&st, &sp, POOL_SLOTS * BLOCK_BYTES);
		fail_set(NULL, NULL);
		assert_true(r <= 0);
		nr_failed += r < 0;
		if (!r)
			staging_fini(&st);
		assert_int_equal(nr_own(), before);
	}
	assert_true(nr_failed >= 5);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(empty_slots_are_distinct_and_in_the_window),
		CASE(the_window_ends_where_it_ends),
		CASE(empty_slots_come_to_an_end),
		CASE(a_fresh_thp_is_huge_and_not_of_the_window),
		CASE(a_thp_that_comes_back_is_used_again),
		CASE(the_pool_keeps_no_more_than_its_bound),
		CASE(a_drained_pool_holds_nothing_and_fills_again),
		CASE(a_bin_that_refuses_makes_the_slot_dirty),
		CASE(a_zeroed_thp_is_zero_fresh_or_not),
		CASE(fresh_ones_come_to_an_end),
		CASE(without_thp_there_is_none),
		CASE(dirty_slots_serve_pages_first_and_are_emptied),
		CASE(a_slot_that_cannot_be_emptied_stays_dirty),
		CASE(a_nursery_slot_with_pages_is_emptied),
		cmocka_unit_test(every_failed_open_leaves_nothing),
	};
	int r;

	if (space_start())
		return skip_all("no full userfaultfd with MOVE and events here");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
