/* SPDX-License-Identifier: MIT */
/* Work on a device: ranges that are there and stay, where code that runs on it finds them, and who waits. emu's kernels are threads. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "uhmm/driver.h"

static struct uhmm_work *acquire(struct uhmm_device *d, void *start, size_t bytes, uint32_t flags)
{
	struct uhmm_work_range r = { start, bytes, flags, 0 };
	struct uhmm_work *w;

	assert_int_equal(uhmm_work_acquire(d, &r, 1, 0, &w, NULL), 0);
	return w;
}

static void release(struct uhmm_work *w)
{
	assert_int_equal(uhmm_work_release(w), 0);
}

/* Where a kernel finds a byte of the program. */
static char *device_side(struct uhmm_work *w, const void *addr)
{
	return (char *)(uintptr_t)uhmm_work_address(w, addr);
}

static uint64_t copied_folios(void)
{
	struct uhmm_stats st = stats();
	uint64_t n = 0;

	for (unsigned k = 0; k < UHMM_NR_ORDERS; k++)
		n += st.to_device_folios[k];
	return n;
}

/* ---- what a kernel finds ---- */

static void a_kernel_works_where_the_data_is(void **state)
{
	char *x = map_anon(4 * BLOCK, true, true), *y = map_anon(4 * BLOCK, true, true);
	struct uhmm_work_range r[] = { { x, 4 * BLOCK, UHMM_WORK_READ, 0 }, { y, 4 * BLOCK, 0, 0 } };
	const struct uhmm_work_extent *e;
	struct uhmm_work *w;
	RESULT(res);
	uint64_t copies;
	size_t nr;

	(void)state;
	fill_pattern(x, 4 * BLOCK, 1);
	memset(y, 0, 4 * BLOCK);
	assert_int_equal(uhmm_work_acquire(dev, r, 2, 0, &w, &res), 0);
	assert_int_equal(res.moved_bytes, 8 * BLOCK);
	assert_true(all_on_device(x, 4 * BLOCK));
	e = uhmm_work_extents(w, &nr);
	assert_non_null(e);
	for (size_t i = 0; i < nr; i++)
		assert_true(e[i].bytes && e[i].address && (!i || e[i].start >= e[i - 1].start + e[i - 1].bytes));
	for (size_t at = 0; at < 4 * BLOCK; at += PAGE)
		memcpy(device_side(w, y + at), device_side(w, x + at), PAGE);
	assert_null(device_side(w, x - 1));
	release(w);
	assert_true(all_on_device(y, 4 * BLOCK));

	/* what is there costs no copy */
	copies = copied_folios();
	assert_int_equal(uhmm_work_acquire(dev, r, 2, 0, &w, NULL), 0);
	release(w);
	assert_int_equal(copied_folios(), copies);

	assert_pattern(y, 4 * BLOCK, 1);
	if (has_thp())
		assert_int_equal(anon_huge_bytes(y, 4 * BLOCK), 4 * BLOCK);
	unmap_anon(x, 4 * BLOCK);
	unmap_anon(y, 4 * BLOCK);
}

/* Some pages of a THP are held: the others are anybody's, this thread's too. */
static void neighbours_are_not_held(void **state)
{
	char *mem = map_anon(2 * BLOCK, true, true);
	struct uhmm_work_range r[] = { { mem + 3 * PAGE, 5 * PAGE, 0, 0 },
				       { mem + 6 * PAGE, 100 * PAGE, UHMM_WORK_READ, 0 },
				       { mem + BLOCK - PAGE, 2 * PAGE - 1, 0, 0 } };
	struct uhmm_work *w;

	(void)state;
	fill_pattern(mem, 2 * BLOCK, 2);
	go(mem, 2 * BLOCK);
	assert_int_equal(uhmm_work_acquire(dev, r, 3, 0, &w, NULL), 0);
	assert_int_equal(check_pattern(mem, 3 * PAGE, 2), -1);
	for (size_t i = 3; i < 8; i++)
		memset(device_side(w, mem + i * PAGE), 'd', PAGE);
	memset(device_side(w, mem + BLOCK), 'd', PAGE);
	assert_null(device_side(w, mem + 2 * PAGE));
	assert_null(device_side(w, mem + BLOCK + PAGE));
	release(w);
	for (size_t i = 0; i < 2 * BLOCK; i++)
		if ((i >= 3 * PAGE && i < 8 * PAGE) || (i >= BLOCK && i < BLOCK + PAGE)) {
			assert_int_equal(mem[i], 'd');
			mem[i] = 0;
		}
	unmap_anon(mem, 2 * BLOCK);
}

