/* SPDX-License-Identifier: MIT */
#include "migrate/jobs.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "space/vma.h"

/*
 * Waking a worker that sleeps costs tens of microseconds, and a CPU that is woken must be interrupted for every MOVE: so
 * a job wakes one worker, and that one wakes others only when it has something for them.
 */

/* A chunk is long enough that taking it costs nothing, and short enough that workers end together. */
#define MAX_CHUNK_BLOCKS 8
#define MAX_CHUNKS       1024

static uint64_t chunk_bytes(const struct jobs *j, enum job_kind kind, uint64_t bytes)
{
	uint64_t blocks = (bytes >> BLOCK_SHIFT) / (2 * j->nr_workers);

	if (kind == JOB_DISARM || kind == JOB_CALL)
		return block_up(bytes) + BLOCK_BYTES;
	if (blocks < 1)
		blocks = 1;
	if (blocks > MAX_CHUNK_BLOCKS)
		blocks = MAX_CHUNK_BLOCKS;
	/* "everything" is a large range with little in it */
	return max_u64(blocks << BLOCK_SHIFT, block_up(bytes / MAX_CHUNKS));
}

static bool is_to_device(const struct job *job)
{
	return job->kind == JOB_TO_DEVICE || job->kind == JOB_TO_DEVICE_READ_ONLY || job->kind == JOB_EVICT;
}

static bool has_work(const struct jobs *j, const struct job *job)
{
	return job->state == JOB_QUEUED && job->cursor < job->end && !job->filling && (!j->paused || job->urgent);
}

/* The oldest job with work left that nobody is preparing. */
static struct job *pick_locked(struct jobs *j)
{
	struct job *best = NULL;

	for (unsigned i = 0; i < JOB_SLOTS; i++)
		if (has_work(j, &j->job[i]) && (!best || j->job[i].serial < best->serial))
			best = &j->job[i];
	return best;
}

static void wake_workers_locked(struct jobs *j, unsigned n)
{
	atomic_fetch_add(&j->posted, 1);
	if (n && j->nr_idle)
		thread_wake(&j->posted, n);
}

static void count(struct counters *n, const struct job *job)
{
	_Atomic uint64_t *folios = is_to_device(job) ? n->to_device_folios : n->to_system_folios;

	/* what moves on is away before and after */
	for (unsigned k = 0; k < NR_ORDERS && job->kind != JOB_ONWARD; k++)
		counter_add(&folios[k], job->tally.moved_folios[k]);
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		counter_add(&n->skipped_pages[k], job->tally.skipped[k]);
	if (job->detached) {
		counter_add(&n->prefetches, 1);
		counter_add(&n->prefetches_failed, job->tally.error != 0);
	}
}

/* A slot has become free, or a pause may begin. */
static void tell_program(struct jobs *j)
{
	atomic_fetch_add(&j->freed, 1);
	thread_wake(&j->freed, INT_MAX);
}

static void enter_locked(struct jobs *j, struct job *job)
{
	job->active++;
	atomic_fetch_add(&j->nr_active, 1);
}

static void leave_active(struct jobs *j)
{
	if (atomic_fetch_sub(&j->nr_active, 1) == 1 && atomic_load(&j->paused))
		tell_program(j);
}

/* A chunk or a batch has ended; perhaps the job has, too. */
static void leave_locked(struct jobs *j, struct job *job)
{
	leave_active(j);
	if (--job->active || job->cursor < job->end)
		return;
	count(&j->m->sp->counters, job);
	if (job->detached) {
		atomic_store(&job->state, JOB_FREE);
		atomic_fetch_sub(&j->nr_prefetches, 1);
		tell_program(j);
	} else {
		atomic_store(&job->state, JOB_DONE);
		thread_wake(&job->state, 1);
	}
}

/* ---- home, disarming and calls: by chunks ---- */

static bool something_away(void *m)
{
	return migrator_used_bytes(m);
}

