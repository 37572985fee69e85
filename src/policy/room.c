/* SPDX-License-Identifier: MIT */
/*
 * The evictor: while more is held than shall be, it lets blocks leave, a few at a time, and has the watcher look after each step.
 *
 * Choosing costs CPU time: all page tables are looked at, lap by lap. Where that finds little - most of the memory is shared with a child
 * of fork, or pinned - it rests, so that it takes a fifth of a CPU at most, as long as nobody waits for what it finds.
 */
#include "policy/policy.h"

#include "base/clock.h"
#include "base/err.h"
#include "fault/pace.h"
#include "policy/figures.h"
#include "space/vma.h"

#define FULL_NS         (100 * MS)  /* before a full device is asked again */
#define HOPELESS_NS     (20 * MS)   /* before it is tried again when nothing could leave: what ends that is not told */
#define REST_SHARE      4           /* times the CPU time of a step that found little */
#define REST_NS         (5 * MS)    /* between looks whether somebody waits now */
#define LITTLE_BYTES_MS (256 << 10) /* is what a step finds in a millisecond: from cold blocks, 2 MiB and more */
#define MERCY_BYTES     (8 * MIB)   /* are let through each time */
#define STEP_MIN        (4 * MIB)   /* leave between two looks */
#define STEP_MAX        (16 * MIB)

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

/*
 * Not while somebody waits, at the door or for a parent's pages; nor while more comes without asking - a write to what is shared since a
 * fork makes a copy - for that may leave.
 */
static void rest(struct policy *p, uint64_t ns)
{
	uint64_t held = get(&p->resident);

	for (uint64_t slept = 0; slept < ns && !atomic_load(&p->stop); slept += REST_NS) {
		if (atomic_load(&p->nr_waiting) || pace_is_held() || get(&p->resident) > held + MIB)
			return;
		thread_wait_for(&p->never, 0, REST_NS);
	}
}

/* Return: false when nothing would leave. */
static bool make_room(struct policy *p)
{
	uint64_t resident = get(&p->resident);
	unsigned in_vain = 0;

	while (!atomic_load(&p->stop) && resident > get(&p->low) && in_vain < 3) {
		uint64_t want = min_u64(max_u64(resident - get(&p->low), STEP_MIN), STEP_MAX);
		uint64_t began = clock_thread_ns(), gone = step(p, want), cpu_ns = clock_thread_ns() - began;

		/* recycled THPs are memory, too, and it is little else that would be taken in their stead */
		if (gone / LITTLE_BYTES_MS < cpu_ns / MS)
			gone += staging_drain_pool(&p->m->staging);
		in_vain = gone ? 0 : in_vain + 1;
		if (gone)
			atomic_store(&p->hopeless, false);
		if (gone / LITTLE_BYTES_MS < cpu_ns / MS)
			rest(p, REST_SHARE * cpu_ns);
		resident = policy_look_again(p);
	}
	return in_vain < 3;
}

void *room_evictor(void *arg)
{
	struct policy *p = arg;

	while (!atomic_load(&p->stop)) {
		uint32_t asked = atomic_load(&p->short_of);

		if (!make_room(p)) {
			add(&p->stuck, 1);
			atomic_store(&p->mercy, MERCY_BYTES);
			atomic_store(&p->hopeless, true);
			ring(&p->looked);
			thread_wait_for(&p->never, 0, HOPELESS_NS);
		} else if (get(&p->resident) <= get(&p->high) && !atomic_load(&p->stop)) {
			thread_wait(&p->short_of, asked);
		}
	}
	return NULL;
}
