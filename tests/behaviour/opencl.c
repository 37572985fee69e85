/* SPDX-License-Identifier: MIT */
/*
 * opencl: on devices that do as they are told (support/fake_opencl.h): which one a spec means, what is said when there is none
 * or it is too small, and a device that fails. tests/driver runs on real ones.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_opencl.h"
#include "faked.h"

#define BYTES (8 * MIB)
#define PAGE  ((size_t)4096)

static struct fake_opencl *fake;

static int reset(void **state)
{
	*fake = (struct fake_opencl){ .nr_platforms = 2, .live = fake->live };
	support_log_clear();
	return fake->live;
}

/* ---- which device ---- */

static void no_loader(void **state)
{
	struct uhmm_device *dev;

	assert_int_equal(uhmm_device_open(space, "opencl:library=/nonexistent.so", &dev), -ENODEV);
	assert_non_null(strstr(support_last_log(), "/nonexistent.so"));
	assert_int_equal(uhmm_device_open(space, "opencl:library=libm.so.6", &dev), -ENODEV);
	assert_non_null(strstr(support_last_log(), "libm.so.6 has no clGetPlatformIDs"));
}

static void no_platform_and_no_device(void **state)
{
	fake->nr_platforms = 0;
	refused("size=8M", -ENODEV, "there is no OpenCL platform: no driver (ICD) is installed");
	fake->nr_platforms = 2;
	fake->no_devices = 1;
	refused("size=8M", -ENODEV, "there is no OpenCL device on platform 0 = Fake One, 1 = Fake Two");
	refused("size=8M,platform=one", -ENODEV, "there is no OpenCL device on platform 0 = Fake One");
	fake->no_devices = 0;
	fake->unavailable = 1;
	refused("size=8M,device=gpu", -ENODEV, "fake gpu is not available now");
	fake->unavailable = 0;
	fake->version = "OpenCL 1.1 old";
	refused("size=8M", -ENODEV, "fake gpu has OpenCL 1.1 old; OpenCL 1.2 is needed");
}

static void names_and_numbers_that_mean_none(void **state)
{
	refused("size=8M,platform=three", -ENODEV, "no OpenCL platform \"three\"; the platforms are 0 = Fake One, 1 = Fake Two");
	refused("size=8M,platform=2", -ENODEV, "no OpenCL platform \"2\"");
	refused("size=8M,device=tpu", -ENODEV,
		"no OpenCL device \"tpu\"; the devices are 0 = fake cpu, 1 = fake small cpu, 2 = fake gpu");
	refused("size=8M,device=3", -ENODEV, "no OpenCL device \"3\"");
	refused("size=8M,platform=0,device=1", -ENODEV, "no OpenCL device \"1\"; the devices are 0 = fake cpu");
}

/* What is chosen shows in a refusal. */
static void names_and_numbers(void **state)
{
	refused("size=1G", -ENOMEM, "512 MiB that fake gpu has"); /* before any CPU */
	refused("size=1G,platform=0", -ENOMEM, "that fake cpu has");
	refused("size=1G,platform=Fake One", -ENOMEM, "that fake cpu has");
	refused("size=1G,device=0", -ENOMEM, "that fake cpu has");
	refused("size=1G,device=1", -ENOMEM, "that fake small cpu has");
	refused("size=1G,device=2", -ENOMEM, "that fake gpu has");
	refused("size=1G,device=SMALL", -ENOMEM, "that fake small cpu has");
	refused("size=1G,platform=1,device=0", -ENOMEM, "that fake small cpu has");
	refused("size=1G,platform=two", -ENOMEM, "that fake gpu has");
}

/* ---- how much ---- */

static void sizes(void **state)
{
	struct uhmm_device_info info = { .sz = sizeof(info) };
	struct uhmm_device *dev = open_device("device=gpu");

	assert_int_equal(uhmm_device_query(dev, &info), 0);
	assert_int_equal(info.size_bytes, 256 * MIB); /* half of it, in two buffers */
	assert_true(info.caps & UHMM_CAP_ASYNC && info.caps & UHMM_CAP_HEAP);
	assert_int_equal(uhmm_device_close(dev), 0);
	assert_int_equal(uhmm_device_close(open_device("size=512M")), 0);
	refused("size=514M", -ENOMEM, "size is more than the 512 MiB that fake gpu has");
	refused("size=3M", -EINVAL, "size must be a multiple of 2M");
	refused("size=0", -EINVAL, "size must be a multiple of 2M");
	refused("size=8M,buffer=1M", -EINVAL, "buffer must be a multiple of 2M");
	refused("size=512M,buffer=1M", -EINVAL, "buffer must be a multiple of 2M");
	refused("frequency=1", -EINVAL, "there is no option \"frequency\"");
}

