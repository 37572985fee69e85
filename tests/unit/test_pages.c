/* SPDX-License-Identifier: MIT */
#include "unit.h"

static void rounding_goes_to_the_neighbouring_multiples(void **state)
{
	const uint64_t a[] = { 0, 1, 4095, 4096, 4097, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, UINT64_C(1) << 47 };

	(void)state;
	for (unsigned i = 0; i < sizeof(a) / sizeof(*a); i++) {
		assert_int_equal(page_down(a[i]), a[i] / 4096 * 4096);
		assert_int_equal(page_up(a[i]), (a[i] + 4095) / 4096 * 4096);
		assert_int_equal(block_down(a[i]), a[i] / (2 * MIB) * (2 * MIB));
		assert_int_equal(block_up(a[i]), (a[i] + 2 * MIB - 1) / (2 * MIB) * (2 * MIB));
		assert_int_equal(page_aligned(a[i]), a[i] % 4096 == 0);
		assert_int_equal(block_aligned(a[i]), a[i] % (2 * MIB) == 0);
	}
}

static void a_page_knows_its_place_in_the_block(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		assert_int_equal(page_in_block(7 * BLOCK_BYTES + i * PAGE_BYTES), i);
		assert_int_equal(page_in_block(7 * BLOCK_BYTES + i * PAGE_BYTES + 4095), i);
	}
}

static void an_order_is_a_power_of_two_of_pages(void **state)
{
	(void)state;
	for (unsigned k = 0; k < NR_ORDERS; k++) {
		assert_int_equal(order_pages(k), 1u << k);
		assert_int_equal(order_bytes(k), order_pages(k) * PAGE_BYTES);
	}
	assert_int_equal(order_bytes(BLOCK_ORDER), BLOCK_BYTES);
	assert_int_equal(order_pages(BLOCK_ORDER), PAGES_PER_BLOCK);
}

static void the_smaller_and_the_larger(void **state)
{
	(void)state;
	assert_int_equal(min_u64(3, UINT64_MAX), 3);
	assert_int_equal(max_u64(3, UINT64_MAX), UINT64_MAX);
	assert_int_equal(min_u64(5, 5), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rounding_goes_to_the_neighbouring_multiples),
		cmocka_unit_test(a_page_knows_its_place_in_the_block),
		cmocka_unit_test(an_order_is_a_power_of_two_of_pages),
		cmocka_unit_test(the_smaller_and_the_larger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
