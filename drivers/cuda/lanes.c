/* SPDX-License-Identifier: MIT */
/* What copies are done with: lanes, each with a stream, events and a ring of pinned memory. */
#include "drivers/cuda/cuda.h"

#define NR_RINGS (CUDA_LANES + 1) /* the shared lane has one, too */

static cu_result lane_open(struct cuda *c, struct lane *l, char *ring)
{
	cu_result r = c->cu->stream_create(&l->stream, CU_STREAM_NON_BLOCKING);

	if (!r)
		r = c->cu->event_create(&l->event, CU_EVENT_DISABLE_TIMING);
	for (unsigned i = 0; !r && i < CUDA_SLOTS; i++) {
		l->slots[i].mem = ring ? ring + i * CUDA_SLOT_BYTES : NULL;
		r = c->cu->event_create(&l->slots[i].event, CU_EVENT_DISABLE_TIMING);
	}
	return r;
}

static void lane_close(struct cuda *c, struct lane *l)
{
	for (unsigned i = 0; i < CUDA_SLOTS; i++)
		if (l->slots[i].event)
			(void)c->cu->event_destroy(l->slots[i].event);
	if (l->event)
		(void)c->cu->event_destroy(l->event);
	if (l->stream)
		(void)c->cu->stream_destroy(l->stream);
}

cu_result cuda_lanes_open(struct cuda *c)
{
	void *ring = NULL;
	cu_result r = CU_SUCCESS;

	if (c->ring[IN] || c->ring[OUT])
		r = c->cu->host_alloc(&ring, NR_RINGS * CUDA_RING_BYTES, 0);
	if (r)
		return r;
	c->ring_memory = ring;
	for (unsigned i = 0; !r && i < CUDA_LANES; i++) {
		r = lane_open(c, &c->lanes[i], ring ? c->ring_memory + i * CUDA_RING_BYTES : NULL);
		c->lanes[i].next = c->free_lanes;
		c->free_lanes = &c->lanes[i];
	}
	return r ? r : lane_open(c, &c->shared, ring ? c->ring_memory + CUDA_LANES * CUDA_RING_BYTES : NULL);
}

void cuda_ring_close(struct cuda *c)
{
	if (c->ring_memory)
		(void)c->cu->host_free(c->ring_memory);
	c->ring_memory = NULL;
}

void cuda_lanes_close(struct cuda *c)
{
	for (unsigned i = 0; i < CUDA_LANES; i++)
		lane_close(c, &c->lanes[i]);
	lane_close(c, &c->shared);
	cuda_ring_close(c);
}

struct lane *cuda_lane_take(struct cuda *c)
{
	struct lane *l;

	pthread_mutex_lock(&c->lanes_lock);
	l = c->free_lanes;
	if (l)
		c->free_lanes = l->next;
	pthread_mutex_unlock(&c->lanes_lock);
	return l;
}

void cuda_lane_put(struct cuda *c, struct lane *l)
{
	pthread_mutex_lock(&c->lanes_lock);
	l->next = c->free_lanes;
	c->free_lanes = l;
	pthread_mutex_unlock(&c->lanes_lock);
}
