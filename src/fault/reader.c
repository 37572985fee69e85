/* SPDX-License-Identifier: MIT */
/*
 * The threads that read messages. They wait in epoll, each with a descriptor of its own and EPOLLEXCLUSIVE, so that a
 * message wakes one of them; the order in which they were added is the order in which they are tried.
 *
 * The last one is the pump. It gets a message only when all others are busy - perhaps with a device that takes a second -
 * and it never gets busy itself: events it applies, faults it hands to the others through a pipe. So whoever unmaps
 * memory is never held up by a slow device, and a fault thread may do what raises an event.
 *
 * It alone reads the messages of children of fork (children.c), in the same way.
 *
 * A message is read inside the gate, on the side of events, because only the read tells what it is, and an event must be
 * applied before anybody moves a page again: docs/locking.md, "Events and moves".
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "fault/fault.h"

/* What an epoll entry says; beyond these it is the address of a child, of which the pump reads. */
enum source { FROM_UFFD, FROM_HANDED, FROM_STOP, FROM_TICK, NR_SOURCES };

static void count_event(struct counters *n, enum uffd_kind kind)
{
	if (kind == UFFD_FORK)
		return;
	counter_add(kind == UFFD_REMOVE ? &n->events_remove : kind == UFFD_UNMAP ? &n->events_unmap : &n->events_remap, 1);
}

/* The program's threads need not have the descriptors that ours have: whoever opened the space may have parted with theirs. */
static bool has_spares(struct faults *f)
{
	pid_t tid = atomic_load(&f->tid);

	return !tid || thread_shares_descriptors(tid);
}

void faults_refill_spares(struct faults *f)
{
	for (unsigned i = 0; i < NR_SPARES; i++) {
		int none = -1, fd;

		if (atomic_load(&f->spare[i]) >= 0)
			continue;
		if (!has_spares(f))
			return;
		fd = eventfd(0, EFD_CLOEXEC);
		if (fd >= 0 && !atomic_compare_exchange_strong(&f->spare[i], &none, fd))
			close(fd);
	}
}

bool faults_give_up_spare(struct faults *f)
{
	if (!has_spares(f))
		return false;
	for (unsigned i = 0; i < NR_SPARES; i++) {
		int fd = atomic_exchange(&f->spare[i], -1);

		if (fd < 0)
			continue;
		close(fd);
		return true;
	}
	return false;
}

static bool no_descriptor(int r)
{
	return r == -EMFILE || r == -ENFILE;
}

/* A fork event comes with a descriptor. Where the program has used up all it may have, ours make room. */
int faults_read(struct faults *f, const struct uffd *u, struct uffd_message *ret)
{
	int r = uffd_read(u, ret);

	while (no_descriptor(r) && faults_give_up_spare(f))
		r = uffd_read(u, ret);
	if (no_descriptor(r)) {
		log_once(UHMM_LOG_ERROR, "a fork waits until the program closes a file: %s", strerrordesc_np(-r));
		sched_yield();
		return 0;
	}
	return r;
}

/* Return: there was a fault, in @ret. */
static bool read_message(struct reader *rd, struct uffd_message *ret)
{
	struct space *sp = rd->faults->m->sp;
	int r;

	gate_enter(&sp->gate, GATE_EVENTS);
	r = faults_read(rd->faults, &sp->uffd, ret);
	if (r > 0 && ret->kind != UFFD_FAULT) {
		count_event(&sp->counters, ret->kind);
		event_apply(rd, ret);
	}
	ret->seq = atomic_load(&sp->event_seq);
	gate_leave(&sp->gate, GATE_EVENTS);
	if (r < 0)
		log_say(UHMM_LOG_ERROR, "the userfaultfd cannot be read: %s", strerrordesc_np(-r));
	return r > 0 && ret->kind == UFFD_FAULT;
}

/* A full pipe means thousands of waiting threads: this one is woken and asks again. */
static void hand_over(struct faults *f, const struct uffd_message *msg)
{
	if (write(f->handed[1], msg, sizeof(*msg)) != sizeof(*msg))
		uffd_wake(&f->m->sp->uffd, msg->start, PAGE_BYTES);
}

