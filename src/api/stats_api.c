/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "os/copy.h"
#include "os/fail.h"
#include "os/map.h"
#include "os/pagemap.h"
#include "os/sysinfo.h"
#include "os/uapi.h"

static uint64_t read_orders(uint64_t *ret, const _Atomic uint64_t *folios)
{
	uint64_t bytes = 0;

	for (unsigned k = 0; k < NR_ORDERS; k++) {
		ret[k] = counter_get(&folios[k]);
		bytes += ret[k] * order_bytes(k);
	}
	return bytes;
}

static void read_counters(struct uhmm_stats *s, struct counters *n)
{
	s->to_device_bytes = read_orders(s->to_device_folios, n->to_device_folios);
	s->to_system_bytes = read_orders(s->to_system_folios, n->to_system_folios);
	s->fault_bytes = read_orders(s->fault_folios, n->fault_folios);
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		s->skipped_pages[k] = counter_get(&n->skipped_pages[k]);
	s->dropped_pages = counter_get(&n->dropped_pages);
	s->faults = counter_get(&n->faults);
	s->fault_zero = counter_get(&n->fault_zero);
	s->fault_joined = counter_get(&n->fault_joined);
	s->fault_stale = counter_get(&n->fault_stale);
	s->fault_small = counter_get(&n->fault_small);
	s->fault_lost = counter_get(&n->fault_lost);
	s->fault_ns_p50 = hist_quantile(&n->fault_ns, 0.5);
	s->fault_ns_p99 = hist_quantile(&n->fault_ns, 0.99);
	s->fault_ns_max = counter_get(&n->fault_ns.max);
	s->events_remove = counter_get(&n->events_remove);
	s->events_unmap = counter_get(&n->events_unmap);
	s->events_remap = counter_get(&n->events_remap);
	s->forks = counter_get(&n->forks);
	s->pool_hits = counter_get(&n->pool_hits);
	s->pool_fresh = counter_get(&n->pool_fresh);
	s->pool_failed = counter_get(&n->pool_failed);
	s->pool_freed = counter_get(&n->pool_freed);
	s->prefetches = counter_get(&n->prefetches);
	s->prefetches_failed = counter_get(&n->prefetches_failed);
	s->children = counter_get(&n->children);
	s->child_bytes = counter_get(&n->child_pages) << PAGE_SHIFT;
}

int uhmm_stats(struct uhmm_space *space, struct uhmm_stats *ret)
{
	struct uhmm_stats s;
	size_t sz;

	if (!space || !ret || ret->sz < sizeof(size_t))
		return bad_argument("uhmm_stats", "space and result must not be NULL, and the result's sz must be set");
	if (check_process("uhmm_stats", space))
		return -EPERM;
	memset(&s, 0, sizeof(s));
	sz = s.sz = ret->sz;
	read_counters(&s, &space->sp.counters);
	s.pool_bytes = staging_pool_bytes(&space->migrator.staging);
	s.pool_bytes_max = space->pool_bytes;
	s.metadata_bytes = table_bytes(&space->sp.table) + stamps_bytes(&space->sp.faulted);
	for (unsigned i = 1; i < MAX_DEVICES; i++) {
		struct device *d = migrator_device(&space->migrator, i);

		if (!d)
			continue;
		s.device_bytes += buddy_used_bytes(&d->buddy);
		s.metadata_bytes += buddy_metadata_bytes(&d->buddy);
	}
	memcpy(ret, &s, sz < sizeof(s) ? sz : sizeof(s));
	return 0;
}

/* ---- what the host offers ---- */

static int probe_open(enum uffd_open_mode mode, unsigned flags, struct uffd *u)
{
	int r;

	*u = (struct uffd){ .fd = -1 };
	r = uffd_try_open(u, mode, flags);
	uffd_close(u);
	return r;
}

static void probe_uffd(struct uhmm_probe *p)
{
	struct uffd u;
	int r;

	p->uffd_user_errno = -probe_open(UFFD_USER_ONLY, 0, &u);
	r = probe_open(UFFD_FULL, 0, &u);
	p->uffd_errno = -r;
	if (r && r != -EOPNOTSUPP)
		r = probe_open(UFFD_FULL_OR_USER, 0, &u);
	p->uffd_features = u.features;
	p->has_move = u.features & UAPI_FEATURE_MOVE ? 1 : 0;
	p->has_events = u.features & UFFD_FEATURE_EVENT_REMOVE && u.features & UFFD_FEATURE_EVENT_UNMAP;
	p->has_poison = u.features & UAPI_FEATURE_POISON ? 1 : 0;
	if (!r)
		strcpy(p->uffd_path, u.path);
	p->has_fork_event = !r && !probe_open(UFFD_FULL, UFFD_WANT_FORK, &u);
}

static void probe_memory(struct uhmm_probe *p)
{
	char *block = map_own(BLOCK_BYTES, MAP_OWN_HUGE);
	struct procmap m;
	int fd, bits;

	if (!procmap_open(&m)) {
		p->has_procmap_query = m.has_query;
		procmap_close(&m);
	}
	if (block && !pagemap_open(&fd)) {
		*(volatile char *)block = 1;
		bits = pagemap_uniform(fd, (uintptr_t)block, (uintptr_t)block + BLOCK_BYTES);
		p->has_pagemap_scan = bits >= -1;
		p->has_thp = bits > 0 && bits & PM_HUGE && !os_without(WITHOUT_THP);
		pagemap_close(fd);
	}
	map_own_free(block, BLOCK_BYTES);
	p->has_pt_reclaim = sysinfo_has_pt_reclaim();
}

int uhmm_probe(struct uhmm_probe *ret)
{
	struct uhmm_probe p;
	size_t sz;

	if (!ret || ret->sz < sizeof(size_t))
		return bad_argument("uhmm_probe", "the result must not be NULL, and its sz must be set");
	fail_init();
	memset(&p, 0, sizeof(p));
	sz = p.sz = ret->sz;
	probe_uffd(&p);
	probe_memory(&p);
	strcpy(p.copy_routine, copy_routine());
	memcpy(ret, &p, sz < sizeof(p) ? sz : sizeof(p));
	return 0;
}
