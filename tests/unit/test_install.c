/* SPDX-License-Identifier: MIT */
#include "os/thread.h"

#include "unit_migrate.h"

/* ---- on a device ---- */

static void what_has_arrived_is_on_the_device(void **state)
{
	(void)state;
	fill_thp(1);
	start(1, 0, PAGES_PER_BLOCK);
	install_piece(&mv, &pc, &t);
	assert_true(claim_empty(&pc.claim));
	assert_int_equal(t.moved_folios[BLOCK_ORDER], 1);
	assert_int_equal(entry_order(entry_at(1, 0)), BLOCK_ORDER);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	release_piece(&mv, &pc);
}

static void dropped_pages_are_not_installed_and_their_folios_are_free(void **state)
{
	(void)state;
	fill(1, 0, 20);
	start(1, 0, 20);
	mark_page(1, 3, ENTRY_DEAD);
	mark_page(1, 4, ENTRY_DEAD | ENTRY_ZAP);
	finish();
	assert_int_equal(t.moved_folios[0], 18);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 2);
	assert_int_equal(sp.counters.dropped_pages, 2);
	assert_int_equal(used(), 18 * PAGE_BYTES);
	assert_int_equal(entry_at(1, 3).bits, 0);
	assert_int_equal(entry_at(1, 4).bits, 0); /* it left the page table before: nothing is to be discarded */
	assert_int_equal(bits_at(page(1, 3), 2 * PAGE_BYTES), 0);
	assert_true(on_device(1, 0, 3) && on_device(1, 5, 20));
}

static void a_folio_is_split_for_the_pages_that_were_dropped(void **state)
{
	(void)state;
	fill_thp(1);
	start(1, 0, PAGES_PER_BLOCK);
	mark_page(1, 3, ENTRY_DEAD);
	finish();
	assert_int_equal(fake.nr_splits, BLOCK_ORDER); /* in two, one of those in two, ... */
	for (unsigned k = 0; k < BLOCK_ORDER; k++)
		assert_int_equal(t.moved_folios[k], 1);
	assert_int_equal(t.moved_folios[BLOCK_ORDER], 0);
	assert_int_equal(used(), BLOCK_BYTES - PAGE_BYTES);
	assert_int_equal(entry_at(1, 3).bits, 0);
	assert_true(on_device(1, 0, 3) && on_device(1, 4, PAGES_PER_BLOCK));
}

static void start_in(unsigned b, unsigned order)
{
	fill(b, 0, PAGES_PER_BLOCK);
	isolate(b, 0, PAGES_PER_BLOCK);
	pc.limit = order + 1;
	piece_start(&mv, &pc, &t);
}

static void a_smaller_folio_is_split_for_them_too(void **state)
{
	(void)state;
	start_in(1, 4);
	mark_page(1, 35, ENTRY_DEAD);
	finish();
	assert_int_equal(fake.nr_splits, 4);
	assert_int_equal(t.moved_folios[4], 31);
	for (unsigned k = 0; k < 4; k++)
		assert_int_equal(t.moved_folios[k], 1);
	assert_int_equal(used(), BLOCK_BYTES - PAGE_BYTES);
	assert_true(on_device(1, 0, 35) && on_device(1, 36, PAGES_PER_BLOCK));
}

/* As an event would, of pages that are in the claim: each gets its word elsewhere. */
static void carry_away(unsigned first, unsigned end, unsigned to)
{
	for (unsigned i = first; i < end; i++) {
		struct entry_slot *from = table_block(&sp.table, block(1), true), *into = table_block(&sp.table, block(2), true), *s;
		struct entry e;

		block_lock(from);
		e = block_page(from, i, &s);
		entry_set(s, entry_system());
		block_unlock(from);
		claim_page_moved(&pc.claim, i, page(2, to + i - first));
		assert_int_equal(split_block(&mig, block(2)), 0);
		block_lock(into);
		(void)block_page(into, to + i - first, &s);
		entry_set(s, entry_migrating(TOKEN_MASK));
		entry_set(s, e);
		block_unlock(into);
	}
}

