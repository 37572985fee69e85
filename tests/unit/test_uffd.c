/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <poll.h>

#include "base/err.h"
#include "os/fail.h"
#include "os/pagemap.h"
#include "os/uffd.h"

static struct uffd u;
static int pm = -1;

static int lacks(const char *fail, const char *without, enum uffd_open_mode mode, struct uffd *ret)
{
	int r;

	fail_set(fail, without);
	r = uffd_open(ret, mode);
	fail_set(NULL, NULL);
	return r;
}

static void what_the_host_lacks_is_told(void **state)
{
	struct said *s = said_start();
	struct uffd x;

	(void)state;
	assert_int_equal(lacks(NULL, "userfaultfd", UFFD_FULL_OR_USER, &x), -ENOSYS);
	assert_non_null(strstr(s->line, "CONFIG_USERFAULTFD"));
	assert_int_equal(lacks(NULL, "privilege", UFFD_FULL, &x), -EPERM);
	assert_non_null(strstr(s->line, "vm.unprivileged_userfaultfd"));
	assert_int_equal(lacks(NULL, "move", UFFD_FULL, &x), -EOPNOTSUPP);
	assert_non_null(strstr(s->line, "MOVE"));
	assert_int_equal(lacks(NULL, "events", UFFD_FULL, &x), -EOPNOTSUPP);
	assert_non_null(strstr(s->line, "events"));
	assert_int_equal(lacks("uffd_open:1", NULL, UFFD_FULL, &x), -EMFILE);
	assert_int_equal(s->nr, 5);
	said_end(s);
}

static void failing_to_open_leaves_no_descriptor(void **state)
{
	static const char *const fails[] = { "uffd_api:1", "uffd_open:2", "uffd_api:2" };
	int before = dup(0), after;
	struct uffd x;

	(void)state;
	close(before);
	for (unsigned i = 0; i < ARRAY_LEN(fails); i++)
		assert_true(lacks(fails[i], NULL, UFFD_FULL, &x) < 0);
	after = dup(0);
	close(after);
	assert_int_equal(after, before);
}

static void a_user_mode_one_can_be_had_without_privilege(void **state)
{
	struct said *s = said_start();
	struct uffd x;

	(void)state;
	assert_int_equal(lacks(NULL, "privilege", UFFD_FULL_OR_USER, &x), 0);
	assert_true(x.user_mode_only);
	assert_string_equal(x.path, "user-mode-only");
	assert_non_null(strstr(s->line, "EFAULT"));
	uffd_close(&x);
	assert_int_equal(x.fd, -1);
	uffd_close(&x);
	said_end(s);
}

/* ---- moving and filling ---- */

static char *watched(uint64_t bytes)
{
	char *mem = map_blocks(bytes, true);

	assert_int_equal(uffd_register(&u, addr_of(mem), addr_of(mem) + bytes), 0);
	return mem;
}

/* Unregisters first: unmapping watched memory waits until somebody has read of it. */
static void drop_watched(char *mem, uint64_t bytes)
{
	assert_int_equal(uffd_unregister(&u, addr_of(mem), addr_of(mem) + bytes), 0);
	unmap_blocks(mem, bytes);
}

static int move(char *dst, char *src, uint64_t len, uint64_t want_moved)
{
	uint64_t moved = 77;
	int r = uffd_move(&u, addr_of(dst), addr_of(src), len, 0, &moved);

	assert_int_equal(moved, want_moved);
	return r;
}

static void a_thp_moves_as_one(void **state)
{
	char *src = map_blocks(BLOCK_BYTES, true), *dst = watched(BLOCK_BYTES);

	(void)state;
	memset(src, 7, BLOCK_BYTES);
	if (pagemap_uniform(pm, addr_of(src), addr_of(src) + BLOCK_BYTES) != (PM_PRESENT | PM_HUGE))
		skip();
	assert_int_equal(move(dst, src, BLOCK_BYTES, BLOCK_BYTES), 0);
	assert_int_equal(pagemap_uniform(pm, addr_of(dst), addr_of(dst) + BLOCK_BYTES), PM_PRESENT | PM_HUGE);
	assert_int_equal(pagemap_uniform(pm, addr_of(src), addr_of(src) + BLOCK_BYTES), 0);
	for (unsigned i = 0; i < BLOCK_BYTES; i += 64)
		assert_int_equal(dst[i], 7);
	unmap_blocks(src, BLOCK_BYTES);
	drop_watched(dst, BLOCK_BYTES);
}

