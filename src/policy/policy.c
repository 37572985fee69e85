/* SPDX-License-Identifier: MIT */
/*
 * Two threads and a door. The watcher looks how much the process holds; the evictor makes room; who wants more goes through the door.
 *
 * A look is one read of /proc/self/statm. How soon the next one is due follows from how far the limit is: nobody fills memory faster
 * than GROWTH_BYTES_NS. When the limit comes near, all mappings are armed, so that first touches are served by fault
 * threads; each of them asks at the door (admit). The policy says how much may come before it looks again; who finds nothing left
 * waits for the next look, and rings. While more is held than shall be, the evictor lets blocks leave, a few at a time, and has the
 * watcher look after each step. They are two threads because a step may take as long as a device does, and a program that maps new
 * memory meanwhile must be found out.
 *
 * The evictor is in room.c. What fault threads ask about pages that are away is in touch.c; what moves on between several devices, in
 * tiers.c; what is done for a child of fork, in heirs.c.
 *
 * No lock is taken: who waits holds nothing, and what he waits for needs workers and the pump only, never another fault
 * thread. When nothing can leave - everything is pinned, the devices are full - nobody waits for long: a little more is let through
 * each time that it has been tried, and counted, and the kernel decides as it does without us. Not all at once: a child of fork
 * that ends lets go what it shared, and nobody tells.
 *
 * Two who find room at the same time may together take more than there was, by a block each; the reserve is for that.
 */
#include "policy/policy.h"

#include <string.h>
#include <sys/auxv.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "os/tasks.h"
#include "policy/figures.h"
#include "space/vma.h"

#define GROWTH_BYTES_NS 8           /* clearing and filling memory: what two CPUs reach at most */
#define LOOK_MIN_NS     (1 * MS)
#define LOOK_ARMED_NS   (4 * MS)    /* growth asks at the door: only new mappings are found by looking. Sooner while more come */
#define LOOK_MAX_NS     (20 * MS)
#define LOOK_SHARE      10          /* the watcher sleeps so many times as long as it looks */
#define WAIT_NS         (20 * MS)   /* one sleep at the door */
#define WAIT_MAX_NS     (10000 * MS)
#define POOL_SHARE      16          /* of the limit for recycled THPs */

/* ---- the door ---- */

static bool take(_Atomic int64_t *room, uint64_t bytes)
{
	if (atomic_fetch_sub(room, (int64_t)bytes) >= (int64_t)bytes)
		return true;
	atomic_fetch_add(room, (int64_t)bytes);
	return false;
}

bool policy_take_room(struct policy *p, uint64_t bytes)
{
	return take(&p->room, bytes);
}

/* A recycled THP is memory that the process holds already. */
static bool may_grow(struct policy *p, uint64_t bytes, bool thp)
{
	return (thp && staging_pool_bytes(&p->m->staging)) || policy_take_room(p, bytes);
}

static void admit(void *ctx, uint64_t bytes, bool thp)
{
	struct policy *p = ctx;
	uint64_t began;
	uint32_t seen = atomic_load(&p->looked);

	if (may_grow(p, bytes, thp) || atomic_load(&p->stop) || atomic_load(&p->touching))
		return;
	began = clock_ns();
	add(&p->waits, 1);
	atomic_fetch_add(&p->nr_waiting, 1);
	for (;;) {
		ring(&p->bell);
		thread_wait_for(&p->looked, seen, WAIT_NS);
		seen = atomic_load(&p->looked);
		if (may_grow(p, bytes, thp) || atomic_load(&p->stop) || atomic_load(&p->touching))
			break;
		if ((atomic_load(&p->hopeless) && take(&p->mercy, bytes)) || clock_ns() - began > WAIT_MAX_NS) {
			add(&p->over, 1);
			break;
		}
	}
	atomic_fetch_sub(&p->nr_waiting, 1);
	add(&p->wait_ns, clock_ns() - began);
}

/* ---- looking ---- */

