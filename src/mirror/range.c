/* SPDX-License-Identifier: MIT */
/*
 * A piece of the range at a time: a worker looks at all of its pages (look()), this thread faults in what is wanted and not there
 * (satisfy()), and a worker looks again, until a look finds nothing left to do.
 *
 * The look is the worker's because the gate and the lock of the metadata are what fault threads need, and this thread may stand on
 * a stack that goes away. The faults are this thread's because they are touches, which a worker must not take: it would wait for
 * what itself may have to do. The caller's array may be anywhere in the program, so the worker writes to memory of ours.
 *
 * What makes an answer true until the notifier says otherwise:
 *
 *   1 the mapping is watched before it is looked at, so from then on every unmap, move and discard is announced;
 *   2 after the look there was a moment, inside the gate, at which no event was unread and none had been applied since the
 *     mapping was armed: so what was looked at was the watched mapping and not one that had taken its place;
 *   3 MIGRATING is not an answer: a claim is announced after it was made and before a page goes, so who begins after the
 *     announcement still finds the claim, and waits;
 *   4 a page whose discard was announced and has not happened is not an answer that lasts: there will be no second
 *     announcement. It is waited for, and if it stays (MADV_FREE announces itself likewise) reported as not watched.
 */
#include "mirror/range.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/access.h"
#include "os/map.h"
#include "os/pagemap.h"
#include "os/procmap.h"
#include "os/thread.h"
#include "space/look.h"
#include "space/vma.h"

#define CHUNK_PAGES  (16 * PAGES_PER_BLOCK)
#define MAX_ROUNDS   1000 /* of one piece; each lets others run */
#define MAX_REFUSALS 20   /* of these: the kernel would not fault something in that looks as if it could */
#define MAX_ZAPS     60   /* of these: a discard that was announced has not happened */
#define MAX_LOOKS    100  /* events that come while we look */

enum todo { DONE, WAIT, FETCH, TOUCH, STORE }; /* nothing; somebody's claim; another device has it; fault it in; to be written */

struct look {
	struct range_query q;   /* a copy: the caller's may lie in the range. Its pages are not for workers */
	uint64_t start, end;    /* at most CHUNK_PAGES */
	bool settle_zaps;       /* false: they have been waited for */
	int error;              /* out */
	bool zapped;            /* out: of those WAIT, one is about to be discarded */
	uint64_t page[CHUNK_PAGES]; /* in: what is asked; out: the answer */
	uint64_t want[CHUNK_PAGES];
	uint8_t todo[CHUNK_PAGES];  /* out */
};

static unsigned index_of(const struct look *k, uint64_t at)
{
	return (unsigned)((at - k->start) >> PAGE_SHIFT);
}

/* ---- one look: by a worker ---- */

static void answer(struct look *k, uint64_t at, uint64_t bits, enum todo todo)
{
	k->page[index_of(k, at)] = bits;
	k->todo[index_of(k, at)] = (uint8_t)todo;
}

static uint64_t wanted(const struct look *k, uint64_t at)
{
	return k->want[index_of(k, at)];
}

static void answer_device(struct look *k, uint64_t at, struct entry e, uint64_t flags)
{
	const struct device *dev = k->q.dev;
	uint64_t offset = entry_offset(e);

	if (!dev || entry_device(e) != dev->index) {
		answer(k, at, 0, wanted(k, at) ? FETCH : DONE);
		return;
	}
	if (entry_order(e) == BLOCK_ORDER)
		offset += page_in_block(at) * PAGE_BYTES;
	answer(k, at, flags | UHMM_RANGE_VALID | UHMM_RANGE_DEVICE | (uint64_t)entry_order(e) << UHMM_RANGE_ORDER_SHIFT | offset >> 12 << 16,
	       DONE);
}

/* A page in Linux's hands. @bits: of the pagemap; @writable: at once, if the mapping is. */
static void answer_system(struct look *k, uint64_t at, struct entry e, uint32_t bits, bool writable, uint64_t flags)
{
	uint64_t want = wanted(k, at);

	if (!(bits & PM_PRESENT)) {
		answer(k, at, flags & UHMM_RANGE_WATCHED, !want ? DONE : want & UHMM_RANGE_REQ_WRITE ? STORE : TOUCH);
		return;
	}
	if (entry_has(e, ENTRY_ZAP)) {
		if (k->settle_zaps) {
			k->zapped = true;
			answer(k, at, 0, WAIT);
			return;
		}
		flags &= ~(uint64_t)UHMM_RANGE_WATCHED;
	}
	if (!writable)
		flags &= ~(uint64_t)UHMM_RANGE_WRITE;
	flags |= UHMM_RANGE_VALID | (bits & PM_HUGE ? (uint64_t)BLOCK_ORDER << UHMM_RANGE_ORDER_SHIFT : 0);
	answer(k, at, flags, want & UHMM_RANGE_REQ_WRITE && !(flags & UHMM_RANGE_WRITE) ? STORE : DONE);
}

