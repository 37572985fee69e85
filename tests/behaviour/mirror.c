/* SPDX-License-Identifier: MIT */
/* A device reads and writes the program's memory, wherever each page lives, and the program's protection holds for it. */
#include "rig.h"

#include <sys/wait.h>

#define SEED  91
#define OTHER 92
#define BYTES (3 * BLOCK)

#define ACCESS(name) struct uhmm_access name = { .sz = sizeof(struct uhmm_access) }

static char copy[BYTES], expected[BYTES];

static char *filled(bool huge)
{
	char *mem = map_anon(BYTES, true, huge);

	fill_pattern(mem, BYTES, SEED);
	return mem;
}

/* The device reads [at, at + len) of @mem and finds what @expected has there. Return: its faults. */
static uint64_t reads(struct uhmm_device *d, const char *mem, size_t at, size_t len)
{
	ACCESS(acc);

	memset(copy + at, 0x5a, len);
	assert_int_equal(uhmm_device_read(d, mem + at, len, copy + at, 0, &acc), 0);
	assert_int_equal(acc.done_bytes, len);
	assert_memory_equal(copy + at, expected + at, len);
	return acc.faults;
}

/* The device writes another pattern there, and @expected follows. */
static uint64_t writes(struct uhmm_device *d, char *mem, size_t at, size_t len)
{
	ACCESS(acc);

	fill_pattern(copy, BYTES, OTHER);
	memcpy(expected + at, copy + at, len);
	assert_int_equal(uhmm_device_write(d, mem + at, len, copy + at, 0, &acc), 0);
	assert_int_equal(acc.done_bytes, len);
	return acc.faults;
}

/* Pieces that cross pages and blocks, of memory that holds the pattern; and then the CPU looks. */
static void reads_and_writes(char *mem)
{
	static const struct { size_t at, len; } pieces[] = {
		{ 0, 1 }, { 5, 4096 }, { 4095, 2 }, { 3 * PAGE, 5 * PAGE }, { BLOCK - 3, 7 }, { BLOCK - 5 * PAGE - 1, 9 * PAGE },
		{ 17, BYTES - 40 }, { BYTES - 1, 1 },
	};

	for (size_t k = 0; k < sizeof(pieces) / sizeof(*pieces); k++) {
		(void)reads(dev, mem, pieces[k].at, pieces[k].len);
		(void)writes(dev, mem, pieces[k].at, pieces[k].len);
		(void)reads(dev, mem, 0, BYTES);
	}
	assert_memory_equal(mem, expected, BYTES);
}

/* ---- memory that is at home ---- */

static void memory_at_home(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = filled(huge);

		fill_pattern(expected, BYTES, SEED);
		reads_and_writes(mem);
		assert_int_equal(used_bytes(), 0);
		unmap_anon(mem, BYTES);
	}
}

static void holes_are_zeros(void **state)
{
	char *mem = map_anon(BYTES, true, false);

	memset(expected, 0, BYTES);
	(void)reads(dev, mem, 0, BYTES);
	(void)writes(dev, mem, PAGE + 1, 10);
	assert_memory_equal(mem, expected, BYTES);
	unmap_anon(mem, BYTES);
}

static void shared_memory_and_files(void **state)
{
	for (unsigned k = 0; k < 3; k++) {
		FILE *f = tmpfile();
		char *mem;

		assert_non_null(f);
		assert_int_equal(ftruncate(fileno(f), BYTES), 0);
		mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
			   k == 0 ? MAP_SHARED | MAP_ANONYMOUS : k == 1 ? MAP_SHARED : MAP_PRIVATE, k ? fileno(f) : -1, 0);
		assert_ptr_not_equal(mem, MAP_FAILED);
		fill_pattern(mem, BYTES, SEED);
		fill_pattern(expected, BYTES, SEED);
		reads_and_writes(mem);
		munmap(mem, BYTES);
		fclose(f);
	}
}

