/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_JOBS_H
#define MIGRATE_JOBS_H

/*
 * The threads that migrate. A thread of the program never moves pages itself: it could be interrupted by a signal handler,
 * or stand on a stack, that touches the very page it holds - and wait for itself. It posts a job and waits; the workers
 * run on memory of our own with signals blocked. Nor does it take a lock that a worker needs: it could be stopped, with the
 * lock held, by a touch of its own stack that waits for that worker. So jobs are posted, waited for and paused without
 * locks; what the workers share among themselves has one.
 *
 * On the way to a device one worker at a time fills a batch of isolated blocks, and all take pieces of it to copy; with a
 * device that copies by itself, each keeps one copy in flight while it starts the next. On the way home the range is cut
 * into chunks, which the workers take one after another.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "migrate/migrate.h"
#include "os/thread.h"

#define MAX_WORKERS   64
#define JOB_SLOTS     128
#define MAX_PREFETCHES 64

/* JOB_EVICT: to a device, for the sake of the memory: what takes none stays where it is */
enum job_kind { JOB_TO_DEVICE, JOB_TO_DEVICE_READ_ONLY, JOB_EVICT, JOB_TO_SYSTEM, JOB_ONWARD, JOB_DISARM, JOB_CALL };

/* What else a worker may be asked to do. Context: a worker, no lock held. */
typedef void job_fn(struct mover *mv, void *arg);

struct job {
	/* atomic; FREE -> FILLING and DONE -> FREE by who posts, the rest by workers. Whoever posts sleeps on it */
	_Atomic uint32_t state;

	/* written while FILLING, constant while QUEUED */
	enum job_kind kind;
	atomic_bool detached;     /* nobody waits for it: a prefetch. Who waits for prefetches looks at it, .serial and .dev */
	unsigned limit;           /* to a device: the largest order of a folio + 1, 0 for what suits */
	bool urgent;              /* runs even while the others are paused */
	uint64_t chunk_bytes;     /* not to a device */
	job_fn *call;             /* JOB_CALL: this, once */
	void *arg;
	_Atomic uint64_t serial;  /* order of posting */
	struct device *_Atomic dev;
	struct device *to;        /* JOB_ONWARD: from .dev to this one */

	/* guarded by jobs.lock while QUEUED */
	uint64_t cursor, end;     /* what no worker has taken yet */
	bool filling;             /* to a device: a worker is making a batch */
	unsigned active;          /* workers in it, and batches of it */
	struct tally tally;
};

enum { JOB_FREE, JOB_FILLING, JOB_QUEUED, JOB_DONE };

struct jobs {
	/* constant after jobs_init() */
	struct migrator *m;
	_Atomic unsigned nr_workers; /* grows while they are started */
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

	/* atomic: what threads of the program share with workers */
	struct job job[JOB_SLOTS];
	_Atomic uint32_t posted;  /* grows when there may be work; workers sleep on it */
	_Atomic uint32_t freed;   /* grows when a slot becomes free, or nobody is active; others sleep on it */
	_Atomic uint64_t next_serial;
	_Atomic unsigned nr_prefetches;
	_Atomic unsigned nr_active; /* chunks and batches being worked on, and workers that are looking for one */
	_Atomic unsigned paused;
	atomic_bool stop;

	/* guarded by lock (rank LEAF), for workers alone */
	struct lock lock;
	unsigned nr_idle;         /* workers that sleep */
};

/* Return: 0 or -errno. */
int jobs_init(struct jobs *j, struct migrator *m, unsigned nr_workers);
void jobs_fini(struct jobs *j);

/* Runs a job to its end. @dev: to the device; to the system: NULL for any. Context: a thread of the program. */
void jobs_run(struct jobs *j, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev, bool urgent,
	      struct tally *ret);

/* The same to a device, with folios of at most order @limit - 1; 0: as suits the memory and the device. */
void jobs_run_limited(struct jobs *j, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev, unsigned limit,
		      struct tally *ret);

/* Runs a job that moves on what is on @from to @to. Context: a thread of the program or of the policy. */
void jobs_run_onward(struct jobs *j, uint64_t start, uint64_t end, struct device *from, struct device *to, struct tally *ret);

/* Lets a worker call @call with @arg, and waits. Context: a thread of the program. */
void jobs_call(struct jobs *j, job_fn *call, void *arg);

/* Posts a job and does not wait. Return: 0 or -EAGAIN when too many wait already. */
int jobs_post(struct jobs *j, enum job_kind kind, uint64_t start, uint64_t end, struct device *dev);

/* Waits until all detached jobs posted so far have ended; with @dev, those to that device. */
void jobs_wait_detached(struct jobs *j, const struct device *dev);

/* Lets what is under way end and starts nothing but urgent jobs until jobs_resume(). Nests. */
void jobs_pause(struct jobs *j);
void jobs_resume(struct jobs *j);

#endif
