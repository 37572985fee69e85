/* SPDX-License-Identifier: MIT */
/* Devices that refuse, fail and fill up: what a call returns, where the pages are then, and that every byte can be had again. */
#include "rig.h"

#define SEED  31
#define BYTES (4 * BLOCK)

static char *filled(size_t bytes, bool huge)
{
	char *mem = map_anon(bytes, true, huge);

	fill_pattern(mem, bytes, SEED);
	return mem;
}

static void put(struct uhmm_device *d, char *mem, size_t bytes)
{
	assert_int_equal(uhmm_to_device(space, mem, bytes, d, 0, NULL), 0);
	assert_int_equal(info(d).used_bytes, bytes);
}

/* Ends a case: the device is empty, and can be closed. */
static void finish(struct uhmm_device *d, char *mem, size_t bytes)
{
	assert_pattern(mem, bytes, SEED);
	assert_int_equal(uhmm_device_close(d), 0);
	assert_pattern(mem, bytes, SEED);
	unmap_anon(mem, bytes);
}

static sigjmp_buf killed;

static void on_bus(int sig, siginfo_t *si, void *context)
{
	siglongjmp(killed, 1);
}

static bool touch_kills(const char *at)
{
	struct sigaction before, action = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
	volatile bool dead = true;

	assert_int_equal(sigaction(SIGBUS, &action, &before), 0);
	if (!sigsetjmp(killed, 1)) {
		(void)*(volatile const char *)at;
		dead = false;
	}
	assert_int_equal(sigaction(SIGBUS, &before, NULL), 0);
	return dead;
}

/* ---- room ---- */

/* Which of the blocks is refused what is for the workers to race about. */
static void a_refused_folio_goes_as_smaller_ones(void **state)
{
	struct uhmm_device *d = open_device("emu:size=64M,fail_alloc=2");
	char *mem = filled(BYTES, true);
	size_t thps = anon_huge_bytes(mem, BYTES) / BLOCK;
	RESULT(res);

	if (thps < 3)
		skip();

	assert_int_equal(uhmm_to_device(space, mem, BYTES, d, 0, &res), 0);
	assert_int_equal(res.moved_bytes, BYTES);
	assert_in_range(res.moved_folios[9], thps - 2, thps - 1);
	assert_true(res.moved_folios[7] == 4 || res.moved_folios[8] == 4); /* one was refused twice, or two once */
	assert_int_equal(skipped(&res, ANY_REASON), 0);
	assert_int_equal(info(d).folios[9], res.moved_folios[9]);
	finish(d, mem, BYTES);
}

static void a_refused_cleared_folio_reads_zero(void **state)
{
	struct uhmm_device *d = open_device("emu:size=64M,fail_alloc=4");
	char *mem = map_anon(BYTES, true, true);
	RESULT(res);

	assert_int_equal(uhmm_to_device(space, mem, BYTES, d, 0, &res), 0);
	assert_true(res.moved_folios[9] < BYTES / BLOCK);
	assert_int_equal(res.moved_bytes, BYTES);
	assert_int_equal(res.cleared_pages, PAGES(BYTES));
	assert_zeros(mem, BYTES);
	assert_int_equal(uhmm_device_close(d), 0);
	unmap_anon(mem, BYTES);
}