static void serve(struct reader *rd, enum source from)
{
	struct faults *f = rd->faults;
	struct uffd_message msg;

	if (from == FROM_HANDED) {
		if (read(f->handed[0], &msg, sizeof(msg)) == sizeof(msg))
			fault_handle(rd, &msg);
	} else if (read_message(rd, &msg)) {
		if (rd->pump)
			hand_over(f, &msg);
		else
			fault_handle(rd, &msg);
	}
}

static void *reader_loop(void *arg)
{
	struct reader *rd = arg;

	if (rd->pump)
		atomic_store(&rd->faults->tid, gettid());
	for (;;) {
		struct epoll_event ev;
		int n = epoll_wait(rd->epoll, &ev, 1, -1);

		if (n < 0 && errno != EINTR)
			log_say(UHMM_LOG_ERROR, "a fault thread cannot wait: %s", strerrordesc_np(errno));
		if (n <= 0)
			continue;
		if (ev.data.u64 == FROM_STOP)
			return NULL;
		if (ev.data.u64 == FROM_TICK)
			children_tick(&rd->faults->children);
		else if (ev.data.u64 < NR_SOURCES)
			serve(rd, (enum source)ev.data.u64);
		else
			(void)child_read(rd, ev.data.ptr, true);
	}
}

static int watch(struct reader *rd, int fd, enum source from, unsigned flags)
{
	struct epoll_event ev = { .events = EPOLLIN | flags, .data.u64 = from };

	return epoll_ctl(rd->epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int reader_start(struct reader *rd, struct faults *f, bool pump)
{
	int r;

	rd->faults = f;
	rd->pump = pump;
	rd->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (rd->epoll < 0)
		return -errno;
	r = watch(rd, f->m->sp->uffd.fd, FROM_UFFD, EPOLLEXCLUSIVE);
	if (!r && !pump)
		r = watch(rd, f->handed[0], FROM_HANDED, EPOLLEXCLUSIVE);
	if (!r)
		r = watch(rd, f->stop, FROM_STOP, 0);
	if (!r)
		r = mover_init(&rd->mover, f->m);
	if (!r) {
		r = thread_start(&rd->thread, pump ? "uhmm-pump" : "uhmm-fault", reader_loop, rd);
		if (r)
			mover_fini(&rd->mover);
	}
	if (r)
		close(rd->epoll);
	return r;
}

static void reader_stop(struct reader *rd)
{
	thread_join(&rd->thread);
	mover_fini(&rd->mover);
	close(rd->epoll);
}

int faults_init(struct faults *f, struct migrator *m, unsigned nr_readers)
{
	int r = 0;

	f->m = m;
	f->stop = f->handed[0] = f->handed[1] = -1;
	for (unsigned i = 0; i < NR_SPARES; i++)
		atomic_store(&f->spare[i], -1);
	faults_refill_spares(f);
	f->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->stop < 0 || pipe2(f->handed, O_CLOEXEC | O_NONBLOCK))
		r = -errno;
	/* the pump is added last, and so is asked last */
	while (!r && f->nr_readers < nr_readers + 1) {
		r = reader_start(&f->reader[f->nr_readers], f, f->nr_readers == nr_readers);
		if (!r)
			f->nr_readers++;
	}
	if (!r) {
		f->pump = &f->reader[nr_readers];
		r = children_init(&f->children, f);
	}
	if (!r && f->children.tick >= 0)
		r = watch(f->pump, f->children.tick, FROM_TICK, 0);
	if (r)
		faults_fini(f);
	return r;
}

void faults_fini(struct faults *f)
{
	uint64_t one = 1;

	children_fini(&f->children);
	if (f->stop >= 0 && write(f->stop, &one, sizeof(one)) < 0)
		log_say(UHMM_LOG_ERROR, "the fault threads cannot be told to end: %s", strerrordesc_np(errno));
	for (unsigned i = 0; i < f->nr_readers; i++)
		reader_stop(&f->reader[i]);
	f->nr_readers = 0;
	atomic_store(&f->tid, 0);
	if (f->stop >= 0)
		close(f->stop);
	if (f->handed[0] >= 0) {
		close(f->handed[0]);
		close(f->handed[1]);
	}
	while (faults_give_up_spare(f))
		;
}
