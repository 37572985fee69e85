/* SPDX-License-Identifier: MIT */
/* uhmm_range_fault(): where each page is, and what is faulted in for the asking. */
#include "rig.h"

#define SEED  71
#define NR    8
#define FAULT UHMM_RANGE_REQ_FAULT
#define WRITE UHMM_RANGE_REQ_WRITE

#define MOST 1024
static struct uhmm_range_page pages[MOST];

static int look(void *mem, size_t nr, uint32_t flags)
{
	struct uhmm_range range = { .sz = sizeof(range), .start = mem, .len_bytes = nr * PAGE, .dev = dev, .default_flags = flags,
				    .pages = pages };

	return uhmm_range_fault(space, &range);
}

static bool all_are(size_t first, size_t end, uint64_t flags)
{
	const uint64_t all = UHMM_RANGE_VALID | UHMM_RANGE_WRITE | UHMM_RANGE_ERROR | UHMM_RANGE_DEVICE | UHMM_RANGE_WATCHED;

	for (size_t i = first; i < end; i++)
		if ((pages[i].bits & all) != flags) {
			print_error("page %zu: 0x%llx\n", i, (unsigned long long)pages[i].bits);
			return false;
		}
	return true;
}

static void what_is_not_asked_for_is_not_faulted_in(void **state)
{
	char *mem = map_anon(NR * PAGE, true, false);

	assert_int_equal(look(mem, NR, 0), 0);
	assert_true(all_are(0, NR, 0));
	mem[3 * PAGE] = 1;
	(void)*(volatile char *)(mem + 4 * PAGE);
	assert_int_equal(look(mem, NR, 0), 0);
	assert_true(all_are(0, 3, 0) && all_are(3, 4, UHMM_RANGE_VALID | UHMM_RANGE_WRITE) && all_are(5, NR, 0));
	if (has_zero_page())
		assert_true(all_are(4, 5, UHMM_RANGE_VALID));
	assert_int_equal(look(mem, NR, FAULT), 0);
	assert_true(all_are(3, 4, UHMM_RANGE_VALID | UHMM_RANGE_WRITE));
	for (size_t i = 0; i < NR; i++)
		assert_true(pages[i].bits & UHMM_RANGE_VALID);
	assert_int_equal(look(mem, NR, WRITE), 0);
	assert_true(all_are(0, NR, UHMM_RANGE_VALID | UHMM_RANGE_WRITE));
	unmap_anon(mem, NR * PAGE);
}

static void a_page_asks_for_itself(void **state)
{
	char *mem = map_anon(NR * PAGE, true, false);
	struct uhmm_range range = { .sz = sizeof(range), .start = mem, .len_bytes = NR * PAGE, .pages = pages };

	memset(pages, 0, sizeof(pages));
	pages[2].bits = FAULT;
	pages[5].bits = WRITE;
	assert_int_equal(uhmm_range_fault(space, &range), 0); /* the mask is 0 */
	assert_true(all_are(0, NR, 0));
	pages[2].bits = FAULT;
	pages[5].bits = WRITE;
	range.page_flags_mask = FAULT | WRITE;
	assert_int_equal(uhmm_range_fault(space, &range), 0);
	assert_true(all_are(0, 2, 0) && all_are(3, 5, 0) && all_are(6, NR, 0));
	assert_true(pages[2].bits & UHMM_RANGE_VALID && all_are(5, 6, UHMM_RANGE_VALID | UHMM_RANGE_WRITE));
	unmap_anon(mem, NR * PAGE);
}

static void own_pages_stay_and_others_come_home(void **state)
{
	struct uhmm_device *other = open_device("emu:size=64M");
	char *mem = map_anon(BLOCK, true, true);
	struct uhmm_range range = { .sz = sizeof(range), .start = mem, .len_bytes = BLOCK, .dev = dev, .pages = pages };

	fill_pattern(mem, BLOCK, SEED);
	go(mem, BLOCK);
	assert_int_equal(look(mem, MOST / 2, WRITE), 0);
	assert_true(all_are(0, 512, UHMM_RANGE_VALID | UHMM_RANGE_WRITE | UHMM_RANGE_DEVICE));
	for (unsigned i = 0; i < 512; i++) {
		assert_int_equal(uhmm_range_page_offset(pages[i]), uhmm_range_page_offset(pages[0]) + i * PAGE);
		if (has_thp())
			assert_int_equal(uhmm_range_page_order(pages[i]), 9);
	}
	assert_true(all_on_device(mem, BLOCK));

	range.dev = other;
	assert_int_equal(uhmm_range_fault(space, &range), 0);
	assert_true(all_are(0, 512, 0));
	assert_true(all_on_device(mem, BLOCK));
	range.default_flags = FAULT;
	assert_int_equal(uhmm_range_fault(space, &range), 0);
	assert_true(all_are(0, 512, UHMM_RANGE_VALID | UHMM_RANGE_WRITE));
	assert_true(all_home(mem, BLOCK));

	go(mem + PAGE, 3 * PAGE);
	assert_int_equal(look(mem, 512, FAULT), 0);
	assert_true(all_are(0, 1, UHMM_RANGE_VALID | UHMM_RANGE_WRITE) && all_are(4, 512, UHMM_RANGE_VALID | UHMM_RANGE_WRITE));
	assert_true(all_are(1, 4, UHMM_RANGE_VALID | UHMM_RANGE_WRITE | UHMM_RANGE_DEVICE));
	assert_pattern(mem, BLOCK, SEED);
	unmap_anon(mem, BLOCK);
	assert_int_equal(uhmm_device_close(other), 0);
}

