/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include "unit_migrate.h"

static const char *slot(unsigned i)
{
	return (const char *)(uintptr_t)pc.slot + i * PAGE_BYTES;
}

/* In the slot, with their bytes, and no longer in the program. */
static bool isolated(unsigned b, unsigned first, unsigned end)
{
	return bits_at(page(b, first), (end - first) * PAGE_BYTES) == 0 &&
	       bits_at(addr_of(slot(first)), PAGE_BYTES) > 0 && holds(slot(first), b, first, end);
}

static void a_thp_leaves_as_one(void **state)
{
	(void)state;
	fill_thp(1);
	isolate(1, 0, PAGES_PER_BLOCK);
	assert_true(pc.claim.whole && pc.kind == PIECE_HUGE);
	assert_int_equal(pc.slot_holds, SLOT_THP);
	assert_int_equal(bits_at(pc.slot, BLOCK_BYTES), PM_PRESENT | PM_HUGE);
	assert_true(isolated(1, 0, PAGES_PER_BLOCK));
	give_up();
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_true(is_huge(&sp, block(1)));
}

static void base_pages_leave_and_holes_stay(void **state)
{
	(void)state;
	fill(1, 0, 5);
	fill(1, 100, 103);
	fill(1, 510, 512);
	isolate(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(pageset_count(&pc.copy), 10);
	assert_int_equal(pageset_count(&pc.clear), PAGES_PER_BLOCK - 10);
	assert_int_equal(pc.slot_holds, SLOT_DIRTY);
	assert_true(isolated(1, 0, 5) && isolated(1, 100, 103) && isolated(1, 510, 512));
	give_up();
	assert_true(at_home(1, 0, 5) && at_home(1, 100, 103) && at_home(1, 510, 512));
	assert_int_equal(bits_at(page(1, 5), PAGE_BYTES), 0);
}

/* ---- spans: pages, and the holes between them ---- */

static void fill_every_second(unsigned b)
{
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i += 2)
		fill(b, i, i + 1);
}

static bool every_second_isolated(unsigned b, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i += 2)
		if (!isolated(b, i, i + 1) || !pageset_has(&pc.copy, i) || !pageset_has(&pc.clear, i + 1))
			return false;
	return true;
}

static void every_second_page_leaves_by_one_move(void **state)
{
	(void)state;
	fill_every_second(1);
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	fail_set("move:2:12", NULL); /* a second one would leave a page behind */
	isolate_pages(&mv, &pc, &t);
	fail_set(NULL, NULL);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 0);
	assert_true(every_second_isolated(1, 0, PAGES_PER_BLOCK));
	piece_start(&mv, &pc, &t);
	finish();
	assert_int_equal(t.moved_folios[0], PAGES_PER_BLOCK);
	assert_int_equal(t.cleared_pages, PAGES_PER_BLOCK / 2);
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i += 2) {
		assert_true(on_device(1, i, i + 1));
		assert_true(zeros_at(bytes_away(1, i + 1), 1));
	}
}

static void discard_announced(unsigned b, unsigned i)
{
	struct entry_slot *s, *w = table_block(&sp.table, block(b), true);

	block_lock(w);
	(void)block_page(w, i, &s);
	entry_set(s, entry_zapped(clock_ns() / 1000000000));
	block_unlock(w);
}

/* In somebody else's claim, about to be discarded, dropped since: all between pages that go, and all there. */
static void what_is_not_ours_between_our_pages_is_not_taken(void **state)
{
	struct claim_misses misses;
	struct pageset page_5 = pages(5, 6);
	struct claim other;

	(void)state;
	fill(1, 0, 20);
	assert_int_equal(claim_system(&other, &sp, block(1), 5, 6, &misses), 0);
	fill_every_second(1);
	discard_announced(1, 9);
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	mark_page(1, 13, ENTRY_DEAD);
	mark_page(1, 51, ENTRY_DEAD); /* a hole */
	isolate_pages(&mv, &pc, &t);
	assert_int_equal(bits_at(page(1, 5), PAGE_BYTES), PM_PRESENT);
	assert_int_equal(bits_at(page(1, 9), PAGE_BYTES), PM_PRESENT);
	assert_int_equal(bits_at(page(1, 13), PAGE_BYTES), PM_PRESENT);
	assert_int_equal(bits_at(addr_of(slot(5)), PAGE_BYTES) | bits_at(addr_of(slot(9)), PAGE_BYTES) |
				 bits_at(addr_of(slot(13)), PAGE_BYTES), 0);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 4);
	assert_true(isolated(1, 0, 5) && isolated(1, 6, 9) && isolated(1, 10, 13) && isolated(1, 14, 20));
	assert_true(every_second_isolated(1, 20, 50) && every_second_isolated(1, 52, PAGES_PER_BLOCK));
	assert_false(pageset_has(&pc.clear, 51));
	give_up();
	(void)claim_end_system(&other, &page_5, true);
	assert_true(at_home(1, 0, 9) && at_home(1, 10, 20));
}

