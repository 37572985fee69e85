/* SPDX-License-Identifier: MIT */
/*
 * How often each byte value occurs in a file that is larger than the device: a piece at a time goes there, and what was worked on
 * longest ago comes home to make room. The same source for every device:
 *
 *     histogram                            16 MiB of made-up bytes on emu:, whose kernels are threads
 *     histogram opencl:size=4M FILE        a file, on an OpenCL device, by a kernel in OpenCL C
 *     histogram cuda:size=4M FILE          on an NVIDIA GPU, by a kernel in PTX
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uhmm/uhmm.h>

#include "kernel.h"

#define BINS  256
#define PIECE ((size_t)2 << 20) /* bytes that are worked on at a time */
#define PART  ((size_t)4 << 10) /* bytes that one item of a kernel counts */

static const struct kernel_source source = {
	.name = "count",
	.opencl =
		"#include <uhmm/uhmm.cl>\n"
		"kernel void count(global uchar *memory, global const struct uhmm_extent *table, ulong nr, ulong bytes, ulong end, ulong bins)\n"
		"{\n"
		"	ulong at = bytes + get_global_id(0) * 4096, stop = min(at + 4096, end);\n"
		"	global uint *to = uhmm_at(memory, table, nr, bins);\n"
		"	if (at >= stop)\n"
		"		return;\n"
		"	global const uchar *from = uhmm_at(memory, table, nr, at);\n"
		"	for (ulong i = 0; i < stop - at; i++)\n"
		"		atomic_inc(&to[from[i]]);\n"
		"}\n",
	.cuda = CUDA_KERNEL_BEGIN
		".visible .entry count(.param .u64 table, .param .u64 nr, .param .u64 items, .param .u64 bytes, .param .u64 end, .param .u64 bins)\n"
		"{\n"
		"	.reg .u64 %table, %nr, %items, %i, %at, %end, %bins, %left, %bin;\n"
		"	.reg .u32 %byte;\n"
		"	.reg .pred %is;\n"
		"	ld.param.u64 %table, [table];\n"
		"	ld.param.u64 %nr, [nr];\n"
		"	ld.param.u64 %items, [items];\n"
		"	ld.param.u64 %at, [bytes];\n"
		"	ld.param.u64 %end, [end];\n"
		"	ld.param.u64 %bins, [bins];\n"
		"	call (%i), uhmm_item, ();\n"
		"	setp.ge.u64 %is, %i, %items;\n"
		"	@%is bra END;\n"
		"	shl.b64 %i, %i, 12;\n"
		"	add.u64 %at, %at, %i;\n"
		"	sub.u64 %left, %end, %at;\n"
		"	min.u64 %left, %left, 4096;\n"
		"	call (%at), uhmm_at, (%table, %nr, %at);\n"
		"	call (%bins), uhmm_at, (%table, %nr, %bins);\n"
		"NEXT:\n"
		"	ld.global.u8 %byte, [%at];\n"
		"	mul.wide.u32 %bin, %byte, 4;\n"
		"	add.u64 %bin, %bins, %bin;\n"
		"	red.global.add.u32 [%bin], 1;\n"
		"	add.u64 %at, %at, 1;\n"
		"	sub.u64 %left, %left, 1;\n"
		"	setp.ne.u64 %is, %left, 0;\n"
		"	@%is bra NEXT;\n"
		"END:\n"
		"	ret;\n"
		"}\n",
};

static int by_kernel(struct kernel *k, struct uhmm_work *work, const unsigned char *bytes, size_t nr, uint32_t *bins)
{
	uint64_t at = (uintptr_t)bytes, end = at + nr, to = (uintptr_t)bins;

	if (kernel_arg(k, KERNEL_ARGS, sizeof(at), &at) || kernel_arg(k, KERNEL_ARGS + 1, sizeof(end), &end) ||
	    kernel_arg(k, KERNEL_ARGS + 2, sizeof(to), &to))
		return -EIO;
	return kernel_run(k, work, (nr + PART - 1) / PART);
}

/* What lies within 4 KiB of the program does so on the device. */
static void by_address(struct uhmm_work *work, const unsigned char *bytes, size_t nr, uint32_t *bins)
{
	uint32_t *to = (uint32_t *)(uintptr_t)uhmm_work_address(work, bins);

	for (size_t at = 0; at < nr; at += PART) {
		const unsigned char *from = (const unsigned char *)(uintptr_t)uhmm_work_address(work, bytes + at);

		for (size_t i = 0; i < PART && at + i < nr; i++)
			to[from[i]]++;
	}
}

