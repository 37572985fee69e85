/* SPDX-License-Identifier: MIT */
/* What uhmm_query(), uhmm_stats() and uhmm_device_query() say, held against what has been done; and devices of several kinds. */
#include <pthread.h>
#include <stdatomic.h>

#include "rig.h"

#define SEED  81
#define BYTES (4 * BLOCK)

static char *filled(size_t bytes, bool huge)
{
	char *mem = map_anon(bytes, true, huge);

	fill_pattern(mem, bytes, SEED);
	return mem;
}

/* ---- extents ---- */

/* What is expected of [first, end), in pages. */
struct expected {
	size_t first, end;
	enum uhmm_where where;
	unsigned order;
	struct uhmm_device *dev;
};

static void expect_one(const struct uhmm_extent *ext, const char *mem, const struct expected *e)
{
	assert_int_equal((ext->start - (uintptr_t)mem) / PAGE, e->first);
	assert_int_equal((ext->end - (uintptr_t)mem) / PAGE, e->end);
	assert_int_equal(ext->where, e->where);
	assert_int_equal(ext->order, e->order);
	assert_ptr_equal(ext->dev, e->dev);
}

/* The extents from the first page of @e to its last, as a whole and as the caller asks for few at a time. */
static void expect_extents(char *mem, const struct expected *e, size_t nr)
{
	size_t from = e[0].first * PAGE, end = e[nr - 1].end * PAGE, got;
	struct uhmm_extent ext[20];

	assert_int_equal(uhmm_query(space, mem + from, end - from, ext, 20, &got), 0);
	assert_int_equal(got, nr);
	for (size_t k = 0; k < nr; k++)
		expect_one(&ext[k], mem, &e[k]);

	for (size_t room = 1; room < nr; room++) {
		size_t k = 0;

		for (uint64_t at = (uintptr_t)mem + from; at < (uintptr_t)mem + end; at = ext[got - 1].end) {
			assert_int_equal(uhmm_query(space, (void *)at, (uintptr_t)mem + end - at, ext, room, &got), 0);
			assert_int_equal(got, nr - k < room ? nr - k : room);
			for (size_t i = 0; i < got; i++)
				expect_one(&ext[i], mem, &e[k++]);
		}
		assert_int_equal(k, nr);
	}
}

#define EXPECT(mem, ...)                                                     \
	do {                                                                 \
		const struct expected list[] = { __VA_ARGS__ };              \
		expect_extents((mem), list, sizeof(list) / sizeof(*list));   \
	} while (0)

static void memory_that_uhmm_has_never_seen(void **state)
{
	char *mem = map_anon(BYTES, true, false);

	EXPECT(mem, { 0, 2048, UHMM_WHERE_HOLE, 0, NULL });
	fill_pattern(mem + 3 * PAGE, 2 * PAGE, SEED);
	EXPECT(mem, { 0, 3, UHMM_WHERE_HOLE, 0, NULL }, { 3, 5, UHMM_WHERE_SYSTEM, 0, NULL },
	       { 5, 2048, UHMM_WHERE_HOLE, 0, NULL });
	munmap(mem + 600 * PAGE, 100 * PAGE);
	EXPECT(mem, { 4, 5, UHMM_WHERE_SYSTEM, 0, NULL }, { 5, 600, UHMM_WHERE_HOLE, 0, NULL },
	       { 600, 700, UHMM_WHERE_UNMAPPED, 0, NULL }, { 700, 2048, UHMM_WHERE_HOLE, 0, NULL });
	EXPECT(mem, { 620, 630, UHMM_WHERE_UNMAPPED, 0, NULL });
	munmap(mem, BYTES);
	EXPECT(mem, { 0, 2048, UHMM_WHERE_UNMAPPED, 0, NULL });
}

