/* SPDX-License-Identifier: MIT */
/*
 * cuda: on devices that do as they are told (support/fake_cuda.h): which one a spec means, what is said when there is none or it is
 * too small, both ways of copying, a device that fails or is lost, and memory that is there twice.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_cuda.h"
#include "faked.h"

#define BYTES (8 * MIB)
#define BLOCK (2 * MIB)
#define PAGE  ((size_t)4096)

static struct fake_cuda *fake;

/* The byte at a device's address. */
static void *(*host_of)(uint64_t at);

static int reset(void **state)
{
	*fake = (struct fake_cuda){ .nr_devices = 2, .live = fake->live };
	support_log_clear();
	return fake->live;
}

/* ---- which device ---- */

static void no_library(void **state)
{
	struct uhmm_device *dev;

	assert_int_equal(uhmm_device_open(space, "cuda:library=/nonexistent.so", &dev), -ENODEV);
	assert_non_null(strstr(support_last_log(), "/nonexistent.so cannot be opened: "));
	assert_null(strstr(support_last_log(), "apart=off"));
	assert_int_equal(uhmm_device_open(space, "cuda:library=libm.so.6", &dev), -ENODEV);
	assert_non_null(strstr(support_last_log(), "libm.so.6 has no cuInit: an NVIDIA driver for CUDA 11.2 or newer is needed"));
}

/* It is there, but no library: what a libcuda that does not like its namespace looks like. */
static void a_library_that_cannot_be_opened_apart(void **state)
{
	struct uhmm_device *dev;

	assert_int_equal(uhmm_device_open(space, "cuda:library=/proc/self/status", &dev), -ENODEV);
	assert_non_null(strstr(support_last_log(), "cannot be opened in a namespace of its own"));
	assert_non_null(strstr(support_last_log(), "apart=off"));
	assert_int_equal(uhmm_device_open(space, "cuda:library=/proc/self/status,apart=off", &dev), -ENODEV);
	assert_null(strstr(support_last_log(), "apart=off opens"));
}

static void no_device(void **state)
{
	fake->nr_devices = 0;
	refused("size=8M", -ENODEV, "there is no CUDA device: no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it");
	fake->nr_devices = 1;
	refused("size=8M", -ENODEV, "fake old gpu cannot map memory where it is wanted (cuMemMap)");
	fake->nr_devices = 2;
	refused("size=8M,device=tpu", -ENODEV, "no CUDA device \"tpu\"; the devices are 0 = fake old gpu, 1 = fake gpu");
	refused("size=8M,device=2", -ENODEV, "no CUDA device \"2\"");
	refused("size=8M,device=old", -ENODEV, "fake old gpu cannot map");
	fake->prohibited = 1;
	refused("size=8M,device=1", -ENODEV, "fake gpu is closed to all programs (compute mode");
	fake->prohibited = 0;
	fake->version = 11010;
	refused("size=8M", -ENODEV, "the NVIDIA driver is for CUDA 11.1; 11.2 or newer is needed");
	fake->version = 0;
	fake->init = 304;
	refused("size=8M", -ENODEV, "CUDA does not start: CUDA_ERROR_OPERATING_SYSTEM (304, OS call failed");
}

/* ---- how much ---- */

static void sizes(void **state)
{
	struct uhmm_device_info info = { .sz = sizeof(info) };
	struct uhmm_device *dev = open_device("device=1");

	assert_int_equal(uhmm_device_query(dev, &info), 0);
	assert_int_equal(info.size_bytes, 256 * MIB); /* half of what is free */
	assert_true(info.caps & UHMM_CAP_ASYNC && info.caps & UHMM_CAP_HEAP);
	assert_int_equal(uhmm_device_close(dev), 0);
	assert_int_equal(uhmm_device_close(open_device("size=512M")), 0);
	refused("size=514M", -ENOMEM, "size is more than the 512 MiB that fake gpu has free");
	refused("size=3M", -EINVAL, "size must be a multiple of 2M");
	refused("size=0", -EINVAL, "size must be a multiple of 2M");
	refused("staging=fast", -EINVAL, "staging=fast is not auto, pinned or direct");
	refused("frequency=1", -EINVAL, "there is no option \"frequency\"");
}

