/* SPDX-License-Identifier: MIT */
/*
 * A round has a number. A member sleeps until the number changes, does its part if its index is below the round's
 * count, and the last one to end wakes the caller. The count includes those with no part, so that no member can sleep
 * through a round and meet the next one's job with the last one's number.
 */
#include "tools/crew.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tools/clock.h"
#include "tools/say.h"
#include "uhmm/driver.h"
#include "uhmm/space.h"

struct crew {
	pthread_mutex_t lock;
	pthread_cond_t begun, ended;
	pthread_t threads[CREW_MAX];
	unsigned nr_threads; /* without the caller */

	/* guarded by lock */
	uint64_t round;
	unsigned nr_busy; /* threads that have not ended this round */
	bool quit;
	crew_job *job;
	void *arg;
	unsigned nr; /* members with a part */
	unsigned nr_born;
};

static void *member(void *arg)
{
	struct crew *crew = arg;
	unsigned index, nr;
	uint64_t seen = 0;
	crew_job *job;
	void *job_arg;

	pthread_mutex_lock(&crew->lock);
	index = ++crew->nr_born;
	for (;;) {
		while (crew->round == seen && !crew->quit)
			pthread_cond_wait(&crew->begun, &crew->lock);
		if (crew->quit)
			break;
		seen = crew->round;
		nr = crew->nr;
		job = crew->job;
		job_arg = crew->arg;
		pthread_mutex_unlock(&crew->lock);
		if (index < nr)
			job(job_arg, index, nr);
		pthread_mutex_lock(&crew->lock);
		if (--crew->nr_busy == 0)
			pthread_cond_signal(&crew->ended);
	}
	pthread_mutex_unlock(&crew->lock);
	return NULL;
}

int crew_create(struct crew **ret, unsigned nr)
{
	struct crew *crew = calloc(1, sizeof(*crew));
	int err = crew ? 0 : ENOMEM;

	if (crew) {
		pthread_mutex_init(&crew->lock, NULL);
		pthread_cond_init(&crew->begun, NULL);
		pthread_cond_init(&crew->ended, NULL);
	}
	while (!err && crew->nr_threads + 1 < nr) {
		err = pthread_create(&crew->threads[crew->nr_threads], NULL, member, crew);
		if (!err)
			crew->nr_threads++;
	}
	if (err) {
		say("%u threads cannot be had: %s", nr, strerror(err));
		crew_destroy(crew);
		return -err;
	}
	*ret = crew;
	return 0;
}

void crew_destroy(struct crew *crew)
{
	if (!crew)
		return;
	pthread_mutex_lock(&crew->lock);
	crew->quit = true;
	pthread_cond_broadcast(&crew->begun);
	pthread_mutex_unlock(&crew->lock);
	for (unsigned i = 0; i < crew->nr_threads; i++)
		pthread_join(crew->threads[i], NULL);
	pthread_cond_destroy(&crew->ended);
	pthread_cond_destroy(&crew->begun);
	pthread_mutex_destroy(&crew->lock);
	free(crew);
}

double crew_run(struct crew *crew, unsigned nr, crew_job *job, void *arg)
{
	uint64_t start = clock_ns();

	if (nr > 1) {
		pthread_mutex_lock(&crew->lock);
		crew->job = job;
		crew->arg = arg;
		crew->nr = nr;
		crew->nr_busy = crew->nr_threads;
		crew->round++;
		pthread_cond_broadcast(&crew->begun);
		pthread_mutex_unlock(&crew->lock);
	}
	job(arg, 0, nr);
	if (nr > 1) {
		pthread_mutex_lock(&crew->lock);
		while (crew->nr_busy)
			pthread_cond_wait(&crew->ended, &crew->lock);
		pthread_mutex_unlock(&crew->lock);
	}
	return (double)(clock_ns() - start) / 1e9;
}

struct copy {
	unsigned char *dst;
	const unsigned char *src;
	uint64_t bytes;
	_Atomic uint64_t next; /* first byte that nobody has taken */
};

static void copy_part(void *arg, unsigned index, unsigned nr)
{
	struct copy *c = arg;
	uint64_t at, left;

	(void)index;
	(void)nr;
	while ((at = atomic_fetch_add(&c->next, UHMM_BLOCK_BYTES)) < c->bytes) {
		left = c->bytes - at;
		uhmm_copy(c->dst + at, c->src + at, left < UHMM_BLOCK_BYTES ? left : UHMM_BLOCK_BYTES);
	}
}

double crew_copy(struct crew *crew, unsigned nr, void *dst, const void *src, uint64_t bytes)
{
	struct copy c = { .dst = dst, .src = src, .bytes = bytes };

	return crew_run(crew, bytes > UHMM_BLOCK_BYTES ? nr : 1, copy_part, &c);
}
