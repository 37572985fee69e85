/* SPDX-License-Identifier: MIT */
/* Both codecs over one driver: what is kept, what it costs, and that nothing is left behind. */
#include "unit.h"

#include "base/err.h"
#include "base/pages.h"
#include "drivers/packed/packed.h"

extern const struct uhmm_driver uhmm_driver_zstd, uhmm_driver_lz4;

static const struct uhmm_driver *drv;
static struct packed *p;
static char buf[BLOCK_BYTES] __attribute__((aligned(4096))), back[BLOCK_BYTES] __attribute__((aligned(4096)));
static char why[300];

static int open_packed(const char *options)
{
	struct uhmm_driver_props props = { .sz = sizeof(props) };
	void *ctx = NULL;
	int r;

	why[0] = '\0';
	r = drv->open(options, &props, &ctx, why, sizeof(why));
	p = ctx;
	return r;
}

static int in(uint64_t offset, uint64_t bytes)
{
	struct uhmm_seg seg = { offset, buf, bytes };
	uint64_t fence = 0;

	return drv->copy_in(p, &seg, 1, &fence);
}

static void assert_back(uint64_t offset, uint64_t bytes)
{
	struct uhmm_seg seg = { offset, back, bytes };
	uint64_t fence = 0;

	memset(back, 0xa5, bytes);
	assert_int_equal(drv->copy_out(p, &seg, 1, &fence), 0);
	assert_memory_equal(back, buf, bytes);
}

static void text(unsigned seed)
{
	for (size_t i = 0; i < BLOCK_BYTES; i++)
		buf[i] = "all work and no play makes jack a dull boy\n"[(i * (1 + i / 4096 % 5) + seed) % 43];
}

static void noise(uint64_t seed)
{
	for (size_t i = 0; i < BLOCK_BYTES / 8; i++)
		((uint64_t *)(void *)buf)[i] = seed = seed * 6364136223846793005u + 1442695040888963407u + (seed >> 29);
}

static void assert_empty(void)
{
	assert_null(heap_check(&p->heap));
	assert_int_equal(p->heap.used_bytes, 0);
}

static void zeros_and_fills_cost_nothing(void **state)
{
	uint64_t before;

	(void)state;
	assert_int_equal(open_packed("size=64M"), 0);
	before = drv->host_bytes(p);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(in(0, BLOCK_BYTES), 0);
	assert_back(0, BLOCK_BYTES);
	assert_int_equal(drv->host_bytes(p), before);
	assert_empty();
	memset(buf, 0x11, sizeof(buf));
	assert_int_equal(in(0, BLOCK_BYTES), 0);
	assert_back(0, BLOCK_BYTES);
	assert_true(p->heap.used_bytes <= BLOCK_BYTES / p->piece * 32);
	drv->folio_free(p, 0, 9);
	assert_empty();
	drv->close(p);
}

static void text_shrinks_and_noise_does_not_grow(void **state)
{
	(void)state;
	assert_int_equal(open_packed("size=64M"), 0);
	text(0);
	assert_int_equal(in(0, BLOCK_BYTES), 0);
	assert_back(0, BLOCK_BYTES);
	assert_true(p->heap.used_bytes < BLOCK_BYTES / 4);
	noise(1);
	assert_int_equal(in(0, BLOCK_BYTES), 0);
	assert_back(0, BLOCK_BYTES);
	assert_true(p->heap.used_bytes >= BLOCK_BYTES && p->heap.used_bytes < BLOCK_BYTES + BLOCK_BYTES / 100);
	drv->folio_free(p, 0, 9);
	assert_empty();
	drv->close(p);
}