static void thps_and_what_becomes_of_them(void **state)
{
	char *mem = filled(BYTES, true);

	if (anon_huge_bytes(mem, BYTES) < BYTES)
		skip();
	EXPECT(mem, { 0, 2048, UHMM_WHERE_SYSTEM, 9, NULL });
	go(mem, BYTES);
	EXPECT(mem, { 0, 2048, UHMM_WHERE_DEVICE, 9, dev });
	EXPECT(mem, { 100, 700, UHMM_WHERE_DEVICE, 9, dev });

	/* a part that comes home splits its folio, and no other */
	come(mem + 700 * PAGE, 10 * PAGE);
	EXPECT(mem, { 0, 512, UHMM_WHERE_DEVICE, 9, dev }, { 512, 700, UHMM_WHERE_DEVICE, 0, dev },
	       { 700, 710, UHMM_WHERE_SYSTEM, 0, NULL }, { 710, 1024, UHMM_WHERE_DEVICE, 0, dev },
	       { 1024, 2048, UHMM_WHERE_DEVICE, 9, dev });
	assert_int_equal(uhmm_discard(space, mem + 2000 * PAGE, 48 * PAGE), 0);
	EXPECT(mem, { 1024, 1536, UHMM_WHERE_DEVICE, 9, dev }, { 1536, 2000, UHMM_WHERE_DEVICE, 0, dev },
	       { 2000, 2048, UHMM_WHERE_HOLE, 0, NULL });
	come(mem, BYTES);
	EXPECT(mem, { 0, 512, UHMM_WHERE_SYSTEM, 9, NULL }, { 512, 1024, UHMM_WHERE_SYSTEM, 0, NULL },
	       { 1024, 1536, UHMM_WHERE_SYSTEM, 9, NULL }, { 1536, 2000, UHMM_WHERE_SYSTEM, 0, NULL },
	       { 2000, 2048, UHMM_WHERE_HOLE, 0, NULL });
	unmap_anon(mem, BYTES);
}

static void base_pages_beside_holes_and_gaps(void **state)
{
	char *mem = map_anon(BYTES, true, false);

	fill_pattern(mem, 600 * PAGE, SEED);
	go(mem + 10 * PAGE, 1000 * PAGE);
	EXPECT(mem, { 0, 10, UHMM_WHERE_SYSTEM, 0, NULL }, { 10, 1010, UHMM_WHERE_DEVICE, 0, dev },
	       { 1010, 2048, UHMM_WHERE_HOLE, 0, NULL });
	munmap(mem + 20 * PAGE, 5 * PAGE);
	eventually(used_bytes() == 995 * PAGE);
	assert_int_equal(mprotect(mem + 100 * PAGE, PAGE, PROT_READ), 0);
	(void)*(volatile char *)(mem + 50 * PAGE);
	eventually(count_where(mem + 50 * PAGE, PAGE, UHMM_WHERE_SYSTEM) == 1);
	EXPECT(mem, { 10, 20, UHMM_WHERE_DEVICE, 0, dev }, { 20, 25, UHMM_WHERE_UNMAPPED, 0, NULL },
	       { 25, 50, UHMM_WHERE_DEVICE, 0, dev }, { 50, 51, UHMM_WHERE_SYSTEM, 0, NULL },
	       { 51, 1010, UHMM_WHERE_DEVICE, 0, dev }, { 1010, 1011, UHMM_WHERE_HOLE, 0, NULL });
	assert_int_equal(check_pattern_at(mem + 25 * PAGE, 575 * PAGE, SEED, 25 * PAGE), -1);
	assert_int_equal(mprotect(mem, 20 * PAGE, PROT_READ | PROT_WRITE), 0);
	come(mem, 20 * PAGE);
	unmap_anon(mem, BYTES);
	eventually(used_bytes() == 0);
}

static atomic_bool done;

static void *back_and_forth(void *arg)
{
	while (!atomic_load(&done)) {
		(void)uhmm_to_device(space, arg, 16 * PAGE, dev, 0, NULL);
		(void)uhmm_to_system(space, arg, 16 * PAGE, 0, NULL);
	}
	return NULL;
}

static int count_holes(void *ctx, const struct uhmm_piece *p)
{
	*(size_t *)ctx += p->where == UHMM_WHERE_HOLE;
	return 0;
}

/* Whenever it is looked at: between the look at the table and the one at the kernel's, it may leave. */
static void a_page_with_bytes_is_never_a_hole(void **state)
{
	char *mem = filled(BLOCK, false);
	uint64_t end = now_ns() + 1000000000;
	size_t holes = 0, nr;
	struct uhmm_extent ext[20];
	pthread_t mover;

	(void)state;
	atomic_store(&done, false);
	assert_int_equal(pthread_create(&mover, NULL, back_and_forth, mem), 0);
	while (now_ns() < end) {
		assert_int_equal(uhmm_query(space, mem, 40 * PAGE, ext, 20, &nr), 0);
		for (size_t k = 0; k < nr; k++)
			holes += ext[k].where == UHMM_WHERE_HOLE;
		assert_int_equal(uhmm_walk(space, mem, 40 * PAGE, count_holes, &holes), 0);
	}
	atomic_store(&done, true);
	pthread_join(mover, NULL);
	assert_int_equal(holes, 0);
	assert_pattern(mem, BLOCK, SEED);
	unmap_anon(mem, BLOCK);
}

