/* SPDX-License-Identifier: MIT */
/* Migration by hand while others touch, fork, unmap and migrate; by offset; in the walk of uhmm_range_fault(); and what is refused. */
#include "by_hand.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "uhmm/driver.h"

static int begin_at(uint64_t offset, size_t bytes, uint32_t select)
{
	args = (struct uhmm_migrate_args){ .sz = sizeof(args), .offset = offset, .len_bytes = bytes, .dev = dev, .select = select,
					   .src = src, .dst = dst };
	return uhmm_migrate_setup_device(space, &args, &m);
}

static pthread_t spawn(void *(*run)(void *), void *arg)
{
	pthread_t id;

	assert_int_equal(pthread_create(&id, NULL, run, arg), 0);
	return id;
}

/* ---- by offset ---- */

static void a_piece_of_the_device_is_emptied(void **state)
{
	char *mem = filled(3 * BLOCK, true);
	struct uhmm_range_page page = { 0 };
	struct uhmm_range range = { .sz = sizeof(range), .start = mem, .len_bytes = PAGE, .dev = dev, .pages = &page };
	size_t there;

	go(mem, 2 * BLOCK);
	go(mem + 2 * BLOCK + PAGE, 10 * PAGE);
	there = used_bytes();

	/* a part of the first folio: it is split */
	assert_int_equal(uhmm_range_fault(space, &range), 0);
	assert_int_equal(begin_at(uhmm_range_page_offset(page) + 4 * PAGE, 4 * PAGE, HOME), 0);
	assert_int_equal(args.cpages, 4);
	end_all(4);
	assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_DEVICE), 508);
	assert_int_equal(count_where(mem + 4 * PAGE, 4 * PAGE, UHMM_WHERE_SYSTEM), 4);
	assert_int_equal(used_bytes(), there - 4 * PAGE);

	/* all of it; nobody says whose it is */
	assert_int_equal(begin_at(0, 64 * MIB, HOME), 0);
	assert_int_equal(args.cpages, PAGES(there) - 4);
	end_all(PAGES(there) - 4);
	assert_int_equal(used_bytes(), 0);
	assert_true(all_home(mem, 3 * BLOCK));
	expect(mem, 0, 3 * BLOCK);

	assert_int_equal(begin_at(0, 64 * MIB, HOME), 0);
	assert_int_equal(args.cpages, 0);
	assert_int_equal(uhmm_migrate_finalize(m, NULL), 0);
	put_down(mem, 3 * BLOCK);
}

/* The arrays and the stack are on the device, too: they are left there, and the caller goes on. */
static void what_the_caller_stands_on_is_spared(void **state)
{
	char *mem = filled(2 * BLOCK, true);
	struct uhmm_migrate_args a = { .sz = sizeof(a), .len_bytes = 64 * MIB, .dev = dev, .select = HOME,
				       .src = (void *)(map_anon(BLOCK, true, true)), .dst = (void *)(map_anon(BLOCK, true, true)) };
	struct uhmm_migrate *h;

	memset(a.src, 0, BLOCK);
	memset(a.dst, 0, BLOCK);
	go(mem, 2 * BLOCK);
	go(a.src, BLOCK);
	go(a.dst, BLOCK);
	assert_int_equal(uhmm_migrate_setup_device(space, &a, &h), 0);
	assert_int_equal(a.cpages, PAGES(2 * BLOCK));
	assert_int_equal(uhmm_migrate_alloc(h), 0);
	assert_int_equal(uhmm_migrate_copy(h), 0);
	assert_int_equal(uhmm_migrate_pages(h), PAGES(2 * BLOCK));
	assert_int_equal(uhmm_migrate_finalize(h, NULL), UHMM_E_PARTIAL);
	unmap_anon(a.src, BLOCK);
	unmap_anon(a.dst, BLOCK);
	expect(mem, 0, 2 * BLOCK);
	put_down(mem, 2 * BLOCK);
}

/* ---- others at the same time ---- */

