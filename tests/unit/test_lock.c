/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/lock.h"

static struct lock lock[NR_LOCK_RANKS];

static int make_locks(void **state)
{
	(void)state;
	for (int r = 0; r < NR_LOCK_RANKS; r++)
		lock_init(&lock[r], (enum lock_rank)r);
	return 0;
}

static int free_locks(void **state)
{
	(void)state;
	for (int r = 0; r < NR_LOCK_RANKS; r++)
		lock_fini(&lock[r]);
	return 0;
}

static void locks_nest_in_the_order_of_their_ranks(void **state)
{
	(void)state;
	lock_assert_none_held();
	for (int r = 0; r < NR_LOCK_RANKS; r++)
		lock_take(&lock[r]);
	for (int r = NR_LOCK_RANKS; r-- > 0;)
		lock_drop(&lock[r]);
	lock_assert_none_held();
}

static void they_may_be_dropped_in_any_order(void **state)
{
	(void)state;
	lock_take(&lock[LOCK_SPACE]);
	lock_take(&lock[LOCK_POOL]);
	lock_drop(&lock[LOCK_SPACE]);
	lock_take(&lock[LOCK_LEAF]);
	lock_drop(&lock[LOCK_POOL]);
	lock_drop(&lock[LOCK_LEAF]);
	lock_assert_none_held();
}

static void *take_the_other(void *arg)
{
	bool *had = arg;

	*had = lock_try(&lock[LOCK_LEAF]);
	lock_take(&lock[LOCK_REGISTRY]); /* what another thread holds does not count */
	lock_drop(&lock[LOCK_REGISTRY]);
	return NULL;
}

static void a_try_fails_while_another_thread_holds_it(void **state)
{
	bool had = true;

	(void)state;
	lock_take(&lock[LOCK_LEAF]);
	pthread_join(spawn(take_the_other, &had), NULL);
	assert_false(had);
	lock_drop(&lock[LOCK_LEAF]);
	assert_true(lock_try(&lock[LOCK_LEAF]));
	lock_drop(&lock[LOCK_LEAF]);
}

static struct { pthread_cond_t cond; int turn; } meeting = { PTHREAD_COND_INITIALIZER, 0 };

static void *answer(void *arg)
{
	(void)arg;
	lock_take(&lock[LOCK_LEAF]);
	while (meeting.turn != 1)
		lock_wait(&lock[LOCK_LEAF], &meeting.cond);
	meeting.turn = 2;
	pthread_cond_broadcast(&meeting.cond);
	lock_drop(&lock[LOCK_LEAF]);
	return NULL;
}

static void waiting_lets_others_in_and_holds_it_afterwards(void **state)
{
	pthread_t t;

	(void)state;
	meeting.turn = 0;
	t = spawn(answer, NULL);
	lock_take(&lock[LOCK_LEAF]);
	meeting.turn = 1;
	pthread_cond_broadcast(&meeting.cond);
	while (meeting.turn != 2)
		lock_wait(&lock[LOCK_LEAF], &meeting.cond);
	lock_drop(&lock[LOCK_LEAF]);
	lock_assert_none_held();
	pthread_join(t, NULL);
}

static struct { uint64_t n; } guarded;

static void *count_up(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 20000; i++) {
		lock_take(&lock[LOCK_POOL]);
		guarded.n++;
		lock_drop(&lock[LOCK_POOL]);
	}
	return NULL;
}

static void one_thread_at_a_time(void **state)
{
	pthread_t t[3];

	(void)state;
	guarded.n = 0;
	for (unsigned i = 0; i < 3; i++)
		t[i] = spawn(count_up, NULL);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(guarded.n, 60000);
}

#ifdef UHMM_DEBUG_CHECKS
struct pair { int first, second; bool try; };

static int take_pair(void *arg)
{
	struct pair *p = arg;

	lock_take(&lock[p->first]);
	if (p->try)
		(void)lock_try(&lock[p->second]);
	else if (p->first == p->second)
		lock_rank_enter((enum lock_rank)p->second); /* another lock of that rank */
	else
		lock_take(&lock[p->second]);
	return 0;
}

static void every_reversal_aborts(void **state)
{
	(void)state;
	for (int first = 0; first < NR_LOCK_RANKS; first++)
		for (int second = 0; second < NR_LOCK_RANKS; second++)
			assert_int_equal(aborts(take_pair, &(struct pair){ first, second, false }), second <= first);
}

static void a_try_against_the_order_aborts_too(void **state)
{
	(void)state;
	assert_true(aborts(take_pair, &(struct pair){ LOCK_POOL, LOCK_SPACE, true }));
	assert_false(aborts(take_pair, &(struct pair){ LOCK_SPACE, LOCK_POOL, true }));
}

static void the_log_names_both(void **state)
{
	struct said *s = said_start();

	(void)state;
	assert_true(aborts(take_pair, &(struct pair){ LOCK_DEVICE, LOCK_BLOCK, false }));
	assert_non_null(strstr(s->line, "BLOCK was taken"));
	assert_non_null(strstr(s->line, "DEVICE was held"));
	said_end(s);
}

static int hold_one_and_assert_none(void *arg)
{
	lock_take(&lock[*(int *)arg]);
	lock_assert_none_held();
	return 0;
}

static void holding_one_where_none_may_be_held_aborts(void **state)
{
	(void)state;
	for (int r = 0; r < NR_LOCK_RANKS; r++)
		assert_true(aborts(hold_one_and_assert_none, &r));
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(locks_nest_in_the_order_of_their_ranks),
		cmocka_unit_test(they_may_be_dropped_in_any_order),
		cmocka_unit_test(a_try_fails_while_another_thread_holds_it),
		cmocka_unit_test(waiting_lets_others_in_and_holds_it_afterwards),
		cmocka_unit_test(one_thread_at_a_time),
#ifdef UHMM_DEBUG_CHECKS
		cmocka_unit_test(every_reversal_aborts),
		cmocka_unit_test(a_try_against_the_order_aborts_too),
		cmocka_unit_test(the_log_names_both),
		cmocka_unit_test(holding_one_where_none_may_be_held_aborts),
#endif
	};

	return cmocka_run_group_tests(tests, make_locks, free_locks);
}
