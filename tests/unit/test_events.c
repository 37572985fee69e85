/* SPDX-License-Identifier: MIT */
/*
 * src/fault/events.c. Messages are given by hand, in the order the kernel would give them; where pages arrive
 * afterwards the mapping really moves, and the kernel's own messages are read and forgotten (unit_space.h).
 */
#include "base/clock.h"
#include "fault/fault.h"

#include "unit_migrate.h"

static struct faults faults;
static struct reader reader;

static void apply(enum uffd_kind kind, uint64_t start_at, uint64_t end, uint64_t to)
{
	struct uffd_message m = { .kind = kind, .start = start_at, .end = end, .to = to };

	gate_enter(&sp.gate, GATE_EVENTS);
	event_apply(&reader, &m);
	gate_leave(&sp.gate, GATE_EVENTS);
}

static int make_small_reader(void **state)
{
	faults.m = &mig;
	reader.faults = &faults;
	return make_small(state) || mover_init(&reader.mover, &mig);
}

static int make_huge_reader(void **state)
{
	faults.m = &mig;
	reader.faults = &faults;
	return make_huge(state) || mover_init(&reader.mover, &mig);
}

static int unmake_reader(void **state)
{
	mover_fini(&reader.mover);
	return unmake(state);
}

/* mremap() onto a place inside mem; nothing else may be mapped where it came from. */
static void move_mapping(uint64_t from, uint64_t to, uint64_t bytes)
{
	assert_int_equal(addr_of(mremap((void *)(uintptr_t)from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
					(void *)(uintptr_t)to)),
			 to);
	assert_int_equal(addr_of(mmap((void *)(uintptr_t)from, bytes, PROT_NONE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)),
			 from);
}

/* What was page @first of block @from is in the program as page @to_first of block @b. */
static bool arrived(unsigned from, unsigned first, unsigned b, unsigned to_first, unsigned n)
{
	return bits_at(page(b, to_first), n * PAGE_BYTES) > 0 &&
	       holds(mem + (page(b, to_first) - at), from, first, first + n);
}

static void come_home(void)
{
	migrate_to_system(&mv, at, at + LEN, NULL, &t);
	assert_int_equal(t.error, 0);
	assert_int_equal(used(), 0);
}

/* ---- munmap ---- */

static void unmapping_a_block_frees_its_folio(void **state)
{
	uint64_t seq;

	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	seq = sp.event_seq;
	apply(UFFD_UNMAP, block(1), block(2), 0);
	assert_int_equal(used(), 0);
	assert_int_equal(fake.freed_order, BLOCK_ORDER);
	assert_int_equal(entry_at(1, 0).bits, 0); /* HUGE is gone too: the next mapping may be another */
	assert_int_equal(sp.counters.dropped_pages, PAGES_PER_BLOCK);
	assert_true(sp.event_seq > seq);
}

static void unmapping_a_part_splits_the_folio_and_frees_that(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	apply(UFFD_UNMAP, page(1, 10), page(1, 20), 0);
	assert_int_equal(fake.nr_splits, 10);
	assert_int_equal(fake.nr_frees, 3); /* 10-11, 12-15, 16-19 */
	assert_int_equal(entry_order(entry_at(1, 8)), 1);
	assert_int_equal(entry_order(entry_at(1, 20)), 2);
	assert_int_equal(entry_order(entry_at(1, 256)), 8);
	assert_int_equal(used(), BLOCK_BYTES - 10 * PAGE_BYTES);
	assert_int_equal(sp.counters.dropped_pages, 10);
	assert_int_equal(entry_at(1, 10).bits | entry_at(1, 19).bits, 0);
	assert_true(on_device(1, 0, 10) && on_device(1, 20, PAGES_PER_BLOCK));
	come_home();
	assert_true(at_home(1, 0, 10) && at_home(1, 20, PAGES_PER_BLOCK));
}

