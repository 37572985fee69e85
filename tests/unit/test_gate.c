/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/gate.c" /* for inside() and waiting() */

#define ROUNDS  3000
#define THREADS 3 /* a side */

static unsigned now_inside(struct gate *g, enum gate_side side) { return (unsigned)inside(atomic_load(&g->state), side); }
static unsigned now_waiting(struct gate *g, enum gate_side side) { return (unsigned)waiting(atomic_load(&g->state), side); }

static void moves_are_open_to_many(void **state)
{
	struct gate g;

	(void)state;
	gate_init(&g);
	for (unsigned n = 1; n <= 5; n++) {
		gate_enter(&g, GATE_MOVES);
		assert_int_equal(now_inside(&g, GATE_MOVES), n);
	}
	for (unsigned n = 5; n-- > 0;) {
		gate_leave(&g, GATE_MOVES);
		assert_int_equal(now_inside(&g, GATE_MOVES), n);
	}
	gate_enter(&g, GATE_EVENTS);
	assert_int_equal(now_inside(&g, GATE_EVENTS), 1);
	gate_leave(&g, GATE_EVENTS);
	assert_int_equal(atomic_load(&g.state), 0);
}

struct crowd {
	struct gate gate;
	_Atomic unsigned in[2], rounds[2], violations;
	uint64_t plain[2]; /* a side writes its own, and reads the other's: TSan sees whether the gate orders that */
};

static void one_round(struct crowd *c, enum gate_side side, unsigned n)
{
	gate_enter(&c->gate, side);
	if (atomic_fetch_add(&c->in[side], 1) && side == GATE_EVENTS)
		atomic_fetch_add(&c->violations, 1);
	if (atomic_load(&c->in[!side]))
		atomic_fetch_add(&c->violations, 1);
	if (n % 16 == 0)
		sched_yield(); /* so that others come while this one is in */
	if (atomic_load(&c->in[!side]))
		atomic_fetch_add(&c->violations, 1);
	atomic_fetch_sub(&c->in[side], 1);
	gate_leave(&c->gate, side);
	atomic_fetch_add(&c->rounds[side], 1);
}

static void *crowd_moves(void *arg)
{
	for (unsigned n = 0; n < ROUNDS; n++)
		one_round(arg, GATE_MOVES, n);
	return NULL;
}

static void *crowd_events(void *arg)
{
	for (unsigned n = 0; n < ROUNDS; n++)
		one_round(arg, GATE_EVENTS, n);
	return NULL;
}

