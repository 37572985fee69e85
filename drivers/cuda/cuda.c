/* SPDX-License-Identifier: MIT */
/*
 * cuda:[device=N|NAME][,size=SIZE][,staging=auto|pinned|direct]: memory of an NVIDIA GPU.
 *
 *   device=N|NAME     a number, or a part of a name; default: the first that can be used
 *   size=SIZE         default: half of what the GPU has free, so that the program's own kernels find the other half
 *   staging=WAY       pinned: copies pass pinned memory of ours; direct: CUDA gets the caller's memory; auto, the default: what is
 *                     the faster when the device is opened (staging.c)
 *   library=PATH      the driver API, default libcuda.so.1
 *   apart=off         share the program's own CUDA and C library with it, see below
 *
 * What CUDA may and may not be called from
 *
 * A driver's callbacks run in fault threads, while a thread of the program waits for its page: one that is inside malloc(),
 * perhaps, or inside CUDA itself - in a copy from memory that is away, which it touches with locks of the context held, or of
 * the whole process. A call of CUDA that allocates, or wants such a lock, would wait for the thread that waits for it. NVIDIA
 * does not document which calls do; so all do, and the rule is that no call of ours may share anything with one of the program's:
 *
 * - libcuda is opened apart, in a link namespace of its own (dlmopen), with a C library of its own: another heap, and other locks.
 *   Inside the process it is a second user of the GPU, as another process would be (whether a program's own CUDA works beside it has
 *   to be seen on a GPU: docs/gpu.md). The two meet in the kernel only, in calls that make and map things; copies are handed to the
 *   GPU, and waited for, without it. What NVIDIA's module holds while it pins the program's pages is not known: what is given to
 *   cuMemHostRegister() should be at home.
 * - The context is our own. It is made current inside our calls and on the calling thread only: a callback may run on any.
 * - As with opencl:, the namespace's heap and its pinned memory are memory of the process that a policy would look after:
 *   UHMM_CAP_HEAP says so, and uhmm_policy_start() refuses to work beside it.
 * - With apart=off, for a libcuda that does not work in a namespace or a program that wants to use our context with its own CUDA,
 *   the rule is the program's to keep: nothing that malloc() gave, and no memory in use by a call of CUDA, may be on the device.
 *   docs/decisions/0010 says what is known of either.
 * - A child of fork(2) cannot use its parent's CUDA; it can open no such device if its parent had one (src/base/runtime.c). What
 *   was away is given to it by its parent's process, as from any device.
 *
 * Kernels find this memory at address(): the functions and objects that native() gives belong to the same runtime as the context,
 * so a kernel is loaded and launched with them. native() knows "context" (CUcontext), "device" (CUdevice, as a pointer-sized
 * number), "stream" (CUstream, for the program alone; it does not wait for the default stream), and each function of the driver
 * API by its name in the library: "cuModuleLoadData", "cuLaunchKernel", "cuMemGetInfo_v2".
 */
#include "drivers/cuda/cuda.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

static const struct spec_key keys[] = {
	{ "device", SPEC_WORD, offsetof(struct cuda, device_text) },
	{ "size", SPEC_SIZE, offsetof(struct cuda, size) },
	{ "staging", SPEC_WORD, offsetof(struct cuda, staging_text) },
	{ "library", SPEC_PATH, offsetof(struct cuda, library) },
	{ "apart", SPEC_BOOL, offsetof(struct cuda, apart) },
	{ NULL, 0, 0 },
};

static struct cu tables[RUNTIME_MAX];

static struct runtime_kind kind = {
	.name = "CUDA",
	.driver = "cuda:",
	.file = CU_LIBRARY,
	.is = "the NVIDIA driver's library",
	.package = "it comes with the driver; Debian has it in libcuda1",
	.needed = "an NVIDIA driver for CUDA 11.2 or newer is needed",
	.symbols = cu_symbols,
	.tables = tables,
	.table_bytes = sizeof(*tables),
};