static void unmapping_across_blocks_takes_of_each_what_is_meant(void **state)
{
	(void)state;
	fill(1, 0, 20);
	fill(2, 0, 20);
	to_device(1, 0, 20);
	to_device(2, 0, 20);
	apply(UFFD_UNMAP, page(1, 10), page(2, 10), 0);
	assert_int_equal(used(), 20 * PAGE_BYTES);
	assert_true(on_device(1, 0, 10) && on_device(2, 10, 20));
	apply(UFFD_UNMAP, at, at + LEN, 0);
	assert_int_equal(used(), 0);
	assert_int_equal(entry_get(table_block(&sp.table, block(1), false)).bits, 0); /* one word again */
}

static void unmapping_what_was_never_heard_of_makes_no_words(void **state)
{
	uint64_t bytes = table_bytes(&sp.table), far = UINT64_C(0x0f0000000000);

	(void)state;
	apply(UFFD_UNMAP, far, far + GIB, 0);
	assert_int_equal(table_bytes(&sp.table), bytes);
	assert_null(table_block(&sp.table, far, false));
}

static void unmapped_pages_of_a_claim_are_dead(void **state)
{
	(void)state;
	fill_thp(1);
	start(1, 0, PAGES_PER_BLOCK);
	apply(UFFD_UNMAP, page(1, 10), page(1, 20), 0);
	assert_true(entry_has(entry_at(1, 10), ENTRY_DEAD) && !entry_has(entry_at(1, 10), ENTRY_ZAP));
	assert_false(entry_has(entry_at(1, 9), ENTRY_DEAD));
	finish();
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 10);
	assert_int_equal(used(), BLOCK_BYTES - 10 * PAGE_BYTES);
	assert_true(on_device(1, 0, 10) && on_device(1, 20, PAGES_PER_BLOCK));
}

/* ---- discards ---- */

static void discarded_pages_that_linux_has_are_marked(void **state)
{
	uint64_t seq = sp.event_seq, before = clock_ns() / 1000000000;

	(void)state;
	fill(1, 0, 20);
	apply(UFFD_REMOVE, page(1, 3), page(1, 5), 0);
	assert_true(entry_has(entry_at(1, 3), ENTRY_ZAP) && entry_has(entry_at(1, 4), ENTRY_ZAP));
	assert_int_equal(entry_at(1, 2).bits | entry_at(1, 5).bits, 0);
	assert_true(entry_zap_s(entry_at(1, 3)) >= before);
	assert_int_equal(sp.event_seq, seq); /* the mapping is the same */

	/* such pages do not leave; when they have gone they are holes like others */
	assert_true(collect(1, 0, 20));
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 2);
	assert_int_equal(pageset_count(&pc.copy), 18);
	isolate_pages(&mv, &pc, &t);
	give_up();
	assert_int_equal(map_discard(page(1, 3), 2 * PAGE_BYTES), 0);
	assert_true(collect(1, 0, 20));
	assert_int_equal(pageset_count(&pc.clear), 2);
	isolate_pages(&mv, &pc, &t);
	give_up();
}

static void a_discarded_block_is_marked_as_one(void **state)
{
	uint64_t far = UINT64_C(0x0f0040000000);

	(void)state;
	apply(UFFD_REMOVE, block(1), block(2), 0);
	assert_int_not_equal(entry_state(entry_get(table_block(&sp.table, block(1), false))), ENTRY_TABLE);
	assert_true(entry_has(entry_at(1, 0), ENTRY_ZAP));
	apply(UFFD_REMOVE, far, far + PAGE_BYTES, 0); /* also where nothing was ever claimed */
	assert_true(entry_has(table_peek(&sp.table, far), ENTRY_ZAP));
	assert_false(entry_has(table_peek(&sp.table, far + PAGE_BYTES), ENTRY_ZAP));
	apply(UFFD_UNMAP, far, far + PAGE_BYTES, 0);
	assert_int_equal(table_peek(&sp.table, far).bits, 0);
}

static void discarded_folios_are_freed(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	apply(UFFD_REMOVE, page(1, 10), page(1, 20), 0);
	assert_int_equal(used(), BLOCK_BYTES - 10 * PAGE_BYTES);
	assert_int_equal(entry_at(1, 10).bits, 0); /* nothing of it is left to vanish */
	apply(UFFD_REMOVE, block(1), block(2), 0);
	assert_int_equal(used(), 0);
}

