/* SPDX-License-Identifier: MIT */
/*
 * More that the kernel's own tests of heterogeneous memory leave out: threads that touch one huge page while others move it,
 * a block with as many holes as pages that move under a thread which changes them, more memory than the device has, a freed huge folio that two threads use again at once, pages that wander between two
 * devices, and a huge page of which parent and child each write a part after fork.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "rig.h"

#define SEED 111
#define HALF (BLOCK / 2)

static char *filled(size_t bytes, bool huge, uint64_t seed)
{
	char *mem = map_anon(bytes, true, huge);

	fill_pattern(mem, bytes, seed);
	return mem;
}

static pthread_t run(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, fn, arg), 0);
	return t;
}

static void join(pthread_t t)
{
	void *wrong;

	pthread_join(t, &wrong);
	assert_null(wrong);
}

/* ---- one huge page, touched by some and moved by others ---- */

static atomic_bool enough;
static char *mem;

/* One of four writers: each has a word in every page. Return: NULL, or a word that lost what was written to it. */
static void *count_up(void *arg)
{
	size_t own = (uintptr_t)arg * 8;
	uint64_t n = 0;

	for (; !enough; n++)
		for (size_t at = own; at < BLOCK; at += 37 * PAGE) {
			volatile uint64_t *word = (uint64_t *)(mem + at);

			if (*word != n)
				return mem + at;
			*word = n + 1;
		}
	for (size_t at = own; at < BLOCK; at += 37 * PAGE)
		if (*(uint64_t *)(mem + at) != n)
			return mem + at;
	return NULL;
}

static void *move_there_and_back(void *arg)
{
	while (!enough)
		if (uhmm_to_device(space, mem, BLOCK, dev, 0, NULL) < 0 || uhmm_to_system(space, mem, HALF, 0, NULL) < 0)
			return arg;
	return NULL;
}

static void one_huge_page_is_touched_while_it_moves(void **state)
{
	struct uhmm_stats before = stats();
	pthread_t threads[6];

	mem = map_anon(BLOCK, true, true);
	memset(mem, 0, BLOCK);
	enough = false;
	for (uintptr_t i = 0; i < 4; i++)
		threads[i] = run(count_up, (void *)i);
	for (unsigned i = 4; i < 6; i++)
		threads[i] = run(move_there_and_back, &threads[i]);
	eventually(stats().fault_bytes - before.fault_bytes >= 200 * PAGE &&
		   stats().to_device_bytes - before.to_device_bytes >= 20 * BLOCK);
	enough = true;
	for (unsigned i = 0; i < 6; i++)
		join(threads[i]);
	unmap_anon(mem, BLOCK);
	eventually(used_bytes() == 0);
}

/* ---- every second page a hole, and all of it changed while it moves ---- */

static uint64_t stamp[BLOCK / PAGE]; /* what the last word of each page must be */

/* Unmapped and mapped anew in one call, so that no mapping of another thread can take the place. */
static bool drop_page(size_t i, bool unmap)
{
	char *at = mem + i * PAGE;

	stamp[i] = 0;
	if (!unmap)
		return !madvise(at, PAGE, MADV_DONTNEED);
	return mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at;
}

/* The only one who changes them, so it knows what must be there. Odd pages are holes again when it has looked at them. */
static void *change_pages(void *arg)
{
	unsigned rnd = SEED;
	uint64_t n = 0;

	while (!enough) {
		size_t i = (size_t)rand_r(&rnd) % PAGES(BLOCK);
		volatile uint64_t *word = (uint64_t *)(mem + (i + 1) * PAGE - 8);
		int way = rand_r(&rnd) % 8;

		if (*word != stamp[i])
			return (void *)word;
		if ((i % 2 || way < 2) && !drop_page(i, way == 0))
			return arg;
		if (i % 2 == 0)
			*word = stamp[i] = ++n;
	}
	return NULL;
}

