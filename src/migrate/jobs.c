/* SPDX-License-Identifier: MIT */
#include "migrate/jobs.h"

#include <errno.h>
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

	if (kind == JOB_DISARM)
		return block_up(bytes) + BLOCK_BYTES;
	if (blocks < 1)
		blocks = 1;
	if (blocks > MAX_CHUNK_BLOCKS)
		blocks = MAX_CHUNK_BLOCKS;
	/* "everything" is a large range with little in it */
	return max_u64(blocks << BLOCK_SHIFT, block_up(bytes / MAX_CHUNKS));
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
	for (unsigned idle = j->nr_idle; n && idle; n--, idle--)
		pthread_cond_signal(&j->posted);
}

static void merge(struct tally *into, const struct tally *t)
{
	for (unsigned k = 0; k < NR_ORDERS; k++)
		into->moved_folios[k] += t->moved_folios[k];
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		into->skipped[k] += t->skipped[k];
	into->cleared_pages += t->cleared_pages;
	if (!into->error)
		into->error = t->error;
}

static void count(struct counters *n, const struct job *job)
{
	_Atomic uint64_t *folios = job->kind == JOB_TO_DEVICE ? n->to_device_folios : n->to_system_folios;

	for (unsigned k = 0; k < NR_ORDERS; k++)
		counter_add(&folios[k], job->tally.moved_folios[k]);
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		counter_add(&n->skipped_pages[k], job->tally.skipped[k]);
	if (job->detached) {
		counter_add(&n->prefetches, 1);
		counter_add(&n->prefetches_failed, job->tally.error != 0);
	}
}

static void enter_locked(struct jobs *j, struct job *job)
{
	job->active++;
	j->nr_active++;
}

/* A chunk or a batch has ended; perhaps the job has, too. */
static void leave_locked(struct jobs *j, struct job *job)
{
	if (!--j->nr_active)
		pthread_cond_broadcast(&j->done);
	if (--job->active || job->cursor < job->end)
		return;
	count(&j->m->sp->counters, job);
	job->state = JOB_DONE;
	if (job->detached) {
		job->state = JOB_FREE;
		j->nr_prefetches--;
	}
	pthread_cond_broadcast(&j->done);
}

/* ---- home, and disarming: by chunks ---- */

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
	else
		vma_disarm(j->m->sp, start, end);
	migrator_check(j->m);
	lock_take(&j->lock);
	merge(&job->tally, &t);
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
	stop = batch_fill(&w->mover, &jb->batch, start, job->end, job->dev, &t);
	lock_take(&j->lock);
	merge(&job->tally, &t);
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
	merge(&job->tally, &f->tally);
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
		now.piece = &now.jb->batch.piece[now.jb->batch.taken++];
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

static void *work(void *arg)
{
	struct worker *w = arg;
	struct jobs *j = w->jobs;

	lock_take(&j->lock);
	for (;;) {
		struct job_batch *jb = free_batch_locked(w);
		struct job *job;

		if (find_piece_locked(j)) {
			copy_pieces_locked(w);
			continue;
		}
		job = pick_locked(j);
		if (job && job->kind != JOB_TO_DEVICE) {
			run_chunk_locked(w, job);
		} else if (job && jb) {
			fill_batch_locked(w, job, jb);
		} else {
			if (j->stop)
				break;
			j->nr_idle++;
			lock_wait(&j->lock, &j->posted);
			j->nr_idle--;
		}
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
	pthread_cond_init(&j->posted, NULL);
	pthread_cond_init(&j->done, NULL);
	while (!r && j->nr_workers < nr_workers) {
		/* the workers before it look through all that count */
		r = worker_start(&j->worker[j->nr_workers], j);
		lock_take(&j->lock);
		j->nr_workers += !r;
		lock_drop(&j->lock);
	}
	if (r)
		jobs_fini(j);
	return r;
}

void jobs_fini(struct jobs *j)
{
	lock_take(&j->lock);
	j->stop = true;
	pthread_cond_broadcast(&j->posted);
	lock_drop(&j->lock);
	for (unsigned i = 0; i < j->nr_workers; i++) {
		thread_join(&j->worker[i].thread);
		batch_fini(&j->worker[i].batch[0].batch);
		batch_fini(&j->worker[i].batch[1].batch);
		mover_fini(&j->worker[i].mover);
	}
	j->nr_workers = 0;
	pthread_cond_destroy(&j->posted);
	pthread_cond_destroy(&j->done);
	lock_fini(&j->lock);
}

static struct job *free_slot_locked(struct jobs *j)
{
	for (unsigned i = 0; i < JOB_SLOTS; i++)
		if (j->job[i].state == JOB_FREE)
			return &j->job[i];
	return NULL;
}

static void post_locked(struct jobs *j, struct job *job, enum job_kind kind, uint64_t start, uint64_t end,
			struct device *dev)
{
	*job = (struct job){ .state = JOB_QUEUED, .kind = kind, .cursor = start, .end = end, .dev = dev,
			     .chunk_bytes = chunk_bytes(j, kind, end - start), .serial = j->next_serial++ };
	pthread_cond_signal(&j->posted);
}

void jobs_run(struct jobs *j, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev, bool urgent,
	      struct tally *ret)
{
	struct job *job;

	lock_take(&j->lock);
	while (!(job = free_slot_locked(j)))
		lock_wait(&j->lock, &j->done);
	post_locked(j, job, kind, start, end, dev);
	job->urgent = urgent;
	while (job->state != JOB_DONE)
		lock_wait(&j->lock, &j->done);
	*ret = job->tally;
	job->state = JOB_FREE;
	pthread_cond_broadcast(&j->done); /* the slot may be waited for */
	lock_drop(&j->lock);
}

int jobs_post(struct jobs *j, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev)
{
	struct job *job = NULL;

	lock_take(&j->lock);
	if (j->nr_prefetches < MAX_PREFETCHES)
		job = free_slot_locked(j);
	if (job) {
		post_locked(j, job, kind, start, end, dev);
		job->detached = true;
		j->nr_prefetches++;
	}
	lock_drop(&j->lock);
	return job ? 0 : -EAGAIN;
}

static bool detached_before_locked(const struct jobs *j, uint64_t serial, const struct device *dev)
{
	for (unsigned i = 0; i < JOB_SLOTS; i++) {
		const struct job *job = &j->job[i];

		if (job->state == JOB_QUEUED && job->detached && job->serial < serial && (!dev || job->dev == dev))
			return true;
	}
	return false;
}

void jobs_wait_detached(struct jobs *j, const struct device *dev)
{
	lock_take(&j->lock);
	for (uint64_t serial = j->next_serial; detached_before_locked(j, serial, dev);)
		lock_wait(&j->lock, &j->done);
	lock_drop(&j->lock);
}

void jobs_pause(struct jobs *j)
{
	lock_take(&j->lock);
	j->paused++;
	while (j->nr_active)
		lock_wait(&j->lock, &j->done);
	lock_drop(&j->lock);
}

void jobs_resume(struct jobs *j)
{
	lock_take(&j->lock);
	j->paused--;
	pthread_cond_broadcast(&j->posted);
	lock_drop(&j->lock);
}
