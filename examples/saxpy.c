/* SPDX-License-Identifier: MIT */
/*
 * y = a * x + y, where the program's own arrays go to a device a piece at a time, are worked on there, and come home when a CPU
 * reads them. Together they are twice as large as the device. The same source for every device:
 *
 *     saxpy                     emu: whose kernels are threads
 *     saxpy opencl:size=16M     an OpenCL device, by a kernel in OpenCL C
 *     saxpy cuda:size=16M       an NVIDIA GPU, by a kernel in PTX
 *     saxpy zstd:               devices that can only keep memory: the work is done by threads that read and write through uhmm
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#include "kernel.h"

#define NR    ((size_t)4 << 20) /* floats in each array: 16 MiB */
#define BYTES (NR * sizeof(float))
#define PIECE ((size_t)1 << 20) /* floats that are worked on at a time: two pieces of 4 MiB are on the device */
#define TILE  ((size_t)16 << 10)
#define A     2.0f

static const struct kernel_source source = {
	.name = "saxpy",
	.opencl =
		"#include <uhmm/uhmm.cl>\n"
		"kernel void saxpy(global uchar *memory, global const struct uhmm_extent *table, ulong nr, ulong x, ulong y, float a)\n"
		"{\n"
		"	ulong i = get_global_id(0) * sizeof(float);\n"
		"	global const float *from = uhmm_at(memory, table, nr, x + i);\n"
		"	global float *to = uhmm_at(memory, table, nr, y + i);\n"
		"	*to += a * *from;\n"
		"}\n",
	.cuda = CUDA_KERNEL_BEGIN
		".visible .entry saxpy(.param .u64 table, .param .u64 nr, .param .u64 items, .param .u64 x, .param .u64 y, .param .f32 a)\n"
		"{\n"
		"	.reg .u64 %table, %nr, %items, %i, %x, %y;\n"
		"	.reg .f32 %a, %from, %to;\n"
		"	.reg .pred %is;\n"
		"	ld.param.u64 %table, [table];\n"
		"	ld.param.u64 %nr, [nr];\n"
		"	ld.param.u64 %items, [items];\n"
		"	ld.param.u64 %x, [x];\n"
		"	ld.param.u64 %y, [y];\n"
		"	ld.param.f32 %a, [a];\n"
		"	call (%i), uhmm_item, ();\n"
		"	setp.ge.u64 %is, %i, %items;\n"
		"	@%is bra END;\n"
		"	shl.b64 %i, %i, 2;\n"
		"	add.u64 %x, %x, %i;\n"
		"	add.u64 %y, %y, %i;\n"
		"	call (%x), uhmm_at, (%table, %nr, %x);\n"
		"	call (%y), uhmm_at, (%table, %nr, %y);\n"
		"	ld.global.f32 %from, [%x];\n"
		"	ld.global.f32 %to, [%y];\n"
		"	fma.rn.f32 %to, %a, %from, %to;\n"
		"	st.global.f32 [%y], %to;\n"
		"END:\n"
		"	ret;\n"
		"}\n",
};

/* One piece by a device that has a kernel. */
static int by_kernel(struct kernel *k, struct uhmm_work *work, const float *x, float *y)
{
	uint64_t from = (uintptr_t)x, to = (uintptr_t)y;
	float a = A;

	if (kernel_arg(k, KERNEL_ARGS, sizeof(from), &from) || kernel_arg(k, KERNEL_ARGS + 1, sizeof(to), &to) ||
	    kernel_arg(k, KERNEL_ARGS + 2, sizeof(a), &a))
		return -EIO;
	return kernel_run(k, work, PIECE);
}

/* By a device whose kernels are threads of this process: they find the bytes where the device has them. */
static int by_address(struct uhmm_work *work, const float *x, float *y)
{
	for (size_t at = 0; at < PIECE; at += TILE) {
		const float *from = (const float *)(uintptr_t)uhmm_work_address(work, x + at);
		float *to = (float *)(uintptr_t)uhmm_work_address(work, y + at);

		for (size_t i = 0; i < TILE; i++)
			to[i] += A * from[i];
	}
	return 0;
}

/* Through uhmm, for devices that run nothing. Nothing is held: the calls find the pages wherever they are. */
static int by_access(struct uhmm_device *dev, const float *x, float *y)
{
	float from[TILE], to[TILE];
	int r = 0;

	for (size_t at = 0; !r && at < PIECE; at += TILE) {
		r = uhmm_device_read(dev, x + at, sizeof(from), from, 0, NULL);
		if (!r)
			r = uhmm_device_read(dev, y + at, sizeof(to), to, 0, NULL);
		for (size_t i = 0; i < TILE; i++)
			to[i] += A * from[i];
		if (!r)
			r = uhmm_device_write(dev, y + at, sizeof(to), to, 0, NULL);
	}
	return r;
}

static int piece(struct uhmm_device *dev, struct kernel *k, float *x, float *y)
{
	struct uhmm_work_range r[] = { { x, PIECE * sizeof(*x), UHMM_WORK_READ, 0 }, { y, PIECE * sizeof(*y), 0, 0 } };
	struct uhmm_work *work;
	int err = uhmm_work_acquire(dev, r, 2, 0, &work, NULL), has_address;

	if (err)
		return err;
	has_address = uhmm_work_address(work, x) != 0;
	if (k)
		err = by_kernel(k, work, x, y);
	else if (has_address)
		err = by_address(work, x, y);
	uhmm_work_release(work);
	return k || has_address ? err : by_access(dev, x, y);
}

static int run(struct uhmm_device *dev, float *x, float *y)
{
	struct kernel k = { 0 }, *on = kernel_possible(dev) ? &k : NULL;
	struct uhmm_device_info info = { .sz = sizeof(info) };
	size_t wrong = 0;
	int r = on ? kernel_make(on, dev, &source) : 0;

	for (size_t i = 0; i < NR; i++) {
		x[i] = (float)(i % 1000);
		y[i] = 1;
	}
	for (size_t at = 0; !r && at < NR; at += PIECE)
		r = piece(dev, on, x + at, y + at);
	if (on)
		kernel_drop(on);
	if (!r)
		r = uhmm_device_query(dev, &info);
	if (r)
		return r;
	printf("%s; the device has %llu of %llu MiB\n", on ? "by a kernel" : "by threads", (unsigned long long)info.used_bytes >> 20,
	       (unsigned long long)info.size_bytes >> 20);
	for (size_t i = 0; i < NR; i++) /* y comes home, a folio for each touch */
		wrong += y[i] != A * (float)(i % 1000) + 1;
	printf("%zu of %zu are wrong\n", wrong, NR);
	return wrong ? -EIO : 0;
}

static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)ctx, (void)level;
	fprintf(stderr, "saxpy: %s\n", message);
}

int main(int argc, char **argv)
{
	float *mem = mmap(NULL, 2 * BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uhmm_space *space;
	struct uhmm_device *dev;
	int r;

	if (mem == MAP_FAILED)
		return 1;
	madvise(mem, 2 * BYTES, MADV_HUGEPAGE);
	uhmm_log_set(hear, NULL, UHMM_LOG_ERROR);
	r = uhmm_open(NULL, &space);
	if (r)
		return r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP ? 77 : 1;
	r = uhmm_device_open(space, argc > 1 ? argv[1] : "emu:size=16M", &dev);
	if (r) {
		uhmm_close(space);
		return r == -ENODEV ? 77 : 1; /* this machine has no such device */
	}
	r = run(dev, mem, mem + NR);
	if (r)
		fprintf(stderr, "saxpy: %s\n", uhmm_strerror(r));
	return uhmm_close(space) || r;
}