/* While nobody watched it the kernel has filled it: it is ours, and its bytes count. */
static void a_hole_that_was_filled_before_it_was_watched_again_goes_with_its_bytes(void **state)
{
	(void)state;
	fill(1, 0, 1);
	fill(1, 10, 11);
	assert_true(collect(1, 0, 20));
	assert_int_equal(uffd_unregister(&sp.uffd, at, at + LEN), 0); /* as a mapping that has been made anew */
	atomic_fetch_add(&sp.event_seq, 1);
	fill(1, 5, 6);
	isolate_pages(&mv, &pc, &t);
	assert_true(isolated(1, 0, 1) && isolated(1, 5, 6) && isolated(1, 10, 11));
	assert_int_equal(pageset_count(&pc.copy), 3);
	assert_int_equal(pageset_count(&pc.clear), 17);
	give_up();
	assert_true(at_home(1, 0, 1) && at_home(1, 5, 6) && at_home(1, 10, 11));
}

/* As a page that MADV_FREE has given up does when memory is short. */
static void a_page_that_has_become_a_hole_is_one(void **state)
{
	(void)state;
	fill(1, 0, 11);
	fill(1, 15, 16);
	assert_true(collect(1, 0, 20));
	assert_int_equal(map_discard(page(1, 0), PAGE_BYTES), 0); /* the drain reads the event, and tells nobody */
	assert_int_equal(map_discard(page(1, 5), PAGE_BYTES), 0);
	isolate_pages(&mv, &pc, &t);
	assert_true(isolated(1, 1, 5) && isolated(1, 6, 11) && isolated(1, 15, 16));
	assert_true(pageset_has(&pc.clear, 0) && pageset_has(&pc.clear, 5));
	assert_int_equal(pageset_count(&pc.copy), 10);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 0);
	give_up();
}

static void a_move_that_stops_among_holes_goes_on(void **state)
{
	static const char *const answers[] = { "move:1", "move_report:1", "move_report:1:16" };

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(answers); k++) {
		fill_every_second(k);
		assert_true(collect(k, 0, PAGES_PER_BLOCK));
		fail_set(answers[k], NULL);
		isolate_pages(&mv, &pc, &t);
		fail_set(NULL, NULL);
		assert_true(every_second_isolated(k, 0, PAGES_PER_BLOCK));
		assert_int_equal(pageset_count(&pc.copy), PAGES_PER_BLOCK / 2);
		give_up();
	}
}

static void a_part_of_a_thp_leaves_and_the_rest_stays(void **state)
{
	(void)state;
	fill_thp(1);
	isolate(1, 3, 200);
	assert_true(isolated(1, 3, 200));
	assert_true(at_home(1, 0, 3) && at_home(1, 200, PAGES_PER_BLOCK));
	give_up();
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
}

static void holes_take_no_slot(void **state)
{
	(void)state;
	isolate(1, 0, 20);
	assert_int_equal(pc.slot, 0);
	assert_int_equal(pageset_count(&pc.clear), 20);
	give_up();
}

static void without_a_slot_pages_stay_and_holes_go_on(void **state)
{
	uint64_t s;

	(void)state;
	fill(1, 0, 5);
	while ((s = staging_take_empty(&mig.staging, true)))
		;
	isolate(1, 0, 20);
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], 5);
	assert_true(at_home(1, 0, 5));
	assert_true(pageset_empty(&pc.copy));
	assert_true(same_set(&pc.clear, pages(5, 20)));
	give_up();
}

