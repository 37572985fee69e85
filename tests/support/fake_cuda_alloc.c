/* SPDX-License-Identifier: MIT */
/* Memory that is not mapped where somebody wants it: the device's own, pinned memory, and managed memory. See fake_cuda.h. */
#include "fake_cuda_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ATTACH_GLOBAL 1u
#define OF_THE_CPU    (-1)

/* With this bit an address is none of a CPU's: memory that is the device's only is not to be read by accident. */
#define NO_ADDRESS (UINT64_C(1) << 56)

EXPORT cu_result fake_alloc(cu_ptr *ret, size_t bytes) __asm__("cuMemAlloc_v2");
EXPORT cu_result fake_free(cu_ptr at) __asm__("cuMemFree_v2");
EXPORT cu_result fake_alloc_host(void **ret, size_t bytes) __asm__("cuMemAllocHost_v2");
EXPORT cu_result fake_alloc_managed(cu_ptr *ret, size_t bytes, unsigned flags) __asm__("cuMemAllocManaged");
EXPORT cu_result fake_prefetch(cu_ptr at, size_t bytes, cu_device where, struct cu_stream *s) __asm__("cuMemPrefetchAsync");

static cu_result make(struct range *list, cu_ptr *ret, size_t bytes)
{
	size_t unused = 0, total;
	cu_result r = fake_memory_info(&unused, &total);
	void *mem;

	if (!r)
		r = once(&fake_cuda.alloc);
	if (r || !bytes)
		return r ? r : CU_INVALID_VALUE;
	if (list == allocated && bytes > unused)
		return CU_OUT_OF_MEMORY;
	mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return CU_OUT_OF_MEMORY;
	*ret = list == allocated ? (uintptr_t)mem ^ NO_ADDRESS : (uintptr_t)mem;
	return add_range(list, (char *)(uintptr_t)*ret, bytes, mem);
}

cu_result fake_alloc(cu_ptr *ret, size_t bytes) { return make(allocated, ret, bytes); }

cu_result fake_alloc_managed(cu_ptr *ret, size_t bytes, unsigned flags)
{
	return flags != ATTACH_GLOBAL || fake_cuda.without == MANAGED_MEMORY ? CU_INVALID_VALUE : make(managed, ret, bytes);
}

cu_result fake_free(cu_ptr at)
{
	cu_result r = in_context();
	char *mem = (char *)(uintptr_t)(at & ~NO_ADDRESS);
	uint64_t bytes = r ? 0 : drop_range(at & NO_ADDRESS ? allocated : managed, (char *)(uintptr_t)at);

	return r ? r : bytes && !munmap(mem, bytes) ? CU_SUCCESS : CU_INVALID_VALUE;
}

cu_result fake_alloc_host(void **ret, size_t bytes) { return fake_host_alloc(ret, bytes, 0); }

static cu_result moved(void *ctx)
{
	(void)ctx; /* there is one place only */
	return CU_SUCCESS;
}

cu_result fake_prefetch(cu_ptr at, size_t bytes, cu_device where, struct cu_stream *s)
{
	cu_result r = in_context();

	if (r)
		return r;
	if (!is_within(managed, (char *)(uintptr_t)at, bytes) || fake_cuda.without == CONCURRENT_ACCESS)
		return CU_INVALID_VALUE;
	return where == OF_THE_CPU || where < fake_cuda.nr_devices ? stream_call(s, moved, NULL) : 101;
}
