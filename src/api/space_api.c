/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing. The order matters: fault threads run before anything is armed, and end after everything is home;
 * workers run on top of them.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/err.h"
#include "base/log.h"
#include "device/device.h"
#include "os/fail.h"
#include "os/map.h"
#include "os/sysinfo.h"
#include "space/vma.h"

#define DEFAULT_POOL_BYTES (UINT64_C(256) << 20)
#define DEFAULT_THREADS    4u
#define MAX_THREADS        64u

static struct uhmm_space *_Atomic current;
static _Atomic pid_t current_pid; /* a child made without fork handlers (clone) has a copy of current */

struct uhmm_space *space_current(void)
{
	return current_pid == getpid() ? atomic_load(&current) : NULL;
}

void space_forget(void)
{
	atomic_store(&current, NULL);
	map_own_forget_all();
}

int bad_argument(const char *call, const char *what)
{
	log_say(UHMM_LOG_ERROR, "%s(): %s", call, what);
	return -EINVAL;
}

int check_process(const char *call, const struct uhmm_space *space)
{
	if (space && space == space_current())
		return 0;
	log_say(UHMM_LOG_ERROR, "%s(): the space is not open in this process; a child of the process that opened it opens its own",
		call);
	return -EPERM;
}

#define STACK (UINT64_C(64) << 10) /* below and above the frame */

/* Not beyond its own mapping: a thread's stack may begin where other memory ends. */
void stack_around(struct uhmm_space *space, const void *frame, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t at = (uintptr_t)frame;
	struct mapping m;

	*ret_start = at - STACK;
	*ret_end = at + STACK;
	if (procmap_find(&space->sp.procmap, at, &m) || m.start > at)
		return;
	*ret_start = max_u64(*ret_start, m.start);
	*ret_end = min_u64(*ret_end, m.end);
}

static int bad_option(const char *what, uint64_t value, const char *range)
{
	log_say(UHMM_LOG_ERROR, "uhmm_open(): %s is %llu; it must be %s", what, (unsigned long long)value, range);
	return -EINVAL;
}

/* @ret: every field valid, defaults filled in. */
static int read_options(const struct uhmm_space_opts *opts, struct uhmm_space_opts *ret)
{
	unsigned cpus = thread_cpus() < DEFAULT_THREADS ? thread_cpus() : DEFAULT_THREADS;
	size_t known = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	if (opts && opts->sz < sizeof(size_t))
		return bad_option("sz", opts->sz, "sizeof(struct uhmm_space_opts)");
	if (opts) {
		for (size_t i = known; i < opts->sz; i++) {
			if (!((const char *)opts)[i])
				continue;
			log_say(UHMM_LOG_ERROR, "uhmm_open(): the options use a field that this version (%s) does not know",
				uhmm_version());
			return -E2BIG;
		}
		memcpy(ret, opts, opts->sz < known ? opts->sz : known);
	}
	if (ret->fault_threads > MAX_THREADS)
		return bad_option("fault_threads", ret->fault_threads, "1 to 64, or 0 for the default");
	if (ret->copy_threads > MAX_THREADS)
		return bad_option("copy_threads", ret->copy_threads, "1 to 64, or 0 for the default");
	if (ret->pool_bytes > UINT64_C(1) << 40)
		return bad_option("pool_bytes", ret->pool_bytes, "at most 1 TiB");
	if (ret->flags & ~UHMM_SPACE_USER_MODE_ONLY)
		return bad_option("flags", ret->flags, "0 or UHMM_SPACE_USER_MODE_ONLY");
	if (ret->reserved)
		return bad_option("reserved", ret->reserved, "0");

	if (!ret->fault_threads)
		ret->fault_threads = cpus;
	if (!ret->copy_threads)
		ret->copy_threads = cpus;
	if (!ret->pool_bytes)
		ret->pool_bytes = min_u64(DEFAULT_POOL_BYTES, sysinfo_ram_bytes() / 16);
	return 0;
}

