/* SPDX-License-Identifier: MIT */
/*
 * From a range of addresses to blocks: the range is cut at mappings, what cannot go is counted under its reason, what can
 * is armed and goes block by block. Who does which block, and when, is decided in jobs.c.
 */
#include "migrate/migrate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "mem/check.h"
#include "os/map.h"
#include "os/tasks.h"
#include "space/vma.h"

int migrator_init(struct migrator *m, struct space *sp, uint64_t pool_bytes)
{
	const char *debug = secure_getenv("UHMM_DEBUG");

	m->sp = sp;
	m->checks = debug && atoi(debug) >= 2;
	return staging_init(&m->staging, sp, pool_bytes);
}

uint64_t migrator_used_bytes(struct migrator *m)
{
	uint64_t bytes = 0;

	for (unsigned i = 1; i < MAX_DEVICES; i++) {
		struct device *d = migrator_device(m, i);

		bytes += d ? buddy_used_bytes(&d->buddy) : 0;
	}
	return bytes;
}

static struct buddy *allocator(void *ctx, unsigned index)
{
	struct device *d = migrator_device(ctx, index);

	return d ? &d->buddy : NULL;
}

void migrator_check(struct migrator *m)
{
	const char *wrong;
	uint64_t addr;

	if (!m->checks)
		return;
	wrong = mem_check(&m->sp->table, allocator, m, &addr);
	if (wrong)
		log_die("the entry of 0x%llx %s", (unsigned long long)addr, wrong);
}

void migrator_fini(struct migrator *m)
{
	staging_fini(&m->staging);
}

#define SEGS_BYTES    (PAGES_PER_BLOCK * sizeof(struct uhmm_seg))
#define OFFSETS_BYTES (PAGES_PER_BLOCK * sizeof(uint64_t))
#define MOVER_BYTES   (BLOCK_BYTES + SEGS_BYTES + 2 * OFFSETS_BYTES)
#define WORDS_BYTES   (MAX_CONTROL_WORDS * sizeof(uint64_t))
#define BATCH_BYTES   (BATCH_PIECES * OFFSETS_BYTES + WORDS_BYTES)

int mover_init(struct mover *mv, struct migrator *m)
{
	char *mem = map_own(MOVER_BYTES, MAP_OWN_HUGE);

	memset(mv, 0, sizeof(*mv));
	if (!mem)
		return -ENOMEM;
	mv->m = m;
	mv->bounce = mem;
	mv->segs = (struct uhmm_seg *)(mem + BLOCK_BYTES);
	mv->folios.offset = (uint64_t *)(mem + BLOCK_BYTES + SEGS_BYTES);
	mv->onward.offset = mv->folios.offset + PAGES_PER_BLOCK;
	return 0;
}

void mover_fini(struct mover *mv)
{
	map_own_free(mv->bounce, MOVER_BYTES);
	mv->bounce = NULL;
}

int batch_init(struct batch *b)
{
	uint64_t *offsets = map_own(BATCH_BYTES, 0);

	memset(b, 0, sizeof(*b));
	if (!offsets)
		return -ENOMEM;
	for (unsigned i = 0; i < BATCH_PIECES; i++)
		b->piece[i].folios.offset = offsets + i * PAGES_PER_BLOCK;
	b->words.at = offsets + BATCH_PIECES * PAGES_PER_BLOCK;
	return 0;
}

void batch_fini(struct batch *b)
{
	map_own_free(b->piece[0].folios.offset, BATCH_BYTES);
}

void tally_merge(struct tally *into, const struct tally *t)
{
	for (unsigned k = 0; k < NR_ORDERS; k++)
		into->moved_folios[k] += t->moved_folios[k];
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		into->skipped[k] += t->skipped[k];
	into->cleared_pages += t->cleared_pages;
	into->dropped_pages += t->dropped_pages;
	into->returned_pages += t->returned_pages;
	if (!into->error)
		into->error = t->error;
}

/* The blocks of one armed mapping. Return: where it stopped. */
static uint64_t fill_from(struct mover *mv, struct batch *b, uint64_t start, const struct vma_piece *vp, struct device *dev,
			  uint64_t seq, struct tally *t)
{
	bool know_mthp = b->limit; /* then the caller says which orders base pages may have */
	uint32_t mthp = 0;

	while (start < vp->end && b->nr < BATCH_PIECES) {
		uint64_t block = block_down(start), stop = min_u64(block + BLOCK_BYTES, vp->end);
		unsigned first = page_in_block(start), last = first + (unsigned)((stop - start) >> PAGE_SHIFT);
		struct piece *p = &b->piece[b->nr];

		start = stop;
		if (!collect_block(mv, p, block, first, last, dev, seq, &b->words, t))
			continue;
		p->read_only = !vp->movable;
		p->evict = b->evict;
		p->may_return = b->evict && b->nr & 1;
		p->limit = b->limit;
		if (p->kind == PIECE_PAGES && !know_mthp) {
			mthp = vma_mthp_orders(mv->m->sp, vp->start);
			know_mthp = true;
		}
		p->mthp = mthp;
		evict_trim(p, t);
		isolate_pages(mv, p, t);
		if (claim_empty(&p->claim)) {
			release_piece(mv, p);
		} else {
			b->turn[b->nr] = (uint8_t)b->nr;
			b->nr++;
		}
	}
	return start;
}