static void what_another_device_has_comes_too(void **state)
{
	char *mem = map_anon(2 * BLOCK, true, true);
	struct uhmm_device *other = open_device("emu:size=16M");
	struct uhmm_work *w;

	(void)state;
	fill_pattern(mem, 2 * BLOCK, 3);
	assert_int_equal(uhmm_to_device(space, mem, BLOCK, other, 0, NULL), 0);
	w = acquire(dev, mem, 2 * BLOCK, UHMM_WORK_READ);
	assert_int_equal(check_pattern(device_side(w, mem), BLOCK, 3), -1);
	release(w);
	assert_pattern(mem, 2 * BLOCK, 3);
	unmap_anon(mem, 2 * BLOCK);
	assert_int_equal(uhmm_device_close(other), 0);
}

/* ---- who waits ---- */

struct toucher {
	_Atomic uint64_t *word;
	_Atomic int began;
	uint64_t seen;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	t->began = 1;
	t->seen = atomic_fetch_add(t->word, 1);
	return NULL;
}

static void a_touch_waits_for_the_release(void **state)
{
	char *mem = map_anon(BLOCK, true, true);

	(void)state;
	memset(mem, 0, BLOCK);
	for (unsigned i = 0; i < 50; i++) {
		struct uhmm_work *w = acquire(dev, mem, BLOCK, 0);
		struct toucher t = { .word = (_Atomic uint64_t *)(void *)(mem + i * PAGE) };
		volatile uint64_t *word = (uint64_t *)(void *)device_side(w, mem + i * PAGE);
		pthread_t id;

		assert_int_equal(pthread_create(&id, NULL, touch, &t), 0);
		eventually(t.began);
		for (unsigned k = 0; k < 100; k++) {
			*word = k;
			sched_yield();
		}
		*word = 1000;
		release(w);
		assert_int_equal(pthread_join(id, NULL), 0);
		assert_int_equal(t.seen, 1000);
		assert_int_equal(*t.word, 1001);
	}
	unmap_anon(mem, BLOCK);
}

static void *fork_and_look(void *arg)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(*(volatile char *)arg != 'e');
	(void)waitpid(pid, &status, 0);
	return status ? arg : NULL;
}

static void a_fork_waits_for_the_release(void **state)
{
	char *mem = map_anon(BLOCK, true, true);
	struct uhmm_work *w;
	pthread_t id;
	void *wrong;

	(void)state;
	memset(mem, 'a', BLOCK);
	w = acquire(dev, mem, BLOCK, 0);
	assert_int_equal(pthread_create(&id, NULL, fork_and_look, mem + 5 * PAGE), 0);
	for (char c = 'a'; c <= 'e'; c++) {
		*device_side(w, mem + 5 * PAGE) = c;
		sched_yield();
	}
	release(w);
	assert_int_equal(pthread_join(id, &wrong), 0);
	assert_null(wrong);
	unmap_anon(mem, BLOCK);
}

/* The CPU takes back what the device reads; the device does not notice, whatever comes to the device meanwhile. */
static void what_is_read_stays_as_it_was(void **state)
{
	struct uhmm_device *small = open_device("emu:size=8M");
	char *mem = map_anon(2 * BLOCK, true, true), *other = map_anon(8 * BLOCK, true, true);
	struct uhmm_work *w;

	(void)state;
	fill_pattern(mem, 2 * BLOCK, 5);
	fill_pattern(other, 8 * BLOCK, 6);
	w = acquire(small, mem, 2 * BLOCK, UHMM_WORK_READ);
	memset(mem, 0xee, 2 * BLOCK);
	assert_true(all_home(mem, 2 * BLOCK));
	(void)uhmm_to_device(space, other, 8 * BLOCK, small, 0, NULL);
	assert_int_equal(check_pattern(device_side(w, mem), BLOCK, 5), -1);
	assert_int_equal(info(small).used_bytes, 8 * MIB);
	release(w);
	eventually(info(small).used_bytes == 4 * MIB);
	for (size_t i = 0; i < 2 * BLOCK; i++)
		assert_int_equal((unsigned char)mem[i], 0xee);
	assert_pattern(other, 8 * BLOCK, 6);
	unmap_anon(mem, 2 * BLOCK);
	unmap_anon(other, 8 * BLOCK);
	assert_int_equal(uhmm_device_close(small), 0);
}

