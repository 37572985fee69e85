/* SPDX-License-Identifier: MIT */
/* What cannot be meant is refused with the errno that the header names and one sentence, and nothing happens to the memory. */
#include "rig.h"

#include "uhmm/driver.h"

#define SEED  61
#define BYTES (2 * BLOCK)

#define UNSET(name, type) struct type name = { .sz = 0 }

static char *mem; /* the first block is on the device */

static void assert_said(const char *culprit)
{
	if (!strstr(support_last_log(), culprit))
		fail_msg("\"%s\" does not name %s", support_last_log(), culprit);
}

static int put_memory(void **state)
{
	mem = map_anon(BYTES, true, true);
	fill_pattern(mem, BYTES, SEED);
	support_log_start(UHMM_LOG_WARN);
	return uhmm_to_device(space, mem, BLOCK, dev, 0, NULL);
}

static int nothing_is_lost(void **state)
{
	bool same = count_where(mem, BYTES, UHMM_WHERE_DEVICE) == PAGES(BLOCK) && used_bytes() == BLOCK;

	uhmm_log_set(NULL, NULL, 0);
	same = same && check_pattern(mem, BYTES, SEED) == -1;
	unmap_anon(mem, BYTES);
	return !same;
}

/* ---- ranges ---- */

static struct uhmm_extent ext;
static size_t nr_ext;

static const struct { uintptr_t start; size_t len; bool from_mem; } bad_ranges[] = {
	{ 1, PAGE, true },
	{ 4095, BLOCK, true },
	{ 0, 0, true },
	{ PAGE, 0, true },
	{ 0, SIZE_MAX, true },
	{ 0, SIZE_MAX - PAGE + 1, true },
	{ PAGE, (size_t)1 << 63, true },
	{ (uintptr_t)0 - PAGE, 2 * PAGE, false },
	{ (uintptr_t)0 - PAGE, PAGE, false },
	{ (uintptr_t)1 << 63, BLOCK, false },
	{ (uintptr_t)1 << 57, BLOCK, false },
};

static void ranges_that_are_none(void **state)
{
	for (size_t k = 0; k < sizeof(bad_ranges) / sizeof(*bad_ranges); k++) {
		uintptr_t start = bad_ranges[k].start + (bad_ranges[k].from_mem ? (uintptr_t)mem : 0);
		size_t len = bad_ranges[k].len;
		void *at = (void *)start;

		refused(-EINVAL, uhmm_to_device(space, at, len, dev, 0, NULL));
		refused(-EINVAL, uhmm_to_system(space, at, len, 0, NULL));
		refused(-EINVAL, uhmm_prefetch(space, at, len, dev));
		refused(-EINVAL, uhmm_prefetch(space, at, len, NULL));
		refused(-EINVAL, uhmm_discard(space, at, len));
		refused(-EINVAL, uhmm_query(space, at, len, &ext, 1, &nr_ext));
	}
}

static void a_discard_of_part_of_a_page(void **state)
{
	refused(-EINVAL, uhmm_discard(space, mem, 100));
	refused(-EINVAL, uhmm_discard(space, mem, BLOCK - 1));
	assert_said("multiple of 4096");
}

static void ranges_with_nothing_in_them(void **state)
{
	char *gap = map_anon(BLOCK, true, true);
	void *const nothing[] = { gap, NULL, (void *)((uintptr_t)1 << 47) };

	munmap(gap, BLOCK);
	for (unsigned k = 0; k < 3; k++) {
		RESULT(res);

		refused(-EFAULT, uhmm_to_device(space, nothing[k], BLOCK, dev, 0, &res));
		assert_int_equal(res.moved_bytes, 0);
		refused(-EFAULT, uhmm_to_system(space, nothing[k], BLOCK, 0, NULL));
		refused(-EFAULT, uhmm_discard(space, nothing[k], BLOCK));
		assert_int_equal(uhmm_query(space, nothing[k], BLOCK, &ext, 1, &nr_ext), 0);
		assert_int_equal(ext.where, UHMM_WHERE_UNMAPPED);
	}
}