/* Where the marks are. The reserve is what may come unasked; between high and low there is a batch. */
static void set_limit(struct policy *p, uint64_t limit)
{
	uint64_t reserve, high, spare = get(&p->spare);

	limit = max_u64(limit > spare ? limit - spare : 0, UHMM_POLICY_LIMIT_MIN);
	reserve = min_u64(limit / 32 + 2 * BLOCK_BYTES, 64 * MIB);
	high = limit - reserve - min_u64(max_u64(limit / 64, 2 * BLOCK_BYTES), 64 * MIB);
	set(&p->limit, limit);
	set(&p->hard, limit - reserve);
	set(&p->high, high);
	set(&p->low, high - min_u64(max_u64(limit / 32, 2 * BLOCK_BYTES), 128 * MIB));
}

static void ask_for_limit(struct policy *p)
{
	struct uhmm_policy_stats now = { .sz = sizeof(now) };
	uint64_t limit = 0;

	if (p->round) {
		policy_stats(p, &now);
		limit = p->round(p->round_ctx, &now);
	}
	if (limit)
		p->limit_bytes = limit;
	set_limit(p, p->limit_bytes);
}

/* Tells who is at the door how much may come, and lets them look too. */
static void open_door(struct policy *p, uint64_t resident)
{
	atomic_store(&p->room, (int64_t)(get(&p->hard) - resident));
	atomic_fetch_add(&p->looked, 1);
	thread_wake(&p->looked, INT_MAX);
}

static uint64_t look(struct policy *p)
{
	uint64_t resident, mapped, high;

	if (watch_resident(p, &resident, &mapped)) {
		log_once(UHMM_LOG_ERROR, "/proc/self/statm cannot be read: the limit is not watched");
		resident = mapped = 0;
	}
	add(&p->rounds, 1);
	set(&p->resident, resident);
	if (resident > get(&p->resident_max))
		set(&p->resident_max, resident);
	ask_for_limit(p);
	open_door(p, resident);
	heirs_allow(p);

	high = get(&p->high);
	if (resident > high || atomic_load(&p->nr_waiting))
		ring(&p->short_of);
	/* from three quarters on the way to the mark: all that is mapped from now on comes through the door */
	if (!p->armed && resident > high - high / 4) {
		p->armed = true;
		p->seen_mapped = 0;
	}
	p->maps = mapped > p->seen_mapped;
	/* and when there is more than the door has let in: as much may have gone as has come */
	if (mapped != p->seen_mapped || (p->armed && resident > get(&p->hard))) {
		watch_mappings(p, p->armed);
		p->seen_mapped = mapped;
	}
	return resident;
}

static uint64_t until_next(const struct policy *p, uint64_t resident, uint64_t look_ns)
{
	uint64_t high = get(&p->high), far = resident < high ? (high - resident) / GROWTH_BYTES_NS : 0;
	uint64_t least = p->armed ? LOOK_ARMED_NS : LOOK_MIN_NS;

	if (p->armed && p->maps)
		least = min_u64(max_u64(look_ns * LOOK_SHARE, LOOK_MIN_NS), LOOK_ARMED_NS);
	return min_u64(max_u64(far, least), LOOK_MAX_NS);
}

static void *watch(void *arg)
{
	struct policy *p = arg;

	while (!atomic_load(&p->stop)) {
		uint32_t heard = atomic_load(&p->bell);
		uint64_t began = clock_ns(), resident = look(p);

		if (!atomic_load(&p->stop))
			thread_wait_for(&p->bell, heard, until_next(p, resident, clock_ns() - began));
	}
	return NULL;
}

uint64_t policy_look_again(struct policy *p)
{
	uint32_t seen = atomic_load(&p->looked);

	ring(&p->bell);
	while (atomic_load(&p->looked) == seen && !atomic_load(&p->stop))
		thread_wait_for(&p->looked, seen, WAIT_NS);
	return get(&p->resident);
}

/* ---- from outside ---- */

/* The first @nr of them. */
static void end_threads(struct policy *p, unsigned nr)
{
	atomic_store(&p->stop, true);
	ring(&p->bell);
	ring(&p->looked);
	ring(&p->short_of);
	ring(&p->never);
	if (nr > 1)
		thread_join(&p->evictor);
	if (nr)
		thread_join(&p->watcher);
}