static char *shared_mem;
static atomic_bool over;
static _Atomic unsigned nr_wrong;

#define NR_BLOCKS 4

static _Atomic uint64_t *counter_at(size_t page, unsigned who)
{
	return (_Atomic uint64_t *)(void *)(shared_mem + page * PAGE) + who;
}

struct toucher { unsigned who; uint64_t rounds; };

static void *touch(void *arg)
{
	struct toucher *t = arg;

	for (; !over; t->rounds++)
		for (size_t page = t->who; page < PAGES(NR_BLOCKS * BLOCK); page += 37)
			atomic_fetch_add(counter_at(page, t->who), 1);
	return NULL;
}

static void *move(void *arg)
{
	for (unsigned k = 0; !over; k++) {
		int r = k % 4 == 3 ? uhmm_to_system(space, shared_mem, NR_BLOCKS * BLOCK, 0, NULL) :
				     uhmm_to_device(space, shared_mem + k % 3 * BLOCK, BLOCK, dev, 0, NULL);

		nr_wrong += r < 0;
	}
	return NULL;
}

/* A migration of its own, with its own arrays: two at once may want the same pages. */
static void *migrate_by_hand(void *arg)
{
	static struct uhmm_mpfn arrays[2][2][PAGES(UHMM_MIGRATE_BYTES)];
	unsigned who = (unsigned)(uintptr_t)arg;

	for (unsigned k = 0; k < 60; k++) {
		struct uhmm_migrate_args a = { .sz = sizeof(a), .dev = dev, .src = arrays[who][0], .dst = arrays[who][1] };
		struct uhmm_migrate *h;
		int r;

		switch ((k + who) % 3) {
		case 0: /* what CPUs are touching all the while is evicted, by offset */
			a.len_bytes = 64 * MIB;
			a.select = k % 2 ? HOME : UHMM_SELECT_DEVICE;
			r = uhmm_migrate_setup_device(space, &a, &h);
			break;
		case 1:
			a.start = shared_mem + k % 5 * PAGE;
			a.len_bytes = 2 * BLOCK;
			a.select = SYSTEM;
			r = uhmm_migrate_setup(space, &a, &h);
			break;
		default:
			a.start = shared_mem;
			a.len_bytes = NR_BLOCKS * BLOCK;
			a.select = HOME;
			r = uhmm_migrate_setup(space, &a, &h);
		}
		if (r) {
			nr_wrong++;
			continue;
		}
		r = uhmm_migrate_alloc(h);
		nr_wrong += r < 0 || uhmm_migrate_copy(h);
		if (k % 7)
			nr_wrong += uhmm_migrate_pages(h) < 0;
		nr_wrong += uhmm_migrate_finalize(h, NULL) < 0;
		if (k % 7 == 0) /* nothing was decided: the folios are still ours */
			for (size_t i = 0; i < PAGES(a.len_bytes); i++)
				if (a.dst[i].bits & UHMM_MPFN_DEVICE_PRIVATE)
					nr_wrong += uhmm_folio_free(dev, a.dst[i]) != 0;
	}
	return NULL;
}

