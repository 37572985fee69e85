/* SPDX-License-Identifier: MIT */
/* See fake_cuda.h. Addresses that are reserved are so in the process, too, as CUDA does it; the bytes are elsewhere, and found by list. */
#include "fake_cuda_parts.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define UNIT      (UINT64_C(2) << 20)
#define NR_UNITS  256u

struct fake_cuda fake_cuda = { .nr_devices = 2 };

struct cu_context {
	struct cu_context *below; /* in the stack of the thread that has it current */
};

static const struct { const char *name; int maps, engines; } devices[] = { { "fake old gpu", 0, 1 }, { "fake gpu", 1, 2 } };
static __thread struct cu_context *current;

/* guarded by lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
struct range pinned[NR_RANGES], allocated[NR_RANGES], managed[NR_RANGES];
static struct range reserved[NR_RANGES], mapped[NR_RANGES];
static uint16_t units[NR_UNITS]; /* of its memory: how many more belong to what begins here, plus 1; or UINT16_MAX inside */
static char *memory;              /* of the device: NR_UNITS */

static void __attribute__((constructor)) begin(void)
{
	const char *nr = getenv("FAKE_CUDA_DEVICES"), *version = getenv("FAKE_CUDA_VERSION"), *without = getenv("FAKE_CUDA_WITHOUT");

	if (nr)
		fake_cuda.nr_devices = atoi(nr);
	if (version)
		fake_cuda.version = atoi(version);
	if (without)
		fake_cuda.without = atoi(without);
}

/* ---- small things ---- */

void *made(size_t bytes)
{
	atomic_fetch_add(&fake_cuda.live, 1);
	return calloc(1, bytes);
}

cu_result gone(void *p)
{
	atomic_fetch_sub(&fake_cuda.live, 1);
	free(p);
	return CU_SUCCESS;
}

cu_result in_context(void) { return fake_cuda.lost ? fake_cuda.lost : current ? CU_SUCCESS : CU_INVALID_CONTEXT; }

static struct range *find_range(struct range *list, const char *at, uint64_t bytes)
{
	for (unsigned i = 0; i < NR_RANGES; i++)
		if (list[i].start && at >= list[i].start && at + bytes <= list[i].start + list[i].bytes)
			return &list[i];
	return NULL;
}

bool is_within(struct range *list, const char *at, uint64_t bytes)
{
	bool found;

	pthread_mutex_lock(&lock);
	found = find_range(list, at, bytes);
	pthread_mutex_unlock(&lock);
	return found;
}

cu_result add_range(struct range *list, char *at, uint64_t bytes, char *host)
{
	cu_result r = CU_OUT_OF_MEMORY;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; r && i < NR_RANGES; i++)
		if (!list[i].start) {
			list[i] = (struct range){ at, bytes, host, list == mapped };
			r = CU_SUCCESS;
		}
	pthread_mutex_unlock(&lock);
	atomic_fetch_add(&fake_cuda.live, !r);
	return r;
}

uint64_t drop_range(struct range *list, char *at)
{
	struct range *found;
	uint64_t bytes = 0;

	pthread_mutex_lock(&lock);
	found = find_range(list, at, 1);
	if (found && found->start == at) {
		bytes = found->bytes;
		*found = (struct range){ 0 };
	}
	pthread_mutex_unlock(&lock);
	atomic_fetch_sub(&fake_cuda.live, bytes != 0);
	return bytes;
}

bool is_pinned(const void *host, uint64_t bytes)
{
	bool yes = is_within(pinned, host, bytes);

	atomic_fetch_add(yes ? &fake_cuda.pinned : &fake_cuda.pageable, 1);
	return yes;
}

struct range device_range(const char *at, uint64_t bytes)
{
	struct range *const lists[] = { mapped, allocated, managed }, *found = NULL, ret = { 0 };

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; !found && i < 3; i++)
		found = find_range(lists[i], at, bytes);
	if (found && !found->closed)
		ret = *found;
	pthread_mutex_unlock(&lock);
	return ret;
}

void *fake_cuda_host(uint64_t at)
{
	const char *there = (const char *)(uintptr_t)at;
	struct range r = device_range(there, 1);

	return r.start ? r.host + (there - r.start) : NULL;
}

/* ---- errors and devices ---- */

cu_result fake_init(unsigned flags)
{
	(void)flags;
	return fake_cuda.init ? once(&fake_cuda.init) : fake_cuda.nr_devices ? CU_SUCCESS : CU_NO_DEVICE;
}

cu_result fake_version(int *ret)
{
	*ret = fake_cuda.version ? fake_cuda.version : 12040;
	return CU_SUCCESS;
}