static void a_discard_of_claimed_pages_outlives_the_claim(void **state)
{
	(void)state;
	fill(1, 0, 20);
	assert_true(collect(1, 0, 20));
	apply(UFFD_REMOVE, page(1, 3), page(1, 4), 0);
	assert_true(entry_has(entry_at(1, 3), ENTRY_DEAD) && entry_has(entry_at(1, 3), ENTRY_ZAP));
	isolate_pages(&mv, &pc, &t);
	assert_true(entry_has(entry_at(1, 3), ENTRY_ZAP));
	assert_true(at_home(1, 3, 4));
	give_up();
}

static void our_own_discards_are_nobodys_business(void **state)
{
	uint64_t slot = mig.staging.window;

	(void)state;
	apply(UFFD_REMOVE, slot, slot + BLOCK_BYTES, 0);
	assert_int_equal(table_peek(&sp.table, slot).bits, 0);
}

/* ---- mremap ---- */

static void a_block_that_moves_keeps_its_folio(void **state)
{
	uint64_t bits, seq;

	(void)state;
	fill_thp(0);
	to_device(0, 0, PAGES_PER_BLOCK);
	bits = entry_at(0, 0).bits;
	seq = sp.event_seq;
	move_mapping(block(0), block(2), BLOCK_BYTES);
	apply(UFFD_REMAP, block(0), block(1), block(2));
	assert_true(sp.event_seq > seq);
	assert_int_equal(entry_at(2, 0).bits, bits);
	assert_int_equal(entry_state(entry_at(0, 0)), ENTRY_SYSTEM);
	assert_int_equal(fake.nr_splits, 0);
	apply(UFFD_UNMAP, block(0), block(1), 0); /* as always, and of what is not there any more */
	assert_int_equal(used(), BLOCK_BYTES);
	come_home();
	assert_true(arrived(0, 0, 2, 0, PAGES_PER_BLOCK));
	assert_true(is_huge(&sp, block(2)));
}

static void pages_that_move_keep_their_folios(void **state)
{
	(void)state;
	fill_thp(0);
	to_device(0, 0, PAGES_PER_BLOCK);
	move_mapping(page(0, 3), page(2, 100), 20 * PAGE_BYTES);
	apply(UFFD_REMAP, page(0, 3), page(0, 23), page(2, 100));
	assert_int_equal(entry_state(entry_at(0, 3)) | entry_state(entry_at(0, 22)), ENTRY_SYSTEM);
	assert_int_equal(entry_state(entry_at(2, 99)) | entry_state(entry_at(2, 120)), ENTRY_SYSTEM);
	for (unsigned k = 0; k < 20; k++)
		assert_int_equal(entry_state(entry_at(2, 100 + k)), ENTRY_DEVICE);
	assert_true(on_device(0, 0, 3) && on_device(0, 23, PAGES_PER_BLOCK));
	apply(UFFD_UNMAP, page(0, 3), page(0, 23), 0);
	assert_int_equal(used(), BLOCK_BYTES);
	come_home();
	assert_true(arrived(0, 3, 2, 100, 20));
	assert_true(at_home(0, 0, 3) && at_home(0, 23, PAGES_PER_BLOCK));
}

static void a_block_that_moves_across_blocks_goes_in_what_is_aligned_there(void **state)
{
	(void)state;
	fill_thp(0);
	to_device(0, 0, PAGES_PER_BLOCK);
	move_mapping(block(0), page(2, 100), BLOCK_BYTES);
	apply(UFFD_REMAP, block(0), block(1), page(2, 100));
	apply(UFFD_UNMAP, block(0), block(1), 0);
	assert_int_equal(entry_state(entry_at(2, 99)), ENTRY_SYSTEM);
	assert_int_equal(entry_state(entry_at(3, 99)), ENTRY_DEVICE);
	assert_int_equal(entry_state(entry_at(3, 100)), ENTRY_SYSTEM);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_int_equal(entry_order(table_peek(&sp.table, page(2, 100 + i))), 2);
	come_home();
	assert_true(arrived(0, 0, 2, 100, PAGES_PER_BLOCK - 100));
	assert_true(arrived(0, PAGES_PER_BLOCK - 100, 3, 0, 100));
}

