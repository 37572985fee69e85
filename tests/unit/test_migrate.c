/* SPDX-License-Identifier: MIT */
/* From a range to batches of pieces, and home again. The phases have tests of their own. */
#include "unit_migrate.h"

static struct batch batch;

static int make_batch(void **state)
{
	return make_small(state) || batch_init(&batch);
}

static int make_huge_batch(void **state)
{
	return make_huge(state) || batch_init(&batch);
}

static int unmake_batch(void **state)
{
	int r = unmake(state);

	batch_fini(&batch);
	return r;
}

static uint64_t fill_batch(uint64_t from, uint64_t to)
{
	return batch_fill(&mv, &batch, from, to, &d, &t);
}

/* As the workers do: all pieces of the batch, and its end. */
static void do_batch(void)
{
	for (unsigned i = 0; i < batch.nr; i++) {
		piece_start(&mv, &batch.piece[i], &t);
		piece_finish(&mv, &batch.piece[i], &t);
	}
	batch_end(&mv, &batch);
}

static void a_range_becomes_a_piece_a_block(void **state)
{
	(void)state;
	fill(1, 0, 20);
	fill_thp(2);
	assert_int_equal(fill_batch(page(1, 5), block(3)), block(3));
	assert_int_equal(batch.nr, 2);
	assert_true(batch.piece[0].busy && batch.piece[1].busy);
	assert_int_equal(batch.piece[0].claim.addr, block(1));
	assert_int_equal(pageset_count(&batch.piece[0].claim.mine), PAGES_PER_BLOCK - 5);
	assert_int_equal(batch.piece[1].kind, PIECE_HUGE);
	assert_int_equal(batch.arms, 1); /* one mapping */
	assert_int_equal(sp.nr_arming, 1);
	do_batch();
	assert_int_equal(sp.nr_arming, 0);
	assert_true(at_home(1, 0, 5) && on_device(1, 5, 20) && on_device(2, 0, PAGES_PER_BLOCK));
	assert_int_equal(t.error, 0);
}

static void a_piece_that_is_wanted_is_taken_first(void **state)
{
	(void)state;
	for (unsigned b = 0; b < 4; b++)
		fill(b, 0, 20);
	assert_int_equal(fill_batch(block(0), block(4)), block(4));
	assert_int_equal(batch.nr, 4);
	assert_ptr_equal(batch_take(&batch), &batch.piece[0]);
	atomic_store(&batch.piece[2].claim.wanted, true);
	assert_ptr_equal(batch_take(&batch), &batch.piece[2]);
	assert_int_not_equal(batch_take(&batch) - batch_take(&batch), 0);
	assert_int_equal(batch.taken, 4);
	do_batch();
}

/* Or a program that uses all of it all the time would let nothing leave. */
static void every_second_piece_may_return(void **state)
{
	(void)state;
	for (unsigned b = 0; b < 4; b++)
		fill(b, 0, 20);
	batch.evict = true;
	(void)fill_batch(block(0), block(4));
	for (unsigned b = 0; b < 4; b++)
		assert_int_equal(batch.piece[b].may_return, b & 1);
	do_batch();
	batch.evict = false;
	migrate_to_system(&mv, at, at + LEN, NULL, &t);
	(void)fill_batch(block(0), block(4));
	for (unsigned b = 0; b < 4; b++)
		assert_false(batch.piece[b].may_return);
	do_batch();
}

static void a_range_inside_a_block_takes_no_more(void **state)
{
	(void)state;
	fill(1, 0, 20);
	assert_int_equal(fill_batch(page(1, 5), page(1, 7)), page(1, 7));
	assert_int_equal(batch.nr, 1);
	do_batch();
	assert_true(at_home(1, 0, 5) && on_device(1, 5, 7) && at_home(1, 7, 20));
	assert_int_equal(used(), 2 * PAGE_BYTES);
}