static void nothing_is_lost_while_all_touch_and_move(void **state)
{
	struct toucher touchers[2] = { { .who = 0 }, { .who = 1 } };
	pthread_t by_hand[2], touching[2], mover;

	shared_mem = map_anon(NR_BLOCKS * BLOCK, true, true);
	memset(shared_mem, 0, NR_BLOCKS * BLOCK);
	over = false;
	mover = spawn(move, NULL);
	for (unsigned i = 0; i < 2; i++)
		touching[i] = spawn(touch, &touchers[i]);
	for (unsigned i = 0; i < 2; i++)
		by_hand[i] = spawn(migrate_by_hand, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(by_hand[i], NULL);
	over = true;
	pthread_join(mover, NULL);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(touching[i], NULL);
	assert_int_equal(nr_wrong, 0);
	for (unsigned i = 0; i < 2; i++)
		for (size_t page = i; page < PAGES(NR_BLOCKS * BLOCK); page += 37) {
			assert_int_equal(*counter_at(page, i), touchers[i].rounds);
			*counter_at(page, i) = 0;
		}
	assert_zeros(shared_mem, NR_BLOCKS * BLOCK);
	put_down(shared_mem, NR_BLOCKS * BLOCK);
}

static atomic_bool touched;

static void *touch_one(void *arg)
{
	*(volatile char *)arg = 'x';
	touched = true;
	return NULL;
}

static void a_touch_waits_until_the_end(void **state)
{
	char *mem = filled(BLOCK, true);
	pthread_t id;

	touched = false;
	begin(mem, BLOCK, SYSTEM);
	id = spawn(touch_one, mem + 5);
	for (unsigned i = 0; i < 200; i++)
		sched_yield();
	assert_false(touched);
	end_all(512);
	pthread_join(id, NULL);
	assert_int_equal(mem[5], 'x');
	put_down(mem, BLOCK);
}

static atomic_bool forked;

static void *fork_and_look(void *arg)
{
	char *mem = arg;
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(check_pattern(mem, BLOCK, SEED) == -1 ? 0 : 1);
	forked = true;
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
		nr_wrong++;
	return NULL;
}

static void a_fork_by_another_thread_waits_and_the_child_has_all(void **state)
{
	for (unsigned home = 0; home < 2; home++) {
		char *mem = filled(BLOCK, true);
		pthread_t id;

		forked = false;
		nr_wrong = 0;
		if (home)
			go(mem, BLOCK);
		begin(mem, BLOCK, home ? HOME : SYSTEM);
		id = spawn(fork_and_look, mem);
		for (unsigned i = 0; i < 500; i++)
			sched_yield();
		assert_false(forked);
		end_all(512);
		pthread_join(id, NULL);
		assert_int_equal(nr_wrong, 0);
		expect(mem, 0, BLOCK);
		put_down(mem, BLOCK);
	}
}

/* The program has folios in store: neither a fork nor uhmm_device_release() waits for those to go. */
static void folios_in_store_hold_nothing_up(void **state)
{
	char *mem = filled(BLOCK, true);
	struct uhmm_mpfn folio;

	assert_int_equal(uhmm_folio_alloc(dev, 0, &folio), 0);
	go(mem, BLOCK);
	nr_wrong = 0;
	(void)fork_and_look(mem);
	assert_int_equal(nr_wrong, 0);
	fill_pattern(mem, BLOCK, SEED); /* written since the fork: ours alone again */
	settle(mem, BLOCK);
	go(mem, BLOCK);
	assert_int_equal(uhmm_device_release(dev), 0);
	assert_int_equal(used_bytes(), PAGE);
	assert_int_equal(uhmm_device_close(dev), -EBUSY);
	assert_int_equal(uhmm_folio_free(dev, folio), 0);
	expect(mem, 0, BLOCK);
	put_down(mem, BLOCK);
}

static void two_at_once_share_nothing(void **state)
{
	static struct uhmm_mpfn other_src[512], other_dst[512];
	struct uhmm_migrate_args a = { .sz = sizeof(a), .dev = dev, .select = SYSTEM, .src = other_src, .dst = other_dst };
	struct uhmm_migrate *other;
	char *mem = filled(2 * BLOCK, true);

	begin(mem, BLOCK, SYSTEM);
	a.start = mem;
	a.len_bytes = BLOCK;
	assert_int_equal(uhmm_migrate_setup(space, &a, &other), 0);
	assert_int_equal(a.cpages, 0);
	assert_int_equal(uhmm_migrate_why(other, 9), UHMM_SKIP_RACED);
	assert_int_equal(uhmm_device_close(dev), -EBUSY);
	assert_int_equal(uhmm_device_release(dev), -EBUSY);
	assert_int_equal(uhmm_close(space), -EBUSY);
	assert_int_equal(uhmm_migrate_finalize(other, NULL), UHMM_E_PARTIAL);
	end_all(512);
	assert_true(all_on_device(mem, BLOCK));
	expect(mem, 0, 2 * BLOCK);
	put_down(mem, 2 * BLOCK);
}

/* ---- in the walk of uhmm_range_fault() ---- */

static void one_walk_faults_in_and_takes(void **state)
{
	static struct uhmm_range_page pages[512];
	struct uhmm_device *other = open_device("emu:size=64M");
	char *mem = map_anon(BLOCK, true, false);
	struct uhmm_range range = { .sz = sizeof(range), .start = mem, .len_bytes = 64 * PAGE, .dev = dev, .pages = pages, .migrate = &m,
				    .default_flags = UHMM_RANGE_REQ_MIGRATE | UHMM_RANGE_REQ_FAULT, .migrate_args = &args };

	fill_pattern(mem, 32 * PAGE, SEED); /* the rest is not there */
	go(mem, 4 * PAGE);
	assert_int_equal(uhmm_to_device(space, mem + 4 * PAGE, 4 * PAGE, other, 0, NULL), 0);
	args = (struct uhmm_migrate_args){ .sz = sizeof(args), .select = UHMM_SELECT_COMPOUND, .src = src, .dst = dst };
	assert_int_equal(uhmm_range_fault(space, &range), 0);
	assert_non_null(m);
	assert_int_equal(args.cpages, 56);
	for (unsigned i = 0; i < 64; i++) {
		assert_true(pages[i].bits & UHMM_RANGE_VALID);
		assert_int_equal(!!(pages[i].bits & UHMM_RANGE_DEVICE), i < 4);
		assert_int_equal(!!(pages[i].bits & UHMM_RANGE_MIGRATE), i >= 8);
		assert_int_equal(!!(src[i].bits & UHMM_MPFN_VALID), i >= 8 && i < 32);
	}
	end_all(56);
	assert_int_equal(count_where(mem, 64 * PAGE, UHMM_WHERE_DEVICE), 60);
	assert_int_equal(check_pattern(mem, 32 * PAGE, SEED), -1);
	assert_zeros(mem + 32 * PAGE, BLOCK - 32 * PAGE);

	/* nothing to take; and a failure takes nothing */
	settle(mem, BLOCK);
	go(mem, 64 * PAGE);
	assert_int_equal(uhmm_range_fault(space, &range), 0);
	assert_null(m);
	come(mem, 64 * PAGE);
	assert_int_equal(mprotect(mem + 63 * PAGE, PAGE, PROT_NONE), 0);
	settle(mem, BLOCK);
	assert_int_equal(uhmm_range_fault(space, &range), -EFAULT);
	assert_null(m);
	assert_true(all_home(mem, BLOCK));
	assert_int_equal(check_pattern(mem, 32 * PAGE, SEED), -1);
	put_down(mem, BLOCK);
	assert_int_equal(uhmm_device_close(other), 0);
}

/* ---- what cannot be meant ---- */

static void what_cannot_be_meant_is_refused(void **state)
{
	char *mem = map_anon(4 * PAGE, true, false);
	const struct uhmm_migrate_args good = { .sz = sizeof(good), .start = mem, .len_bytes = 4 * PAGE, .dev = dev, .select = SYSTEM,
						.src = src, .dst = dst };
	struct uhmm_migrate_args bad;
	struct uhmm_mpfn folio = { 0 };
	char here = 0;

	memset(mem, 1, 4 * PAGE);
	support_log_start(UHMM_LOG_WARN);
#define BAD_FOR(call, field, value, error)                          \
	do {                                                        \
		bad = good;                                         \
		bad.field = (value);                                \
		refused(error, call(space, &bad, &m));              \
	} while (0)
#define BAD(field, value, error) BAD_FOR(uhmm_migrate_setup, field, value, error)
	BAD(sz, 8, -EINVAL);
	BAD(start, mem + 1, -EINVAL);
	BAD(len_bytes, 0, -EINVAL);
	BAD(len_bytes, 5000, -EINVAL);
	BAD(len_bytes, UHMM_MIGRATE_BYTES + PAGE, -EINVAL);
	BAD(len_bytes, 8 * PAGE, -EINVAL); /* beyond the mapping lies one that is not readable, and then none */
	BAD(dev, (struct uhmm_device *)(void *)mem, -ENODEV);
	BAD(dev, NULL, -ENODEV);
	BAD(select, 0, -EINVAL);
	BAD(select, UHMM_SELECT_SYSTEM | UHMM_SELECT_DEVICE, -EINVAL);
	BAD(select, HOME | UHMM_SELECT_FAULT, -EINVAL);
	BAD(select, SYSTEM | 1u << 30, -EINVAL);
	BAD(reserved, 1, -EINVAL);
	BAD(src, NULL, -EINVAL);
	BAD(dst, NULL, -EINVAL);
	BAD(src, (struct uhmm_mpfn *)(void *)mem, -EINVAL);
	BAD(start, (void *)((uintptr_t)&here & ~(PAGE - 1)), -EINVAL); /* this very stack */
	BAD_FOR(uhmm_migrate_setup_device, select, SYSTEM, -EINVAL);
	bad = good;
	bad.select = HOME;
	bad.offset = 100;
	refused(-EINVAL, uhmm_migrate_setup_device(space, &bad, &m));
	bad.offset = 64 * MIB;
	refused(-EINVAL, uhmm_migrate_setup_device(space, &bad, &m));
	bad.offset = (uint64_t)0 - PAGE;
	refused(-EINVAL, uhmm_migrate_setup_device(space, &bad, &m));
	bad = good;
	refused(-EINVAL, uhmm_migrate_setup(NULL, &bad, &m));
	refused(-EINVAL, uhmm_migrate_setup(space, NULL, &m));
	refused(-EINVAL, uhmm_migrate_setup(space, &bad, NULL));

	refused(-EINVAL, uhmm_folio_alloc(dev, 10, &folio));
	refused(-EINVAL, uhmm_folio_alloc(dev, 0, NULL));
	refused(-EINVAL, uhmm_folio_alloc(NULL, 0, &folio));
	refused(-EINVAL, uhmm_folio_free(dev, folio));
	folio.bits = UHMM_MPFN_DEVICE_PRIVATE | 5 * PAGE;
	refused(-EINVAL, uhmm_folio_free(dev, folio));

	assert_int_equal(uhmm_migrate_finalize(NULL, NULL), 0);
	assert_int_equal(uhmm_migrate_setup(space, &bad, &m), 0);
	support_log_clear();
	assert_int_equal(uhmm_migrate_alloc(m), 0);
	assert_int_equal(uhmm_migrate_pages(m), 4); /* what was not copied is whatever the device holds there */
	refused(-EINVAL, uhmm_migrate_pages(m));
	refused(-EINVAL, uhmm_migrate_alloc(m));
	refused(-EINVAL, uhmm_migrate_copy(m));
	assert_int_equal(uhmm_migrate_finalize(m, NULL), 0);
	refused(-EINVAL, uhmm_migrate_finalize(m, NULL));
	refused(-EINVAL, uhmm_migrate_pages(m));
	uhmm_log_set(NULL, NULL, 0);
	put_down(mem, 4 * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_piece_of_the_device_is_emptied),
		cmocka_unit_test(what_the_caller_stands_on_is_spared),
		cmocka_unit_test(nothing_is_lost_while_all_touch_and_move),
		cmocka_unit_test(a_touch_waits_until_the_end),
		cmocka_unit_test(a_fork_by_another_thread_waits_and_the_child_has_all),
		cmocka_unit_test(folios_in_store_hold_nothing_up),
		cmocka_unit_test(two_at_once_share_nothing),
		cmocka_unit_test(one_walk_faults_in_and_takes),
		cmocka_unit_test(what_cannot_be_meant_is_refused),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