/* munmap does not wait; what the device still writes hits nobody. */
static void what_is_unmapped_is_kept_for_the_device(void **state)
{
	struct uhmm_device *small = open_device("emu:size=8M");
	char *mem = map_anon(2 * BLOCK, true, true), *other = map_anon(4 * BLOCK, true, true), *at[2];
	struct uhmm_work_range r[] = { { mem, BLOCK, 0, 0 }, { mem + BLOCK, BLOCK, UHMM_WORK_READ, 0 } };
	struct uhmm_work *w;

	(void)state;
	memset(mem, 1, 2 * BLOCK);
	fill_pattern(other, 4 * BLOCK, 7);
	assert_int_equal(uhmm_work_acquire(small, r, 2, 0, &w, NULL), 0);
	at[0] = device_side(w, mem);
	at[1] = device_side(w, mem + BLOCK);
	unmap_anon(mem, 2 * BLOCK);
	(void)uhmm_to_device(space, other, 4 * BLOCK, small, 0, NULL);
	memset(at[0], 0xdd, BLOCK);
	memset(at[1], 0xdd, BLOCK);
	release(w);
	assert_pattern(other, 4 * BLOCK, 7);
	eventually(!info(small).used_bytes);
	unmap_anon(other, 4 * BLOCK);
	assert_int_equal(uhmm_device_close(small), 0);
}

/* mremap does not wait either: what the device has written is where the page went. */
static void what_is_moved_away_is_found_there(void **state)
{
	char *mem = map_anon(2 * BLOCK, true, true), *there = map_anon(2 * BLOCK, true, true);
	struct uhmm_work *w;

	(void)state;
	memset(mem, 1, 2 * BLOCK);
	w = acquire(dev, mem, 2 * BLOCK, 0);
	assert_ptr_equal(mremap(mem, 2 * BLOCK, 2 * BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, there), there);
	memset(device_side(w, mem), 9, PAGE);
	release(w);
	assert_int_equal(there[0], 9);
	assert_int_equal(there[PAGE], 1);
	unmap_anon(there, 2 * BLOCK);
}

/* ---- a device that is full ---- */

static void what_was_used_longest_ago_makes_room(void **state)
{
	struct uhmm_device *small = open_device("emu:size=8M");
	char *mem = map_anon(6 * BLOCK, true, true);
	const unsigned order[] = { 0, 2, 0, 4 };

	(void)state;
	fill_pattern(mem, 6 * BLOCK, 8);
	for (unsigned i = 0; i < 4; i++) {
		usleep(10000); /* the moments are told apart by 4 ms; earlier or later, the order is the same */
		release(acquire(small, mem + order[i] * BLOCK, 2 * BLOCK, i % 2 ? UHMM_WORK_READ : 0));
	}
	assert_true(all_on_device(mem, 2 * BLOCK));
	assert_true(all_home(mem + 2 * BLOCK, 2 * BLOCK));
	assert_true(all_on_device(mem + 4 * BLOCK, 2 * BLOCK));
	assert_pattern(mem, 6 * BLOCK, 8);
	unmap_anon(mem, 6 * BLOCK);
	assert_int_equal(uhmm_device_close(small), 0);
}

/* In the same 4 ms, in which blocks cannot be told apart by their age. */
static void what_is_asked_for_is_not_what_makes_room(void **state)
{
	struct uhmm_device *small = open_device("emu:size=8M");
	char *mem = map_anon(6 * BLOCK, true, true);

	(void)state;
	fill_pattern(mem, 6 * BLOCK, 8);
	for (unsigned i = 0; i < 10; i++) {
		release(acquire(small, mem, 2 * BLOCK, 0));
		release(acquire(small, mem + 4 * BLOCK, 2 * BLOCK, 0));
		release(acquire(small, mem, 3 * BLOCK, 0));
	}
	assert_pattern(mem, 6 * BLOCK, 8);
	unmap_anon(mem, 6 * BLOCK);
	assert_int_equal(uhmm_device_close(small), 0);
}

