/* SPDX-License-Identifier: MIT */
/*
 * Arming late: a piece of a mapping is registered with the userfaultfd when something in it is about to leave, and
 * unregistered when all of it is home again. Registering what is registered is cheap and harmless, so no list of armed
 * ranges is kept: the kernel's is the truth, and an event may have changed it since we looked (event_seq).
 */
#include "space/vma.h"

#include <errno.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "os/map.h"
#include "os/pagemap.h"
#include "os/sysinfo.h"

static enum uhmm_skip unfit(const struct mapping *m, bool *ret_movable)
{
	uint32_t rwx = m->flags & (MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC);

	*ret_movable = false;
	if (m->flags & MAPPING_SHARED)
		return UHMM_SKIP_SHARED;
	if (m->flags & MAPPING_FILE)
		return UHMM_SKIP_FILE;
	if (rwx != (MAPPING_READ | MAPPING_WRITE))
		return UHMM_SKIP_PROT;
	*ret_movable = true;
	return 0;
}

int vma_piece_at(struct space *sp, uint64_t addr, uint64_t end, struct vma_piece *ret)
{
	uint64_t own_start, own_end;
	struct mapping m;
	int r = procmap_find(&sp->procmap, addr, &m);

	if (r && r != -ENOENT)
		return r;
	if (r || m.start > addr) {
		*ret = (struct vma_piece){ .start = addr, .end = r ? end : min_u64(m.start, end), .why_not = UHMM_SKIP_UNMAPPED };
		return 0;
	}
	*ret = (struct vma_piece){ .start = addr, .end = min_u64(m.end, end) };
	ret->why_not = unfit(&m, &ret->movable);
	ret->read_only = ret->why_not == UHMM_SKIP_PROT && !ret->movable &&
			 (m.flags & (MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC)) == MAPPING_READ;

	/* our own memory may share a mapping with the program's: the kernel joins neighbours that look alike */
	if (map_is_own(addr, ret->end, &own_start, &own_end)) {
		if (own_start > addr) {
			ret->end = own_start;
		} else {
			ret->end = min_u64(ret->end, own_end);
			ret->movable = ret->read_only = false;
			ret->why_not = UHMM_SKIP_OWN;
		}
	}
	return 0;
}

int vma_arm_again(struct space *sp, uint64_t start, uint64_t end, uint64_t *ret_seq)
{
	/* read first: an event that comes while we register makes the value old */
	uint64_t seq = atomic_load(&sp->event_seq), own_start, own_end;
	struct mapping m;
	int r = procmap_find(&sp->procmap, start, &m);

	if (r && r != -ENOENT)
		return r;
	if (r || m.start > start || m.end < end)
		return UHMM_SKIP_RACED + 1;
	if (!map_is_own(m.start, m.end, &own_start, &own_end)) {
		start = m.start;
		end = m.end;
	}
	r = uffd_register(&sp->uffd, start, end);
	switch (r) {
	case 0:
		*ret_seq = seq;
		return 0;
	case UFFD_E_REFUSED:
		return UHMM_SKIP_REFUSED + 1;
	case UFFD_E_MISSING:
		return UHMM_SKIP_RACED + 1;
	case UFFD_E_NO_MEMORY:
		log_once(UHMM_LOG_WARN, "the kernel has no memory to watch a range, or the process has too many mappings "
					"(vm.max_map_count); the range stays where it is");
		return UHMM_SKIP_NO_ROOM + 1;
	default:
		return r;
	}
}

/*
 * What this thread has found out of one mapping since it armed it. Each look into smaps costs more than clearing a block, so a
 * range of holes would be cleared in half the time if nobody asked. The program may change the advice meanwhile, as it may
 * between the question and the answer: it is a wish, nothing is wrong if it is followed a moment late.
 */
static _Thread_local struct {
	uint64_t start, end;
	bool huge;
} advice;

void vma_arm_hold(struct space *sp)
{
	lock_take(&sp->arm_lock);
	atomic_fetch_add(&sp->nr_arming, 1);
	lock_drop(&sp->arm_lock);
}

int vma_arm_begin(struct space *sp, uint64_t start, uint64_t end, uint64_t *ret_seq)
{
	int r;

	advice.start = advice.end = 0;
	vma_arm_hold(sp);
	r = vma_arm_again(sp, start, end, ret_seq);
	if (r)
		vma_arm_end(sp);
	return r;
}

void vma_arm_end(struct space *sp)
{
	advice.start = advice.end = 0;
	atomic_fetch_sub(&sp->nr_arming, 1);
}

/* Everything of the block in Linux's hands, and no discard under way. */
static int visit_home(void *ctx, uint64_t addr, struct entry_slot *b)
{
	(void)ctx;
	(void)addr;
	block_lock(b);
	int away = (entry_get(b).bits & ~(ENTRY_LOCK | ENTRY_HUGE)) != ENTRY_SYSTEM;
	block_unlock(b);
	return away;
}