static void what_cannot_be_had_is_an_error(void **state)
{
	char *mem = map_anon(NR * PAGE, true, false);

	memset(mem, 1, NR * PAGE);
	assert_int_equal(mprotect(mem, PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(mem + 2 * PAGE, PAGE, PROT_NONE), 0);
	assert_int_equal(munmap(mem + 4 * PAGE, PAGE), 0);
	assert_int_equal(look(mem, NR, 0), 0);
	assert_true(all_are(0, 1, UHMM_RANGE_VALID) && all_are(1, 2, UHMM_RANGE_VALID | UHMM_RANGE_WRITE));
	assert_true(all_are(2, 3, UHMM_RANGE_ERROR) && all_are(4, 5, UHMM_RANGE_ERROR));
	assert_int_equal(look(mem, 2, FAULT), 0);
	assert_int_equal(look(mem, 2, WRITE), -EPERM);
	assert_int_equal(look(mem, 4, FAULT), -EFAULT);
	assert_int_equal(look(mem + 3 * PAGE, 3, FAULT), -EFAULT);
	assert_true(all_are(1, 2, UHMM_RANGE_ERROR));
	unmap_anon(mem, NR * PAGE);
}

static void shared_memory_and_files(void **state)
{
	char *mem = mmap(NULL, NR * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	FILE *f = tmpfile();
	char *file;

	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_int_equal(look(mem, NR, WRITE), 0);
	assert_true(all_are(0, NR, UHMM_RANGE_VALID | UHMM_RANGE_WRITE));
	munmap(mem, NR * PAGE);

	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), 2 * (off_t)PAGE), 0);
	file = mmap(NULL, NR * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(f), 0);
	assert_ptr_not_equal(file, MAP_FAILED);
	assert_int_equal(look(file, 2, FAULT), 0);
	assert_true(all_are(0, 2, UHMM_RANGE_VALID));
	assert_int_equal(look(file, 2, WRITE), 0);
	assert_true(all_are(0, 2, UHMM_RANGE_VALID | UHMM_RANGE_WRITE));
	assert_int_equal(look(file, 3, FAULT), -EFAULT); /* beyond the end */
	munmap(file, NR * PAGE);
	fclose(f);
}

static void nothing_is_written_of_a_child_s(void **state)
{
	char *mem = map_anon(NR * PAGE, true, false);
	pid_t pid;
	int pipes[2];
	char c;

	memset(mem, 1, NR * PAGE);
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (!pid) {
		close(pipes[1]);
		_exit(read(pipes[0], &c, 1) == 0 && mem[0] == 1 ? 0 : 1);
	}
	assert_int_equal(look(mem, NR, FAULT), 0);
	assert_true(all_are(0, NR, UHMM_RANGE_VALID)); /* shared with the child: not to be written */
	assert_int_equal(look(mem, NR, WRITE), 0);
	assert_true(all_are(0, NR, UHMM_RANGE_VALID | UHMM_RANGE_WRITE));
	mem[0] = 2;
	close(pipes[0]);
	close(pipes[1]);
	unmap_anon(mem, NR * PAGE);
}

static void what_cannot_be_meant_is_refused(void **state)
{
	char *mem = map_anon(NR * PAGE, true, false);
	const struct uhmm_range good = { .sz = sizeof(good), .start = mem, .len_bytes = NR * PAGE, .dev = dev, .pages = pages };
	struct uhmm_range bad;

#define BAD(field, value, error)                                    \
	do {                                                        \
		bad = good;                                         \
		bad.field = (value);                                \
		refused(error, uhmm_range_fault(space, &bad));      \
	} while (0)
	support_log_start(UHMM_LOG_WARN);
	BAD(sz, 8, -EINVAL);
	BAD(start, mem + 1, -EINVAL);
	BAD(len_bytes, 0, -EINVAL);
	BAD(len_bytes, 100, -EINVAL);
	BAD(len_bytes, SIZE_MAX - PAGE + 1, -EINVAL);
	BAD(pages, NULL, -EINVAL);
	BAD(pages, (struct uhmm_range_page *)(void *)(mem + PAGE), -EINVAL);
	BAD(default_flags, UHMM_RANGE_VALID, -EINVAL);
	BAD(page_flags_mask, 1u << 31, -EINVAL);
	BAD(dev, (struct uhmm_device *)(void *)mem, -ENODEV);
	BAD(notifier, (struct uhmm_notifier *)(void *)mem, -EINVAL);
	refused(-EINVAL, uhmm_range_fault(NULL, &bad));
	refused(-EINVAL, uhmm_range_fault(space, NULL));
	uhmm_log_set(NULL, NULL, 0);
	unmap_anon(mem, NR * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_asked_for_is_not_faulted_in),
		cmocka_unit_test(a_page_asks_for_itself),
		cmocka_unit_test(own_pages_stay_and_others_come_home),
		cmocka_unit_test(what_cannot_be_had_is_an_error),
		cmocka_unit_test(shared_memory_and_files),
		cmocka_unit_test(nothing_is_written_of_a_child_s),
		cmocka_unit_test(what_cannot_be_meant_is_refused),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
