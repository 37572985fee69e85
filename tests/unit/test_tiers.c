/* SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "policy/policy.h"

#include "unit_next.h"

#define NS UINT64_C(1000000000)

static struct policy *p; /* not started: the case is its evictor */
static struct jobs *j;

static void *zeroed(size_t bytes)
{
	void *own = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return own == MAP_FAILED ? NULL : own;
}

static int start_tiers(void)
{
	p = zeroed(sizeof(*p));
	j = zeroed(sizeof(*j));
	if (!p || !j || jobs_init(j, &mig, 1) || stamps_init(&p->left))
		return -1;
	open_next(ALL_ORDERS_OF(FAKE_BYTES));
	p->sp = &sp;
	p->m = &mig;
	p->jobs = j;
	p->nr_devices = 2;
	p->device[0] = &d;
	p->device[1] = &next;
	return 0;
}

static int make_tiers(void **state)
{
	return make_small(state) || start_tiers();
}
static int make_tiers_huge(void **state)
{
	return make_huge(state) || start_tiers();
}

static int unmake_tiers(void **state)
{
	fake.copy = next_copy = 0;
	close_next();
	jobs_fini(j);
	stamps_fini(&p->left);
	munmap(p, sizeof(*p));
	munmap(j, sizeof(*j));
	return unmake(state);
}

#define TIERS(name) cmocka_unit_test_setup_teardown(name, make_tiers, unmake_tiers)
#define HUGE_TIERS(name) cmocka_unit_test_setup_teardown(name, make_tiers_huge, unmake_tiers)

/* Fills the first device: a block away since so many seconds ago, each; 0: nobody knows. */
static void fill_first(const unsigned *ago)
{
	uint64_t now = clock_ns();

	for (unsigned b = 0; b < NR_BLOCKS; b++) {
		put_in(b, b % 2 ? 9 : 2);
		stamps_set(&sp.faulted, block(b), now - 5000 * NS); /* of another case, perhaps later */
		if (ago[b])
			stamps_set(&p->left, block(b), now - ago[b] * NS);
	}
	assert_int_equal(used(), FAKE_BYTES);
}

static bool is_on(unsigned b, unsigned device)
{
	return device == INDEX ? on_device(b, 0, PAGES_PER_BLOCK) : on_next(b, 0, PAGES_PER_BLOCK);
}

static void room_follows_from_the_size(void **state)
{
	(void)state;
	assert_int_equal(tiers_room(BLOCK_BYTES), 0);
	assert_int_equal(tiers_room(2 * BLOCK_BYTES), BLOCK_BYTES);
	assert_int_equal(tiers_room(FAKE_BYTES), 2 * BLOCK_BYTES);
	assert_int_equal(tiers_room(512 * BLOCK_BYTES), 32 * BLOCK_BYTES);
	assert_int_equal(tiers_room(UINT64_C(1) << 40), 32 * BLOCK_BYTES);
}

static void what_has_been_away_longest_moves_on(void **state)
{
	static const unsigned ago[NR_BLOCKS] = { 30, 400, 20, 500 };

	(void)state;
	fill_first(ago);
	tiers_make_room(p, 0);
	assert_true(is_on(0, INDEX) && is_on(1, NEXT) && is_on(2, INDEX) && is_on(3, NEXT));
	assert_int_equal(p->onward_bytes, 2 * BLOCK_BYTES);
	assert_int_equal(p->busy_device, 0);
	tiers_make_room(p, 0); /* there is room now */
	assert_int_equal(p->onward_bytes, 2 * BLOCK_BYTES);
}

static void what_a_cpu_has_brought_back_in_part_counts_from_then(void **state)
{
	static const unsigned ago[NR_BLOCKS] = { 300, 400, 200, 500 };

	(void)state;
	fill_first(ago);
	stamps_set(&sp.faulted, block(3), clock_ns());
	tiers_make_room(p, 0);
	assert_true(is_on(0, NEXT) && is_on(1, NEXT) && is_on(2, INDEX) && is_on(3, INDEX));
}