static void every_second_page_is_changed_while_all_move(void **state)
{
	(void)state;
	for (unsigned huge = 0; huge < 2; huge++) {
		uint64_t end = now_ns() + 800000000, cleared = 0, copied = 0;
		pthread_t changer;

		mem = map_anon(BLOCK, true, huge);
		memset(mem, 0, huge ? BLOCK : 0);
		for (size_t i = 0; i < PAGES(BLOCK); i += 2) {
			*(uint64_t *)(mem + (i + 1) * PAGE - 8) = stamp[i] = i + 1;
			assert_true(drop_page(i + 1, false));
		}
		enough = false;
		changer = run(change_pages, stamp);
		while (now_ns() < end) {
			RESULT(res);

			assert_true(uhmm_to_device(space, mem, BLOCK, dev, 0, &res) >= 0);
			cleared += res.cleared_pages;
			copied += res.moved_bytes / PAGE - res.cleared_pages;
			assert_true(uhmm_to_system(space, mem, BLOCK, 0, NULL) >= 0);
		}
		enough = true;
		join(changer);
		assert_true(cleared && copied);
		for (size_t i = 0; i < PAGES(BLOCK); i++)
			assert_int_equal(*(uint64_t *)(mem + (i + 1) * PAGE - 8), stamp[i]);
		unmap_anon(mem, BLOCK);
		eventually(used_bytes() == 0);
	}
}

/* ---- more memory than the device has ---- */

static void twice_what_the_device_has_takes_turns(void **state)
{
	enum { NR = 8, ROOM = 4 };
	struct uhmm_device *small = open_device("emu:size=8M");
	char *all = filled(NR * BLOCK, true, SEED);
	size_t thps = anon_huge_bytes(all, NR * BLOCK);
	RESULT(res);

	assert_int_equal(uhmm_to_device(space, all, NR * BLOCK, small, 0, &res), UHMM_E_PARTIAL);
	assert_int_equal(res.moved_bytes, ROOM * BLOCK);
	assert_int_equal(res.skipped_pages[UHMM_SKIP_NO_ROOM], PAGES((NR - ROOM) * BLOCK));
	assert_int_equal(uhmm_to_system(space, all, NR * BLOCK, 0, NULL), 0);
	for (unsigned i = 0; i < 3 * NR; i++) {
		char *in = all + i % NR * BLOCK, *out = all + (i + NR - ROOM) % NR * BLOCK;

		if (i >= ROOM) { /* full: the next one goes only when the oldest has left */
			assert_int_equal(uhmm_to_device(space, in, BLOCK, small, 0, &res), UHMM_E_PARTIAL);
			assert_int_equal(res.moved_bytes, 0);
			assert_int_equal(uhmm_to_system(space, out, BLOCK, 0, &res), 0);
			assert_int_equal(res.moved_bytes, BLOCK);
			assert_int_equal(check_pattern_at(out, BLOCK, SEED, (size_t)(out - all)), -1);
		}
		assert_int_equal(uhmm_to_device(space, in, BLOCK, small, 0, &res), 0);
		assert_int_equal(res.moved_bytes, BLOCK);
	}
	if (thps == NR * BLOCK && !stats().pool_failed)
		assert_int_equal(info(small).folios[9], ROOM);
	assert_int_equal(uhmm_device_close(small), 0); /* and all that is on it leaves at once */
	assert_int_equal(count_where(all, NR * BLOCK, UHMM_WHERE_SYSTEM), PAGES(NR * BLOCK));
	assert_pattern(all, NR * BLOCK, SEED);
	unmap_anon(all, NR * BLOCK);
}

/* ---- a folio used again in other sizes ---- */

static struct uhmm_device *one_block;
static pthread_barrier_t together;

