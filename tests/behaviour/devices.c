/* SPDX-License-Identifier: MIT */
/* Several devices, many devices, devices that answer later or take some sizes only; and what they cost. */
#include "rig.h"

#define SEED  81
#define BYTES (4 * BLOCK)

static char *filled(size_t bytes, bool huge)
{
	char *mem = map_anon(bytes, true, huge);

	fill_pattern(mem, bytes, SEED);
	return mem;
}

static void two_devices_at_once(void **state)
{
	struct uhmm_device *other = open_device("emu:size=32M");
	char *mem = filled(BYTES, true);

	for (unsigned way = 0; way < 3; way++) {
		assert_int_equal(uhmm_to_device(space, mem, BYTES / 2, dev, 0, NULL), 0);
		assert_int_equal(uhmm_to_device(space, mem + BYTES / 2, BYTES / 2, other, 0, NULL), 0);
		eventually(used_bytes() == BYTES / 2);
		assert_int_equal(info(other).used_bytes, BYTES / 2);
		if (way == 0)
			come(mem, BYTES);
		if (way == 2) { /* one is closed: its half comes home, the other's stays */
			assert_int_equal(uhmm_device_close(other), 0);
			assert_int_equal(count_where(mem, BYTES, UHMM_WHERE_DEVICE), PAGES(BYTES / 2));
			assert_true(all_on_device(mem, BYTES / 2));
		}
		assert_pattern(mem, BYTES, SEED);
	}
	unmap_anon(mem, BYTES);
	eventually(used_bytes() == 0);
}

/* Pages of one block on two devices, and at home. */
static void a_block_on_two_devices(void **state)
{
	struct uhmm_device *other = open_device("emu:size=32M");

	for (enum way way = 0; way < NR_WAYS; way++) {
		char *mem = filled(BLOCK, true);
		struct uhmm_extent ext[4];
		size_t nr;

		assert_int_equal(uhmm_to_device(space, mem, 100 * PAGE, dev, 0, NULL), 0);
		assert_int_equal(uhmm_to_device(space, mem + 200 * PAGE, 312 * PAGE, other, 0, NULL), 0);
		assert_int_equal(uhmm_query(space, mem, BLOCK, ext, 4, &nr), 0);
		assert_int_equal(nr, 3);
		assert_ptr_equal(ext[0].dev, dev);
		assert_int_equal(ext[1].where, UHMM_WHERE_SYSTEM);
		assert_ptr_equal(ext[2].dev, other);
		if (way == BY_CALL)
			come(mem, BLOCK);
		assert_pattern(mem, BLOCK, SEED);
		unmap_anon(mem, BLOCK);
	}
	assert_int_equal(uhmm_device_close(other), 0);
}

static void no_more_than_255(void **state)
{
	struct uhmm_device *many[255], *one_more;
	char *mem = filled(BYTES, true);
	size_t n = 0;

	while (n < 254 && !uhmm_device_open(space, "emu:size=2M", &many[n])) /* one is open already */
		n++;
	assert_int_equal(n, 254);
	support_log_start(UHMM_LOG_ERROR);
	assert_int_equal(uhmm_device_open(space, "emu:size=2M", &one_more), -ENOSPC);
	assert_int_equal(support_log_count(), 1);
	uhmm_log_set(NULL, NULL, 0);

	/* the first and the last are as good as any */
	assert_int_equal(uhmm_to_device(space, mem, BLOCK, many[253], 0, NULL), 0);
	assert_int_equal(uhmm_to_device(space, mem + BLOCK, BLOCK, many[0], 0, NULL), 0);
	assert_int_equal(uhmm_device_close(many[100]), 0);
	assert_int_equal(uhmm_device_open(space, "emu:size=2M", &many[100]), 0);
	assert_int_equal(uhmm_to_device(space, mem + 2 * BLOCK, BLOCK, many[100], 0, NULL), 0);
	assert_pattern(mem, BYTES, SEED);
	while (n)
		assert_int_equal(uhmm_device_close(many[--n]), 0);
	unmap_anon(mem, BYTES);
}

static void a_device_that_answers_later(void **state)
{
	struct uhmm_device *later = open_device("emu:size=32M,async=on,latency=100us");

	assert_true(info(later).caps & (1u << 1)); /* UHMM_CAP_ASYNC */
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = filled(BYTES, huge);

		for (enum way way = 0; way < NR_WAYS; way++) {
			assert_int_equal(uhmm_to_device(space, mem, BYTES, later, 0, NULL), 0);
			if (way == BY_CALL)
				come(mem, BYTES);
			assert_pattern(mem, BYTES, SEED);
			eventually(info(later).used_bytes == 0);
		}
		unmap_anon(mem, BYTES);
	}
	assert_int_equal(uhmm_device_close(later), 0);
}

