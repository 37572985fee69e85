/* SPDX-License-Identifier: MIT */
/*
 * Kernels on cuda:, as examples/kernel_cuda.h starts them, on a stand-in that reads and runs PTX (support/fake_ptx.h): what cannot be
 * built is said in the runtime's words, a kernel finds each byte of several ranges, and one that goes astray is told.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../examples/kernel_cuda.h"
#include "fake_cuda.h"
#include "faked.h"

#define PAGE ((size_t)4096)

static struct fake_cuda *fake;

/* y[i] = x[i] + i */
static const char add_number[] = CUDA_KERNEL_BEGIN
	".visible .entry add_number(.param .u64 table, .param .u64 nr, .param .u64 items, .param .u64 x, .param .u64 y)\n"
	"{\n"
	"	.reg .u64 %table, %nr, %items, %i, %at, %x, %y, %v;\n"
	"	.reg .pred %is;\n"
	"	ld.param.u64 %table, [table];\n"
	"	ld.param.u64 %nr, [nr];\n"
	"	ld.param.u64 %items, [items];\n"
	"	ld.param.u64 %x, [x];\n"
	"	ld.param.u64 %y, [y];\n"
	"	call (%i), uhmm_item, ();\n"
	"	setp.lt.u64 %is, %i, %items;\n"
	"	@!%is ret;\n"
	"	shl.b64 %at, %i, 3;\n"
	"	add.u64 %x, %x, %at;\n"
	"	add.u64 %y, %y, %at;\n"
	"	call (%x), uhmm_at, (%table, %nr, %x);\n"
	"	call (%y), uhmm_at, (%table, %nr, %y);\n"
	"	ld.global.u64 %v, [%x];\n"
	"	add.u64 %v, %v, %i;\n"
	"	st.global.u64 [%y], %v;\n"
	"	ret;\n"
	"}\n";

static int reset(void **state)
{
	*fake = (struct fake_cuda){ .nr_devices = 2, .live = fake->live };
	support_log_clear();
	return fake->live;
}

/* ---- what is said ---- */

static FILE *said;
static int standard_error;

static void listen(void)
{
	said = tmpfile();
	assert_non_null(said);
	standard_error = dup(STDERR_FILENO);
	assert_true(dup2(fileno(said), STDERR_FILENO) >= 0);
}

/* All of it since listen(); valid until the next call. */
static const char *heard(void)
{
	static char words[8192];

	assert_true(dup2(standard_error, STDERR_FILENO) >= 0);
	close(standard_error);
	rewind(said);
	words[fread(words, 1, sizeof(words) - 1, said)] = '\0';
	fclose(said);
	return words;
}

static void has(const char *all, const char *words)
{
	if (!strstr(all, words))
		fail_msg("\"%s\" has not \"%s\"", all, words);
}

static void not_built(struct uhmm_device *dev, const char *text, const char *name, const char *words, const char *error)
{
	struct cuda_kernel k = { 0 };
	const char *all;
	int r;

	listen();
	r = cuda_kernel_make(&k, dev, text, name);
	all = heard();
	assert_int_equal(r, -EIO);
	has(all, words);
	has(all, error);
	cuda_kernel_drop(&k);
}

static void what_cannot_be_built(void **state)
{
	struct uhmm_device *dev = open_device("size=16M");
	int before = fake->live;

	not_built(dev, "kernel void f() {}", "f", "line 1; error   : Parsing error near 'kernel'",
		  "cuModuleLoadDataEx failed with CUDA_ERROR_INVALID_PTX (218)");
	not_built(dev, CUDA_KERNEL_BEGIN ".visible .entry f(.param .u64 a)\n{\n\tmov.u64 %a, 1;\n\tret;\n}\n", "f",
		  "error   : Unknown symbol '%a'", "CUDA_ERROR_INVALID_PTX");
	not_built(dev, CUDA_KERNEL_BEGIN ".visible .entry f(.param .u64 a)\n{\n\tbra NOWHERE;\n\tret;\n}\n", "f",
		  "error   : Label 'NOWHERE' is not defined", "CUDA_ERROR_INVALID_PTX");
	not_built(dev, CUDA_KERNEL_BEGIN ".visible .entry f(.param .u64 a)\n{\n\tjump;\n\tret;\n}\n", "f",
		  "error   : Not a name of any known instruction: 'jump'", "CUDA_ERROR_INVALID_PTX");
	not_built(dev, add_number, "add", "", "cuModuleGetFunction failed with CUDA_ERROR_NOT_FOUND (500)");
	not_built(dev, add_number, "uhmm_at", "", "CUDA_ERROR_NOT_FOUND"); /* is no entry */
	assert_int_equal(fake->live, before);
	assert_int_equal(uhmm_device_close(dev), 0);
}

/* ---- what is done ---- */

