/* SPDX-License-Identifier: MIT */
/* A device that is lent keeps what its owner frees, and a loan frees nothing. */
#include "fake_driver.h"

static struct device loan;

static uint64_t used(void) { return buddy_used_bytes(&d.buddy); }

static void open_full(void)
{
	memset(&loan, 0, sizeof(loan));
	assert_int_equal(open_dev("full"), 0);
}

static uint64_t take(unsigned order)
{
	uint64_t offset;

	assert_int_equal(device_alloc(&d, order, &offset), 0);
	return offset;
}

static void a_folio_freed_during_a_loan_is_freed_after_it(void **state)
{
	uint64_t offset;

	(void)state;
	open_full();
	offset = take(BLOCK_ORDER);
	device_lend(&d, &loan);
	assert_true(device_is_lent(&d));
	device_free(&d, offset, BLOCK_ORDER);
	assert_int_equal(used(), BLOCK_BYTES);
	device_loan_end(&d);
	assert_false(device_is_lent(&d));
	assert_int_equal(used(), 0);
	device_close(&d);
}

static void a_folio_freed_without_a_loan_is_freed_at_once(void **state)
{
	(void)state;
	open_full();
	device_free(&d, take(0), 0);
	assert_int_equal(used(), 0);
	device_lend(&d, &loan);
	device_loan_end(&d);
	device_free(&d, take(0), 0);
	assert_int_equal(used(), 0);
	device_close(&d);
}

static void the_last_of_two_loans_frees(void **state)
{
	(void)state;
	open_full();
	device_lend(&d, &loan);
	device_lend(&d, &loan);
	for (unsigned k = 0; k < NR_ORDERS; k++)
		device_free(&d, take(k), k);
	device_loan_end(&d);
	assert_int_equal(used(), ((1 << NR_ORDERS) - 1) * PAGE_BYTES);
	device_loan_end(&d);
	assert_int_equal(used(), 0);
	device_close(&d);
}

static void a_loan_reads_but_frees_and_splits_nothing(void **state)
{
	static char bytes[BLOCK_BYTES] __attribute__((aligned(4096)));
	struct uhmm_seg seg = { .host = bytes, .bytes = BLOCK_BYTES };
	uint64_t fence, nr_folios;

	(void)state;
	open_full();
	seg.offset = take(BLOCK_ORDER);
	memset(bytes, 'a', sizeof(bytes));
	assert_int_equal(device_copy_in(&d, &seg, 1, &fence), 0);
	assert_int_equal(device_wait(&d, fence), 0);
	device_lend(&d, &loan);
	assert_int_equal(loan.index, d.index);
	assert_string_equal(loan.spec, d.spec);

	nr_folios = atomic_load(&d.buddy.nr_folios[BLOCK_ORDER]);
	assert_int_equal(device_split(&loan, seg.offset, BLOCK_ORDER, 0), 0);
	device_free(&loan, seg.offset, BLOCK_ORDER);
	assert_int_equal(atomic_load(&d.buddy.nr_folios[BLOCK_ORDER]), nr_folios);

	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(device_copy_out(&loan, &seg, 1, &fence), 0);
	assert_int_equal(device_wait(&loan, fence), 0);
	assert_int_equal(bytes[0], 'a');
	assert_int_equal(bytes[BLOCK_BYTES - 1], 'a');
	device_loan_end(&d);
	device_free(&d, seg.offset, BLOCK_ORDER);
	assert_int_equal(used(), 0);
	device_close(&d);
}

/* Work that reads keeps folios as a loan does, and others may write to the device all the same. */
static void a_folio_freed_during_a_keep_is_freed_after_it(void **state)
{
	uint64_t first, second;

	(void)state;
	open_full();
	first = take(BLOCK_ORDER);
	second = take(0);
	device_keep(&d);
	assert_false(device_is_lent(&d));
	device_free(&d, first, BLOCK_ORDER);
	device_lend(&d, &loan);
	device_keep_end(&d);
	assert_int_equal(used(), BLOCK_BYTES + PAGE_BYTES);
	device_free(&d, second, 0);
	device_keep(&d);
	device_loan_end(&d);
	assert_int_equal(used(), BLOCK_BYTES + PAGE_BYTES);
	device_keep_end(&d);
	assert_int_equal(used(), 0);
	device_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_folio_freed_during_a_loan_is_freed_after_it),
		CASE(a_folio_freed_without_a_loan_is_freed_at_once),
		CASE(the_last_of_two_loans_frees),
		CASE(a_loan_reads_but_frees_and_splits_nothing),
		CASE(a_folio_freed_during_a_keep_is_freed_after_it),
	};

	if (add_drivers())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
