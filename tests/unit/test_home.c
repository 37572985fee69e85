/* SPDX-License-Identifier: MIT */
#include "unit_migrate.h"

static uint64_t moved[NR_ORDERS];

static int home(unsigned b, unsigned first, unsigned end)
{
	memset(moved, 0, sizeof(moved));
	return home_block(&mv, block(b), first, end, NULL, moved);
}

static void a_folio_comes_home_as_a_thp(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	assert_int_equal(moved[BLOCK_ORDER], 1);
	assert_int_equal(moved[0], 0);
	assert_int_equal(used(), 0);
	assert_true(is_huge(&sp, block(1)));
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), HOME_NOTHING);
}

static void pages_come_home_as_pages(void **state)
{
	(void)state;
	fill(1, 0, 10);
	to_device(1, 0, 20);
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	assert_int_equal(moved[0], 20);
	assert_int_equal(used(), 0);
	assert_true(at_home(1, 0, 10));
	assert_true(bits_at(page(1, 10), PAGE_BYTES) > 0 && zeros_at(mem + (page(1, 10) - at), 10));
}

static void what_never_left_is_nothing(void **state)
{
	(void)state;
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), HOME_NOTHING);
	assert_int_equal(home_block(&mv, UINT64_C(1) << 40, 0, 1, NULL, moved), HOME_NOTHING); /* never heard of */
	fill(1, 0, 20);
	to_device(1, 0, 20);
	assert_int_equal(home(1, 20, 40), HOME_NOTHING);
	assert_true(on_device(1, 0, 20));
}

static void only_what_is_on_that_device_comes(void **state)
{
	static struct device other = { .index = INDEX + 1 };

	(void)state;
	fill(1, 0, 20);
	to_device(1, 0, 20);
	assert_int_equal(home_block(&mv, block(1), 0, PAGES_PER_BLOCK, &other, moved), HOME_NOTHING);
	assert_true(on_device(1, 0, 20));
	assert_int_equal(home_block(&mv, block(1), 0, PAGES_PER_BLOCK, &d, moved), 0);
	assert_true(at_home(1, 0, 20));
}

static void a_part_of_a_folio_comes_and_the_rest_stays(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(home(1, 3, 10), 0);
	/* 3, 4-7, 8-9 */
	assert_true(moved[0] == 1 && moved[1] == 1 && moved[2] == 1);
	assert_int_equal(entry_order(entry_at(1, 0)), 1);
	assert_int_equal(entry_order(entry_at(1, 2)), 0);
	assert_int_equal(entry_order(entry_at(1, 10)), 1);
	assert_int_equal(entry_order(entry_at(1, 12)), 2);
	for (unsigned k = 4; k < BLOCK_ORDER; k++)
		assert_int_equal(entry_order(entry_at(1, order_pages(k))), k);
	assert_int_equal(used(), BLOCK_BYTES - 7 * PAGE_BYTES);
	assert_true(on_device(1, 0, 3) && on_device(1, 10, PAGES_PER_BLOCK));
	assert_true(at_home(1, 3, 10));
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
}

static void the_folio_of_a_page_comes_and_no_other(void **state)
{
	(void)state;
	put_in(1, 4);
	memset(moved, 0, sizeof(moved));
	assert_int_equal(home_folio(&mv, block(1), 100, moved), 0);
	assert_int_equal(moved[4], 1);
	assert_int_equal(fake.freed_order, 4);
	assert_int_equal(fake.nr_split_calls, 0);
	assert_true(on_device(1, 0, 96) && on_device(1, 112, PAGES_PER_BLOCK));
	assert_true(at_home(1, 96, 112));
	assert_int_equal(home_folio(&mv, block(1), 100, moved), HOME_NOTHING);
}

static void of_a_folio_the_range_alone_comes(void **state)
{
	(void)state;
	put_in(1, 4);
	assert_int_equal(home(1, 20, 22), 0);
	assert_int_equal(moved[1], 1);
	assert_int_equal(fake.nr_splits, 3);
	assert_true(on_device(1, 0, 20) && on_device(1, 22, PAGES_PER_BLOCK));
	assert_int_equal(entry_order(entry_at(1, 16)), 2);
	assert_int_equal(entry_order(entry_at(1, 22)), 1);
	assert_int_equal(entry_order(entry_at(1, 24)), 3);
	assert_true(at_home(1, 20, 22));
}