/* Two ranges of base pages, whose folios lie anywhere, and neither of which is a multiple of a block of threads. */
static void every_byte_is_found(void **state)
{
	enum { NR = 100003 };
	size_t bytes = NR * sizeof(uint64_t);
	uint64_t *x = map_anon(bytes, false, false), *y = map_anon(bytes, false, false), from = (uintptr_t)x, to = (uintptr_t)y;
	struct uhmm_device *dev = open_device("size=16M");
	struct uhmm_work_range ranges[] = { { y, bytes, 0, 0 }, { x, bytes, UHMM_WORK_READ, 0 } };
	struct cuda_kernel k = { 0 };
	struct uhmm_work *work;
	size_t nr_extents;
	int before;

	for (size_t i = 0; i < NR; i++)
		x[i] = i * i;
	for (size_t i = 0; i < bytes; i += 24 * PAGE) /* some go first, in folios of their own */
		assert_int_equal(uhmm_to_device(space, (char *)x + i, PAGE, dev, 0, NULL), 0);
	assert_int_equal(cuda_kernel_make(&k, dev, add_number, "add_number"), 0);
	before = fake->live;
	assert_int_equal(uhmm_work_acquire(dev, ranges, 2, 0, &work, NULL), 0);
	uhmm_work_extents(work, &nr_extents);
	assert_true(nr_extents > 8);
	assert_int_equal(cuda_kernel_arg(&k, 3, sizeof(from), &from), 0);
	assert_int_equal(cuda_kernel_arg(&k, 4, sizeof(to), &to), 0);
	assert_int_equal(cuda_kernel_arg(&k, CUDA_MAX_ARGS, sizeof(to), &to), -EINVAL);
	assert_int_equal(cuda_kernel_run(&k, work, NR - 1), 0);
	assert_int_equal(fake->live, before);
	assert_int_equal(uhmm_work_release(work), 0);
	for (size_t i = 0; i < NR - 1; i++)
		assert_int_equal(y[i], i * i + i);
	assert_int_equal(y[NR - 1], 0); /* was no item */
	cuda_kernel_drop(&k);
	assert_int_equal(uhmm_device_close(dev), 0);
	assert_int_equal(fake->live, 0);
	unmap_anon(x, bytes);
	unmap_anon(y, bytes);
}

/* Each call fails in turn: its name is said, and nothing is kept. */
static void a_run_that_fails(void **state)
{
	struct {
		_Atomic int32_t *call;
		const char *words;
	} calls[] = {
		{ &fake->push, "cuCtxPushCurrent failed with CUDA_ERROR_OUT_OF_MEMORY (2)" },
		{ &fake->alloc, "cuMemAlloc failed with CUDA_ERROR_OUT_OF_MEMORY (2)" },
		{ &fake->copy_in, "cuMemcpyHtoDAsync failed with CUDA_ERROR_OUT_OF_MEMORY (2)" },
		{ &fake->launch, "cuLaunchKernel failed with CUDA_ERROR_OUT_OF_MEMORY (2)" },
	};
	uint64_t *x = map_anon(MIB, false, true), from = (uintptr_t)x, astray = from - 8;
	struct uhmm_device *dev = open_device("size=16M");
	struct uhmm_work_range range = { x, MIB, 0, 0 };
	struct cuda_kernel k = { 0 };
	struct uhmm_work *work;
	int before;

	assert_int_equal(cuda_kernel_make(&k, dev, add_number, "add_number"), 0);
	assert_int_equal(uhmm_work_acquire(dev, &range, 1, 0, &work, NULL), 0);
	before = fake->live;
	(void)cuda_kernel_arg(&k, 3, sizeof(from), &from);
	(void)cuda_kernel_arg(&k, 4, sizeof(from), &from);
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		int r;

		listen();
		*calls[i].call = 2;
		r = cuda_kernel_run(&k, work, 1000);
		has(heard(), calls[i].words);
		assert_int_equal(r, -EIO);
		assert_int_equal(fake->live, before);
	}
	assert_int_equal(cuda_kernel_run(&k, work, 1000), 0);
	(void)cuda_kernel_arg(&k, 3, sizeof(astray), &astray);
	listen();
	assert_int_equal(cuda_kernel_run(&k, work, 1000), -EIO);
	has(heard(), "the kernel failed with CUDA_ERROR_ILLEGAL_ADDRESS (700)");
	fake->lost = 0; /* a context that is lost gives nothing back, here either */
	assert_int_equal(uhmm_work_release(work), 0);
	cuda_kernel_drop(&k);
	assert_int_equal(uhmm_device_close(dev), 0);
	unmap_anon(x, MIB);
	fake->live = 0; /* the table that a lost context had */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_cannot_be_built, reset),
		cmocka_unit_test_setup(every_byte_is_found, reset),
		cmocka_unit_test_setup(a_run_that_fails, reset),
	};
	int failures;

	alarm(115);
	fake = faked_start("cuda", "UHMM_FAKE_CUDA", "fake_cuda");
	if (!fake)
		return 1;
	live = &fake->live;
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	return uhmm_close(space) || failures;
}