static void beyond_the_end_of_a_file_is_nothing(void **state)
{
	FILE *f = tmpfile();
	ACCESS(acc);
	char *mem;

	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), PAGE), 0);
	mem = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_int_equal(uhmm_device_read(dev, mem, 2 * PAGE, copy, 0, &acc), -EFAULT);
	assert_int_equal(acc.done_bytes, PAGE);
	munmap(mem, 3 * PAGE);
	fclose(f);
}

/* ---- memory of devices ---- */

static void own_pages_stay_on_the_device(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = filled(huge);
		uint64_t folios;

		fill_pattern(expected, BYTES, SEED);
		go(mem, BYTES);
		folios = info(dev).folios[9];
		(void)reads(dev, mem, BLOCK - 3, 7);
		(void)writes(dev, mem, PAGE + 1, 3 * PAGE);
		(void)writes(dev, mem, BLOCK - 4, 8);
		(void)reads(dev, mem, 0, BYTES);
		assert_true(all_on_device(mem, BYTES));
		assert_int_equal(info(dev).folios[9], folios); /* none was split */
		reads_and_writes(mem);
		eventually(used_bytes() == 0);
		unmap_anon(mem, BYTES);
	}
}

static void half_here_half_there(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = filled(huge);

		fill_pattern(expected, BYTES, SEED);
		for (size_t at = PAGE; at < BYTES; at += BLOCK / 4)
			go(mem + at, BLOCK / 8);
		reads_and_writes(mem);
		unmap_anon(mem, BYTES);
	}
}

static void pages_of_another_device_come_home(void **state)
{
	struct uhmm_device *other = open_device("emu:size=64M");
	char *mem = filled(true);

	fill_pattern(expected, BYTES, SEED);
	go(mem, BYTES);
	(void)reads(other, mem, BLOCK + 5, 10);
	assert_int_equal(count_where(mem + BLOCK, PAGE, UHMM_WHERE_SYSTEM), 1);
	assert_true(all_on_device(mem, BLOCK));
	(void)writes(other, mem, 100, BYTES - 200);
	assert_true(all_home(mem, BYTES));
	assert_memory_equal(mem, expected, BYTES);
	assert_int_equal(uhmm_device_close(other), 0);
	unmap_anon(mem, BYTES);
}

static void resident_means_on_this_device(void **state)
{
	struct uhmm_device *other = open_device("emu:size=64M");
	char *mem = filled(false);
	ACCESS(acc);

	assert_int_equal(uhmm_device_read(dev, mem, 10, copy, UHMM_ACCESS_RESIDENT, &acc), -ENOENT);
	assert_int_equal(acc.done_bytes, 0);
	go(mem, 5 * PAGE);
	assert_int_equal(uhmm_device_read(dev, mem, 5 * PAGE, copy, UHMM_ACCESS_RESIDENT, &acc), 0);
	assert_pattern(copy, 5 * PAGE, SEED);
	assert_int_equal(uhmm_device_write(dev, mem + 4 * PAGE + 1, PAGE, copy, UHMM_ACCESS_RESIDENT, &acc), -ENOENT);
	assert_int_equal(acc.done_bytes, PAGE - 1);
	assert_int_equal(uhmm_device_read(other, mem, PAGE, copy, UHMM_ACCESS_RESIDENT, &acc), -ENOENT);
	assert_true(all_on_device(mem, 5 * PAGE));
	assert_int_equal(uhmm_device_close(other), 0);
	unmap_anon(mem, BYTES);
}

/* ---- protection ---- */