/* The next piece is fetched while one is worked on. */
static void work_that_writes_leaves_room_to_others(void **state)
{
	struct uhmm_device *small = open_device("emu:size=8M");
	char *mem = map_anon(5 * BLOCK, true, true);
	struct uhmm_work *first;

	(void)state;
	fill_pattern(mem, 5 * BLOCK, 8);
	assert_int_equal(uhmm_to_device(space, mem, 4 * BLOCK, small, 0, NULL), 0);
	first = acquire(small, mem, BLOCK, 0);
	release(acquire(small, mem + 4 * BLOCK, BLOCK, 0));
	release(first);
	assert_pattern(mem, 5 * BLOCK, 8);
	unmap_anon(mem, 5 * BLOCK);
	assert_int_equal(uhmm_device_close(small), 0);
}

static void *open_by_name(void *name)
{
	struct uhmm_device *d;

	return uhmm_device_open(space, name, &d) || uhmm_device_close(d) ? name : NULL;
}

/* Whoever waits for a held page may have a lock of the library: the release must not want it. */
static void a_release_waits_for_nobody_who_waits_for_it(void **state)
{
	char *mem = map_anon(BLOCK, true, true);
	struct uhmm_work *w;
	pthread_t id;
	void *wrong;

	(void)state;
	memset(mem, 0, BLOCK);
	strcpy(mem, "emu:size=8M");
	for (unsigned i = 0; i < 20; i++) {
		w = acquire(dev, mem, BLOCK, 0);
		assert_int_equal(pthread_create(&id, NULL, open_by_name, mem), 0);
		for (unsigned k = 0; k < 200; k++)
			sched_yield();
		release(w);
		assert_int_equal(pthread_join(id, &wrong), 0);
		assert_null(wrong);
	}
	unmap_anon(mem, BLOCK);
}

static void more_than_the_device_is_refused(void **state)
{
	struct uhmm_device *small = open_device("emu:size=8M");
	char *mem = map_anon(6 * BLOCK, true, true);
	struct uhmm_work_range all = { mem, 6 * BLOCK, 0, 0 }, some = { mem, 2 * BLOCK, 0, 0 };
	struct uhmm_work *w, *first;

	(void)state;
	fill_pattern(mem, 6 * BLOCK, 9);
	assert_int_equal(uhmm_work_acquire(small, &all, 1, 0, &w, NULL), -ENOSPC);
	assert_pattern(mem, 6 * BLOCK, 9); /* nothing is held */
	first = acquire(small, mem + 2 * BLOCK, 4 * BLOCK, 0);
	assert_int_equal(uhmm_work_acquire(small, &some, 1, 0, &w, NULL), -ENOSPC);
	release(first);
	w = acquire(small, mem, 2 * BLOCK, 0);
	release(w);
	assert_pattern(mem, 6 * BLOCK, 9);
	unmap_anon(mem, 6 * BLOCK);
	assert_int_equal(uhmm_device_close(small), 0);
}

/* ---- what cannot be had ---- */

static void what_cannot_be_had_is_told(void **state)
{
	char *mem = map_anon(2 * BLOCK, true, true);
	char *shared = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct uhmm_work_range r = { shared, BLOCK, 0, 0 };
	struct uhmm_work *w, *other;
	RESULT(res);

	(void)state;
	memset(shared, 1, BLOCK);
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, &res), -EBUSY);
	assert_true(res.skipped_pages[UHMM_SKIP_SHARED] > 0);

	/* other work has a part of it */
	other = acquire(dev, mem + BLOCK, BLOCK, 0);
	r = (struct uhmm_work_range){ mem, 2 * BLOCK, 0, 0 };
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), -EBUSY);
	mem[0] = 1; /* nothing is held */
	assert_int_equal(uhmm_close(space), -EBUSY);
	assert_int_equal(uhmm_device_close(dev), -EBUSY);
	release(other);

	munmap(shared, BLOCK);
	r = (struct uhmm_work_range){ shared, BLOCK, 0, 0 };
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), -EFAULT);
	unmap_anon(mem, 2 * BLOCK);
}

