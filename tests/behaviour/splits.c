/* SPDX-License-Identifier: MIT */
/*
 * The program takes memory apart that lies on a device in folios of some order: the bytes are right, what stays together stays in
 * the largest folios that can be, and the driver hears of each split.
 */
#include <pthread.h>
#include <sys/wait.h>

#include "ledger.h"

#define SEED 131

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static char *put_in(unsigned order)
{
	char *mem = map_anon(BLOCK, true, true);

	fill_pattern(mem, BLOCK, SEED);
	assert_int_equal(uhmm_to_device(space, mem, BLOCK, dev, UHMM_MOVE_ORDER(order), NULL), 0);
	assert_true(all_on_device(mem, BLOCK));
	ledger.pieces = ledger.split_ends = 0;
	return mem;
}

static void put_down(char *mem, size_t bytes)
{
	unmap_anon(mem, bytes);
	eventually(used_bytes() == 0);
	check_ledger();
}

static unsigned order_at(const char *at)
{
	struct uhmm_extent ext;
	size_t nr;

	assert_int_equal(uhmm_query(space, (void *)(uintptr_t)at, PAGE, &ext, 1, &nr), 0);
	assert_int_equal(ext.where, UHMM_WHERE_DEVICE);
	return ext.order;
}

/* The pages [first, end) of @mem, which were filled as pages @was on. */
static void expect_at(const char *mem, size_t first, size_t end, size_t was)
{
	assert_int_equal(check_pattern_at(mem + first * PAGE, (end - first) * PAGE, SEED, was * PAGE), -1);
}

static void expect(const char *mem, size_t first, size_t end) { expect_at(mem, first, end, first); }

/* Pieces of a folio of 2^@order pages: what is cut. */
static const struct { unsigned order, first, end; } cut[] = {
	{ 4, 3, 4 }, { 4, 0, 1 }, { 4, 15, 16 }, { 4, 4, 8 }, { 4, 0, 8 }, { 4, 1, 15 }, { 4, 0, 16 }, { 4, 5, 40 },
	{ 8, 3, 4 }, { 8, 0, 128 }, { 8, 100, 200 }, { 8, 255, 256 }, { 8, 255, 257 }, { 8, 0, 256 }, { 8, 77, 300 },
};
#define NR_CUTS (sizeof(cut) / sizeof(*cut))

/* How many pieces more there are when [first, end) is cut out of folios of @order, aligned to their sizes. */
static unsigned nr_cuts(unsigned order, unsigned first, unsigned end)
{
	unsigned n = 0, size, head;

	/* one boundary: a folio is halved until the boundary is between two of them; the other meets what that has left */
	for (size = 1u << order; first & (size - 1); size /= 2)
		n++;
	for (size = 1u << order; end & (size - 1); size /= 2) {
		head = end & ~(size - 1);
		n += !(head < first && first < head + size); /* was halved for the first one */
	}
	return n;
}

/* What is left on the device around [first, end): in the largest folios, and each split was heard of. */
static void check_rest(const char *mem, unsigned order, unsigned first, unsigned end)
{
	for (unsigned i = 0; i < 512; i++) {
		unsigned k = order;

		if (i >= first && i < end)
			continue;
		while ((i & ~((1u << k) - 1)) < end && (i & ~((1u << k) - 1)) + (1u << k) > first)
			k--;
		assert_int_equal(order_at(mem + i * PAGE), k);
	}
	assert_int_equal(ledger.pieces, nr_cuts(order, first, end));
	assert_int_equal(ledger.split_ends, ledger.pieces);
}

static void a_part_is_unmapped(void **state)
{
	for (size_t k = 0; k < NR_CUTS; k++) {
		unsigned first = cut[k].first, end = cut[k].end;
		char *mem = put_in(cut[k].order);

		assert_int_equal(munmap(mem + first * PAGE, (end - first) * PAGE), 0);
		eventually(used_bytes() == BLOCK - (end - first) * PAGE);
		check_rest(mem, cut[k].order, first, end);
		check_ledger();
		expect(mem, 0, first);
		expect(mem, end, 512);
		put_down(mem, BLOCK);
	}
}

static void a_part_is_discarded(void **state)
{
	for (size_t k = 0; k < NR_CUTS; k++) {
		unsigned first = cut[k].first, end = cut[k].end;
		char *mem = put_in(cut[k].order);

		assert_int_equal(madvise(mem + first * PAGE, (end - first) * PAGE, MADV_DONTNEED), 0);
		eventually(used_bytes() == BLOCK - (end - first) * PAGE);
		check_rest(mem, cut[k].order, first, end);
		check_ledger();
		expect(mem, 0, first);
		assert_zeros(mem + first * PAGE, (end - first) * PAGE);
		expect(mem, end, 512);
		put_down(mem, BLOCK);
	}
}

