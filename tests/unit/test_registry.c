/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/err.h"
#include "device/registry.h"

static int open_none(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	(void)options;
	(void)ret_props;
	(void)ret_ctx;
	return err_why(ret_why, why_bytes, -ENODEV, "there is no such device");
}

static void close_none(void *ctx)
{
	(void)ctx;
}

static int copy_none(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	(void)ctx;
	(void)segs;
	(void)nr;
	(void)ret_fence;
	return 0;
}

static struct uhmm_driver a_driver(const char *name)
{
	return (struct uhmm_driver){
		.sz = sizeof(struct uhmm_driver), .name = name, .summary = "for a test",
		.open = open_none, .close = close_none, .copy_in = copy_none, .copy_out = copy_none,
	};
}

/* Nothing is ever taken out of the registry, so the cases go from empty to full, in this order. */
static struct uhmm_driver drv_a, drv_b, drv_short, drv_hook, drv_many[32];

static void nobody_is_known_at_first(void **state)
{
	const char *options = "untouched";
	char names[10] = "xxx";

	(void)state;
	assert_null(registry_get(0));
	assert_null(registry_find("emu:size=1G", &options, NULL, 0));
	assert_string_equal(options, "untouched");
	registry_names(names, sizeof(names));
	assert_string_equal(names, "");
}

static void incomplete_drivers_are_refused(void **state)
{
	struct uhmm_driver bad[9];

	(void)state;
	for (unsigned i = 0; i < 9; i++)
		bad[i] = a_driver("bad");
	bad[0].sz = offsetof(struct uhmm_driver, host_bytes) - 8;
	bad[1].name = NULL;
	bad[2].name = "";
	bad[3].name = "with space";
	bad[4].summary = NULL;
	bad[5].open = NULL;
	bad[6].close = NULL;
	bad[7].copy_in = NULL;
	bad[8].copy_out = NULL;
	for (unsigned i = 0; i < 9; i++)
		assert_int_equal(registry_add(&bad[i]), -EINVAL);
	bad[0] = a_driver("colon:");
	assert_int_equal(registry_add(&bad[0]), -EINVAL);
	assert_int_equal(registry_add(NULL), -EINVAL);
	assert_null(registry_get(0));
}

static void a_driver_is_found_by_the_name_of_a_spec(void **state)
{
	const char *options;

	(void)state;
	drv_a = a_driver("emu");
	drv_b = a_driver("emu_2");
	assert_int_equal(registry_add(&drv_a), 0);
	assert_int_equal(registry_add(&drv_b), 0);
	assert_ptr_equal(registry_find("emu:size=1G,x=a:b", &options, NULL, 0), &drv_a);
	assert_string_equal(options, "size=1G,x=a:b");
	assert_ptr_equal(registry_find("emu_2", &options, NULL, 0), &drv_b);
	assert_string_equal(options, "");
	assert_ptr_equal(registry_find("emu:", &options, NULL, 0), &drv_a);
	assert_string_equal(options, "");
	assert_ptr_equal(registry_get(0), &drv_a);
	assert_ptr_equal(registry_get(1), &drv_b);
	assert_null(registry_get(2));
}

static void a_part_of_a_name_is_not_the_name(void **state)
{
	static const char *const specs[] = { "", ":", "em", "emu_", "emu_22", "EMU", " emu", "emu =1" };
	const char *options;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(specs); i++)
		assert_null(registry_find(specs[i], &options, NULL, 0));
}

static void a_name_is_taken_once(void **state)
{
	struct uhmm_driver again = a_driver("emu");

	(void)state;
	assert_int_equal(registry_add(&again), -EEXIST);
	assert_int_equal(registry_add(&drv_a), -EEXIST);
}

static void a_driver_of_an_older_header_is_as_good(void **state)
{
	const char *options;

	(void)state;
	drv_short = a_driver("old");
	drv_short.sz = offsetof(struct uhmm_driver, host_bytes);
	drv_short.flags = UHMM_DRIVER_HOOK; /* what lies there is not its own */
	assert_int_equal(registry_add(&drv_short), 0);
	assert_ptr_equal(registry_find("old:x", &options, NULL, 0), &drv_short);
	assert_false(driver_has(&drv_short, host_bytes));
}

static void a_hook_is_given_the_spec_of_what_it_wraps(void **state)
{
	static const struct { const char *spec, *says; } bad[] = {
		{ "hook", "hook wraps another device" }, { "hook:size=1", "write hook+DEVICE" },
		{ "emu+hook:", "emu wraps no other" }, { "emu+", "emu wraps no other" }, { "+emu:", "there is no driver" },
		{ "nook+emu:", "emu, emu_2, old, hook+" },
	};
	const char *options = "untouched";
	char why[200];

	(void)state;
	drv_hook = a_driver("hook");
	drv_hook.flags = UHMM_DRIVER_HOOK;
	assert_int_equal(registry_add(&drv_hook), 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_null(registry_find(bad[i].spec, &options, why, sizeof(why)));
		if (!strstr(why, bad[i].says))
			fail_msg("\"%s\": \"%s\" is not in \"%s\"", bad[i].spec, bad[i].says, why);
	}
	assert_string_equal(options, "untouched");
	assert_ptr_equal(registry_find("hook+emu:size=1G,a=b+c", &options, NULL, 0), &drv_hook);
	assert_string_equal(options, "emu:size=1G,a=b+c");
	assert_ptr_equal(registry_find("hook+hook+emu", &options, NULL, 0), &drv_hook);
	assert_string_equal(options, "hook+emu");
	assert_ptr_equal(registry_find("emu:path=a+b", &options, NULL, 0), &drv_a);
	assert_string_equal(options, "path=a+b");
}

static void names_are_listed_and_cut(void **state)
{
	char names[40], few[6] = "xxxxx";

	(void)state;
	registry_names(names, sizeof(names));
	assert_string_equal(names, "emu, emu_2, old, hook+");
	registry_names(few, sizeof(few));
	assert_string_equal(few, "emu, ");
}

static void there_is_room_for_32(void **state)
{
	static char name[32][8];
	char names[20];

	(void)state;
	for (unsigned i = 4; i < 32; i++) {
		snprintf(name[i], sizeof(name[i]), "d%u", i);
		drv_many[i] = a_driver(name[i]);
		assert_int_equal(registry_add(&drv_many[i]), 0);
	}
	drv_many[0] = a_driver("one_more");
	assert_int_equal(registry_add(&drv_many[0]), -ENOSPC);
	assert_ptr_equal(registry_get(31), &drv_many[31]);
	assert_null(registry_get(32));
	registry_names(names, sizeof(names));
	assert_int_equal(strlen(names), sizeof(names) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_is_known_at_first),
		cmocka_unit_test(incomplete_drivers_are_refused),
		cmocka_unit_test(a_driver_is_found_by_the_name_of_a_spec),
		cmocka_unit_test(a_part_of_a_name_is_not_the_name),
		cmocka_unit_test(a_name_is_taken_once),
		cmocka_unit_test(a_driver_of_an_older_header_is_as_good),
		cmocka_unit_test(a_hook_is_given_the_spec_of_what_it_wraps),
		cmocka_unit_test(names_are_listed_and_cut),
		cmocka_unit_test(there_is_room_for_32),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
