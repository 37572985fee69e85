/* SPDX-License-Identifier: MIT */
/*
 * Readers wait for messages in a line, the pump last: the kernel wakes the first that waits. Who has been woken in vain too often
 * leaves the line and dozes (doze.h).
 *
 * One reader beside the pump stays awake. A message that comes while a reader leaves wakes nobody, or another one: whoever is
 * awake finds it when it waits next, and if that takes too long the dozers do.
 */
#include <errno.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "fault/fault.h"

int reader_watch(struct reader *rd, int fd, enum source from, unsigned flags)
{
	struct epoll_event ev = { .events = EPOLLIN | flags, .data.u64 = from };

	return epoll_ctl(rd->epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

int line_up(struct reader *rd)
{
	return reader_watch(rd, rd->faults->m->sp->uffd.fd, FROM_UFFD, EPOLLEXCLUSIVE);
}

static void leave(struct reader *rd)
{
	(void)epoll_ctl(rd->epoll, EPOLL_CTL_DEL, rd->faults->m->sp->uffd.fd, NULL);
}

/* ---- what the others do ---- */

/* COMES: it reads a message as soon as it has a CPU; until then it is the one that was not waiting. */
enum doing { WAITS = 1, COMES = 2, SERVES = 4, DOZES = 8 };

static enum doing doing(const struct reader *rd)
{
	if (reader_dozes(rd))
		return DOZES;
	if (atomic_load_explicit(&rd->mover.serving, memory_order_relaxed))
		return SERVES;
	return atomic_load_explicit(&rd->waits, memory_order_relaxed) ? WAITS : COMES;
}

/* Is another reader, not the pump, doing one of @what? */
static bool another(const struct reader *rd, unsigned what)
{
	struct faults *f = rd->faults;

	for (unsigned i = 0; i < f->nr_readers; i++) {
		struct reader *other = &f->reader[i];

		if (other != rd && !other->pump && doing(other) & what)
			return true;
	}
	return false;
}

bool line_another_comes(const struct reader *rd)
{
	return another(rd, COMES);
}

bool line_has_dozers(const struct faults *f)
{
	return atomic_load_explicit(&f->nr_dozing, memory_order_relaxed);
}

static uint64_t all_reads(struct faults *f)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < f->nr_readers; i++)
		n += atomic_load_explicit(&f->reader[i].reads, memory_order_relaxed);
	return n;
}

/* ---- leaving it, and coming back ---- */

static bool may_doze(struct reader *rd)
{
	_Atomic unsigned *awake = &rd->faults->nr_awake;
	unsigned n = atomic_load(awake);

	if (rd->pump)
		return true;
	while (n > 1)
		if (atomic_compare_exchange_weak(awake, &n, n - 1))
			return true;
	return false;
}

static void fall_asleep(struct reader *rd)
{
	if (!may_doze(rd)) {
		doze_init(&rd->doze);
		return;
	}
	leave(rd);
	doze_begin(&rd->doze, all_reads(rd->faults));
	rd->next_look_ns = clock_ns();
	atomic_store_explicit(&rd->dozing, true, memory_order_relaxed);
	atomic_fetch_add(&rd->faults->nr_dozing, 1);
}

/* Without memory for it, it goes on dozing. */
static void get_up(struct reader *rd)
{
	if (line_up(rd))
		return;
	atomic_store_explicit(&rd->dozing, false, memory_order_relaxed);
	atomic_fetch_sub(&rd->faults->nr_dozing, 1);
	if (rd->pump)
		return;
	atomic_fetch_add(&rd->faults->nr_awake, 1);
	atomic_store(&rd->faults->pump_is_early, true);
}

static void go_to_the_end(struct reader *rd)
{
	leave(rd);
	if (line_up(rd))
		fall_asleep(rd);
}

void line_was_woken(struct reader *rd, bool needed)
{
	if (doze_woken(&rd->doze, needed))
		fall_asleep(rd);
	else if (rd->pump && atomic_exchange(&rd->faults->pump_is_early, false))
		go_to_the_end(rd);
}

bool line_is_missed(struct reader *rd)
{
	enum doze_look look;
	bool waiting;

	if (clock_ns() < rd->next_look_ns)
		return false;
	rd->next_look_ns = clock_ns() + DOZE_MS * UINT64_C(1000000);
	/* both in one moment, and outside the gate: inside, who is busy has been waited for, and is not any more */
	waiting = uffd_has_message(&rd->faults->m->sp->uffd);
	look = doze_look(&rd->doze, all_reads(rd->faults), waiting && !another(rd, WAITS | COMES));
	if (look == DOZE_ENOUGH)
		get_up(rd);
	return look == DOZE_READ;
}

void line_was_missed(struct reader *rd)
{
	doze_needed(&rd->doze);
	get_up(rd);
}
