/* SPDX-License-Identifier: MIT */
/*
 * One ring for one copy at a time: whoever has the slot has the ring, so it needs no lock. At most RING_DEPTH are in flight;
 * a short one goes again with the rest of it, an interrupted one as it is. After the first error nothing new is started, and
 * what is in flight is waited for: the memory is the caller's again when the copy has ended.
 *
 * A program may forbid itself io_uring after the device was opened (seccomp). Then the ring is dead: what it has begun is
 * waited for, and everything else is done by plain reads and writes.
 */
#include <errno.h>
#include <liburing.h>
#include <sched.h>

#include "base/err.h"
#include "drivers/file/file.h"

#define RING_DEPTH 64u

struct ring {
	struct io_uring uring;
	int fd;
	struct io *ios;
	unsigned nr, next, in_flight;
	unsigned unsubmitted; /* of in_flight: the kernel has not seen them */
	bool out, dead;
	int error;
};

_Static_assert(sizeof(struct ring) <= RING_BYTES, "a slot has no room for its ring");

int ring_open(struct ring *ring)
{
	int r = io_uring_queue_init(RING_DEPTH, &ring->uring, 0);

	ring->dead = false;
	if (!r)
		(void)io_uring_ring_dontfork(&ring->uring);
	return r;
}

void ring_close(struct ring *ring) { io_uring_queue_exit(&ring->uring); }

static void queue(struct ring *ring, unsigned i)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
	struct io *io = &ring->ios[i];

	uhmm_assert(sqe); /* as many as may be in flight, and the kernel takes all of them at each submit */
	if (ring->out)
		io_uring_prep_read(sqe, ring->fd, io->host + io->done, io->bytes - io->done, io->offset + io->done);
	else
		io_uring_prep_write(sqe, ring->fd, io->host + io->done, io->bytes - io->done, io->offset + io->done);
	io_uring_sqe_set_data64(sqe, i);
	ring->in_flight++;
	ring->unsubmitted++;
}

/* Hands what is queued to the kernel. Out of memory for a moment, it takes less than it was given: it is asked again. */
static void submit(struct ring *ring, unsigned wait)
{
	int n = io_uring_submit_and_wait(&ring->uring, wait);

	if (n > 0)
		ring->unsubmitted -= (unsigned)n;
	else if (n < 0 && n != -EINTR && n != -EAGAIN && n != -EBUSY && n != -ENOMEM)
		ring->dead = true;
}

static void fill(struct ring *ring)
{
	while (!ring->error && !ring->dead && ring->next < ring->nr && ring->in_flight < RING_DEPTH)
		queue(ring, ring->next++);
}

void ring_start(struct ring *ring, int fd, struct io *ios, unsigned nr, bool out)
{
	ring->fd = fd;
	ring->ios = ios;
	ring->nr = nr;
	ring->next = ring->in_flight = ring->unsubmitted = 0;
	ring->out = out;
	ring->error = 0;
	fill(ring);
	if (ring->in_flight)
		submit(ring, 0);
}

static void take_answers(struct ring *ring)
{
	struct io_uring_cqe *cqe;

	while (!io_uring_peek_cqe(&ring->uring, &cqe) && cqe) {
		unsigned i = (unsigned)io_uring_cqe_get_data64(cqe);
		int r = io_account(&ring->ios[i], cqe->res, ring->out);

		io_uring_cqe_seen(&ring->uring, cqe);
		ring->in_flight--;
		if (r && !ring->error)
			ring->error = r;
		if (!ring->error && !ring->dead && ring->ios[i].done < ring->ios[i].bytes)
			queue(ring, i);
	}
}

static int finish_dead(struct ring *ring)
{
	while (ring->in_flight > ring->unsubmitted) {
		take_answers(ring);
		sched_yield();
	}
	for (unsigned i = 0; i < ring->nr && !ring->error; i++)
		ring->error = plain_io(ring->fd, &ring->ios[i], ring->out);
	return ring->error;
}

int ring_finish(struct ring *ring)
{
	while (!ring->dead) {
		take_answers(ring);
		fill(ring);
		if (!ring->in_flight)
			return ring->error;
		submit(ring, ring->in_flight > ring->unsubmitted ? 1 : 0);
	}
	return finish_dead(ring);
}
