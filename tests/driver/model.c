/* SPDX-License-Identifier: MIT */
/*
 * 100000 random operations on a driver, each held against a model that knows what every page holds. First by one thread; then by
 * four at once, which own every fourth page of the same folios' neighbourhood: a driver that keeps pages together has to keep
 * them apart.
 */
#include <pthread.h>

#include "direct.h"

#define NR_STEPS   100000u
#define NR_THREADS 4u
#define PAGES      4096u /* of the device, at most: 16 MiB */
#define SECONDS    20    /* a device of disks may be too slow for all of them */

static struct direct dev;
static unsigned nr_pages;

/* What a thread knows of the pages that are its own. */
struct page {
	uint64_t seed;   /* what it holds; 0: zeros */
	bool used;       /* in a folio */
	bool undefined;  /* nothing was written since the folio was had */
	uint8_t order;   /* of its folio, if it is the head */
	bool head;
};

static struct page pages[PAGES];

struct walker {
	uint64_t rnd;
	char *buf;        /* BLOCK bytes */
	unsigned steps, done;
	unsigned stride, phase; /* with others at work: page i is mine if i % stride == phase, and folios have order 0 */
	uint64_t end_ns;
	const char *wrong;
	uint64_t wrong_at;
};

static unsigned below(struct walker *w, unsigned n) { return (unsigned)(next_random(&w->rnd) % n); }

static bool wrong(struct walker *w, const char *what, unsigned page)
{
	if (!w->wrong) {
		w->wrong = what;
		w->wrong_at = page;
	}
	return false;
}

static bool fresh(struct walker *w, unsigned first, unsigned order)
{
	for (unsigned i = first; i < first + (1u << order); i++)
		if (pages[i].used)
			return true; /* not to be had, and no error */
	if (direct_alloc(&dev, (uint64_t)first * PAGE, order))
		return wrong(w, "folio_alloc", first);
	for (unsigned i = first; i < first + (1u << order); i++)
		pages[i] = (struct page){ .used = true, .undefined = true, .order = (uint8_t)order, .head = i == first };
	return true;
}

static bool head_of(unsigned page, unsigned *ret_head)
{
	unsigned i = page;

	if (!pages[page].used)
		return false;
	while (!pages[i].head)
		i--;
	*ret_head = i;
	return true;
}

/* Up to all pages of the folio of @page, from it on. */
static unsigned piece(struct walker *w, unsigned page, unsigned head)
{
	unsigned left = head + (1u << pages[head].order) - page;

	return below(w, 4) ? 1 + below(w, left < 20 ? left : 20) : left;
}

static bool write_pages(struct walker *w, unsigned first, unsigned n)
{
	struct uhmm_seg seg = { (uint64_t)first * PAGE, w->buf, n * PAGE };

	for (unsigned i = 0; i < n; i++) {
		pages[first + i].seed = below(w, 6) ? next_random(&w->rnd) : 0;
		pages[first + i].undefined = false;
		content_fill(w->buf + i * PAGE, pages[first + i].seed);
	}
	return !direct_copy_in(&dev, &seg, 1) || wrong(w, "copy_in", first);
}

static bool read_pages(struct walker *w, unsigned first, unsigned n)
{
	struct uhmm_seg seg = { (uint64_t)first * PAGE, w->buf, n * PAGE };

	memset(w->buf, 0x5a, n * PAGE);
	if (direct_copy_out(&dev, &seg, 1))
		return wrong(w, "copy_out", first);
	for (unsigned i = 0; i < n; i++)
		if (!pages[first + i].undefined && !content_is(w->buf + i * PAGE, pages[first + i].seed))
			return wrong(w, "the bytes", first + i);
	return true;
}

static bool clear_pages(struct walker *w, unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++) {
		pages[i].seed = 0;
		pages[i].undefined = false;
	}
	return !direct_clear(&dev, (uint64_t)first * PAGE, n * PAGE) || wrong(w, "clear", first);
}

static void free_folio(unsigned head)
{
	unsigned order = pages[head].order;

	direct_free(&dev, (uint64_t)head * PAGE, order);
	memset(&pages[head], 0, sizeof(struct page) << order);
}

static void split_folio(struct walker *w, unsigned head)
{
	unsigned from = pages[head].order, to = below(w, 2) || !from ? 0 : below(w, from);

	if (!from || !(dev.props.orders >> to & 1))
		return;
	direct_split(&dev, (uint64_t)head * PAGE, from, to);
	for (unsigned i = head; i < head + (1u << from); i += 1u << to) {
		pages[i].head = true;
		pages[i].order = (uint8_t)to;
	}
}