/* What the program may not do, code on the device may not either. */
static void protection_holds_for_the_device(void **state)
{
	char *mem = map_anon(2 * BLOCK, true, true);
	struct uhmm_work_range r = { mem, 2 * BLOCK, 0, 0 };
	struct uhmm_work *w;

	(void)state;
	fill_pattern(mem, 2 * BLOCK, 5);
	go(mem, 2 * BLOCK);
	assert_int_equal(mprotect(mem + BLOCK, BLOCK, PROT_READ), 0);
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), -EPERM);
	release(acquire(dev, mem, 2 * BLOCK, UHMM_WORK_READ));
	assert_int_equal(mprotect(mem + BLOCK, BLOCK, PROT_NONE), 0);
	r.flags = UHMM_WORK_READ;
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), -EFAULT);
	assert_int_equal(mprotect(mem + BLOCK, BLOCK, PROT_READ | PROT_WRITE), 0);
	assert_pattern(mem, 2 * BLOCK, 5);
	unmap_anon(mem, 2 * BLOCK);
}

static void two_may_read_at_a_time(void **state)
{
	char *mem = map_anon(BLOCK, true, true);
	struct uhmm_work *a, *b;

	(void)state;
	fill_pattern(mem, BLOCK, 4);
	a = acquire(dev, mem, BLOCK, UHMM_WORK_READ);
	b = acquire(dev, mem, BLOCK, UHMM_WORK_READ);
	release(a);
	assert_int_equal(check_pattern(device_side(b, mem), BLOCK, 4), -1);
	release(b);
	unmap_anon(mem, BLOCK);
}

static void wrong_arguments_are_refused(void **state)
{
	char *mem = map_anon(BLOCK, true, true);
	struct uhmm_work_range good = { mem, BLOCK, 0, 0 }, r = good;
	char here[1];
	struct uhmm_work *w;
	void *object;

	(void)state;
	assert_int_equal(uhmm_work_acquire(NULL, &r, 1, 0, &w, NULL), -EINVAL);
	assert_int_equal(uhmm_work_acquire(dev, NULL, 1, 0, &w, NULL), -EINVAL);
	assert_int_equal(uhmm_work_acquire(dev, &r, 0, 0, &w, NULL), -EINVAL);
	assert_int_equal(uhmm_work_acquire(dev, &r, UHMM_WORK_RANGES + 1, 0, &w, NULL), -EINVAL);
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 1, &w, NULL), -EINVAL);
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, NULL, NULL), -EINVAL);
	r.start = mem + 1;
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), -EINVAL);
	r = good;
	r.len_bytes = 0;
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), -EINVAL);
	r = good;
	r.flags = 2;
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), -EINVAL);
	r = (struct uhmm_work_range){ (void *)((uintptr_t)here & ~(PAGE - 1)), PAGE, 0, 0 };
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), -EINVAL);
	r = (struct uhmm_work_range){ mem, (size_t)5 << 30, 0, 0 };
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, NULL), -E2BIG);
	r = good;
	assert_int_equal(uhmm_work_acquire(dev, &r, 1, 0, &w, memset(mem, 16, sizeof(struct uhmm_result))), -EINVAL);
	assert_int_equal(uhmm_work_release(NULL), 0);
	assert_int_equal(uhmm_work_release((struct uhmm_work *)(void *)mem), -EINVAL);
	assert_int_equal(uhmm_work_address((struct uhmm_work *)(void *)mem, mem), 0);
	assert_int_equal(uhmm_device_native(dev, "context", &object), -ENOENT);
	assert_int_equal(uhmm_device_native(dev, NULL, &object), -EINVAL);
	unmap_anon(mem, BLOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kernel_works_where_the_data_is),
		cmocka_unit_test(neighbours_are_not_held),
		cmocka_unit_test(what_another_device_has_comes_too),
		cmocka_unit_test(a_touch_waits_for_the_release),
		cmocka_unit_test(a_fork_waits_for_the_release),
		cmocka_unit_test(what_is_read_stays_as_it_was),
		cmocka_unit_test(what_is_unmapped_is_kept_for_the_device),
		cmocka_unit_test(what_is_moved_away_is_found_there),
		cmocka_unit_test(what_was_used_longest_ago_makes_room),
		cmocka_unit_test(what_is_asked_for_is_not_what_makes_room),
		cmocka_unit_test(work_that_writes_leaves_room_to_others),
		cmocka_unit_test(a_release_waits_for_nobody_who_waits_for_it),
		cmocka_unit_test(more_than_the_device_is_refused),
		cmocka_unit_test(what_cannot_be_had_is_told),
		cmocka_unit_test(protection_holds_for_the_device),
		cmocka_unit_test(two_may_read_at_a_time),
		cmocka_unit_test(wrong_arguments_are_refused),
	};

	rig_open("emu:size=256M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
