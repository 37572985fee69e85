/* SPDX-License-Identifier: MIT */
/*
 * A trip goes in pieces, so that there is progress to show, and only the calls and the touches are timed. One word is
 * touched for each folio; the checksum afterwards reads every byte, so a folio that came home wrong cannot hide.
 */
#include <errno.h>
#include <string.h>

#include "tools/demo.h"
#include "tools/say.h"
#include "tools/term.h"
#include "tools/touch.h"

#define NR_PIECES 8

static uint64_t piece_end(const struct region *r, unsigned piece)
{
	return r->bytes / UHMM_PAGE_BYTES * (piece + 1) / NR_PIECES * UHMM_PAGE_BYTES;
}

/* Pieces begin and end at 2 MiB where there are as many, so that no THP is cut. */
static uint64_t piece_cut(const struct region *r, unsigned piece)
{
	uint64_t end = piece_end(r, piece);

	return piece + 1 < NR_PIECES ? end - end % UHMM_BLOCK_BYTES : r->bytes;
}

static int go(struct rig *rig, const struct region *r, struct trip *trip)
{
	struct uhmm_result moved;
	uint64_t from = 0, to;
	double seconds;

	for (unsigned piece = 0; piece < NR_PIECES; piece++, from = to) {
		to = piece_cut(r, piece);
		if (to == from)
			continue;
		seconds = rig_to_device(rig, r, from, to, &moved);
		if (seconds < 0)
			return -EIO;
		trip->to_device_s += seconds;
		trip->stayed_pages += (to - from - moved.moved_bytes) / UHMM_PAGE_BYTES;
		for (unsigned order = 0; order < UHMM_NR_ORDERS; order++)
			trip->folios[order] += moved.moved_folios[order];
		term_progress("to the device", to, r->bytes);
	}
	return 0;
}

static int read_stats(struct rig *rig, struct uhmm_stats *ret)
{
	ret->sz = sizeof(*ret);
	return uhmm_stats(rig->space, ret);
}

static unsigned smallest_order(const struct trip *trip)
{
	struct uhmm_result moved = { 0 };

	memcpy(moved.moved_folios, trip->folios, sizeof(trip->folios));
	return rig_smallest_order(&moved);
}

/* What the single touches tell: their own times, and those of 2 MiB. */
static int read_touches(struct samples *us, unsigned order, struct trip *ret)
{
	struct samples block_us;
	int r = samples_init(&block_us, us->nr + 1);

	if (r)
		return r;
	samples_fold(us, 0, (size_t)1 << (UHMM_ORDER_MAX - order), &block_us);
	ret->touches = us->nr;
	ret->fault_us_p50 = samples_at(us, 0.50);
	ret->fault_us_p99 = samples_at(us, 0.99);
	ret->block_us_p50 = samples_at(&block_us, 0.50);
	samples_fini(&block_us);
	return 0;
}

static int home(const struct region *r, struct samples *us, struct trip *trip)
{
	unsigned order = smallest_order(trip);
	uint64_t step = UHMM_PAGE_BYTES << order, from = 0, to;

	for (unsigned piece = 0; piece < NR_PIECES; piece++, from = to) {
		to = piece_cut(r, piece);
		trip->home_s += touch_range(r, from, to, step, TOUCH_READ, us);
		term_progress("home by CPU touches", to, r->bytes);
	}
	return read_touches(us, order, trip);
}

static int there_and_home(struct rig *rig, const struct region *r, struct samples *us, struct trip *trip)
{
	struct uhmm_stats before, after;

	if (go(rig, r, trip) || read_stats(rig, &before))
		return -EIO;
	trip->metadata_bytes = before.metadata_bytes;
	if (home(r, us, trip) || read_stats(rig, &after))
		return -EIO;
	trip->faults = after.faults - before.faults;
	return 0;
}

int trip_run(struct rig *rig, const struct region *r, struct trip *ret)
{
	struct samples us;
	int result;

	memset(ret, 0, sizeof(*ret));
	ret->bytes = r->bytes;
	ret->sum_before = region_sum(r->mem, r->bytes);
	ret->thp_bytes_before = region_thp_bytes(r);
	if (samples_init(&us, r->bytes / UHMM_PAGE_BYTES))
		return -ENOMEM;
	result = there_and_home(rig, r, &us, ret);
	samples_fini(&us);
	term_clear();
	if (result)
		return result;
	ret->thp_bytes_after = region_thp_bytes(r);
	ret->sum_after = region_sum(r->mem, r->bytes);
	return 0;
}