static void memory_that_cannot_be_had(void **state)
{
	fake->create_buffer = -4;
	refused("size=256M", -ENOMEM, "fake gpu gives no buffer of 128 MiB after 0 MiB: CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)");
	fake->migrate = -5;
	refused("size=8M", -ENOMEM, "fake gpu gives no buffer of 8 MiB after 0 MiB: CL_OUT_OF_RESOURCES (-5)");
	fake->create_context = -2;
	refused("size=8M", -ENODEV, "fake gpu gives no context and queues: CL_DEVICE_NOT_AVAILABLE (-2)");
}

static void what_is_used_of_the_host(void **state)
{
	struct uhmm_device_info info = { .sz = sizeof(info) };
	struct uhmm_device *dev = open_device("device=0,size=64M");
	char *mem = map_anon(BYTES, true, true);

	fill_pattern(mem, BYTES, 1);
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), 0);
	assert_int_equal(uhmm_device_query(dev, &info), 0);
	assert_true(info.host_bytes >= BYTES && info.host_bytes <= 64 * MIB);
	assert_int_equal(uhmm_device_close(dev), 0);
	assert_int_equal(check_pattern(mem, BYTES, 1), -1);
	dev = open_device("device=gpu,size=64M");
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), 0);
	assert_int_equal(uhmm_device_query(dev, &info), 0);
	assert_int_equal(info.host_bytes, 0);
	assert_int_equal(uhmm_device_close(dev), 0);
	unmap_anon(mem, BYTES);
}

/* ---- a device that fails ---- */

static void a_copy_that_fails_is_told_by_name(void **state)
{
	struct uhmm_device *dev = open_device("size=64M,buffer=2M");
	char *mem = map_anon(BYTES, true, true);

	fill_pattern(mem, BYTES, 2);
	fake->enqueue = -5;
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), -ENOMEM);
	assert_non_null(strstr(support_last_log(), "clEnqueueWriteBuffer on fake gpu failed with CL_OUT_OF_RESOURCES (-5)"));
	assert_int_equal(check_pattern(mem, BYTES, 2), -1);
	fake->status = -36;
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), -EIO);
	assert_non_null(strstr(support_last_log(), "CL_INVALID_COMMAND_QUEUE (-36)"));
	assert_int_equal(check_pattern(mem, BYTES, 2), -1);
	support_log_clear();
	fake->enqueue = -5;
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), -ENOMEM);
	assert_int_equal(support_log_count(), 0); /* it has been said */
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), 0);
	fake->status = -2;
	(void)uhmm_to_system(space, mem, BYTES, 0, NULL); /* it tries again what failed once */
	assert_non_null(strstr(support_last_log(), "clEnqueueReadBuffer on fake gpu failed with CL_DEVICE_NOT_AVAILABLE (-2)"));
	assert_int_equal(uhmm_to_system(space, mem, BYTES, 0, NULL), 0);
	assert_int_equal(check_pattern(mem, BYTES, 2), -1);
	assert_int_equal(uhmm_device_close(dev), 0);
	assert_int_equal(fake->live, 0);
	unmap_anon(mem, BYTES);
}

/* ---- how it is called ---- */

/* Who holds many fences may begin another copy: it waits for no lane. A segment may lie in several buffers. */
static void more_copies_at_once_than_lanes(void **state)
{
	char *in = map_anon(BYTES, true, false), *out = map_anon(BYTES, true, false);
	struct uhmm_seg seg = { 4096, in, BYTES - PAGE };
	uint64_t fence = 0;
	void *ctx;
	const struct uhmm_driver *d = open_driver("size=64M,buffer=2M", &ctx);

	fill_pattern(in, BYTES, 3);
	hold_fences(d, ctx, &seg, 1, 40);
	seg.host = out;
	assert_int_equal(d->copy_out(ctx, &seg, 1, &fence), 0);
	assert_true(!fence || !d->fence_wait(ctx, fence));
	assert_memory_equal(in, out, BYTES - PAGE);
	seg.offset = 60 * MIB;
	assert_int_equal(d->copy_out(ctx, &seg, 1, &fence), -EINVAL);
	d->close(ctx);
	d->close(NULL);
	assert_int_equal(fake->live, 0);
	unmap_anon(in, BYTES);
	unmap_anon(out, BYTES);
}