/* Each step of opening fails in turn: a sentence with the name of the error, and nothing is left behind. */
static void what_cannot_be_had(void **state)
{
	struct {
		_Atomic int32_t *call;
		const char *words;
	} steps[] = {
		{ &fake->context_create, "fake gpu gives no context: CUDA_ERROR_OUT_OF_MEMORY (2, out of memory)" },
		{ &fake->address_reserve, "fake gpu gives no 64 MiB of addresses: CUDA_ERROR_OUT_OF_MEMORY (2)" },
		{ &fake->memory_create, "fake gpu gives no more memory after 0 MiB: CUDA_ERROR_OUT_OF_MEMORY (2); ask for a smaller size" },
		{ &fake->map, "fake gpu gives no more memory after 0 MiB" },
		{ &fake->set_access, "fake gpu gives no more memory after 64 MiB" },
		{ &fake->host_alloc, "fake gpu gives no streams and events" },
		{ &fake->stream_create, "fake gpu gives no streams and events" },
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		*steps[i].call = 2;
		refused("size=64M", -ENOMEM, steps[i].words);
	}
}

/* ---- copies ---- */

static void there_and_back(const char *options)
{
	struct uhmm_device *dev = open_device(options);
	char *mem = map_anon(BYTES, true, true), *small = map_anon(BYTES, false, false);

	fill_pattern(mem, BYTES, 1);
	fill_pattern(small, BYTES, 2);
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), 0);
	assert_int_equal(uhmm_to_device(space, small, BYTES, dev, 0, NULL), 0);
	for (size_t at = 0; at < BYTES; at += 3 * PAGE)
		assert_int_equal(check_pattern_at(small + at, 8, 2, at), -1);
	assert_int_equal(uhmm_to_system(space, mem, BYTES, 0, NULL), 0);
	assert_int_equal(check_pattern(mem, BYTES, 1), -1);
	assert_int_equal(check_pattern(small, BYTES, 2), -1);
	assert_int_equal(uhmm_device_close(dev), 0);
	assert_int_equal(fake->live, 0);
	unmap_anon(mem, BYTES);
	unmap_anon(small, BYTES);
}

static void both_ways_of_copying(void **state)
{
	there_and_back("size=64M,staging=pinned");
	assert_true(fake->pinned > 0 && fake->max_waiting > 1); /* several are on their way at once */
	assert_int_equal(fake->pageable, 0);
	fake->pinned = 0;
	there_and_back("size=64M,staging=direct");
	assert_true(fake->pageable > 0);
	assert_int_equal(fake->pinned, 0);
	there_and_back("size=64M,staging=auto");
	assert_true(fake->pinned >= 8 && fake->pageable >= 4); /* both were tried */
}

/* Who holds many fences may begin another copy: it waits for no lane. Contents pass the ring several times. */
static void more_copies_at_once_than_lanes(const char *options)
{
	char *in = map_anon(BYTES, true, false), *out = map_anon(BYTES, true, false);
	struct uhmm_seg segs[3] = { { PAGE, in, BYTES - 3 * PAGE }, { BYTES, in + BYTES - 3 * PAGE, PAGE },
				    { BYTES + 4 * PAGE, in + BYTES - 2 * PAGE, 2 * PAGE } };
	uint64_t fence = 0;
	void *ctx;
	const struct uhmm_driver *d = open_driver(options, &ctx);

	fill_pattern(in, BYTES, 3);
	hold_fences(d, ctx, segs, 3, 40);
	for (unsigned i = 0; i < 3; i++)
		segs[i].host = out + ((char *)segs[i].host - in);
	assert_int_equal(d->copy_out(ctx, segs, 3, &fence), 0);
	assert_true(!fence || !d->fence_wait(ctx, fence));
	assert_memory_equal(in, out, BYTES);
	assert_int_equal(d->clear(ctx, BLOCK, BLOCK), 0);
	segs[0] = (struct uhmm_seg){ BLOCK, out, BLOCK };
	assert_int_equal(d->copy_out(ctx, segs, 1, NULL), 0);
	assert_int_equal(check_zero(out, BLOCK), -1);
	segs[0].offset = 63 * MIB;
	assert_int_equal(d->copy_out(ctx, segs, 1, &fence), -EINVAL);
	d->close(ctx);
	d->close(NULL);
	assert_int_equal(fake->live, 0);
	unmap_anon(in, BYTES);
	unmap_anon(out, BYTES);
}

static void many_copies_at_once(void **state)
{
	more_copies_at_once_than_lanes("size=64M,staging=pinned");
	more_copies_at_once_than_lanes("size=64M,staging=direct");
}

#define NR_THREADS 2u
#define NR_ROUNDS  40u

struct party {
	const struct uhmm_driver *driver;
	void *ctx;
	unsigned number;
	bool good;
};

