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
 * What fault threads ask about pages that are away is in touch.c; what moves on between several devices, in tiers.c; what is done
 * for a child of fork, in heirs.c.
 *
 * No lock is taken: who waits holds nothing, and what he waits for needs workers and the pump only, never another fault
 * thread. When nothing can leave - everything is pinned, the devices are full - nobody waits for long: a little more is let through
 * each time that it has been tried, and counted, and the kernel decides as it does without us. Not all at once: a child of fork
 * that ends lets go what it shared, and nobody tells.
 *
 * Two who find room at the same time may together take more than there was, by a block each; the reserve is for that.
 */
#include "policy/policy.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "fault/pace.h"
#include "os/tasks.h"
#include "space/vma.h"

#define MS UINT64_C(1000000)
#define MIB (UINT64_C(1) << 20)

#define GROWTH_BYTES_NS 8           /* clearing and filling memory: what two CPUs reach at most */
#define LOOK_MIN_NS     (1 * MS)
#define LOOK_ARMED_NS   (4 * MS)    /* growth asks at the door: only new mappings are found by looking. Sooner while more come */
#define LOOK_MAX_NS     (20 * MS)
#define LOOK_SHARE      10          /* the watcher sleeps so many times as long as it looks */
#define WAIT_NS         (20 * MS)   /* one sleep at the door */
#define WAIT_MAX_NS     (10000 * MS)
#define FULL_NS         (100 * MS)  /* before a full device is asked again */
#define HOPELESS_NS     (20 * MS)   /* before it is tried again when nothing could leave: what ends that is not told */
#define HOPELESS_SHARE  4           /* or so many times as long as it took, where nobody waits: a try looks at all page tables */
#define MERCY_BYTES     (8 * MIB)   /* are let through each time */
#define POOL_SHARE      16          /* of the limit for recycled THPs */
#define STEP_MIN        (4 * MIB)   /* leave between two looks */
#define STEP_MAX        (16 * MIB)

