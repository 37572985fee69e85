/* SPDX-License-Identifier: MIT */
/* Pages that cannot go stay, are counted under their reason, one for one, and lose nothing; what lies beside them goes. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "rig.h"
#include "uhmm/driver.h"

#define SEED  51
#define BYTES (3 * BLOCK)

/* Three blocks; the middle one is what a case is about. */
static char *filled(bool huge)
{
	char *mem = map_anon(BYTES, true, huge);

	fill_pattern(mem, BYTES, SEED);
	return mem;
}

static void put_down(char *mem)
{
	munmap(mem - PAGE, BYTES + 2 * PAGE);
	eventually(used_bytes() == 0);
}

/* Of all three blocks, @n pages from @first on stay, for that reason, and all others go. */
static void stays(char *mem, size_t first, size_t n, enum uhmm_skip why)
{
	RESULT(res);

	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, &res), UHMM_E_PARTIAL);
	assert_int_equal(res.skipped_pages[why], n);
	assert_int_equal(skipped(&res, ANY_REASON), n);
	assert_int_equal(res.moved_bytes, BYTES - n * PAGE);
	assert_int_equal(count_where(mem + first * PAGE, n * PAGE, UHMM_WHERE_DEVICE), 0);
	assert_int_equal(count_where(mem, BYTES, UHMM_WHERE_DEVICE), PAGES(BYTES) - n);
}

static void middle_stays(char *mem, enum uhmm_skip why) { stays(mem, 512, 512, why); }

static void map_middle(char *mem, int flags, int fd)
{
	assert_ptr_equal(mmap(mem + BLOCK, BLOCK, PROT_READ | PROT_WRITE, MAP_FIXED | flags, fd, 0), mem + BLOCK);
	fill_pattern_at(mem + BLOCK, BLOCK, SEED, BLOCK);
}

static void shared_memory(void **state)
{
	char *mem = filled(true);

	map_middle(mem, MAP_SHARED | MAP_ANONYMOUS, -1);
	middle_stays(mem, UHMM_SKIP_SHARED);
	assert_pattern(mem, BYTES, SEED);
	put_down(mem);
}

static int memfd(void)
{
	int fd = memfd_create("skips", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BLOCK), 0);
	return fd;
}

static void a_shared_memfd(void **state)
{
	char *mem = filled(true);
	int fd = memfd();

	map_middle(mem, MAP_SHARED, fd);
	middle_stays(mem, UHMM_SKIP_SHARED);
	assert_pattern(mem, BYTES, SEED);
	put_down(mem);
	close(fd);
}

static void a_private_file(void **state)
{
	char *mem = filled(true);
	int fd = memfd();

	map_middle(mem, MAP_PRIVATE, fd);
	middle_stays(mem, UHMM_SKIP_FILE);
	assert_pattern(mem, BYTES, SEED);
	put_down(mem);
	close(fd);
}

static void protected_memory(void **state)
{
	static const int prots[] = { PROT_READ, PROT_NONE, PROT_READ | PROT_WRITE | PROT_EXEC, PROT_READ | PROT_EXEC };

	for (size_t k = 0; k < 4; k++) {
		char *mem = filled(true);

		if (mprotect(mem + BLOCK, BLOCK, prots[k])) {
			put_down(mem);
			continue; /* some kernels are told to forbid writable code */
		}
		middle_stays(mem, UHMM_SKIP_PROT);
		assert_int_equal(mprotect(mem + BLOCK, BLOCK, PROT_READ | PROT_WRITE), 0);
		assert_pattern(mem, BYTES, SEED);
		go_and_return(mem, BYTES, SEED);
		put_down(mem);
	}
}

static void locked_memory(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = filled(huge);

		if (lock_memory(mem + BLOCK, BLOCK)) {
			put_down(mem);
			skip(); /* RLIMIT_MEMLOCK */
		}
		middle_stays(mem, UHMM_SKIP_LOCKED);
		assert_pattern(mem, BYTES, SEED);
		unlock_memory(mem + BLOCK, BLOCK);
		go_and_return(mem, BYTES, SEED);
		put_down(mem);
	}
}