static void folios_move_as_far_as_they_are_aligned(void **state)
{
	(void)state;
	put_in(0, 4);
	move_mapping(page(0, 24), page(2, 72), 100 * PAGE_BYTES); /* to where a multiple of 16 pages away */
	apply(UFFD_REMAP, page(0, 24), page(0, 124), page(2, 72));
	apply(UFFD_UNMAP, page(0, 24), page(0, 124), 0);
	assert_int_equal(fake.nr_splits, 1 + 2); /* at 24; at 124, from 112: 8 and 4 and 4 */
	assert_int_equal(entry_order(entry_at(2, 72)), 3);
	assert_int_equal(entry_order(entry_at(2, 80)), 4);
	assert_int_equal(entry_order(entry_at(2, 168)), 2);
	assert_int_equal(entry_order(entry_at(0, 124)), 2);
	assert_int_equal(used(), BLOCK_BYTES);
	come_home();
	assert_true(arrived(0, 24, 2, 72, 100));
	assert_true(at_home(0, 0, 24) && at_home(0, 124, PAGES_PER_BLOCK));
}

static void folios_in_the_way_are_cut_and_freed(void **state)
{
	(void)state;
	put_in(0, 4);
	put_in(2, 8);
	move_mapping(page(0, 16), page(2, 100), 16 * PAGE_BYTES);
	apply(UFFD_REMAP, page(0, 16), page(0, 32), page(2, 100));
	apply(UFFD_UNMAP, page(0, 16), page(0, 32), 0);
	assert_int_equal(used(), 2 * BLOCK_BYTES - 16 * PAGE_BYTES);
	for (unsigned i = 100; i < 116; i++)
		assert_int_equal(entry_order(entry_at(2, i)), 2);
	assert_true(on_device(2, 0, 100) && on_device(2, 116, PAGES_PER_BLOCK));
	come_home();
	assert_true(arrived(0, 16, 2, 100, 16));
	assert_true(at_home(2, 0, 100) && at_home(2, 116, PAGES_PER_BLOCK));
}

/*
 * One thread's mremap leaves a place, another's arrives there, and the first one's UNMAP is heard of last: what has arrived was freed, and
 * the second thread read zeros.
 */
static void an_mremaps_own_unmap_does_not_drop_what_has_arrived_since(void **state)
{
	(void)state;
	fill_thp(0);
	to_device(0, 0, PAGES_PER_BLOCK);
	fill(1, 0, 20);
	to_device(1, 0, 20);
	move_mapping(block(0), block(2), BLOCK_BYTES);
	apply(UFFD_REMAP, block(0), block(1), block(2));
	munmap((void *)(uintptr_t)block(0), BLOCK_BYTES);
	move_mapping(block(1), block(0), BLOCK_BYTES);
	apply(UFFD_REMAP, block(1), block(2), block(0));
	apply(UFFD_UNMAP, block(0), block(1), 0); /* of the first */
	apply(UFFD_UNMAP, block(1), block(2), 0);
	assert_int_equal(used(), BLOCK_BYTES + 20 * PAGE_BYTES);
	come_home();
	assert_true(arrived(0, 0, 2, 0, PAGES_PER_BLOCK));
	assert_true(arrived(1, 0, 0, 0, 20));
	/* and the next UNMAP of the place is a real one */
	to_device(0, 0, 20);
	apply(UFFD_UNMAP, block(0), block(1), 0);
	assert_int_equal(used(), 0);
}