static void memory_of_the_library(void **state)
{
	char *own = uhmm_host_alloc(BLOCK);
	RESULT(res);

	assert_non_null(own);
	fill_pattern(own, BLOCK, SEED);
	assert_int_equal(uhmm_to_device(space, own, BLOCK, dev, 0, &res), UHMM_E_PARTIAL);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_OWN], PAGES(BLOCK));
	assert_int_equal(uhmm_to_system(space, own, BLOCK, 0, NULL), 0);
	refused(-EINVAL, uhmm_discard(space, own, BLOCK));
	refused(-EINVAL, uhmm_discard(space, own + 5 * PAGE, PAGE));
	assert_pattern(own, BLOCK, SEED);
	uhmm_host_free(own, BLOCK);

	assert_null(uhmm_host_alloc(0));
	assert_null(uhmm_host_alloc(PAGE));
	assert_null(uhmm_host_alloc((size_t)1 << 60));
	uhmm_host_free(NULL, BLOCK);
}

/* ---- arguments ---- */

static void unknown_flags(void **state)
{
	for (unsigned bit = 0; bit < 32; bit++) {
		if (1u << bit != UHMM_MOVE_READ_ONLY && (bit < 8 || bit >= 12)) /* known to one of the two */
			refused(-EINVAL, uhmm_to_device(space, mem, BYTES, dev, 1u << bit, NULL));
		refused(-EINVAL, uhmm_to_system(space, mem, BYTES, 1u << bit, NULL));
		assert_said("flags");
	}
	for (unsigned order = UHMM_NR_ORDERS; order < 15; order++)
		refused(-EINVAL, uhmm_to_device(space, mem, BYTES, dev, UHMM_MOVE_ORDER(order), NULL));
	assert_said("flags");
}

static void structures_without_a_size(void **state)
{
	UNSET(res, uhmm_result);
	UNSET(st, uhmm_stats);
	UNSET(in, uhmm_device_info);
	UNSET(host, uhmm_probe);

	refused(-EINVAL, uhmm_to_device(space, mem, BYTES, dev, 0, &res));
	refused(-EINVAL, uhmm_to_system(space, mem, BYTES, 0, &res));
	assert_said("sz");
	refused(-EINVAL, uhmm_stats(space, &st));
	refused(-EINVAL, uhmm_device_query(dev, &in));
	refused(-EINVAL, uhmm_probe(&host));
	assert_said("sz");
}

static void nothing_where_something_is_needed(void **state)
{
	struct uhmm_stats st = { .sz = sizeof(st) };
	struct uhmm_device_info in = { .sz = sizeof(in) };
	struct uhmm_device *d;

	refused(-EINVAL, uhmm_open(NULL, NULL));
	refused(-EINVAL, uhmm_device_open(NULL, "emu", &d));
	refused(-EINVAL, uhmm_device_open(space, NULL, &d));
	refused(-EINVAL, uhmm_device_open(space, "emu", NULL));
	refused(-EINVAL, uhmm_device_query(NULL, &in));
	refused(-EINVAL, uhmm_device_query(dev, NULL));
	refused(-EINVAL, uhmm_to_device(NULL, mem, BYTES, dev, 0, NULL));
	refused(-EINVAL, uhmm_to_system(NULL, mem, BYTES, 0, NULL));
	refused(-EINVAL, uhmm_prefetch(NULL, mem, BYTES, dev));
	refused(-EINVAL, uhmm_prefetch_wait(NULL));
	refused(-EINVAL, uhmm_discard(NULL, mem, BYTES));
	refused(-EINVAL, uhmm_query(NULL, mem, BYTES, &ext, 1, &nr_ext));
	refused(-EINVAL, uhmm_query(space, mem, BYTES, NULL, 1, &nr_ext));
	refused(-EINVAL, uhmm_query(space, mem, BYTES, &ext, 0, &nr_ext));
	refused(-EINVAL, uhmm_query(space, mem, BYTES, &ext, 1, NULL));
	refused(-EINVAL, uhmm_stats(NULL, &st));
	refused(-EINVAL, uhmm_stats(space, NULL));
	refused(-EINVAL, uhmm_probe(NULL));
	assert_int_equal(uhmm_close(NULL), 0);
	assert_int_equal(uhmm_device_close(NULL), 0);
}

