/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "space/notify.h"

#define AT UINT64_C(0x40000000)

static struct notifiers ns;
static struct gate gate;
static struct { _Atomic unsigned nr; _Atomic uint64_t start, end; atomic_bool hold, inside; } heard;

static void hear(void *ctx, void *start, void *end)
{
	heard.start = (uintptr_t)start;
	heard.end = (uintptr_t)end;
	heard.nr++;
	heard.inside = true;
	while (heard.hold)
		sched_yield();
	heard.inside = false;
	assert_ptr_equal(ctx, &heard);
}

static int forget(void **state)
{
	(void)state;
	memset(&ns, 0, sizeof(ns));
	memset(&heard, 0, sizeof(heard));
	gate_init(&gate);
	return 0;
}

static struct notifier *add(uint64_t start, uint64_t end, unsigned owner)
{
	struct notifier *n = notify_add(&ns, start, end, owner, hear, &heard);

	assert_non_null(n);
	return n;
}

static void a_change_is_told_of_where_it_concerns(void **state)
{
	struct notifier *n = add(AT, AT + 10 * PAGE_BYTES, 0);

	(void)state;
	notify_changed(&ns, AT - PAGE_BYTES, AT, 0);
	notify_changed(&ns, AT + 10 * PAGE_BYTES, AT + 11 * PAGE_BYTES, 0);
	assert_int_equal(heard.nr, 0);
	notify_changed(&ns, AT + 9 * PAGE_BYTES, AT + 20 * PAGE_BYTES, 0);
	assert_int_equal(heard.nr, 1);
	assert_int_equal(heard.start, AT + 9 * PAGE_BYTES);
	assert_int_equal(heard.end, AT + 10 * PAGE_BYTES);
	notify_changed(&ns, 0, UINT64_MAX, 7);
	assert_int_equal(heard.nr, 2);
	assert_int_equal(heard.start, AT);
	notify_remove(&ns, n);
	notify_changed(&ns, 0, UINT64_MAX, 7);
	assert_int_equal(heard.nr, 2);
}

static void what_a_device_does_itself_is_no_news(void **state)
{
	struct notifier *n = add(AT, AT + PAGE_BYTES, 5);
	uint64_t seq = notify_read_begin(n);

	(void)state;
	notify_changed(&ns, AT, AT + PAGE_BYTES, 5);
	assert_int_equal(heard.nr, 0);
	assert_false(notify_read_retry(n, &gate, seq));
	notify_changed(&ns, AT, AT + PAGE_BYTES, 6);
	assert_int_equal(heard.nr, 1);
	assert_true(notify_read_retry(n, &gate, seq));
	notify_changed(&ns, AT, AT + PAGE_BYTES, 0); /* nobody's is everybody's */
	assert_int_equal(heard.nr, 2);
}

static void slots_are_used_again(void **state)
{
	struct notifier *n[MAX_NOTIFIERS];

	(void)state;
	for (unsigned i = 0; i < MAX_NOTIFIERS; i++)
		n[i] = add(AT + i * PAGE_BYTES, AT + (i + 1) * PAGE_BYTES, 0);
	assert_null(notify_add(&ns, AT, AT + PAGE_BYTES, 0, hear, &heard));
	assert_int_equal(ns.nr, MAX_NOTIFIERS);
	notify_remove(&ns, n[7]);
	assert_false(notify_is_live(&ns, n[7]));
	assert_ptr_equal(add(AT, AT + PAGE_BYTES, 0), n[7]);
	assert_true(notify_is_live(&ns, n[7]));
	assert_false(notify_is_live(&ns, NULL));
	assert_false(notify_is_live(&ns, (struct notifier *)((char *)n[7] + 1)));
	notify_changed(&ns, AT, AT + MAX_NOTIFIERS * PAGE_BYTES, 0);
	assert_int_equal(heard.nr, MAX_NOTIFIERS);
}

static void *change(void *arg)
{
	(void)arg;
	notify_changed(&ns, AT, AT + PAGE_BYTES, 0);
	return NULL;
}

