/* SPDX-License-Identifier: MIT */
/*
 * A device follows the program's own pointers: a list whose nodes lie at random in two pieces of memory, linked by ordinary pointers.
 * The device adds up the values and writes the sum of all before it into each node; then the CPU walks the list. Nothing is
 * converted on the way there or back.
 *
 *     linked_list                    emu:, whose kernels are threads
 *     linked_list opencl:size=16M    an OpenCL device, by a kernel in OpenCL C
 *     linked_list cuda:size=16M      an NVIDIA GPU, by a kernel in PTX
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include <uhmm/uhmm.h>

#include "kernel.h"

#define NR    ((size_t)40000) /* nodes in each of the two pieces */
#define BYTES (NR * sizeof(struct node))

/* 32 bytes: none reaches from one page into the next, which may be elsewhere on the device. */
struct node {
	struct node *next;
	uint64_t value, sum, unused;
};

static const struct kernel_source source = {
	.name = "add_up",
	.opencl =
		"#include <uhmm/uhmm.cl>\n"
		"struct node { ulong next, value, sum, unused; };\n"
		"kernel void add_up(global uchar *memory, global const struct uhmm_extent *table, ulong nr, ulong list)\n"
		"{\n"
		"	ulong sum = 0;\n"
		"	while (list) {\n"
		"		global struct node *n = uhmm_at(memory, table, nr, list);\n"
		"		sum += n->value;\n"
		"		n->sum = sum;\n"
		"		list = n->next;\n"
		"	}\n"
		"}\n",
	.cuda = CUDA_KERNEL_BEGIN
		".visible .entry add_up(.param .u64 table, .param .u64 nr, .param .u64 items, .param .u64 list)\n"
		"{\n"
		"	.reg .u64 %table, %nr, %items, %i, %node, %at, %value, %sum;\n"
		"	.reg .pred %is;\n"
		"	ld.param.u64 %table, [table];\n"
		"	ld.param.u64 %nr, [nr];\n"
		"	ld.param.u64 %items, [items];\n"
		"	ld.param.u64 %node, [list];\n"
		"	call (%i), uhmm_item, ();\n"
		"	setp.ge.u64 %is, %i, %items;\n"
		"	@%is bra END;\n"
		"	mov.u64 %sum, 0;\n"
		"NEXT:\n"
		"	setp.eq.u64 %is, %node, 0;\n"
		"	@%is bra END;\n"
		"	call (%at), uhmm_at, (%table, %nr, %node);\n"
		"	ld.global.u64 %value, [%at+8];\n"
		"	add.u64 %sum, %sum, %value;\n"
		"	st.global.u64 [%at+16], %sum;\n"
		"	ld.global.u64 %node, [%at];\n"
		"	bra NEXT;\n"
		"END:\n"
		"	ret;\n"
		"}\n",
};

static int by_kernel(struct kernel *k, struct uhmm_work *work, struct node *list)
{
	uint64_t first = (uintptr_t)list;

	return kernel_arg(k, KERNEL_ARGS, sizeof(first), &first) ? -EIO : kernel_run(k, work, 1);
}

static void by_address(struct uhmm_work *work, struct node *list)
{
	uint64_t sum = 0;

	while (list) {
		struct node *n = (struct node *)(uintptr_t)uhmm_work_address(work, list);

		sum += n->value;
		n->sum = sum;
		list = n->next;
	}
}

/* Devices that run nothing are read and written through uhmm. */
static int by_access(struct uhmm_device *dev, struct node *list)
{
	uint64_t sum = 0;
	struct node n;
	int r = 0;

	while (!r && list) {
		r = uhmm_device_read(dev, list, sizeof(n), &n, 0, NULL);
		sum += n.value;
		if (!r)
			r = uhmm_device_write(dev, &list->sum, sizeof(sum), &sum, 0, NULL);
		list = n.next;
	}
	return r;
}

static struct node *make_list(struct node *piece[2])
{
	struct node *first = NULL;
	uint64_t at = 1;

	/* a full period of a generator of numbers below 2^17; those that name a node are linked */
	for (size_t i = 0; i < (size_t)1 << 17; i++) {
		at = (at * 5 + 3) & (((uint64_t)1 << 17) - 1);
		if (at >= 2 * NR)
			continue;
		struct node *n = &piece[at % 2][at / 2];

		*n = (struct node){ .next = first, .value = at };
		first = n;
	}
	return first;
}

static int run(struct uhmm_device *dev, struct node *piece[2])
{
	struct uhmm_work_range r[] = { { piece[0], BYTES, 0, 0 }, { piece[1], BYTES, 0, 0 } };
	struct kernel k = { 0 }, *on = kernel_possible(dev) ? &k : NULL;
	struct node *list = make_list(piece);
	size_t nr = 0, wrong = 0;
	uint64_t sum = 0;
	struct uhmm_work *work;
	int has_address, err = on ? kernel_make(on, dev, &source) : 0;

	if (!err)
		err = uhmm_work_acquire(dev, r, 2, 0, &work, NULL);
	if (err) {
		kernel_drop(&k);
		return err;
	}
	has_address = uhmm_work_address(work, list) != 0;
	if (on)
		err = by_kernel(on, work, list);
	else if (has_address)
		by_address(work, list);
	uhmm_work_release(work);
	if (!on && !has_address)
		err = by_access(dev, list);
	kernel_drop(&k);
	for (struct node *n = list; n; n = n->next, nr++) {
		sum += n->value;
		wrong += n->sum != sum;
	}
	if (!err)
		printf("%zu nodes %s, %zu are wrong\n", nr, on ? "by a kernel" : "by a thread", wrong);
	return err ? err : wrong || nr != 2 * NR ? -EIO : 0;
}

static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)ctx, (void)level;
	fprintf(stderr, "linked_list: %s\n", message);
}

static struct node *map(void)
{
	void *mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

int main(int argc, char **argv)
{
	struct node *piece[2] = { map(), map() };
	struct uhmm_space *space;
	struct uhmm_device *dev;
	int r;

	if (!piece[0] || !piece[1])
		return 1;
	uhmm_log_set(hear, NULL, UHMM_LOG_ERROR);
	r = uhmm_open(NULL, &space);
	if (r)
		return r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP ? 77 : 1;
	r = uhmm_device_open(space, argc > 1 ? argv[1] : "emu:size=16M", &dev);
	if (r) {
		uhmm_close(space);
		return r == -ENODEV ? 77 : 1; /* this machine has no such device */
	}
	r = run(dev, piece);
	if (r)
		fprintf(stderr, "linked_list: %s\n", uhmm_strerror(r));
	return uhmm_close(space) || r;
}