/* No UNMAP comes of it; the one that comes later is the program's, and what is on the device by then must go. */
static void an_unmap_after_dontunmap_is_the_programs(void **state)
{
	(void)state;
	fill_thp(0);
	to_device(0, 0, PAGES_PER_BLOCK);
	assert_int_equal(addr_of(mremap((void *)(uintptr_t)block(0), BLOCK_BYTES, BLOCK_BYTES,
					MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, (void *)(uintptr_t)block(2))),
			 block(2));
	apply(UFFD_REMAP, block(0), block(1), block(2));
	fill(0, 0, 20);
	to_device(0, 0, 20);
	assert_int_equal(used(), BLOCK_BYTES + 20 * PAGE_BYTES);
	apply(UFFD_UNMAP, block(0), block(1), 0);
	assert_int_equal(used(), BLOCK_BYTES);
	come_home();
	assert_true(arrived(0, 0, 2, 0, PAGES_PER_BLOCK));
}

/* As above, where nothing is ever taken out of the program any more, as in a child: what comes home shows it, too. */
static void what_comes_home_shows_that_no_unmap_is_to_come(void **state)
{
	(void)state;
	fill_thp(0);
	to_device(0, 0, PAGES_PER_BLOCK);
	fill(1, 0, 20);
	to_device(1, 0, 20);
	assert_int_equal(addr_of(mremap((void *)(uintptr_t)block(0), BLOCK_BYTES, BLOCK_BYTES,
					MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, (void *)(uintptr_t)block(2))),
			 block(2));
	apply(UFFD_REMAP, block(0), block(1), block(2));
	assert_int_equal(sp.departed.nr, 1);
	migrate_to_system(&mv, block(2), block(3), NULL, &t);
	move_mapping(block(1), block(0), BLOCK_BYTES);
	apply(UFFD_REMAP, block(1), block(2), block(0));
	assert_int_equal(sp.departed.nr, 1); /* of this one */
	apply(UFFD_UNMAP, block(1), block(2), 0);
	assert_int_equal(used(), 20 * PAGE_BYTES);
	apply(UFFD_UNMAP, block(0), block(1), 0); /* the program's */
	assert_int_equal(used(), 0);
}

static struct {
	struct claim claim;
	atomic_bool done;
} claimer;

static void *claim_run(void *arg)
{
	struct claim_misses misses;

	(void)arg;
	(void)claim_system(&claimer.claim, &sp, block(0), 0, PAGES_PER_BLOCK, &misses);
	atomic_store(&claimer.done, true);
	return NULL;
}

/*
 * A page about to be discarded makes the claimer look a second time. When mremap has taken along what it had, the block is one word again:
 * claiming that as a whole made the claimer forget it, and the word stayed MIGRATING for ever.
 */
static void a_second_look_does_not_claim_a_block_whose_pages_have_left(void **state)
{
	struct pageset all;
	pthread_t id;

	(void)state;
	fill(0, 0, PAGES_PER_BLOCK);
	apply(UFFD_REMOVE, page(0, 7), page(0, 8), 0);
	gate_enter(&sp.gate, GATE_EVENTS);
	id = spawn(claim_run, NULL);
	while (entry_state(entry_at(0, 8)) != ENTRY_MIGRATING || entry_state(entry_at(0, PAGES_PER_BLOCK - 1)) != ENTRY_MIGRATING)
		sched_yield();
	/* the claimer waits at the gate before its second look */
	event_apply(&reader, &(struct uffd_message){ .kind = UFFD_REMAP, .start = block(0), .end = block(1), .to = page(2, 1) });
	gate_leave(&sp.gate, GATE_EVENTS);
	pthread_join(id, NULL);
	assert_true(atomic_load(&claimer.done) && !claimer.claim.whole);
	all = claimer.claim.mine;
	(void)claim_end_system(&claimer.claim, &all, false);
	assert_true(claim_empty(&claimer.claim));
	for (unsigned b = 0; b < NR_BLOCKS; b++)
		for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
			assert_int_equal(entry_state(entry_at(b, i)), ENTRY_SYSTEM);
}