static uint64_t context_bytes(void) { return block_up(sizeof(struct cuda)); }

static int parse(struct cuda *c, const char *options, char *why, size_t why_bytes)
{
	int r;

	c->size = UINT64_MAX;
	c->apart = 1;
	snprintf(c->library, sizeof(c->library), "%s", CU_LIBRARY);
	snprintf(c->staging_text, sizeof(c->staging_text), "auto");
	r = spec_parse(options, keys, c, why, why_bytes);
	if (r)
		return r;
	if (c->size != UINT64_MAX && (!c->size || !block_aligned(c->size) || c->size > UINT64_C(1) << 51))
		return err_why(why, why_bytes, -EINVAL, "size must be a multiple of 2M, from 2M to 2P");
	c->ring[IN] = c->ring[OUT] = strcmp(c->staging_text, "direct");
	if (c->ring[IN] && strcmp(c->staging_text, "pinned") && strcmp(c->staging_text, "auto"))
		return err_why(why, why_bytes, -EINVAL, "staging=%s is not auto, pinned or direct", c->staging_text);
	return 0;
}

static void cuda_close(void *ctx)
{
	struct cuda *c = ctx;

	if (!c)
		return;
	cuda_memory_close(c);
	pthread_mutex_destroy(&c->lanes_lock);
	pthread_mutex_destroy(&c->shared_lock);
	uhmm_host_free(c, context_bytes());
}

static int open_quietly(void *ctx, char *why, size_t why_bytes)
{
	struct cuda *c = ctx;
	int r = runtime_get(&kind, c->library, c->apart, &c->runtime, why, why_bytes);

	if (r)
		return r;
	c->cu = c->runtime->table;
	r = cuda_choose(c, why, why_bytes);
	if (!r)
		r = cuda_memory_open(c, why, why_bytes);
	if (!r && !strcmp(c->staging_text, "auto"))
		r = cuda_staging_choose(c, why, why_bytes);
	return r;
}

static int cuda_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	struct cuda *c = uhmm_host_reserve(context_bytes());
	int r;

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lanes_lock, NULL);
	pthread_mutex_init(&c->shared_lock, NULL);
	r = parse(c, options, ret_why, why_bytes);
	if (!r)
		r = runtime_quietly(open_quietly, c, ret_why, why_bytes);
	if (r) {
		cuda_close(c);
		return r;
	}
	ret_props->size_bytes = c->size;
	ret_props->orders = 0;
	ret_props->caps = UHMM_CAP_ASYNC | UHMM_CAP_HEAP;
	*ret_ctx = c;
	return 0;
}

static int cuda_native(void *ctx, const char *name, void **ret)
{
	struct cuda *c = ctx;
	void *found = NULL;

	if (!strcmp(name, "device")) {
		*ret = (void *)(intptr_t)c->chosen.device; /* 0 is one */
		return 0;
	}
	if (!strcmp(name, "context"))
		found = c->context;
	else if (!strcmp(name, "stream"))
		found = c->work;
	else if (!strncmp(name, "cu", 2))
		found = dlsym(c->runtime->handle, name);
	if (!found)
		return -ENOENT;
	*ret = found;
	return 0;
}

extern const struct uhmm_driver uhmm_driver_cuda;

const struct uhmm_driver uhmm_driver_cuda = {
	.sz = sizeof(struct uhmm_driver),
	.name = "cuda",
	.summary = "memory of an NVIDIA GPU",
	.open = cuda_open,
	.close = cuda_close,
	.copy_in = cuda_copy_in,
	.copy_out = cuda_copy_out,
	.fence_wait = cuda_fence_wait,
	.clear = cuda_clear,
	.address = cuda_address,
	.native = cuda_native,
	.reserve = cuda_reserve,
	.unreserve = cuda_unreserve,
	.map = cuda_map,
	.unmap = cuda_unmap,
};
