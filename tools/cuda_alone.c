/* SPDX-License-Identifier: MIT */
/*
 * The functions are those of the device's own libcuda, had by name: a second one in the process might not start (look_in_child() in
 * doctor_cuda.c). The context is another one, with a stream and memory of its own, and is current inside these functions only.
 *
 * Managed memory is a range that GPU and CPU both use, and that moves to who touches it: what uhmm does with any memory. So it is
 * the nearer comparison, but one by one with copies it is not: a GPU writes it first (cuMemsetD32), or there would be nothing to
 * bring home.
 */
#include "tools/cuda_alone.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/cuda/look.h"
#include "tools/clock.h"
#include "tools/say.h"
#include "tools/size.h"

#define MANAGED_MEMORY    83 /* CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY */
#define CONCURRENT_ACCESS 89 /* CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS: CPU and GPU may use it at once; without, no prefetch */
#define ATTACH_GLOBAL     1u /* CU_MEM_ATTACH_GLOBAL */
#define HOST              (-1) /* CU_DEVICE_CPU */

/* What the driver has no use for. */
#define MORE_FUNCTIONS(F) \
	F(alloc, "cuMemAlloc_v2", (cu_ptr *ret, size_t bytes)) \
	F(release, "cuMemFree_v2", (cu_ptr at)) \
	F(alloc_host, "cuMemAllocHost_v2", (void **ret, size_t bytes)) \
	F(alloc_managed, "cuMemAllocManaged", (cu_ptr *ret, size_t bytes, unsigned flags)) \
	F(prefetch, "cuMemPrefetchAsync", (cu_ptr at, size_t bytes, cu_device where, struct cu_stream *s))

struct more {
#define MORE_MEMBER(name, there, arguments) cu_result (*name) arguments;
	MORE_FUNCTIONS(MORE_MEMBER)
#undef MORE_MEMBER
};

static const struct dl_symbol more_symbols[] = {
#define MORE_SYMBOL(name, there, arguments) { there, offsetof(struct more, name) },
	MORE_FUNCTIONS(MORE_SYMBOL)
#undef MORE_SYMBOL
	{ NULL, 0 },
};

struct cuda_alone {
	struct cu cu;
	struct more more;
	cu_device device;
	struct cu_context *context;
	struct cu_stream *stream;
	uint64_t bytes;
	cu_ptr mem;             /* on the device */
	unsigned char *pinned;
	cu_ptr managed;         /* 0: there is none, and why */
	const char *lacks_managed;
	unsigned word;          /* that the device has written last */
};

static int failed(const struct cuda_alone *a, const char *what, cu_result r)
{
	say("CUDA by itself, for comparison: %s failed with %s (%d)", what, cu_error_name(&a->cu, r), r);
	return -EIO;
}

static cu_result enter(struct cuda_alone *a) { return a->cu.context_push(a->context); }

static void leave(struct cuda_alone *a)
{
	struct cu_context *ours;

	(void)a->cu.context_pop(&ours);
}

/* ---- open and close ---- */

/* Return: NULL, or the function that is missing. */
static const char *find(struct uhmm_device *dev, void *table, const struct dl_symbol *symbols)
{
	for (const struct dl_symbol *s = symbols; s->name; s++) {
		void *found;

		if (uhmm_device_native(dev, s->name, &found))
			return s->name;
		memcpy((char *)table + s->offset, &found, sizeof(found));
	}
	return NULL;
}

/* Much less than what is free: memory that a GPU has not may bring all that use it to a halt when it is managed. */
static int choose_size(struct cuda_alone *a, uint64_t bytes)
{
	char have[SIZE_CHARS];
	size_t unused = 0, total = 0;
	cu_result r = a->cu.memory_info(&unused, &total);

	if (r)
		return failed(a, "cuMemGetInfo", r);
	a->bytes = unused / 4 / UHMM_BLOCK_BYTES * UHMM_BLOCK_BYTES;
	if (!a->bytes) {
		say("CUDA by itself, for comparison: the GPU has %s free, which is too little; give the device a smaller size",
		    size_print(unused, have));
		return -ENOMEM;
	}
	if (a->bytes < bytes)
		say("CUDA by itself, for comparison: it is given %s, a quarter of what the GPU has free beside the device",
		    size_print(a->bytes, have));
	else
		a->bytes = bytes;
	return 0;
}

static int open_managed(struct cuda_alone *a)
{
	int has = 0, at_once = 0;
	cu_result r = a->cu.device_attribute(&has, MANAGED_MEMORY, a->device);

	if (!r)
		r = a->cu.device_attribute(&at_once, CONCURRENT_ACCESS, a->device);
	if (r)
		return failed(a, "cuDeviceGetAttribute", r);
	a->lacks_managed = !has     ? "the GPU has none (CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY is 0)" :
			   !at_once ? "it does not move page by page here (CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS is 0)" :
				      NULL;
	if (a->lacks_managed)
		return 0;
	r = a->more.alloc_managed(&a->managed, a->bytes, ATTACH_GLOBAL);
	if (r)
		return failed(a, "cuMemAllocManaged", r);
	memset((void *)(uintptr_t)a->managed, 0, a->bytes); /* the host has it first */
	return 0;
}

/* The context is current. */
static int open_in_context(struct cuda_alone *a, uint64_t bytes)
{
	const char *call = "cuStreamCreate";
	cu_result r = a->cu.stream_create(&a->stream, CU_STREAM_NON_BLOCKING);
	void *pinned = NULL;
	int err;

	if (r)
		return failed(a, call, r);
	err = choose_size(a, bytes);
	if (err)
		return err;
	call = "cuMemAlloc";
	r = a->more.alloc(&a->mem, a->bytes);
	if (!r) {
		call = "cuMemAllocHost";
		r = a->more.alloc_host(&pinned, a->bytes);
	}
	if (r)
		return failed(a, call, r);
	a->pinned = pinned;
	memset(pinned, 0, a->bytes);
	return open_managed(a);
}