/* Threads that are born later have not ended when the batch is done, or would have to within the time of a system call. */
int find_control_words(struct space *sp, struct control_words *ret, uint64_t start, uint64_t end)
{
	int nr;

	lock_take(&sp->tasks_lock);
	nr = tasks_control_words(sp->tasks_fd, start, end, ret->at, MAX_CONTROL_WORDS);
	lock_drop(&sp->tasks_lock);
	ret->nr = nr > 0 ? (unsigned)nr : 0;
	if (nr < 0)
		log_once(UHMM_LOG_ERROR, "the threads of this process cannot be listed (%s), so nothing may move: it could be a stack",
			 strerrordesc_np(-nr));
	return nr < 0 ? nr : 0;
}

uint64_t batch_fill(struct mover *mv, struct batch *b, uint64_t start, uint64_t end, struct device *dev, struct tally *t)
{
	struct space *sp = mv->m->sp;
	struct vma_piece vp;
	uint64_t seq;
	int r;

	/* who unmapped memory and mapped it anew goes on when the event has been read: it shall have been applied, too */
	gate_await_events(&sp->gate);
	b->nr = b->taken = b->done = b->arms = 0;
	r = find_control_words(sp, &b->words, start, end);
	while (start < end && b->nr < BATCH_PIECES && !r) {
		r = vma_piece_at(sp, start, end, &vp);
		if (r)
			break;
		if (!vp.movable && !(vp.read_only && b->read_only_too)) {
			tally_skip(t, vp.why_not, (vp.end - vp.start) >> PAGE_SHIFT);
			start = vp.end;
			continue;
		}
		r = vma_arm_begin(sp, vp.start, vp.end, &seq);
		if (r > 0) {
			tally_skip(t, (enum uhmm_skip)(r - 1), (vp.end - vp.start) >> PAGE_SHIFT);
			start = vp.end;
			r = 0;
		} else if (!r) {
			b->arms++;
			start = fill_from(mv, b, start, &vp, dev, seq, t);
		}
	}
	if (r)
		t->error = r;
	return start;
}

void batch_end(struct mover *mv, struct batch *b)
{
	for (; b->arms; b->arms--)
		vma_arm_end(mv->m->sp);
}

struct piece *batch_take(struct batch *b)
{
	unsigned k = b->taken;
	uint8_t turn;

	while (k < b->nr && !atomic_load_explicit(&b->piece[b->turn[k]].claim.wanted, memory_order_relaxed))
		k++;
	if (k == b->nr)
		k = b->taken;
	turn = b->turn[k];
	b->turn[k] = b->turn[b->taken];
	b->turn[b->taken++] = turn;
	return &b->piece[turn];
}

void piece_start(struct mover *mv, struct piece *p, struct tally *t)
{
	evict_return(p, false, t);
	evict_zeros(p, t);
	place_folios(mv, p, t);
	copy_start(mv, p);
}

void piece_finish(struct mover *mv, struct piece *p, struct tally *t)
{
	copy_finish(mv, p, t);
	evict_return(p, true, t);
	install_piece(mv, p, t);
	release_piece(mv, p);
}

/* How many of the pages [first, end) of a block are on a device (on @dev, if given). */
static unsigned count_away(struct space *sp, uint64_t block, unsigned first, unsigned end, const struct device *dev)
{
	unsigned n = 0;

	for (unsigned i = first; i < end; i++) {
		struct entry e = table_peek(&sp->table, block + i * PAGE_BYTES);

		n += entry_state(e) == ENTRY_DEVICE && (!dev || entry_device(e) == dev->index);
	}
	return n;
}

struct going_home {
	struct mover *mv;
	struct device *dev;
	uint64_t start, end;
	struct tally *t;
};

static int visit_home(void *ctx, uint64_t addr, struct entry_slot *b)
{
	struct going_home *g = ctx;
	uint64_t from = max_u64(addr, g->start), to = min_u64(addr + BLOCK_BYTES, g->end);
	unsigned first = page_in_block(from), end = first + (unsigned)((to - from) >> PAGE_SHIFT);
	int r;

	(void)b;
	do {
		r = home_block(g->mv, addr, first, end, g->dev, g->t->moved_folios);
	} while (!r);
	if (r == HOME_NOTHING)
		return 0;
	tally_skip(g->t, r == HOME_NO_MEMORY ? UHMM_SKIP_NO_ROOM : UHMM_SKIP_DEVICE,
		   count_away(g->mv->m->sp, addr, first, end, g->dev));
	if (!g->t->error)
		g->t->error = r == HOME_NO_MEMORY ? -ENOMEM : r;
	return 0; /* one folio that cannot be read says nothing of the others */
}

void migrate_to_system(struct mover *mv, uint64_t start, uint64_t end, struct device *dev, struct tally *t)
{
	struct going_home g = { mv, dev, start, end, t };

	(void)table_walk(&mv->m->sp->table, start, end, visit_home, &g);
}
