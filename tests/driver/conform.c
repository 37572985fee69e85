/* SPDX-License-Identifier: MIT */
/*
 * Is this a device? Random migrations to and fro, with a model of every byte beside them: what a program can ask of a device
 * through the public API gives the bytes that were put there, whatever its size, its orders and its way to copy.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "support.h"

#define PAGE     ((size_t)4096)
#define BLOCK    (2 * MIB)
#define MAX_PAGES (16 * 512)
#define NR_STEPS 1500

static struct uhmm_space *space;
static struct uhmm_device *dev;
static uint64_t rnd;

/* The memory, and what each page holds: 0 zeros, else the seed of its pattern. */
static char *mem;
static size_t nr_pages;
static uint64_t *model;

static size_t below(size_t n) { return (size_t)(next_random(&rnd) % n); }

static char *page(size_t i) { return mem + i * PAGE; }

static struct uhmm_device_info info(void)
{
	struct uhmm_device_info i = { .sz = sizeof(i) };

	assert_int_equal(uhmm_device_query(dev, &i), 0);
	return i;
}

static void check(size_t first, size_t end)
{
	for (size_t i = first; i < end; i++) {
		int64_t bad = model[i] ? check_pattern(page(i), PAGE, model[i]) : check_zero(page(i), PAGE);

		if (bad >= 0)
			fail_msg("page %zu of %zu is wrong at byte %lld", i, nr_pages, (long long)bad);
	}
}

static void write_pages(size_t first, size_t end)
{
	for (size_t i = first; i < end; i++) {
		model[i] = next_random(&rnd) | 1;
		fill_pattern(page(i), PAGE, model[i]);
	}
}

static void discard(size_t first, size_t end)
{
	assert_int_equal(uhmm_discard(space, page(first), (end - first) * PAGE), 0);
	memset(model + first, 0, (end - first) * sizeof(*model));
}

/* Up to all of it, blocks preferred: they make folios of order 9. */
static void choose(size_t *ret_first, size_t *ret_end)
{
	size_t first = below(nr_pages), n = 1 + below(below(2) ? 8 : nr_pages);

	if (below(3)) {
		first &= ~(size_t)511;
		n = (n + 511) & ~(size_t)511;
	}
	*ret_first = first;
	*ret_end = first + n < nr_pages ? first + n : nr_pages;
}

static void to_device(size_t first, size_t end)
{
	struct uhmm_result res = { .sz = sizeof(res) };
	uint32_t flags = below(2) ? 0 : UHMM_MOVE_ORDER(below(UHMM_NR_ORDERS));
	int r = uhmm_to_device(space, page(first), (end - first) * PAGE, dev, flags, &res);
	uint64_t pages = res.moved_bytes / PAGE;

	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		pages += res.skipped_pages[k];
	assert_int_equal(pages, end - first);
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		if (res.skipped_pages[k] && k != UHMM_SKIP_ABSENT && k != UHMM_SKIP_NO_ROOM)
			fail_msg("%llu pages stayed: %s", (unsigned long long)res.skipped_pages[k], uhmm_skip_name((enum uhmm_skip)k));
	assert_int_equal(r, res.skipped_pages[UHMM_SKIP_NO_ROOM] ? UHMM_E_PARTIAL : 0);
	assert_true(info().used_bytes <= info().size_bytes);
}

static void step(void)
{
	size_t first, end;

	choose(&first, &end);
	switch (below(12)) {
	case 0:
		write_pages(first, end);
		break;
	case 1:
		check(first, end);
		break;
	case 2:
		discard(first, end);
		break;
	case 3:
	case 4:
		assert_int_equal(uhmm_to_system(space, page(first), (end - first) * PAGE, 0, NULL), 0);
		break;
	case 5:
		assert_int_equal(uhmm_prefetch(space, page(first), (end - first) * PAGE, below(2) ? dev : NULL), 0);
		assert_int_equal(uhmm_prefetch_wait(space), 0);
		break;
	case 6:
		(void)madvise(page(first & ~(size_t)511), BLOCK, MADV_HUGEPAGE);
		break;
	case 7: /* single pages, here and there */
		for (unsigned n = 0; n < 20; n++) {
			size_t i = below(nr_pages);

			check(i, i + 1);
			write_pages(i, i + 1);
		}
		break;
	default:
		to_device(first, end);
	}
}

