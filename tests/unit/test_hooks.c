/* SPDX-License-Identifier: MIT */
/* What a hook takes for itself, and what it does; the suite of tests/driver sees to it that it does nothing else. */
#include "unit.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/pages.h"
#include "uhmm/driver.h"

static char buf[BLOCK_BYTES] __attribute__((aligned(4096)));
static char why[400], log_path[] = "/tmp/uhmm-trace-XXXXXX";

static const struct uhmm_driver *drv;
static struct uhmm_driver_props props;
static void *ctx;

static int open_spec(const char *spec)
{
	const char *options;

	why[0] = '\0';
	ctx = NULL;
	props = (struct uhmm_driver_props){ .sz = sizeof(props) };
	drv = uhmm_driver_find(spec, &options, why, sizeof(why));
	return drv ? drv->open(options, &props, &ctx, why, sizeof(why)) : -EINVAL;
}

static int copy(bool out)
{
	struct uhmm_seg seg = { 0, buf, BLOCK_BYTES };
	uint64_t fence = 0;
	int r = (out ? drv->copy_out : drv->copy_in)(ctx, &seg, 1, &fence);

	return r || !fence ? r : drv->fence_wait(ctx, fence);
}

static void options_go_where_they_belong(void **state)
{
	(void)state;
	assert_int_equal(open_spec("faulty+emu:size=8M,in=2,orders=ends,errno=61"), 0);
	assert_int_equal(props.size_bytes, 8 * MIB);
	assert_int_equal(props.orders, 1u | 1u << 9);
	assert_int_equal(copy(false), 0);
	assert_int_equal(copy(false), -61);
	assert_int_equal(copy(false), 0);
	drv->close(ctx);
	assert_int_equal(open_spec("slow+faulty+emu:out=1,delay=0ns,size=4M,async=on"), 0);
	assert_int_equal(props.size_bytes, 4 * MIB);
	assert_int_equal(props.caps, UHMM_CAP_ASYNC);
	assert_int_equal(copy(true), -EIO);
	assert_int_equal(copy(true), 0);
	drv->close(ctx);
	assert_int_equal(open_spec("trace+emu"), 0);
	drv->close(ctx);
}

static void faults_are_counted_apart(void **state)
{
	(void)state;
	assert_int_equal(open_spec("faulty+emu:size=8M,in=2,out=3,every=on,alloc=2,order=4,clear=1"), 0);
	for (unsigned i = 1; i <= 12; i++) {
		assert_int_equal(copy(false), i % 2 ? 0 : -EIO);
		assert_int_equal(copy(true), i % 3 ? 0 : -EIO);
		assert_int_equal(drv->folio_alloc(ctx, 0, 4), i % 2 ? 0 : -ENOSPC);
		assert_int_equal(drv->folio_alloc(ctx, 0, 0), 0);
		assert_int_equal(drv->clear(ctx, 0, 4096), -EIO);
	}
	drv->close(ctx);
}

static void a_late_fault_is_the_fences(void **state)
{
	struct uhmm_seg seg = { 0, buf, 4096 };
	uint64_t fence = 0;

	(void)state;
	assert_int_equal(open_spec("faulty+emu:size=8M,async=on,in=1,late=on"), 0);
	assert_int_equal(drv->copy_in(ctx, &seg, 1, &fence), 0);
	assert_true(fence);
	assert_int_equal(drv->fence_wait(ctx, fence), -EIO);
	assert_int_equal(copy(false), 0);
	drv->close(ctx);
}

static void slow_takes_its_time(void **state)
{
	uint64_t began;

	(void)state;
	assert_int_equal(open_spec("slow+emu:size=8M,delay=20ms,per_mib=10ms"), 0);
	began = clock_ns();
	assert_int_equal(copy(false), 0);
	assert_true(clock_ns() - began >= 40000000);
	drv->close(ctx);
}

static void a_trace_has_a_line_for_each_call(void **state)
{
	static const char *const calls[] = { " open emu:size=8M,async=on", " folio_alloc offset=0x200000 order=9 r=0",
					     " copy_in offset=0x0 bytes=2097152 segments=1 fence=", " fence_wait fence=",
					     " clear offset=0x1000 bytes=4096 r=0", " folio_split offset=0x200000 order=9 into=0",
					     " folio_free offset=0x201000 order=0", " copy_out offset=0x0", " close" };
	char spec[200], line[400];
	unsigned n = 0;
	FILE *f;

	(void)state;
	snprintf(spec, sizeof(spec), "trace+emu:size=8M,async=on,log=%s", log_path);
	assert_int_equal(open_spec(spec), 0);
	drv->folio_alloc(ctx, BLOCK_BYTES, 9);
	assert_int_equal(copy(false), 0);
	drv->clear(ctx, 4096, 4096);
	drv->folio_split(ctx, BLOCK_BYTES, 9, BLOCK_BYTES + 4096, 0);
	drv->folio_split(ctx, BLOCK_BYTES, 9, UINT64_MAX, 0);
	drv->folio_free(ctx, BLOCK_BYTES + 4096, 0);
	assert_int_equal(copy(true), 0);
	drv->close(ctx);

	f = fopen(log_path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (n == ARRAY_LEN(calls))
			assert_non_null(strstr(line, calls[3])); /* the wait of the last copy may follow what we look for */
		else if (strstr(line, calls[n]))
			n++;
	}
	fclose(f);
	assert_int_equal(n, ARRAY_LEN(calls));
}

static void what_cannot_be_is_told(void **state)
{
	static const struct { const char *spec, *says; } bad[] = {
		{ "faulty+nonesuch:", "there is no driver" }, { "faulty+", "there is no driver" }, { "faulty:in=1", "write faulty+DEVICE" },
		{ "faulty+emu:in=x", "in=x is not a whole number" }, { "faulty+emu:sise=8M", "sise" },
		{ "faulty+emu:size=3M", "multiple of 2M" }, { "faulty+emu:order=10", "order is a number" },
		{ "slow+emu:delay=5", "delay=5 is not a time" }, { "trace+emu:log=/nonesuch/x", "/nonesuch/x cannot be written to" },
		{ "slow+trace+faulty:", "faulty wraps another" }, { "emu+slow:", "emu wraps no other" },
	};
	char vast[2000];

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(open_spec(bad[i].spec) < 0);
		if (!strstr(why, bad[i].says))
			fail_msg("\"%s\": \"%s\" is not in \"%s\"", bad[i].spec, bad[i].says, why);
	}
	snprintf(vast, sizeof(vast), "faulty+emu:%01900d", 1);
	assert_int_equal(open_spec(vast), -EINVAL);
	assert_non_null(strstr(why, "longer than"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_go_where_they_belong),
		cmocka_unit_test(faults_are_counted_apart),
		cmocka_unit_test(a_late_fault_is_the_fences),
		cmocka_unit_test(slow_takes_its_time),
		cmocka_unit_test(a_trace_has_a_line_for_each_call),
		cmocka_unit_test(what_cannot_be_is_told),
	};
	int fd = mkstemp(log_path), failures;

	if (fd < 0)
		return 1;
	close(fd);
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(log_path);
	return failures;
}
