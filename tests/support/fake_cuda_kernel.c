/* SPDX-License-Identifier: MIT */
/* Modules, and kernels that are run when their stream is waited for: see fake_cuda.h. */
#include "fake_cuda_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_ptx.h"

#define NR_PARAMS   16u
#define MAX_THREADS 1024u /* of a block */
#define SEEN_BITS   8

/* of cuModuleLoadDataEx() */
#define ERROR_LOG       5
#define ERROR_LOG_BYTES 6
#define INVALID_PTX     218
#define NOT_FOUND       500

struct cu_module {
	struct ptx *ptx;
};

struct launch {
	const struct ptx_function *function;
	uint64_t params[NR_PARAMS];
	uint32_t nr_blocks, block_threads;
};

EXPORT cu_result fake_load(struct cu_module **ret, const void *image, unsigned nr, const int *options, void *const *values)
	__asm__("cuModuleLoadDataEx");
EXPORT cu_result fake_unload(struct cu_module *m) __asm__("cuModuleUnload");
EXPORT cu_result fake_get_function(const struct ptx_function **ret, struct cu_module *m, const char *name) __asm__("cuModuleGetFunction");
EXPORT cu_result fake_launch(const struct ptx_function *f, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z, unsigned threads_x,
			     unsigned threads_y, unsigned threads_z, unsigned shared_bytes, struct cu_stream *s, void *const *params,
			     void *const *extra) __asm__("cuLaunchKernel");

/* For ptxas, in a test. */
static void keep_text(const char *text)
{
	const char *path = getenv("FAKE_CUDA_PTX");
	FILE *f = path ? fopen(path, "we") : NULL;

	if (!f)
		return;
	fputs(text, f);
	fclose(f);
}

cu_result fake_load(struct cu_module **ret, const void *image, unsigned nr, const int *options, void *const *values)
{
	char unused[1], *log = unused;
	size_t log_bytes = sizeof(unused);
	cu_result r = in_context();
	struct ptx *ptx;

	if (r)
		return r;
	for (unsigned i = 0; i < nr; i++) {
		if (options[i] == ERROR_LOG)
			log = values[i];
		else if (options[i] == ERROR_LOG_BYTES)
			log_bytes = (uintptr_t)values[i];
		else
			return CU_INVALID_VALUE;
	}
	keep_text(image);
	ptx = ptx_load(image, log, log_bytes);
	if (!ptx)
		return INVALID_PTX;
	*ret = made(sizeof(**ret));
	(*ret)->ptx = ptx;
	return CU_SUCCESS;
}

cu_result fake_unload(struct cu_module *m)
{
	cu_result r = in_context();

	if (r && r != fake_cuda.lost)
		return r;
	ptx_free(m->ptx);
	(void)gone(m);
	return r; /* a context that is lost has it no more either */
}

cu_result fake_get_function(const struct ptx_function **ret, struct cu_module *m, const char *name)
{
	*ret = ptx_entry(m->ptx, name);
	return *ret ? CU_SUCCESS : NOT_FOUND;
}

/* Where accesses were a moment ago, by page: memory is not unmapped while a kernel runs that uses it. */
static struct range seen[1 << SEEN_BITS];

static void *place(uint64_t at, unsigned bytes)
{
	const char *there = (const char *)(uintptr_t)at;
	struct range *s = &seen[(at >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> (64 - SEEN_BITS)];

	if (!s->start || there < s->start || there + bytes > s->start + s->bytes)
		*s = device_range(there, bytes);
	return s->start ? s->host + (there - s->start) : NULL;
}

static cu_result run_kernel(void *ctx)
{
	struct launch *l = ctx;
	struct ptx_thread self = { .nr_blocks = l->nr_blocks, .block_threads = l->block_threads };
	bool good = true;

	memset(seen, 0, sizeof(seen));
	for (self.block = 0; good && self.block < l->nr_blocks; self.block++)
		for (self.thread = 0; good && self.thread < l->block_threads; self.thread++)
			good = ptx_run(l->function, l->params, &self, place);
	free(l);
	return good ? CU_SUCCESS : CU_ILLEGAL_ADDRESS;
}

cu_result fake_launch(const struct ptx_function *f, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z, unsigned threads_x,
		      unsigned threads_y, unsigned threads_z, unsigned shared_bytes, struct cu_stream *s, void *const *params,
		      void *const *extra)
{
	struct launch *l;
	cu_result r = in_context();

	if (!r)
		r = once(&fake_cuda.launch);
	if (r)
		return r;
	if (!blocks_x || blocks_x > INT32_MAX || blocks_y != 1 || blocks_z != 1 || !threads_x || threads_x > MAX_THREADS || threads_y != 1 ||
	    threads_z != 1 || shared_bytes || extra || ptx_nr_params(f) > NR_PARAMS)
		return CU_INVALID_VALUE;
	l = calloc(1, sizeof(*l));
	if (!l)
		return CU_OUT_OF_MEMORY;
	*l = (struct launch){ .function = f, .nr_blocks = blocks_x, .block_threads = threads_x };
	for (unsigned i = 0; i < ptx_nr_params(f); i++) /* they are the caller's again when this returns */
		memcpy(&l->params[i], params[i], ptx_param_bytes(f, i));
	r = stream_call(s, run_kernel, l);
	if (r)
		free(l);
	return r;
}