static void a_page_that_is_busy_for_a_moment_is_tried_again(void **state)
{
	static const char *const answers[] = { "move:1", "move:1:16", "move:1:22" }; /* EAGAIN; EBUSY, and nobody else maps it; EINVAL */

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(answers); k++) {
		fill(k, 0, 20);
		assert_true(collect(k, 0, 20));
		fail_set(answers[k], NULL);
		isolate_pages(&mv, &pc, &t);
		fail_set(NULL, NULL);
		assert_true(isolated(k, 0, 20));
		give_up();
	}
}

/* Reported as not moved, but gone: only the slot says so. */
static void what_a_move_took_without_saying_so_is_found(void **state)
{
	static const char *const answers[] = { "move_report:1", "move_report:1:16", "move_report:1:2" };

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(answers); k++) {
		unsigned before = (unsigned)t.skipped[UHMM_SKIP_RACED];

		fill(k, 0, 20);
		assert_true(collect(k, 0, 20));
		fail_set(answers[k], NULL);
		isolate_pages(&mv, &pc, &t);
		fail_set(NULL, NULL);
		assert_int_equal(pageset_count(&pc.copy), 20);
		assert_int_equal(t.skipped[UHMM_SKIP_RACED], before);
		assert_int_equal(t.skipped[UHMM_SKIP_PINNED], 0);
		assert_true(isolated(k, 0, 20));
		piece_start(&mv, &pc, &t);
		finish();
		assert_true(on_device(k, 0, 20));
	}
}

static void a_thp_that_a_move_took_without_saying_so_is_found(void **state)
{
	(void)state;
	fill_thp(1);
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	fail_set("move_report:1", NULL);
	isolate_pages(&mv, &pc, &t);
	assert_true(pc.claim.whole && pc.kind == PIECE_HUGE);
	assert_int_equal(pc.slot_holds, SLOT_THP);
	assert_true(isolated(1, 0, PAGES_PER_BLOCK));
	give_up();
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
}

static void a_page_is_left_behind_under_the_reason_of_its_refusal(void **state)
{
	static const struct {
		const char *fail;
		enum uhmm_skip why;
	} refusals[] = {
		{ "move:1:12", UHMM_SKIP_NO_ROOM },
		{ "move:1:2", UHMM_SKIP_RACED },
	};

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(refusals); k++) {
		memset(&t, 0, sizeof(t));
		fill(k, 0, 20);
		assert_true(collect(k, 0, 20));
		fail_set(refusals[k].fail, NULL);
		isolate_pages(&mv, &pc, &t);
		fail_set(NULL, NULL);
		assert_int_equal(t.skipped[refusals[k].why], 1); /* the run's first; the others are tried again */
		assert_true(at_home(k, 0, 1));
		assert_true(same_set(&pc.copy, pages(1, 20)));
		assert_true(isolated(k, 1, 20));
		give_up();
	}
}

/* Nothing can be put into a slot that is read-only, and nobody says that this is the reason. */
static void what_is_refused_for_good_is_left_behind(void **state)
{
	struct staging *st = &mig.staging;
	char *slots = (char *)(uintptr_t)st->window;

	(void)state;
	fill(1, 0, 20);
	assert_true(collect(1, 0, 20));
	assert_int_equal(mprotect(slots, st->nr_window * BLOCK_BYTES, PROT_READ), 0);
	isolate_pages(&mv, &pc, &t);
	assert_int_equal(mprotect(slots, st->nr_window * BLOCK_BYTES, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 20);
	assert_true(claim_empty(&pc.claim));
	assert_true(at_home(1, 0, 20));
	release_piece(&mv, &pc);
}

static void a_thp_is_left_behind_whole(void **state)
{
	(void)state;
	fill_thp(1);
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	fail_set("move:1:12", NULL);
	isolate_pages(&mv, &pc, &t);
	assert_int_equal(t.skipped[UHMM_SKIP_NO_ROOM], PAGES_PER_BLOCK);
	assert_true(claim_empty(&pc.claim));
	assert_true(is_huge(&sp, block(1)));
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	release_piece(&mv, &pc);
}

static void locked_pages_stay(void **state)
{
	(void)state;
	fill(1, 0, 20);
	if (syscall(SYS_mlock, mem + (page(1, 5) - at), 2 * PAGE_BYTES))
		skip();
	isolate(1, 5, 7);
	assert_int_equal(t.skipped[UHMM_SKIP_LOCKED], 2);
	assert_true(claim_empty(&pc.claim));
	assert_true(at_home(1, 5, 7));
	release_piece(&mv, &pc);
	syscall(SYS_munlock, mem + (page(1, 5) - at), 2 * PAGE_BYTES);
}

static void pages_shared_with_a_child_stay(void **state)
{
	int ends[2];
	char c;
	pid_t pid;

	(void)state;
	fill(1, 0, 20);
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		close(ends[1]);
		_exit((int)read(ends[0], &c, 1)); /* until the parent lets go */
	}
	fill(1, 10, 12); /* written since: the parent's own again */
	isolate(1, 0, 20);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(t.skipped[UHMM_SKIP_FORKED], 18);
	assert_true(same_set(&pc.copy, pages(10, 12)));
	assert_true(isolated(1, 10, 12));
	assert_true(at_home(1, 0, 10) && at_home(1, 12, 20));
	give_up();
}

