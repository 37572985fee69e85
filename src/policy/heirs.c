/* SPDX-License-Identifier: MIT */
/*
 * Children of fork, which have policies of their own. What a child shares with its parent cannot leave either of them, and what is
 * away in the parent must leave again in the child: so the parent makes room for it before the fork, and the child says how
 * much may come (fault/pace.h).
 */
#include <string.h>

#include "base/clock.h"
#include "fault/pace.h"
#include "policy/policy.h"

#define MAKE_ROOM_NS UINT64_C(10000000000) /* then the fork goes on without */
#define STUCK_BYTES  (UINT64_C(4) << 20)   /* come each time that nothing could leave */

/* A child's own devices keep what leaves it a second time, and it needs some room to be able to let anything leave. */
static uint64_t needed_by_child(struct policy *p)
{
	uint64_t bytes = UHMM_POLICY_LIMIT_MIN;

	for (unsigned i = 0; i < p->nr_devices; i++)
		if (!(p->flags & UHMM_POLICY_EMU_APART && strstr(p->device[i]->spec, "emu:")))
			bytes += device_host_bytes(p->device[i]);
	return min_u64(bytes, atomic_load(&p->limit) / 2);
}

void heirs_spare(struct policy *p)
{
	uint64_t until = clock_ns() + MAKE_ROOM_NS, stuck = atomic_load(&p->stuck);

	atomic_store(&p->spare, needed_by_child(p));
	atomic_fetch_add(&p->nr_waiting, 1); /* it is tried at once, though nothing could leave before */
	(void)policy_look_again(p); /* and the marks are where they shall be */
	while (!heirs_room(p) && atomic_load(&p->stuck) == stuck && !atomic_load(&p->stop) && clock_ns() < until)
		(void)policy_look_again(p);
	atomic_fetch_sub(&p->nr_waiting, 1);
}

void heirs_spare_end(struct policy *p)
{
	atomic_store(&p->spare, 0);
}

uint64_t heirs_room(struct policy *p)
{
	uint64_t resident = atomic_load(&p->resident), hard = atomic_load(&p->hard);

	return resident < hard ? hard - resident : 0;
}

/*
 * What is given has half of the reserve to itself: the program's own touches wait at the door before, or they would take all the room
 * and the parent would wait for ever. It must come in the end also where nothing can leave: then it is a little each time that
 * has been tried.
 */
void heirs_allow(struct policy *p)
{
	uint64_t limit = atomic_load(&p->limit), most = limit - (limit - atomic_load(&p->hard)) / 2;
	uint64_t resident = atomic_load(&p->resident), stuck = atomic_load(&p->stuck), room = resident < most ? most - resident : 0;

	if (atomic_load(&p->hopeless) && stuck == p->seen_stuck)
		pace_beat();
	else
		pace_allow(stuck == p->seen_stuck ? room : max_u64(room, STUCK_BYTES));
	p->seen_stuck = stuck;
	/* what the parent watched is this process's own from then on, and one mapping with the rest again once it is armed */
	if (p->was_bounded && !pace_was_bounded())
		p->seen_mapped = 0;
	p->was_bounded = pace_was_bounded();
}
