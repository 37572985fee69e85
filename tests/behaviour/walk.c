/* SPDX-License-Identifier: MIT */
/* What uhmm_walk() tells of each block, held against what has been done. */
#include "rig.h"

#define SEED  87
#define BYTES (4 * BLOCK)

static char *filled(size_t bytes, bool huge)
{
	char *mem = map_anon(bytes, true, huge);

	fill_pattern(mem, bytes, SEED);
	return mem;
}

/* ---- the pieces of a walk ---- */

#define MAX_PIECES 600

static struct uhmm_piece pieces[MAX_PIECES];
static size_t nr_pieces;

static void keep(struct uhmm_piece p)
{
	assert_true(nr_pieces < MAX_PIECES);
	pieces[nr_pieces++] = p;
}

/* Checks what holds for every piece. What may be longer than a block is cut, so that all can be compared. */
static int collect(void *ctx, const struct uhmm_piece *p)
{
	uint64_t *at = ctx;
	struct uhmm_piece part = *p;

	assert_int_equal(p->sz, sizeof(*p));
	assert_int_equal(p->start, *at);
	assert_true(p->end > p->start);
	if (p->where != UHMM_WHERE_HOLE && p->where != UHMM_WHERE_UNMAPPED)
		assert_int_equal(p->start / BLOCK, (p->end - 1) / BLOCK);
	for (*at = p->end; part.start < p->end; part.start = part.end) {
		part.end = (part.start / BLOCK + 1) * BLOCK;
		if (part.end > p->end)
			part.end = p->end;
		keep(part);
	}
	return 0;
}

static void walk(char *mem, size_t bytes)
{
	uint64_t at = (uintptr_t)mem;

	nr_pieces = 0;
	assert_int_equal(uhmm_walk(space, mem, bytes, collect, &at), 0);
	assert_int_equal(at, (uintptr_t)mem + bytes);
}

/* The one piece that a range is. */
static struct uhmm_piece only(char *mem, size_t bytes)
{
	walk(mem, bytes);
	assert_int_equal(nr_pieces, 1);
	return pieces[0];
}

/* In pages from the start of the memory. */
struct expected {
	size_t first, end;
	enum uhmm_where where;
	unsigned order;
	struct uhmm_device *dev;
	enum uhmm_dirty dirty;
};

static void expect(char *mem, const struct expected *e, size_t nr)
{
	walk(mem + e[0].first * PAGE, (e[nr - 1].end - e[0].first) * PAGE);
	for (size_t k = 0; k < nr; k++) {
		assert_true(k < nr_pieces);
		assert_int_equal((pieces[k].start - (uintptr_t)mem) / PAGE, e[k].first);
		assert_int_equal((pieces[k].end - (uintptr_t)mem) / PAGE, e[k].end);
		assert_int_equal(pieces[k].where, e[k].where);
		assert_int_equal(pieces[k].order, e[k].order);
		assert_ptr_equal(pieces[k].dev, e[k].dev);
		assert_int_equal(pieces[k].dirty, e[k].dirty);
	}
	assert_int_equal(nr_pieces, nr);
}

#define EXPECT(mem, ...)                                                \
	do {                                                            \
		const struct expected list[] = { __VA_ARGS__ };         \
		expect((mem), list, sizeof(list) / sizeof(*list));      \
	} while (0)

/* ---- the last fault ---- */

#define STEP_NS 4200000

static bool is_time_between(uint64_t ns, uint64_t from, uint64_t to)
{
	return ns + STEP_NS >= from && ns <= to;
}