static void a_part_is_protected(void **state)
{
	for (size_t k = 0; k < NR_CUTS; k++) {
		unsigned first = cut[k].first, end = cut[k].end;
		char *mem = put_in(cut[k].order);

		assert_int_equal(mprotect(mem + first * PAGE, (end - first) * PAGE, PROT_READ), 0);
		expect(mem, first, end); /* comes with its folio, of which the rest is writable */
		++*(volatile char *)(mem + BLOCK - 1);
		--*(volatile char *)(mem + BLOCK - 1);
		expect(mem, 0, 512);
		assert_int_equal(mprotect(mem, BLOCK, PROT_READ | PROT_WRITE), 0);
		assert_int_equal(ledger.pieces, 0); /* nobody wants a part without the rest */
		put_down(mem, BLOCK);
	}
}

/* ---- mremap ---- */

/* Address space for a block and more, empty. */
static char *room(void)
{
	char *mem = map_anon(2 * BLOCK, true, false);

	assert_int_equal(munmap(mem, 2 * BLOCK), 0);
	return mem;
}

/* The pages [first, end) of a block in folios of @order are moved to page @to of another. */
static void moves(unsigned order, unsigned first, unsigned end, unsigned to, int flags)
{
	char *mem = put_in(order), *other = room(), *at = other + to * PAGE;
	size_t bytes = (end - first) * PAGE;
	unsigned fits = order;

	while (to % (1u << fits) != first % (1u << fits)) /* aligned alike, there and here */
		fits--;
	assert_ptr_equal(mremap(mem + first * PAGE, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | flags, at), at);
	assert_true(all_on_device(at, bytes));
	assert_int_equal(used_bytes(), BLOCK); /* nothing came home for that */
	check_ledger();
	if (first % (1u << order) == 0 && end % (1u << order) == 0)
		assert_int_equal(ledger.pieces, fits == order ? 0 : (end - first) / (1u << order) * ((1u << (order - fits)) - 1));
	for (unsigned i = 0; i < end - first; i++) /* those that are wholly inside */
		if ((first + i) / (1u << fits) * (1u << fits) >= first && ((first + i) / (1u << fits) + 1) * (1u << fits) <= end)
			assert_int_equal(order_at(at + i * PAGE), fits);
	expect_at(at, 0, end - first, first);
	expect(mem, 0, first);
	expect(mem, end, 512);
	if (flags)
		assert_zeros(mem + first * PAGE, bytes);
	munmap(at, bytes);
	put_down(mem, BLOCK);
}

static void a_part_is_moved_to_an_aligned_place(void **state)
{
	for (unsigned flags = 0; flags <= MREMAP_DONTUNMAP; flags += MREMAP_DONTUNMAP) {
		moves(4, 16, 32, 48, (int)flags);
		moves(4, 0, 512, 256, (int)flags);
		moves(4, 3, 77, 19, (int)flags);
		moves(8, 0, 256, 256, (int)flags);
		moves(8, 256, 512, 512, (int)flags);
		moves(8, 100, 400, 356, (int)flags);
		moves(9, 0, 512, 512, (int)flags);
	}
}

static void a_part_is_moved_to_an_unaligned_place(void **state)
{
	moves(4, 16, 32, 49, 0);
	moves(4, 16, 32, 56, 0);
	moves(4, 0, 512, 500, 0);
	moves(8, 0, 256, 192, 0);
	moves(8, 0, 512, 130, 0);
	moves(8, 77, 300, 1, 0);
	moves(9, 0, 512, 256, 0);
	moves(9, 0, 512, 1, 0);
	moves(9, 100, 200, 104, 0);
}

/* Onto memory that is on the device, too: of its folios what is covered is freed. */
static void a_part_is_moved_over_another(void **state)
{
	char *mem = put_in(8), *other = put_in(4);

	assert_ptr_equal(mremap(mem, 256 * PAGE, 256 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other + 100 * PAGE), other + 100 * PAGE);
	eventually(used_bytes() == 2 * BLOCK - 256 * PAGE);
	check_ledger();
	assert_int_equal(order_at(other + 100 * PAGE), 2);
	assert_int_equal(order_at(other + 96 * PAGE), 2); /* of the old ones */
	assert_int_equal(order_at(other + 48 * PAGE), 4);
	expect(other, 0, 100);
	expect_at(other, 100, 356, 0);
	expect(other, 356, 512);
	expect(mem, 256, 512);
	munmap(other, BLOCK);
	put_down(mem, BLOCK);
}

/* ---- fork ---- */

/* The child changes and unmaps parts, and so does the parent, who sees nothing of that. */
static void parent_and_child_take_their_own_apart(void **state)
{
	for (unsigned order = 2; order < UHMM_NR_ORDERS; order++) {
		char *mem = put_in(order);
		int status;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid) {
			bool right;

			alarm(60);
			munmap(mem + 3 * PAGE, PAGE);
			memset(mem + 200 * PAGE, 7, 33 * PAGE);
			right = check_pattern_at(mem, 3 * PAGE, SEED, 0) < 0 &&
				check_pattern_at(mem + 4 * PAGE, 196 * PAGE, SEED, 4 * PAGE) < 0 &&
				check_pattern_at(mem + 233 * PAGE, BLOCK - 233 * PAGE, SEED, 233 * PAGE) < 0 && mem[200 * PAGE] == 7;
			_exit(right ? 0 : 1);
		}
		assert_int_equal(munmap(mem + 5 * PAGE, PAGE), 0);
		assert_int_equal(madvise(mem + 300 * PAGE, 77 * PAGE, MADV_DONTNEED), 0);
		expect(mem, 0, 5);
		expect(mem, 6, 300);
		assert_zeros(mem + 300 * PAGE, 77 * PAGE);
		expect(mem, 377, 512);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		eventually(used_bytes() == 0); /* and what was withheld for the child */
		put_down(mem, BLOCK);
	}
}