static void drop_a_page(void) { mark_page(1, 21, ENTRY_DEAD); }

static void a_page_of_a_folio_that_is_dropped_on_the_way_does_not_arrive(void **state)
{
	(void)state;
	put_in(1, 4);
	memset(moved, 0, sizeof(moved));
	fake.hook = drop_a_page;
	assert_int_equal(home_folio(&mv, block(1), 17, moved), 0);
	fake.hook = NULL;
	assert_int_equal(used(), BLOCK_BYTES - 16 * PAGE_BYTES);
	assert_true(at_home(1, 16, 21) && at_home(1, 22, 32));
	assert_int_equal(bits_at(page(1, 21), PAGE_BYTES), 0);
}

static void what_finds_no_memory_stays_as_a_folio(void **state)
{
	(void)state;
	put_in(1, 4);
	memset(moved, 0, sizeof(moved));
	fail_set("copy:1", NULL); /* UFFDIO_COPY: no memory */
	assert_int_equal(home_folio(&mv, block(1), 17, moved), HOME_NO_MEMORY);
	fail_set(NULL, NULL);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(entry_order(entry_at(1, 17)), 4);
	assert_int_equal(used(), BLOCK_BYTES);
}

static void without_a_thp_a_folio_comes_as_pages(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	fail_set(NULL, "thp");
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	assert_int_equal(moved[0], PAGES_PER_BLOCK);
	assert_int_equal(moved[BLOCK_ORDER], 0);
	assert_int_equal(sp.counters.fault_small, 1);
	assert_int_equal(used(), 0);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
	assert_false(is_huge(&sp, block(1)));
}

/* ---- who waits ---- */

static atomic_bool went_on;

static void *toucher_run(void *arg)
{
	(void)*(volatile char *)arg;
	atomic_store(&went_on, true);
	return NULL;
}

/* A hook: gives the toucher the time to go on too early. */
static void toucher_still_waits(void)
{
	for (unsigned n = 0; n < 200 && !atomic_load(&went_on); n++)
		sched_yield();
	assert_false(atomic_load(&went_on));
	assert_int_equal(entry_state(entry_at(1, 7)), ENTRY_SYSTEM);
}

/* It may ask at once what is on the device, or send the page back: the remains of its own touch must not be in its way. */
static void who_waits_goes_on_when_the_claim_and_the_folios_are_gone(void **state)
{
	struct pollfd p = { .fd = sp.uffd.fd, .events = POLLIN };
	unsigned sizes[] = { PAGES_PER_BLOCK, 20 };
	pthread_t id;

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(sizes); k++) {
		fill(1, 0, sizes[k]);
		to_device(1, 0, sizes[k]);
		drain_pause();
		atomic_store(&went_on, false);
		id = spawn(toucher_run, mem + (page(1, 7) - at));
		while (poll(&p, 1, -1) != 1)
			;
		fake.free_hook = toucher_still_waits;
		assert_int_equal(home(1, k ? 7 : 0, k ? 8 : PAGES_PER_BLOCK), 0);
		fake.free_hook = NULL;
		pthread_join(id, NULL);
		drain_resume();
		assert_true(at_home(1, 7, 8));
	}
}

/* A hook: the first copies fail. */
static unsigned nr_bad;

static void fail_at_first(void)
{
	fake.copy = nr_bad ? -EIO : 0;
	nr_bad -= nr_bad > 0;
}

static void a_device_that_fails_twice_is_asked_a_third_time(void **state)
{
	(void)state;
	fill_thp(1);
	fill(2, 0, 20);
	to_device(1, 0, PAGES_PER_BLOCK);
	to_device(2, 0, 20);
	fake.hook = fail_at_first;
	nr_bad = 2;
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	nr_bad = 2;
	assert_int_equal(home(2, 0, 20), 0);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK) && at_home(2, 0, 20));
}