static void what_an_event_has_marked_is_not_taken(void **state)
{
	(void)state;
	fill(1, 0, 20);
	assert_true(collect(1, 0, 20));
	mark_page(1, 3, ENTRY_DEAD);
	isolate_pages(&mv, &pc, &t);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 1);
	assert_true(at_home(1, 3, 4));
	assert_int_equal(pageset_count(&pc.copy), 19);
	assert_true(isolated(1, 0, 3) && isolated(1, 4, 20));
	give_up();
}

static void a_thp_that_an_event_has_split_leaves_as_pages(void **state)
{
	(void)state;
	fill_thp(1);
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	mark_page(1, 3, ENTRY_DEAD | ENTRY_ZAP);
	isolate_pages(&mv, &pc, &t);
	assert_int_equal(pc.kind, PIECE_PAGES);
	assert_false(pc.claim.whole);
	assert_true(at_home(1, 3, 4));
	assert_true(entry_has(entry_at(1, 3), ENTRY_ZAP)); /* the discard is still to come */
	assert_true(isolated(1, 0, 3) && isolated(1, 4, PAGES_PER_BLOCK));
	give_up();
}

static void after_an_event_the_range_is_armed_again(void **state)
{
	(void)state;
	fill(1, 0, 20);
	assert_true(collect(1, 0, 20));
	assert_int_equal(uffd_unregister(&sp.uffd, at, at + LEN), 0); /* as a mapping that has been made anew */
	atomic_fetch_add(&sp.event_seq, 1);
	isolate_pages(&mv, &pc, &t);
	assert_true(isolated(1, 0, 20));
	assert_int_equal(uffd_zeropage(&sp.uffd, page(1, 30), PAGE_BYTES, 0), 0); /* watched, or it would refuse */
	give_up();
	assert_true(at_home(1, 0, 20));
}

/* Of the pages of one claim, one has been mapped anew: to watch the others again is not to watch this one. */
static void after_an_event_each_mapping_is_armed_by_itself(void **state)
{
	char *alone = mem + (page(1, 10) - at);

	(void)state;
	fill(1, 0, 3);
	fill(1, 10, 11);
	fill(1, 20, 21);
	assert_true(collect(1, 0, 30));
	assert_ptr_equal(mmap(alone, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), alone);
	fill(1, 10, 11);
	atomic_fetch_add(&sp.event_seq, 1); /* the drain reads the event, and tells nobody */
	isolate_pages(&mv, &pc, &t);
	assert_true(isolated(1, 0, 3) && isolated(1, 10, 11) && isolated(1, 20, 21));
	give_up();
	assert_true(at_home(1, 0, 3) && at_home(1, 10, 11) && at_home(1, 20, 21)); /* where nobody watches nothing can be put back */
}

/* Nobody is told of it, so that one MOVE meets two mappings, and refuses. */
static void a_mapping_that_was_cut_without_a_word_is_seen_to_be(void **state)
{
	(void)state;
	fill(1, 0, 20);
	assert_true(collect(1, 0, 20));
	assert_int_equal(mprotect(mem + (page(1, 10) - at), PAGE_BYTES, PROT_READ), 0);
	isolate_pages(&mv, &pc, &t);
	assert_true(isolated(1, 0, 10) && isolated(1, 11, 20));
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 1);
	assert_true(at_home(1, 10, 11));
	give_up();
	assert_true(at_home(1, 0, 20));
	assert_int_equal(mprotect(mem, LEN, PROT_READ | PROT_WRITE), 0);
}