static void the_last_fault_of_each_block(void **state)
{
	char *mem = filled(BYTES, true);
	uint64_t before, between, after;

	walk(mem, BYTES);
	for (size_t k = 0; k < nr_pieces; k++)
		assert_int_equal(pieces[k].last_fault_ns, 0);
	go(mem, BYTES);
	assert_int_equal(only(mem + BLOCK, BLOCK).last_fault_ns, 0);

	before = now_ns();
	(void)*(volatile char *)(mem + BLOCK);
	between = now_ns();
	EXPECT(mem + 2 * BLOCK, { 0, 512, UHMM_WHERE_DEVICE, only(mem + 2 * BLOCK, BLOCK).order, dev, UHMM_DIRTY_NO });
	assert_int_equal(only(mem + 2 * BLOCK, BLOCK).last_fault_ns, 0);
	walk(mem + BLOCK + 5 * PAGE, 10 * PAGE);
	assert_true(is_time_between(pieces[0].last_fault_ns, before, between));

	/* one of the block is enough; a call is no fault */
	go(mem, 2 * BLOCK);
	come(mem + BLOCK, BLOCK);
	walk(mem + BLOCK, BLOCK);
	assert_true(is_time_between(pieces[0].last_fault_ns, before, between));
	do {
		go(mem, 2 * BLOCK);
		between = now_ns();
		(void)*(volatile char *)(mem + BLOCK + 77 * PAGE);
		after = now_ns();
		walk(mem + BLOCK, BLOCK);
		assert_true(is_time_between(pieces[0].last_fault_ns, between, after));
	} while (between - before < 5 * (uint64_t)STEP_NS);
	unmap_anon(mem, BYTES);
}

/* ---- where, and how large ---- */

static void blocks_and_the_parts_of_them(void **state)
{
	char *mem = filled(BYTES, true);

	if (anon_huge_bytes(mem, BYTES) < BYTES)
		skip();
	EXPECT(mem, { 0, 512, UHMM_WHERE_SYSTEM, 9, NULL, UHMM_DIRTY_UNKNOWN },
	       { 512, 1024, UHMM_WHERE_SYSTEM, 9, NULL, UHMM_DIRTY_UNKNOWN });
	go(mem, 3 * BLOCK);
	come(mem + 700 * PAGE, 10 * PAGE);
	assert_int_equal(uhmm_discard(space, mem + 720 * PAGE, 5 * PAGE), 0);
	EXPECT(mem, { 0, 512, UHMM_WHERE_DEVICE, 9, dev, UHMM_DIRTY_NO }, { 512, 700, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_NO },
	       { 700, 710, UHMM_WHERE_SYSTEM, 0, NULL, UHMM_DIRTY_UNKNOWN }, { 710, 720, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_NO },
	       { 720, 725, UHMM_WHERE_HOLE, 0, NULL, UHMM_DIRTY_NO }, { 725, 1024, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_NO },
	       { 1024, 1536, UHMM_WHERE_DEVICE, 9, dev, UHMM_DIRTY_NO }, { 1536, 2048, UHMM_WHERE_SYSTEM, 9, NULL, UHMM_DIRTY_UNKNOWN });
	EXPECT(mem, { 100, 200, UHMM_WHERE_DEVICE, 9, dev, UHMM_DIRTY_NO }); /* of a block no more than was asked for */
	assert_int_equal(munmap(mem + 600 * PAGE, 50 * PAGE), 0);
	EXPECT(mem, { 590, 600, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_NO }, { 600, 650, UHMM_WHERE_UNMAPPED, 0, NULL, UHMM_DIRTY_NO },
	       { 650, 700, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_NO });
	unmap_anon(mem, BYTES);
}

static void memory_that_uhmm_has_never_seen(void **state)
{
	char *mem = map_anon(BYTES, true, false);

	fill_pattern(mem + 3 * PAGE, 2 * PAGE, SEED);
	EXPECT(mem, { 0, 3, UHMM_WHERE_HOLE, 0, NULL, UHMM_DIRTY_NO }, { 3, 5, UHMM_WHERE_SYSTEM, 0, NULL, UHMM_DIRTY_UNKNOWN },
	       { 5, 512, UHMM_WHERE_HOLE, 0, NULL, UHMM_DIRTY_NO }, { 512, 1024, UHMM_WHERE_HOLE, 0, NULL, UHMM_DIRTY_NO });
	unmap_anon(mem, BYTES);
}

