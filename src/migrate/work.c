/* SPDX-License-Identifier: MIT */
#include "migrate/work.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "os/map.h"
#include "space/vma.h"

#define MAX_ROUNDS 100 /* each lets others run */
#define MAX_COLD   64

int works_init(struct works *ws, struct manuals *manuals)
{
	ws->manuals = manuals;
	return stamps_init(&ws->worked);
}

void works_fini(struct works *ws)
{
	stamps_fini(&ws->worked);
}

/* ---- parts ---- */

static int by_address(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t end_of(const struct uhmm_work_range *r)
{
	return page_up((uintptr_t)r->start + r->len_bytes);
}

unsigned work_parts(const struct uhmm_work_range *ranges, unsigned nr, struct work_part *ret)
{
	uint64_t edge[2 * UHMM_WORK_RANGES];
	unsigned nr_parts = 0;

	for (unsigned i = 0; i < nr; i++) {
		edge[2 * i] = (uintptr_t)ranges[i].start;
		edge[2 * i + 1] = end_of(&ranges[i]);
	}
	qsort(edge, 2 * (size_t)nr, sizeof(*edge), by_address);
	for (unsigned k = 0; k + 1 < 2 * nr; k++) {
		struct work_part p = { edge[k], edge[k + 1], false }, *last = nr_parts ? &ret[nr_parts - 1] : NULL;
		bool covered = false;

		for (unsigned i = 0; i < nr; i++)
			if ((uintptr_t)ranges[i].start <= p.start && end_of(&ranges[i]) >= p.end) {
				covered = true;
				p.write |= !(ranges[i].flags & UHMM_WORK_READ);
			}
		if (!covered || p.start == p.end)
			continue;
		if (last && last->end == p.start && last->write == p.write)
			last->end = p.end;
		else
			ret[nr_parts++] = p;
	}
	return nr_parts;
}

uint64_t work_blocks(const struct work_part *part, unsigned nr)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < nr; i++)
		n += part[i].write ? (block_up(part[i].end) - block_down(part[i].start)) >> BLOCK_SHIFT : 0;
	return n;
}

/* ---- memory ---- */

struct making {
	uint64_t bytes;
	void *mem; /* out */
};

static void make_step(struct mover *mv, void *arg)
{
	struct making *m = arg;

	(void)mv;
	m->mem = map_own(m->bytes, 0);
}

static void free_step(struct mover *mv, void *arg)
{
	struct work *w = arg;

	(void)mv;
	map_own_free(w, w->bytes);
}

static struct work *work_new(struct works *ws, struct device *dev, const struct work_part *part, unsigned nr)
{
	uint64_t blocks = work_blocks(part, nr), pages = 0, at = page_up(sizeof(struct work));
	struct making m;
	struct work *w;

	for (unsigned i = 0; i < nr; i++)
		pages += (part[i].end - part[i].start) >> PAGE_SHIFT;
	m.bytes = at + page_up(nr * sizeof(*part)) + page_up(blocks * sizeof(struct held)) + pages * sizeof(struct uhmm_work_extent);
	jobs_call(ws->manuals->jobs, make_step, &m);
	w = m.mem;
	if (!w)
		return NULL;
	w->all = ws;
	w->dev = dev;
	w->opener = gettid();
	w->bytes = m.bytes;
	w->part = (struct work_part *)(void *)((char *)m.mem + at);
	w->nr_parts = nr;
	memcpy(w->part, part, nr * sizeof(*part));
	at += page_up(nr * sizeof(*part));
	w->held = (struct held *)(void *)((char *)m.mem + at);
	w->max_held = (unsigned)blocks;
	w->extent = (struct uhmm_work_extent *)(void *)((char *)m.mem + at + page_up(blocks * sizeof(struct held)));
	return w;
}

/* ---- what is missing comes ---- */

static bool is_asked_for(const void *work, uint64_t block)
{
	const struct work *w = work;

	for (unsigned k = 0; k < w->nr_parts; k++)
		if (w->part[k].start < block + BLOCK_BYTES && w->part[k].end > block)
			return true;
	return false;
}

struct searching {
	struct work *w;
	uint64_t want;
	struct range range[MAX_COLD]; /* out */
	unsigned nr;
};

static void search_step(struct mover *mv, void *arg)
{
	struct searching *s = arg;
	const struct stamps *used[] = { &s->w->all->worked, &mv->m->sp->faulted };

	s->nr = coldest_gather(mv->m->sp, s->w->dev->index, used, ARRAY_LEN(used), is_asked_for, s->w, s->want, s->range,
			       MAX_COLD);
}

