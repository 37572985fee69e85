/* SPDX-License-Identifier: MIT */
/*
 * Segments become commands in a stream, all of a call begun before the last is waited for. They go one of two ways:
 *
 *   direct     the caller's memory is named to CUDA. It is not pinned, so CUDA moves the bytes through pinned memory of its own, in
 *              the calling thread: such a copy has mostly ended when the call returns.
 *   the ring   the bytes pass pinned memory of ours. On the way in a slot is filled by the CPU and then sent, while the next one is
 *              filled; on the way out slots arrive one after another, and whoever waits for the fence empties them: a copy of up
 *              to CUDA_RING_BYTES is under way while its caller does something else.
 *
 * Each copy has a lane of its own until its fence is waited for: two threads never wait for one another's commands, and a GPU
 * has an engine for each direction. When all lanes are taken a copy goes by the shared lane, whose lock it holds until it has
 * ended: it must not wait for a lane that its own thread holds.
 *
 * After a failure nothing new is begun, and what was begun is waited for: the memory is the caller's again, and the ring ours.
 */
#include <errno.h>

#include "base/err.h"
#include "drivers/cuda/cuda.h"

static const char *const call_names[] = { "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemsetD32Async" };

/* ---- the ring ---- */

static void slot_reset(struct slot *s)
{
	s->busy = false;
	s->used = 0;
	s->nr_pieces = 0;
}

/* What is in it goes on its way. */
static cu_result slot_send(struct cuda *c, struct lane *l)
{
	struct slot *s = &l->slots[l->at];
	cu_result r = c->cu->event_record(s->event, l->stream);

	if (r)
		return r;
	s->busy = true;
	l->at = (l->at + 1) % CUDA_SLOTS;
	return CU_SUCCESS;
}

/* It has arrived: idle again. */
static cu_result slot_finish(struct cuda *c, struct slot *s)
{
	cu_result r = c->cu->event_wait(s->event);
	char *from = s->mem;

	for (unsigned i = 0; !r && i < s->nr_pieces; i++) {
		uhmm_copy(s->pieces[i].host, from, s->pieces[i].bytes);
		from += s->pieces[i].bytes;
	}
	slot_reset(s);
	return r;
}

/* As much of it as fits into the slot. Return: CUDA's answer, with the bytes that are on their way. */
static cu_result slot_add(struct cuda *c, struct lane *l, struct slot *s, cu_ptr device, char *host, uint64_t bytes, uint64_t *ret)
{
	uint64_t n = min_u64(bytes, CUDA_SLOT_BYTES - s->used);
	char *mem = s->mem + s->used;

	s->used += n;
	*ret = n;
	if (l->way == IN) {
		uhmm_copy(mem, host, n);
		return c->cu->copy_in(device, mem, n, l->stream);
	}
	s->pieces[s->nr_pieces].host = host;
	s->pieces[s->nr_pieces++].bytes = n;
	return c->cu->copy_out(mem, device, n, l->stream);
}

static cu_result ring_copy(struct cuda *c, struct lane *l, cu_ptr device, char *host, uint64_t bytes)
{
	cu_result r = CU_SUCCESS;

	for (uint64_t done = 0, n = 0; !r && done < bytes; done += n) {
		struct slot *s = &l->slots[l->at];

		if (s->busy)
			r = slot_finish(c, s);
		if (!r)
			r = slot_add(c, l, s, device + done, host + done, bytes - done, &n);
		if (!r && s->used == CUDA_SLOT_BYTES)
			r = slot_send(c, l);
	}
	return r;
}

/* ---- lanes ---- */

static cu_result lane_add(struct cuda *c, struct lane *l, const struct uhmm_seg *seg)
{
	cu_ptr device = c->window + seg->offset;

	if (l->ring)
		return ring_copy(c, l, device, seg->host, seg->bytes);
	switch (l->way) {
	case IN:
		return c->cu->copy_in(device, seg->host, seg->bytes, l->stream);
	case OUT:
		return c->cu->copy_out(seg->host, device, seg->bytes, l->stream);
	default:
		return c->cu->fill(device, 0, seg->bytes / sizeof(uint32_t), l->stream);
	}
}