static void a_device_of_nobody(void **state)
{
	static char somewhere[64];
	struct uhmm_device *closed = open_device("emu:size=2M");
	struct uhmm_device *const strangers[] = { NULL, (struct uhmm_device *)somewhere, closed,
						  (struct uhmm_device *)((char *)dev + 8) };

	assert_int_equal(uhmm_device_close(closed), 0);
	for (unsigned k = 0; k < 4; k++) {
		refused(-ENODEV, uhmm_to_device(space, mem, BYTES, strangers[k], 0, NULL));
		if (strangers[k])
			refused(-ENODEV, uhmm_prefetch(space, mem, BYTES, strangers[k]));
	}
}

/* ---- opening ---- */

static void options_that_are_out_of_range(void **state)
{
	static const struct { struct uhmm_space_opts opts; const char *culprit; } bad[] = {
		{ { .sz = 0 }, "sz" },
		{ { .sz = 7 }, "sz" },
		{ { .sz = sizeof(struct uhmm_space_opts), .fault_threads = 65 }, "fault_threads" },
		{ { .sz = sizeof(struct uhmm_space_opts), .copy_threads = 65 }, "copy_threads" },
		{ { .sz = sizeof(struct uhmm_space_opts), .pool_bytes = UINT64_MAX }, "pool_bytes" },
		{ { .sz = sizeof(struct uhmm_space_opts), .flags = 2 }, "flags" },
		{ { .sz = sizeof(struct uhmm_space_opts), .flags = 1u << 31 }, "flags" },
		{ { .sz = sizeof(struct uhmm_space_opts), .reserved = 1 }, "reserved" },
	};
	struct uhmm_space *s;

	for (size_t k = 0; k < sizeof(bad) / sizeof(*bad); k++) {
		refused(-EINVAL, uhmm_open(&bad[k].opts, &s));
		assert_said(bad[k].culprit);
	}
}

static void options_of_a_newer_header(void **state)
{
	struct { struct uhmm_space_opts opts; uint64_t unknown; } newer = { { .sz = sizeof(newer) }, 1 };
	struct uhmm_space *s;

	refused(-E2BIG, uhmm_open(&newer.opts, &s));
	newer.unknown = 0;
	refused(-EBUSY, uhmm_open(&newer.opts, &s)); /* nothing is wrong with them now */
	newer.opts.sz = sizeof(size_t);
	refused(-EBUSY, uhmm_open(&newer.opts, &s));
}

static void a_second_space(void **state)
{
	struct uhmm_space *s;

	refused(-EBUSY, uhmm_open(NULL, &s));
	assert_said("already");
}