static void *copy_about(void *arg)
{
	struct party *p = arg;
	char *in = map_anon(BYTES, true, false), *out = map_anon(BYTES, true, false);

	p->good = true;
	for (unsigned round = 0; p->good && round < NR_ROUNDS; round++) {
		struct uhmm_seg seg = { p->number * BYTES, in, BYTES };
		uint64_t fence = 0;

		fill_pattern(in, BYTES, round * NR_THREADS + p->number);
		p->good = !p->driver->copy_in(p->ctx, &seg, 1, &fence) && (!fence || !p->driver->fence_wait(p->ctx, fence));
		fence = 0;
		seg.host = out;
		p->good = p->good && !p->driver->copy_out(p->ctx, &seg, 1, &fence) && (!fence || !p->driver->fence_wait(p->ctx, fence)) &&
			  !memcmp(in, out, BYTES);
	}
	unmap_anon(in, BYTES);
	unmap_anon(out, BYTES);
	return NULL;
}

/* @held: so many copies are begun before, and waited for afterwards. */
static void two_threads_beside(unsigned held)
{
	struct party parties[NR_THREADS];
	pthread_t threads[NR_THREADS];
	struct uhmm_seg seg = { 48 * MIB, map_anon(BYTES, true, false), BYTES };
	uint64_t fences[40] = { 0 };
	void *ctx;
	const struct uhmm_driver *d = open_driver("size=64M,staging=pinned", &ctx);

	memset(seg.host, 1, BYTES);
	for (unsigned i = 0; i < held; i++)
		assert_int_equal(d->copy_in(ctx, &seg, 1, &fences[i]), 0);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		parties[i] = (struct party){ d, ctx, i, false };
		assert_int_equal(pthread_create(&threads[i], NULL, copy_about, &parties[i]), 0);
	}
	for (unsigned i = 0; i < NR_THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_true(parties[i].good);
	}
	for (unsigned i = 0; i < held; i++)
		assert_true(!fences[i] || !d->fence_wait(ctx, fences[i]));
	d->close(ctx);
	unmap_anon(seg.host, BYTES);
}

static void two_threads(void **state)
{
	two_threads_beside(0);
	two_threads_beside(40); /* both go by the shared lane */
}

/* ---- a device that fails ---- */

static void copies_that_fail(const char *options)
{
	struct uhmm_device *dev = open_device(options);
	char *mem = map_anon(BYTES, true, true);

	fill_pattern(mem, BYTES, 2);
	fake->copy_in = 2;
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), -ENOMEM);
	assert_non_null(strstr(support_last_log(),
			       "cuMemcpyHtoDAsync on fake gpu failed with CUDA_ERROR_OUT_OF_MEMORY (2, out of memory); further ones"));
	assert_int_equal(check_pattern(mem, BYTES, 2), -1);
	fake->late = 1; /* told by who waits for it */
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), -EIO);
	assert_non_null(strstr(support_last_log(), "CUDA_ERROR_INVALID_VALUE (1, invalid argument)"));
	support_log_clear();
	fake->event_record = 2;
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), -ENOMEM);
	assert_int_equal(support_log_count(), 0); /* it has been said */
	fake->push = 304;
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), -EIO);
	assert_non_null(strstr(support_last_log(), "cuCtxPushCurrent on fake gpu failed with CUDA_ERROR_OPERATING_SYSTEM"));
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), 0);
	fake->copy_out = 2;
	(void)uhmm_to_system(space, mem, BYTES, 0, NULL); /* it tries again what failed once */
	assert_int_equal(uhmm_to_system(space, mem, BYTES, 0, NULL), 0);
	assert_int_equal(fake->copy_out, 0);
	assert_int_equal(check_pattern(mem, BYTES, 2), -1);
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), 0);
	fake->late = 1;
	(void)uhmm_to_system(space, mem, BYTES, 0, NULL);
	assert_int_equal(uhmm_to_system(space, mem, BYTES, 0, NULL), 0);
	assert_int_equal(fake->late, 0);
	assert_int_equal(check_pattern(mem, BYTES, 2), -1);
	assert_int_equal(uhmm_device_close(dev), 0);
	assert_int_equal(fake->live, 0);
	unmap_anon(mem, BYTES);
}

static void a_copy_that_fails_is_told_by_name(void **state)
{
	copies_that_fail("size=64M,staging=pinned");
	copies_that_fail("size=64M,staging=direct");
}