static int start(struct uhmm_space *s, const struct uhmm_space_opts *o)
{
	int r;

	lock_init(&s->lock, LOCK_REGISTRY);
	lock_init(&s->sames_lock, LOCK_FOLIO);
	s->pool_bytes = o->pool_bytes;
	r = space_init(&s->sp, o->flags & UHMM_SPACE_USER_MODE_ONLY ? UFFD_FULL_OR_USER : UFFD_FULL);
	if (r)
		return r;
	r = migrator_init(&s->migrator, &s->sp, o->pool_bytes);
	if (r)
		goto fini_space;
	mirror_init(&s->mirror, &s->migrator, &s->jobs);
	r = faults_init(&s->faults, &s->migrator, o->fault_threads);
	if (r)
		goto fini_migrator;
	r = manuals_init(&s->manuals, &s->migrator, &s->jobs);
	if (!r)
		r = works_init(&s->works, &s->manuals);
	if (!r)
		r = jobs_init(&s->jobs, &s->migrator, o->copy_threads);
	if (!r)
		return 0;
	works_fini(&s->works);
	manuals_fini(&s->manuals);
	faults_fini(&s->faults);
fini_migrator:
	migrator_fini(&s->migrator);
fini_space:
	space_fini(&s->sp);
	log_say(UHMM_LOG_ERROR, "uhmm_open(): the threads and their memory cannot be had: %s", strerrordesc_np(-r));
	return r;
}

static int open_locked(const struct uhmm_space_opts *o, struct uhmm_space **ret_space)
{
	struct uhmm_space *s;
	int r;

	if (atomic_load(&current) && !space_current())
		space_forget(); /* a child made without fork handlers */
	if (space_current()) {
		log_say(UHMM_LOG_ERROR, "uhmm_open(): this process has an open space already; there is one for all of it");
		return -EBUSY;
	}
	s = map_own(sizeof(*s), 0);
	if (!s) {
		log_say(UHMM_LOG_ERROR, "uhmm_open(): there is no memory for the space");
		return -ENOMEM;
	}
	r = start(s, o);
	if (r) {
		map_own_free(s, sizeof(*s));
		return r;
	}
	current_pid = getpid();
	atomic_store(&current, s);
	*ret_space = s;
	return 0;
}

int uhmm_open(const struct uhmm_space_opts *opts, struct uhmm_space **ret_space)
{
	struct uhmm_space_opts o;
	int r;

	fail_init();
	drivers_init();
	if (!ret_space)
		return bad_argument("uhmm_open", "there is no place for the space");
	r = read_options(opts, &o);
	if (r)
		return r;
	fork_init();
	fork_await_settled();
	fork_lock();
	r = open_locked(&o, ret_space);
	fork_unlock();
	return r;
}

int uhmm_close(struct uhmm_space *space)
{
	int r;

	if (!space)
		return 0;
	r = check_process("uhmm_close", space);
	if (r)
		return r;
	if (atomic_load(&space->sp.notifiers.nr)) {
		log_say(UHMM_LOG_ERROR, "uhmm_close(): %u notifiers have not been removed", atomic_load(&space->sp.notifiers.nr));
		return -EBUSY;
	}
	if (atomic_load(&space->manuals.nr_open)) {
		log_say(UHMM_LOG_ERROR, "uhmm_close(): %u migrations have not been finalized, or works released", atomic_load(&space->manuals.nr_open));
		return -EBUSY;
	}
	(void)uhmm_policy_stop(space);
	jobs_wait_detached(&space->jobs, NULL);
	for (unsigned i = 1; i < MAX_DEVICES; i++) {
		struct uhmm_device *dev = device_handle(space, i);

		r = dev ? uhmm_device_close(dev) : 0;
		if (r)
			return r;
	}
	fork_lock();
	atomic_store(&current, NULL);
	jobs_fini(&space->jobs);
	vma_disarm_all(&space->sp);
	/* a child of _Fork() may be about to be born, and would find nobody who serves it: those after it inherit no watch */
	while (uffd_held_up(&space->sp.uffd, space->sp.canary))
		sched_yield();
	gate_await_events(&space->sp.gate);
	/* nothing is away: faults that still come are touches of holes, which the kernel fills once nobody watches */
	faults_fini(&space->faults);
	if (space->policy) {
		heat_fini(&space->policy->heat);
		map_own_free(space->policy, sizeof(*space->policy));
	}
	mirror_fini(&space->mirror);
	works_fini(&space->works);
	manuals_fini(&space->manuals);
	migrator_fini(&space->migrator);
	space_fini(&space->sp);
	lock_fini(&space->sames_lock);
	lock_fini(&space->lock);
	map_own_free(space, sizeof(*space));
	fork_unlock();
	return 0;
}