static void a_full_device_takes_what_fits(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		struct uhmm_device *d = open_device("emu:size=2M");
		char *mem = filled(BYTES, huge);
		size_t thps = anon_huge_bytes(mem, BYTES);
		RESULT(res);

		assert_int_equal(uhmm_to_device(space, mem, BYTES, d, 0, &res), UHMM_E_PARTIAL);
		assert_int_equal(res.moved_bytes, BLOCK);
		assert_int_equal(res.skipped_pages[UHMM_SKIP_NO_ROOM], PAGES(BYTES - BLOCK));
		assert_int_equal(skipped(&res, ANY_REASON), PAGES(BYTES - BLOCK));
		assert_int_equal(info(d).used_bytes, BLOCK);
		assert_int_equal(count_where(mem, BYTES, UHMM_WHERE_DEVICE), PAGES(BLOCK));
		assert_int_equal(count_where(mem, BYTES, UHMM_WHERE_SYSTEM), PAGES(BYTES - BLOCK));
		if (thps == BYTES) /* what stays, stays huge */
			assert_int_equal(anon_huge_bytes(mem, BYTES), BYTES - BLOCK);

		/* a full device stays full, and has room again when something has left */
		assert_int_equal(uhmm_to_device(space, mem, BYTES, d, 0, &res), UHMM_E_PARTIAL);
		assert_int_equal(res.moved_bytes, 0);
		assert_int_equal(uhmm_to_system(space, mem, BYTES, 0, NULL), 0);
		assert_pattern(mem, BYTES, SEED);
		assert_int_equal(uhmm_to_device(space, mem, BLOCK, d, 0, NULL), 0);
		finish(d, mem, BYTES);
	}
}

static void a_full_device_takes_smaller_folios_around_what_it_has(void **state)
{
	struct uhmm_device *d = open_device("emu:size=2M");
	char *mem = filled(2 * BLOCK, true);
	RESULT(res);

	put(d, mem, 100 * PAGE);
	assert_int_equal(uhmm_to_device(space, mem + BLOCK, BLOCK, d, 0, &res), UHMM_E_PARTIAL);
	assert_int_equal(res.moved_bytes, BLOCK - 100 * PAGE);
	if (anon_huge_bytes(mem, 2 * BLOCK) == BLOCK) /* what was one THP: the largest pieces that were free */
		for (unsigned k = 0; k < UHMM_NR_ORDERS; k++)
			assert_int_equal(res.moved_folios[k], 0x19c >> k & 1);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_NO_ROOM], 100);
	finish(d, mem, 2 * BLOCK);
}

/* ---- to the device ---- */

static void what_could_not_be_copied_in_is_back_in_place(void **state)
{
	static const char *const specs[] = { "emu:size=64M,fail_copy_in=1", "emu:size=64M,fail_copy_in=1,async=on" };

	for (unsigned k = 0; k < 4; k++) {
		struct uhmm_device *d = open_device(specs[k / 2]);
		char *mem = filled(BYTES, k % 2);
		size_t thps = anon_huge_bytes(mem, BYTES);
		RESULT(res);

		assert_int_equal(uhmm_to_device(space, mem, BYTES, d, 0, &res), -EIO);
		assert_true(res.skipped_pages[UHMM_SKIP_DEVICE] >= 1);
		assert_int_equal(res.moved_bytes, info(d).used_bytes);
		assert_int_equal(count_where(mem, BYTES, UHMM_WHERE_DEVICE), PAGES(res.moved_bytes));
		assert_int_equal(count_where(mem, BYTES, UHMM_WHERE_SYSTEM), PAGES(BYTES - res.moved_bytes));
		if (thps == BYTES)
			assert_int_equal(anon_huge_bytes(mem, BYTES), BYTES - res.moved_bytes);
		else
			assert_int_equal(thps, 0);

		assert_int_equal(uhmm_to_device(space, mem, BYTES, d, 0, NULL), 0);
		assert_true(all_on_device(mem, BYTES));
		finish(d, mem, BYTES);
	}
}

static void a_block_that_could_not_be_copied_in_stays_huge(void **state)
{
	struct uhmm_device *d = open_device("emu:size=64M,fail_copy_in=3");
	char *mem = filled(BLOCK, true);
	size_t thps = anon_huge_bytes(mem, BLOCK);

	for (unsigned k = 0; k < 3; k++) {
		RESULT(res);

		assert_int_equal(uhmm_to_device(space, mem, BLOCK, d, 0, &res), -EIO);
		assert_int_equal(res.moved_bytes, 0);
		assert_int_equal(res.skipped_pages[UHMM_SKIP_DEVICE], PAGES(BLOCK));
		assert_int_equal(info(d).used_bytes, 0);
		assert_int_equal(anon_huge_bytes(mem, BLOCK), thps);
		assert_pattern(mem, BLOCK, SEED);
	}
	put(d, mem, BLOCK);
	finish(d, mem, BLOCK);
}