static void what_cannot_go_is_counted_under_its_reason(void **state)
{
	(void)state;
	fill(0, 0, 4);
	fill(3, 0, 4);
	/* block 0, 10 pages read-only, then a gap to the end of block 1, then blocks 2 and 3 */
	assert_int_equal(mprotect(mem + BLOCK_BYTES, 10 * PAGE_BYTES, PROT_READ), 0);
	munmap(mem + (page(1, 10) - at), BLOCK_BYTES - 10 * PAGE_BYTES);
	assert_int_equal(fill_batch(at, at + LEN), at + LEN);
	/* the gap is made safe again: nothing else may be mapped there */
	assert_ptr_not_equal(mmap(mem + (page(1, 10) - at), BLOCK_BYTES - 10 * PAGE_BYTES, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			     MAP_FAILED);
	assert_int_equal(t.skipped[UHMM_SKIP_PROT], 10);
	assert_int_equal(t.skipped[UHMM_SKIP_UNMAPPED], PAGES_PER_BLOCK - 10);
	assert_int_equal(batch.nr, 3);
	assert_int_equal(batch.arms, 2);
	do_batch();
	assert_int_equal(t.moved_folios[0], 3 * PAGES_PER_BLOCK);
	assert_true(on_device(0, 0, 4) && on_device(3, 0, 4));
}

static void our_own_memory_stays(void **state)
{
	(void)state;
	assert_int_equal(fill_batch(addr_of(mv.bounce), addr_of(mv.bounce) + BLOCK_BYTES),
			 addr_of(mv.bounce) + BLOCK_BYTES);
	assert_int_equal(t.skipped[UHMM_SKIP_OWN], PAGES_PER_BLOCK);
	assert_int_equal(batch.nr, 0);
	batch_end(&mv, &batch);
}

static void a_full_batch_says_where_it_stopped(void **state)
{
	uint64_t bytes = (BATCH_PIECES + 2) * BLOCK_BYTES, stop;
	char *big = map_blocks(bytes, false);

	(void)state;
	for (unsigned b = 0; b < BATCH_PIECES + 2; b++)
		big[b * BLOCK_BYTES] = (char)(b + 1);
	atomic_store(&d.closing, 1); /* nothing of it shall be placed */
	stop = fill_batch(addr_of(big), addr_of(big) + bytes);
	assert_int_equal(batch.nr, BATCH_PIECES);
	assert_int_equal(stop, addr_of(big) + BATCH_PIECES * BLOCK_BYTES);
	do_batch();
	assert_int_equal(fill_batch(stop, addr_of(big) + bytes), addr_of(big) + bytes);
	assert_int_equal(batch.nr, 2);
	do_batch();
	atomic_store(&d.closing, 0);
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], (BATCH_PIECES + 2) * PAGES_PER_BLOCK);
	for (unsigned b = 0; b < BATCH_PIECES + 2; b++)
		assert_int_equal(big[b * BLOCK_BYTES], b + 1);
	assert_true(uffd_release(&sp.uffd, addr_of(big), addr_of(big) + bytes));
	unmap_blocks(big, bytes);
}

static void a_block_of_which_nothing_can_go_takes_no_piece(void **state)
{
	(void)state;
	fill(1, 0, 20);
	to_device(1, 0, 20);
	memset(&t, 0, sizeof(t));
	fill(2, 0, 1);
	assert_int_equal(fill_batch(block(1), page(1, 20)), page(1, 20));
	assert_int_equal(batch.nr, 0);
	assert_int_equal(t.skipped[UHMM_SKIP_ABSENT], 20);
	batch_end(&mv, &batch);

	/* collected, but MOVE takes nothing of it */
	fail_set("move:1:12", NULL);
	assert_int_equal(fill_batch(block(2), page(2, 1)), page(2, 1));
	assert_int_equal(batch.nr, 0);
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], 1);
	batch_end(&mv, &batch);
	assert_true(at_home(2, 0, 1));
}

static void what_the_kernel_will_not_watch_stays(void **state)
{
	(void)state;
	fill(1, 0, 20);
	fail_set("register:1:22", NULL);
	assert_int_equal(fill_batch(block(1), page(1, 20)), page(1, 20));
	assert_int_equal(t.skipped[UHMM_SKIP_REFUSED], 20);
	fail_set("register:1", NULL);
	assert_int_equal(fill_batch(block(1), page(1, 20)), page(1, 20));
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], 20);
	assert_int_equal(batch.nr + batch.arms, 0);
	assert_int_equal(t.error, 0);
	assert_true(at_home(1, 0, 20));
}

