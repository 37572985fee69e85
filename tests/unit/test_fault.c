/* SPDX-License-Identifier: MIT */
/* src/fault/fault.c. Nobody else reads the userfaultfd: a message is given by hand, or read from a real touch. */
#include "fault/fault.h"

#include "unit_migrate.h"

static struct faults faults;
static struct reader reader;
static unsigned nr_handled;

static int start_reader(int failed)
{
	faults.m = &mig;
	reader.faults = &faults;
	nr_handled = 0;
	if (failed || mover_init(&reader.mover, &mig))
		return -1;
	drain_pause();
	return 0;
}

static int make_small_reader(void **state) { return start_reader(make_small(state)); }
static int make_huge_reader(void **state)  { return start_reader(make_huge(state)); }

static int unmake_reader(void **state)
{
	mover_fini(&reader.mover);
	return unmake(state);
}

static void handle(uint64_t addr, bool write)
{
	struct uffd_message m = { .kind = UFFD_FAULT, .write = write, .start = addr, .end = addr + PAGE_BYTES };

	fault_handle(&reader, &m);
}

/* ---- a real touch ---- */

struct toucher {
	pthread_t id;
	uint64_t addr;
	bool write;
	uint64_t value; /* what was read */
	atomic_bool done;
};

static void *touch_run(void *arg)
{
	struct toucher *who = arg;
	volatile uint64_t *word = (uint64_t *)(uintptr_t)who->addr;

	if (who->write)
		*word = 0x77;
	else
		who->value = *word;
	atomic_store(&who->done, true);
	return NULL;
}

static struct toucher touch_start(uint64_t addr, bool write) { return (struct toucher){ .addr = addr, .write = write }; }

/* Handles messages until the toucher goes on. One that is never woken hangs here, and the test's timeout ends it. */
static void serve(struct toucher *who)
{
	struct uffd_message m;

	who->id = spawn(touch_run, who);
	while (!atomic_load(&who->done)) {
		if (uffd_read(&sp.uffd, &m) != 1) {
			sched_yield();
			continue;
		}
		assert_int_equal(m.kind, UFFD_FAULT);
		nr_handled++;
		fault_handle(&reader, &m);
	}
	pthread_join(who->id, NULL);
}

static void arm(void)
{
	uint64_t seq;

	assert_int_equal(vma_arm_begin(&sp, at, at + LEN, &seq), 0);
	nr_arms++;
}

/* The block may have THPs: what collect_block() notes of one that leaves. */
static void mark_huge(unsigned b)
{
	mark_block(b, ENTRY_HUGE);
}

/* The message that comes before a page is discarded. */
static void announce_discard(uint64_t addr)
{
	struct uffd_message m = { .kind = UFFD_REMOVE, .start = addr, .end = addr + PAGE_BYTES };

	gate_enter(&sp.gate, GATE_EVENTS);
	event_apply(&reader, &m);
	gate_leave(&sp.gate, GATE_EVENTS);
}

/* ---- the cases ---- */

static void a_touch_brings_a_thp_home(void **state)
{
	struct toucher who = touch_start(page(1, 17), false);

	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	serve(&who);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_true(is_huge(&sp, block(1)));
	assert_int_equal(who.value, *(uint64_t *)(uintptr_t)page(1, 17));
	assert_int_equal(nr_handled, 1);
	assert_int_equal(used(), 0);
}

static void a_touch_of_a_base_page_brings_that_page(void **state)
{
	struct toucher who = touch_start(page(1, 17), false);

	(void)state;
	fill(1, 0, PAGES_PER_BLOCK);
	to_device(1, 0, PAGES_PER_BLOCK);
	serve(&who);
	assert_true(at_home(1, 17, 18));
	assert_true(on_device(1, 0, 17));
	assert_true(on_device(1, 18, PAGES_PER_BLOCK));
}

/* ---- as far as somebody says ---- */

static struct {
	unsigned first, end, arrived, met;
	uint64_t admitted;
	bool thp;
} said;

static void say_reach(void *ctx, uint64_t addr, unsigned *ret_first, unsigned *ret_end)
{
	(void)ctx;
	(void)addr;
	*ret_first = said.first;
	*ret_end = said.end;
}

static void hear_admit(void *ctx, uint64_t bytes, bool thp)
{
	(void)ctx;
	said.admitted = bytes;
	said.thp = thp;
}

static bool not_huge(void *ctx, uint64_t addr)
{
	(void)ctx;
	(void)addr;
	return false;
}

static void hear_met(void *ctx, uint64_t addr)
{
	(void)ctx;
	(void)addr;
	said.met++;
}

static void hear_arrived(void *ctx, uint64_t addr, unsigned pages)
{
	(void)ctx;
	(void)addr;
	said.arrived += pages;
}