static void discarding_a_part_of_a_folio_frees_that(void **state)
{
	(void)state;
	put_in(1, 4);
	fake.nr_frees = 0;
	apply(UFFD_REMOVE, page(1, 8), page(1, 21), 0);
	assert_int_equal(fake.nr_frees, 3); /* 8-15, 16-19, 20 */
	assert_int_equal(used(), BLOCK_BYTES - 13 * PAGE_BYTES);
	assert_int_equal(sp.counters.dropped_pages, 13);
	assert_true(on_device(1, 0, 8) && on_device(1, 21, PAGES_PER_BLOCK));
}

static void a_block_moves_into_a_place_that_has_words_for_pages(void **state)
{
	(void)state;
	fill_thp(0);
	fill(2, 0, 20);
	to_device(0, 0, PAGES_PER_BLOCK);
	to_device(2, 0, 20);
	move_mapping(block(0), block(2), BLOCK_BYTES);
	apply(UFFD_REMAP, block(0), block(1), block(2));
	assert_int_equal(fake.nr_splits, 0);
	assert_int_equal(entry_order(entry_at(2, 0)), BLOCK_ORDER); /* its words went with what was there */
	assert_int_equal(used(), BLOCK_BYTES);
	come_home();
	assert_true(arrived(0, 0, 2, 0, PAGES_PER_BLOCK));
}

static void what_was_on_the_device_at_the_new_place_is_freed(void **state)
{
	(void)state;
	fill_thp(0);
	fill_thp(2);
	to_device(0, 0, PAGES_PER_BLOCK);
	to_device(2, 0, PAGES_PER_BLOCK);
	assert_int_equal(used(), 2 * BLOCK_BYTES);
	move_mapping(block(0), block(2), BLOCK_BYTES);
	apply(UFFD_REMAP, block(0), block(1), block(2));
	assert_int_equal(used(), BLOCK_BYTES);
	assert_int_equal(sp.counters.dropped_pages, PAGES_PER_BLOCK);
	come_home();
	assert_true(arrived(0, 0, 2, 0, PAGES_PER_BLOCK));
}

static void memory_that_never_left_moves_and_frees_what_was_there(void **state)
{
	(void)state;
	fill(0, 0, 20);
	fill(2, 100, 120);
	to_device(2, 100, 120);
	to_device(0, 5, 6); /* so that each page has a word */
	move_mapping(page(0, 0), page(2, 100), 20 * PAGE_BYTES);
	apply(UFFD_UNMAP, page(2, 100), page(2, 120), 0); /* first comes what was there */
	apply(UFFD_REMAP, page(0, 0), page(0, 20), page(2, 100));
	assert_int_equal(used(), PAGE_BYTES);
	assert_int_equal(entry_state(entry_at(2, 105)), ENTRY_DEVICE);
	come_home();
	assert_true(arrived(0, 0, 2, 100, 20));
}

static void pages_in_a_claim_arrive_at_the_new_place(void **state)
{
	(void)state;
	fill_thp(0);
	isolate(0, 0, PAGES_PER_BLOCK);
	move_mapping(block(0), block(2), BLOCK_BYTES);
	apply(UFFD_REMAP, block(0), block(1), block(2));
	assert_int_equal(entry_state(entry_at(2, 0)), ENTRY_MIGRATING);
	assert_int_equal(entry_state(entry_at(0, 0)), ENTRY_SYSTEM);
	assert_int_equal(pc.claim.addr, block(2));
	give_up();
	assert_true(arrived(0, 0, 2, 0, PAGES_PER_BLOCK));
	assert_int_equal(entry_state(entry_at(2, 0)), ENTRY_SYSTEM);
}

static void pages_in_a_claim_are_followed_one_by_one(void **state)
{
	(void)state;
	fill(0, 0, 20);
	start(0, 0, 20);
	move_mapping(page(0, 3), page(2, 100), 5 * PAGE_BYTES);
	apply(UFFD_REMAP, page(0, 3), page(0, 8), page(2, 100));
	apply(UFFD_UNMAP, page(0, 3), page(0, 8), 0);
	finish();
	assert_int_equal(t.moved_folios[0], 20);
	assert_int_equal(entry_state(entry_at(0, 3)), ENTRY_SYSTEM);
	assert_int_equal(entry_state(entry_at(2, 100)), ENTRY_DEVICE);
	assert_true(on_device(0, 0, 3) && on_device(0, 8, 20));
	come_home();
	assert_true(arrived(0, 3, 2, 100, 5));
	assert_true(at_home(0, 0, 3) && at_home(0, 8, 20));
}