static void random_migrations_keep_every_byte(void **state)
{
	for (unsigned n = 0; n < NR_STEPS; n++)
		step();
	check(0, nr_pages);
	assert_int_equal(uhmm_to_system(space, mem, nr_pages * PAGE, 0, NULL), 0);
	assert_int_equal(info().used_bytes, 0);
	check(0, nr_pages);
}

static void every_kind_of_content_comes_back(void **state)
{
	to_device(0, nr_pages);
	for (size_t i = 0; i < nr_pages; i++) {
		uint64_t *words = (uint64_t *)page(i);

		switch (i % 4) {
		case 0:
			memset(words, 0, PAGE);
			break;
		case 1:
			memset(words, 0xff, PAGE);
			break;
		case 2:
			memset(words, 0, PAGE);
			words[511] = i;
			break;
		case 3:
			fill_pattern(words, PAGE, i);
			break;
		}
	}
	to_device(0, nr_pages);
	for (size_t i = 0; i < nr_pages; i++) {
		const uint64_t *words = (const uint64_t *)page(i);

		if (i % 4 == 3)
			assert_int_equal(check_pattern(words, PAGE, i), -1);
		for (size_t w = 0; w < 512 && i % 4 < 3; w++)
			assert_true(words[w] == (i % 4 == 1 ? ~UINT64_C(0) : i % 4 == 2 && w == 511 ? i : 0));
	}
	discard(0, nr_pages);
	check(0, nr_pages);
}

/* Whoever takes a folio after another does not see what was in it. */
static void a_folio_that_is_used_again_is_clean(void **state)
{
	for (unsigned round = 0; round < 4; round++) {
		write_pages(0, nr_pages);
		to_device(0, nr_pages);
		discard(0, nr_pages);
		to_device(0, nr_pages); /* of holes */
		check(0, nr_pages);
	}
}

static void it_is_what_it_says(void **state)
{
	struct uhmm_device_info i = info();

	assert_true(i.size_bytes >= BLOCK && i.size_bytes % BLOCK == 0);
	assert_true(i.orders & 1);
	assert_int_equal(i.orders >> UHMM_NR_ORDERS, 0);
	assert_true(strlen(i.spec) > 0);
	assert_int_equal(i.used_bytes, 0);
}

static void closed_and_opened_again_it_is_empty(void **state)
{
	write_pages(0, nr_pages);
	to_device(0, nr_pages);
	assert_int_equal(uhmm_device_close(dev), 0);
	check(0, nr_pages);
	assert_int_equal(uhmm_device_open(space, device_spec(), &dev), 0);
	assert_int_equal(info().used_bytes, 0);
	to_device(0, nr_pages);
	check(0, nr_pages);
}

/* Twice as much as fits, if that is little enough to try. */
static size_t choose_pages(void)
{
	uint64_t pages = info().size_bytes / PAGE * 2;

	return pages < MAX_PAGES ? (size_t)pages : MAX_PAGES;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_what_it_says),
		cmocka_unit_test(every_kind_of_content_comes_back),
		cmocka_unit_test(a_folio_that_is_used_again_is_clean),
		cmocka_unit_test(random_migrations_keep_every_byte),
		cmocka_unit_test(closed_and_opened_again_it_is_empty),
	};
	int failures;

	alarm(115);
	space = open_space_or_skip(NULL);
	if (uhmm_device_open(space, device_spec(), &dev))
		support_skip("%s cannot be opened here", device_spec());
	rnd = seed_from_env();
	nr_pages = choose_pages();
	mem = map_anon(nr_pages * PAGE, true, true);
	model = calloc(nr_pages, sizeof(*model));
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	return uhmm_close(space) || failures;
}
