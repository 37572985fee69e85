/* SPDX-License-Identifier: MIT */
/*
 * Segments become commands, all of a call begun before any is waited for; a segment that lies in two buffers becomes two.
 *
 * Each copy has a lane of its own, with a queue of its own, until its fence is waited for: two threads never wait for one
 * another's commands, and the device may do copies of several at once. When all lanes are taken a copy goes by the shared queue
 * and waits for each of its commands: it must not wait for a lane that its own thread holds. OpenCL lets threads share a queue.
 *
 * An event is kept of every command, not of the last one only: what a queue does after a command that failed is left to the
 * driver. After a failure nothing new is begun, and what was begun is waited for: the memory is the caller's again.
 */
#include <errno.h>

#include "base/err.h"
#include "base/log.h"
#include "drivers/opencl/opencl.h"

static const char *const command_names[] = { "clEnqueueWriteBuffer", "clEnqueueReadBuffer", "clEnqueueFillBuffer" };

enum command { WRITE, READ, FILL };

static struct lane *lane_take(struct opencl *o)
{
	struct lane *l;

	pthread_mutex_lock(&o->lanes_lock);
	l = o->free_lanes;
	if (l)
		o->free_lanes = l->next;
	pthread_mutex_unlock(&o->lanes_lock);
	if (l)
		l->nr = 0;
	return l;
}

static void lane_put(struct opencl *o, struct lane *l)
{
	pthread_mutex_lock(&o->lanes_lock);
	l->next = o->free_lanes;
	o->free_lanes = l;
	pthread_mutex_unlock(&o->lanes_lock);
}

/* What failed, in the standard's words, once for each of them: a device that is gone fails often. Return: the errno. */
static int tell(struct opencl *o, enum command what, int32_t r)
{
	uint64_t bit = r < 0 && r > -64 ? UINT64_C(1) << -r : 1;

	if (!(atomic_fetch_or_explicit(&o->said, bit, memory_order_relaxed) & bit))
		log_say(UHMM_LOG_ERROR, "%s on %s failed with %s (%d); further ones are not told", command_names[what], o->chosen.name,
			cl_error_name(r), r);
	return opencl_errno(r);
}

static void touch(struct opencl *o, uint64_t offset, uint64_t bytes)
{
	for (uint64_t i = offset >> BLOCK_SHIFT; o->touched && i << BLOCK_SHIFT < offset + bytes; i++)
		if (!atomic_load_explicit(&o->touched[i], memory_order_relaxed) && !atomic_exchange(&o->touched[i], 1))
			atomic_fetch_add_explicit(&o->touched_bytes, BLOCK_BYTES, memory_order_relaxed);
}

/* Waits for commands and lets go of their events. Return: 0, or the first error of any. */
static int32_t await(const struct cl *cl, struct cl_event **events, unsigned nr)
{
	int32_t first, status;

	if (!nr)
		return CL_SUCCESS;
	/* it says only that one of them has failed */
	first = cl->wait_for_events(nr, events);
	for (unsigned i = nr; first && i-- > 0;)
		if (!cl->event_info(events[i], CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(status), &status, NULL) && status < 0)
			first = status;
	for (unsigned i = 0; i < nr; i++)
		(void)cl->release_event(events[i]);
	return first;
}

static int32_t enqueue(const struct cl *cl, struct cl_queue *q, enum command what, struct cl_mem *mem, uint64_t offset, char *host,
		       uint64_t bytes, struct cl_event **ret)
{
	static const uint64_t zeros[2];

	switch (what) {
	case WRITE:
		return cl->enqueue_write(q, mem, 0, offset, bytes, host, 0, NULL, ret);
	case READ:
		return cl->enqueue_read(q, mem, 0, offset, bytes, host, 0, NULL, ret);
	default:
		return cl->enqueue_fill(q, mem, zeros, sizeof(zeros), offset, bytes, 0, NULL, ret);
	}
}

static int32_t lane_wait(struct opencl *o, struct lane *l)
{
	unsigned nr = l->nr;

	l->nr = 0;
	return await(o->cl, l->events, nr);
}

/* One command, in one buffer. Return: an answer of OpenCL. */
static int32_t begin(struct opencl *o, struct lane *l, enum command what, uint64_t offset, char *host, uint64_t bytes)
{
	struct cl_mem *mem = o->buffers[offset / o->buffer];
	struct cl_event *event;
	int32_t r = CL_SUCCESS;

	if (l && l->nr == OPENCL_COMMANDS)
		r = lane_wait(o, l);
	if (!r)
		r = enqueue(o->cl, l ? l->queue : o->shared, what, mem, offset % o->buffer, host, bytes, &event);
	if (r)
		return r;
	if (!l)
		return await(o->cl, &event, 1);
	l->events[l->nr++] = event;
	return CL_SUCCESS;
}

static int32_t begin_all(struct opencl *o, struct lane *l, enum command what, const struct uhmm_seg *seg)
{
	int32_t r = CL_SUCCESS;

	for (uint64_t at = 0, n; !r && at < seg->bytes; at += n) {
		uint64_t offset = seg->offset + at;

		n = min_u64(seg->bytes - at, o->buffer - offset % o->buffer);
		r = begin(o, l, what, offset, (char *)seg->host + at, n);
	}
	return r;
}

/* Return: 0, with a fence if that may be and there is one, or -errno. */
static int copy(struct opencl *o, enum command what, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct lane *l;
	int32_t r = CL_SUCCESS, waited;

	for (unsigned i = 0; i < nr; i++)
		if (segs[i].offset > o->size || segs[i].bytes > o->size - segs[i].offset)
			return -EINVAL;
	l = lane_take(o);
	for (unsigned i = 0; !r && i < nr; i++) {
		if (what != READ)
			touch(o, segs[i].offset, segs[i].bytes);
		r = begin_all(o, l, what, &segs[i]);
	}
	if (l && !r)
		r = o->cl->flush(l->queue);
	if (l && !r && ret_fence && l->nr) {
		l->out = what == READ;
		*ret_fence = (uint64_t)(l - o->lanes) + 1;
		return 0;
	}
	if (l) {
		waited = lane_wait(o, l);
		r = r ? r : waited;
		lane_put(o, l);
	}
	return r ? tell(o, what, r) : 0;
}

int opencl_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return copy(ctx, WRITE, segs, nr, ret_fence);
}

int opencl_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return copy(ctx, READ, segs, nr, ret_fence);
}

int opencl_fence_wait(void *ctx, uint64_t fence)
{
	struct opencl *o = ctx;
	struct lane *l = &o->lanes[fence - 1];
	enum command what = l->out ? READ : WRITE;
	int32_t r = lane_wait(o, l);

	lane_put(o, l);
	return r ? tell(o, what, r) : 0;
}

int opencl_clear(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct uhmm_seg seg = { offset, NULL, bytes };

	return copy(ctx, FILL, &seg, 1, NULL);
}