/* Half of it goes with contents, half was never touched: that must not show what the folio held before. */
static void *use_half(void *arg)
{
	char *at = arg;
	int r;

	fill_pattern(at, HALF / 2, SEED);
	pthread_barrier_wait(&together);
	do { /* a page that was passed over because of what the other does goes the next time: there is room for exactly all */
		r = uhmm_to_device(space, at, HALF, one_block, 0, NULL);
	} while (r == UHMM_E_PARTIAL);
	pthread_barrier_wait(&together);
	return r || check_pattern(at, HALF / 2, SEED) != -1 || check_zero(at + HALF / 2, HALF / 2) != -1 ? at : NULL;
}

static void a_freed_huge_folio_is_used_by_two_and_is_whole_again(void **state)
{
	one_block = open_device("emu:size=2M");
	pthread_barrier_init(&together, NULL, 3);
	for (unsigned round = 0; round < 20; round++) {
		char *huge = filled(BLOCK, true, SEED + 1);
		size_t thps = anon_huge_bytes(huge, BLOCK) / BLOCK;
		char *small[] = { map_anon(HALF, true, false), map_anon(HALF, true, false) };
		pthread_t threads[2];

		assert_int_equal(uhmm_to_device(space, huge, BLOCK, one_block, 0, NULL), 0);
		assert_true(info(one_block).folios[9] >= thps);
		if (round & 1)
			assert_int_equal(uhmm_to_system(space, huge, BLOCK, 0, NULL), 0);
		else
			assert_int_equal(uhmm_discard(space, huge, BLOCK), 0);
		eventually(info(one_block).used_bytes == 0);

		for (unsigned i = 0; i < 2; i++)
			threads[i] = run(use_half, small[i]);
		pthread_barrier_wait(&together);
		pthread_barrier_wait(&together);
		for (unsigned i = 0; i < 2; i++)
			join(threads[i]);
		assert_int_equal(round & 1 ? check_pattern(huge, BLOCK, SEED + 1) : check_zero(huge, BLOCK), -1);
		eventually(info(one_block).used_bytes == 0);
		for (unsigned i = 0; i < 2; i++)
			unmap_anon(small[i], HALF);
		unmap_anon(huge, BLOCK);
	}
	pthread_barrier_destroy(&together);
	assert_int_equal(uhmm_device_close(one_block), 0);
}

/* ---- two devices ---- */

static void pages_wander_between_two_devices(void **state)
{
	struct uhmm_device *devices[] = { dev, open_device("emu:size=16M,async=on") };

	for (unsigned huge = 0; huge < 2; huge++) {
		mem = filled(BLOCK, huge, SEED);
		for (unsigned hop = 0; hop < 20; hop++) {
			struct uhmm_device *here = devices[hop & 1], *other = devices[!(hop & 1)];
			RESULT(res);

			assert_int_equal(uhmm_to_device(space, mem, BLOCK, here, 0, NULL), 0);
			assert_int_equal(info(here).used_bytes, BLOCK);
			assert_int_equal(info(other).used_bytes, 0);
			/* not straight from one to the other */
			assert_int_equal(uhmm_to_device(space, mem, BLOCK, other, 0, &res), UHMM_E_PARTIAL);
			assert_int_equal(res.skipped_pages[UHMM_SKIP_OTHER_DEVICE], PAGES(BLOCK));
			if (hop % 3 == 0)
				assert_int_equal(uhmm_to_system(space, mem, BLOCK, 0, NULL), 0);
			assert_pattern(mem, BLOCK, SEED + hop);
			fill_pattern(mem, BLOCK, SEED + hop + 1);
			eventually(all_home(mem, BLOCK) && info(here).used_bytes == 0);
		}
		unmap_anon(mem, BLOCK);
	}
	assert_int_equal(uhmm_device_close(devices[1]), 0);
}

static void *pull_to(void *arg)
{
	while (!enough)
		if (uhmm_to_device(space, mem, BLOCK, arg, 0, NULL) < 0 || uhmm_to_system(space, mem, BLOCK, 0, NULL) < 0)
			return arg;
	return NULL;
}

