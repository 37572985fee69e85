/* SPDX-License-Identifier: MIT */
/*
 * The device's memory: a context, and buffers that lie one behind the other in the device's offsets, all of o->buffer bytes but
 * the last. That is a multiple of 2 MiB, so no folio lies in two.
 *
 * All of it is taken when the device is opened. OpenCL lets a driver wait with the memory until a command uses it; a command
 * that says the contents do not matter makes it be there now. Taken later, memory that is short would be found out by a copy,
 * in a fault thread perhaps, where it is a failed device; here it is a sentence for who asked for too much. A device that is
 * made of host memory costs address space until it is used: nothing is written.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "drivers/opencl/opencl.h"

int opencl_errno(int32_t r)
{
	switch (r) {
	case CL_MEM_OBJECT_ALLOCATION_FAILURE:
	case CL_OUT_OF_RESOURCES:
	case CL_OUT_OF_HOST_MEMORY:
	case CL_INVALID_BUFFER_SIZE:
		return -ENOMEM;
	case CL_DEVICE_NOT_AVAILABLE:
		return -ENODEV;
	default:
		return -EIO;
	}
}

/* Makes a buffer's memory be there. */
static int32_t take(struct opencl *o, struct cl_mem *mem)
{
	struct cl_event *event;
	int32_t r, status = 0;

	r = o->cl->enqueue_migrate(o->shared, 1, &mem, CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED, 0, NULL, &event);
	if (r)
		return r;
	r = o->cl->wait_for_events(1, &event);
	if (!o->cl->event_info(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(status), &status, NULL) && status < 0)
		r = status;
	(void)o->cl->release_event(event);
	return r;
}

static int32_t add_buffer(struct opencl *o, uint64_t bytes)
{
	int32_t r = CL_SUCCESS;
	struct cl_mem *mem = o->cl->create_buffer(o->context, CL_MEM_READ_WRITE, bytes, NULL, &r);

	if (r)
		return r;
	o->buffers[o->nr_buffers++] = mem;
	return take(o, mem);
}

static int open_buffers(struct opencl *o, char *why, size_t why_bytes)
{
	for (uint64_t at = 0; at < o->size; at += o->buffer) {
		uint64_t bytes = min_u64(o->buffer, o->size - at);
		int32_t r = add_buffer(o, bytes);

		if (r)
			return err_why(why, why_bytes, opencl_errno(r),
				       "%s gives no buffer of %llu MiB after %llu MiB: %s (%d); ask for a smaller size", o->chosen.name,
				       (unsigned long long)(bytes >> 20), (unsigned long long)(at >> 20), cl_error_name(r), r);
	}
	return 0;
}

static int32_t open_queues(struct opencl *o)
{
	int32_t r = CL_SUCCESS;

	o->shared = o->cl->create_queue(o->context, o->chosen.device, 0, &r);
	for (unsigned i = 0; !r && i < OPENCL_LANES; i++) {
		struct lane *l = &o->lanes[i];

		l->queue = o->cl->create_queue(o->context, o->chosen.device, 0, &r);
		l->next = o->free_lanes;
		o->free_lanes = l;
	}
	return r;
}

int memory_open(struct opencl *o, char *ret_why, size_t why_bytes)
{
	int32_t r = CL_SUCCESS;

	o->context = o->cl->create_context(NULL, 1, &o->chosen.device, NULL, NULL, &r);
	if (!r)
		r = open_queues(o);
	if (r)
		return err_why(ret_why, why_bytes, opencl_errno(r), "%s gives no context and queues: %s (%d)", o->chosen.name,
			       cl_error_name(r), r);
	if (o->chosen.unified) {
		o->touched = uhmm_host_reserve(block_up(o->size >> BLOCK_SHIFT));
		if (!o->touched)
			return -ENOMEM;
	}
	return open_buffers(o, ret_why, why_bytes);
}

void memory_close(struct opencl *o)
{
	for (unsigned i = 0; i < o->nr_buffers; i++)
		(void)o->cl->release_mem(o->buffers[i]);
	for (unsigned i = 0; i < OPENCL_LANES; i++)
		if (o->lanes[i].queue)
			(void)o->cl->release_queue(o->lanes[i].queue);
	if (o->shared)
		(void)o->cl->release_queue(o->shared);
	if (o->context)
		(void)o->cl->release_context(o->context);
	uhmm_host_free((void *)o->touched, block_up(o->size >> BLOCK_SHIFT));
}