static void every_piece_size_takes_every_page(void **state)
{
	static const char *const specs[] = { "piece=4K", "piece=8K", "piece=16K", "piece=32K", "piece=64K" };
	char options[64];

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(specs); k++) {
		snprintf(options, sizeof(options), "size=64M,%s", specs[k]);
		assert_int_equal(open_packed(options), 0);
		text(k);
		assert_int_equal(in(BLOCK_BYTES, BLOCK_BYTES), 0);
		for (unsigned i = 0; i < PAGES_PER_BLOCK; i += 7) {
			struct uhmm_seg seg = { BLOCK_BYTES + i * PAGE_BYTES, buf + i * PAGE_BYTES, PAGE_BYTES };
			uint64_t fence = 0;

			memset(buf + i * PAGE_BYTES, (int)i, 3000);
			assert_int_equal(drv->copy_in(p, &seg, 1, &fence), 0);
		}
		assert_back(BLOCK_BYTES, BLOCK_BYTES);
		for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
			drv->folio_free(p, BLOCK_BYTES + (i * 5 % PAGES_PER_BLOCK) * PAGE_BYTES, 0);
		assert_empty();
		drv->close(p);
	}
}

static void every_level_reads_what_it_wrote(void **state)
{
	char options[64];

	(void)state;
	for (int level = -9; level <= 19; level++) {
		snprintf(options, sizeof(options), "size=64M,level=%d", level);
		if (open_packed(options))
			continue;
		text((unsigned)(level + 10));
		assert_int_equal(in(0, 16 * PAGE_BYTES), 0);
		assert_back(0, 16 * PAGE_BYTES);
		assert_true(p->heap.used_bytes < 8 * PAGE_BYTES);
		drv->close(p);
		p = NULL;
	}
}

/* A limit holds, refuses further folios, and room comes back. */
static void a_full_store_fails_and_recovers(void **state)
{
	uint64_t at = 0;
	unsigned fitted;

	(void)state;
	assert_int_equal(open_packed("size=256M,limit=16M"), 0);
	noise(3);
	for (; at < 64 * BLOCK_BYTES; at += BLOCK_BYTES) {
		int r = in(at, BLOCK_BYTES);

		if (r) {
			assert_int_equal(r, -ENOSPC);
			break;
		}
	}
	fitted = (unsigned)(at / BLOCK_BYTES);
	assert_in_range(fitted, 6, 8);
	assert_true(p->heap.touched_bytes <= 16 * MIB);
	assert_int_equal(drv->folio_alloc(p, at + BLOCK_BYTES, 9), -ENOSPC);
	assert_int_equal(drv->folio_alloc(p, at + BLOCK_BYTES, 0), -ENOSPC);
	drv->folio_free(p, at, 9); /* what uhmm does with the one that failed */
	assert_null(heap_check(&p->heap));
	for (uint64_t i = 0; i < at; i += BLOCK_BYTES)
		assert_back(i, BLOCK_BYTES);
	drv->folio_free(p, 0, 9);
	assert_int_equal(drv->folio_alloc(p, 0, 9), 0);
	assert_int_equal(in(0, BLOCK_BYTES), 0);
	assert_back(0, BLOCK_BYTES);
	assert_int_equal(in(0, BLOCK_BYTES), 0); /* over itself, in a full store */
	for (uint64_t i = 0; i < at; i += BLOCK_BYTES)
		drv->folio_free(p, i, 9);
	assert_empty();
	drv->close(p);
}

/* Of pages too: each has an object of its own, and all go again. */
static void a_full_store_of_pages(void **state)
{
	uint64_t fence = 0;
	unsigned n = 0;

	(void)state;
	assert_int_equal(open_packed("size=64M,limit=4M"), 0);
	noise(9);
	for (;; n++) {
		struct uhmm_seg seg = { n * 2 * PAGE_BYTES, buf + n % 512 * PAGE_BYTES, PAGE_BYTES };
		int r = drv->copy_in(p, &seg, 1, &fence);

		if (r == -ENOSPC)
			break;
		assert_int_equal(r, 0);
	}
	assert_true(n > 900);
	for (unsigned i = 0; i <= n; i++)
		drv->folio_free(p, i * 2 * PAGE_BYTES, 0);
	assert_empty();
	drv->close(p);
}

