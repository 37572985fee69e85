/* SPDX-License-Identifier: MIT */
/*
 * Work on a device, through the public calls: data that is larger than the device is there a piece at a time, and stays while it is
 * worked on. Where the device has addresses or a runtime, these are what its driver says.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support.h"

#define PAGE  ((size_t)4096)
#define BLOCK (2 * MIB)
#define MOST  (64 * MIB) /* of the device, that is filled twice */

static struct uhmm_space *space;
static struct uhmm_device *dev;

static struct uhmm_device_info info(void)
{
	struct uhmm_device_info i = { .sz = sizeof(i) };

	assert_int_equal(uhmm_device_query(dev, &i), 0);
	return i;
}

static struct uhmm_work *acquire(char *mem, size_t bytes, uint32_t flags)
{
	struct uhmm_work_range r = { mem, bytes, flags, 0 };
	struct uhmm_work *w;

	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), 0);
	return w;
}

/* Every page of a work is in one extent, and no two share a place. */
static void check_extents(struct uhmm_work *w, const char *mem, size_t bytes)
{
	uint64_t at = (uintptr_t)mem;
	size_t nr;
	const struct uhmm_work_extent *e = uhmm_work_extents(w, &nr);

	assert_non_null(e);
	for (size_t i = 0; i < nr; i++) {
		assert_int_equal(e[i].start, at);
		assert_true(e[i].bytes && e[i].bytes % PAGE == 0 && e[i].offset % PAGE == 0);
		assert_true(e[i].offset + e[i].bytes <= info().size_bytes);
		for (size_t k = 0; k < i && k < 100; k++)
			assert_true(e[k].offset + e[k].bytes <= e[i].offset || e[i].offset + e[i].bytes <= e[k].offset);
		at += e[i].bytes;
	}
	assert_int_equal(at, (uintptr_t)mem + bytes);
}

static void data_larger_than_the_device(void **state)
{
	size_t fits = info().size_bytes < MOST ? info().size_bytes : MOST, bytes = 2 * fits, piece = fits / 4;
	char *mem = map_anon(bytes, true, true);

	(void)state;
	fill_pattern(mem, bytes, 1);
	for (unsigned round = 0; round < 2; round++)
		for (size_t at = 0; at < bytes; at += piece) {
			struct uhmm_work *w = acquire(mem + at, piece, round ? UHMM_WORK_READ : 0);

			check_extents(w, mem + at, piece);
			assert_int_equal(uhmm_work_release(w), 0);
		}
	assert_int_equal(check_pattern(mem, bytes, 1), -1);
	unmap_anon(mem, bytes);
}

/* emu's kernels find their bytes by address. Who has no address says so. */
static void a_byte_is_where_the_driver_says(void **state)
{
	char *mem = map_anon(2 * BLOCK, true, true);
	struct uhmm_work *w;
	bool has_address;

	(void)state;
	fill_pattern(mem, 2 * BLOCK, 2);
	w = acquire(mem, 2 * BLOCK, 0);
	has_address = uhmm_work_address(w, mem) != 0;
	for (size_t at = 0; at < 2 * BLOCK; at += PAGE)
		assert_int_equal(uhmm_work_address(w, mem + at) != 0, has_address);
	if (has_address && strstr(device_spec(), "emu")) {
		for (size_t at = 0; at < 2 * BLOCK; at += PAGE) {
			char *there = (char *)(uintptr_t)uhmm_work_address(w, mem + at);

			assert_int_equal(check_pattern_at(there, PAGE, 2, at), -1);
			fill_pattern_at(there, PAGE, 3, at);
		}
	}
	assert_int_equal(uhmm_work_release(w), 0);
	assert_int_equal(check_pattern(mem, 2 * BLOCK, has_address && strstr(device_spec(), "emu") ? 3 : 2), -1);
	unmap_anon(mem, 2 * BLOCK);
}

static void what_is_read_may_be_written_by_a_cpu(void **state)
{
	char *mem = map_anon(2 * BLOCK, true, true);
	struct uhmm_work *w;

	(void)state;
	fill_pattern(mem, 2 * BLOCK, 4);
	w = acquire(mem, 2 * BLOCK, UHMM_WORK_READ);
	fill_pattern(mem, 2 * BLOCK, 5);
	assert_int_equal(uhmm_work_release(w), 0);
	assert_int_equal(check_pattern(mem, 2 * BLOCK, 5), -1);
	unmap_anon(mem, 2 * BLOCK);
}

static void a_name_that_is_none(void **state)
{
	void *found;

	(void)state;
	assert_int_equal(uhmm_device_native(dev, "no such object", &found), -ENOENT);
	assert_int_equal(uhmm_device_native(dev, "", &found), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_larger_than_the_device),
		cmocka_unit_test(a_byte_is_where_the_driver_says),
		cmocka_unit_test(what_is_read_may_be_written_by_a_cpu),
		cmocka_unit_test(a_name_that_is_none),
	};
	int r;

	alarm(115);
	space = open_space_or_skip(NULL);
	if (uhmm_device_open(space, device_spec(), &dev))
		support_skip("%s cannot be opened here", device_spec());
	r = cmocka_run_group_tests(tests, NULL, NULL);
	return uhmm_close(space) || r;
}