static void no_policy_works_beside_it(void **state)
{
	struct uhmm_device *dev = open_device("size=64M"), *other;
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = GIB, .devices = &dev, .nr_devices = 1);

	assert_int_equal(uhmm_policy_start(space, &o), -EINVAL);
	assert_non_null(strstr(support_last_log(), "UHMM_CAP_HEAP"));
	assert_int_equal(uhmm_device_open(space, "emu:size=64M", &other), 0);
	o.devices = &other;
	assert_int_equal(uhmm_policy_start(space, &o), -EINVAL);
	assert_int_equal(uhmm_device_close(dev), 0);
	assert_int_equal(uhmm_policy_start(space, &o), 0);
	assert_int_equal(uhmm_device_open(space, spec("size=64M"), &dev), -EBUSY);
	assert_int_equal(fake->live, 0);
	assert_int_equal(uhmm_policy_stop(space), 0);
	assert_int_equal(uhmm_device_open(space, spec("size=64M"), &dev), -EBUSY);
	assert_int_equal(uhmm_close(space), 0);
	space = open_space_or_skip(NULL);
}

static void a_child_has_no_opencl(void **state)
{
	child_is_refused(BYTES);
}

/* ---- a heap of its own ---- */

#define NR_PIECES    100000u
#define PIECE_BYTES  600u
#define NR_THREADS   2u

static char *pieces[NR_THREADS][NR_PIECES];

/* Frees every second piece and takes others in their place: malloc() reads and writes what lies between the pieces. */
static void *shake_heap(void *arg)
{
	char **own = arg;

	for (unsigned i = 0; i < NR_PIECES; i += 2) {
		free(own[i]);
		own[i] = malloc(PIECE_BYTES + i % 512);
		own[i][0] = (char)i;
	}
	return NULL;
}

/* The program's threads are inside malloc(), with its lock, when the page they need is brought home: OpenCL may not need it. */
static void malloc_itself_is_on_the_device(void **state)
{
	char real[300];
	struct uhmm_device *dev;
	pthread_t t[NR_THREADS];
	char *from, *to;

	if (!FREE_UNMAPS)
		skip(); /* the sanitizer's malloc() has no heap that could be named */
	snprintf(real, sizeof(real), "opencl:library=%s,size=512M", library);
	assert_int_equal(uhmm_device_open(space, "opencl:size=512M", &dev) && uhmm_device_open(space, real, &dev), 0);
	for (unsigned i = 0; i < NR_PIECES; i++)
		for (unsigned k = 0; k < NR_THREADS; k++) {
			pieces[k][i] = malloc(PIECE_BYTES);
			pieces[k][i][0] = (char)i;
		}
	from = (char *)(((uintptr_t)pieces[0][0] + PAGE - 1) & ~(PAGE - 1));
	to = (char *)((uintptr_t)pieces[NR_THREADS - 1][NR_PIECES - 1] & ~(PAGE - 1));
	assert_true(to > from + 64 * MIB);
	for (unsigned round = 0; round < 3; round++) {
		struct uhmm_result res = { .sz = sizeof(res) };

		assert_true(uhmm_to_device(space, from, (size_t)(to - from), dev, 0, &res) >= 0);
		assert_true(res.moved_bytes > 32 * MIB);
		for (unsigned k = 0; k < NR_THREADS; k++)
			assert_int_equal(pthread_create(&t[k], NULL, shake_heap, pieces[k]), 0);
		for (unsigned k = 0; k < NR_THREADS; k++)
			pthread_join(t[k], NULL);
	}
	for (unsigned i = 0; i < NR_PIECES; i++)
		for (unsigned k = 0; k < NR_THREADS; k++)
			assert_int_equal(pieces[k][i][0], (char)i);
	assert_int_equal(uhmm_device_close(dev), 0);
	for (unsigned i = 0; i < NR_PIECES; i++)
		for (unsigned k = 0; k < NR_THREADS; k++)
			free(pieces[k][i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(no_loader, reset),
		cmocka_unit_test_setup(no_platform_and_no_device, reset),
		cmocka_unit_test_setup(names_and_numbers_that_mean_none, reset),
		cmocka_unit_test_setup(names_and_numbers, reset),
		cmocka_unit_test_setup(sizes, reset),
		cmocka_unit_test_setup(memory_that_cannot_be_had, reset),
		cmocka_unit_test_setup(what_is_used_of_the_host, reset),
		cmocka_unit_test_setup(a_copy_that_fails_is_told_by_name, reset),
		cmocka_unit_test_setup(more_copies_at_once_than_lanes, reset),
		cmocka_unit_test_setup(no_policy_works_beside_it, reset),
		cmocka_unit_test_setup(a_child_has_no_opencl, reset),
		cmocka_unit_test_setup(malloc_itself_is_on_the_device, reset),
	};
	int failures;

	alarm(115);
	mallopt(M_ARENA_MAX, 1); /* one heap with one lock for all threads, the library's too, if one of them should need it */
	fake = faked_start("opencl", "UHMM_FAKE_OPENCL", "fake_opencl");
	if (!fake)
		return 1;
	live = &fake->live;
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	return uhmm_close(space) || failures;
}