static void pages_that_moved_meanwhile_are_folios_of_their_own(void **state)
{
	(void)state;
	start_in(1, 4);
	carry_away(18, 40, 100);
	finish();
	/* 16-17 stay together, 18-31 and 32-39 are alone, 40-47 stay; all in the folios they were copied to */
	assert_int_equal(t.moved_folios[4], 30);
	assert_int_equal(t.moved_folios[3], 1);
	assert_int_equal(t.moved_folios[1], 1);
	assert_int_equal(t.moved_folios[0], 22);
	assert_int_equal(used(), BLOCK_BYTES);
	for (unsigned i = 18; i < 40; i++) {
		struct entry e = entry_at(2, 100 + i - 18);

		assert_int_equal(entry_state(e), ENTRY_DEVICE);
		assert_int_equal(entry_order(e), 0);
		assert_true(holds(memory + entry_offset(e), 1, i, i + 1));
		assert_int_equal(entry_at(1, i).bits, 0);
	}
	assert_true(on_device(1, 0, 18) && on_device(1, 40, PAGES_PER_BLOCK));
}

static void a_block_that_was_dropped_leaves_nothing(void **state)
{
	(void)state;
	fill_thp(1);
	start(1, 0, PAGES_PER_BLOCK);
	mark_block(1, ENTRY_DEAD);
	finish();
	assert_int_equal(used(), 0);
	assert_int_equal(fake.freed_order, BLOCK_ORDER);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], PAGES_PER_BLOCK);
	assert_int_equal(sp.counters.dropped_pages, PAGES_PER_BLOCK);
	assert_int_equal(t.moved_folios[BLOCK_ORDER], 0);
	assert_int_equal(entry_state(entry_at(1, 0)), ENTRY_SYSTEM);
	assert_int_equal(bits_at(block(1), BLOCK_BYTES), 0);
}

/* ---- holes ---- */

static void holes_seen_before_an_event_are_holes_again(void **state)
{
	(void)state;
	fill(1, 0, 5);
	start(1, 0, 20);
	atomic_fetch_add(&sp.event_seq, 1);
	finish();
	assert_int_equal(t.moved_folios[0], 5); /* pages with bytes are not in doubt */
	assert_int_equal(t.cleared_pages, 0);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 15);
	assert_int_equal(used(), 5 * PAGE_BYTES);
	assert_true(on_device(1, 0, 5));
	for (unsigned i = 5; i < 20; i++)
		assert_int_equal(entry_at(1, i).bits, 0);
}

static void a_folio_loses_the_holes_that_are_in_doubt(void **state)
{
	(void)state;
	fill(1, 0, 5);
	isolate(1, 0, 16);
	pc.limit = 4 + 1;
	piece_start(&mv, &pc, &t);
	assert_int_equal(fake.nr_allocs, 1);
	atomic_fetch_add(&sp.event_seq, 1);
	finish();
	assert_int_equal(t.moved_folios[2], 1);
	assert_int_equal(t.moved_folios[0], 1);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 11);
	assert_int_equal(used(), 5 * PAGE_BYTES);
	assert_true(on_device(1, 0, 5));
}

static void a_block_of_holes_seen_before_an_event_is_empty_again(void **state)
{
	(void)state;
	if (!vma_wants_huge(&sp, block(1)))
		skip();
	start(1, 0, PAGES_PER_BLOCK);
	assert_true(pc.folios.whole);
	atomic_fetch_add(&sp.event_seq, 1);
	finish();
	assert_int_equal(used(), 0);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], PAGES_PER_BLOCK);
	assert_int_equal(entry_state(entry_at(1, 0)), ENTRY_SYSTEM);
}

static void *install_run(void *arg)
{
	install_piece(&mv, &pc, &t);
	return arg;
}