static const struct space_policy sayer = { .admit = hear_admit, .wants_huge = not_huge, .reach = say_reach, .met = hear_met,
					   .arrived = hear_arrived };

/* Page 17 of block 1 is touched, and what is said is [first, end). */
static void touch_with(unsigned first, unsigned end)
{
	struct toucher who = touch_start(page(1, 17), false);

	memset(&said, 0, sizeof(said));
	said.first = first;
	said.end = end;
	atomic_store(&sp.policy, &sayer);
	serve(&who);
	atomic_store(&sp.policy, NULL);
	assert_int_equal(who.value, *(uint64_t *)(uintptr_t)page(1, 17));
}

static void a_touch_brings_what_is_said_and_cuts_the_folio(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	touch_with(16, 20);
	assert_true(at_home(1, 16, 20));
	assert_true(on_device(1, 0, 16));
	assert_true(on_device(1, 20, PAGES_PER_BLOCK));
	assert_int_equal(used(), BLOCK_BYTES - 4 * PAGE_BYTES);
	assert_int_equal(said.arrived, 4);
	assert_int_equal(nr_handled, 1);
	assert_int_equal(said.admitted, 4 * PAGE_BYTES);
	assert_false(said.thp);
}

/* For a THP a recycled one does; for as much memory in pages none does. */
static void what_comes_as_one_folio_is_a_thp(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	touch_with(0, PAGES_PER_BLOCK);
	assert_int_equal(said.admitted, BLOCK_BYTES);
	assert_true(said.thp);
}

static void a_block_of_small_folios_is_no_thp(void **state)
{
	(void)state;
	fill(1, 0, PAGES_PER_BLOCK);
	to_device(1, 0, PAGES_PER_BLOCK);
	touch_with(0, PAGES_PER_BLOCK);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(said.admitted, BLOCK_BYTES);
	assert_false(said.thp);
}

static void a_touch_brings_what_is_said_of_many_folios(void **state)
{
	(void)state;
	fill(1, 0, PAGES_PER_BLOCK);
	to_device(1, 0, PAGES_PER_BLOCK);
	touch_with(0, 64);
	assert_true(at_home(1, 0, 64));
	assert_true(on_device(1, 64, PAGES_PER_BLOCK));
	assert_int_equal(nr_handled, 1);
}

static void fail_first_copies(void)
{
	fake.copy = fake.nr_copies <= 3 ? -EIO : 0; /* COPY_TRIES of home.c */
}

/* What makes the copy of more fail shall not lose a page that can be had alone. */
static void a_touch_does_not_fail_because_of_its_neighbours(void **state)
{
	(void)state;
	fill(1, 0, PAGES_PER_BLOCK);
	to_device(1, 0, PAGES_PER_BLOCK);
	fake.nr_copies = 0;
	fake.hook = fail_first_copies;
	touch_with(0, 64);
	fake.hook = NULL;
	assert_true(at_home(1, 17, 18));
	assert_true(on_device(1, 0, 17));
	assert_true(on_device(1, 18, PAGES_PER_BLOCK));
	assert_int_equal(atomic_load(&sp.counters.fault_lost), 0);
}

static void a_touch_of_what_is_on_its_way_is_heard(void **state)
{
	(void)state;
	fill(1, 0, 20);
	isolate(1, 0, 20);
	memset(&said, 0, sizeof(said));
	atomic_store(&sp.policy, &sayer);
	handle(page(1, 17), false);
	atomic_store(&sp.policy, NULL);
	assert_int_equal(said.met, 1);
	assert_int_equal(said.arrived, 0);
	give_up();
}

static void a_touch_of_a_hole_gives_zeros(void **state)
{
	struct toucher reads = touch_start(page(1, 3), false), writes = touch_start(page(1, 4), true);

	(void)state;
	arm();
	serve(&reads);
	assert_int_equal(reads.value, 0);
	serve(&writes);
	assert_int_equal(*(uint64_t *)(uintptr_t)page(1, 4), 0x77);
	assert_int_equal(bits_at(page(1, 5), PAGE_BYTES), 0);
}

static void a_huge_hole_is_filled_by_a_thp(void **state)
{
	struct toucher who = touch_start(page(1, 3), false);

	(void)state;
	fill_thp(0); /* or there is none to be had */
	arm();
	mark_huge(1);
	serve(&who);
	assert_int_equal(who.value, 0);
	assert_true(is_huge(&sp, block(1)));
	assert_true(zeros_at(mem + BLOCK_BYTES, PAGES_PER_BLOCK));
}