static void pages_move_up_to_the_first_hole(void **state)
{
	char *src = map_blocks(BLOCK_BYTES, false), *dst = watched(BLOCK_BYTES);

	(void)state;
	memset(src, 3, 5 * PAGE_BYTES);
	assert_true(move(dst, src, 8 * PAGE_BYTES, 5 * PAGE_BYTES) != 0);
	assert_int_equal(dst[5 * PAGE_BYTES - 1], 3);
	assert_int_equal(move(dst + 5 * PAGE_BYTES, src + 5 * PAGE_BYTES, PAGE_BYTES, 0), UFFD_E_MISSING);
	unmap_blocks(src, BLOCK_BYTES);
	drop_watched(dst, BLOCK_BYTES);
}

static void a_place_that_is_taken_exists(void **state)
{
	char *src = map_blocks(BLOCK_BYTES, false), *dst = watched(BLOCK_BYTES);
	uint64_t n = 77;

	(void)state;
	src[0] = 1;
	assert_int_equal(uffd_zeropage(&u, addr_of(dst), PAGE_BYTES, 0), 0);
	assert_int_equal(move(dst, src, PAGE_BYTES, 0), UFFD_E_EXISTS);
	assert_int_equal(uffd_copy(&u, addr_of(dst), src, PAGE_BYTES, 0, &n), UFFD_E_EXISTS);
	assert_int_equal(n, 0);
	assert_int_equal(uffd_zeropage(&u, addr_of(dst), PAGE_BYTES, 0), UFFD_E_EXISTS);
	assert_int_equal(uffd_poison(&u, addr_of(dst), PAGE_BYTES),
			 u.features & UINT64_C(1) << 14 ? UFFD_E_EXISTS : UFFD_E_REFUSED);
	assert_int_equal(dst[0], 0);
	unmap_blocks(src, BLOCK_BYTES);
	drop_watched(dst, BLOCK_BYTES);
}

static void memory_nobody_watches_is_no_destination(void **state)
{
	char *src = map_blocks(BLOCK_BYTES, false), *dst = map_blocks(BLOCK_BYTES, false);
	uint64_t n;

	(void)state;
	src[0] = 1;
	assert_int_equal(move(dst, src, PAGE_BYTES, 0), UFFD_E_REFUSED);
	assert_int_equal(uffd_copy(&u, addr_of(dst), src, PAGE_BYTES, 0, &n), UFFD_E_MISSING);
	assert_int_equal(uffd_zeropage(&u, addr_of(dst), PAGE_BYTES, 0), UFFD_E_MISSING);
	unmap_blocks(dst, BLOCK_BYTES);
	assert_int_equal(move(dst, src, PAGE_BYTES, 0), UFFD_E_MISSING);
	unmap_blocks(src, BLOCK_BYTES);
}

static void a_mapping_that_is_read_only_is_no_source(void **state)
{
	char *src = map_blocks(BLOCK_BYTES, false), *dst = watched(BLOCK_BYTES);

	(void)state;
	src[0] = 1;
	assert_int_equal(mprotect(src, BLOCK_BYTES, PROT_READ), 0);
	assert_int_equal(move(dst, src, PAGE_BYTES, 0), UFFD_E_REFUSED);
	unmap_blocks(src, BLOCK_BYTES);
	drop_watched(dst, BLOCK_BYTES);
}

static int do_nothing(void *arg)
{
	(void)arg;
	return 0;
}

static void a_page_shared_by_fork_is_busy(void **state)
{
	char *src = map_blocks(BLOCK_BYTES, false), *dst = watched(BLOCK_BYTES);

	(void)state;
	src[0] = 1;
	assert_int_equal(value_in_child(do_nothing, NULL), 0);
	assert_int_equal(move(dst, src, PAGE_BYTES, 0), UFFD_E_BUSY);
	src[0] = 2; /* makes it this process's own again */
	assert_int_equal(move(dst, src, PAGE_BYTES, PAGE_BYTES), 0);
	assert_int_equal(dst[0], 2);
	unmap_blocks(src, BLOCK_BYTES);
	drop_watched(dst, BLOCK_BYTES);
}

static void copies_and_zeros_arrive(void **state)
{
	char *dst = watched(BLOCK_BYTES), *src = map_blocks(BLOCK_BYTES, false);
	uint64_t n;

	(void)state;
	memset(src, 9, 3 * PAGE_BYTES);
	assert_int_equal(uffd_copy(&u, addr_of(dst), src, 3 * PAGE_BYTES, 0, &n), 0);
	assert_int_equal(n, 3 * PAGE_BYTES);
	assert_memory_equal(dst, src, 3 * PAGE_BYTES);
	assert_int_equal(uffd_zeropage(&u, addr_of(dst) + 3 * PAGE_BYTES, PAGE_BYTES, 0), 0);
	assert_int_equal(dst[3 * PAGE_BYTES], 0);
	unmap_blocks(src, BLOCK_BYTES);
	drop_watched(dst, BLOCK_BYTES);
}