static void what_cannot_be_read_stays_on_the_device(void **state)
{
	struct said *said = said_start();
	unsigned before;

	(void)state;
	fill_thp(1);
	fill(2, 0, 20);
	to_device(1, 0, PAGES_PER_BLOCK);
	to_device(2, 0, 20);
	before = fake.nr_copies;
	fake.copy = -EIO;
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), -EIO);
	assert_int_equal(fake.nr_copies, before + 3);
	assert_int_equal(said->nr, 1);
	assert_non_null(strstr(said->line, "full"));
	assert_int_equal(home(2, 0, 20), -EIO);
	said_end(said);
	assert_int_equal(moved[0] + moved[BLOCK_ORDER], 0);
	assert_int_equal(used(), BLOCK_BYTES + 20 * PAGE_BYTES);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK) && on_device(2, 0, 20));
	assert_int_equal(entry_order(entry_at(1, 0)), BLOCK_ORDER); /* whole, as before */
	fake.copy = 0;
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	assert_int_equal(home(2, 0, 20), 0);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK) && at_home(2, 0, 20));
}

static void without_memory_pages_stay_on_the_device(void **state)
{
	(void)state;
	fill(1, 0, 20);
	to_device(1, 0, 20);
	fail_set("copy:1", NULL);
	assert_int_equal(home(1, 0, 20), HOME_NO_MEMORY);
	assert_int_equal(moved[0], 0);
	assert_true(on_device(1, 0, 20));
	assert_int_equal(home(1, 0, 20), 0);
	assert_true(at_home(1, 0, 20));
}

static void without_memory_a_folio_stays_on_the_device(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	fail_set("move:1:12", NULL);
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), HOME_NO_MEMORY);
	assert_int_equal(moved[0] + moved[BLOCK_ORDER], 0);
	assert_int_equal(used(), BLOCK_BYTES);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
}

/* Hooks: the program drops pages while they are copied. */
static void drop_two(void)
{
	mark_page(1, 3, ENTRY_DEAD);
	mark_page(1, 4, ENTRY_DEAD | ENTRY_ZAP);
}

static void drop_all(void) { mark_block(1, ENTRY_DEAD); }

static void what_is_dropped_on_the_way_does_not_arrive(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	fake.hook = drop_two;
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	assert_int_equal(sp.counters.dropped_pages, 2);
	assert_int_equal(used(), 0);
	assert_int_equal(bits_at(page(1, 3), 2 * PAGE_BYTES), 0);
	assert_int_equal(entry_at(1, 3).bits & ~ENTRY_HUGE, 0);
	assert_true(at_home(1, 0, 3) && at_home(1, 5, PAGES_PER_BLOCK));
}

static void a_folio_that_is_dropped_on_the_way_does_not_arrive(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	fake.hook = drop_all;
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	assert_int_equal(sp.counters.dropped_pages, PAGES_PER_BLOCK);
	assert_int_equal(used(), 0);
	assert_int_equal(bits_at(block(1), BLOCK_BYTES), 0);
	assert_int_equal(entry_state(entry_at(1, 0)), ENTRY_SYSTEM);
}

/* Does this kernel make a THP of base pages in such memory? */
static bool collapses(int protection)
{
	char *own = map_blocks(BLOCK_BYTES, true);
	bool can;

	assert_int_equal(madvise(own, BLOCK_BYTES, MADV_NOHUGEPAGE), 0);
	memset(own, 1, BLOCK_BYTES);
	assert_int_equal(madvise(own, BLOCK_BYTES, MADV_HUGEPAGE), 0);
	assert_int_equal(mprotect(own, BLOCK_BYTES, protection), 0);
	can = !map_collapse(addr_of(own), BLOCK_BYTES);
	unmap_blocks(own, BLOCK_BYTES);
	return can;
}

static void what_has_become_write_protected_comes_home(void **state)
{
	(void)state;
	fill_thp(1);
	fill(2, 0, 20);
	to_device(1, 0, PAGES_PER_BLOCK);
	to_device(2, 0, 20);
	assert_int_equal(mprotect(mem, LEN, PROT_READ), 0);
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	assert_int_equal(home(2, 0, 20), 0);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK) && at_home(2, 0, 20));
	assert_int_equal(mprotect(mem, LEN, PROT_READ | PROT_WRITE), 0);
}