static void two_devices_pull_at_one_huge_page(void **state)
{
	struct uhmm_device *other = open_device("emu:size=16M");
	pthread_t threads[4];
	uint64_t before;

	mem = map_anon(BLOCK, true, true);
	memset(mem, 0, BLOCK);
	enough = false;
	before = stats().to_device_bytes;
	threads[0] = run(pull_to, dev);
	threads[1] = run(pull_to, other);
	for (uintptr_t i = 2; i < 4; i++)
		threads[i] = run(count_up, (void *)i);
	eventually(stats().to_device_bytes - before >= 40 * BLOCK);
	enough = true;
	for (unsigned i = 0; i < 4; i++)
		join(threads[i]);
	unmap_anon(mem, BLOCK);
	eventually(used_bytes() == 0 && info(other).used_bytes == 0);
	assert_int_equal(uhmm_device_close(other), 0);
}

/* ---- fork ---- */

/* Every second page, from @first on, with a pattern of its own. */
static void write_own_pages(unsigned first)
{
	for (size_t i = first; i < PAGES(BLOCK); i += 2)
		fill_pattern_at(mem + i * PAGE, PAGE, SEED + 1 + first, i * PAGE);
}

static bool right_for(unsigned first)
{
	for (size_t i = 0; i < PAGES(BLOCK); i++)
		if (check_pattern_at(mem + i * PAGE, PAGE, i % 2 == first ? SEED + 1 + first : SEED, i * PAGE) != -1)
			return false;
	return true;
}

static pid_t start_child(unsigned first, int go_on)
{
	pid_t child = fork();
	char c;

	assert_true(child >= 0);
	if (!child) {
		alarm(60);
		write_own_pages(first);
		_exit(read(go_on, &c, 1) != 1 || !right_for(first));
	}
	return child;
}

static void parent_and_child_each_write_a_part(void **state)
{
	for (unsigned first = 0; first < 2; first++) {
		int go_on[2], status;
		pid_t child;

		assert_int_equal(pipe(go_on), 0);
		mem = filled(BLOCK, true, SEED);
		go(mem, BLOCK);
		child = start_child(!first, go_on[0]);
		write_own_pages(first);
		/* what is the parent's alone may go again; all of it is, when the child was given copies */
		assert_int_equal(uhmm_to_device(space, mem, BLOCK, dev, 0, NULL), serves_children() ? 0 : UHMM_E_PARTIAL);
		assert_true(serves_children() || count_where(mem, BLOCK, UHMM_WHERE_DEVICE) <= PAGES(HALF));
		assert_int_equal(write(go_on[1], "", 1), 1);
		assert_true(right_for(first));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
		fill_pattern(mem, BLOCK, SEED + 3);
		eventually(all_home(mem, BLOCK) && used_bytes() == 0);
		/* of a THP whose first page the parent has copied away Linux moves no other page: those stay */
		assert_true(uhmm_to_device(space, mem, BLOCK, dev, 0, NULL) >= 0);
		assert_true(count_where(mem, BLOCK, UHMM_WHERE_DEVICE) >= PAGES(HALF));
		assert_true(first == 0 || all_on_device(mem, BLOCK));
		assert_pattern(mem, BLOCK, SEED + 3);
		close(go_on[0]);
		close(go_on[1]);
		unmap_anon(mem, BLOCK);
		eventually(used_bytes() == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_huge_page_is_touched_while_it_moves),
		cmocka_unit_test(every_second_page_is_changed_while_all_move),
		cmocka_unit_test(twice_what_the_device_has_takes_turns),
		cmocka_unit_test(a_freed_huge_folio_is_used_by_two_and_is_whole_again),
		cmocka_unit_test(pages_wander_between_two_devices),
		cmocka_unit_test(two_devices_pull_at_one_huge_page),
		cmocka_unit_test(parent_and_child_each_write_a_part),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
