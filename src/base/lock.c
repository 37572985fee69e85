/* SPDX-License-Identifier: MIT */
#include "base/lock.h"

#include "base/err.h"
#include "base/log.h"

#ifdef UHMM_DEBUG_CHECKS
/* One bit a rank. Two locks of one rank are never held at once, so a bit is enough. */
static _Thread_local unsigned ranks_held;

static const char *const rank_names[NR_LOCK_RANKS] = { "REGISTRY", "SPACE", "BLOCK", "FOLIO", "DEVICE", "POOL", "LEAF" };

void lock_rank_enter(enum lock_rank rank)
{
	unsigned deeper = ranks_held & ~((1u << rank) - 1);

	if (unlikely(deeper))
		log_die("lock %s was taken while %s was held", rank_names[rank], rank_names[__builtin_ctz(deeper)]);
	ranks_held |= 1u << rank;
}

void lock_rank_leave(enum lock_rank rank)
{
	ranks_held &= ~(1u << rank);
}

void lock_assert_none_held(void)
{
	uhmm_assert(!ranks_held);
}
#endif

void lock_init(struct lock *l, enum lock_rank rank)
{
	l->rank = rank;
	pthread_mutex_init(&l->mutex, NULL);
}

void lock_fini(struct lock *l)
{
	pthread_mutex_destroy(&l->mutex);
}

void lock_take(struct lock *l)
{
	lock_rank_enter(l->rank);
	pthread_mutex_lock(&l->mutex);
}

bool lock_try(struct lock *l)
{
	if (pthread_mutex_trylock(&l->mutex))
		return false;
	lock_rank_enter(l->rank);
	return true;
}

void lock_drop(struct lock *l)
{
	pthread_mutex_unlock(&l->mutex);
	lock_rank_leave(l->rank);
}

void lock_wait(struct lock *l, pthread_cond_t *cond)
{
	pthread_cond_wait(cond, &l->mutex);
}