/* ---- home ---- */

static const char *const ways_to_fail_twice[] = { "emu:size=64M,fail_copy_out=2", "emu:size=64M,fail_copy_out=2,async=on" };

static void a_device_that_fails_twice_is_asked_a_third_time(void **state)
{
	for (unsigned k = 0; k < 8; k++) {
		struct uhmm_device *d = open_device(ways_to_fail_twice[k & 1]);
		char *mem = filled(BLOCK, k & 2);

		put(d, mem, BLOCK);
		if (k & 4)
			assert_int_equal(uhmm_to_system(space, mem, BLOCK, 0, NULL), 0);
		finish(d, mem, BLOCK);
	}
}

static void what_could_not_be_copied_out_stays_on_the_device(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		struct uhmm_device *d = open_device("emu:size=64M,fail_copy_out=6");
		char *mem = filled(BLOCK, huge);

		put(d, mem, BLOCK);
		for (unsigned k = 0; k < 2; k++) {
			RESULT(res);

			support_log_start(UHMM_LOG_ERROR);
			assert_int_equal(uhmm_to_system(space, mem, BLOCK, 0, &res), -EIO);
			assert_int_equal(support_log_count(), 1);
			assert_non_null(strstr(support_last_log(), "fail_copy_out=6"));
			uhmm_log_set(NULL, NULL, 0);
			assert_int_equal(res.moved_bytes, 0);
			assert_int_equal(res.skipped_pages[UHMM_SKIP_DEVICE], PAGES(BLOCK));
			assert_true(all_on_device(mem, BLOCK));
		}
		assert_int_equal(uhmm_to_system(space, mem, BLOCK, 0, NULL), 0);
		assert_int_equal(info(d).used_bytes, 0);
		finish(d, mem, BLOCK);
	}
}

/* Memory on a device that fails once, all three tries: the page at @lost raises SIGBUS. */
static char *lose(struct uhmm_device *d, bool huge, size_t lost)
{
	char *mem = filled(BLOCK, huge);
	uint64_t before = stats().fault_lost;
	struct uhmm_extent ext;
	size_t nr;

	put(d, mem, BLOCK);
	assert_true(touch_kills(mem + lost * PAGE));
	eventually(stats().fault_lost == before + 1);
	assert_int_equal(uhmm_query(space, mem + lost * PAGE, PAGE, &ext, 1, &nr), 0);
	assert_int_equal(nr, 1);
	assert_int_equal(ext.where, UHMM_WHERE_LOST);
	assert_ptr_equal(ext.dev, d);
	assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_LOST), 1);
	return mem;
}

static void a_lost_page_takes_no_neighbour_with_it(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		struct uhmm_device *d = open_device("emu:size=64M,fail_copy_out=3");
		char *mem = lose(d, huge, 7);

		assert_pattern(mem, 7 * PAGE, SEED);
		assert_int_equal(check_pattern_at(mem + 8 * PAGE, BLOCK - 8 * PAGE, SEED, 8 * PAGE), -1);
		assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_LOST), 1);
		assert_true(touch_kills(mem + 7 * PAGE)); /* still, until the bytes are asked for */
		assert_int_equal(uhmm_to_system(space, mem, BLOCK, 0, NULL), 0);
		assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_SYSTEM), PAGES(BLOCK));
		finish(d, mem, BLOCK);
	}
}

