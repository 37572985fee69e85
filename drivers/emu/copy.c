/* SPDX-License-Identifier: MIT */
/*
 * emu's copies. The cost model is honest about time only: the bytes are copied first, and then the call waits until the
 * latency and the bandwidth asked for are reached, if the copy itself was faster.
 *
 * With async=on an engine thread does the copies in order, and a caller gets a fence: the number of the copy and its slot in
 * the queue. A copy takes any free slot, not the next in turn: a caller may keep one fence while it starts other copies, and
 * would wait for itself when its turn came round.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "drivers/emu/emu.h"

/* Long waits sleep, the last microseconds spin: a device's latency is not a scheduler's. */
static void wait_until(uint64_t when_ns)
{
	const uint64_t spin_ns = 60000;

	for (uint64_t now = clock_ns(); now < when_ns; now = clock_ns()) {
		if (when_ns - now > spin_ns) {
			struct timespec t = { 0, 0 };

			t.tv_sec = (time_t)((when_ns - now - spin_ns) / 1000000000u);
			t.tv_nsec = (long)((when_ns - now - spin_ns) % 1000000000u);
			nanosleep(&t, NULL);
		} else {
			cpu_relax();
		}
	}
}

static int copy_now(struct emu *e, const struct uhmm_seg *segs, unsigned nr, bool out)
{
	uint64_t began = e->latency || e->bandwidth ? clock_ns() : 0, bytes = 0;

	if (emu_take_failure(out ? &e->copy_out_failures : &e->copy_in_failures))
		return -EIO;
	for (unsigned i = 0; i < nr; i++) {
		char *mine = e->memory + segs[i].offset;

		if (segs[i].offset + segs[i].bytes > e->size)
			return -EINVAL;
		if (out) {
			uhmm_copy(segs[i].host, mine, segs[i].bytes);
		} else {
			emu_touch(e, segs[i].offset, segs[i].bytes);
			uhmm_copy_away(mine, segs[i].host, segs[i].bytes);
		}
		bytes += segs[i].bytes;
	}
	if (began) {
		double ns = (double)e->latency + (e->bandwidth ? (double)bytes * 1e9 / (double)e->bandwidth : 0);

		wait_until(began + (uint64_t)ns);
	}
	return 0;
}

/* ---- async=on ---- */

static struct emu_copy *slot_of(struct emu *e, uint64_t fence) { return &e->queue[fence % EMU_QUEUE]; }

static struct emu_copy *free_slot(struct emu *e)
{
	for (unsigned i = 0; i < EMU_QUEUE; i++)
		if (!e->queue[i].fence)
			return &e->queue[i];
	return NULL;
}

/* The copy that was posted first of those not done. */
static struct emu_copy *first_to_do(struct emu *e)
{
	struct emu_copy *first = NULL;

	for (unsigned i = 0; i < EMU_QUEUE; i++) {
		struct emu_copy *c = &e->queue[i];

		if (c->fence && !c->done && (!first || c->fence < first->fence))
			first = c;
	}
	return first;
}

static int post(struct emu *e, const struct uhmm_seg *segs, unsigned nr, bool out, uint64_t *ret_fence)
{
	struct emu_copy *c;

	if (nr > EMU_SEGS)
		return -EINVAL;
	pthread_mutex_lock(&e->lock);
	while (!(c = free_slot(e)))
		pthread_cond_wait(&e->finished, &e->lock);
	c->fence = ++e->last_copy * EMU_QUEUE + (uint64_t)(c - e->queue);
	memcpy(c->segs, segs, nr * sizeof(*segs));
	c->nr = nr;
	c->out = out;
	c->done = 0;
	*ret_fence = c->fence;
	pthread_cond_signal(&e->posted);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

int emu_fence_wait(void *ctx, uint64_t fence)
{
	struct emu *e = ctx;
	struct emu_copy *c = slot_of(e, fence);
	int r;

	pthread_mutex_lock(&e->lock);
	while (!c->done)
		pthread_cond_wait(&e->finished, &e->lock);
	r = c->result;
	c->fence = 0;
	pthread_cond_broadcast(&e->finished);
	pthread_mutex_unlock(&e->lock);
	return r;
}

static void *engine(void *arg)
{
	struct emu *e = arg;

	pthread_mutex_lock(&e->lock);
	for (;;) {
		struct emu_copy *c = first_to_do(e);
		int r;

		if (!c) {
			if (e->stop)
				break;
			pthread_cond_wait(&e->posted, &e->lock);
			continue;
		}
		pthread_mutex_unlock(&e->lock);
		r = copy_now(e, c->segs, c->nr, c->out);
		pthread_mutex_lock(&e->lock);
		c->result = r;
		c->done = 1;
		pthread_cond_broadcast(&e->finished);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

int emu_engine_start(struct emu *e)
{
	sigset_t all, before;
	int err;

	for (unsigned i = 0; i < EMU_QUEUE; i++)
		e->queue[i].segs = e->seg_memory + i * EMU_SEGS;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->posted, NULL);
	pthread_cond_init(&e->finished, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&e->engine, NULL, engine, e);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	e->engine_runs = !err;
	return -err;
}

void emu_engine_stop(struct emu *e)
{
	if (!e->engine_runs)
		return;
	pthread_mutex_lock(&e->lock);
	e->stop = 1;
	pthread_cond_signal(&e->posted);
	pthread_mutex_unlock(&e->lock);
	pthread_join(e->engine, NULL);
}

/* ---- the callbacks ---- */

int emu_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct emu *e = ctx;

	return e->async ? post(e, segs, nr, false, ret_fence) : copy_now(e, segs, nr, false);
}

int emu_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct emu *e = ctx;

	return e->async ? post(e, segs, nr, true, ret_fence) : copy_now(e, segs, nr, true);
}
