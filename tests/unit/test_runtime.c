/* SPDX-License-Identifier: MIT */
/* base/runtime.c: a library is opened once, for this process, and what it lacks is said. The mathematical library stands for a
 * runtime. */
#include "unit.h"

#include "base/runtime.h"

struct table {
	double (*square_root)(double x);
	double (*other)(double x);
};

static const struct dl_symbol symbols[] = {
	{ "sqrt", offsetof(struct table, square_root) },
	{ "fabs", offsetof(struct table, other) },
	{ NULL, 0 },
};

static const struct dl_symbol too_many[] = {
	{ "sqrt", offsetof(struct table, square_root) },
	{ "square_circle", offsetof(struct table, other) },
	{ NULL, 0 },
};

static struct table tables[RUNTIME_MAX];
static char why[300];

/* Nothing is opened yet. */
static struct runtime_kind kind_with(const char *file, const struct dl_symbol *list)
{
	return (struct runtime_kind){ .name = "Maths", .driver = "maths:", .file = file, .is = "the library of mathematics",
				      .package = "everybody has it", .needed = "a better one is needed", .symbols = list,
				      .tables = tables, .table_bytes = sizeof(*tables) };
}

static void one_library_is_opened_once(void **state)
{
	struct runtime_kind k = kind_with("libm.so.6", symbols);
	const struct runtime *first, *again, *apart;

	assert_int_equal(runtime_get(&k, "libm.so.6", false, &first, why, sizeof(why)), 0);
	assert_int_equal(runtime_get(&k, "libm.so.6", false, &again, why, sizeof(why)), 0);
	assert_ptr_equal(first, again);
	assert_true(((struct table *)first->table)->square_root(9) == 3);
	assert_true(((struct table *)first->table)->other(-2) == 2);
	assert_non_null(first->handle);
	assert_int_equal(runtime_get(&k, "libm.so.6", true, &apart, why, sizeof(why)), 0);
	assert_ptr_not_equal(first, apart);
	assert_ptr_not_equal(((struct table *)first->table)->other, ((struct table *)apart->table)->other);
	assert_true(((struct table *)apart->table)->square_root(16) == 4);
}

static void what_is_missing_is_said(void **state)
{
	struct runtime_kind k = kind_with("libnosuch.so.1", symbols), old = kind_with("libm.so.6", too_many);
	const struct runtime *r;

	assert_int_equal(runtime_get(&k, "libnosuch.so.1", true, &r, why, sizeof(why)), -ENODEV);
	assert_string_equal(why, "the library of mathematics, libnosuch.so.1, cannot be opened (everybody has it)");
	assert_int_equal(runtime_get(&k, "/none.so", true, &r, why, sizeof(why)), -ENODEV);
	assert_non_null(strstr(why, "/none.so cannot be opened: /none.so: "));
	assert_int_equal(runtime_get(&old, "libm.so.6", false, &r, why, sizeof(why)), -ENODEV);
	assert_string_equal(why, "libm.so.6 has no square_circle: a better one is needed");
	assert_int_equal(old.nr, 0);
}

/* One that is there and cannot be opened apart may well be opened beside the program's: that is an option. */
static void what_does_not_like_a_namespace(void **state)
{
	struct runtime_kind k = kind_with("/proc/self/status", symbols);
	const struct runtime *r;

	assert_int_equal(runtime_get(&k, "/proc/self/status", true, &r, why, sizeof(why)), -ENODEV);
	assert_non_null(strstr(why, "cannot be opened in a namespace of its own"));
	assert_non_null(strstr(why, "apart=off"));
	assert_int_equal(runtime_get(&k, "/proc/self/status", false, &r, why, sizeof(why)), -ENODEV);
	assert_null(strstr(why, "apart"));
}

static void there_is_an_end_to_it(void **state)
{
	struct runtime_kind k = kind_with("libm.so.6", symbols);
	const struct runtime *r;

	k.nr = RUNTIME_MAX; /* of others */
	k.owner = getpid();
	assert_int_equal(runtime_get(&k, "libm.so.6", false, &r, why, sizeof(why)), -ENOSPC);
	assert_string_equal(why, "this process has opened 4 libraries of Maths already");
}

static void a_child_is_refused(void **state)
{
	struct runtime_kind k = kind_with("libm.so.6", symbols);
	const struct runtime *r;
	int status;
	pid_t pid;

	assert_int_equal(runtime_get(&k, "libm.so.6", false, &r, why, sizeof(why)), 0);
	pid = fork();
	if (!pid)
		_exit(runtime_get(&k, "libm.so.6", false, &r, why, sizeof(why)) != -ENODEV ||
		      !strstr(why, "Maths was used before fork(2)") || !strstr(why, "open no maths: before it forks"));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int signals_blocked(void *ctx, char *ret_why, size_t why_bytes)
{
	sigset_t now;

	(void)ctx, (void)ret_why, (void)why_bytes;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	return sigismember(&now, SIGUSR1) && sigismember(&now, SIGTERM) ? 7 : 0;
}

static void quietly_means_without_signals(void **state)
{
	sigset_t now;

	assert_int_equal(runtime_quietly(signals_blocked, NULL, NULL, 0), 7);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	assert_false(sigismember(&now, SIGUSR1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_library_is_opened_once),
		cmocka_unit_test(what_is_missing_is_said),
		cmocka_unit_test(what_does_not_like_a_namespace),
		cmocka_unit_test(there_is_an_end_to_it),
		cmocka_unit_test(a_child_is_refused),
		cmocka_unit_test(quietly_means_without_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
