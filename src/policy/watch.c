/* SPDX-License-Identifier: MIT */
/*
 * Which memory is looked after: private anonymous mappings of a block and more that can be read and written. Not our own, not
 * the data of libraries, not the main stack nor the stacks of threads: there is little to win, a signal frame is the kernel's touch,
 * and the threads that bring pages home must not need one.
 *
 * The zeroed data of a library is anonymous memory that lies at the beginning of its mapping; the kernel may have joined what the
 * program mapped behind it.
 *
 * A thread's stack looks like any mapping. What tells it is that its control block lies in it (os/tasks.h), above an inaccessible
 * page that guards its end. Everything from the guard to the control block is the stack.
 */
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/err.h"
#include "os/map.h"
#include "os/tasks.h"
#include "policy/policy.h"
#include "space/vma.h"

#define MAX_STACK_BYTES (UINT64_C(64) << 20)

/* What emu devices have of this machine's memory. */
static uint64_t apart_bytes(struct policy *p)
{
	uint64_t bytes = 0;

	if (!(p->flags & UHMM_POLICY_EMU_APART))
		return 0;
	for (unsigned i = 0; i < p->nr_devices; i++)
		if (strstr(p->device[i]->spec, "emu:"))
			bytes += device_host_bytes(p->device[i]);
	return bytes;
}

int watch_resident(struct policy *p, uint64_t *ret_bytes, uint64_t *ret_mapped)
{
	struct rss rss;
	uint64_t apart;
	int r = rss_read(p->rss_fd, &rss);

	if (r)
		return r;
	apart = apart_bytes(p);
	*ret_bytes = rss.anon_bytes > apart ? rss.anon_bytes - apart : 0;
	*ret_mapped = rss.mapped_bytes;
	return 0;
}

void watch_threads(int tasks_fd, struct thread_words *ret)
{
	int nr = tasks_control_words(tasks_fd, 0, UINT64_C(1) << TABLE_ADDRESS_BITS, ret->at, MAX_WORDS);

	ret->nr = nr > 0 ? (unsigned)nr : 0; /* of too many threads none is known: their pages are spared one by one later */
}

/* Is @addr an inaccessible mapping's? */
static bool is_guard(struct policy *p, uint64_t addr)
{
	struct mapping m;

	return !procmap_find(&p->sp->procmap, addr, &m) && m.start <= addr &&
	       !(m.flags & (MAPPING_READ | MAPPING_WRITE | MAPPING_FILE | MAPPING_SHARED));
}

void watch_libraries(struct policy *p)
{
	uint64_t start, end;

	p->nr_libs = libs_data(p->lib, MAX_LIBS);
	if (p->nr_libs > MAX_LIBS)
		p->nr_libs = MAX_LIBS;
	for (unsigned i = 0; i < p->nr_libs; i++)
		if (p->lib[i].own && !map_is_own(p->lib[i].start, p->lib[i].end, &start, &end))
			(void)map_own_add(p->lib[i].start, p->lib[i].end);
}

/* Where the library's data ends that @m begins with, if it does; else m->start. */
static uint64_t lib_end(struct policy *p, const struct mapping *m)
{
	uint64_t end = m->start;

	for (unsigned i = 0; i < p->nr_libs; i++)
		if (p->lib[i].start < m->end && p->lib[i].end > m->start)
			end = max_u64(end, min_u64(block_up(p->lib[i].end), m->end));
	return end;
}

/* Where the stack ends that @m begins with, if it does; else m->start. */
static uint64_t stack_end(struct policy *p, const struct thread_words *words, const struct mapping *m)
{
	uint64_t end = m->start;

	for (unsigned i = 0; i < words->nr; i++)
		if (words->at[i] >= m->start && words->at[i] < min_u64(m->end, m->start + MAX_STACK_BYTES))
			end = max_u64(end, min_u64(block_up(words->at[i] + 1), m->end));
	return end > m->start && is_guard(p, m->start - 1) ? end : m->start;
}

static bool is_looked_after(struct policy *p, const struct mapping *m)
{
	return m->end - m->start >= BLOCK_BYTES && !(p->main_stack >= m->start && p->main_stack < m->end) &&
	       !map_may_be_own(m->start, m->end) &&
	       (m->flags & (MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC | MAPPING_SHARED | MAPPING_FILE)) ==
		       (MAPPING_READ | MAPPING_WRITE);
}

/* The first mapping that ends after @from and is looked after. */
static bool next_mapping(struct policy *p, uint64_t from, struct mapping *ret)
{
	while (!procmap_find(&p->sp->procmap, from, ret)) {
		if (is_looked_after(p, ret))
			return true;
		from = ret->end;
	}
	return false;
}

bool watch_next(struct policy *p, const struct thread_words *words, uint64_t from, struct range *ret)
{
	struct vma_piece vp;
	struct mapping m;

	while (next_mapping(p, from, &m)) {
		from = max_u64(from, max_u64(lib_end(p, &m), stack_end(p, words, &m)));
		while (from < m.end && !vma_piece_at(p->sp, from, m.end, &vp)) {
			if (vp.movable && vp.end > vp.start) {
				*ret = (struct range){ vp.start, vp.end };
				return true;
			}
			from = vp.end;
		}
		from = m.end;
	}
	return false;
}

static bool was_advised(struct policy *p, const struct mapping *m)
{
	for (unsigned i = 0; i < MAX_ADVISED; i++)
		if (p->advised[i].start <= m->start && p->advised[i].end >= m->end)
			return true;
	return false;
}

/* Once for each stretch of addresses: what the program itself says afterwards holds. */
static void advise(struct policy *p, const struct mapping *m)
{
	uint64_t own_start, own_end;

	if (!(p->flags & UHMM_POLICY_HUGE) || was_advised(p, m) || map_is_own(m->start, m->end, &own_start, &own_end))
		return;
	(void)map_advise_huge(m->start, m->end - m->start);
	p->advised[p->next_advised++ % MAX_ADVISED] = (struct range){ m->start, m->end };
}

void watch_mappings(struct policy *p, bool arm)
{
	struct mapping m = { .end = 0 };
	struct vma_piece vp;
	uint64_t seq;

	watch_threads(p->tasks_fd[0], &p->watcher_words);
	while (next_mapping(p, m.end, &m)) {
		if (stack_end(p, &p->watcher_words, &m) > m.start || lib_end(p, &m) > m.start)
			continue;
		advise(p, &m);
		/* what cannot be armed is none of ours; a mapping of ours and the program's together is armed as parts of it leave */
		if (!arm || vma_piece_at(p->sp, m.start, m.end, &vp) || !vp.movable || vp.end != m.end)
			continue;
		if (!vma_arm_begin(p->sp, vp.start, vp.end, &seq))
			vma_arm_end(p->sp);
	}
}

bool watch_wants_huge(void *ctx, uint64_t block)
{
	struct policy *p = ctx;
	struct mapping m;

	return p->flags & UHMM_POLICY_HUGE && !procmap_find(&p->sp->procmap, block, &m) && m.start <= block &&
	       m.end >= block + BLOCK_BYTES && is_looked_after(p, &m);
}