/* Not for some time only: a reader that has no CPU reads it in the end. */
static void holes_wait_for_an_event_until_it_is_read(void **state)
{
	pthread_t causer, mover;

	(void)state;
	fill(1, 0, 5);
	start(1, 0, 20);
	causer = leave_an_event_unread(page(3, 0));
	mover = spawn(install_run, NULL);
	for (unsigned n = 0; n < 100; n++) {
		thread_pause(40);
		assert_int_equal(entry_state(entry_at(1, 5)), ENTRY_MIGRATING);
	}
	drain_resume();
	pthread_join(causer, NULL);
	pthread_join(mover, NULL);
	release_piece(&mv, &pc);
	assert_int_equal(t.moved_folios[0], 20);
	assert_int_equal(t.cleared_pages, 15);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 0);
}

/* A program whose every event is followed by the next one. */
static void holes_do_not_wait_for_ever_while_events_are_read(void **state)
{
	pthread_t causer, mover;

	(void)state;
	fill(1, 0, 5);
	start(1, 0, 20);
	causer = leave_an_event_unread(page(3, 0));
	mover = spawn(install_run, NULL);
	while (entry_state(entry_at(1, 5)) == ENTRY_MIGRATING) {
		gate_enter(&sp.gate, GATE_EVENTS);
		gate_leave(&sp.gate, GATE_EVENTS);
	}
	pthread_join(mover, NULL);
	drain_resume();
	pthread_join(causer, NULL);
	release_piece(&mv, &pc);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 15);
	assert_int_equal(used(), 5 * PAGE_BYTES);
	assert_true(on_device(1, 0, 5));
	assert_int_equal(entry_at(1, 5).bits, 0);
}

static void an_event_that_is_read_in_time_costs_no_hole(void **state)
{
	pthread_t id;

	(void)state;
	start(1, 0, 20);
	id = leave_an_event_unread(page(3, 0));
	drain_resume();
	pthread_join(id, NULL);
	install_piece(&mv, &pc, &t);
	release_piece(&mv, &pc);
	assert_int_equal(t.cleared_pages, 20);
}

/* ---- in the program ---- */

static void a_page_that_has_come_meanwhile_wins(void **state)
{
	(void)state;
	fill(1, 0, 20);
	isolate(1, 0, 20);
	assert_int_equal(uffd_zeropage(&sp.uffd, page(1, 3), PAGE_BYTES, 0), 0);
	give_up();
	assert_true(at_home(1, 0, 3) && at_home(1, 4, 20));
	assert_true(zeros_at(mem + (page(1, 3) - at), 1));
	assert_int_equal(entry_at(1, 3).bits, 0);
}

static void what_is_write_protected_is_copied_in(void **state)
{
	(void)state;
	fill(1, 0, 20);
	isolate(1, 0, 20);
	assert_int_equal(mprotect(mem, LEN, PROT_READ), 0);
	give_up();
	assert_true(at_home(1, 0, 20));
	assert_int_equal(mprotect(mem, LEN, PROT_READ | PROT_WRITE), 0);
}

static void two_mappings_get_what_is_theirs(void **state)
{
	(void)state;
	fill(1, 0, 20);
	isolate(1, 0, 20);
	assert_int_equal(mprotect(mem + (page(1, 7) - at), PAGE_BYTES, PROT_NONE), 0);
	give_up();
	assert_int_equal(mprotect(mem + (page(1, 7) - at), PAGE_BYTES, PROT_READ | PROT_WRITE), 0);
	assert_true(at_home(1, 0, 20));
}

static void whatever_refuses_once_all_of_it_goes_back(void **state)
{
	static const char *const refusals[] = { "move:1", "move:1:12", "move:1:17", "move:1:22", "move_report:1" };

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(refusals); k++) {
		fill(1, 0, 20);
		isolate(1, 0, 20);
		fail_set(refusals[k], NULL);
		give_up();
		fail_set(NULL, NULL);
		assert_true(at_home(1, 0, 20));
	}
}

