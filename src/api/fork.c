/* SPDX-License-Identifier: MIT */
/*
 * fork(2): a child shares the parent's pages, but not what is on a device - it would read zeros there.
 *
 * With fork events (src/fault/children.h) nothing comes home for a fork. The child is given what it touches, and then the rest,
 * by copies; fork() returns in the parent when the child has all, or has called exec or ended: so no child depends on a
 * parent that may end. Two things come home nevertheless, before: what a device has exclusively, because fork is a touch of
 * it; and memory that the child must find wiped (MADV_WIPEONFORK), which only the kernel can tell it.
 *
 * Without - they need a privilege - everything comes home before the fork, and nothing leaves until it is done. A folio is
 * freed when its bytes are in the program, so all is home when no device has a folio: not when a walk has found none, for a
 * fault thread may have some in its hands, and mremap carries others past the walker. What a failing device keeps is not
 * inherited at all: the child gets SIGSEGV there, never zeros.
 *
 * vfork and posix_spawn (system, popen) share the address space, run no handlers, and cost nothing. A process that is made by
 * clone(2) or _Fork(3) runs no handlers either: with fork events it is served in the same way, but nobody waits until it has
 * all; without, it reads zeros where pages were away.
 *
 * The child has none of our threads. It may open a space of its own: after it has been given everything - or, where there is a
 * limit for parent and child (UHMM_POLICY_CHILDREN), before, to make room for what comes (src/fault/pace.h). For that the parent
 * makes some room before the fork, and a fork in the child waits until all has come.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/err.h"
#include "base/log.h"
#include "os/map.h"
#include "os/procmap.h"
#include "os/thread.h"

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

void fork_lock(void)
{
	pthread_mutex_lock(&one_at_a_time);
}

void fork_unlock(void)
{
	pthread_mutex_unlock(&one_at_a_time);
}

#define EVERYTHING (UINT64_C(1) << TABLE_ADDRESS_BITS)

/* What the page says when it is in nobody's claim; or in another one, which was begun since. */
static struct entry peek_settled(struct table *t, uint64_t at)
{
	struct entry first = table_peek(t, at), e = first;

	while (entry_state(e) == ENTRY_MIGRATING && entry_token(e) == entry_token(first)) {
		sched_yield();
		e = table_peek(t, at);
	}
	return e;
}

/* What could not come home is hidden from the child, or shown to it again. */
static int visit_hide(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct table *t = ctx;

	(void)b;
	for (uint64_t at = addr; at < addr + BLOCK_BYTES; at += PAGE_BYTES)
		if (entry_state(peek_settled(t, at)) == ENTRY_DEVICE)
			(void)map_inherit(at, PAGE_BYTES, false);
	return 0;
}

static int visit_show(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct table *t = ctx;

	(void)b;
	for (uint64_t at = addr; at < addr + BLOCK_BYTES; at += PAGE_BYTES)
		if (entry_state(table_peek(t, at)) == ENTRY_DEVICE)
			(void)map_inherit(at, PAGE_BYTES, true);
	return 0;
}

/* ---- with fork events ---- */

static void home_exclusive(struct uhmm_space *s)
{
	for (unsigned i = 1; i < MAX_DEVICES; i++) {
		struct uhmm_device *d = device_handle(s, i);
		struct tally t = { 0 };

		while (d && d->companion_of && buddy_used_bytes(&d->dev.buddy) && !t.error)
			jobs_run(&s->jobs, JOB_TO_SYSTEM, 0, EVERYTHING, &d->dev, true, &t);
	}
}

static void home_wiped(void *ctx, uint64_t start, uint64_t end)
{
	struct uhmm_space *s = ctx;
	struct tally t;

	jobs_run(&s->jobs, JOB_TO_SYSTEM, start, end, NULL, true, &t);
}

/* This wants a descriptor. Without: what shall be wiped may be anywhere. */
static void home_all_wiped(struct uhmm_space *s)
{
	int r = procmap_for_wiped(home_wiped, s);

	if ((r == -EMFILE || r == -ENFILE) && faults_give_up_spare(&s->faults))
		r = procmap_for_wiped(home_wiped, s);
	if (r)
		home_wiped(s, 0, EVERYTHING);
	faults_refill_spares(&s->faults);
}