/* All commands are begun. */
static cu_result lane_end(struct cuda *c, struct lane *l)
{
	if (!l->ring)
		return c->cu->event_record(l->event, l->stream);
	return l->slots[l->at].used && !l->slots[l->at].busy ? slot_send(c, l) : CU_SUCCESS;
}

/* Waits for all that was begun. @failed: what is known to have gone wrong. Return: that, or what goes wrong now. */
static cu_result lane_wait(struct cuda *c, struct lane *l, cu_result failed)
{
	cu_result r = failed;

	if (!r && !l->ring)
		r = c->cu->event_wait(l->event);
	for (unsigned i = 0; !r && l->ring && i < CUDA_SLOTS; i++)
		if (l->slots[(l->at + i) % CUDA_SLOTS].busy)
			r = slot_finish(c, &l->slots[(l->at + i) % CUDA_SLOTS]);
	if (r) {
		(void)c->cu->stream_wait(l->stream);
		for (unsigned i = 0; i < CUDA_SLOTS; i++)
			slot_reset(&l->slots[i]);
	}
	return r;
}

static cu_result lane_begin(struct cuda *c, struct lane *l, enum way way, const struct uhmm_seg *segs, unsigned nr)
{
	cu_result r = CU_SUCCESS;

	l->way = way;
	l->ring = way != CLEAR && c->ring[way];
	for (unsigned i = 0; !r && i < nr; i++)
		r = lane_add(c, l, &segs[i]);
	return r ? r : lane_end(c, l);
}

/* ---- copies ---- */

static cu_result copy_shared(struct cuda *c, enum way way, const struct uhmm_seg *segs, unsigned nr)
{
	cu_result r;

	pthread_mutex_lock(&c->shared_lock);
	r = lane_wait(c, &c->shared, lane_begin(c, &c->shared, way, segs, nr));
	pthread_mutex_unlock(&c->shared_lock);
	return r;
}

/* The context is current. Return: CUDA's answer, with a fence if that may be. */
static cu_result copy_in_context(struct cuda *c, enum way way, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct lane *l = cuda_lane_take(c);
	cu_result r;

	if (!l)
		return copy_shared(c, way, segs, nr);
	r = lane_begin(c, l, way, segs, nr);
	if (!r && ret_fence) {
		*ret_fence = (uint64_t)(l - c->lanes) + 1;
		return CU_SUCCESS;
	}
	r = lane_wait(c, l, r);
	cuda_lane_put(c, l);
	return r;
}

static int copy(struct cuda *c, enum way way, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	cu_result r;

	for (unsigned i = 0; i < nr; i++)
		if (segs[i].offset > c->size || segs[i].bytes > c->size - segs[i].offset)
			return -EINVAL;
	r = cuda_enter(c);
	if (r)
		return cuda_tell(c, "cuCtxPushCurrent", r);
	r = copy_in_context(c, way, segs, nr, ret_fence);
	cuda_leave(c);
	return r ? cuda_tell(c, call_names[way], r) : 0;
}

int cuda_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return copy(ctx, IN, segs, nr, ret_fence);
}

int cuda_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	return copy(ctx, OUT, segs, nr, ret_fence);
}

int cuda_fence_wait(void *ctx, uint64_t fence)
{
	struct cuda *c = ctx;
	struct lane *l = &c->lanes[fence - 1];
	enum way way = l->way;
	cu_result entered = cuda_enter(c), r = lane_wait(c, l, entered);

	if (!entered)
		cuda_leave(c);
	cuda_lane_put(c, l);
	return r ? cuda_tell(c, call_names[way], r) : 0;
}

int cuda_clear(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct uhmm_seg seg = { offset, NULL, bytes };

	return copy(ctx, CLEAR, &seg, 1, NULL);
}