/* Devices that run nothing are read through uhmm. */
static int by_access(struct uhmm_device *dev, const unsigned char *bytes, size_t nr, uint32_t *bins)
{
	static unsigned char part[PART];
	int r = 0;

	for (size_t at = 0, n; !r && at < nr; at += n) {
		n = nr - at < PART ? nr - at : PART;
		r = uhmm_device_read(dev, bytes + at, n, part, 0, NULL);
		for (size_t i = 0; !r && i < n; i++)
			bins[part[i]]++;
	}
	return r;
}

static int piece(struct uhmm_device *dev, struct kernel *k, const unsigned char *bytes, size_t nr, uint32_t *bins)
{
	struct uhmm_work_range r[] = { { (void *)(uintptr_t)bytes, nr, UHMM_WORK_READ, 0 }, { bins, BINS * sizeof(*bins), 0, 0 } };
	struct uhmm_work *work;
	int err = uhmm_work_acquire(dev, r, 2, 0, &work, NULL), has_address;

	if (err)
		return err;
	has_address = uhmm_work_address(work, bins) != 0;
	if (k)
		err = by_kernel(k, work, bytes, nr, bins);
	else if (has_address)
		by_address(work, bytes, nr, bins);
	uhmm_work_release(work);
	return k || has_address ? err : by_access(dev, bytes, nr, bins);
}

static int run(struct uhmm_device *dev, const unsigned char *bytes, size_t nr, uint32_t *bins)
{
	struct kernel k = { 0 }, *on = kernel_possible(dev) ? &k : NULL;
	uint32_t want[BINS] = { 0 };
	unsigned wrong = 0;
	int r = on ? kernel_make(on, dev, &source) : 0;

	for (size_t at = 0; !r && at < nr; at += PIECE)
		r = piece(dev, on, bytes + at, nr - at < PIECE ? nr - at : PIECE, bins);
	if (on)
		kernel_drop(on);
	for (size_t i = 0; i < nr; i++)
		want[bytes[i]]++;
	for (unsigned i = 0; i < BINS; i++)
		wrong += bins[i] != want[i];
	printf("%zu bytes counted %s, %u bins wrong; of byte 0 there are %u\n", nr, on ? "by a kernel" : "by threads", wrong, bins[0]);
	return r ? r : wrong ? -EIO : 0;
}

static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)ctx, (void)level;
	fprintf(stderr, "histogram: %s\n", message);
}

static void *map(size_t bytes)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

/* All of a file, or made-up bytes. Private memory: a mapping of the file could not leave. */
static unsigned char *read_all(const char *path, size_t *ret_nr)
{
	struct stat st = { .st_size = 16 << 20 };
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	unsigned char *bytes;
	ssize_t n = 1;

	if (path && (fd < 0 || fstat(fd, &st) || !st.st_size))
		return NULL;
	*ret_nr = (size_t)st.st_size;
	bytes = map(*ret_nr);
	if (!bytes)
		return NULL;
	madvise(bytes, *ret_nr, MADV_HUGEPAGE);
	for (size_t i = 0; !path && i < *ret_nr; i++)
		bytes[i] = (unsigned char)(i * i >> 11);
	for (size_t at = 0; path && at < *ret_nr && n > 0; at += (size_t)n)
		n = read(fd, bytes + at, *ret_nr - at);
	if (path)
		close(fd);
	return n > 0 ? bytes : NULL;
}

int main(int argc, char **argv)
{
	size_t nr;
	unsigned char *bytes = read_all(argc > 2 ? argv[2] : NULL, &nr);
	uint32_t *bins = map(BINS * sizeof(*bins));
	struct uhmm_space *space;
	struct uhmm_device *dev;
	int r;

	if (!bytes || !bins) {
		fprintf(stderr, "histogram: %s cannot be read\n", argc > 2 ? argv[2] : "memory");
		return 1;
	}
	uhmm_log_set(hear, NULL, UHMM_LOG_ERROR);
	r = uhmm_open(NULL, &space);
	if (r)
		return r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP ? 77 : 1;
	r = uhmm_device_open(space, argc > 1 ? argv[1] : "emu:size=8M", &dev);
	if (r) {
		uhmm_close(space);
		return r == -ENODEV ? 77 : 1; /* this machine has no such device */
	}
	r = run(dev, bytes, nr, bins);
	if (r)
		fprintf(stderr, "histogram: %s\n", uhmm_strerror(r));
	return uhmm_close(space) || r;
}