/* A policy that keeps this process small, where one will keep the child so too; or NULL. */
static struct policy *policy_of_both(struct uhmm_space *s)
{
	struct policy *p = s->policy;

	return p && atomic_load(&p->running) && p->flags & UHMM_POLICY_CHILDREN ? p : NULL;
}

/*
 * What is away will not fit into the child, so room is made for it to live in: if the last child has stayed, for one that calls
 * exec needs none. Context: the workers are not paused yet.
 */
static void make_room_for_child(struct uhmm_space *s)
{
	struct policy *p = policy_of_both(s);

	children_await(&s->faults.children);
	if (p && heirs_room(p) < migrator_used_bytes(&s->migrator) && !atomic_load(&s->faults.children.last_was_short))
		heirs_spare(p);
}

static void before_served_fork(struct uhmm_space *s)
{
	children_await(&s->faults.children); /* or this child would inherit the descriptor that watches another */
	home_exclusive(s);
	if (migrator_used_bytes(&s->migrator))
		home_all_wiped(s);
	/* at once it may have what fits below the limit */
	pace_begin(&s->faults.children.pace, policy_of_both(s) ? heirs_room(s->policy) : PACE_ALL);
}

/* The event has been read when fork returns, but perhaps not yet been applied. */
static void after_served_fork(struct uhmm_space *s)
{
	gate_await_events(&s->sp.gate);
	children_await(&s->faults.children);
	pace_end(&s->faults.children.pace);
	if (policy_of_both(s))
		heirs_spare_end(s->policy);
}

/* Unless the parent waits for room, and this process is about to make some. */
void fork_await_settled(void)
{
	for (unsigned n = 0; pace_is_served() && !pace_is_held(); n++)
		thread_pause(n);
	if (!pace_is_served())
		pace_forget();
}

/* A child that watches memory itself while it is being given the rest has none of its own before it has all. */
static void await_the_rest(void)
{
	for (unsigned n = 0; pace_was_bounded(); n++)
		thread_pause(n);
}

int uhmm_fork_held(void)
{
	return pace_is_held();
}

void uhmm_fork_take_all(void)
{
	pace_take_all();
}

/* ---- without ---- */

static void bring_home(struct uhmm_space *s)
{
	struct tally t;

	do {
		jobs_run(&s->jobs, JOB_TO_SYSTEM, 0, EVERYTHING, NULL, true, &t);
	} while (!t.error && manuals_away(&s->manuals));
	if (!t.error)
		return;
	log_say(UHMM_LOG_ERROR, "fork: a device could not give back its pages (%s); the child will not have them",
		strerrordesc_np(-t.error));
	(void)table_walk(&s->sp.table, 0, EVERYTHING, visit_hide, &s->sp.table);
}

/* ---- the handlers ---- */

static void before_fork(void)
{
	struct uhmm_space *s;

	await_the_rest();
	fork_lock();
	s = space_current();
	if (!s)
		return;
	if (s->sp.uffd.fork_events)
		make_room_for_child(s);
	manuals_pause(&s->manuals);
	if (s->sp.uffd.fork_events)
		before_served_fork(s);
	else
		bring_home(s);
	counter_add(&s->sp.counters.forks, 1);
}

static void in_parent(void)
{
	struct uhmm_space *s = space_current();

	if (s && !s->sp.uffd.fork_events)
		(void)table_walk(&s->sp.table, 0, EVERYTHING, visit_show, &s->sp.table);
	if (s)
		jobs_resume(&s->jobs);
	if (s && s->sp.uffd.fork_events)
		after_served_fork(s);
	fork_unlock();
}

/* The space's own memory is not here: nothing of it may be touched. */
static void in_child(void)
{
	pace_born();
	space_forget();
	fork_unlock();
}

static void add_handlers(void)
{
	(void)pthread_atfork(before_fork, in_parent, in_child);
}

void fork_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, add_handlers);
}