static void never_both_sides_nor_two_events_and_all_get_in(void **state)
{
	struct crowd c = { .violations = 0 };
	pthread_t t[2 * THREADS];

	(void)state;
	gate_init(&c.gate);
	for (unsigned i = 0; i < THREADS; i++) {
		t[2 * i] = spawn(crowd_moves, &c);
		t[2 * i + 1] = spawn(crowd_events, &c);
	}
	for (unsigned i = 0; i < 2 * THREADS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(c.violations, 0);
	assert_int_equal(c.rounds[GATE_MOVES], THREADS * ROUNDS);
	assert_int_equal(c.rounds[GATE_EVENTS], THREADS * ROUNDS);
	assert_int_equal(atomic_load(&c.gate.state), 0);
}

static void *write_as_event(void *arg)
{
	struct crowd *c = arg;

	for (unsigned n = 0; n < ROUNDS; n++) {
		gate_enter(&c->gate, GATE_EVENTS);
		c->plain[GATE_EVENTS] = c->plain[GATE_MOVES] + 1;
		gate_leave(&c->gate, GATE_EVENTS);
	}
	return NULL;
}

static void what_one_side_did_the_other_sees(void **state)
{
	struct crowd c = { .violations = 0 };
	uint64_t seen = 0;
	pthread_t t;

	(void)state;
	gate_init(&c.gate);
	t = spawn(write_as_event, &c);
	for (unsigned n = 1; n <= ROUNDS; n++) {
		gate_enter(&c.gate, GATE_MOVES);
		if (c.plain[GATE_EVENTS] < seen || c.plain[GATE_EVENTS] > n)
			c.violations++;
		seen = c.plain[GATE_EVENTS];
		c.plain[GATE_MOVES] = n;
		gate_leave(&c.gate, GATE_MOVES);
	}
	pthread_join(t, NULL);
	assert_int_equal(c.violations, 0);
}

/* One thread that enters a side once, says so, and leaves when told. */
struct visitor {
	struct gate *gate;
	enum gate_side side;
	_Atomic bool in, may_leave, out;
};

static void *visit(void *arg)
{
	struct visitor *v = arg;

	gate_enter(v->gate, v->side);
	atomic_store(&v->in, true);
	while (!atomic_load(&v->may_leave))
		sched_yield();
	gate_leave(v->gate, v->side);
	atomic_store(&v->out, true);
	return NULL;
}

static void until_true(_Atomic bool *flag)
{
	while (!atomic_load(flag))
		sched_yield();
}

static void the_other_side_waits_until_all_have_left(void **state)
{
	struct gate g;
	struct visitor v = { .gate = &g, .side = GATE_EVENTS, .may_leave = true };
	pthread_t t;

	(void)state;
	gate_init(&g);
	gate_enter(&g, GATE_MOVES);
	gate_enter(&g, GATE_MOVES);
	t = spawn(visit, &v);
	while (!now_waiting(&g, GATE_EVENTS))
		sched_yield();
	gate_leave(&g, GATE_MOVES);
	for (unsigned i = 0; i < 300; i++)
		sched_yield();
	assert_false(v.in);
	gate_leave(&g, GATE_MOVES);
	pthread_join(t, NULL);
	assert_true(v.in);
	assert_int_equal(atomic_load(&g.state), 0);
}

/* One of this side is in, one of the other waits: a newcomer of this side must not slip in before that one. */
static void newcomers_queue_behind_a_waiter(enum gate_side side)
{
	struct gate g;
	struct visitor other = { .gate = &g, .side = !side }, newcomer = { .gate = &g, .side = side, .may_leave = true };
	pthread_t t[2];
	bool early;

	gate_init(&g);
	gate_enter(&g, side);
	t[0] = spawn(visit, &other);
	while (!now_waiting(&g, !side))
		sched_yield();
	t[1] = spawn(visit, &newcomer);
	while (!now_waiting(&g, side) && !newcomer.in)
		sched_yield();
	for (unsigned i = 0; i < 300; i++)
		sched_yield();
	early = newcomer.in;
	gate_leave(&g, side);
	atomic_store(&other.may_leave, true);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	assert_false(early);
	assert_int_equal(atomic_load(&g.state), 0);
}

static void newcomers_do_not_starve_a_waiting_event(void **state)
{
	(void)state;
	newcomers_queue_behind_a_waiter(GATE_MOVES);
}

static void newcomers_do_not_starve_a_waiting_move(void **state)
{
	(void)state;
	newcomers_queue_behind_a_waiter(GATE_EVENTS);
}

static void an_event_waits_for_the_one_before_it(void **state)
{
	struct gate g;
	struct visitor v = { .gate = &g, .side = GATE_EVENTS, .may_leave = true };
	pthread_t t;
	bool early;

	(void)state;
	gate_init(&g);
	gate_enter(&g, GATE_EVENTS);
	t = spawn(visit, &v);
	while (!now_waiting(&g, GATE_EVENTS))
		sched_yield();
	for (unsigned i = 0; i < 300; i++)
		sched_yield();
	early = v.in;
	gate_leave(&g, GATE_EVENTS);
	pthread_join(t, NULL);
	assert_false(early);
}

static void moves_that_wait_get_in_together(void **state)
{
	struct gate g;
	struct visitor v[3];
	pthread_t t[3];

	(void)state;
	gate_init(&g);
	gate_enter(&g, GATE_EVENTS);
	for (unsigned i = 0; i < 3; i++) {
		v[i] = (struct visitor){ .gate = &g, .side = GATE_MOVES };
		t[i] = spawn(visit, &v[i]);
	}
	while (now_waiting(&g, GATE_MOVES) < 3)
		sched_yield();
	gate_leave(&g, GATE_EVENTS);
	for (unsigned i = 0; i < 3; i++)
		until_true(&v[i].in);
	assert_int_equal(now_inside(&g, GATE_MOVES), 3);
	for (unsigned i = 0; i < 3; i++) {
		atomic_store(&v[i].may_leave, true);
		pthread_join(t[i], NULL);
	}
}

static int leave_without_entering(void *arg)
{
	struct gate g;

	(void)arg;
	gate_init(&g);
	gate_enter(&g, GATE_MOVES);
	gate_leave(&g, GATE_EVENTS);
	return 0;
}

static void leaving_a_side_nobody_is_on_aborts(void **state)
{
	(void)state;
	assert_true(aborts(leave_without_entering, NULL));
}

struct awaited {
	struct gate gate;
	atomic_bool done;
};

static void *await(void *arg)
{
	struct awaited *w = arg;

	gate_await_events(&w->gate);
	atomic_store(&w->done, true);
	return NULL;
}

static void awaiting_events_waits_for_who_is_inside_and_no_longer(void **state)
{
	struct awaited w = { .done = false };
	pthread_t t;

	(void)state;
	gate_init(&w.gate);
	gate_await_events(&w.gate);
	gate_enter(&w.gate, GATE_MOVES);
	gate_await_events(&w.gate); /* movers are nothing to it */
	gate_leave(&w.gate, GATE_MOVES);

	/* always somebody inside: one that leaves is enough */
	gate_enter(&w.gate, GATE_EVENTS);
	t = spawn(await, &w);
	for (unsigned i = 0; i < 100; i++)
		sched_yield();
	assert_false(atomic_load(&w.done));
	while (!atomic_load(&w.done)) {
		gate_leave(&w.gate, GATE_EVENTS);
		gate_enter(&w.gate, GATE_EVENTS);
		sched_yield();
	}
	pthread_join(t, NULL);
	gate_leave(&w.gate, GATE_EVENTS);
	assert_int_equal(atomic_load(&w.gate.state), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moves_are_open_to_many),
		cmocka_unit_test(never_both_sides_nor_two_events_and_all_get_in),
		cmocka_unit_test(what_one_side_did_the_other_sees),
		cmocka_unit_test(the_other_side_waits_until_all_have_left),
		cmocka_unit_test(newcomers_do_not_starve_a_waiting_event),
		cmocka_unit_test(newcomers_do_not_starve_a_waiting_move),
		cmocka_unit_test(an_event_waits_for_the_one_before_it),
		cmocka_unit_test(moves_that_wait_get_in_together),
		cmocka_unit_test(awaiting_events_waits_for_who_is_inside_and_no_longer),
		cmocka_unit_test(leaving_a_side_nobody_is_on_aborts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