static void run_chunk_locked(struct worker *w, struct job *job)
{
	struct jobs *j = w->jobs;
	uint64_t start = job->cursor, end = min_u64(block_down(start) + job->chunk_bytes, job->end);
	struct tally t = { .error = 0 };

	job->cursor = end;
	enter_locked(j, job);
	if (end < job->end)
		wake_workers_locked(j, 1);
	lock_drop(&j->lock);
	if (job->kind == JOB_TO_SYSTEM)
		migrate_to_system(&w->mover, start, end, job->dev, &t);
	else if (job->kind == JOB_ONWARD)
		migrate_onward(&w->mover, start, end, job->dev, job->to, &t);
	else if (job->kind == JOB_CALL)
		job->call(&w->mover, job->arg);
	else
		vma_disarm(j->m->sp, start, end, something_away, j->m);
	migrator_check(j->m);
	lock_take(&j->lock);
	tally_merge(&job->tally, &t);
	leave_locked(j, job);
}

/* ---- to a device: by batches ---- */

static struct job_batch *free_batch_locked(struct worker *w)
{
	return !w->batch[0].job ? &w->batch[0] : !w->batch[1].job ? &w->batch[1] : NULL;
}

static void end_batch_locked(struct worker *w, struct job_batch *jb)
{
	struct job *job = jb->job;

	batch_end(&w->mover, &jb->batch);
	jb->job = NULL;
	leave_locked(w->jobs, job);
}

static void fill_batch_locked(struct worker *w, struct job *job, struct job_batch *jb)
{
	struct jobs *j = w->jobs;
	uint64_t start = job->cursor, stop;
	struct tally t = { .error = 0 };

	job->filling = true;
	enter_locked(j, job);
	lock_drop(&j->lock);
	jb->batch.evict = job->kind == JOB_EVICT;
	jb->batch.read_only_too = job->kind == JOB_TO_DEVICE_READ_ONLY;
	jb->batch.limit = job->limit;
	stop = batch_fill(&w->mover, &jb->batch, start, job->end, job->dev, &t);
	lock_take(&j->lock);
	tally_merge(&job->tally, &t);
	job->filling = false;
	job->cursor = job->tally.error ? job->end : stop; /* a device in trouble gets no more */
	jb->job = job;
	if (!jb->batch.nr)
		end_batch_locked(w, jb);
	else
		wake_workers_locked(j, jb->batch.nr - 1); /* one is for this worker itself */
}

/* A piece that waits to be copied. */
static struct job_batch *find_piece_locked(struct jobs *j)
{
	for (unsigned i = 0; i < j->nr_workers; i++)
		for (unsigned k = 0; k < 2; k++) {
			struct job_batch *jb = &j->worker[i].batch[k];

			if (jb->job && jb->batch.taken < jb->batch.nr)
				return jb;
		}
	return NULL;
}

/* A piece that a worker has started. */
struct in_flight {
	struct job_batch *jb;
	struct piece *piece;
	struct tally tally;
};

static void finish_locked(struct worker *w, struct in_flight *f)
{
	struct jobs *j = w->jobs;
	struct job *job;

	if (!f->jb)
		return;
	lock_drop(&j->lock);
	piece_finish(&w->mover, f->piece, &f->tally);
	lock_take(&j->lock);
	job = f->jb->job;
	tally_merge(&job->tally, &f->tally);
	if (f->tally.error)
		job->cursor = job->end;
	if (++f->jb->batch.done == f->jb->batch.nr)
		end_batch_locked(w, f->jb);
	f->jb = NULL;
}

/* Starts piece after piece; each is finished when the next has been started, or there is none. */
static void copy_pieces_locked(struct worker *w)
{
	struct in_flight now = { .jb = NULL }, before = { .jb = NULL };
	struct jobs *j = w->jobs;

	while ((now.jb = find_piece_locked(j))) {
		now.piece = batch_take(&now.jb->batch);
		memset(&now.tally, 0, sizeof(now.tally));
		lock_drop(&j->lock);
		piece_start(&w->mover, now.piece, &now.tally);
		lock_take(&j->lock);
		finish_locked(w, &before);
		if (now.piece->fence)
			before = now;
		else
			finish_locked(w, &now);
	}
	finish_locked(w, &before);
	lock_drop(&j->lock);
	migrator_check(j->m);
	lock_take(&j->lock);
}

