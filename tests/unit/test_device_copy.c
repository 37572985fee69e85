/* SPDX-License-Identifier: MIT */
/* Copies, fences and clearing; the rest of device.c is in test_device.c. */
#include "fake_driver.h"

static char host[4 * PAGE_BYTES] __attribute__((aligned(4096)));

static int open_async(void)
{
	fake.props.caps = UHMM_CAP_ASYNC;
	fake.fence = 99;
	return open_dev("full");
}

static bool all_are(const char *mem, uint64_t bytes, char value)
{
	for (uint64_t i = 0; i < bytes; i++)
		if (mem[i] != value)
			return false;
	return true;
}

static void bytes_go_in_and_come_out(void **state)
{
	struct uhmm_seg segs[2] = { { 0, host, PAGE_BYTES }, { 3 * PAGE_BYTES, host + PAGE_BYTES, 2 * PAGE_BYTES } };
	uint64_t fence = 77;

	(void)state;
	assert_int_equal(open_dev("bare"), 0);
	memset(host, 1, sizeof(host));
	assert_int_equal(device_copy_in(&d, segs, 2, &fence), 0);
	assert_int_equal(fence, 0);
	assert_int_equal(device_wait(&d, fence), 0);
	assert_true(all_are(memory, PAGE_BYTES, 1));
	assert_true(all_are(memory + 3 * PAGE_BYTES, 2 * PAGE_BYTES, 1));
	assert_true(all_are(memory + PAGE_BYTES, 2 * PAGE_BYTES, 0x5a));
	memset(host, 0, sizeof(host));
	assert_int_equal(device_copy_out(&d, segs, 2, &fence), 0);
	assert_true(all_are(host, 3 * PAGE_BYTES, 1));
	device_close(&d);
}

static void a_failed_copy_is_told_without_a_fence(void **state)
{
	struct uhmm_seg seg = { 0, host, PAGE_BYTES };
	uint64_t fence = 77;

	(void)state;
	assert_int_equal(open_async(), 0);
	fake.copy = -EIO;
	assert_int_equal(device_copy_in(&d, &seg, 1, &fence), -EIO);
	assert_int_equal(device_copy_out(&d, &seg, 1, &fence), -EIO);
	fake.copy = 5;
	assert_int_equal(device_copy_in(&d, &seg, 1, &fence), -EPROTO);
	assert_int_equal(fence, 77);
	assert_int_equal(fake.nr_waits, 0);
	device_close(&d);
}

static void the_fence_of_an_asynchronous_copy_is_waited_for(void **state)
{
	struct uhmm_seg seg = { 0, host, PAGE_BYTES };
	uint64_t fence = 0;

	(void)state;
	assert_int_equal(open_async(), 0);
	assert_int_equal(device_copy_in(&d, &seg, 1, &fence), 0);
	assert_int_equal(fence, 99);
	assert_int_equal(fake.nr_waits, 0);
	assert_int_equal(device_wait(&d, fence), 0);
	assert_int_equal(fake.nr_waits, 1);
	assert_int_equal(fake.last_fence, 99);
	fake.fence_wait = -EIO;
	assert_int_equal(device_wait(&d, fence), -EIO);
	fake.fence_wait = 3;
	assert_int_equal(device_wait(&d, fence), -EPROTO);
	device_close(&d);
}

static void no_fence_is_nothing_to_wait_for(void **state)
{
	struct uhmm_seg seg = { 0, host, PAGE_BYTES };
	uint64_t fence = 77;

	(void)state;
	assert_int_equal(open_async(), 0);
	fake.fence = 0; /* asynchronous, but this copy has ended */
	assert_int_equal(device_copy_in(&d, &seg, 1, &fence), 0);
	assert_int_equal(fence, 0);
	assert_int_equal(device_wait(&d, fence), 0);
	assert_int_equal(fake.nr_waits, 0);
	device_close(&d);
}

static void a_fence_nobody_announced_is_ignored(void **state)
{
	struct uhmm_seg seg = { 0, host, PAGE_BYTES };
	uint64_t fence = 77;

	(void)state;
	fake.fence = 99;
	assert_int_equal(open_dev("bare"), 0);
	assert_int_equal(device_copy_in(&d, &seg, 1, &fence), 0);
	assert_int_equal(fence, 0);
	device_close(&d);
}

static void clearing_is_the_drivers_where_it_can(void **state)
{
	(void)state;
	assert_int_equal(open_dev("full"), 0);
	assert_int_equal(device_clear(&d, PAGE_BYTES, BLOCK_BYTES), 0);
	assert_int_equal(fake.nr_clears, 1);
	assert_int_equal(fake.nr_copies, 0);
	fake.clear = -EIO;
	assert_int_equal(device_clear(&d, 0, PAGE_BYTES), -EIO);
	fake.clear = 4;
	assert_int_equal(device_clear(&d, 0, PAGE_BYTES), -EPROTO);
	device_close(&d);
}

static void else_zeros_are_copied_in(void **state)
{
	(void)state;
	assert_int_equal(open_dev("bare"), 0);
	assert_int_equal(device_clear(&d, BLOCK_BYTES, BLOCK_BYTES), 0);
	assert_true(all_are(memory + BLOCK_BYTES, BLOCK_BYTES, 0));
	assert_true(all_are(memory, BLOCK_BYTES, 0x5a));
	assert_true(all_are(memory + 2 * BLOCK_BYTES, BLOCK_BYTES, 0x5a));
	assert_int_equal(device_clear(&d, 0, 17 * PAGE_BYTES), 0); /* not a multiple of what is copied at once */
	assert_true(all_are(memory, 17 * PAGE_BYTES, 0));
	assert_true(all_are(memory + 17 * PAGE_BYTES, PAGE_BYTES, 0x5a));
	device_close(&d);
}

static void clearing_stops_at_the_first_failed_copy(void **state)
{
	(void)state;
	assert_int_equal(open_dev("bare"), 0);
	fake.copy = -EIO;
	assert_int_equal(device_clear(&d, 0, BLOCK_BYTES), -EIO);
	assert_int_equal(fake.nr_copies, 1);
	device_close(&d);
}

#ifdef UHMM_DEBUG_CHECKS
static int copy_under_a_lock(void *arg)
{
	struct uhmm_seg seg = { 0, host, PAGE_BYTES };
	uint64_t fence;

	lock_rank_enter(LOCK_BLOCK);
	return *(bool *)arg ? device_alloc(&d, 0, &fence) : device_copy_in(&d, &seg, 1, &fence);
}

static void calling_a_driver_under_a_lock_aborts(void **state)
{
	bool alloc = true, copy = false;

	(void)state;
	assert_int_equal(open_dev("bare"), 0);
	assert_true(aborts(copy_under_a_lock, &alloc));
	assert_true(aborts(copy_under_a_lock, &copy));
	device_close(&d);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(bytes_go_in_and_come_out),
		CASE(a_failed_copy_is_told_without_a_fence),
		CASE(the_fence_of_an_asynchronous_copy_is_waited_for),
		CASE(no_fence_is_nothing_to_wait_for),
		CASE(a_fence_nobody_announced_is_ignored),
		CASE(clearing_is_the_drivers_where_it_can),
		CASE(else_zeros_are_copied_in),
		CASE(clearing_stops_at_the_first_failed_copy),
#ifdef UHMM_DEBUG_CHECKS
		CASE(calling_a_driver_under_a_lock_aborts),
#endif
	};

	if (add_drivers())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
