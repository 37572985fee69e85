/* SPDX-License-Identifier: MIT */
/*
 * The device's memory: a window of its addresses, and behind it chunks of physical memory, side by side.
 *
 * A chunk has a handle of its own because it may have to appear a second time, where the program has the same bytes: CUDA maps
 * whole allocations only. 2 MiB is what CUDA gives on all GPUs so far, and what uhmm moves at most; where it gives larger ones
 * only, a device has memory and an address, but shows nothing at the program's addresses (-EOPNOTSUPP).
 *
 * All of it is taken when the device is opened, though only its use would need it: memory that is short would else be found out by
 * a copy, in a fault thread perhaps, where it is a failed device. Here it is a sentence for who asked for too much.
 *
 * The context is the device's own, not the primary one, which the program's libraries share: a cudaDeviceReset() there must not
 * take the pages along. It is current inside our calls only.
 */
#include <errno.h>

#include "base/err.h"
#include "drivers/cuda/cuda.h"

cu_result cuda_enter(struct cuda *c) { return c->cu->context_push(c->context); }

void cuda_leave(struct cuda *c)
{
	struct cu_context *ours;

	(void)c->cu->context_pop(&ours);
}

static struct cu_prop prop(const struct cuda *c)
{
	return (struct cu_prop){ .type = CU_ALLOCATION_PINNED, .location = { CU_LOCATION_DEVICE, c->chosen.device } };
}

static cu_result set_access(struct cuda *c, cu_ptr at, uint64_t bytes)
{
	const struct cu_access access = { { CU_LOCATION_DEVICE, c->chosen.device }, CU_ACCESS_READ_WRITE };

	return c->cu->set_access(at, bytes, &access, 1);
}

/* ---- open and close ---- */

/* What was asked for, and what the device has free. */
static int fit(struct cuda *c, char *why, size_t why_bytes)
{
	const struct cu_prop p = prop(c);
	size_t unused = 0, total = 0, granularity = 0;
	cu_result r = c->cu->memory_info(&unused, &total);
	unsigned long long mib = unused >> 20;

	if (!r)
		r = c->cu->granularity(&granularity, &p, CU_GRANULARITY_MINIMUM);
	if (r)
		return err_why(why, why_bytes, cuda_errno(r), "%s does not tell what is free: %s (%d)", c->chosen.name,
			       cu_error_name(c->cu, r), r);
	c->chunk = block_up(max_u64(granularity, 1));
	if (c->size == UINT64_MAX)
		c->size = block_down(unused / 2);
	if (!c->size)
		return err_why(why, why_bytes, -ENOMEM, "%s has %llu MiB free, which is too little", c->chosen.name, mib);
	if (c->size > unused)
		return err_why(why, why_bytes, -ENOMEM, "size is more than the %llu MiB that %s has free", mib, c->chosen.name);
	c->nr_chunks = (c->size + c->chunk - 1) / c->chunk;
	return 0;
}

static uint64_t handles_bytes(const struct cuda *c) { return block_up(c->nr_chunks * sizeof(*c->handles)); }

static cu_result add_chunk(struct cuda *c, const struct cu_prop *p)
{
	cu_handle *handle = &c->handles[c->nr_mapped];
	cu_result r = c->cu->memory_create(handle, c->chunk, p, 0);

	if (r)
		return r;
	r = c->cu->map(c->window + c->nr_mapped * c->chunk, c->chunk, 0, *handle, 0);
	if (r)
		(void)c->cu->memory_release(*handle);
	else
		c->nr_mapped++;
	return r;
}

static int open_window(struct cuda *c, char *why, size_t why_bytes)
{
	const struct cu_prop p = prop(c);
	cu_result r;

	c->handles = uhmm_host_reserve(handles_bytes(c));
	if (!c->handles)
		return -ENOMEM;
	r = c->cu->address_reserve(&c->window, c->nr_chunks * c->chunk, c->chunk, 0, 0);
	if (r) {
		c->window = 0;
		return err_why(why, why_bytes, cuda_errno(r), "%s gives no %llu MiB of addresses: %s (%d)", c->chosen.name,
			       (unsigned long long)(c->size >> 20), cu_error_name(c->cu, r), r);
	}
	while (!r && c->nr_mapped < c->nr_chunks)
		r = add_chunk(c, &p);
	if (!r)
		r = set_access(c, c->window, c->nr_chunks * c->chunk);
	return r ? err_why(why, why_bytes, cuda_errno(r), "%s gives no more memory after %llu MiB: %s (%d); ask for a smaller size",
			   c->chosen.name, (unsigned long long)(c->nr_mapped * c->chunk >> 20), cu_error_name(c->cu, r), r) :
		   0;
}

