/* SPDX-License-Identifier: MIT */
#include "migrate/manual.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "os/map.h"

int manuals_init(struct manuals *ms, struct migrator *m, struct jobs *jobs)
{
	ms->m = m;
	ms->jobs = jobs;
	return loose_init(&ms->loose);
}

void manuals_fini(struct manuals *ms)
{
	loose_fini(&ms->loose);
}

bool manual_is_open(struct manuals *ms, const void *m)
{
	for (unsigned i = 0; m && i < MAX_MANUALS; i++)
		if (atomic_load(&ms->open[i]) == m)
			return true;
	return false;
}

uint64_t manuals_away(struct manuals *ms)
{
	uint64_t loose = 0, used = migrator_used_bytes(ms->m);

	for (unsigned i = 1; i < MAX_DEVICES; i++)
		loose += atomic_load(&ms->loose.bytes[i]);
	/* a folio is counted as used first and as loose afterwards, and the other way round at the end: more used than is true, never less */
	return (used > loose ? used - loose : 0) + atomic_load(&ms->nr_open);
}

/* ---- memory ---- */

struct layout { uint64_t pieces, offsets, src, dst, where, words, why, bytes; };

static struct layout lay_out(unsigned nr_slots, unsigned max_pieces)
{
	struct layout l;

	l.pieces = sizeof(struct manual);
	l.pieces = (l.pieces + 63) & ~UINT64_C(63);
	l.offsets = l.pieces + max_pieces * sizeof(struct manual_piece);
	l.src = l.offsets + max_pieces * PAGES_PER_BLOCK * sizeof(uint64_t);
	l.dst = l.src + nr_slots * sizeof(struct uhmm_mpfn);
	l.words = l.dst + nr_slots * sizeof(struct uhmm_mpfn);
	l.where = l.words + MAX_CONTROL_WORDS * sizeof(uint64_t);
	l.why = l.where + nr_slots * sizeof(uint32_t);
	l.bytes = l.why + nr_slots;
	return l;
}

static struct manual *new_manual(struct manuals *ms, const struct manual_wish *w)
{
	unsigned nr_slots = (unsigned)((w->end - w->start) >> PAGE_SHIFT);
	/* a block may lie in several mappings, and then goes to the device in several pieces; home it comes as one */
	unsigned max_pieces = w->from == FROM_DEVICE ? (unsigned)((block_up(w->end) - block_down(w->start)) >> BLOCK_SHIFT) :
						       MAX_MANUAL_BLOCKS;
	struct layout l = lay_out(nr_slots, max_pieces);
	char *mem = map_own(l.bytes, 0);
	struct manual *m = (struct manual *)(void *)mem;

	if (!m)
		return NULL;
	m->all = ms;
	m->dev = w->dev;
	m->opener = w->opener;
	m->from = w->from;
	m->select = w->select;
	m->start = w->start;
	m->end = w->end;
	memcpy(m->keep, w->keep, sizeof(m->keep));
	m->bytes = l.bytes;
	m->nr_slots = nr_slots;
	m->max_pieces = max_pieces;
	m->piece = (struct manual_piece *)(void *)(mem + l.pieces);
	m->offsets = (uint64_t *)(void *)(mem + l.offsets);
	m->src = (struct uhmm_mpfn *)(void *)(mem + l.src);
	m->dst = (struct uhmm_mpfn *)(void *)(mem + l.dst);
	m->where = (uint32_t *)(void *)(mem + l.where);
	m->why = (uint8_t *)(mem + l.why);
	m->words.at = (uint64_t *)(void *)(mem + l.words);
	for (unsigned i = 0; i < nr_slots; i++)
		m->where[i] = NO_SLOT;
	memset(m->why, UHMM_SKIP_ABSENT, nr_slots);
	m->tally.reasons = m->reasons;
	if (w->from == FROM_SYSTEM)
		return m;
	m->home = map_own(max_pieces * BLOCK_BYTES, 0);
	if (m->home)
		return m;
	map_own_free(m, l.bytes);
	return NULL;
}

static void free_step(struct mover *mv, void *arg)
{
	struct manual *m = arg;

	(void)mv;
	if (m->home)
		map_own_free(m->home, m->max_pieces * BLOCK_BYTES);
	map_own_free(m, m->bytes);
}

/* ---- opening, and ending ---- */

int manuals_enter(struct manuals *ms, void *m, pid_t opener, const struct device *dev)
{
	for (unsigned i = 0; i < MAX_MANUALS; i++) {
		void *none = NULL;

		if (!atomic_compare_exchange_strong(&ms->open[i], &none, m))
			continue;
		atomic_store(&ms->opener[i], opener);
		atomic_fetch_add(&ms->nr_open, 1);
		atomic_fetch_add(&ms->nr_on[dev->index], 1);
		return 0;
	}
	return -EAGAIN;
}