/* ---- races ---- */

/* Unmaps the half of a folio that the other thread does not touch. */
struct race {
	char *mem;
	pthread_barrier_t *start;
	unsigned order;
};

static void *unmap_odd_halves(void *arg)
{
	struct race *r = arg;
	size_t half = (PAGE << r->order) / 2;

	pthread_barrier_wait(r->start);
	for (char *at = r->mem + half; at < r->mem + BLOCK; at += 2 * half)
		if (munmap(at, half))
			return at;
	return NULL;
}

static void a_folio_is_touched_while_its_other_half_is_unmapped(void **state)
{
	pthread_barrier_t start;

	pthread_barrier_init(&start, NULL, 2);
	for (unsigned n = 0; n < 60; n++) {
		struct race r = { put_in(1 + n % 8), &start, 1 + n % 8 };
		size_t half = (PAGE << r.order) / 2;
		void *wrong = NULL;
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, unmap_odd_halves, &r), 0);
		pthread_barrier_wait(&start);
		for (size_t at = 0; at < BLOCK; at += 2 * half)
			assert_int_equal(check_pattern_at(r.mem + at, half, SEED, at), -1);
		pthread_join(t, &wrong);
		assert_null(wrong);
		eventually(used_bytes() == 0);
		check_ledger();
		for (size_t at = 0; at < BLOCK; at += 2 * half)
			assert_int_equal(check_pattern_at(r.mem + at, half, SEED, at), -1);
		put_down(r.mem, BLOCK);
	}
	pthread_barrier_destroy(&start);
}

/* One block of memory that goes in folios of random orders, and is touched, in parts. Return: NULL, or what is wrong. */
static void *come_and_go(void *arg)
{
	uint64_t rnd = (uintptr_t)arg + 1;
	char *mem = map_anon(BLOCK / 4, true, false);
	void *wrong = NULL;

	fill_pattern(mem, BLOCK / 4, rnd);
	for (unsigned n = 0; n < 200 && !wrong; n++) {
		size_t first = next_random(&rnd) % 128, pages = 1 + next_random(&rnd) % (128 - first);

		/* the device may be full */
		if (uhmm_to_device(space, mem + first * PAGE, pages * PAGE, dev, UHMM_MOVE_ORDER(next_random(&rnd) % 9), NULL) < 0)
			wrong = mem;
		first = next_random(&rnd) % 128;
		if (check_pattern_at(mem + first * PAGE, PAGE, (uintptr_t)arg + 1, first * PAGE) >= 0)
			wrong = mem + first * PAGE;
	}
	if (check_pattern(mem, BLOCK / 4, (uintptr_t)arg + 1) >= 0)
		wrong = mem;
	unmap_anon(mem, BLOCK / 4);
	return wrong;
}

/* Two MiB of a device serve the folios of several threads, and are one folio again when those are gone. */
static void a_folio_serves_mixed_orders_and_is_whole_again(void **state)
{
	struct uhmm_device *usual = dev;
	pthread_t threads[4];
	char *mem;
	bool thp;

	dev = open_device("emu:size=2M");
	for (unsigned round = 0; round < 3; round++) {
		for (uintptr_t i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, (void *)i), 0);
		for (unsigned i = 0; i < 4; i++) {
			void *wrong;

			pthread_join(threads[i], &wrong);
			assert_null(wrong);
		}
		eventually(used_bytes() == 0);
		mem = map_anon(BLOCK, true, true);
		fill_pattern(mem, BLOCK, SEED);
		thp = anon_huge_bytes(mem, BLOCK) == BLOCK;
		go(mem, BLOCK);
		assert_true(!thp || info(dev).folios[9] == 1);
		assert_pattern(mem, BLOCK, SEED);
		unmap_anon(mem, BLOCK);
		eventually(used_bytes() == 0);
	}
	assert_int_equal(uhmm_device_close(dev), 0);
	dev = usual;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_part_is_unmapped),
		cmocka_unit_test(a_part_is_discarded),
		cmocka_unit_test(a_part_is_protected),
		cmocka_unit_test(a_part_is_moved_to_an_aligned_place),
		cmocka_unit_test(a_part_is_moved_to_an_unaligned_place),
		cmocka_unit_test(a_part_is_moved_over_another),
		cmocka_unit_test(parent_and_child_take_their_own_apart),
		cmocka_unit_test(a_folio_is_touched_while_its_other_half_is_unmapped),
		cmocka_unit_test(a_folio_serves_mixed_orders_and_is_whole_again),
	};

	ledger_rig_open("ledger:0x3ff");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL)) || ledger.wrong;
}