static void a_system_call_on_a_lost_page_fails(void **state)
{
	struct uhmm_device *d = open_device("emu:size=64M,fail_copy_out=3");
	char *mem = lose(d, true, 7);
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], mem + 7 * PAGE, 100), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(write(ends[1], mem + 8 * PAGE, 100), 100);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(uhmm_to_system(space, mem, BLOCK, 0, NULL), 0);
	finish(d, mem, BLOCK);
}

static void a_lost_page_may_be_discarded(void **state)
{
	struct uhmm_device *d = open_device("emu:size=64M,fail_copy_out=3");
	char *mem = lose(d, true, 7);

	assert_int_equal(uhmm_discard(space, mem + 7 * PAGE, PAGE), 0);
	assert_zeros(mem + 7 * PAGE, PAGE);
	fill_pattern_at(mem + 7 * PAGE, PAGE, SEED, 7 * PAGE);
	finish(d, mem, BLOCK);
}

static void closing_a_device_recovers_its_lost_pages(void **state)
{
	struct uhmm_device *d = open_device("emu:size=64M,fail_copy_out=3");
	char *mem = lose(d, true, 7);

	assert_int_equal(uhmm_device_close(d), 0);
	assert_pattern(mem, BLOCK, SEED);
	unmap_anon(mem, BLOCK);
}

/* ---- closing ---- */

static void a_device_that_keeps_its_bytes_stays_open(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		struct uhmm_device *d = open_device("emu:size=64M,fail_copy_out=3");
		char *mem = filled(2 * BLOCK, huge);

		put(d, mem, BLOCK);
		support_log_start(UHMM_LOG_ERROR);
		assert_int_equal(uhmm_device_close(d), -EIO);
		assert_non_null(strstr(support_last_log(), "stays open"));
		uhmm_log_set(NULL, NULL, 0);
		assert_true(all_on_device(mem, BLOCK));
		assert_int_equal(info(d).used_bytes, BLOCK);

		/* and it takes more, as before */
		put(d, mem, 2 * BLOCK);
		finish(d, mem, 2 * BLOCK);
	}
}

static void a_space_whose_device_keeps_its_bytes_stays_open(void **state)
{
	struct uhmm_device *d = open_device("emu:size=64M,fail_copy_out=6");
	char *mem = filled(BLOCK, true);

	put(d, mem, BLOCK);
	assert_int_equal(uhmm_close(space), -EIO);
	assert_true(all_on_device(mem, BLOCK));
	assert_int_equal(uhmm_open(NULL, &space), -EBUSY);
	assert_int_equal(uhmm_close(space), -EIO);
	assert_pattern(mem, BLOCK, SEED);
	eventually(all_home(mem, BLOCK));
	put(d, mem, BLOCK);
	assert_int_equal(uhmm_close(space), 0);
	assert_pattern(mem, BLOCK, SEED);
	unmap_anon(mem, BLOCK);
	assert_int_equal(uhmm_open(NULL, &space), 0); /* for the cases that follow */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refused_folio_goes_as_smaller_ones),
		cmocka_unit_test(a_refused_cleared_folio_reads_zero),
		cmocka_unit_test(a_full_device_takes_what_fits),
		cmocka_unit_test(a_full_device_takes_smaller_folios_around_what_it_has),
		cmocka_unit_test(what_could_not_be_copied_in_is_back_in_place),
		cmocka_unit_test(a_block_that_could_not_be_copied_in_stays_huge),
		cmocka_unit_test(a_device_that_fails_twice_is_asked_a_third_time),
		cmocka_unit_test(what_could_not_be_copied_out_stays_on_the_device),
		cmocka_unit_test(a_lost_page_takes_no_neighbour_with_it),
		cmocka_unit_test(a_system_call_on_a_lost_page_fails),
		cmocka_unit_test(a_lost_page_may_be_discarded),
		cmocka_unit_test(closing_a_device_recovers_its_lost_pages),
		cmocka_unit_test(a_device_that_keeps_its_bytes_stays_open),
		cmocka_unit_test(a_space_whose_device_keeps_its_bytes_stays_open),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