/* Is the page still the file's, which a store would copy first? A scan of many pages does not say. */
static bool is_file(struct space *sp, const struct mapping *m, uint64_t at)
{
	int bits = m->flags & MAPPING_FILE ? pagemap_uniform(sp->pagemap_fd, at, at + PAGE_BYTES) : 0;

	return bits < 0 || bits & PM_FILE;
}

static void answer_seen(struct look *k, uint64_t at, struct entry e, uint32_t bits, bool writable, uint64_t flags)
{
	if (wanted(k, at) & UHMM_RANGE_MIGRATE)
		return;
	if (entry_state(e) == ENTRY_MIGRATING)
		answer(k, at, 0, WAIT);
	else if (entry_state(e) == ENTRY_DEVICE)
		answer_device(k, at, e, flags);
	else
		answer_system(k, at, e, bits, writable, flags);
}

/* [start, end) of one mapping and one block. @flags: what holds for all of it. */
static int look_at_block(struct look *k, uint64_t start, uint64_t end, const struct mapping *m, uint64_t flags)
{
	struct space *sp = k->q.mi->m->sp;
	bool own[PAGES_PER_BLOCK], shared = m->flags & MAPPING_SHARED;
	struct seen seen;
	int r = pagemap_exclusives(sp->pagemap_fd, start, (unsigned)((end - start) >> PAGE_SHIFT), own);

	for (uint64_t at = start; !r && at < end; at = seen.stop) {
		r = look_at(sp, at, end, &seen);
		for (unsigned i = 0; !r && i < seen.nr; i++) {
			bool whole = shared || !(seen.runs[i].bits & PM_ZERO);

			for (uint64_t p = seen.runs[i].start; p < seen.runs[i].end; p += PAGE_BYTES)
				answer_seen(k, p, table_peek(&sp->table, p), seen.runs[i].bits,
					    whole && (shared || (own[(p - start) >> PAGE_SHIFT] && !is_file(sp, m, p))), flags);
		}
		for (uint64_t p = at; !r && is_away(seen.e) && p < seen.stop; p += PAGE_BYTES)
			answer_seen(k, p, seen.e, 0, false, flags);
	}
	return r;
}

/* Nothing there that could be looked at. Return: 0, or -EFAULT when some of it was wanted. */
static int answer_error(struct look *k, uint64_t start, uint64_t end)
{
	int r = 0;

	for (; start < end; start += PAGE_BYTES) {
		if (wanted(k, start) & UHMM_RANGE_MIGRATE)
			continue;
		if (wanted(k, start))
			r = -EFAULT;
		answer(k, start, UHMM_RANGE_ERROR, DONE);
	}
	return r;
}

/* Makes the mapping watched, for the notifier. Return: it is, as of @seq. */
static bool watch(struct look *k, uint64_t start, uint64_t end, uint64_t *ret_seq)
{
	struct space *sp = k->q.mi->m->sp;
	struct notifier *n = k->q.notifier;
	struct vma_piece vp;

	if (!n || vma_piece_at(sp, start, end, &vp) || !(vp.movable || vp.read_only) || vp.end < end)
		return false;
	if (!atomic_exchange(&n->holds_arms, true))
		vma_arm_hold(sp);
	return !vma_arm_again(sp, start, end, ret_seq);
}

/* All of it once. @ret_seq: the oldest at which a mapping was armed; UINT64_MAX when none was. */
static int look_once(struct look *k, uint64_t *ret_seq)
{
	struct space *sp = k->q.mi->m->sp;
	uint64_t at = k->start, stop, seq;
	int r = 0;

	*ret_seq = UINT64_MAX;
	k->zapped = false;
	while (!r && at < k->end) {
		uint64_t flags = 0;
		struct mapping m;

		r = procmap_find(&sp->procmap, at, &m);
		if (r && r != -ENOENT)
			break;
		stop = r ? k->end : min_u64(m.start > at ? m.start : m.end, k->end);
		if (r || m.start > at || !(m.flags & MAPPING_READ)) {
			r = answer_error(k, at, stop);
			at = stop;
			continue;
		}
		if (watch(k, at, stop, &seq)) {
			flags |= UHMM_RANGE_WATCHED;
			*ret_seq = min_u64(*ret_seq, seq);
		}
		if (m.flags & MAPPING_WRITE)
			flags |= UHMM_RANGE_WRITE;
		for (; !r && at < stop; at = min_u64(block_down(at) + BLOCK_BYTES, stop)) {
			uint64_t end = min_u64(block_down(at) + BLOCK_BYTES, stop);

			for (uint64_t p = at; !(m.flags & MAPPING_WRITE) && p < end; p += PAGE_BYTES)
				if (wanted(k, p) & UHMM_RANGE_REQ_WRITE)
					return -EPERM;
			r = look_at_block(k, at, end, &m, flags);
		}
	}
	return r;
}

