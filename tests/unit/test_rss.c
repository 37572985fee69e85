/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/pages.h"
#include "os/rss.h"

#define LEN   (32 * BLOCK_BYTES)
#define SLACK (4 * BLOCK_BYTES) /* the kernel counts on each CPU, and adds up late */

static struct rss look(void)
{
	struct rss now;
	int fd;

	assert_int_equal(rss_open(&fd), 0);
	assert_int_equal(rss_read(fd, &now), 0);
	rss_close(fd);
	return now;
}

static void private_memory_that_is_touched_counts(void **state)
{
	struct rss before = look(), after;
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(mem, MAP_FAILED);
	after = look();
	assert_true(after.mapped_bytes >= before.mapped_bytes + LEN);
	assert_true(after.anon_bytes < before.anon_bytes + SLACK);
	memset(mem, 1, LEN);
	after = look();
	assert_true(after.anon_bytes + SLACK > before.anon_bytes + LEN && after.anon_bytes < before.anon_bytes + LEN + SLACK);
	munmap(mem, LEN);
	after = look();
	assert_true(after.anon_bytes < before.anon_bytes + SLACK);
}

/* A JVM reserves its heap, and makes it accessible as it needs it. */
static void reserved_memory_that_becomes_writable_is_seen(void **state)
{
	char *mem = mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t before = look().mapped_bytes;

	(void)state;
	assert_int_equal(mprotect(mem, LEN / 2, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(look().mapped_bytes, before + LEN / 2);
	assert_ptr_equal(mmap(mem + LEN / 2, LEN / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), mem + LEN / 2);
	assert_int_equal(look().mapped_bytes, before + LEN);
	munmap(mem, LEN);
}

static void shared_memory_does_not_count(void **state)
{
	struct rss before = look(), after;
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(mem, MAP_FAILED);
	memset(mem, 1, LEN);
	after = look();
	assert_true(after.anon_bytes < before.anon_bytes + SLACK);
	munmap(mem, LEN);
}

static void a_wrong_file_is_an_error(void **state)
{
	struct rss now;

	(void)state;
	assert_true(rss_read(-1, &now) < 0);
	rss_close(-1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(private_memory_that_is_touched_counts),
		cmocka_unit_test(reserved_memory_that_becomes_writable_is_seen),
		cmocka_unit_test(shared_memory_does_not_count),
		cmocka_unit_test(a_wrong_file_is_an_error),
	};

	/* it keeps several times as much beside every page that is written to */
	if (THREAD_SANITIZER)
		return skip_all("the thread sanitizer has memory of its own beside the program's");
	return cmocka_run_group_tests_name("rss", tests, NULL, NULL);
}