void vma_disarm(struct space *sp, uint64_t start, uint64_t end, bool (*away)(void *ctx), void *ctx)
{
	struct mapping m;
	bool ours;

	lock_take(&sp->arm_lock);
	if (atomic_load(&sp->nr_arming) || away(ctx))
		end = start;
	while (start < end && !procmap_find(&sp->procmap, start, &m) && m.start < end) {
		uint64_t own_start, own_end;

		(void)unfit(&m, &ours);
		if (map_is_own(m.start, m.end, &own_start, &own_end)) {
			/* armed for ranges alone, and so disarmed */
			m.start = max_u64(m.start, start);
			m.end = min_u64(m.end, end);
		}
		if (ours && !map_is_own(m.start, m.end, &own_start, &own_end) && !table_walk(&sp->table, m.start, m.end, visit_home, NULL))
			(void)uffd_unregister(&sp->uffd, m.start, m.end);
		start = m.end;
	}
	lock_drop(&sp->arm_lock);
}

/* Closing the userfaultfd would not do: a child of fork has a copy of it, and as long as that lives so does the watch. */
void vma_disarm_all(struct space *sp)
{
	struct mapping m = { .end = 0 };

	while (!procmap_find(&sp->procmap, m.end, &m)) {
		/* what has become unfit since, by mprotect, may be watched all the same */
		if (!(m.flags & (MAPPING_SHARED | MAPPING_FILE)))
			(void)uffd_release(&sp->uffd, m.start, m.end);
	}
}

static bool is_advised_huge(struct space *sp, uint64_t addr)
{
	struct mapping m;

	if (addr >= advice.start && addr < advice.end)
		return advice.huge;
	advice.huge = sysinfo_advised_huge(addr);
	advice.start = advice.end = 0;
	if (!procmap_find(&sp->procmap, addr, &m) && m.start <= addr) {
		advice.start = m.start;
		advice.end = m.end;
	}
	return advice.huge;
}

bool vma_wants_huge(struct space *sp, uint64_t addr)
{
	switch (sysinfo_thp()) {
	case THP_ALWAYS:  return true;
	case THP_MADVISE: return is_advised_huge(sp, addr);
	case THP_NEVER:   break;
	}
	return false;
}

/* Two threads may read the settings at the same time; both find the same. */
static struct sysinfo_mthp mthp_settings(struct space *sp)
{
	uint64_t now = clock_ns(), read = atomic_load_explicit(&sp->mthp_read_ns, memory_order_acquire);
	struct sysinfo_mthp m;

	if (read && now - read < 1000000000) {
		uint32_t both = atomic_load_explicit(&sp->mthp, memory_order_relaxed);

		return (struct sysinfo_mthp){ both & 0xffff, both >> 16 };
	}
	m = sysinfo_mthp();
	atomic_store_explicit(&sp->mthp, m.always | m.advised << 16, memory_order_relaxed);
	atomic_store_explicit(&sp->mthp_read_ns, now, memory_order_release);
	return m;
}

uint32_t vma_mthp_orders(struct space *sp, uint64_t addr)
{
	struct sysinfo_mthp m = mthp_settings(sp);

	if (!(m.always | m.advised))
		return 0;
	switch (sysinfo_advice(addr)) {
	case ADVICE_HUGE:    return m.always | m.advised;
	case ADVICE_NO_HUGE: return 0;
	case ADVICE_NONE:    break;
	}
	return m.always;
}

/* Pages [at, end), which are there, at most a block of them. Return: bytes that are the process's own now. */
static uint64_t take_back_some(struct space *sp, uint64_t at, uint64_t end, bool copy)
{
	unsigned nr = (unsigned)((end - at) >> PAGE_SHIFT), first, i = 0;
	bool own[PAGES_PER_BLOCK];
	uint64_t bytes = 0;

	if (!copy && pagemap_exclusives(sp->pagemap_fd, at, nr, own))
		return 0;
	while (i < nr) {
		for (first = i; i < nr && (copy || own[i]); i++)
			;
		if (i > first && !map_populate_write(at + first * PAGE_BYTES, (i - first) * PAGE_BYTES))
			bytes += (i - first) * PAGE_BYTES;
		for (; i < nr && !copy && !own[i]; i++)
			;
	}
	return bytes;
}

uint64_t vma_take_back(struct space *sp, uint64_t start, uint64_t end, bool copy)
{
	struct pm_run runs[64];
	uint64_t at = start, bytes = 0;
	unsigned nr;

	while (at < end && !pagemap_scan(sp->pagemap_fd, at, end, runs, ARRAY_LEN(runs), &nr, &at))
		for (unsigned k = 0; k < nr; k++)
			if (runs[k].bits & PM_PRESENT && !(runs[k].bits & (PM_ZERO | PM_FILE)))
				for (uint64_t from = runs[k].start; from < runs[k].end; from += BLOCK_BYTES)
					bytes += take_back_some(sp, from, min_u64(from + BLOCK_BYTES, runs[k].end), copy);
	return bytes;
}