static void devices_that_take_some_orders_only(void **state)
{
	static const struct { const char *spec; uint32_t orders; } some[] = {
		{ "emu:size=32M,orders=ends", 1u << 9 | 1 }, { "emu:size=32M,orders=0", 1 }, { "emu:size=32M,orders=0+4", 0x11 },
		{ "emu:size=32M,orders=all", 0x3ff },
	};

	for (size_t k = 0; k < 4; k++) {
		struct uhmm_device *d = open_device(some[k].spec);
		char *mem = filled(BYTES, true);
		size_t thps = anon_huge_bytes(mem, BYTES) / BLOCK;
		RESULT(res);

		assert_int_equal(info(d).orders, some[k].orders);
		assert_string_equal(info(d).spec, some[k].spec);
		assert_int_equal(uhmm_to_device(space, mem, BYTES, d, 0, &res), 0);
		assert_int_equal(res.moved_folios[9], some[k].orders >> 9 ? thps : 0);
		for (unsigned order = 0; order < UHMM_NR_ORDERS; order++) {
			assert_true(!res.moved_folios[order] || some[k].orders >> order & 1);
			assert_int_equal(info(d).folios[order], res.moved_folios[order]);
		}
		assert_pattern(mem, BYTES, SEED);
		assert_int_equal(uhmm_device_close(d), 0);
		unmap_anon(mem, BYTES);
	}
}

static void a_device_of_any_size_costs_what_is_used(void **state)
{
	struct uhmm_device *vast = open_device("emu:size=1T");
	size_t bytes = 256 * MIB;
	uint64_t empty = info(vast).metadata_bytes, tables = stats().metadata_bytes, per_block;
	char *mem = map_anon(bytes, true, true);

	assert_int_equal(info(vast).size_bytes, (uint64_t)1 << 40);
	assert_true(empty <= 256 * KIB);
	assert_int_equal(info(vast).host_bytes, 0);
	for (size_t i = 0; i < bytes; i += PAGE)
		mem[i] = 1;
	if (anon_huge_bytes(mem, bytes) == bytes) {
		assert_int_equal(uhmm_to_device(space, mem, bytes, vast, 0, NULL), 0);
		assert_int_equal(info(vast).folios[9], bytes / BLOCK);

		/* at most 64 bytes for 2 MiB, and a page or two for what comes in pages */
		per_block = 64 * (bytes / BLOCK);
		assert_true(stats().metadata_bytes - tables <= per_block + 4 * PAGE);
		assert_true(info(vast).metadata_bytes - empty <= per_block + 4 * PAGE);
		assert_int_equal(stats().device_bytes, bytes);
		assert_int_equal(info(vast).host_bytes, bytes);
	}
	unmap_anon(mem, bytes);
	eventually(info(vast).used_bytes == 0);
	assert_int_equal(uhmm_device_close(vast), 0);
}

static uint64_t bytes_of(const uint64_t *folios)
{
	uint64_t sum = 0;

	for (unsigned k = 0; k < UHMM_NR_ORDERS; k++)
		sum += folios[k] * (PAGE << k);
	return sum;
}

static void the_counters_add_up(void **state)
{
	char *mem = filled(BYTES, true);
	struct uhmm_stats before = stats(), after;
	RESULT(there);
	RESULT(back);

	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, &there), 0);
	assert_int_equal(stats().device_bytes, before.device_bytes + BYTES);
	assert_int_equal(uhmm_to_system(space, mem, BLOCK, 0, &back), 0); /* one block by a call, */
	assert_pattern(mem, 2 * BLOCK, SEED);                             /* one by touches, */
	assert_int_equal(uhmm_discard(space, mem + 2 * BLOCK, BLOCK), 0); /* one not at all, */
	munmap(mem + 3 * BLOCK, BLOCK);                                   /* and one is unmapped */
	eventually(stats().device_bytes == before.device_bytes);
	eventually(bytes_of(stats().fault_folios) - bytes_of(before.fault_folios) == BLOCK);
	after = stats();
	assert_int_equal(after.to_device_bytes - before.to_device_bytes, BYTES);
	assert_int_equal(bytes_of(after.to_device_folios) - bytes_of(before.to_device_folios), BYTES);
	assert_int_equal(bytes_of(there.moved_folios), there.moved_bytes);
	assert_int_equal(after.to_system_bytes - before.to_system_bytes, BLOCK);
	assert_int_equal(back.moved_bytes, BLOCK);
	assert_int_equal(bytes_of(after.to_system_folios) - bytes_of(before.to_system_folios), BLOCK);
	assert_int_equal(after.fault_bytes - before.fault_bytes, BLOCK);
	assert_int_equal(after.dropped_pages - before.dropped_pages, PAGES(2 * BLOCK));
	assert_true(after.faults > before.faults);
	assert_true(after.fault_ns_max >= after.fault_ns_p99 && after.fault_ns_p99 >= after.fault_ns_p50);
	assert_true(after.pool_bytes <= after.pool_bytes_max);
	assert_true(after.events_remove > before.events_remove && after.events_unmap > before.events_unmap);
	munmap(mem - PAGE, BYTES + 2 * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_devices_at_once),
		cmocka_unit_test(a_block_on_two_devices),
		cmocka_unit_test(a_device_that_answers_later),
		cmocka_unit_test(devices_that_take_some_orders_only),
		cmocka_unit_test(a_device_of_any_size_costs_what_is_used),
		cmocka_unit_test(the_counters_add_up),
		cmocka_unit_test(no_more_than_255),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