static void device_specs_that_mean_nothing(void **state)
{
	static const struct { const char *spec, *culprit; int error; } bad[] = {
		{ "", "\"\"", -EINVAL },
		{ ":", ":", -EINVAL },
		{ "nosuch", "nosuch", -EINVAL },
		{ "nosuch:size=1G", "nosuch", -EINVAL },
		{ "EMU:size=64M", "EMU", -EINVAL },
		{ "emu size=64M", "emu size=64M", -EINVAL },
		{ "emu:colour=red", "colour", -EINVAL },
		{ "emu:size=64M,colour=red", "colour", -EINVAL },
		{ "emu:size", "\"size\" has no value", -EINVAL },
		{ "emu:size=64M,", "\"\" has no value", -EINVAL },
		{ "emu:size=", "size=", -EINVAL },
		{ "emu:size=lots", "size=lots", -EINVAL },
		{ "emu:size=-2M", "size=-2M", -EINVAL },
		{ "emu:size=64X", "size=64X", -EINVAL },
		{ "emu:size=0", "size", -EINVAL },
		{ "emu:size=3M", "size", -EINVAL },
		{ "emu:latency=fast", "latency=fast", -EINVAL },
		{ "emu:bandwidth=x", "bandwidth=x", -EINVAL },
		{ "emu:populate=maybe", "populate=maybe", -EINVAL },
		{ "emu:async=yes", "async=yes", -EINVAL },
		{ "emu:orders=9", "orders=9", -EINVAL },
		{ "emu:orders=0+12", "orders=0+12", -EINVAL },
		{ "emu:orders=0+", "orders=0+", -EINVAL },
		{ "emu:fail_alloc=-1", "fail_alloc=-1", -EINVAL },
		{ "emu:fail_copy_in=1.5", "fail_copy_in=1.5", -EINVAL },
		{ "emu:size=200T", "200T", -ENOMEM },
	};
	struct uhmm_device *d;

	for (size_t k = 0; k < sizeof(bad) / sizeof(*bad); k++) {
		refused(bad[k].error, uhmm_device_open(space, bad[k].spec, &d));
		assert_said(bad[k].culprit);
	}
}

static void a_device_spec_without_end(void **state)
{
	char spec[5000] = "emu:size=64M,";
	struct uhmm_device *d;

	memset(spec + strlen(spec), 'x', sizeof(spec) - strlen(spec) - 1);
	spec[sizeof(spec) - 1] = '\0';
	refused(-EINVAL, uhmm_device_open(space, spec, &d));
	assert_said("longer than");
	memcpy(spec, "xxxx", 4);
	refused(-EINVAL, uhmm_device_open(space, spec, &d));
	assert_said("there is no driver");
}

/* ---- drivers ---- */

static void drivers_that_are_incomplete_or_too_many(void **state)
{
	static struct uhmm_driver driver[40];
	static char name[40][8];
	struct uhmm_driver broken = *uhmm_driver_get(0);
	unsigned known = 0;
	int r = 0;

	assert_int_equal(uhmm_driver_add(NULL), -EINVAL);
	assert_int_equal(uhmm_driver_add(&broken), -EEXIST);
	broken.name = "b\xe4r";
	assert_int_equal(uhmm_driver_add(&broken), -EINVAL);
	broken.name = "broken";
	broken.copy_out = NULL;
	assert_int_equal(uhmm_driver_add(&broken), -EINVAL);
	broken.copy_out = broken.copy_in;
	broken.sz = 8;
	assert_int_equal(uhmm_driver_add(&broken), -EINVAL);

	while (uhmm_driver_get(known))
		known++;
	for (unsigned k = 0; !r && k < 40; k++) {
		snprintf(name[k], sizeof(name[k]), "copy%u", k);
		driver[k] = *uhmm_driver_get(0);
		driver[k].name = name[k];
		r = uhmm_driver_add(&driver[k]);
		known += !r;
	}
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(known, 32);
	assert_null(uhmm_driver_get(32));
	assert_null(uhmm_driver_get(~0u));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, put_memory, nothing_is_lost)
	const struct CMUnitTest tests[] = {
		CASE(ranges_that_are_none),
		CASE(a_discard_of_part_of_a_page),
		CASE(ranges_with_nothing_in_them),
		CASE(memory_of_the_library),
		CASE(unknown_flags),
		CASE(structures_without_a_size),
		CASE(nothing_where_something_is_needed),
		CASE(a_device_of_nobody),
		CASE(options_that_are_out_of_range),
		CASE(options_of_a_newer_header),
		CASE(a_second_space),
		CASE(device_specs_that_mean_nothing),
		CASE(a_device_spec_without_end),
		CASE(drivers_that_are_incomplete_or_too_many),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