/* ---- counters ---- */

static void the_counters_add_up(void **state)
{
	struct uhmm_stats a = stats(), b;
	char *mem = filled(BYTES, true);
	size_t thps = anon_huge_bytes(mem, BYTES) / BLOCK, small = PAGES(BYTES) - thps * 512;
	RESULT(res);

	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, &res), 0);
	b = stats();
	assert_int_equal(b.to_device_bytes - a.to_device_bytes, BYTES);
	assert_int_equal(b.to_device_folios[9] - a.to_device_folios[9], thps);
	assert_int_equal(b.to_device_folios[0] - a.to_device_folios[0], small);
	assert_int_equal(res.moved_folios[9], thps);
	assert_int_equal(b.device_bytes, BYTES);
	assert_int_equal(info(dev).used_bytes, BYTES);
	assert_int_equal(info(dev).folios[9], thps);
	assert_int_equal(info(dev).folios[0], small);
	assert_string_equal(info(dev).spec, "emu:size=512M,orders=ends");
	assert_int_equal(info(dev).size_bytes, 512 * MIB);
	assert_int_equal(info(dev).orders, 0x201);
	assert_int_equal(info(dev).caps, 0);

	/* asking twice moves nothing, and says so */
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, &res), 0);
	assert_int_equal(res.moved_bytes, 0);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_ABSENT], PAGES(BYTES));

	assert_pattern(mem, BLOCK, SEED);
	assert_int_equal(uhmm_discard(space, mem + BLOCK, BLOCK), 0);
	assert_int_equal(uhmm_to_system(space, mem, BYTES, 0, &res), 0);
	assert_int_equal(res.moved_bytes, 2 * BLOCK);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_ABSENT], PAGES(2 * BLOCK));
	eventually(stats().fault_bytes - a.fault_bytes == BLOCK);
	b = stats();
	assert_true(b.faults > a.faults);
	assert_int_equal(b.to_system_bytes - a.to_system_bytes, 2 * BLOCK);
	assert_int_equal(b.dropped_pages - a.dropped_pages, PAGES(BLOCK));
	assert_true(b.events_remove > a.events_remove);
	assert_int_equal(b.device_bytes, 0);
	assert_true(b.pool_bytes <= b.pool_bytes_max);
	assert_int_equal(b.fault_lost, a.fault_lost);
	unmap_anon(mem, BYTES);
}

static void shorter_structures_are_filled_as_far_as_they_go(void **state)
{
	struct uhmm_stats st;
	struct uhmm_device_info in;

	memset(&st, 0xaa, sizeof(st));
	memset(&in, 0xaa, sizeof(in));
	st.sz = offsetof(struct uhmm_stats, to_system_bytes);
	in.sz = offsetof(struct uhmm_device_info, orders);
	assert_int_equal(uhmm_stats(space, &st), 0);
	assert_int_equal(uhmm_device_query(dev, &in), 0);
	assert_int_equal(st.sz, offsetof(struct uhmm_stats, to_system_bytes));
	assert_int_equal(st.to_system_bytes, 0xaaaaaaaaaaaaaaaa);
	assert_int_equal(in.size_bytes, 512 * MIB);
	assert_int_equal(in.orders, 0xaaaaaaaa);
}

static void a_huge_range_costs_little_to_manage(void **state)
{
	size_t bytes = 256 * MIB;
	char *mem = map_anon(bytes, true, true);
	uint64_t before;

	for (size_t i = 0; i < bytes; i += BLOCK)
		mem[i] = 1;
	before = stats().metadata_bytes;
	go(mem, bytes);
	if (info(dev).folios[9] == bytes / BLOCK) /* no THP was short */
		assert_true(stats().metadata_bytes - before <= 64 * bytes / BLOCK);
	assert_true(info(dev).metadata_bytes <= stats().metadata_bytes);
	come(mem, bytes);
	unmap_anon(mem, bytes);
}

/* ---- devices ---- */

