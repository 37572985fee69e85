/* SPDX-License-Identifier: MIT */
/*
 * The threads that read messages. They wait in epoll, each with a descriptor of its own and EPOLLEXCLUSIVE, so that a
 * message wakes one of them; the order in which they were added is the order in which they are tried (line.c).
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

#define MAX_IN_A_ROW 16 /* touches, before anything else is looked for */

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

enum got { GOT_NOTHING, GOT_EVENT, GOT_FAULT };

/* A fault is in @ret. */
static enum got read_message(struct reader *rd, struct uffd_message *ret)
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
	if (r <= 0)
		return GOT_NOTHING;
	atomic_store_explicit(&rd->reads, atomic_load_explicit(&rd->reads, memory_order_relaxed) + 1, memory_order_relaxed);
	return ret->kind == UFFD_FAULT ? GOT_FAULT : GOT_EVENT;
}

/* A full pipe means thousands of waiting threads: this one is woken and asks again. */
static void hand_over(struct faults *f, const struct uffd_message *msg)
{
	if (write(f->handed[1], msg, sizeof(*msg)) != sizeof(*msg))
		uffd_wake(&f->m->sp->uffd, msg->start, PAGE_BYTES);
}

/* Who reads it serves it, but for the pump. */
static void take(struct reader *rd, const struct uffd_message *msg)
{
	if (rd->pump) {
		hand_over(rd->faults, msg);
		return;
	}
	atomic_store_explicit(&rd->mover.serving, true, memory_order_relaxed);
	fault_handle(rd, msg);
	mover_served(&rd->mover);
}

/* Who lets others doze looks once more before it waits, and they for it. */
static void serve_on(struct reader *rd)
{
	struct uffd_message msg;

	for (unsigned n = 0; n < MAX_IN_A_ROW && line_has_dozers(rd->faults); n++) {
		if (read_message(rd, &msg) != GOT_FAULT)
			return;
		take(rd, &msg);
	}
}

static void woken(struct reader *rd)
{
	bool another = line_another_comes(rd);
	struct uffd_message msg;
	enum got got = read_message(rd, &msg);

	line_was_woken(rd, got == GOT_EVENT || (got == GOT_FAULT && !another));
	if (got != GOT_FAULT)
		return;
	take(rd, &msg);
	if (!rd->pump)
		serve_on(rd);
}

/* Whatever else comes. */
static void look_up(struct reader *rd)
{
	struct uffd_message msg;
	enum got got;

	if (!line_is_missed(rd))
		return;
	got = read_message(rd, &msg);
	if (got != GOT_NOTHING)
		line_was_missed(rd);
	if (got == GOT_FAULT)
		take(rd, &msg);
}

static void serve(struct reader *rd, enum source from)
{
	struct uffd_message msg;

	if (from == FROM_UFFD)
		woken(rd);
	else if (read(rd->faults->handed[0], &msg, sizeof(msg)) == sizeof(msg))
		take(rd, &msg);
}

static void *reader_loop(void *arg)
{
	struct reader *rd = arg;

	if (rd->pump)
		atomic_store(&rd->faults->tid, gettid());
	for (;;) {
		struct epoll_event ev;
		int n;

		atomic_store_explicit(&rd->waits, true, memory_order_relaxed);
		n = epoll_wait(rd->epoll, &ev, 1, reader_dozes(rd) ? DOZE_MS : -1);
		atomic_store_explicit(&rd->waits, false, memory_order_relaxed);
		if (n < 0 && errno != EINTR)
			log_say(UHMM_LOG_ERROR, "a fault thread cannot wait: %s", strerrordesc_np(errno));
		if (reader_dozes(rd))
			look_up(rd);
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

static int reader_init(struct reader *rd, struct faults *f, bool pump)
{
	int r;

	rd->faults = f;
	rd->pump = pump;
	doze_init(&rd->doze);
	rd->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (rd->epoll < 0)
		return -errno;
	r = line_up(rd);
	if (!r && !pump)
		r = reader_watch(rd, f->handed[0], FROM_HANDED, EPOLLEXCLUSIVE);
	if (!r)
		r = reader_watch(rd, f->stop, FROM_STOP, 0);
	if (!r)
		r = mover_init(&rd->mover, f->m);
	if (r)
		close(rd->epoll);
	return r;
}

static void reader_fini(struct reader *rd)
{
	if (rd->runs)
		thread_join(&rd->thread);
	rd->runs = false;
	mover_fini(&rd->mover);
	close(rd->epoll);
}

/* The pump lines up last, and so is asked last. */
static int start_readers(struct faults *f, unsigned nr)
{
	int r = 0;

	atomic_store(&f->nr_awake, nr);
	while (!r && f->nr_readers < nr + 1) {
		r = reader_init(&f->reader[f->nr_readers], f, f->nr_readers == nr);
		if (!r)
			f->nr_readers++;
	}
	/* they look at each other, so all are there before the first one runs */
	for (unsigned i = 0; !r && i < f->nr_readers; i++) {
		struct reader *rd = &f->reader[i];

		r = thread_start(&rd->thread, rd->pump ? "uhmm-pump" : "uhmm-fault", reader_loop, rd);
		rd->runs = !r;
	}
	return r;
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
	if (!r)
		r = start_readers(f, nr_readers);
	if (!r) {
		f->pump = &f->reader[nr_readers];
		r = children_init(&f->children, f);
	}
	if (!r && f->children.tick >= 0)
		r = reader_watch(f->pump, f->children.tick, FROM_TICK, 0);
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
		reader_fini(&f->reader[i]);
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