int cuda_memory_open(struct cuda *c, char *ret_why, size_t why_bytes)
{
	cu_result r = c->cu->context_create(&c->context, 0, c->chosen.device);
	int err;

	if (r) {
		c->context = NULL;
		return err_why(ret_why, why_bytes, cuda_errno(r), "%s gives no context: %s (%d, %s)", c->chosen.name,
			       cu_error_name(c->cu, r), r, cu_error_text(c->cu, r));
	}
	/* it has made itself current, and stays so until the end of this function */
	err = fit(c, ret_why, why_bytes);
	if (!err)
		err = open_window(c, ret_why, why_bytes);
	if (!err) {
		r = cuda_lanes_open(c);
		if (!r)
			r = c->cu->stream_create(&c->work, CU_STREAM_NON_BLOCKING);
		if (r)
			err = err_why(ret_why, why_bytes, cuda_errno(r), "%s gives no streams and events: %s (%d)", c->chosen.name,
				      cu_error_name(c->cu, r), r);
	}
	cuda_leave(c);
	return err;
}

void cuda_memory_close(struct cuda *c)
{
	cu_result entered;

	if (!c->context)
		return;
	entered = cuda_enter(c);
	cuda_lanes_close(c);
	if (c->work)
		(void)c->cu->stream_destroy(c->work);
	if (c->nr_mapped)
		(void)c->cu->unmap(c->window, c->nr_mapped * c->chunk);
	for (uint64_t i = 0; i < c->nr_mapped; i++)
		(void)c->cu->memory_release(c->handles[i]);
	if (c->window)
		(void)c->cu->address_free(c->window, c->nr_chunks * c->chunk);
	if (!entered)
		cuda_leave(c);
	(void)c->cu->context_destroy(c->context);
	uhmm_host_free(c->handles, handles_bytes(c));
}

/* ---- addresses ---- */

uint64_t cuda_address(void *ctx, uint64_t offset)
{
	struct cuda *c = ctx;

	return c->window + offset;
}

/* A call about addresses, with the context current: its answer is told, and is an errno. */
static int begin(struct cuda *c)
{
	cu_result r;

	if (c->chunk != BLOCK_BYTES)
		return -EOPNOTSUPP;
	r = cuda_enter(c);
	return r ? cuda_tell(c, "cuCtxPushCurrent", r) : 0;
}

static int end(struct cuda *c, const char *call, cu_result r)
{
	cuda_leave(c);
	return r ? cuda_tell(c, call, r) : 0;
}

int cuda_reserve(void *ctx, uint64_t hint, uint64_t bytes, uint64_t *ret_addr)
{
	struct cuda *c = ctx;
	cu_ptr at = 0;
	cu_result r;
	int err = begin(c);

	if (err)
		return err;
	r = c->cu->address_reserve(&at, bytes, BLOCK_BYTES, hint, 0);
	if (r && hint) /* elsewhere, then */
		r = c->cu->address_reserve(&at, bytes, BLOCK_BYTES, 0, 0);
	if (!r)
		*ret_addr = at;
	return end(c, "cuMemAddressReserve", r);
}

void cuda_unreserve(void *ctx, uint64_t addr, uint64_t bytes)
{
	struct cuda *c = ctx;

	if (!begin(c))
		(void)end(c, "cuMemAddressFree", c->cu->address_free(addr, bytes));
}

int cuda_map(void *ctx, uint64_t addr, uint64_t offset, uint64_t bytes)
{
	struct cuda *c = ctx;
	const char *call = "cuMemMap";
	uint64_t done = 0;
	cu_result r = CU_SUCCESS;
	int err;

	if (!block_aligned(addr | offset | bytes) || offset > c->size || bytes > c->size - offset)
		return -EINVAL;
	err = begin(c);
	if (err)
		return err;
	for (; !r && done < bytes; done += r ? 0 : BLOCK_BYTES)
		r = c->cu->map(addr + done, BLOCK_BYTES, 0, c->handles[(offset + done) >> BLOCK_SHIFT], 0);
	if (!r && bytes) {
		call = "cuMemSetAccess";
		r = set_access(c, addr, bytes);
	}
	if (r && done) /* as it was */
		(void)c->cu->unmap(addr, done);
	return end(c, call, r);
}

int cuda_unmap(void *ctx, uint64_t addr, uint64_t bytes)
{
	struct cuda *c = ctx;
	int err = begin(c);

	return err ? err : end(c, "cuMemUnmap", c->cu->unmap(addr, bytes));
}