int cuda_alone_open(struct cuda_alone **ret, struct uhmm_device *dev, uint64_t bytes)
{
	struct cuda_alone *a = calloc(1, sizeof(*a));
	const char *missing = NULL;
	void *device = NULL;
	int err = -ENOMEM;
	cu_result r;

	*ret = a;
	if (!a)
		return err;
	missing = find(dev, &a->cu, cu_symbols);
	if (!missing)
		missing = find(dev, &a->more, more_symbols);
	if (missing || uhmm_device_native(dev, "device", &device)) {
		say("CUDA by itself, for comparison: it has no %s", missing ? missing : "device");
		err = -ENOENT;
	} else {
		a->device = (cu_device)(intptr_t)device;
		r = a->cu.context_create(&a->context, 0, a->device);
		if (r)
			a->context = NULL;
		err = r ? failed(a, "cuCtxCreate", r) : open_in_context(a, bytes);
		if (!r)
			leave(a); /* it has made itself current */
	}
	if (err) {
		cuda_alone_close(a);
		*ret = NULL;
	}
	return err;
}

void cuda_alone_close(struct cuda_alone *a)
{
	if (a && a->context) {
		cu_result entered = enter(a);

		if (a->managed)
			(void)a->more.release(a->managed);
		if (a->pinned)
			(void)a->cu.host_free(a->pinned);
		if (a->mem)
			(void)a->more.release(a->mem);
		if (a->stream)
			(void)a->cu.stream_destroy(a->stream);
		if (!entered)
			leave(a);
		(void)a->cu.context_destroy(a->context);
	}
	free(a);
}

uint64_t cuda_alone_bytes(const struct cuda_alone *a) { return a->bytes; }

unsigned char *cuda_alone_pinned(struct cuda_alone *a) { return a->pinned; }

const char *cuda_alone_lacks_managed(const struct cuda_alone *a) { return a->lacks_managed; }

/* ---- copies ---- */

double cuda_alone_copy(struct cuda_alone *a, enum cuda_way way, void *host, uint64_t unit_bytes, struct samples *ret_us)
{
	cu_result r = enter(a);
	uint64_t began = clock_ns();
	char *there = host;

	if (r)
		return failed(a, "cuCtxPushCurrent", r);
	for (uint64_t at = 0; !r && at + unit_bytes <= a->bytes; at += unit_bytes) {
		uint64_t start = clock_ns();

		r = way == CUDA_TO_DEVICE ? a->cu.copy_in(a->mem + at, there + at, unit_bytes, a->stream) :
					    a->cu.copy_out(there + at, a->mem + at, unit_bytes, a->stream);
		if (!r)
			r = a->cu.stream_wait(a->stream);
		samples_add(ret_us, clock_us_since(start));
	}
	leave(a);
	if (r)
		return failed(a, way == CUDA_TO_DEVICE ? "cuMemcpyHtoDAsync" : "cuMemcpyDtoHAsync", r);
	return (double)(clock_ns() - began) / 1e9;
}

/* ---- managed memory ---- */

/* A word that was not there, and it is on the device then. */
static cu_result write_by_device(struct cuda_alone *a)
{
	cu_result r = a->cu.fill(a->managed, ++a->word, a->bytes / sizeof(a->word), a->stream);

	return r ? r : a->cu.stream_wait(a->stream);
}

static cu_result prefetch(struct cuda_alone *a, cu_device where)
{
	cu_result r = a->more.prefetch(a->managed, a->bytes, where, a->stream);

	return r ? r : a->cu.stream_wait(a->stream);
}

double cuda_alone_prefetch(struct cuda_alone *a, enum cuda_way way)
{
	cu_result r = enter(a);
	uint64_t start, end;

	if (r)
		return failed(a, "cuCtxPushCurrent", r);
	if (way == CUDA_HOME)
		r = write_by_device(a);
	start = clock_ns();
	if (!r)
		r = prefetch(a, way == CUDA_HOME ? HOST : a->device);
	end = clock_ns();
	leave(a);
	return r ? failed(a, "cuMemPrefetchAsync", r) : (double)(end - start) / 1e9;
}

/* Return: whether each page has what the device has written. */
static bool read_unit(const struct cuda_alone *a, uint64_t from, uint64_t bytes)
{
	const volatile unsigned *word = (const volatile unsigned *)(uintptr_t)(a->managed + from);
	bool good = true;

	for (uint64_t at = 0; at < bytes; at += UHMM_PAGE_BYTES)
		good &= word[at / sizeof(*word)] == a->word;
	return good;
}

double cuda_alone_touch(struct cuda_alone *a, uint64_t unit_bytes, struct samples *ret_us)
{
	cu_result r = enter(a);
	uint64_t began;
	bool good = true;

	if (r)
		return failed(a, "cuCtxPushCurrent", r);
	r = prefetch(a, a->device);
	if (!r)
		r = write_by_device(a);
	leave(a);
	if (r)
		return failed(a, "a write by the device to managed memory", r);
	began = clock_ns();
	for (uint64_t at = 0; at < a->bytes; at += unit_bytes) {
		uint64_t start = clock_ns();

		good &= read_unit(a, at, unit_bytes);
		samples_add(ret_us, clock_us_since(start));
	}
	if (good)
		return (double)(clock_ns() - began) / 1e9;
	say("CUDA by itself, for comparison: managed memory has not what the device has written");
	return -EIO;
}
