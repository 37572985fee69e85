/* SPDX-License-Identifier: MIT */
/*
 * uhmm's 4 KiB path against the least that any user-space pager does at 4 KiB: the same touches, a raw userfaultfd, one
 * UFFDIO_COPY. The two take turns, once with everything on one CPU and once with the server on another.
 */
#include <errno.h>
#include <string.h>

#include "tools/demo.h"
#include "tools/place.h"
#include "tools/touch.h"

#define TURN_BYTES ((uint64_t)4 << 20)
#define NR_TURNS   4

struct turns {
	struct samples uhmm, bare;
};

static int turns_init(struct turns *t)
{
	size_t room = NR_TURNS * TURN_BYTES / UHMM_PAGE_BYTES;
	int r = samples_init(&t->uhmm, room);

	return r ? r : samples_init(&t->bare, room);
}

static void turns_fini(struct turns *t)
{
	samples_fini(&t->uhmm);
	samples_fini(&t->bare);
}

static int take_turn(struct rig *rig, const struct region *r, struct bare *bare, enum placement placement, struct turns *t)
{
	struct uhmm_result moved;
	const cpu_set_t *server;
	double seconds;

	if (rig_to_device(rig, r, 0, r->bytes, &moved) < 0)
		return -EIO;
	server = place_threads(placement);
	touch_range(r, 0, r->bytes, UHMM_PAGE_BYTES, TOUCH_READ, &t->uhmm);
	bare_empty(bare, NULL, 1);
	seconds = bare_pass(bare, server, &t->bare);
	place_threads(PLACE_FREE);
	return seconds < 0 ? -EIO : 0;
}

static int take_turns(struct rig *rig, const struct region *r, struct bare *bare, enum placement placement,
		      struct against_bare *ret)
{
	struct turns t = { 0 };
	int result = turns_init(&t);

	for (int turn = 0; turn < NR_TURNS && !result; turn++)
		result = take_turn(rig, r, bare, placement, &t);
	ret->uhmm_us_p50 = samples_at(&t.uhmm, 0.50);
	ret->uhmm_us_p99 = samples_at(&t.uhmm, 0.99);
	ret->bare_us_p50 = samples_at(&t.bare, 0.50);
	ret->bare_us_p99 = samples_at(&t.bare, 0.99);
	turns_fini(&t);
	return result;
}

int demo_against_bare(struct rig *rig, struct against_bare *ret_one_cpu, struct against_bare *ret_two_cpus)
{
	struct bare *bare = NULL;
	struct region r;
	int result = region_init(&r, TURN_BYTES, REGION_BASE);

	if (!result)
		result = bare_open(&bare, TURN_BYTES, REGION_BASE);
	if (!result) {
		region_fill(&r);
		result = take_turns(rig, &r, bare, PLACE_ONE_CPU, ret_one_cpu);
	}
	if (!result)
		result = take_turns(rig, &r, bare, PLACE_TWO_CPUS, ret_two_cpus);
	bare_close(bare);
	region_fini(&r);
	return result;
}