/* Was the look one at what is watched? */
static bool is_settled(struct space *sp, uint64_t seq)
{
	bool settled;

	gate_enter(&sp->gate, GATE_MOVES);
	settled = atomic_load(&sp->event_seq) == seq && !uffd_held_up(&sp->uffd, sp->canary);
	gate_leave(&sp->gate, GATE_MOVES);
	return settled;
}

static void look(struct mover *mv, void *arg)
{
	struct look *k = arg;
	uint64_t seq;

	/* what the caller has unmapped or moved before it asked shall have been applied */
	gate_await_events(&mv->m->sp->gate);
	for (unsigned n = 0; n < MAX_LOOKS; n++) {
		k->error = look_once(k, &seq);
		if (seq == UINT64_MAX || is_settled(mv->m->sp, seq))
			return;
		thread_pause(n);
	}
	k->error = -EBUSY;
}

/* ---- doing what is left: by the caller's thread ---- */

/* Return: 0, also when it may have to be done again; -errno. */
static int satisfy_run(struct look *k, uint64_t start, uint64_t end, enum todo todo, unsigned round, unsigned *refused)
{
	struct mirror *mi = k->q.mi;
	struct tally t;
	int r;

	switch (todo) {
	case WAIT:
		thread_pause(round + 4);
		return 0;
	case FETCH:
		jobs_run(mi->jobs, JOB_TO_SYSTEM, start, end, NULL, false, &t);
		return t.error;
	default:
		r = access_populate(start, end - start, todo == STORE);
		if (!r || r == -EAGAIN || r == -EINTR)
			return 0;
		/* it may have been unmapped or protected meanwhile: the next look tells. If not, it is the kernel's last word */
		if (++*refused <= MAX_REFUSALS)
			return 0;
		return r == -ENOMEM ? r : -EFAULT;
	}
}

/* Return: 1 when something was to be done, 0 when nothing was; -errno. */
static int satisfy(struct look *k, unsigned round, unsigned *refused)
{
	unsigned nr = (unsigned)((k->end - k->start) >> PAGE_SHIFT);
	bool any = false;

	for (unsigned i = 0, end; i < nr; i = end) {
		enum todo todo = k->todo[i];
		int r;

		for (end = i + 1; end < nr && k->todo[end] == todo; end++)
			;
		if (todo == DONE)
			continue;
		any = true;
		r = satisfy_run(k, k->start + i * PAGE_BYTES, k->start + end * PAGE_BYTES, todo, round, refused);
		if (r)
			return r;
	}
	return any;
}

static void take_wishes(struct look *k)
{
	const struct range_query *q = &k->q;

	for (uint64_t at = k->start; at < k->end; at += PAGE_BYTES) {
		uint64_t bits = q->pages[(at - q->start) >> PAGE_SHIFT].bits, want;
		unsigned i = index_of(k, at);

		want = q->default_flags | (bits & q->page_flags_mask);
		k->want[i] = bits & UHMM_RANGE_MIGRATE ? UHMM_RANGE_MIGRATE : want & (UHMM_RANGE_REQ_FAULT | UHMM_RANGE_REQ_WRITE);
		k->page[i] = bits;
		k->todo[i] = DONE;
	}
}

static bool is_stale(const struct range_query *q)
{
	return q->notifier && notify_read_retry(q->notifier, &q->mi->m->sp->gate, q->seq);
}

static int fault_chunk(struct look *k)
{
	unsigned refused = 0, zaps = 0;
	int r;

	take_wishes(k);
	k->settle_zaps = true;
	for (unsigned round = 0; round < MAX_ROUNDS; round++) {
		if (is_stale(&k->q))
			return -EBUSY;
		jobs_call(k->q.mi->jobs, look, k);
		if (k->error)
			return k->error;
		r = satisfy(k, round, &refused);
		if (r < 0)
			return r;
		if (!r)
			return 0;
		if (k->zapped && ++zaps == MAX_ZAPS)
			k->settle_zaps = false;
	}
	return -EBUSY;
}

static void begin(struct mover *mv, void *arg)
{
	struct look **k = arg;

	(void)mv;
	*k = map_own(sizeof(**k), 0);
}

static void finish(struct mover *mv, void *arg)
{
	(void)mv;
	map_own_free(arg, sizeof(struct look));
}

int range_fault(const struct range_query *q)
{
	struct look *k;
	int r = 0;

	jobs_call(q->mi->jobs, begin, &k);
	if (!k)
		return -ENOMEM;
	k->q = *q;
	for (uint64_t at = q->start; !r && at < q->end; at = k->end) {
		k->start = at;
		k->end = min_u64(at + CHUNK_PAGES * PAGE_BYTES, q->end);
		r = fault_chunk(k);
		/* after an error too: what could not be had is marked */
		for (uint64_t p = at; p < k->end; p += PAGE_BYTES)
			q->pages[(p - q->start) >> PAGE_SHIFT].bits = k->page[(p - at) >> PAGE_SHIFT];
	}
	jobs_call(q->mi->jobs, finish, k);
	return r ? r : is_stale(q) ? -EBUSY : 0;
}