static void protection_holds_for_the_device(void **state)
{
	for (unsigned away = 0; away < 2; away++) {
		char *mem = filled(false);
		ACCESS(acc);

		if (away)
			go(mem, BYTES);
		mprotect(mem + 2 * PAGE, PAGE, PROT_READ);
		mprotect(mem + 4 * PAGE, PAGE, PROT_NONE);
		munmap(mem + 6 * PAGE, PAGE);
		assert_int_equal(uhmm_device_read(dev, mem, 3 * PAGE, copy, 0, &acc), 0);
		assert_pattern(copy, 3 * PAGE, SEED);
		assert_int_equal(uhmm_device_write(dev, mem + PAGE, 3 * PAGE, copy + PAGE, 0, &acc), -EPERM);
		assert_true(acc.done_bytes <= PAGE);
		assert_int_equal(uhmm_device_read(dev, mem + 3 * PAGE + 1, 2 * PAGE, copy, 0, &acc), -EFAULT);
		assert_true(acc.done_bytes <= PAGE - 1);
		assert_int_equal(uhmm_device_write(dev, mem + 4 * PAGE, 1, copy, 0, &acc), -EFAULT);
		assert_int_equal(uhmm_device_read(dev, mem + 6 * PAGE, 1, copy, 0, &acc), -EFAULT);
		assert_int_equal(acc.done_bytes, 0);
		assert_int_equal(uhmm_device_write(dev, mem + 6 * PAGE + 9, 1, copy, 0, &acc), -EFAULT);
		mprotect(mem + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE);
		assert_pattern(mem, 4 * PAGE, SEED);
		unmap_anon(mem, BYTES);
	}
}

static void read_only_memory_goes_when_asked_and_comes_back_so(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = filled(huge);
		RESULT(res);
		ACCESS(acc);

		fill_pattern(expected, BYTES, SEED);
		mprotect(mem, BYTES, PROT_READ);
		assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, &res), UHMM_E_PARTIAL);
		assert_int_equal(skipped(&res, 1u << UHMM_SKIP_PROT), PAGES(BYTES));
		assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, UHMM_MOVE_READ_ONLY, &res), 0);
		assert_true(all_on_device(mem, BYTES));
		(void)reads(dev, mem, 3, BYTES - 5);
		assert_int_equal(uhmm_device_write(dev, mem, 1, copy, 0, &acc), -EPERM);
		assert_true(all_on_device(mem, BYTES));
		if (huge)
			come(mem, BYTES);
		assert_pattern(mem, BYTES, SEED);
		assert_int_equal(uhmm_device_write(dev, mem + BLOCK, 1, copy, 0, &acc), -EPERM);
		eventually(used_bytes() == 0);
		unmap_anon(mem, BYTES);
	}
}

/* ---- faults ---- */

static void a_device_faults_when_it_has_no_rights(void **state)
{
	struct uhmm_device *other = open_device("emu:size=64M");
	char *mem = filled(false);

	fill_pattern(expected, BYTES, SEED);
	/* rights are kept for pages of its own: of other memory nobody would tell that it has become another's */
	assert_int_equal(reads(dev, mem, 0, BYTES), 1);
	assert_int_equal(reads(dev, mem, 100, BYTES - 100), 1);
	go(mem, BLOCK);
	assert_int_equal(reads(dev, mem, 0, BLOCK), 1);
	assert_int_equal(reads(dev, mem, 100, PAGE), 0);
	assert_int_equal(writes(dev, mem, PAGE, PAGE), 0); /* the right to write came with the first look */
	assert_int_equal(reads(dev, mem, 0, BYTES), 1);    /* for the part that is not its own */
	assert_int_equal(reads(dev, mem, 0, BLOCK), 0);

	/* what goes home, or to another device, is its own no more */
	come(mem, PAGE);
	assert_int_equal(reads(dev, mem, 0, PAGE), 1);
	assert_int_equal(uhmm_to_device(space, mem, PAGE, other, 0, NULL), 0);
	assert_int_equal(reads(dev, mem, 0, PAGE), 1);
	assert_int_equal(reads(dev, mem, PAGE, PAGE), 0);

	/* watched memory that is unmapped and mapped anew at the same place */
	go(mem, BLOCK);
	assert_int_equal(reads(dev, mem, 0, BLOCK), 1);
	assert_int_equal(reads(dev, mem, 0, BLOCK), 0);
	assert_int_equal(munmap(mem, BLOCK), 0);
	assert_ptr_equal(mmap(mem, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), mem);
	memset(expected, 0, BLOCK);
	eventually(used_bytes() == 0);
	assert_int_equal(reads(dev, mem, 0, BLOCK), 1);
	assert_int_equal(uhmm_device_close(other), 0);
	unmap_anon(mem, BYTES);
}