static void two_devices_at_once(void **state)
{
	struct uhmm_device *other = open_device("emu:size=64M,orders=ends");
	char *mem = filled(BYTES, true);
	RESULT(res);

	if (anon_huge_bytes(mem, BYTES) < BYTES)
		skip();
	go(mem, 2 * BLOCK);
	assert_int_equal(uhmm_to_device(space, mem + BLOCK, 3 * BLOCK, other, 0, &res), UHMM_E_PARTIAL);
	assert_int_equal(res.moved_bytes, 2 * BLOCK);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_OTHER_DEVICE], PAGES(BLOCK));
	assert_int_equal(skipped(&res, ANY_REASON), PAGES(BLOCK));
	EXPECT(mem, { 0, 1024, UHMM_WHERE_DEVICE, 9, dev }, { 1024, 2048, UHMM_WHERE_DEVICE, 9, other });
	assert_int_equal(stats().device_bytes, BYTES);
	assert_int_equal(info(other).used_bytes, 2 * BLOCK);

	/* one block with pages on both */
	come(mem + 512 * PAGE, 100 * PAGE);
	assert_int_equal(uhmm_to_device(space, mem + BLOCK, BLOCK, other, 0, &res), UHMM_E_PARTIAL);
	assert_int_equal(res.moved_folios[0], 100);
	EXPECT(mem, { 512, 612, UHMM_WHERE_DEVICE, 0, other }, { 612, 1024, UHMM_WHERE_DEVICE, 0, dev });

	/* closing one leaves the other's alone */
	assert_int_equal(uhmm_device_close(other), 0);
	EXPECT(mem, { 0, 512, UHMM_WHERE_DEVICE, 9, dev }, { 512, 612, UHMM_WHERE_SYSTEM, 0, NULL },
	       { 612, 1024, UHMM_WHERE_DEVICE, 0, dev }, { 1024, 2048, UHMM_WHERE_SYSTEM, 9, NULL });
	assert_pattern(mem, BYTES, SEED);
	eventually(used_bytes() == 0);
	unmap_anon(mem, BYTES);
}

static void two_hundred_and_fifty_five_devices(void **state)
{
	static struct uhmm_device *devices[255];
	char *mem = filled(BLOCK, false);
	struct uhmm_device *d;
	unsigned nr = 1;

	while (nr < 255)
		devices[nr++] = open_device("emu:size=2M,orders=ends");
	assert_int_equal(uhmm_device_open(space, "emu:size=2M", &d), -ENOSPC);
	for (size_t k = 0; k < 254; k++) /* a page on each */
		assert_int_equal(uhmm_to_device(space, mem + k * PAGE, PAGE, devices[k + 1], 0, NULL), 0);
	EXPECT(mem, { 252, 253, UHMM_WHERE_DEVICE, 0, devices[253] }, { 253, 254, UHMM_WHERE_DEVICE, 0, devices[254] });
	assert_int_equal(uhmm_device_close(devices[100]), 0);
	devices[100] = open_device("emu:size=2M,orders=ends");
	assert_int_equal(uhmm_device_open(space, "emu:size=2M", &d), -ENOSPC);
	assert_pattern(mem, BLOCK, SEED);
	for (unsigned k = 1; k < 255; k++)
		assert_int_equal(uhmm_device_close(devices[k]), 0);
	unmap_anon(mem, BLOCK);
}

static void devices_of_all_kinds_keep_bytes(void **state)
{
	static const char *const specs[] = {
		"emu:size=64M,orders=ends", "emu:size=64M,orders=0", "emu:size=64M,orders=0+4+9", "emu:size=64M,async=on",
		"emu:size=64M,async=on,orders=ends,latency=50us", "emu:size=64M,populate=on", "emu:size=64M,bandwidth=8G",
	};
	struct uhmm_device *usual = dev;

	for (size_t k = 0; k < 2 * sizeof(specs) / sizeof(*specs); k++) {
		char *mem = filled(BYTES, k % 2);

		dev = open_device(specs[k / 2]);
		go_and_return(mem, BYTES, SEED);
		go(mem + 5 * PAGE, 2 * BLOCK);
		come(mem + 100 * PAGE, BLOCK);
		assert_pattern(mem, BYTES, SEED);
		if (strstr(specs[k / 2], "orders=0"))
			assert_int_equal(info(dev).orders & 1, 1);
		assert_int_equal(uhmm_device_close(dev), 0);
		unmap_anon(mem, BYTES);
	}
	dev = usual;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_that_uhmm_has_never_seen),
		cmocka_unit_test(thps_and_what_becomes_of_them),
		cmocka_unit_test(base_pages_beside_holes_and_gaps),
		cmocka_unit_test(a_page_with_bytes_is_never_a_hole),
		cmocka_unit_test(the_counters_add_up),
		cmocka_unit_test(shorter_structures_are_filled_as_far_as_they_go),
		cmocka_unit_test(a_huge_range_costs_little_to_manage),
		cmocka_unit_test(two_devices_at_once),
		cmocka_unit_test(two_hundred_and_fifty_five_devices),
		cmocka_unit_test(devices_of_all_kinds_keep_bytes),
	};

	rig_open("emu:size=512M,orders=ends");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