static void what_the_system_cannot_tell_is_an_error(void **state)
{
	static const char *const fails[] = { "procmap:1:5", "tasks:1:5" };

	(void)state;
	fill(1, 0, 20);
	for (unsigned k = 0; k < ARRAY_LEN(fails); k++) {
		memset(&t, 0, sizeof(t));
		fail_set(fails[k], NULL);
		assert_int_equal(fill_batch(block(1), page(1, 20)), block(1));
		assert_int_equal(t.error, -EIO);
		assert_int_equal(batch.nr, 0);
		batch_end(&mv, &batch);
	}
	assert_true(at_home(1, 0, 20));
}

/* ---- home ---- */

static void a_range_comes_home(void **state)
{
	(void)state;
	fill(1, 0, 20);
	fill(2, 0, 20);
	(void)fill_batch(at, at + LEN);
	do_batch();
	assert_true(on_device(1, 0, 20) && on_device(2, 0, 20));
	memset(&t, 0, sizeof(t));
	migrate_to_system(&mv, page(1, 5), page(2, 5), NULL, &t);
	assert_int_equal(t.moved_folios[0], PAGES_PER_BLOCK);
	assert_true(on_device(1, 0, 5) && at_home(1, 5, 20) && at_home(2, 0, 5) && on_device(2, 5, 20));
	migrate_to_system(&mv, 0, UINT64_MAX & ~(PAGE_BYTES - 1), &d, &t);
	assert_true(at_home(1, 0, 20) && at_home(2, 0, 20));
	assert_int_equal(used(), 0);
	assert_int_equal(t.error, 0);
}

/* A hook: the first folio cannot be read, the others can. */
static void refuse_three(void)
{
	fake.copy = fake.nr_waits++ < 3 ? -EIO : 0;
}

static void a_folio_that_cannot_be_read_says_nothing_of_the_others(void **state)
{
	struct said *said = said_start();

	(void)state;
	fill(1, 0, 20);
	fill(2, 0, 20);
	(void)fill_batch(page(1, 0), page(1, 20));
	do_batch();
	(void)fill_batch(page(2, 0), page(2, 20));
	do_batch();
	memset(&t, 0, sizeof(t));
	fake.hook = refuse_three;
	migrate_to_system(&mv, at, at + LEN, NULL, &t);
	fake.hook = NULL;
	assert_int_equal(said->nr, 1);
	said_end(said);
	assert_int_equal(t.error, -EIO);
	assert_int_equal(t.skipped[UHMM_SKIP_DEVICE], 20);
	assert_int_equal(t.moved_folios[0], 20);
	assert_true(on_device(1, 0, 20) && at_home(2, 0, 20));
}

static void no_memory_for_it_is_an_error_and_counted(void **state)
{
	(void)state;
	fill(1, 0, 20);
	(void)fill_batch(page(1, 0), page(1, 20));
	do_batch();
	memset(&t, 0, sizeof(t));
	fail_set("copy:1", NULL);
	migrate_to_system(&mv, at, at + LEN, NULL, &t);
	assert_int_equal(t.error, -ENOMEM);
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], 20);
	assert_true(on_device(1, 0, 20));
}

#undef SMALL
#undef HUGE
#define SMALL(name) cmocka_unit_test_setup_teardown(name, make_batch, unmake_batch)
#define HUGE(name)  cmocka_unit_test_setup_teardown(name, make_huge_batch, unmake_batch)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(a_range_becomes_a_piece_a_block),
		SMALL(a_piece_that_is_wanted_is_taken_first),
		SMALL(every_second_piece_may_return),
		SMALL(a_range_inside_a_block_takes_no_more),
		SMALL(what_cannot_go_is_counted_under_its_reason),
		SMALL(our_own_memory_stays),
		SMALL(a_full_batch_says_where_it_stopped),
		SMALL(a_block_of_which_nothing_can_go_takes_no_piece),
		SMALL(what_the_kernel_will_not_watch_stays),
		SMALL(what_the_system_cannot_tell_is_an_error),
		SMALL(a_range_comes_home),
		SMALL(a_folio_that_cannot_be_read_says_nothing_of_the_others),
		SMALL(no_memory_for_it_is_an_error_and_counted),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
