/* SPDX-License-Identifier: MIT */
#ifndef TESTS_LEDGER_H
#define TESTS_LEDGER_H

/*
 * A device that keeps a ledger of its folios, by what the driver is told alone: what is allocated must have been free and be
 * aligned, what is split or freed must be a folio of the order that is said, splits name each piece but the first in order and
 * end with UINT64_MAX, and only bytes of folios are copied. What breaks a rule is counted.
 *
 *   ledger:ORDERS   a mask of the orders that it takes, 0x3ff for all
 */
#include <stdatomic.h>

#include "rig.h"
#include "uhmm/driver.h"

#define LEDGER_BYTES (8 * BLOCK)
#define LEDGER_PAGES PAGES(LEDGER_BYTES)

static struct {
	char *mem;
	uint32_t orders;
	_Atomic uint32_t refuse;              /* orders that folio_alloc refuses, a bit for each */
	_Atomic unsigned refused;             /* how often it did */
	_Atomic unsigned wrong;               /* broken rules */
	_Atomic unsigned pieces, split_ends;  /* calls of folio_split */
	_Atomic uint64_t folios[UHMM_NR_ORDERS];
	_Atomic uint8_t order[LEDGER_PAGES];  /* of the folio the page is in, + 1; 0: free */
	_Atomic uint64_t next[LEDGER_PAGES];  /* of a head: the piece that a split under way must name next; 0: none is */
} ledger;

#define LEDGER_RULE(holds)                                                                    \
	do {                                                                                  \
		if (!(holds)) {                                                               \
			atomic_fetch_add(&ledger.wrong, 1);                                   \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds);   \
		}                                                                             \
	} while (0)

/* Are [offset, offset + order) all in the state @was? They become @is. */
static inline bool ledger_turn(uint64_t offset, unsigned order, uint8_t was, uint8_t is)
{
	size_t first = offset / PAGE, n = (size_t)1 << order;
	bool all = order < UHMM_NR_ORDERS && offset % (PAGE << order) == 0 && first + n <= LEDGER_PAGES;

	for (size_t i = first; all && i < first + n; i++)
		all = atomic_exchange(&ledger.order[i], is) == was;
	return all;
}

static int ledger_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	(void)ret_why;
	(void)why_bytes;
	memset(&ledger, 0, sizeof(ledger));
	ledger.orders = (uint32_t)strtoul(options, NULL, 0);
	ledger.mem = uhmm_host_alloc(LEDGER_BYTES);
	if (!ledger.mem)
		return -ENOMEM;
	ret_props->size_bytes = LEDGER_BYTES;
	ret_props->orders = ledger.orders;
	*ret_ctx = &ledger;
	return 0;
}

static void ledger_close(void *ctx)
{
	(void)ctx;
	for (size_t i = 0; i < LEDGER_PAGES; i++)
		LEDGER_RULE(!ledger.order[i] && !ledger.next[i]);
	uhmm_host_free(ledger.mem, LEDGER_BYTES);
}

static int ledger_copy(const struct uhmm_seg *segs, unsigned nr, bool in)
{
	for (unsigned k = 0; k < nr; k++) {
		for (size_t i = segs[k].offset / PAGE; i < (segs[k].offset + segs[k].bytes) / PAGE; i++)
			LEDGER_RULE(i < LEDGER_PAGES && ledger.order[i]);
		if (in)
			uhmm_copy(ledger.mem + segs[k].offset, segs[k].host, segs[k].bytes);
		else
			uhmm_copy(segs[k].host, ledger.mem + segs[k].offset, segs[k].bytes);
	}
	return 0;
}

static int ledger_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	(void)ctx;
	(void)ret_fence;
	return ledger_copy(segs, nr, true);
}

static int ledger_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	(void)ctx;
	(void)ret_fence;
	return ledger_copy(segs, nr, false);
}

static int ledger_clear(void *ctx, uint64_t offset, uint64_t bytes)
{
	unsigned order = ledger.order[offset / PAGE];

	(void)ctx;
	LEDGER_RULE(order && offset % (PAGE << (order - 1)) + bytes <= PAGE << (order - 1)); /* inside one folio */
	memset(ledger.mem + offset, 0, bytes);
	return 0;
}

static int ledger_alloc(void *ctx, uint64_t offset, unsigned order)
{
	(void)ctx;
	LEDGER_RULE(ledger.orders >> order & 1);
	if (ledger.refuse >> order & 1) {
		atomic_fetch_add(&ledger.refused, 1);
		return -ENOSPC;
	}
	LEDGER_RULE(ledger_turn(offset, order, 0, (uint8_t)(order + 1)));
	atomic_fetch_add(&ledger.folios[order], 1);
	return 0;
}

static void ledger_free(void *ctx, uint64_t offset, unsigned order)
{
	(void)ctx;
	LEDGER_RULE(!ledger.next[offset / PAGE]);
	LEDGER_RULE(ledger_turn(offset, order, (uint8_t)(order + 1), 0));
	atomic_fetch_sub(&ledger.folios[order], 1);
}

static void ledger_split(void *ctx, uint64_t head, unsigned old_order, uint64_t piece, unsigned new_order)
{
	uint64_t next = ledger.next[head / PAGE], step = PAGE << new_order;
	bool first = !next, last = piece == UINT64_MAX;

	(void)ctx;
	LEDGER_RULE(new_order < old_order && ledger.orders >> new_order & 1);
	if (first)
		next = head + step;
	LEDGER_RULE(last ? next == head + (PAGE << old_order) : piece == next);
	ledger.next[head / PAGE] = last ? 0 : next + step;
	atomic_fetch_add(last ? &ledger.split_ends : &ledger.pieces, 1);
	if (!last)
		return;
	LEDGER_RULE(ledger_turn(head, old_order, (uint8_t)(old_order + 1), (uint8_t)(new_order + 1)));
	atomic_fetch_sub(&ledger.folios[old_order], 1);
	atomic_fetch_add(&ledger.folios[new_order], (uint64_t)1 << (old_order - new_order));
}

static const struct uhmm_driver ledger_driver = {
	.sz = sizeof(struct uhmm_driver),
	.name = "ledger",
	.summary = "keeps a ledger of its folios",
	.open = ledger_open,
	.close = ledger_close,
	.copy_in = ledger_copy_in,
	.copy_out = ledger_copy_out,
	.clear = ledger_clear,
	.folio_alloc = ledger_alloc,
	.folio_free = ledger_free,
	.folio_split = ledger_split,
};

/* For main(), instead of rig_open(). */
static inline void ledger_rig_open(const char *spec)
{
	signal(SIGALRM, too_long);
	alarm(110);
	space = open_space_or_skip(NULL);
	if (uhmm_driver_add(&ledger_driver) || uhmm_device_open(space, spec, &dev))
		exit(1);
}

/* The ledger and the library count the same folios, and no rule was broken. */
static inline void check_ledger(void)
{
	struct uhmm_device_info i = info(dev);

	assert_int_equal(ledger.wrong, 0);
	for (unsigned k = 0; k < UHMM_NR_ORDERS; k++)
		assert_int_equal(ledger.folios[k], i.folios[k]);
}

/* A new ledger, which takes other orders. */
static inline void take_orders(uint32_t orders)
{
	char spec[32];

	assert_int_equal(uhmm_device_close(dev), 0);
	assert_int_equal(ledger.wrong, 0);
	snprintf(spec, sizeof(spec), "ledger:0x%x", orders);
	dev = open_device(spec);
}

#endif
