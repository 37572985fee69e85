/* SPDX-License-Identifier: MIT */
/* Memory that can have the same addresses on devices: kept free as long as the device is open, seen there as long as work has it. */
#include "rig.h"

#include <sys/wait.h>

#include "uhmm/driver.h"

#define BYTES (8 * BLOCK)

/* A device with addresses of its own, which shows what is mapped and keeps nothing else. */
static struct {
	char *memory;
	unsigned nr_reserved, nr_mapped;
} gpu;

static int gpu_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	(void)options, (void)ret_why, (void)why_bytes;
	gpu.memory = uhmm_host_alloc(BYTES);
	ret_props->size_bytes = BYTES;
	*ret_ctx = gpu.memory;
	return gpu.memory ? 0 : -ENOMEM;
}

static void gpu_close(void *ctx) { uhmm_host_free(ctx, BYTES); }

static int gpu_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	(void)ret_fence;
	for (unsigned i = 0; i < nr; i++)
		memcpy((char *)ctx + segs[i].offset, segs[i].host, segs[i].bytes);
	return 0;
}

static int gpu_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	(void)ret_fence;
	for (unsigned i = 0; i < nr; i++)
		memcpy(segs[i].host, (char *)ctx + segs[i].offset, segs[i].bytes);
	return 0;
}

static int gpu_reserve(void *ctx, uint64_t hint, uint64_t bytes, uint64_t *ret_addr)
{
	static uint64_t next = UINT64_C(1) << 45; /* nobody maps anything there; below it lies the shadow of ASan */

	(void)ctx;
	*ret_addr = hint ? hint : next;
	next += hint ? 0 : bytes;
	gpu.nr_reserved++;
	return 0;
}

static void gpu_unreserve(void *ctx, uint64_t addr, uint64_t bytes)
{
	(void)ctx, (void)addr, (void)bytes;
	gpu.nr_reserved--;
}

static int gpu_map(void *ctx, uint64_t addr, uint64_t offset, uint64_t bytes)
{
	(void)ctx, (void)addr, (void)offset;
	gpu.nr_mapped += bytes / BLOCK;
	return 0;
}

static int gpu_unmap(void *ctx, uint64_t addr, uint64_t bytes)
{
	(void)ctx, (void)addr;
	gpu.nr_mapped -= bytes / BLOCK;
	return 0;
}

static const struct uhmm_driver gpu_driver = {
	.sz = sizeof(struct uhmm_driver), .name = "gpu", .summary = "for a test", .open = gpu_open, .close = gpu_close, .copy_in = gpu_in,
	.copy_out = gpu_out, .reserve = gpu_reserve, .unreserve = gpu_unreserve, .map = gpu_map, .unmap = gpu_unmap,
};

static struct uhmm_work *acquire(struct uhmm_device *d, char *mem, size_t bytes)
{
	struct uhmm_work_range r = { mem, bytes, 0, 0 };
	struct uhmm_work *w;

	assert_int_equal(uhmm_work_acquire(d, &r, 1, 0, &w, NULL), 0);
	return w;
}

static void work_finds_it_at_its_own_addresses(void **state)
{
	struct uhmm_device *d = open_device("gpu:");
	char *mem = uhmm_alloc(space, 2 * BLOCK, 0);
	struct uhmm_work *w;

	(void)state;
	assert_non_null(mem);
	assert_int_equal(gpu.nr_reserved, 1);
	fill_pattern(mem, 2 * BLOCK, 1);
	w = acquire(d, mem, 2 * BLOCK);
	if (has_thp()) {
		assert_int_equal(gpu.nr_mapped, 2);
		assert_int_equal(uhmm_work_address(w, mem + PAGE), (uintptr_t)mem + PAGE);
	}
	assert_int_equal(uhmm_free(space, mem), -EBUSY);
	assert_int_equal(uhmm_work_release(w), 0);
	assert_int_equal(gpu.nr_mapped, 0);
	assert_pattern(mem, 2 * BLOCK, 1);
	assert_int_equal(uhmm_free(space, mem), 0);
	assert_int_equal(gpu.nr_reserved, 0);
	assert_int_equal(uhmm_device_close(d), 0);
}

/* Another device that comes in its place has not reserved them. */
static void a_closed_device_keeps_no_addresses(void **state)
{
	struct uhmm_device *d = open_device("gpu:");
	char *mem = uhmm_alloc(space, 2 * BLOCK, 0);
	struct uhmm_work *w;

	(void)state;
	assert_int_equal(gpu.nr_reserved, 1);
	assert_int_equal(uhmm_device_close(d), 0);
	assert_int_equal(gpu.nr_reserved, 0);
	d = open_device("emu:size=16M");
	fill_pattern(mem, 2 * BLOCK, 2);
	w = acquire(d, mem, 2 * BLOCK);
	assert_int_equal(uhmm_work_release(w), 0);
	assert_pattern(mem, 2 * BLOCK, 2);
	assert_int_equal(uhmm_free(space, mem), 0);
	assert_int_equal(uhmm_device_close(d), 0);
}

/* The kernel gives up no page that a living child shares: it becomes the program's own. */
static void what_a_child_shares_is_taken_back(void **state)
{
	char *mem = uhmm_alloc(space, 2 * BLOCK, 0);
	int stop[2], status;
	char c;
	pid_t pid;

	(void)state;
	fill_pattern(mem, 2 * BLOCK, 3);
	assert_int_equal(pipe(stop), 0);
	pid = fork();
	if (!pid) {
		close(stop[1]);
		_exit(read(stop[0], &c, 1) != 0 || check_pattern(mem, 2 * BLOCK, 3) != -1);
	}
	assert_int_equal(uhmm_work_release(acquire(dev, mem, 2 * BLOCK)), 0);
	fill_pattern(mem, 2 * BLOCK, 4);
	close(stop[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(stop[0]);
	assert_pattern(mem, 2 * BLOCK, 4);
	assert_int_equal(uhmm_free(space, mem), 0);
}

static void wrong_arguments_are_refused(void **state)
{
	char *mem = uhmm_alloc(space, 1, 0);

	(void)state;
	assert_null(uhmm_alloc(space, 0, 0));
	assert_int_equal(errno, EINVAL);
	assert_null(uhmm_alloc(space, 1, 1));
	assert_null(uhmm_alloc(NULL, 1, 0));
	assert_int_equal(errno, EPERM);
	assert_int_equal(uhmm_free(space, mem + BLOCK / 2), -EINVAL);
	assert_int_equal(uhmm_free(space, mem), 0);
	assert_int_equal(uhmm_free(space, mem), -EINVAL);
	assert_int_equal(uhmm_free(space, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(work_finds_it_at_its_own_addresses),
		cmocka_unit_test(a_closed_device_keeps_no_addresses),
		cmocka_unit_test(what_a_child_shares_is_taken_back),
		cmocka_unit_test(wrong_arguments_are_refused),
	};

	rig_open("emu:size=64M");
	if (uhmm_driver_add(&gpu_driver))
		return 1;
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