/* What was used longest ago comes home, but for what is asked for. */
static int make_room(struct work *w, uint64_t want)
{
	struct jobs *jobs = w->all->manuals->jobs;
	uint64_t before = device_free_bytes(w->dev);
	struct searching s = { .w = w, .want = want };
	struct tally t;

	jobs_call(jobs, search_step, &s);
	for (unsigned i = 0; i < s.nr; i++) {
		jobs_run(jobs, JOB_TO_SYSTEM, s.range[i].start, s.range[i].end, w->dev, false, &t);
		if (t.error)
			return t.error;
	}
	return device_free_bytes(w->dev) > before ? 0 : -ENOSPC;
}

static uint64_t skipped(const struct tally *t, uint64_t reasons)
{
	uint64_t n = 0;

	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		n += reasons >> k & 1 ? t->skipped[k] : 0;
	return n;
}

#define BIT(reason) (UINT64_C(1) << UHMM_SKIP_##reason)
#define PASSES      (BIT(ABSENT) | BIT(RACED) | BIT(NO_ROOM) | BIT(OTHER_DEVICE))

/* Pages of one part go to the device. Return: 0, also when some have not gone but might; -errno. */
static int send(struct work *w, const struct work_part *p, struct tally *t, struct tally *all)
{
	struct jobs *jobs = w->all->manuals->jobs;
	struct tally home;

	jobs_run(jobs, JOB_TO_DEVICE, p->start, p->end, w->dev, false, t);
	for (unsigned k = 0; k < NR_ORDERS; k++)
		all->moved_folios[k] += t->moved_folios[k];
	all->cleared_pages += t->cleared_pages;
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		all->skipped[k] += t->skipped[k];
	if (t->error)
		return t->error;
	if (t->skipped[UHMM_SKIP_UNMAPPED])
		return -EFAULT;
	if (skipped(t, ~(uint64_t)PASSES))
		return -EBUSY;
	for (unsigned i = 1; t->skipped[UHMM_SKIP_OTHER_DEVICE] && i < MAX_DEVICES; i++) {
		struct device *d = migrator_device(w->all->manuals->m, i);

		if (!d || d == w->dev)
			continue;
		jobs_run(jobs, JOB_TO_SYSTEM, p->start, p->end, d, false, &home);
		if (home.error)
			return home.error;
	}
	return 0;
}

static int send_part(struct work *w, const struct work_part *p, struct tally *all)
{
	bool taken_back = false;
	struct tally t;
	int r;

	do {
		r = send(w, p, &t, all);
		if (r == -EBUSY && !taken_back && skipped(&t, BIT(FORKED) | BIT(PINNED))) {
			vma_take_back(w->all->manuals->m->sp, p->start, p->end, true);
			taken_back = true;
			memset(all->skipped, 0, sizeof(all->skipped));
			r = send(w, p, &t, all);
		}
		if (r || !t.skipped[UHMM_SKIP_NO_ROOM])
			return r;
		r = make_room(w, t.skipped[UHMM_SKIP_NO_ROOM] * PAGE_BYTES);
	} while (!r);
	return r;
}

static int send_all(struct work *w, struct tally *all)
{
	int r = 0;

	memset(all->skipped, 0, sizeof(all->skipped));
	for (unsigned k = 0; !r && k < w->nr_parts; k++)
		r = send_part(w, &w->part[k], all);
	return r;
}

/* ---- all ---- */

int work_acquire(struct works *ws, struct device *dev, const struct work_part *part, unsigned nr, struct work **ret, struct tally *t)
{
	struct work *w;
	int r = 0;

	memset(t, 0, sizeof(*t));
	manuals_await_pauses(ws->manuals, gettid());
	w = work_new(ws, dev, part, nr);
	if (!w)
		return -ENOMEM;
	for (unsigned n = 0; n < MAX_ROUNDS; n++) {
		jobs_call(ws->manuals->jobs, hold_step, w);
		if (!w->error && !w->missing && !w->lent) {
			*ret = w;
			return 0;
		}
		r = w->error;
		if (!r && w->missing)
			r = send_all(w, t);
		if (r)
			break;
		if (n || w->lent)
			thread_pause(n);
		if (w->lent)
			manuals_await_pauses(ws->manuals, gettid());
		r = -EBUSY;
	}
	jobs_call(ws->manuals->jobs, free_step, w);
	return r;
}

void work_release(struct work *w)
{
	struct jobs *jobs = w->all->manuals->jobs;

	jobs_call(jobs, let_go_step, w);
	jobs_call(jobs, free_step, w);
}
