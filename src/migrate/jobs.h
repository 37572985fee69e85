/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_JOBS_H
#define MIGRATE_JOBS_H

/*
 * The threads that migrate. A thread of the program never moves pages itself: it could be interrupted by a signal handler,
 * or stand on a stack, that touches the very page it holds - and wait for itself. It posts a job and waits; the workers
 * run on memory of our own with signals blocked.
 *
 * On the way to a device one worker at a time fills a batch of isolated blocks, and all take pieces of it to copy; with a
 * device that copies by itself, each keeps one copy in flight while it starts the next. On the way home the range is cut
 * into chunks, which the workers take one after another.
 */

#include <pthread.h>
#include <stdbool.h>

#include "migrate/migrate.h"
#include "os/thread.h"

#define MAX_WORKERS   64
#define JOB_SLOTS     128
#define MAX_PREFETCHES 64

enum job_kind { JOB_TO_DEVICE, JOB_TO_SYSTEM, JOB_DISARM };

struct job {
	/* guarded by jobs.lock */
	enum { JOB_FREE, JOB_QUEUED, JOB_DONE } state;
	enum job_kind kind;
	bool detached;            /* nobody waits for it: a prefetch */
	bool urgent;              /* runs even while the others are paused */
	uint64_t cursor, end;     /* what no worker has taken yet */
	uint64_t chunk_bytes;     /* not to a device */
	bool filling;             /* to a device: a worker is making a batch */
	unsigned active;          /* workers in it, and batches of it */
	uint64_t serial;          /* order of posting */
	struct device *dev;
	struct tally tally;
};

struct jobs {
	/* constant after jobs_init() */
	struct migrator *m;
	unsigned nr_workers;
	struct worker {
		struct jobs *jobs;
		struct thread thread;
		struct mover mover;
		struct job_batch {
			/* guarded by lock */
			struct job *job; /* NULL: free */
			struct batch batch;
		} batch[2];               /* one may still be copied by others while the next is filled */
	} worker[MAX_WORKERS];

	/* guarded by lock (rank LEAF) */
	struct lock lock;
	pthread_cond_t posted, done;
	struct job job[JOB_SLOTS];
	uint64_t next_serial;
	unsigned nr_prefetches;
	unsigned nr_active;       /* chunks and batches being worked on */
	unsigned nr_idle;         /* workers that wait for a job */
	unsigned paused;
	bool stop;
};

/* Return: 0 or -errno. */
int jobs_init(struct jobs *j, struct migrator *m, unsigned nr_workers);
void jobs_fini(struct jobs *j);

/* Runs a job to its end. @dev: to the device; to the system: NULL for any. Context: a thread of the program. */
void jobs_run(struct jobs *j, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev, bool urgent,
	      struct tally *ret);

/* Posts a job and does not wait. Return: 0 or -EAGAIN when too many wait already. */
int jobs_post(struct jobs *j, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev);

/* Waits until all detached jobs posted so far have ended; with @dev, those to that device. */
void jobs_wait_detached(struct jobs *j, const struct device *dev);

/* Lets what is under way end and starts nothing but urgent jobs until jobs_resume(). Nests. */
void jobs_pause(struct jobs *j);
void jobs_resume(struct jobs *j);

#endif
