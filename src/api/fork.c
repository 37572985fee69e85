/* SPDX-License-Identifier: MIT */
/*
 * fork(2): a child shares the parent's pages, but not what is on a device - it would read zeros there. So everything
 * comes home before the fork, and nothing leaves until it is done. A folio is freed when its bytes are in the program, so
 * all is home when no device has a folio: not when a walk has found none, for a fault thread may have some in its hands, and
 * mremap carries others past the walker. What a failing device keeps is not inherited at all:
 * the child gets SIGSEGV there, never zeros.
 *
 * vfork and posix_spawn (system, popen) share the address space, run no handlers, and cost nothing.
 *
 * The child has none of our threads, and its memory is watched by nobody. It may open a space of its own.
 */
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/err.h"
#include "base/log.h"
#include "os/map.h"

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

static void before_fork(void)
{
	struct uhmm_space *s;
	struct tally t;

	fork_lock();
	s = space_current();
	if (!s)
		return;
	manuals_pause(&s->manuals);
	do {
		jobs_run(&s->jobs, JOB_TO_SYSTEM, 0, EVERYTHING, NULL, true, &t);
	} while (!t.error && manuals_away(&s->manuals));
	counter_add(&s->sp.counters.forks, 1);
	if (!t.error)
		return;
	log_say(UHMM_LOG_ERROR, "fork: a device could not give back its pages (%s); the child will not have them",
		strerrordesc_np(-t.error));
	(void)table_walk(&s->sp.table, 0, EVERYTHING, visit_hide, &s->sp.table);
}

static void in_parent(void)
{
	struct uhmm_space *s = space_current();

	if (s) {
		(void)table_walk(&s->sp.table, 0, EVERYTHING, visit_show, &s->sp.table);
		jobs_resume(&s->jobs);
	}
	fork_unlock();
}

/* The space's own memory is not here: nothing of it may be touched. */
static void in_child(void)
{
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
