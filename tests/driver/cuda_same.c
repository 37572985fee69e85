/* SPDX-License-Identifier: MIT */
/*
 * Memory of uhmm_alloc() on cuda: devices, by kernels that are given the program's own pointers and translate nothing: they work from
 * acquire to release, and go astray afterwards.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../examples/kernel_cuda.h"
#include "support.h"

#define BLOCK (2 * MIB)
#define BYTES (4 * BLOCK)
#define NR    (BYTES / sizeof(uint64_t))

/* p[i] += i */
static const char add_number[] = CUDA_KERNEL_BEGIN
	".visible .entry add_number(.param .u64 table, .param .u64 nr, .param .u64 items, .param .u64 p)\n"
	"{\n"
	"	.reg .u64 %items, %i, %at, %p, %v;\n"
	"	.reg .pred %is;\n"
	"	ld.param.u64 %items, [items];\n"
	"	ld.param.u64 %p, [p];\n"
	"	call (%i), uhmm_item, ();\n"
	"	setp.ge.u64 %is, %i, %items;\n"
	"	@%is ret;\n"
	"	shl.b64 %at, %i, 3;\n"
	"	add.u64 %p, %p, %at;\n"
	"	ld.global.u64 %v, [%p];\n"
	"	add.u64 %v, %v, %i;\n"
	"	st.global.u64 [%p], %v;\n"
	"	ret;\n"
	"}\n";

static struct uhmm_space *space;
static struct uhmm_device *dev;
static struct cuda_kernel kernel;

static struct uhmm_work *acquire(void *mem, size_t bytes)
{
	struct uhmm_work_range r = { mem, bytes, 0, 0 };
	struct uhmm_work *w;

	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), 0);
	return w;
}

static int run_on(struct uhmm_work *w, const uint64_t *p, size_t items)
{
	uint64_t at = (uintptr_t)p;

	assert_int_equal(cuda_kernel_arg(&kernel, 3, sizeof(at), &at), 0);
	return cuda_kernel_run(&kernel, w, items);
}

static void a_pointer_is_one_on_the_device(void **state)
{
	uint64_t *p = uhmm_alloc(space, BYTES, 0);

	(void)state;
	assert_non_null(p);
	for (size_t i = 0; i < NR; i++)
		p[i] = i * i;
	for (uint64_t round = 1; round < 4; round++) {
		struct uhmm_work *w = acquire(p, BYTES);

		for (size_t i = 0; i < NR; i += BLOCK / sizeof(*p))
			assert_int_equal(uhmm_work_address(w, p + i), (uintptr_t)(p + i));
		assert_int_equal(run_on(w, p, NR), 0);
		assert_int_equal(uhmm_work_release(w), 0);
		for (size_t i = round == 2 ? NR : 0; i < NR; i++) /* once it goes on without coming home */
			if (p[i] != i * i + round * i)
				fail_msg("word %zu is wrong in round %u", i, (unsigned)round);
	}
	assert_int_equal(uhmm_free(space, p), 0);
}

/* It costs the context, and so it is the last. */
static void it_is_none_after_the_release(void **state)
{
	uint64_t *p = uhmm_alloc(space, BLOCK, 0), *other = map_anon(BLOCK, true, true);
	struct uhmm_work *w;

	(void)state;
	assert_non_null(p);
	memset(p, 1, BLOCK);
	w = acquire(p, BLOCK);
	assert_int_equal(run_on(w, p, 1000), 0);
	assert_int_equal(uhmm_work_release(w), 0);
	w = acquire(other, BLOCK);
	assert_int_equal(run_on(w, p, 1000), -EIO);
	assert_int_equal(uhmm_work_release(w), 0);
	assert_int_equal(uhmm_free(space, p), 0);
	unmap_anon(other, BLOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pointer_is_one_on_the_device),
		cmocka_unit_test(it_is_none_after_the_release),
	};
	int r;

	alarm(115);
	space = open_space_or_skip(NULL);
	skip_unless_thp();
	if (uhmm_device_open(space, device_spec(), &dev))
		support_skip("%s cannot be opened here", device_spec());
	r = cuda_kernel_make(&kernel, dev, add_number, "add_number");
	if (!r)
		r = cmocka_run_group_tests(tests, NULL, NULL);
	cuda_kernel_drop(&kernel);
	return uhmm_close(space) || r;
}