/* It is not one page table entry any more then, and what may go goes. */
static void a_thp_whose_mapping_was_cut_leaves_in_parts(void **state)
{
	(void)state;
	fill_thp(1);
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(mprotect(mem + (page(1, 10) - at), PAGE_BYTES, PROT_READ), 0);
	isolate_pages(&mv, &pc, &t);
	assert_true(isolated(1, 0, 10) && isolated(1, 11, PAGES_PER_BLOCK));
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 1);
	assert_true(!pc.claim.whole && at_home(1, 10, 11));
	give_up();
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(mprotect(mem, LEN, PROT_READ | PROT_WRITE), 0);
}

/* Both parts may go, so all of it does, into one folio. */
static void a_thp_in_two_mappings_leaves_as_one_folio(void **state)
{
	(void)state;
	fill_thp(1);
	assert_true(collect(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(madvise(mem + (page(1, 0) - at), BLOCK_BYTES / 2, MADV_DONTDUMP), 0);
	isolate_pages(&mv, &pc, &t);
	assert_true(isolated(1, 0, PAGES_PER_BLOCK));
	piece_start(&mv, &pc, &t);
	finish();
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(t.moved_folios[BLOCK_ORDER], 1);
}

static void a_mapping_that_has_become_unfit_keeps_its_pages(void **state)
{
	(void)state;
	fill(1, 0, 20);
	assert_true(collect(1, 0, 20));
	assert_int_equal(mprotect(mem, LEN, PROT_READ), 0);
	atomic_fetch_add(&sp.event_seq, 1);
	isolate_pages(&mv, &pc, &t);
	assert_int_equal(t.skipped[UHMM_SKIP_RACED], 20);
	assert_true(claim_empty(&pc.claim));
	assert_true(at_home(1, 0, 20));
	release_piece(&mv, &pc);
	assert_int_equal(mprotect(mem, LEN, PROT_READ | PROT_WRITE), 0);
}

static void *resume_run(void *arg)
{
	(void)arg;
	sched_yield();
	drain_resume();
	return NULL;
}

/* Every MOVE answers EAGAIN meanwhile: that says nothing of the pages, however long it takes. */
static void an_unread_event_only_delays(void **state)
{
	pthread_t discarder, resumer;

	(void)state;
	fill(1, 0, 20);
	assert_true(collect(1, 0, 20));
	discarder = leave_an_event_unread(page(3, 0));
	resumer = spawn(resume_run, NULL);
	isolate_pages(&mv, &pc, &t);
	assert_true(isolated(1, 0, 20));
	pthread_join(resumer, NULL);
	pthread_join(discarder, NULL);
	give_up();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(a_thp_leaves_as_one),
		SMALL(base_pages_leave_and_holes_stay),
		SMALL(every_second_page_leaves_by_one_move),
		SMALL(what_is_not_ours_between_our_pages_is_not_taken),
		SMALL(a_hole_that_was_filled_before_it_was_watched_again_goes_with_its_bytes),
		SMALL(a_page_that_has_become_a_hole_is_one),
		SMALL(a_move_that_stops_among_holes_goes_on),
		HUGE(a_part_of_a_thp_leaves_and_the_rest_stays),
		SMALL(holes_take_no_slot),
		SMALL(without_a_slot_pages_stay_and_holes_go_on),
		SMALL(a_page_that_is_busy_for_a_moment_is_tried_again),
		SMALL(what_a_move_took_without_saying_so_is_found),
		HUGE(a_thp_that_a_move_took_without_saying_so_is_found),
		SMALL(a_page_is_left_behind_under_the_reason_of_its_refusal),
		SMALL(what_is_refused_for_good_is_left_behind),
		HUGE(a_thp_is_left_behind_whole),
		SMALL(locked_pages_stay),
		SMALL(pages_shared_with_a_child_stay),
		SMALL(what_an_event_has_marked_is_not_taken),
		HUGE(a_thp_that_an_event_has_split_leaves_as_pages),
		SMALL(after_an_event_the_range_is_armed_again),
		SMALL(after_an_event_each_mapping_is_armed_by_itself),
		SMALL(a_mapping_that_was_cut_without_a_word_is_seen_to_be),
		HUGE(a_thp_whose_mapping_was_cut_leaves_in_parts),
		HUGE(a_thp_in_two_mappings_leaves_as_one_folio),
		SMALL(a_mapping_that_has_become_unfit_keeps_its_pages),
		SMALL(an_unread_event_only_delays),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