/* Most of an address space is nothing: that is one piece, not one for each block. */
static int count(void *ctx, const struct uhmm_piece *p)
{
	size_t *n = ctx;

	(void)p;
	++*n;
	return 0;
}

static void a_large_nothing_is_told_in_few_words(void **state)
{
	size_t bytes = (size_t)64 << 30, n = 0;
	char *mem = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(mem != MAP_FAILED);
	assert_int_equal(uhmm_walk(space, mem, bytes, count, &n), 0);
	assert_true(n <= 2 * 512 + 66); /* the blocks of a GiB at each end may be known from earlier cases */
	munmap(mem, bytes);
	n = 0;
	assert_int_equal(uhmm_walk(space, mem, bytes, count, &n), 0);
	assert_true(n < 100);
}

/* ---- written by the device ---- */

static enum uhmm_dirty dirty(char *mem) { return only(mem, PAGE).dirty; }

static void what_the_device_has_written_is_dirty(void **state)
{
	char *mem = filled(BYTES, true);
	uint64_t word = 1, got;

	go(mem, BYTES);
	assert_int_equal(uhmm_device_read(dev, mem + BLOCK, sizeof(got), &got, 0, NULL), 0);
	assert_int_equal(dirty(mem + BLOCK), UHMM_DIRTY_NO);
	assert_int_equal(uhmm_device_write(dev, mem + BLOCK + 5 * PAGE, sizeof(word), &word, 0, NULL), 0);
	assert_int_equal(dirty(mem + BLOCK + 5 * PAGE), UHMM_DIRTY_YES);
	assert_int_equal(dirty(mem), UHMM_DIRTY_NO);
	assert_int_equal(dirty(mem + 2 * BLOCK), UHMM_DIRTY_NO);
	assert_int_equal(uhmm_device_read(dev, mem + BLOCK + 5 * PAGE, sizeof(got), &got, 0, NULL), 0);
	assert_int_equal(dirty(mem + BLOCK + 5 * PAGE), UHMM_DIRTY_YES); /* a look changes nothing */

	/* home and there again: as it left */
	come(mem + BLOCK, BLOCK);
	assert_int_equal(dirty(mem + BLOCK + 5 * PAGE), UHMM_DIRTY_UNKNOWN);
	go(mem + BLOCK, BLOCK);
	assert_int_equal(dirty(mem + BLOCK + 5 * PAGE), UHMM_DIRTY_NO);
	unmap_anon(mem, BYTES);
}

static void of_base_pages_each_is_dirty_by_itself(void **state)
{
	char *mem = filled(BLOCK, false);
	uint64_t word = 1;

	go(mem, BLOCK);
	assert_int_equal(uhmm_device_write(dev, mem + 5 * PAGE - 4, sizeof(word), &word, 0, NULL), 0);
	EXPECT(mem, { 0, 4, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_NO }, { 4, 6, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_YES },
	       { 6, 512, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_NO });
	unmap_anon(mem, BLOCK);
}