static atomic_bool removed, begun;

static void *remove_it(void *arg)
{
	notify_remove(&ns, arg);
	removed = true;
	return NULL;
}

static void *begin_it(void *arg)
{
	(void)notify_read_begin(arg);
	begun = true;
	return NULL;
}

/* The sequence says so before the callback is over, or who holds its lock would believe what it is about to take away. */
static void a_callback_that_runs_is_waited_for_and_seen(void **state)
{
	struct notifier *n = add(AT, AT + PAGE_BYTES, 0);
	uint64_t seq = notify_read_begin(n);
	pthread_t changer, remover, beginner;

	(void)state;
	removed = begun = false;
	heard.hold = true;
	changer = spawn(change, NULL);
	while (!heard.inside)
		sched_yield();
	assert_true(notify_read_retry(n, &gate, seq));
	beginner = spawn(begin_it, n);
	remover = spawn(remove_it, n);
	while (n->state != NOTIFY_DYING)
		sched_yield();
	for (unsigned i = 0; i < 100; i++)
		sched_yield();
	assert_false(removed || begun);
	heard.hold = false;
	pthread_join(changer, NULL);
	pthread_join(beginner, NULL);
	pthread_join(remover, NULL);
	assert_true(removed && begun);
}

static void an_event_that_is_being_applied_counts_as_a_change(void **state)
{
	struct notifier *n = add(AT, AT + PAGE_BYTES, 0);
	uint64_t seq = notify_read_begin(n);

	(void)state;
	gate_enter(&gate, GATE_EVENTS);
	assert_true(notify_read_retry(n, &gate, seq)); /* and does not wait for us */
	gate_leave(&gate, GATE_EVENTS);
	assert_false(notify_read_retry(n, &gate, seq));
	gate_enter(&gate, GATE_MOVES);
	assert_false(notify_read_retry(n, &gate, seq));
	gate_leave(&gate, GATE_MOVES);
}

/* Four threads change what two others add and remove: no callback after a removal. */
#define NR_ROUNDS 2000

static struct owner { _Atomic bool live; _Atomic unsigned nr_late; } owners[2];
static atomic_bool over;

static void hear_as(void *ctx, void *start, void *end)
{
	struct owner *o = ctx;

	(void)start;
	(void)end;
	if (!o->live)
		o->nr_late++;
}

static void *change_again_and_again(void *arg)
{
	(void)arg;
	while (!over)
		notify_changed(&ns, AT, AT + PAGE_BYTES, 0);
	return NULL;
}

static void *come_and_go(void *arg)
{
	struct owner *o = arg;

	for (unsigned i = 0; i < NR_ROUNDS; i++) {
		struct notifier *n;

		o->live = true;
		n = notify_add(&ns, AT, AT + PAGE_BYTES, 0, hear_as, o);
		if (!n)
			o->nr_late++;
		(void)notify_read_begin(n);
		notify_remove(&ns, n);
		o->live = false;
	}
	return NULL;
}

static void nobody_is_called_after_removal(void **state)
{
	pthread_t changers[2], comers[2];

	(void)state;
	over = false;
	for (unsigned i = 0; i < 2; i++) {
		changers[i] = spawn(change_again_and_again, NULL);
		comers[i] = spawn(come_and_go, &owners[i]);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(comers[i], NULL);
	over = true;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(changers[i], NULL);
	assert_int_equal(owners[0].nr_late + owners[1].nr_late, 0);
	assert_int_equal(ns.nr, 0);
}

int main(void)
{
#define FRESH(name) cmocka_unit_test_setup(name, forget)
	const struct CMUnitTest tests[] = {
		FRESH(a_change_is_told_of_where_it_concerns),
		FRESH(what_a_device_does_itself_is_no_news),
		FRESH(slots_are_used_again),
		FRESH(a_callback_that_runs_is_waited_for_and_seen),
		FRESH(an_event_that_is_being_applied_counts_as_a_change),
		FRESH(nobody_is_called_after_removal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