/* Return: there was something to do. */
static bool work_once_locked(struct worker *w)
{
	struct jobs *j = w->jobs;
	struct job_batch *jb = free_batch_locked(w);
	struct job *job;

	if (find_piece_locked(j)) {
		copy_pieces_locked(w);
		return true;
	}
	job = pick_locked(j);
	if (job && !is_to_device(job))
		run_chunk_locked(w, job);
	else if (job && jb)
		fill_batch_locked(w, job, jb);
	else
		return false;
	return true;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct jobs *j = w->jobs;

	lock_take(&j->lock);
	for (;;) {
		uint32_t seen = atomic_load(&j->posted);
		bool worked;

		/* active before it looks whether there is a pause: who pauses looks at these two in the other order */
		atomic_fetch_add(&j->nr_active, 1);
		worked = work_once_locked(w);
		leave_active(j);
		if (worked)
			continue;
		if (atomic_load(&j->stop))
			break;
		j->nr_idle++;
		lock_drop(&j->lock);
		thread_wait(&j->posted, seen);
		lock_take(&j->lock);
		j->nr_idle--;
	}
	lock_drop(&j->lock);
	return NULL;
}

static int worker_start(struct worker *w, struct jobs *j)
{
	int r;

	w->jobs = j;
	r = mover_init(&w->mover, j->m);
	if (r)
		return r;
	r = batch_init(&w->batch[0].batch);
	if (r)
		goto fini_mover;
	r = batch_init(&w->batch[1].batch);
	if (r)
		goto fini_batch_0;
	r = thread_start(&w->thread, "uhmm-move", work, w);
	if (!r)
		return 0;
	batch_fini(&w->batch[1].batch);
fini_batch_0:
	batch_fini(&w->batch[0].batch);
fini_mover:
	mover_fini(&w->mover);
	return r;
}

int jobs_init(struct jobs *j, struct migrator *m, unsigned nr_workers)
{
	int r = 0;

	j->m = m;
	lock_init(&j->lock, LOCK_LEAF);
	while (!r && j->nr_workers < nr_workers) {
		/* the workers before it look through all that count */
		r = worker_start(&j->worker[j->nr_workers], j);
		if (!r)
			atomic_fetch_add(&j->nr_workers, 1);
	}
	if (r)
		jobs_fini(j);
	return r;
}

void jobs_fini(struct jobs *j)
{
	atomic_store(&j->stop, true);
	atomic_fetch_add(&j->posted, 1);
	thread_wake(&j->posted, INT_MAX);
	for (unsigned i = 0; i < j->nr_workers; i++) {
		thread_join(&j->worker[i].thread);
		batch_fini(&j->worker[i].batch[0].batch);
		batch_fini(&j->worker[i].batch[1].batch);
		mover_fini(&j->worker[i].mover);
	}
	j->nr_workers = 0;
	lock_fini(&j->lock);
}

/* ---- for threads of the program: without locks ---- */

/* The last slot is for urgent jobs: while the others are paused none of theirs becomes free. */
static struct job *take_slot(struct jobs *j, bool urgent)
{
	unsigned end = urgent ? JOB_SLOTS : JOB_SLOTS - 1;

	for (unsigned i = urgent ? end - 1 : 0; i < end; i++) {
		uint32_t is_free = JOB_FREE;

		if (atomic_compare_exchange_strong(&j->job[i].state, &is_free, JOB_FILLING))
			return &j->job[i];
	}
	return NULL;
}

