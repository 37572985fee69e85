/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_SPACE_H
#define TESTS_UNIT_SPACE_H

/* A space of its own for a test program, and a thread that reads its userfaultfd, so that nobody waits for ever. */

#include "unit.h"

#include <poll.h>
#include <unistd.h>

#include "base/err.h"
#include "os/fail.h"
#include "os/map.h"
#include "os/pagemap.h"
#include "space/space.h"

static struct space sp;

static struct {
	pthread_t thread;
	atomic_bool stop, pause, paused;
	_Atomic unsigned nr_removes, nr_faults;
} drain;

/* Reads everything, and fills what is touched with zeros. */
static void *drain_run(void *arg)
{
	struct pollfd p = { .fd = sp.uffd.fd, .events = POLLIN };

	(void)arg;
	while (!atomic_load(&drain.stop)) {
		struct uffd_message m;

		while (atomic_load(&drain.pause) && !atomic_load(&drain.stop)) {
			atomic_store(&drain.paused, true);
			poll(NULL, 0, 1);
		}
		atomic_store(&drain.paused, false);
		poll(&p, 1, 1);
		while (uffd_read(&sp.uffd, &m) == 1) {
			if (m.kind == UFFD_FORK) { /* a child of a case here touches nothing that is away */
				close(m.fd);
				continue;
			}
			atomic_fetch_add(m.kind == UFFD_FAULT ? &drain.nr_faults : &drain.nr_removes, 1);
			/* an event may wait behind the fault, and only this thread reads it: who touched asks again */
			if (m.kind == UFFD_FAULT && uffd_zeropage(&sp.uffd, m.start, PAGE_BYTES, 0))
				uffd_wake(&sp.uffd, m.start, PAGE_BYTES);
		}
	}
	return NULL;
}

/* Nobody reads from here to there: events stay unread, and who causes one or touches what is away waits. */
static inline void drain_pause(void)
{
	atomic_store(&drain.pause, true);
	while (!atomic_load(&drain.paused))
		sched_yield();
}

static inline void drain_resume(void)
{
	atomic_store(&drain.pause, false);
	while (atomic_load(&drain.paused))
		sched_yield();
}

/* Return: 0, or what space_init() says: then the program cannot run. */
static inline int space_start(void)
{
	int r = uffd_try_open(&sp.uffd, UFFD_FULL, 0);

	if (r)
		return r;
	uffd_close(&sp.uffd);
	/* its fork() holds locks of its run time, which the thread that is to read the event may need */
	if (THREAD_SANITIZER)
		fail_set(NULL, "fork_event");
	r = space_init(&sp, UFFD_FULL);
	if (THREAD_SANITIZER)
		fail_set(NULL, NULL);
	if (!r)
		drain.thread = spawn(drain_run, NULL);
	return r;
}

static inline void space_end(void)
{
	atomic_store(&drain.stop, true);
	pthread_join(drain.thread, NULL);
	space_fini(&sp);
}

static inline int bits_at(uint64_t addr, uint64_t bytes)
{
	return pagemap_uniform(sp.pagemap_fd, addr, addr + bytes);
}

#endif