/* ---- snapshots ---- */

static uint8_t snapshot_of(struct uhmm_device *d, const char *page)
{
	uint8_t bits;

	assert_int_equal(uhmm_device_snapshot(d, page, PAGE, &bits), 0);
	return bits;
}

static void snapshots_of_all_kinds_of_pages(void **state)
{
	const uint8_t rw = UHMM_VIEW_READ | UHMM_VIEW_WRITE;
	struct uhmm_device *other = open_device("emu:size=64M");
	char *mem = map_anon(BYTES, true, false);
	uint8_t view[PAGES(BLOCK)];

	fill_pattern(mem + PAGE, 9 * PAGE, SEED);
	go(mem + 3 * PAGE, PAGE);
	assert_int_equal(uhmm_to_device(space, mem + 4 * PAGE, PAGE, other, 0, NULL), 0);
	assert_int_equal(uhmm_device_exclusive(dev, mem + 5 * PAGE, PAGE), 0);
	mprotect(mem + 2 * PAGE, PAGE, PROT_READ);
	mprotect(mem + 6 * PAGE, PAGE, PROT_NONE);
	munmap(mem + 7 * PAGE, PAGE);
	(void)*(volatile char *)(mem + 20 * PAGE);
	assert_int_equal(uhmm_device_snapshot(dev, mem, BLOCK, view), 0);
	assert_int_equal(view[0], 0);
	assert_int_equal(view[1], rw);
	assert_int_equal(view[2], UHMM_VIEW_READ);
	assert_int_equal(view[3], rw | UHMM_VIEW_LOCAL);
	assert_int_equal(view[4], 0);
	assert_int_equal(view[5], rw | UHMM_VIEW_LOCAL | UHMM_VIEW_ATOMIC);
	assert_int_equal(view[6], UHMM_VIEW_ERROR);
	assert_int_equal(view[7], UHMM_VIEW_ERROR);
	assert_int_equal(view[8], rw);
	if (has_zero_page())
		assert_int_equal(view[20], UHMM_VIEW_READ | UHMM_VIEW_ZERO);
	assert_int_equal(view[21], 0);
	assert_int_equal(snapshot_of(other, mem + 3 * PAGE), 0);
	assert_int_equal(snapshot_of(other, mem + 4 * PAGE), rw | UHMM_VIEW_LOCAL);
	assert_int_equal(snapshot_of(other, mem + 5 * PAGE), 0);
	assert_int_equal(count_where(mem + 3 * PAGE, 2 * PAGE, UHMM_WHERE_DEVICE), 2); /* nothing came home for it */
	assert_int_equal(count_where(mem + 5 * PAGE, PAGE, UHMM_WHERE_EXCLUSIVE), 1);
	assert_int_equal(uhmm_device_close(other), 0);
	unmap_anon(mem, BYTES);
}

static void snapshots_of_thps(void **state)
{
	char *mem = filled(true);

	if (anon_huge_bytes(mem, BYTES) < BYTES)
		skip();
	go(mem, BLOCK);
	assert_int_equal(snapshot_of(dev, mem + PAGE), UHMM_VIEW_READ | UHMM_VIEW_WRITE | UHMM_VIEW_HUGE | UHMM_VIEW_LOCAL);
	assert_int_equal(snapshot_of(dev, mem + BLOCK + PAGE), UHMM_VIEW_READ | UHMM_VIEW_WRITE | UHMM_VIEW_HUGE);
	unmap_anon(mem, BYTES);
}

