/* SPDX-License-Identifier: MIT */
#include "unit_space.h"

static unsigned nr_own(void)
{
	uint64_t start, end, from = 0;
	unsigned n = 0;

	for (; map_is_own(from, UINT64_MAX, &start, &end); from = end)
		n++;
	return n;
}

static int next_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void a_space_opens_and_leaves_nothing(void **state)
{
	int fd = next_fd();

	(void)state;
	assert_int_equal(space_init(&sp, UFFD_FULL), 0);
	assert_int_equal(sp.pid, getpid());
	assert_int_equal(table_peek(&sp.table, 0).bits, 0);
	space_fini(&sp);
	assert_int_equal(next_fd(), fd);
	assert_int_equal(nr_own(), 0);
}

static void every_failed_open_leaves_nothing(void **state)
{
	int fd = next_fd(), r = -1;
	struct said *s = said_start();

	(void)state;
	for (unsigned n = 1; r; n++) {
		char fail[16];

		assert_true(n < 50);
		snprintf(fail, sizeof(fail), "any:%u", n);
		s->nr = 0;
		fail_set(fail, NULL);
		r = space_init(&sp, UFFD_FULL);
		fail_set(NULL, NULL);
		if (!r) {
			space_fini(&sp);
		} else {
			assert_true(r < 0);
			if (r != -ENOMEM)
				assert_int_equal(s->nr, 1);
		}
		assert_int_equal(next_fd(), fd);
		assert_int_equal(nr_own(), 0);
	}
	said_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_space_opens_and_leaves_nothing),
		cmocka_unit_test(every_failed_open_leaves_nothing),
	};

	if (space_start())
		return skip_all("no full userfaultfd with MOVE and events here");
	space_end();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