static int start_threads(struct policy *p)
{
	int r = thread_start(&p->watcher, "uhmm-watch", watch, p);

	if (r)
		return r;
	r = thread_start(&p->evictor, "uhmm-evict", room_evictor, p);
	if (r)
		end_threads(p, 1);
	return r;
}

static void close_files(struct policy *p)
{
	rss_close(p->rss_fd);
	tasks_close(p->tasks_fd[0]);
	tasks_close(p->tasks_fd[1]);
}

int policy_start(struct policy *p, struct migrator *m, struct jobs *jobs, const struct uhmm_policy_opts *opts,
		 struct device *const *devices)
{
	int r;

	p->sp = m->sp;
	p->m = m;
	p->jobs = jobs;
	p->flags = opts->flags;
	p->round = opts->round;
	p->round_ctx = opts->round_ctx;
	p->limit_bytes = opts->limit_bytes;
	p->nr_devices = opts->nr_devices;
	memcpy(p->device, devices, opts->nr_devices * sizeof(*devices));
	p->main_stack = getauxval(AT_RANDOM);
	watch_libraries(p);
	staging_shrink_pool(&m->staging, opts->limit_bytes / POOL_SHARE);
	p->hooks = (struct space_policy){ .admit = admit, .wants_huge = watch_wants_huge, .reach = touch_reach, .met = touch_met,
					.arrived = touch_arrived, .ctx = p };
	p->rss_fd = p->tasks_fd[0] = p->tasks_fd[1] = -1;
	for (_Atomic uint64_t *n = &p->resident; n <= &p->full; n++)
		set(n, 0);
	set(&p->spare, 0);
	p->armed = false;
	p->seen_mapped = p->seen_stuck = p->hand = 0;
	memset(p->onward_until_ns, 0, sizeof(p->onward_until_ns));
	set_limit(p, opts->limit_bytes);
	atomic_store(&p->room, INT64_MAX / 2);
	atomic_store(&p->stop, false);
	atomic_store(&p->never, 0);
	r = rss_open(&p->rss_fd);
	for (unsigned i = 0; !r && i < 2; i++)
		r = tasks_open(&p->tasks_fd[i]);
	if (!r && !p->heat.root)
		r = heat_init(&p->heat);
	if (!r && !p->left.root)
		r = stamps_init(&p->left);
	if (!r)
		r = start_threads(p);
	if (r) {
		close_files(p);
		return r;
	}
	atomic_store_explicit(&p->sp->policy, &p->hooks, memory_order_release);
	atomic_store(&p->running, true);
	return 0;
}

void policy_stop(struct policy *p)
{
	if (!atomic_exchange(&p->running, false))
		return;
	atomic_store_explicit(&p->sp->policy, NULL, memory_order_release);
	end_threads(p, 2);
	close_files(p);
}

void policy_stats(struct policy *p, struct uhmm_policy_stats *ret)
{
	struct uhmm_policy_stats s = { .sz = ret->sz };

	s.limit_bytes = get(&p->limit);
	s.resident_bytes = get(&p->resident);
	s.resident_max_bytes = get(&p->resident_max);
	s.rounds = get(&p->rounds);
	s.laps = get(&p->laps);
	s.evicted_bytes = get(&p->evicted_bytes);
	s.zero_bytes = get(&p->zero_bytes);
	s.waits = get(&p->waits);
	s.wait_ns = get(&p->wait_ns);
	s.over = get(&p->over);
	s.stuck = get(&p->stuck);
	s.full = get(&p->full);
	s.ahead_bytes = get(&p->ahead_bytes);
	s.returned_bytes = get(&p->returned_bytes);
	s.busy_device = get(&p->busy_device);
	s.busy_ns = s.busy_device ? clock_ns() - get(&p->busy_since_ns) : 0;
	s.onward_bytes = get(&p->onward_bytes);
	memcpy(ret, &s, s.sz < sizeof(s) ? s.sz : sizeof(s));
}