/* It waits without having been marked as waiting, so the end of the claim alone does not wake it. */
static void without_memory_for_a_huge_hole_the_toucher_asks_again(void **state)
{
	struct toucher who = touch_start(page(1, 3), false);

	(void)state;
	fill_thp(0);
	arm();
	mark_huge(1);
	fail_set("move:1:12", NULL);
	serve(&who);
	assert_true(nr_handled >= 2);
	assert_int_equal(who.value, 0);
}

/* The device has it still: the toucher asks again, and gets it. */
static void without_memory_for_a_folio_the_toucher_asks_again(void **state)
{
	struct toucher who = touch_start(page(1, 3), false);

	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	fail_set("move:1:12", NULL);
	serve(&who);
	assert_true(nr_handled >= 2);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(used(), 0);
}

/* An event has dropped the one page of a folio; the others stay where they are. */
static void a_page_dropped_from_its_block_reads_as_zeros(void **state)
{
	struct toucher who = touch_start(page(1, 3), false);

	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	announce_discard(page(1, 3));
	serve(&who);
	assert_int_equal(who.value, 0);
	assert_true(on_device(1, 4, PAGES_PER_BLOCK));
}

/* A message of a touch that another has served meanwhile says nothing of a discard that has been announced since. */
static void an_old_message_does_not_end_a_discard_that_is_to_come(void **state)
{
	(void)state;
	fill(1, 0, 8);
	arm();
	announce_discard(page(1, 3));
	handle(page(1, 3), false);
	assert_true(entry_has(entry_at(1, 3), ENTRY_ZAP));
	assert_true(holds(mem + BLOCK_BYTES + 3 * PAGE_BYTES, 1, 3, 4));

	/* and so it may not leave: it would escape the discard */
	assert_true(collect(1, 0, 8));
	assert_false(pageset_has(&pc.claim.mine, 3));
	give_up();
}

/* Nor has it anything to ask the kernel for: a claim would be in the way of whoever is about to move the THP. */
static void an_old_message_claims_nothing_that_is_there(void **state)
{
	uint64_t claims;

	(void)state;
	fill_thp(1);
	arm();
	claims = atomic_load(&sp.last_claim);
	handle(page(1, 3), true);
	assert_int_equal(atomic_load(&sp.last_claim), claims);
	assert_int_equal(atomic_load(&sp.counters.fault_stale), 1);
	assert_true(is_huge(&sp, block(1)) && at_home(1, 0, PAGES_PER_BLOCK));
}

static void a_page_that_was_discarded_is_filled(void **state)
{
	struct toucher who = touch_start(page(1, 3), false);

	(void)state;
	arm();
	announce_discard(page(1, 3));
	serve(&who);
	assert_int_equal(who.value, 0);
	assert_false(entry_has(entry_at(1, 3), ENTRY_ZAP));
}

static void a_page_that_cannot_be_read_back_is_lost_alone(void **state)
{
	(void)state;
	fill(1, 0, PAGES_PER_BLOCK);
	to_device(1, 0, PAGES_PER_BLOCK);
	fake.copy = -EIO;
	handle(page(1, 9), false);
	fake.copy = 0;
	assert_true(entry_has(entry_at(1, 9), ENTRY_LOST));
	assert_false(entry_has(entry_at(1, 8), ENTRY_LOST));
	assert_int_equal(sp.counters.fault_lost, 1);
}

#define SMALL_READER(name) cmocka_unit_test_setup_teardown(name, make_small_reader, unmake_reader)
#define HUGE_READER(name)  cmocka_unit_test_setup_teardown(name, make_huge_reader, unmake_reader)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE_READER(a_touch_brings_a_thp_home),
		SMALL_READER(a_touch_of_a_base_page_brings_that_page),
		HUGE_READER(a_touch_brings_what_is_said_and_cuts_the_folio),
		HUGE_READER(what_comes_as_one_folio_is_a_thp),
		SMALL_READER(a_block_of_small_folios_is_no_thp),
		SMALL_READER(a_touch_brings_what_is_said_of_many_folios),
		SMALL_READER(a_touch_does_not_fail_because_of_its_neighbours),
		SMALL_READER(a_touch_of_what_is_on_its_way_is_heard),
		SMALL_READER(a_touch_of_a_hole_gives_zeros),
		HUGE_READER(a_huge_hole_is_filled_by_a_thp),
		HUGE_READER(without_memory_for_a_huge_hole_the_toucher_asks_again),
		HUGE_READER(without_memory_for_a_folio_the_toucher_asks_again),
		HUGE_READER(a_page_dropped_from_its_block_reads_as_zeros),
		SMALL_READER(an_old_message_does_not_end_a_discard_that_is_to_come),
		HUGE_READER(an_old_message_claims_nothing_that_is_there),
		SMALL_READER(a_page_that_was_discarded_is_filled),
		SMALL_READER(a_page_that_cannot_be_read_back_is_lost_alone),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