/* The THP that its bytes were copied from is full still, and serves the next one. */
static void what_may_not_be_written_comes_home_huge(void **state)
{
	static const int protections[] = { PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC };

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(protections); k++) {
		uint64_t pool;

		fill_thp(1);
		to_device(1, 0, PAGES_PER_BLOCK);
		pool = staging_pool_bytes(&mig.staging);
		assert_true(pool > 0);
		assert_int_equal(mprotect(mem, LEN, protections[k]), 0);
		if (k == 0 && !collapses(protections[k])) {
			(void)home(1, 0, PAGES_PER_BLOCK);
			assert_int_equal(mprotect(mem, LEN, PROT_READ | PROT_WRITE), 0);
			skip(); /* a kernel before 6.18 */
		}
		assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
		assert_int_equal(moved[BLOCK_ORDER], 1);
		assert_int_equal(used(), 0);
		assert_true(is_huge(&sp, block(1)));
		assert_int_equal(staging_pool_bytes(&mig.staging), pool);
		assert_int_equal(mprotect(mem, LEN, PROT_READ | PROT_WRITE), 0);
		assert_true(at_home(1, 0, PAGES_PER_BLOCK));
		assert_true(is_huge(&sp, block(1)));
	}
}

static void what_cannot_be_made_huge_again_comes_as_pages(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(mprotect(mem, LEN, PROT_READ), 0);
	fail_set("madvise:1:22", NULL);
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	fail_set(NULL, NULL);
	assert_int_equal(used(), 0);
	assert_int_equal(bits_at(block(1), BLOCK_BYTES), PM_PRESENT);
	assert_int_equal(mprotect(mem, LEN, PROT_READ | PROT_WRITE), 0);
	assert_true(at_home(1, 0, PAGES_PER_BLOCK));
}

/* The kernel is asked again when a page was in use. */
static void what_is_busy_for_a_moment_is_made_huge_all_the_same(void **state)
{
	(void)state;
	if (!collapses(PROT_READ))
		skip();
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(mprotect(mem, LEN, PROT_READ), 0);
	fail_set("madvise:1:11", NULL);
	assert_int_equal(home(1, 0, PAGES_PER_BLOCK), 0);
	assert_true(is_huge(&sp, block(1)));
	assert_int_equal(mprotect(mem, LEN, PROT_READ | PROT_WRITE), 0);
}

static void a_block_is_split_with_its_folio(void **state)
{
	(void)state;
	fill_thp(1);
	to_device(1, 0, PAGES_PER_BLOCK);
	assert_int_equal(split_block(&mig, block(1)), 0);
	assert_int_equal(split_block(&mig, block(1)), 0); /* it is */
	assert_int_equal(heard_split(0, block_down(entry_offset(entry_at(1, 0))), BLOCK_ORDER, 8), 2);
	assert_int_equal(fake.nr_split_calls, 2);
	assert_int_equal(entry_order(entry_at(1, 0)), 8);
	assert_int_equal(entry_order(entry_at(1, 511)), 8);
	assert_true(on_device(1, 0, PAGES_PER_BLOCK));
	assert_int_equal(split_block(&mig, block(2)), 0);
	assert_int_equal(entry_state(entry_get(table_block(&sp.table, block(2), false))), ENTRY_TABLE);
	assert_int_equal(entry_at(2, 7).bits, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		HUGE(a_folio_comes_home_as_a_thp),
		SMALL(pages_come_home_as_pages),
		SMALL(what_never_left_is_nothing),
		SMALL(only_what_is_on_that_device_comes),
		HUGE(a_part_of_a_folio_comes_and_the_rest_stays),
		SMALL(the_folio_of_a_page_comes_and_no_other),
		SMALL(of_a_folio_the_range_alone_comes),
		SMALL(a_page_of_a_folio_that_is_dropped_on_the_way_does_not_arrive),
		SMALL(what_finds_no_memory_stays_as_a_folio),
		HUGE(without_a_thp_a_folio_comes_as_pages),
		HUGE(who_waits_goes_on_when_the_claim_and_the_folios_are_gone),
		HUGE(a_device_that_fails_twice_is_asked_a_third_time),
		HUGE(what_cannot_be_read_stays_on_the_device),
		SMALL(without_memory_pages_stay_on_the_device),
		HUGE(without_memory_a_folio_stays_on_the_device),
		HUGE(what_is_dropped_on_the_way_does_not_arrive),
		HUGE(a_folio_that_is_dropped_on_the_way_does_not_arrive),
		HUGE(what_has_become_write_protected_comes_home),
		HUGE(what_may_not_be_written_comes_home_huge),
		HUGE(what_cannot_be_made_huge_again_comes_as_pages),
		HUGE(what_is_busy_for_a_moment_is_made_huge_all_the_same),
		HUGE(a_block_is_split_with_its_folio),
	};
	int r;

	if (migrate_start())
		return skip_all(CANNOT_RUN);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	space_end();
	return r;
}