static void who_has_claimed_the_new_place_loses_it(void **state)
{
	struct claim other;
	struct claim_misses misses;
	struct pageset dead;

	(void)state;
	fill_thp(0);
	to_device(0, 0, PAGES_PER_BLOCK);
	assert_int_equal(claim_system(&other, &sp, block(2), 0, PAGES_PER_BLOCK, &misses), 0);
	move_mapping(block(0), block(2), BLOCK_BYTES);
	apply(UFFD_REMAP, block(0), block(1), block(2));
	claim_look(&other, &dead);
	assert_true(same_set(&dead, pageset_all));
	(void)claim_end_system(&other, &dead, false);
	assert_int_equal(entry_state(entry_at(2, 0)), ENTRY_DEVICE); /* whose it is */
	come_home();
	assert_true(arrived(0, 0, 2, 0, PAGES_PER_BLOCK));
}

static void a_discard_to_come_moves_along(void **state)
{
	(void)state;
	fill(0, 0, 20);
	apply(UFFD_REMOVE, page(0, 3), page(0, 5), 0);
	apply(UFFD_REMAP, page(0, 0), page(0, 20), page(2, 0));
	assert_true(entry_has(entry_at(2, 3), ENTRY_ZAP) && entry_has(entry_at(2, 4), ENTRY_ZAP));
	assert_int_equal(entry_at(2, 2).bits | entry_at(2, 5).bits | entry_at(0, 3).bits, 0);
}

#undef SMALL
#undef HUGE
#define SMALL(name) cmocka_unit_test_setup_teardown(name, make_small_reader, unmake_reader)
#define HUGE(name)  cmocka_unit_test_setup_teardown(name, make_huge_reader, unmake_reader)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(unmapping_a_block_frees_its_folio),
		HUGE(unmapping_a_part_splits_the_folio_and_frees_that),
		SMALL(unmapping_across_blocks_takes_of_each_what_is_meant),
		SMALL(unmapping_what_was_never_heard_of_makes_no_words),
		HUGE(unmapped_pages_of_a_claim_are_dead),
		SMALL(discarded_pages_that_linux_has_are_marked),
		SMALL(a_discarded_block_is_marked_as_one),
		HUGE(discarded_folios_are_freed),
		SMALL(a_discard_of_claimed_pages_outlives_the_claim),
		SMALL(our_own_discards_are_nobodys_business),
		HUGE(a_block_that_moves_keeps_its_folio),
		HUGE(pages_that_move_keep_their_folios),
		HUGE(a_block_that_moves_across_blocks_goes_in_what_is_aligned_there),
		SMALL(folios_move_as_far_as_they_are_aligned),
		SMALL(folios_in_the_way_are_cut_and_freed),
		HUGE(an_mremaps_own_unmap_does_not_drop_what_has_arrived_since),
		HUGE(an_unmap_after_dontunmap_is_the_programs),
		HUGE(what_comes_home_shows_that_no_unmap_is_to_come),
		SMALL(a_second_look_does_not_claim_a_block_whose_pages_have_left),
		SMALL(discarding_a_part_of_a_folio_frees_that),
		HUGE(a_block_moves_into_a_place_that_has_words_for_pages),
		HUGE(what_was_on_the_device_at_the_new_place_is_freed),
		SMALL(memory_that_never_left_moves_and_frees_what_was_there),
		HUGE(pages_in_a_claim_arrive_at_the_new_place),
		SMALL(pages_in_a_claim_are_followed_one_by_one),
		HUGE(who_has_claimed_the_new_place_loses_it),
		SMALL(a_discard_to_come_moves_along),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