/* An io_uring that holds @bytes at @mem as a fixed buffer. Return: its descriptor, or -1 where it cannot be had. */
static int pin(char *mem, size_t bytes)
{
	char params[120] __attribute__((aligned(8))) = { 0 };
	struct iovec buffer = { mem, bytes };
	int fd = (int)syscall(SYS_io_uring_setup, 4, params);

	if (fd >= 0 && syscall(SYS_io_uring_register, fd, 0 /* IORING_REGISTER_BUFFERS */, &buffer, 1)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void unpin(int fd)
{
	assert_int_equal(syscall(SYS_io_uring_register, fd, 1 /* IORING_UNREGISTER_BUFFERS */, NULL, 0), 0);
	close(fd);
}

static void pinned_thps(void **state)
{
	char *mem = filled(true);
	int fd = anon_huge_bytes(mem, BYTES) == BYTES ? pin(mem + BLOCK, BLOCK) : -1;

	if (fd < 0)
		skip();
	middle_stays(mem, UHMM_SKIP_PINNED);
	assert_int_equal(anon_huge_bytes(mem, BYTES), BLOCK);
	assert_pattern(mem, BYTES, SEED);
	unpin(fd);
	go_and_return(mem, BYTES, SEED);
	put_down(mem);
}

static void pinned_base_pages(void **state)
{
	char *mem = filled(false);
	int fd = pin(mem + 700 * PAGE, 3 * PAGE);

	if (fd < 0)
		skip();
	stays(mem, 700, 3, UHMM_SKIP_PINNED);
	assert_pattern(mem, BYTES, SEED);
	unpin(fd);
	go_and_return(mem, BYTES, SEED);
	put_down(mem);
}

/* A child that lives until its pipe is closed, and finds out whether the middle is still as it was. */
static pid_t start_child(const char *mem, int *ret_end)
{
	int ends[2];
	pid_t child;
	char c;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (!child) {
		close(ends[1]);
		alarm(60);
		if (read(ends[0], &c, 1))
			_exit(2);
		_exit(check_pattern_at(mem + BLOCK, BLOCK, SEED, BLOCK) >= 0);
	}
	assert_true(child > 0);
	close(ends[0]);
	*ret_end = ends[1];
	return child;
}

static void end_child(pid_t child, int end)
{
	int status;

	close(end);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void memory_shared_with_a_child(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = filled(huge);
		pid_t child;
		int end;

		/* only the middle is inherited */
		assert_int_equal(madvise(mem, BLOCK, MADV_DONTFORK), 0);
		assert_int_equal(madvise(mem + 2 * BLOCK, BLOCK, MADV_DONTFORK), 0);
		child = start_child(mem, &end);
		middle_stays(mem, UHMM_SKIP_FORKED);
		assert_pattern(mem, BYTES, SEED);
		end_child(child, end);
		come(mem, BYTES);

		/* the kernel does not notice that it is alone, until it writes */
		middle_stays(mem, UHMM_SKIP_PINNED);
		fill_pattern(mem, BYTES, SEED);
		go_and_return(mem, BYTES, SEED);
		put_down(mem);
	}
}

static void memory_on_another_device(void **state)
{
	struct uhmm_device *other = open_device("emu:size=16M");
	char *mem = filled(true);

	assert_int_equal(uhmm_to_device(space, mem + BLOCK, BLOCK, other, 0, NULL), 0);
	{
		RESULT(res);

		assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, &res), UHMM_E_PARTIAL);
		assert_int_equal(res.skipped_pages[UHMM_SKIP_OTHER_DEVICE], 512);
		assert_int_equal(skipped(&res, ANY_REASON), 512);
	}
	assert_true(all_on_device(mem, BYTES));
	assert_int_equal(info(other).used_bytes, BLOCK);
	assert_pattern(mem, BYTES, SEED);
	assert_int_equal(uhmm_device_close(other), 0);
	put_down(mem);
}

static void memory_of_uhmm_itself(void **state)
{
	char *mem = uhmm_host_alloc(2 * BLOCK);
	RESULT(res);

	assert_non_null(mem);
	fill_pattern(mem, 2 * BLOCK, SEED);
	assert_int_equal(uhmm_to_device(space, mem, 2 * BLOCK, dev, 0, &res), UHMM_E_PARTIAL);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_OWN], PAGES(2 * BLOCK));
	assert_int_equal(skipped(&res, ANY_REASON), PAGES(2 * BLOCK));
	assert_pattern(mem, 2 * BLOCK, SEED);
	uhmm_host_free(mem, 2 * BLOCK);
}

static void memory_that_somebody_else_watches(void **state)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	struct uffdio_api api = { .api = UFFD_API };
	char *mem = filled(true);
	struct uffdio_register reg = {
		.range = { (uintptr_t)mem + BLOCK, BLOCK }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	middle_stays(mem, UHMM_SKIP_REFUSED);
	assert_pattern(mem, BYTES, SEED);
	close(fd);
	put_down(mem);
}

static void what_is_there_already(void **state)
{
	char *mem = filled(true);
	RESULT(res);

	go(mem + BLOCK, BLOCK);
	assert_int_equal(uhmm_to_system(space, mem, BYTES, 0, &res), 0);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_ABSENT], 1024);
	assert_int_equal(res.moved_bytes, BLOCK);
	go(mem + BLOCK, BLOCK);
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, &res), 0);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_ABSENT], 512);
	assert_int_equal(res.moved_bytes, 2 * BLOCK);
	put_down(mem);
}

static void every_reason_has_its_name(void **state)
{
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++) {
		assert_string_not_equal(uhmm_skip_name((enum uhmm_skip)k), "?");
		for (unsigned i = 0; i < k; i++)
			assert_string_not_equal(uhmm_skip_name((enum uhmm_skip)k), uhmm_skip_name((enum uhmm_skip)i));
	}
	assert_string_equal(uhmm_skip_name(UHMM_NR_SKIPS), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shared_memory),
		cmocka_unit_test(a_shared_memfd),
		cmocka_unit_test(a_private_file),
		cmocka_unit_test(protected_memory),
		cmocka_unit_test(locked_memory),
		cmocka_unit_test(pinned_thps),
		cmocka_unit_test(pinned_base_pages),
		cmocka_unit_test(memory_shared_with_a_child),
		cmocka_unit_test(memory_on_another_device),
		cmocka_unit_test(memory_of_uhmm_itself),
		cmocka_unit_test(memory_that_somebody_else_watches),
		cmocka_unit_test(what_is_there_already),
		cmocka_unit_test(every_reason_has_its_name),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