void manuals_leave(struct manuals *ms, void *m, const struct device *dev)
{
	for (unsigned i = 0; i < MAX_MANUALS; i++)
		if (atomic_load(&ms->open[i]) == m) {
			atomic_store(&ms->opener[i], 0);
			atomic_store(&ms->open[i], NULL);
		}
	atomic_fetch_sub(&ms->nr_on[dev->index], 1);
	atomic_fetch_sub(&ms->nr_open, 1);
	thread_wake(&ms->nr_open, INT_MAX);
}

void manuals_pause(struct manuals *ms)
{
	uint32_t seen;

	atomic_fetch_add(&ms->nr_pausing, 1);
	for (;;) {
		jobs_pause(ms->jobs);
		/* opening is a job: what is not counted now will not be before they are resumed */
		if (!atomic_load(&ms->nr_open))
			break;
		jobs_resume(ms->jobs);
		while ((seen = atomic_load(&ms->nr_open)))
			thread_wait(&ms->nr_open, seen);
	}
	atomic_fetch_sub(&ms->nr_pausing, 1);
	thread_wake(&ms->nr_pausing, INT_MAX);
}

static bool has_open(struct manuals *ms, pid_t opener)
{
	for (unsigned i = 0; i < MAX_MANUALS; i++)
		if (atomic_load(&ms->opener[i]) == opener)
			return true;
	return false;
}

/* Who pauses goes first; but a thread that has one open must be able to go on, or it never ends. */
void manuals_await_pauses(struct manuals *ms, pid_t opener)
{
	uint32_t seen;

	while ((seen = atomic_load(&ms->nr_pausing)) && !has_open(ms, opener))
		thread_wait(&ms->nr_pausing, seen);
}

struct opening {
	struct manuals *ms;
	struct manual_wish wish;
	struct manual *m; /* out, */
	int r;            /* out: both are written before anything is claimed, which could be where they are */
};

/* All in one job: who pauses the jobs waits for it to end, and finds the migration counted, or holds it up before anything is taken. */
static void open_step(struct mover *mv, void *arg)
{
	struct opening *o = arg;
	struct manual *m = new_manual(o->ms, &o->wish);

	o->r = m ? manuals_enter(o->ms, m, m->opener, m->dev) : -ENOMEM;
	if (o->r) {
		if (m)
			free_step(mv, m);
		return;
	}
	o->m = m;
	manual_take(mv, m);
}

int manual_open(struct manuals *ms, const struct manual_wish *wish, struct manual **ret)
{
	struct opening o = { .ms = ms, .wish = *wish };
	int r;

	o.wish.opener = gettid();
	manuals_await_pauses(ms, o.wish.opener);
	jobs_call(ms->jobs, open_step, &o);
	if (o.r)
		return o.r;
	r = o.m->error;
	if (r && !o.m->nr_pieces) {
		manual_end(o.m);
		manual_free(o.m);
		return r;
	}
	*ret = o.m;
	return 0;
}

int manual_alloc(struct manual *m)
{
	jobs_call(m->all->jobs, manual_alloc_step, m);
	return m->error;
}

int manual_copy(struct manual *m)
{
	jobs_call(m->all->jobs, manual_copy_step, m);
	return m->error;
}

void manual_decide(struct manual *m)
{
	jobs_call(m->all->jobs, manual_decide_step, m);
	m->decided = true;
}

void manual_end(struct manual *m)
{
	jobs_call(m->all->jobs, manual_end_step, m);
}

void manual_free(struct manual *m)
{
	struct jobs *j = m->all->jobs;

	manuals_leave(m->all, m, m->dev);
	jobs_call(j, free_step, m);
}

/* ---- looking ---- */

uint64_t manual_piece_host(const struct manual *m, const struct manual_piece *mp)
{
	if (mp->p.slot || m->from == FROM_SYSTEM)
		return mp->p.slot;
	return (uintptr_t)m->home + (uint64_t)(mp - m->piece) * BLOCK_BYTES;
}

uint64_t manual_host(const struct manual *m, unsigned slot)
{
	uint32_t at = m->where[slot];
	const struct manual_piece *mp;

	if (at == NO_SLOT)
		return 0;
	mp = &m->piece[at / PAGES_PER_BLOCK];
	if (!pageset_has(&mp->p.copy, at % PAGES_PER_BLOCK))
		return 0;
	return manual_piece_host(m, mp) + at % PAGES_PER_BLOCK * PAGE_BYTES;
}

unsigned manual_nr_going(const struct manual *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->nr_slots; i++)
		n += m->why[i] == WHY_NONE;
	return n;
}

void manual_stays(struct manual *m, struct manual_piece *mp, unsigned i, enum uhmm_skip why)
{
	uint32_t slot = mp->slot[i];

	if (slot == NO_SLOT)
		return;
	m->src[slot].bits &= ~(uint64_t)UHMM_MPFN_MIGRATE;
	m->why[slot] = (uint8_t)why;
	m->where[slot] = NO_SLOT;
}