static void whatever_refuses_a_thp_all_of_it_goes_back(void **state)
{
	static const char *const refusals[] = { "move:1", "move:1:12", "move:1:17", "move:1:22", "move_report:1" };

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(refusals); k++) {
		assert_int_equal(munmap(mem + BLOCK_BYTES, BLOCK_BYTES), 0);
		assert_ptr_equal(mmap(mem + BLOCK_BYTES, BLOCK_BYTES, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
				 mem + BLOCK_BYTES);
		assert_int_equal(madvise(mem + BLOCK_BYTES, BLOCK_BYTES, MADV_HUGEPAGE), 0);
		fill_thp(1);
		isolate(1, 0, PAGES_PER_BLOCK);
		fail_set(refusals[k], NULL);
		give_up();
		fail_set(NULL, NULL);
		assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	}
}

static void what_was_unmapped_meanwhile_is_forgotten(void **state)
{
	(void)state;
	fill(1, 0, 20);
	isolate(1, 0, 20);
	assert_int_equal(munmap(mem + (page(1, 5) - at), PAGE_BYTES), 0); /* nobody has told the table yet */
	give_up();
	assert_true(at_home(1, 0, 5) && at_home(1, 6, 20));
	assert_int_equal(entry_at(1, 5).bits, 0);
	assert_ptr_not_equal(mmap(mem + (page(1, 5) - at), PAGE_BYTES, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			     MAP_FAILED);
}

static void dropped_pages_do_not_come_back(void **state)
{
	(void)state;
	fill(1, 0, 20);
	isolate(1, 0, 20);
	mark_page(1, 5, ENTRY_DEAD);
	give_up();
	assert_true(at_home(1, 0, 5) && at_home(1, 6, 20));
	assert_int_equal(bits_at(page(1, 5), PAGE_BYTES), 0);
	assert_int_equal(sp.counters.dropped_pages, 1);
}

/* What install_home() leaves is still claimed, and its caller decides. */
static void without_memory_pages_are_left_to_the_caller(void **state)
{
	struct pageset left, all;

	(void)state;
	fill(1, 0, 20);
	isolate(1, 0, 20);
	all = pc.claim.mine;
	fail_set("move:1:12", NULL);
	assert_false(install_home(&pc.claim, &all, pc.slot, true, &left));
	assert_true(same_set(&left, pages(0, 20)));
	assert_true(same_set(&pc.claim.mine, pages(0, 20)));
	give_up();
	assert_true(at_home(1, 0, 20));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(what_has_arrived_is_on_the_device),
		SMALL(dropped_pages_are_not_installed_and_their_folios_are_free),
		HUGE(a_folio_is_split_for_the_pages_that_were_dropped),
		SMALL(a_smaller_folio_is_split_for_them_too),
		SMALL(pages_that_moved_meanwhile_are_folios_of_their_own),
		HUGE(a_block_that_was_dropped_leaves_nothing),
		SMALL(holes_seen_before_an_event_are_holes_again),
		SMALL(a_folio_loses_the_holes_that_are_in_doubt),
		HUGE(a_block_of_holes_seen_before_an_event_is_empty_again),
		SMALL(holes_wait_for_an_event_until_it_is_read),
		SMALL(holes_do_not_wait_for_ever_while_events_are_read),
		SMALL(an_event_that_is_read_in_time_costs_no_hole),
		SMALL(a_page_that_has_come_meanwhile_wins),
		SMALL(what_is_write_protected_is_copied_in),
		SMALL(two_mappings_get_what_is_theirs),
		SMALL(whatever_refuses_once_all_of_it_goes_back),
		HUGE(whatever_refuses_a_thp_all_of_it_goes_back),
		SMALL(what_was_unmapped_meanwhile_is_forgotten),
		SMALL(dropped_pages_do_not_come_back),
		SMALL(without_memory_pages_are_left_to_the_caller),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