static void post(struct jobs *j, struct job *job, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev)
{
	job->kind = kind;
	job->cursor = start;
	job->end = end;
	job->dev = dev;
	job->chunk_bytes = chunk_bytes(j, kind, end - start);
	job->serial = atomic_fetch_add(&j->next_serial, 1);
	job->filling = false;
	job->active = 0;
	memset(&job->tally, 0, sizeof(job->tally));
	atomic_store(&job->state, JOB_QUEUED);
	atomic_fetch_add(&j->posted, 1);
	thread_wake(&j->posted, 1);
}

static struct job *await_slot(struct jobs *j, bool urgent)
{
	struct job *job;
	uint32_t seen;

	for (seen = atomic_load(&j->freed); !(job = take_slot(j, urgent)); seen = atomic_load(&j->freed))
		thread_wait(&j->freed, seen);
	job->detached = false;
	job->urgent = urgent;
	job->limit = 0;
	return job;
}

static void await_end(struct jobs *j, struct job *job, struct tally *ret)
{
	while (atomic_load(&job->state) != JOB_DONE)
		thread_wait(&job->state, JOB_QUEUED);
	if (ret)
		*ret = job->tally;
	atomic_store(&job->state, JOB_FREE);
	tell_program(j); /* the slot may be waited for */
}

void jobs_run(struct jobs *j, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev, bool urgent,
	      struct tally *ret)
{
	struct job *job = await_slot(j, urgent);

	post(j, job, kind, start, end, dev);
	await_end(j, job, ret);
}

void jobs_run_limited(struct jobs *j, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev, unsigned limit,
		      struct tally *ret)
{
	struct job *job = await_slot(j, false);

	job->limit = limit;
	post(j, job, kind, start, end, dev);
	await_end(j, job, ret);
}

void jobs_run_onward(struct jobs *j, uint64_t start, uint64_t end, struct device *from, struct device *to, struct tally *ret)
{
	struct job *job = await_slot(j, false);

	job->to = to;
	post(j, job, JOB_ONWARD, start, end, from);
	await_end(j, job, ret);
}

void jobs_call(struct jobs *j, job_fn *call, void *arg)
{
	struct job *job = await_slot(j, false);

	job->call = call;
	job->arg = arg;
	post(j, job, JOB_CALL, 0, 1, NULL);
	await_end(j, job, NULL);
}

int jobs_post(struct jobs *j, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev)
{
	struct job *job = NULL;

	if (atomic_fetch_add(&j->nr_prefetches, 1) < MAX_PREFETCHES)
		job = take_slot(j, false);
	if (!job) {
		atomic_fetch_sub(&j->nr_prefetches, 1);
		return -EAGAIN;
	}
	job->detached = true;
	job->urgent = false;
	job->limit = 0;
	post(j, job, kind, start, end, dev);
	return 0;
}

static bool detached_before(struct jobs *j, uint64_t serial, const struct device *dev)
{
	for (unsigned i = 0; i < JOB_SLOTS; i++) {
		const struct job *job = &j->job[i];

		if (atomic_load(&job->state) == JOB_QUEUED && job->detached && job->serial < serial && (!dev || job->dev == dev))
			return true;
	}
	return false;
}

void jobs_wait_detached(struct jobs *j, const struct device *dev)
{
	uint64_t serial = atomic_load(&j->next_serial);
	uint32_t seen;

	for (seen = atomic_load(&j->freed); detached_before(j, serial, dev); seen = atomic_load(&j->freed))
		thread_wait(&j->freed, seen);
}

void jobs_pause(struct jobs *j)
{
	uint32_t seen;

	atomic_fetch_add(&j->paused, 1);
	for (seen = atomic_load(&j->freed); atomic_load(&j->nr_active); seen = atomic_load(&j->freed))
		thread_wait(&j->freed, seen);
}

void jobs_resume(struct jobs *j)
{
	atomic_fetch_sub(&j->paused, 1);
	atomic_fetch_add(&j->posted, 1);
	thread_wake(&j->posted, INT_MAX);
}