static void no_more_than_wanted_is_gathered(void **state)
{
	static const unsigned ago[NR_BLOCKS] = { 200, 300, 400, 100 };
	struct range r[GATHER_MAX];

	(void)state;
	fill_first(ago);
	assert_int_equal(tiers_gather(p, INDEX, 1, r, GATHER_MAX), 1);
	assert_true(r[0].start == block(2) && r[0].end == block(3));
	assert_int_equal(tiers_gather(p, INDEX, BLOCK_BYTES + 1, r, GATHER_MAX), 2);
	assert_true(r[1].start == block(1) && r[1].end == block(2));
	assert_int_equal(tiers_gather(p, INDEX, FAKE_BYTES, r, 1), 1);
	assert_int_equal(tiers_gather(p, NEXT, FAKE_BYTES, r, GATHER_MAX), 0);
}

static void what_leaves_now_is_the_warmest(void **state)
{
	static const unsigned ago[NR_BLOCKS] = { 0, 0, 0, 0 };
	struct range leaves = { block(1), block(3) };

	(void)state;
	fill_first(ago);
	tiers_left(p, &leaves);
	tiers_make_room(p, 0);
	assert_true(is_on(0, NEXT) && is_on(1, INDEX) && is_on(2, INDEX) && is_on(3, NEXT));
}

static void nothing_moves_on_while_there_is_room(void **state)
{
	(void)state;
	put_in(0, 9);
	put_in(1, 9);
	tiers_make_room(p, 0);
	assert_int_equal(p->onward_bytes, 0);
	tiers_make_room(p, 2 * BLOCK_BYTES);
	assert_int_equal(p->onward_bytes, 0);
	put_in(2, 9);
	tiers_make_room(p, 0); /* half of the room is left: it does not begin */
	assert_int_equal(p->onward_bytes, 0);
	tiers_make_room(p, 2 * BLOCK_BYTES); /* but so much will come */
	assert_int_equal(p->onward_bytes, BLOCK_BYTES);
}

static void what_fails_is_not_tried_again_at_once(void **state)
{
	static const unsigned ago[NR_BLOCKS] = { 0, 0, 0, 0 };
	unsigned copies;

	(void)state;
	fill_first(ago);
	next_copy = -EIO;
	tiers_make_room(p, 0);
	assert_int_equal(p->onward_bytes, 0);
	assert_int_equal(used(), FAKE_BYTES);
	copies = fake.nr_copies;
	assert_true(p->onward_until_ns[0] > clock_ns() - NS);
	p->onward_until_ns[0] = UINT64_MAX;
	tiers_make_room(p, 0);
	assert_int_equal(fake.nr_copies, copies);
	p->onward_until_ns[0] = 0;
	next_copy = 0;
	p->full_until_ns[0] = UINT64_MAX;
	tiers_make_room(p, 0);
	assert_int_equal(p->onward_bytes, 2 * BLOCK_BYTES);
	assert_int_equal(p->full_until_ns[0], 0); /* what leaves may go there again */
}

static void the_last_device_keeps_what_it_has(void **state)
{
	static const unsigned ago[NR_BLOCKS] = { 0, 0, 0, 0 };

	(void)state;
	fill_first(ago);
	p->nr_devices = 1;
	tiers_make_room(p, BLOCK_BYTES);
	assert_int_equal(used(), FAKE_BYTES);
	p->nr_devices = 2;
	atomic_store(&next.closing, 1);
	tiers_make_room(p, BLOCK_BYTES);
	assert_int_equal(used(), FAKE_BYTES);
	atomic_store(&next.closing, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIERS(room_follows_from_the_size),
		TIERS(what_has_been_away_longest_moves_on),
		HUGE_TIERS(what_has_been_away_longest_moves_on),
		TIERS(what_a_cpu_has_brought_back_in_part_counts_from_then),
		TIERS(no_more_than_wanted_is_gathered),
		TIERS(what_leaves_now_is_the_warmest),
		TIERS(nothing_moves_on_while_there_is_room),
		TIERS(what_fails_is_not_tried_again_at_once),
		TIERS(the_last_device_keeps_what_it_has),
	};
	int r;

	if (migrate_start() || registry_add(&next_driver))
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