/* What was under way when another command failed neither arrives later nor stays behind in the ring. */
static void a_copy_that_fails_half_way(void **state)
{
	char *first = map_anon(BYTES, true, false), *second = map_anon(BYTES, true, false);
	struct uhmm_seg segs[2] = { { 0, first, 10 * PAGE }, { 20 * PAGE, first + 20 * PAGE, 10 * PAGE } };
	const struct uhmm_seg elsewhere = { 32 * MIB, first + BLOCK, BLOCK };
	uint64_t fence;
	void *ctx;
	const struct uhmm_driver *d = open_driver("size=64M,staging=pinned", &ctx);

	for (unsigned good = 0; good < 2; good++) {
		segs[0].host = first;
		segs[1].host = first + 20 * PAGE;
		fill_pattern(first, BYTES, 6);
		fake->good_first = (int32_t)good;
		fake->copy_in = 1;
		assert_int_equal(d->copy_in(ctx, segs, 2, NULL), -EIO);
		fence = 0;
		assert_int_equal(d->copy_in(ctx, &elsewhere, 1, &fence), 0); /* by the lane that has failed */
		assert_int_equal(d->copy_in(ctx, segs, 2, NULL), 0);         /* by another one */
		assert_true(!fence || !d->fence_wait(ctx, fence));
		fake->good_first = (int32_t)good;
		fake->copy_out = 1;
		assert_int_equal(d->copy_out(ctx, segs, 2, NULL), -EIO);
		memset(first, 7, BYTES);
		segs[0].host = second;
		segs[1].host = second + 20 * PAGE;
		assert_int_equal(d->copy_out(ctx, segs, 2, NULL), 0);
		assert_int_equal(check_pattern_at(second, 10 * PAGE, 6, 0), -1);
		assert_int_equal(check_pattern_at(second + 20 * PAGE, 10 * PAGE, 6, 20 * PAGE), -1);
		for (size_t i = 0; i < 40 * PAGE; i++)
			assert_int_equal(first[i], 7);
	}
	d->close(ctx);
	unmap_anon(first, BYTES);
	unmap_anon(second, BYTES);
}

static void a_context_that_is_lost(void **state)
{
	struct uhmm_seg seg = { 0, map_anon(BYTES, true, false), BYTES };
	uint64_t fence = 0;
	void *ctx;
	const struct uhmm_driver *d = open_driver("size=64M,staging=pinned", &ctx);

	memset(seg.host, 1, BYTES);
	support_log_clear();
	fake->late = 700;
	assert_true(d->copy_in(ctx, &seg, 1, &fence) == -ENODEV || d->fence_wait(ctx, fence) == -ENODEV);
	assert_non_null(strstr(support_last_log(), "failed with CUDA_ERROR_ILLEGAL_ADDRESS (700, an illegal memory access was encountered): "
						   "its context is lost, and with it what was there"));
	fence = 0;
	assert_int_equal(d->copy_out(ctx, &seg, 1, &fence), -ENODEV);
	assert_int_equal(d->clear(ctx, 0, BLOCK), -ENODEV);
	assert_int_equal(support_log_count(), 1);
	fake->lost = 0; /* the fake gives nothing back either, as long as it is */
	d->close(ctx);
	assert_int_equal(fake->live, 0);
	unmap_anon(seg.host, BYTES);
}

/* ---- addresses ---- */

static void memory_that_is_there_twice(void **state)
{
	uint64_t at = 0, elsewhere = 0, fence = 0;
	struct uhmm_seg seg = { 4 * MIB, map_anon(BYTES, true, false), 4 * MIB };
	void *ctx;
	const struct uhmm_driver *d = open_driver("size=64M,staging=pinned", &ctx);
	char *own, *twice;

	assert_int_equal(d->address(ctx, 6 * MIB) - d->address(ctx, 0), 6 * MIB);
	fill_pattern(seg.host, 4 * MIB, 5);
	assert_int_equal(d->copy_in(ctx, &seg, 1, &fence), 0);
	assert_true(!fence || !d->fence_wait(ctx, fence));
	own = host_of(d->address(ctx, 6 * MIB));
	assert_int_equal(check_pattern_at(own, BLOCK, 5, BLOCK), -1);
	assert_int_equal(d->reserve(ctx, 0, 16 * MIB, &at), 0);
	assert_int_equal(at % BLOCK, 0);
	assert_int_equal(d->map(ctx, at + 8 * MIB, 4 * MIB, 4 * MIB), 0);
	twice = host_of(at + 10 * MIB);
	assert_ptr_equal(own, twice);
	assert_int_equal(check_pattern_at(host_of(at + 8 * MIB), BLOCK, 5, 0), -1);
	assert_null(host_of(at + 12 * MIB));
	assert_int_equal(d->map(ctx, at + PAGE, 0, BLOCK), -EINVAL);
	assert_int_equal(d->map(ctx, at, 62 * MIB, 4 * MIB), -EINVAL);
	fake->set_access = 1; /* and all is as it was: it can be done again */
	assert_int_equal(d->map(ctx, at, 0, 4 * MIB), -EIO);
	assert_int_equal(d->map(ctx, at, 0, 4 * MIB), 0);
	assert_int_equal(d->unmap(ctx, at, 4 * MIB), 0);
	assert_int_equal(d->unmap(ctx, at + 8 * MIB, 4 * MIB), 0);
	d->unreserve(ctx, at, 16 * MIB);
	assert_int_equal(d->reserve(ctx, at, 16 * MIB, &elsewhere), 0); /* what is free can be asked for */
	assert_int_equal(elsewhere, at);
	assert_int_equal(d->reserve(ctx, at, 16 * MIB, &elsewhere), 0);
	assert_int_not_equal(elsewhere, at);
	d->unreserve(ctx, at, 16 * MIB);
	d->unreserve(ctx, elsewhere, 16 * MIB);
	d->close(ctx);
	assert_int_equal(fake->live, 0);
	unmap_anon(seg.host, BYTES);
}