static const struct { cu_result r; const char *name, *text; } errors[] = {
	{ CU_SUCCESS, "CUDA_SUCCESS", "no error" },
	{ CU_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
	{ CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
	{ CU_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected" },
	{ CU_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context" },
	{ CU_ECC_UNCORRECTABLE, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered" },
	{ 218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed" },
	{ 500, "CUDA_ERROR_NOT_FOUND", "named symbol not found" },
	{ CU_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered" },
	{ CU_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure" },
	{ 304, "CUDA_ERROR_OPERATING_SYSTEM", "OS call failed or operation not supported on this OS" },
};

static cu_result error(cu_result r, const char **ret_name, const char **ret_text)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (errors[i].r == r) {
			*ret_name = errors[i].name;
			*ret_text = errors[i].text;
			return CU_SUCCESS;
		}
	return CU_INVALID_VALUE;
}

cu_result fake_error_name(cu_result r, const char **ret)
{
	const char *text;

	return error(r, ret, &text);
}

cu_result fake_error_string(cu_result r, const char **ret)
{
	const char *name;

	return error(r, &name, ret);
}

cu_result fake_device_count(int *ret)
{
	*ret = fake_cuda.nr_devices;
	return CU_SUCCESS;
}

cu_result fake_device_get(cu_device *ret, int number)
{
	*ret = number;
	return number < fake_cuda.nr_devices ? CU_SUCCESS : 101;
}

cu_result fake_device_name(char *ret, int bytes, cu_device d)
{
	snprintf(ret, (size_t)bytes, "%s", devices[d].name);
	return CU_SUCCESS;
}

cu_result fake_device_attribute(int *ret, int what, cu_device d)
{
	*ret = what == CU_ATTR_MAPS_MEMORY  ? devices[d].maps :
	       what == CU_ATTR_COPY_ENGINES ? devices[d].engines :
	       what == CU_ATTR_MAJOR        ? 8 :
	       what == MANAGED_MEMORY || what == CONCURRENT_ACCESS ? what != fake_cuda.without :
	       what == CU_ATTR_COMPUTE_MODE ? (fake_cuda.prohibited ? CU_COMPUTE_PROHIBITED : 0) :
					      0;
	return CU_SUCCESS;
}

cu_result fake_device_memory(size_t *ret, cu_device d)
{
	(void)d;
	*ret = NR_UNITS * UNIT;
	return CU_SUCCESS;
}

/* ---- contexts ---- */

cu_result fake_context_create(struct cu_context **ret, unsigned flags, cu_device d)
{
	cu_result r = once(&fake_cuda.context_create);

	(void)flags, (void)d;
	if (r)
		return r;
	*ret = made(sizeof(**ret));
	(*ret)->below = current;
	current = *ret;
	return CU_SUCCESS;
}

cu_result fake_context_destroy(struct cu_context *c) { return gone(c); }

/* One thread's stack is at most two deep here: what lies below is the test's. */
static __thread struct cu_context *below;

cu_result fake_context_push(struct cu_context *c)
{
	cu_result r = once(&fake_cuda.push);

	if (r || below)
		return r ? r : CU_INVALID_VALUE;
	below = current;
	current = c;
	return CU_SUCCESS;
}

cu_result fake_context_pop(struct cu_context **ret)
{
	*ret = current;
	if (!current)
		return CU_INVALID_CONTEXT;
	current = below;
	below = NULL;
	return CU_SUCCESS;
}

cu_result fake_memory_info(size_t *ret_free, size_t *ret_total)
{
	cu_result r = in_context();

	*ret_free = 0;
	*ret_total = NR_UNITS * UNIT;
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < NR_UNITS; i++)
		*ret_free += units[i] ? 0 : UNIT;
	for (unsigned i = 0; i < NR_RANGES; i++)
		*ret_free -= allocated[i].bytes < *ret_free ? allocated[i].bytes : *ret_free;
	pthread_mutex_unlock(&lock);
	return r;
}

/* ---- memory ---- */

cu_result fake_granularity(size_t *ret, const struct cu_prop *prop, int which)
{
	*ret = fake_cuda.granularity ? fake_cuda.granularity : UNIT;
	return prop->type == CU_ALLOCATION_PINNED && prop->location.type == CU_LOCATION_DEVICE && !which ? CU_SUCCESS : CU_INVALID_VALUE;
}

cu_result fake_address_reserve(cu_ptr *ret, size_t bytes, size_t alignment, cu_ptr hint, unsigned long long flags)
{
	char *at = MAP_FAILED;
	cu_result r = in_context();

	if (!r)
		r = once(&fake_cuda.address_reserve);
	if (r || flags || bytes % UNIT)
		return r ? r : CU_INVALID_VALUE;
	if (hint)
		at = mmap((void *)(uintptr_t)hint, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (at == MAP_FAILED) {
		char *all = mmap(NULL, bytes + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (all == MAP_FAILED)
			return CU_OUT_OF_MEMORY;
		at = (char *)(((uintptr_t)all + alignment - 1) & ~(alignment - 1));
		if (at > all)
			munmap(all, (size_t)(at - all));
		munmap(at + bytes, alignment - (size_t)(at - all));
	}
	r = add_range(reserved, at, bytes, NULL);
	*ret = (uintptr_t)at;
	return r;
}

cu_result fake_address_free(cu_ptr at, size_t bytes)
{
	cu_result r = in_context();

	if (r || drop_range(reserved, (char *)(uintptr_t)at) != bytes)
		return r ? r : CU_INVALID_VALUE;
	munmap((void *)(uintptr_t)at, bytes);
	return CU_SUCCESS;
}

static cu_result take_units(unsigned nr, cu_handle *ret)
{
	for (unsigned i = 0, free_units = 0; i < NR_UNITS; i++) {
		free_units = units[i] ? 0 : free_units + 1;
		if (free_units < nr)
			continue;
		for (unsigned k = i + 1 - nr; k <= i; k++)
			units[k] = UINT16_MAX;
		units[i + 1 - nr] = (uint16_t)nr;
		*ret = i + 2 - nr;
		return CU_SUCCESS;
	}
	return CU_OUT_OF_MEMORY;
}

cu_result fake_memory_create(cu_handle *ret, size_t bytes, const struct cu_prop *prop, unsigned long long flags)
{
	size_t granularity = 0;
	cu_result r = in_context();

	if (!r)
		r = once(&fake_cuda.memory_create);
	if (!r)
		r = fake_granularity(&granularity, prop, 0);
	if (r || flags || bytes % granularity)
		return r ? r : CU_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	if (!memory) {
		memory = mmap(NULL, NR_UNITS * UNIT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		r = memory == MAP_FAILED ? CU_OUT_OF_MEMORY : CU_SUCCESS;
	}
	if (!r)
		r = take_units((unsigned)(bytes / UNIT), ret);
	pthread_mutex_unlock(&lock);
	atomic_fetch_add(&fake_cuda.live, !r);
	return r;
}

cu_result fake_memory_release(cu_handle h)
{
	unsigned nr;

	pthread_mutex_lock(&lock);
	nr = units[h - 1];
	for (unsigned k = 0; k < nr; k++)
		units[h - 1 + k] = 0;
	madvise(memory + (h - 1) * UNIT, nr * UNIT, MADV_DONTNEED);
	pthread_mutex_unlock(&lock);
	atomic_fetch_sub(&fake_cuda.live, 1);
	return CU_SUCCESS;
}

cu_result fake_map(cu_ptr at, size_t bytes, size_t offset, cu_handle h, unsigned long long flags)
{
	cu_result r = in_context();
	void *there = (void *)(uintptr_t)at;

	if (!r)
		r = once(&fake_cuda.map);
	if (r || flags || offset || at % UNIT || units[h - 1] * UNIT != bytes || !is_within(reserved, there, bytes) ||
	    is_within(mapped, there, 1))
		return r ? r : CU_INVALID_VALUE;
	return add_range(mapped, there, bytes, memory + (h - 1) * UNIT);
}

cu_result fake_unmap(cu_ptr at, size_t bytes)
{
	cu_result r = in_context();
	char *there = (char *)(uintptr_t)at;

	if (r || !is_within(reserved, there, bytes))
		return r ? r : CU_INVALID_VALUE;
	for (uint64_t done = 0, n; done < bytes; done += n) {
		n = drop_range(mapped, there + done);
		if (!n)
			return CU_INVALID_VALUE;
	}
	return CU_SUCCESS;
}

cu_result fake_set_access(cu_ptr at, size_t bytes, const struct cu_access *who, size_t nr)
{
	cu_result r = in_context();

	if (!r)
		r = once(&fake_cuda.set_access);
	if (r || nr != 1 || who->location.type != CU_LOCATION_DEVICE || who->flags != CU_ACCESS_READ_WRITE)
		return r ? r : CU_INVALID_VALUE;
	pthread_mutex_lock(&lock);
	for (uint64_t done = 0; !r && done < bytes; ) {
		struct range *found = find_range(mapped, (const char *)(uintptr_t)at + done, 1);

		if (!found) {
			r = CU_INVALID_VALUE;
			break;
		}
		found->closed = false;
		done += found->bytes;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

cu_result fake_host_alloc(void **ret, size_t bytes, unsigned flags)
{
	cu_result r = in_context();

	if (!r)
		r = once(&fake_cuda.host_alloc);
	if (r || flags)
		return r ? r : CU_INVALID_VALUE;
	*ret = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return *ret == MAP_FAILED ? CU_OUT_OF_MEMORY : add_range(pinned, *ret, bytes, *ret);
}

cu_result fake_host_free(void *mem)
{
	uint64_t bytes = drop_range(pinned, mem);

	return bytes && !munmap(mem, bytes) ? CU_SUCCESS : CU_INVALID_VALUE;
}