/* Several folios in one call. */
static bool write_batch(struct walker *w)
{
	struct uhmm_seg segs[16];
	unsigned nr = 0;

	for (unsigned tries = 0; tries < 16; tries++) {
		unsigned i = below(w, nr_pages / w->stride) * w->stride + w->phase;
		bool again = false;

		for (unsigned k = 0; k < nr; k++)
			again |= segs[k].offset == (uint64_t)i * PAGE;
		if (!pages[i].used || again)
			continue;
		pages[i].seed = next_random(&w->rnd);
		pages[i].undefined = false;
		content_fill(w->buf + nr * PAGE, pages[i].seed);
		segs[nr] = (struct uhmm_seg){ (uint64_t)i * PAGE, w->buf + nr * PAGE, PAGE };
		nr++;
	}
	return !nr || !direct_copy_in(&dev, segs, nr) || wrong(w, "copy_in of a batch", (unsigned)(segs[0].offset / PAGE));
}

static bool step(struct walker *w)
{
	unsigned i = below(w, nr_pages / w->stride) * w->stride + w->phase, head, order;

	if (!head_of(i, &head)) {
		order = w->stride > 1 || below(w, 2) ? 0 : below(w, TOP_ORDER + 1);
		if (!(dev.props.orders >> order & 1))
			order = 0;
		head = i >> order << order;
		if (!fresh(w, head, order))
			return false;
		if (!pages[i].used || !head_of(i, &head))
			return true;
		return !below(w, 8) || write_pages(w, head, 1u << pages[head].order);
	}
	switch (below(w, 10)) {
	case 0:
		return clear_pages(w, i, piece(w, i, head));
	case 1:
		free_folio(head);
		return true;
	case 2:
		split_folio(w, head);
		return true;
	case 3:
		return write_batch(w);
	case 4:
	case 5:
	case 6:
		return write_pages(w, i, piece(w, i, head));
	default:
		return read_pages(w, i, piece(w, i, head));
	}
}

static void *walk(void *arg)
{
	struct walker *w = arg;

	while (w->done < w->steps && !w->wrong) {
		if (!step(w))
			break;
		if (++w->done % 64 == 0 && now_ns() > w->end_ns)
			break;
	}
	return NULL;
}

static void start(struct walker *w, unsigned steps, unsigned stride, unsigned phase, uint64_t seed)
{
	*w = (struct walker){ .rnd = seed, .steps = steps, .stride = stride, .phase = phase };
	w->end_ns = now_ns() + SECONDS * UINT64_C(1000000000);
	w->buf = uhmm_host_alloc(BLOCK);
	assert_non_null(w->buf);
}

static void finish(struct walker *w)
{
	if (w->wrong)
		fail_msg("step %u, page %llu: %s", w->done, (unsigned long long)w->wrong_at, w->wrong);
	if (w->done < w->steps)
		print_message("# %u of %u steps in %u seconds\n", w->done, w->steps, SECONDS);
	uhmm_host_free(w->buf, BLOCK);
}

static void read_and_free_all(struct walker *w)
{
	for (unsigned i = 0; i < nr_pages; i++)
		if (pages[i].head)
			(void)(read_pages(w, i, 1u << pages[i].order), free_folio(i), 0);
}

static uint64_t seed;

static void random_operations_agree_with_the_model(void **state)
{
	struct walker w;

	start(&w, NR_STEPS, 1, 0, seed);
	walk(&w);
	read_and_free_all(&w);
	finish(&w);
}

static void threads_that_share_a_neighbourhood(void **state)
{
	struct walker w[NR_THREADS];
	pthread_t t[NR_THREADS];

	for (unsigned k = 0; k < NR_THREADS; k++)
		start(&w[k], NR_STEPS / NR_THREADS, NR_THREADS, k, seed + k + 1);
	for (unsigned k = 0; k < NR_THREADS; k++)
		assert_int_equal(pthread_create(&t[k], NULL, walk, &w[k]), 0);
	for (unsigned k = 0; k < NR_THREADS; k++)
		pthread_join(t[k], NULL);
	read_and_free_all(&w[0]);
	for (unsigned k = 0; k < NR_THREADS; k++)
		finish(&w[k]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_agree_with_the_model),
		cmocka_unit_test(threads_that_share_a_neighbourhood),
	};
	int failures;

	alarm(115);
	direct_open_or_skip(&dev);
	nr_pages = dev.props.size_bytes / PAGE < PAGES ? (unsigned)(dev.props.size_bytes / PAGE) : PAGES;
	seed = seed_from_env();
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	direct_close(&dev);
	return failures;
}