static uint64_t get(const _Atomic uint64_t *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

static void add(_Atomic uint64_t *n, uint64_t by)
{
	atomic_fetch_add_explicit(n, by, memory_order_relaxed);
}

static void ring(_Atomic uint32_t *word)
{
	atomic_fetch_add(word, 1);
	thread_wake(word, INT_MAX);
}

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

static void set(_Atomic uint64_t *n, uint64_t value)
{
	atomic_store_explicit(n, value, memory_order_relaxed);
}

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

/* ---- making room ---- */

static struct device *pick_device(struct policy *p, uint64_t now, unsigned *ret_index)
{
	for (unsigned i = 0; i < p->nr_devices; i++) {
		struct device *d = p->device[i];

		if (now < p->full_until_ns[i] || atomic_load(&d->closing))
			continue;
		if (buddy_used_bytes(&d->buddy) + BLOCK_BYTES <= d->props.size_bytes) {
			*ret_index = i;
			return d;
		}
	}
	return NULL;
}

/* What is not told goes to nobody again at once: blocks that cannot leave. */
static void pass_over(struct policy *p, const struct range *r)
{
	for (uint64_t at = block_down(r->start); at < r->end; at += BLOCK_BYTES)
		heat_warm(&p->heat, at, 2, HEAT_MAX);
}

/* Return: bytes that have left the page table for good. @ret_pinned: some pages would not. */
static uint64_t evict_once(struct policy *p, const struct range *r, bool *ret_pinned)
{
	uint64_t gone = 0, moved = 0, now = clock_ns();
	struct device *dev;
	unsigned index;
	struct tally t = { .error = 0 };

	/* each device that turns out to be full is passed over for a while, and the next takes what is left */
	while ((dev = pick_device(p, now, &index))) {
		set(&p->busy_since_ns, now);
		set(&p->busy_device, index + 1);
		jobs_run(p->jobs, JOB_EVICT, r->start, r->end, dev, false, &t);
		set(&p->busy_device, 0);
		for (unsigned k = 0; k < NR_ORDERS; k++)
			moved += t.moved_folios[k] * order_bytes(k);
		gone += t.dropped_pages * PAGE_BYTES;
		if (!t.skipped[UHMM_SKIP_NO_ROOM] && !t.skipped[UHMM_SKIP_DEVICE])
			break;
		p->full_until_ns[index] = now + FULL_NS;
		add(&p->full, 1);
	}
	if (!dev)
		add(&p->full, 1);
	if (moved)
		tiers_left(p, r);
	add(&p->evicted_bytes, moved);
	add(&p->zero_bytes, gone);
	add(&p->returned_bytes, t.returned_pages * PAGE_BYTES);
	*ret_pinned = t.skipped[UHMM_SKIP_PINNED];
	return moved + gone;
}

static uint64_t evict(struct policy *p, const struct range *r)
{
	bool pinned;
	uint64_t gone = evict_once(p, r, &pinned), taken;

	if (pinned) { /* perhaps since a fork */
		atomic_store(&p->touching, true);
		taken = vma_take_back(p->sp, r->start, r->end, false);
		atomic_store(&p->touching, false);
		if (taken && !atomic_load(&p->stop))
			gone += evict_once(p, r, &pinned);
	}
	if (!gone)
		pass_over(p, r);
	return gone;
}

static void scrub(struct mover *mv, void *arg)
{
	(void)arg;
	staging_scrub(&mv->m->staging);
}

/* Return: bytes that have left. */
static uint64_t step(struct policy *p, uint64_t want)
{
	struct range range[GATHER_MAX];
	uint64_t gone = 0;
	unsigned nr;

	watch_threads(p->tasks_fd[1], &p->evictor_words);
	nr = clock_gather(p, want, range, GATHER_MAX);
	for (unsigned i = 0; i < nr && !atomic_load(&p->stop); i++) {
		tiers_make_room(p, range[i].end - range[i].start);
		gone += evict(p, &range[i]);
	}
	tiers_make_room(p, 0);
	jobs_call(p->jobs, scrub, NULL);
	return gone;
}

uint64_t policy_look_again(struct policy *p)
{
	uint32_t seen = atomic_load(&p->looked);

	ring(&p->bell);
	while (atomic_load(&p->looked) == seen && !atomic_load(&p->stop))
		thread_wait_for(&p->looked, seen, WAIT_NS);
	return get(&p->resident);
}

/* Return: false when nothing would leave. @ret_ns: how long it took to find that out. */
static bool make_room(struct policy *p, uint64_t *ret_ns)
{
	uint64_t resident = get(&p->resident), began = clock_ns();
	unsigned in_vain = 0;

	while (!atomic_load(&p->stop) && resident > get(&p->low) && in_vain < 3) {
		uint64_t want = min_u64(max_u64(resident - get(&p->low), STEP_MIN), STEP_MAX);

		in_vain = step(p, want) ? 0 : in_vain + 1;
		if (!in_vain) {
			atomic_store(&p->hopeless, false);
			began = clock_ns();
		}
		resident = policy_look_again(p);
	}
	*ret_ns = clock_ns() - began;
	return in_vain < 3;
}

/*
 * Nothing could leave. Who waits, at the door or for a parent's pages, need not wait for long; and what comes without asking - a write
 * to what is shared since a fork makes a copy - may leave.
 */
static void despair(struct policy *p, uint64_t took_ns)
{
	uint64_t held = get(&p->resident);

	add(&p->stuck, 1);
	atomic_store(&p->mercy, MERCY_BYTES);
	atomic_store(&p->hopeless, true);
	ring(&p->looked);
	for (uint64_t slept = 0; (!slept || slept < HOPELESS_SHARE * took_ns) && !atomic_load(&p->stop); slept += HOPELESS_NS) {
		if (slept && (atomic_load(&p->nr_waiting) || pace_is_held() || get(&p->resident) > held + MIB))
			break;
		thread_wait_for(&p->never, 0, HOPELESS_NS);
	}
}

static void *make_rooms(void *arg)
{
	struct policy *p = arg;

	while (!atomic_load(&p->stop)) {
		uint32_t asked = atomic_load(&p->short_of);
		uint64_t took_ns;

		if (!make_room(p, &took_ns))
			despair(p, took_ns);
		else if (get(&p->resident) <= get(&p->high) && !atomic_load(&p->stop))
			thread_wait(&p->short_of, asked);
	}
	return NULL;
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
	r = thread_start(&p->evictor, "uhmm-evict", make_rooms, p);
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