/* Splits and mremap carry it along. */
static void what_was_written_stays_dirty_wherever_it_goes(void **state)
{
	char *mem = filled(2 * BLOCK, true), *to = map_anon(2 * BLOCK, true, true);
	uint64_t word = 1;

	if (anon_huge_bytes(mem, 2 * BLOCK) < 2 * BLOCK)
		skip();
	go(mem, 2 * BLOCK);
	assert_int_equal(uhmm_device_write(dev, mem + 5 * PAGE, sizeof(word), &word, 0, NULL), 0);
	assert_int_equal(uhmm_device_write(dev, mem + BLOCK, sizeof(word), &word, 0, NULL), 0);
	come(mem + 9 * PAGE, PAGE);
	EXPECT(mem, { 0, 9, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_YES }, { 9, 10, UHMM_WHERE_SYSTEM, 0, NULL, UHMM_DIRTY_UNKNOWN },
	       { 10, 512, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_YES });
	assert_true(mremap(mem, 2 * BLOCK, 2 * BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	EXPECT(to, { 10, 512, UHMM_WHERE_DEVICE, 0, dev, UHMM_DIRTY_YES }, { 512, 1024, UHMM_WHERE_DEVICE, 9, dev, UHMM_DIRTY_YES });
	unmap_anon(to, 2 * BLOCK);
}

static void what_a_device_has_alone(void **state)
{
	char *mem = filled(BLOCK, false);
	uint64_t word = 1;

	assert_int_equal(uhmm_device_exclusive(dev, mem + 3 * PAGE, PAGE), 0);
	EXPECT(mem, { 0, 3, UHMM_WHERE_SYSTEM, 0, NULL, UHMM_DIRTY_UNKNOWN }, { 3, 4, UHMM_WHERE_EXCLUSIVE, 0, dev, UHMM_DIRTY_NO },
	       { 4, 512, UHMM_WHERE_SYSTEM, 0, NULL, UHMM_DIRTY_UNKNOWN });
	assert_int_equal(uhmm_device_write(dev, mem + 3 * PAGE, sizeof(word), &word, 0, NULL), 0);
	EXPECT(mem, { 3, 4, UHMM_WHERE_EXCLUSIVE, 0, dev, UHMM_DIRTY_YES });
	unmap_anon(mem, BLOCK);
}

/* ---- the caller ---- */

static int stop_at_third(void *ctx, const struct uhmm_piece *p)
{
	unsigned *n = ctx;

	(void)p;
	return ++*n == 3 ? 42 : 0;
}

/* What a policy does: it sends away what it finds. */
static int send_away(void *ctx, const struct uhmm_piece *p)
{
	if (p->where == UHMM_WHERE_SYSTEM)
		assert_int_equal(uhmm_to_device(space, (void *)(uintptr_t)p->start, p->end - p->start, ctx, 0, NULL), 0);
	return 0;
}

static void the_callback_may_stop_and_may_move(void **state)
{
	char *mem = filled(BYTES, true);
	unsigned n = 0;

	assert_int_equal(uhmm_walk(space, mem, BYTES, stop_at_third, &n), 42);
	assert_int_equal(n, 3);
	assert_int_equal(uhmm_walk(space, mem, BYTES, send_away, dev), 0);
	assert_true(all_on_device(mem, BYTES));
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

static void wrong_arguments(void **state)
{
	char *mem = filled(BLOCK, false);
	size_t n = 0;

	refused(-EINVAL, uhmm_walk(NULL, mem, BLOCK, count, &n));
	refused(-EINVAL, uhmm_walk(space, mem, BLOCK, NULL, NULL));
	refused(-EINVAL, uhmm_walk(space, mem + 1, BLOCK, count, &n));
	assert_int_equal(n, 0);
	assert_int_equal(uhmm_walk(space, mem, 1, count, &n), 0); /* rounded up to a page */
	assert_int_equal(n, 1);
	refused(-EINVAL, uhmm_walk(space, mem, 0, count, &n));
	assert_int_equal(n, 1);
	unmap_anon(mem, BLOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_fault_of_each_block), /* first: where no block has a past */
		cmocka_unit_test(blocks_and_the_parts_of_them),
		cmocka_unit_test(memory_that_uhmm_has_never_seen),
		cmocka_unit_test(a_large_nothing_is_told_in_few_words),
		cmocka_unit_test(what_the_device_has_written_is_dirty),
		cmocka_unit_test(of_base_pages_each_is_dirty_by_itself),
		cmocka_unit_test(what_was_written_stays_dirty_wherever_it_goes),
		cmocka_unit_test(what_a_device_has_alone),
		cmocka_unit_test(the_callback_may_stop_and_may_move),
		cmocka_unit_test(wrong_arguments),
	};

	support_log_start(UHMM_LOG_ERROR);
	rig_open("emu:size=64M,orders=ends"); /* a part of a block is base pages; orders between are for query.c */
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
