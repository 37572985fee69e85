/* SPDX-License-Identifier: MIT */
#include "migrate/jobs.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "space/vma.h"

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

/* The oldest job with work left. */
static struct job *pick_locked(struct jobs *j)
{
	struct job *best = NULL;

	for (unsigned i = 0; i < JOB_SLOTS; i++) {
		struct job *job = &j->job[i];

		if (job->state != JOB_QUEUED || job->cursor >= job->end || (j->paused && !job->urgent))
			continue;
		if (!best || job->serial < best->serial)
			best = job;
	}
	return best;
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

static void run_chunk(struct worker *w, const struct job *job, uint64_t start, uint64_t end, struct tally *t)
{
	memset(t, 0, sizeof(*t));
	switch (job->kind) {
	case JOB_TO_DEVICE:
		migrate_to_device(&w->mover, start, end, job->dev, t);
		break;
	case JOB_TO_SYSTEM:
		migrate_to_system(&w->mover, start, end, job->dev, t);
		break;
	case JOB_DISARM:
		vma_disarm(w->jobs->m->sp, start, end);
		break;
	}
}

static void end_chunk_locked(struct jobs *j, struct job *job, const struct tally *t)
{
	merge(&job->tally, t);
	if (t->error && job->kind == JOB_TO_DEVICE)
		job->cursor = job->end; /* a device in trouble gets no more */
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

static void *work(void *arg)
{
	struct worker *w = arg;
	struct jobs *j = w->jobs;
	struct tally t;

	lock_take(&j->lock);
	for (;;) {
		struct job *job = pick_locked(j);
		uint64_t start, end;

		if (!job) {
			if (j->stop)
				break;
			lock_wait(&j->lock, &j->posted);
			continue;
		}
		start = job->cursor;
		end = min_u64(block_down(start) + job->chunk_bytes, job->end);
		job->cursor = end;
		job->active++;
		j->nr_active++;
		lock_drop(&j->lock);
		run_chunk(w, job, start, end, &t);
		lock_take(&j->lock);
		end_chunk_locked(j, job, &t);
		if (!--j->nr_active)
			pthread_cond_broadcast(&j->done);
	}
	lock_drop(&j->lock);
	return NULL;
}

int jobs_init(struct jobs *j, struct migrator *m, unsigned nr_workers)
{
	int r = 0;

	j->m = m;
	lock_init(&j->lock, LOCK_LEAF);
	pthread_cond_init(&j->posted, NULL);
	pthread_cond_init(&j->done, NULL);
	while (!r && j->nr_workers < nr_workers) {
		struct worker *w = &j->worker[j->nr_workers];

		w->jobs = j;
		r = mover_init(&w->mover, m);
		if (r)
			break;
		r = thread_start(&w->thread, "uhmm-move", work, w);
		if (r)
			mover_fini(&w->mover);
		else
			j->nr_workers++;
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
	pthread_cond_broadcast(&j->posted);
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
