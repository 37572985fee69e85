/* SPDX-License-Identifier: MIT */
#include "unit_work.h"

#include <errno.h>

#include "migrate/same.h"

/* A device with addresses of its own, that keeps the program away from those it has reserved. */
static struct {
	int reserve, map;
	bool elsewhere;
	uint64_t start, bytes;
	unsigned nr_reserved, nr_mapped;
	struct { uint64_t addr, offset, bytes; } mapped[8];
} gpu;

static int gpu_reserve(void *ctx, uint64_t hint, uint64_t bytes, uint64_t *ret_addr)
{
	void *got = mmap((void *)(uintptr_t)hint, bytes + BLOCK_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)ctx;
	if (gpu.reserve || got == MAP_FAILED)
		return gpu.reserve ? gpu.reserve : -ENOMEM;
	munmap(got, bytes + BLOCK_BYTES);
	*ret_addr = gpu.start = block_up((uintptr_t)got) + (gpu.elsewhere ? PAGE_BYTES : 0);
	gpu.bytes = bytes;
	(void)mmap((void *)(uintptr_t)gpu.start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	gpu.nr_reserved++;
	return 0;
}

static void gpu_unreserve(void *ctx, uint64_t addr, uint64_t bytes)
{
	(void)ctx;
	assert_true(addr == gpu.start && bytes == gpu.bytes);
	munmap((void *)(uintptr_t)addr, bytes);
	gpu.nr_reserved--;
}

static int gpu_map(void *ctx, uint64_t addr, uint64_t offset, uint64_t bytes)
{
	(void)ctx;
	if (gpu.map)
		return gpu.map;
	gpu.mapped[gpu.nr_mapped].addr = addr;
	gpu.mapped[gpu.nr_mapped].offset = offset;
	gpu.mapped[gpu.nr_mapped++].bytes = bytes;
	return 0;
}

static int gpu_unmap(void *ctx, uint64_t addr, uint64_t bytes)
{
	(void)ctx;
	(void)addr;
	(void)bytes;
	gpu.nr_mapped--;
	return 0;
}

static const struct uhmm_driver gpu_driver = { REQUIRED("gpu"), .reserve = gpu_reserve, .unreserve = gpu_unreserve, .map = gpu_map,
					       .unmap = gpu_unmap };
static const struct uhmm_driver *before;
static struct sames *sames;

static int make_gpu(void **state)
{
	int r = make_work_small(state);

	memset(&gpu, 0, sizeof(gpu));
	before = d.driver;
	d.driver = &gpu_driver;
	sames = mmap(NULL, sizeof(*sames), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return r || sames == MAP_FAILED;
}

static int unmake_gpu(void **state)
{
	munmap(sames, sizeof(*sames));
	d.driver = before;
	return unmake_work(state);
}

static void memory_is_put_where_the_device_has_room(void **state)
{
	uint64_t mem1 = same_alloc(sames, &mig, 2 * BLOCK_BYTES), mem2;

	(void)state;
	assert_int_equal(mem1, gpu.start);
	*(volatile char *)(uintptr_t)mem1 = 1;
	assert_int_equal(same_free(sames, &mig, mem1 + BLOCK_BYTES), -EINVAL);
	assert_int_equal(same_free(sames, &mig, mem1), 0);
	assert_int_equal(gpu.nr_reserved, 0);
	assert_int_equal(same_free(sames, &mig, mem1), -EINVAL);

	/* a device that has none, or a place that is no good: ordinary memory */
	gpu.elsewhere = true;
	mem1 = same_alloc(sames, &mig, BLOCK_BYTES);
	gpu.reserve = -ENOMEM;
	mem2 = same_alloc(sames, &mig, BLOCK_BYTES);
	assert_true(mem1 && mem2 && mem1 != mem2 && block_aligned(mem1) && block_aligned(mem2));
	assert_int_equal(gpu.nr_reserved, 0);
	assert_int_equal(same_free(sames, &mig, mem1), 0);
	assert_int_equal(same_free(sames, &mig, mem2), 0);
}

static void whole_blocks_are_seen_at_their_own_addresses(void **state)
{
	uint64_t mem1 = same_alloc(sames, &mig, 4 * BLOCK_BYTES);
	struct uhmm_work_extent e[8] = {
		/* begins before it, in the middle of a block; two whole blocks are inside */
		{ mem1 - 3 * PAGE_BYTES, 2 * BLOCK_BYTES + 5 * PAGE_BYTES, 16 * BLOCK_BYTES - 3 * PAGE_BYTES, 0x1000 },
		/* not where it could be seen */
		{ mem1 + 3 * BLOCK_BYTES, BLOCK_BYTES, PAGE_BYTES, 0 },
	};
	size_t nr;

	(void)state;
	nr = same_map(sames, &d, e, 2);
	assert_int_equal(nr, 4);
	assert_int_equal(gpu.nr_mapped, 1);
	assert_true(gpu.mapped[0].addr == mem1 && gpu.mapped[0].offset == 16 * BLOCK_BYTES && gpu.mapped[0].bytes == 2 * BLOCK_BYTES);
	assert_true(e[0].address == 0x1000 && e[0].bytes == 3 * PAGE_BYTES);
	assert_true(e[1].address == mem1 && e[1].start == mem1 && e[1].bytes == 2 * BLOCK_BYTES && e[1].offset == 16 * BLOCK_BYTES);
	assert_true(e[2].address == 0x1000 + 2 * BLOCK_BYTES + 3 * PAGE_BYTES && e[2].bytes == 2 * PAGE_BYTES);
	assert_int_equal(e[3].address, 0);
	assert_int_equal(same_free(sames, &mig, mem1), -EBUSY);
	same_unmap(sames, &d, e, nr);
	assert_int_equal(gpu.nr_mapped, 0);
	same_forget_device(sames, &d);
	assert_int_equal(gpu.nr_reserved, 0);
	assert_int_equal(same_free(sames, &mig, mem1), 0);
}

static void what_cannot_be_mapped_has_its_other_address(void **state)
{
	uint64_t mem1 = same_alloc(sames, &mig, BLOCK_BYTES);
	struct uhmm_work_extent e[4] = { { mem1, BLOCK_BYTES, 0, 0x1000 } };

	(void)state;
	gpu.map = -ENOMEM;
	assert_int_equal(same_map(sames, &d, e, 1), 1);
	assert_int_equal(e[0].address, 0x1000);
	same_unmap(sames, &d, e, 1);
	assert_int_equal(same_free(sames, &mig, mem1), 0);
}

#define GPU(name) cmocka_unit_test_setup_teardown(name, make_gpu, unmake_gpu)

MANUAL_MAIN(GPU(memory_is_put_where_the_device_has_room), GPU(whole_blocks_are_seen_at_their_own_addresses),
	    GPU(what_cannot_be_mapped_has_its_other_address))