/* A GPU that gives larger pieces only is a device all the same. */
static void large_chunks(void **state)
{
	uint64_t at;
	void *ctx;
	const struct uhmm_driver *d;

	fake->granularity = 8 * MIB;
	d = open_driver("size=10M,staging=pinned", &ctx);
	assert_int_equal(d->reserve(ctx, 0, BLOCK, &at), -EOPNOTSUPP);
	assert_int_equal(d->map(ctx, BLOCK, 0, BLOCK), -EOPNOTSUPP);
	assert_int_equal(d->unmap(ctx, BLOCK, BLOCK), -EOPNOTSUPP);
	d->close(ctx);
	there_and_back("size=34M,staging=pinned");
}

static void the_runtime_by_name(void **state)
{
	void *ctx, *found = NULL;
	const struct uhmm_driver *d = open_driver("size=64M", &ctx);

	assert_int_equal(d->native(ctx, "device", &found), 0);
	assert_int_equal((uintptr_t)found, 1);
	assert_int_equal(d->native(ctx, "context", &found), 0);
	assert_non_null(found);
	assert_int_equal(d->native(ctx, "stream", &found), 0);
	assert_int_equal(d->native(ctx, "cuMemGetInfo_v2", &found), 0);
	assert_ptr_equal(found, dlsym(dlopen(library, RTLD_NOW | RTLD_LOCAL), "cuMemGetInfo_v2"));
	assert_int_equal(d->native(ctx, "cuNoSuchThing", &found), -ENOENT);
	assert_int_equal(d->native(ctx, "malloc", &found), -ENOENT);
	d->close(ctx);
}

/* ---- others ---- */

static void no_policy_works_beside_it(void **state)
{
	struct uhmm_device *dev = open_device("size=64M");
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = GIB, .devices = &dev, .nr_devices = 1);

	assert_int_equal(uhmm_policy_start(space, &o), -EINVAL);
	assert_non_null(strstr(support_last_log(), "UHMM_CAP_HEAP"));
	assert_int_equal(uhmm_device_close(dev), 0);
}

static void a_child_has_no_cuda(void **state)
{
	child_is_refused(BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(no_library, reset),
		cmocka_unit_test_setup(a_library_that_cannot_be_opened_apart, reset),
		cmocka_unit_test_setup(no_device, reset),
		cmocka_unit_test_setup(sizes, reset),
		cmocka_unit_test_setup(what_cannot_be_had, reset),
		cmocka_unit_test_setup(both_ways_of_copying, reset),
		cmocka_unit_test_setup(many_copies_at_once, reset),
		cmocka_unit_test_setup(two_threads, reset),
		cmocka_unit_test_setup(a_copy_that_fails_is_told_by_name, reset),
		cmocka_unit_test_setup(a_copy_that_fails_half_way, reset),
		cmocka_unit_test_setup(a_context_that_is_lost, reset),
		cmocka_unit_test_setup(memory_that_is_there_twice, reset),
		cmocka_unit_test_setup(large_chunks, reset),
		cmocka_unit_test_setup(the_runtime_by_name, reset),
		cmocka_unit_test_setup(no_policy_works_beside_it, reset),
		cmocka_unit_test_setup(a_child_has_no_cuda, reset),
	};
	int failures;

	alarm(115);
	fake = faked_start("cuda", "UHMM_FAKE_CUDA", "fake_cuda");
	if (!fake)
		return 1;
	live = &fake->live;
	host_of = (void *(*)(uint64_t))(uintptr_t)dlsym(dlopen(library, RTLD_NOW | RTLD_LOCAL), "fake_cuda_host");
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	return uhmm_close(space) || failures;
}