static void a_page_shared_since_a_fork_is_to_read_until_written(void **state)
{
	char *mem = filled(false), c;
	int pipes[2], status;
	pid_t pid;

	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) { /* holds its share of the pages until the parent is done */
		close(pipes[1]);
		_exit(read(pipes[0], &c, 1) != 0);
	}
	close(pipes[0]);
	assert_int_equal(snapshot_of(dev, mem), UHMM_VIEW_READ);
	*(volatile char *)mem = 1;
	assert_int_equal(snapshot_of(dev, mem), UHMM_VIEW_READ | UHMM_VIEW_WRITE);
	assert_int_equal(uhmm_device_write(dev, mem + PAGE, 1, "x", 0, NULL), 0);
	assert_int_equal(snapshot_of(dev, mem + PAGE), UHMM_VIEW_READ | UHMM_VIEW_WRITE);
	assert_int_equal(snapshot_of(dev, mem + 2 * PAGE), UHMM_VIEW_READ);
	close(pipes[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	unmap_anon(mem, BYTES);
}

/* ---- release ---- */

static void release_brings_everything_home(void **state)
{
	struct uhmm_device *other = open_device("emu:size=64M");
	char *a = filled(true), *b = filled(false);

	go(a, BYTES);
	go(b + PAGE, BLOCK);
	assert_int_equal(uhmm_device_exclusive(dev, b + 2 * BLOCK, 3 * PAGE), 0);
	assert_int_equal(uhmm_to_device(space, b + 2 * BLOCK + 8 * PAGE, PAGE, other, 0, NULL), 0);
	assert_int_equal(uhmm_device_release(dev), 0);
	assert_int_equal(used_bytes(), 0);
	assert_true(all_home(a, BYTES));
	assert_int_equal(count_where(b, BYTES, UHMM_WHERE_EXCLUSIVE), 0);
	assert_int_equal(count_where(b, BYTES, UHMM_WHERE_DEVICE), 1); /* the other's */
	assert_pattern(a, BYTES, SEED);
	assert_pattern(b, BYTES, SEED);
	go(a, BYTES); /* it is still open */
	assert_int_equal(uhmm_device_release(dev), 0);
	assert_int_equal(uhmm_device_release(dev), 0);
	assert_int_equal(uhmm_device_close(other), 0);
	unmap_anon(a, BYTES);
	unmap_anon(b, BYTES);
}

/* ---- what cannot be meant ---- */

static void bad_arguments_are_refused_in_a_sentence(void **state)
{
	struct uhmm_device *gone = open_device("emu:size=2M");
	char *mem = filled(false);
	struct uhmm_access unset = { .sz = 0 };
	void *beyond = (void *)(UINTPTR_MAX - PAGE + 1);
	uint8_t view[4];

	assert_int_equal(uhmm_device_close(gone), 0);
	support_log_start(UHMM_LOG_WARN);
	refused(-EINVAL, uhmm_device_read(NULL, mem, 1, copy, 0, NULL));
	refused(-EINVAL, uhmm_device_read(dev, mem, 0, copy, 0, NULL));
	refused(-EINVAL, uhmm_device_read(dev, mem, 1, NULL, 0, NULL));
	refused(-EINVAL, uhmm_device_read(dev, mem, 1, copy, 2, NULL));
	refused(-EINVAL, uhmm_device_read(dev, mem, 1, copy, 0, &unset));
	refused(-EINVAL, uhmm_device_read(dev, mem, SIZE_MAX, copy, 0, NULL));
	refused(-EINVAL, uhmm_device_write(dev, beyond, PAGE, copy, 0, NULL));
	refused(-ENODEV, uhmm_device_read(gone, mem, 1, copy, 0, NULL));
	refused(-ENODEV, uhmm_device_write((struct uhmm_device *)mem, mem, 1, copy, 0, NULL));
	refused(-EINVAL, uhmm_device_exclusive(NULL, mem, PAGE));
	refused(-EINVAL, uhmm_device_exclusive(dev, mem + 1, PAGE));
	refused(-EINVAL, uhmm_device_exclusive(dev, mem, 0));
	refused(-EINVAL, uhmm_device_exclusive(dev, beyond, 2 * PAGE));
	refused(-ENODEV, uhmm_device_exclusive(gone, mem, PAGE));
	refused(-EINVAL, uhmm_device_snapshot(NULL, mem, PAGE, view));
	refused(-EINVAL, uhmm_device_snapshot(dev, mem, PAGE, NULL));
	refused(-EINVAL, uhmm_device_snapshot(dev, mem + 8, PAGE, view));
	refused(-EINVAL, uhmm_device_snapshot(dev, mem, 0, view));
	refused(-ENODEV, uhmm_device_snapshot(gone, mem, PAGE, view));
	refused(-EINVAL, uhmm_device_release(NULL));
	refused(-ENODEV, uhmm_device_release(gone));
	refused(-EINVAL, uhmm_to_device(space, mem, PAGE, dev, 2, NULL));
	uhmm_log_set(NULL, NULL, 0);
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

static void a_shorter_result_is_filled_as_far_as_it_goes(void **state)
{
	char *mem = filled(false);
	struct uhmm_access acc;

	memset(&acc, 0xaa, sizeof(acc));
	acc.sz = offsetof(struct uhmm_access, faults);
	assert_int_equal(uhmm_device_read(dev, mem, 100, copy, 0, &acc), 0);
	assert_int_equal(acc.sz, offsetof(struct uhmm_access, faults));
	assert_int_equal(acc.done_bytes, 100);
	assert_int_equal(acc.faults, 0xaaaaaaaaaaaaaaaa);
	unmap_anon(mem, BYTES);
}

static void the_buffer_may_be_away_itself(void **state)
{
	char *mem = filled(true);

	go(mem, BYTES);
	assert_int_equal(uhmm_device_read(dev, mem, BLOCK, mem + BLOCK + 1, 0, NULL), 0);
	assert_int_equal(uhmm_device_write(dev, mem + BLOCK, PAGE, mem + 2 * BLOCK, 0, NULL), 0);
	assert_pattern(mem, BLOCK, SEED);
	assert_memory_equal(mem + BLOCK, mem + 2 * BLOCK, PAGE);
	assert_memory_equal(mem + BLOCK + 1 + PAGE, mem + PAGE, BLOCK - PAGE);
	/* the same page, and both ends of it */
	go(mem, BLOCK);
	assert_int_equal(uhmm_device_read(dev, mem, 8, mem + 16, 0, NULL), 0);
	assert_memory_equal(mem, mem + 16, 8);
	unmap_anon(mem, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_at_home),
		cmocka_unit_test(holes_are_zeros),
		cmocka_unit_test(shared_memory_and_files),
		cmocka_unit_test(beyond_the_end_of_a_file_is_nothing),
		cmocka_unit_test(own_pages_stay_on_the_device),
		cmocka_unit_test(half_here_half_there),
		cmocka_unit_test(pages_of_another_device_come_home),
		cmocka_unit_test(resident_means_on_this_device),
		cmocka_unit_test(protection_holds_for_the_device),
		cmocka_unit_test(read_only_memory_goes_when_asked_and_comes_back_so),
		cmocka_unit_test(a_device_faults_when_it_has_no_rights),
		cmocka_unit_test(snapshots_of_all_kinds_of_pages),
		cmocka_unit_test(snapshots_of_thps),
		cmocka_unit_test(a_page_shared_since_a_fork_is_to_read_until_written),
		cmocka_unit_test(release_brings_everything_home),
		cmocka_unit_test(bad_arguments_are_refused_in_a_sentence),
		cmocka_unit_test(a_shorter_result_is_filled_as_far_as_it_goes),
		cmocka_unit_test(the_buffer_may_be_away_itself),
	};

	rig_open("emu:size=512M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