static void memory_is_given_back(void **state)
{
	uint64_t full, before;

	(void)state;
	assert_int_equal(open_packed("size=256M"), 0);
	before = drv->host_bytes(p);
	noise(5);
	for (uint64_t at = 0; at < 32 * BLOCK_BYTES; at += BLOCK_BYTES)
		assert_int_equal(in(at, BLOCK_BYTES), 0);
	full = drv->host_bytes(p);
	assert_true(full >= before + 32 * BLOCK_BYTES);
	for (uint64_t at = 0; at < 32 * BLOCK_BYTES; at += BLOCK_BYTES)
		drv->folio_free(p, at, 9);
	assert_true(drv->host_bytes(p) < before + 8 * MIB);
	assert_empty();
	drv->close(p);
}

static void opening_costs_what_is_used(void **state)
{
	(void)state;
	assert_int_equal(open_packed("size=256G"), 0);
	assert_true(drv->host_bytes(p) < 8 * MIB);
	text(1);
	assert_int_equal(in(256 * GIB - BLOCK_BYTES, BLOCK_BYTES), 0);
	assert_back(256 * GIB - BLOCK_BYTES, BLOCK_BYTES);
	drv->close(p);
}

static void bad_options_are_told(void **state)
{
	static const struct { const char *options, *says; } bad[] = {
		{ "size=3M", "size must be a multiple of 2M" }, { "size=0", "size must be" }, { "size=128T", "64T" },
		{ "limit=1M", "limit must be at least 4M" }, { "piece=12K", "piece must be 4K" }, { "piece=128K", "piece must be" },
		{ "piece=2K", "piece must be" }, { "level=20", "level=20 is not a whole number from" }, { "level=0", "level=0" },
		{ "level=fast", "level=fast" }, { "level=-10", "level=-10" }, { "level=1x", "level=1x" }, { "sise=1G", "sise" },
		{ "size=many", "size=many" }, { "size", "no value" },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(open_packed(bad[i].options), -EINVAL);
		if (!strstr(why, bad[i].says))
			fail_msg("\"%s\": \"%s\" is not in \"%s\"", bad[i].options, bad[i].says, why);
	}
}

static void copies_beyond_the_end_are_refused(void **state)
{
	struct uhmm_seg seg = { 64 * MIB, back, PAGE_BYTES };
	uint64_t fence = 0;

	(void)state;
	assert_int_equal(open_packed("size=64M"), 0);
	assert_int_equal(in(64 * MIB - PAGE_BYTES, 2 * PAGE_BYTES), -EINVAL);
	assert_int_equal(drv->copy_out(p, &seg, 1, &fence), -EINVAL);
	assert_int_equal(drv->clear(p, 65 * MIB, PAGE_BYTES), -EINVAL);
	assert_empty();
	drv->close(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zeros_and_fills_cost_nothing),
		cmocka_unit_test(text_shrinks_and_noise_does_not_grow),
		cmocka_unit_test(every_piece_size_takes_every_page),
		cmocka_unit_test(every_level_reads_what_it_wrote),
		cmocka_unit_test(a_full_store_fails_and_recovers),
		cmocka_unit_test(a_full_store_of_pages),
		cmocka_unit_test(memory_is_given_back),
		cmocka_unit_test(opening_costs_what_is_used),
		cmocka_unit_test(bad_options_are_told),
		cmocka_unit_test(copies_beyond_the_end_are_refused),
	};
	static const struct uhmm_driver *const both[] = { &uhmm_driver_zstd, &uhmm_driver_lz4 };
	int failures = 0;
	unsigned tried = 0;

	for (unsigned i = 0; i < ARRAY_LEN(both); i++) {
		drv = both[i];
		if (open_packed("size=2M")) {
			printf("# %s is not here: %s\n", drv->name, why);
			continue;
		}
		drv->close(p);
		tried++;
		failures += cmocka_run_group_tests_name(drv->name, tests, NULL, NULL);
	}
	return tried ? failures : 77;
}