static void injected_failures_become_outcomes(void **state)
{
	static const struct { const char *fail; int outcome; } want[] = {
		{ "any:1:11", UFFD_E_AGAIN }, { "any:1:17", UFFD_E_EXISTS }, { "any:1:2", UFFD_E_MISSING },
		{ "any:1:16", UFFD_E_BUSY }, { "any:1:22", UFFD_E_REFUSED }, { "any:1:12", UFFD_E_NO_MEMORY },
		{ "any:1:3", UFFD_E_MISSING }, { "any:1:14", -EFAULT },
	};
	uint64_t n;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(want); i++) {
		fail_set(want[i].fail, NULL);
		assert_int_equal(uffd_move(&u, 0, 0, PAGE_BYTES, 0, &n), want[i].outcome);
		fail_set(want[i].fail, NULL);
		assert_int_equal(uffd_copy(&u, 0, NULL, PAGE_BYTES, 0, &n), want[i].outcome);
		fail_set(want[i].fail, NULL);
		assert_int_equal(uffd_zeropage(&u, 0, PAGE_BYTES, 0), want[i].outcome);
	}
	fail_set("register:1:16", NULL);
	assert_int_equal(uffd_register(&u, 0, PAGE_BYTES), UFFD_E_REFUSED);
	fail_set("register:1", NULL);
	assert_int_equal(uffd_register(&u, 0, PAGE_BYTES), UFFD_E_NO_MEMORY);
	fail_set("unregister:1", NULL);
	assert_int_equal(uffd_unregister(&u, 0, PAGE_BYTES), UFFD_E_NO_MEMORY);
	fail_set(NULL, NULL);
}

static void watching_is_refused_where_it_cannot_be(void **state)
{
	char *mem = watched(BLOCK_BYTES);
	struct uffd x;

	(void)state;
	assert_int_equal(uffd_register(&u, addr_of(mem), addr_of(mem) + BLOCK_BYTES), 0); /* twice is fine */
	assert_int_equal(uffd_try_open(&x, UFFD_FULL, UFFD_NO_EVENTS), 0);
	assert_int_equal(uffd_register(&x, addr_of(mem), addr_of(mem) + BLOCK_BYTES), UFFD_E_REFUSED);
	uffd_close(&x);
	drop_watched(mem, BLOCK_BYTES);
	assert_true(uffd_register(&u, addr_of(mem), addr_of(mem) + BLOCK_BYTES) > 0);
}

/* ---- poison: a touch of the page raises SIGBUS ---- */

static sigjmp_buf hit;

static void on_sigbus(int sig)
{
	siglongjmp(hit, sig);
}

static void a_poisoned_page_raises_sigbus(void **state)
{
	struct sigaction act = { .sa_handler = on_sigbus }, before;
	char *mem = watched(BLOCK_BYTES);
	volatile bool raised = true;

	(void)state;
	if (!(u.features & UINT64_C(1) << 14))
		skip();
	assert_int_equal(uffd_poison(&u, addr_of(mem), PAGE_BYTES), 0);
	sigaction(SIGBUS, &act, &before);
	if (!sigsetjmp(hit, 1)) {
		(void)*(volatile char *)mem;
		raised = false;
	}
	sigaction(SIGBUS, &before, NULL);
	assert_true(raised);
	drop_watched(mem, BLOCK_BYTES);
}

/* Messages are in test_uffd_read.c. */
int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_host_lacks_is_told),
		cmocka_unit_test(failing_to_open_leaves_no_descriptor),
		cmocka_unit_test(a_user_mode_one_can_be_had_without_privilege),
		cmocka_unit_test(a_thp_moves_as_one),
		cmocka_unit_test(pages_move_up_to_the_first_hole),
		cmocka_unit_test(a_place_that_is_taken_exists),
		cmocka_unit_test(memory_nobody_watches_is_no_destination),
		cmocka_unit_test(a_mapping_that_is_read_only_is_no_source),
		cmocka_unit_test(a_page_shared_by_fork_is_busy),
		cmocka_unit_test(copies_and_zeros_arrive),
		cmocka_unit_test(injected_failures_become_outcomes),
		cmocka_unit_test(watching_is_refused_where_it_cannot_be),
		cmocka_unit_test(a_poisoned_page_raises_sigbus),
	};
	int r;

	if (uffd_try_open(&u, UFFD_FULL, 0) || pagemap_open(&pm))
		return skip_all("no full userfaultfd with MOVE and events here");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	uffd_close(&u);
	pagemap_close(pm);
	return r;
}
