/* SPDX-License-Identifier: MIT */
/*
 * Migration by hand. struct uhmm_migrate is never defined: a handle is the address of a struct manual in memory of ours. What passes
 * between the caller's arrays and ours is copied by the caller's own thread.
 */
#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "base/log.h"
#include "migrate/manual.h"

#define SELECTS (UHMM_SELECT_SYSTEM | UHMM_SELECT_DEVICE | UHMM_SELECT_COMPOUND | UHMM_SELECT_FAULT | UHMM_SELECT_READ_ONLY)

/* ---- setup ---- */

static bool good_select(uint32_t select, bool by_offset)
{
	bool system = select & UHMM_SELECT_SYSTEM, device = select & UHMM_SELECT_DEVICE;

	if ((select & ~SELECTS) || system == device || (by_offset && system))
		return false;
	return system || !(select & (UHMM_SELECT_FAULT | UHMM_SELECT_READ_ONLY));
}

static int check_args(const char *call, struct uhmm_space *space, struct uhmm_migrate_args *args, bool by_offset,
		      struct uhmm_migrate **ret)
{
	int r;

	if (!space || !args || !ret || args->sz < sizeof(*args) || !args->src || !args->dst || args->reserved)
		return bad_argument(call, "space, args, src, dst and the place for the migration must not be NULL, sz is "
					  "sizeof(struct uhmm_migrate_args), and reserved 0");
	if (!good_select(args->select, by_offset))
		return bad_argument(call, "select is made of UHMM_SELECT_*, with exactly one of SYSTEM and DEVICE");
	if (args->len_bytes > UHMM_MIGRATE_BYTES)
		return bad_argument(call, "one call handles at most 64 MiB (UHMM_MIGRATE_BYTES)");
	r = check_process(call, space);
	return r ? r : check_device(call, space, args->dev);
}

static bool keeps_any(const struct manual_wish *w)
{
	for (unsigned k = 0; k < ARRAY_LEN(w->keep); k++)
		if (w->keep[k].start < w->end && w->keep[k].end > w->start)
			return true;
	return false;
}

static void keep(struct uhmm_space *space, struct manual_wish *w, const struct uhmm_migrate_args *args)
{
	uint64_t bytes = args->len_bytes / PAGE_BYTES * sizeof(*args->src);

	w->keep[0].start = (uintptr_t)args->src;
	w->keep[0].end = (uintptr_t)args->src + bytes;
	w->keep[1].start = (uintptr_t)args->dst;
	w->keep[1].end = (uintptr_t)args->dst + bytes;
	stack_around(space, __builtin_frame_address(0), &w->keep[2].start, &w->keep[2].end);
}

/* Return: 0; -EINVAL when a part of it is not mapped; what /proc said. */
static int check_mapped(const char *call, struct uhmm_space *space, uint64_t start, uint64_t end)
{
	struct mapping m;

	while (start < end) {
		int r = procmap_find(&space->sp.procmap, start, &m);

		if (r == -ENOENT || (!r && m.start > start))
			return bad_argument(call, "a part of the range is not mapped");
		if (r)
			return r;
		start = m.end;
	}
	return 0;
}

static void copy_src(struct manual *m)
{
	memcpy(m->user_src, m->src, m->nr_slots * sizeof(*m->src));
}

static int open_manual(struct uhmm_space *space, struct uhmm_migrate_args *args, const struct manual_wish *w, struct manual **ret)
{
	int r = manual_open(&space->manuals, w, ret);

	if (r == -EAGAIN)
		log_say(UHMM_LOG_ERROR, "uhmm_migrate_setup(): %d migrations are open already", MAX_MANUALS);
	if (r)
		return r;
	(*ret)->user_src = args->src;
	(*ret)->user_dst = args->dst;
	copy_src(*ret);
	memset(args->dst, 0, (*ret)->nr_slots * sizeof(*args->dst));
	args->cpages = manual_nr_going(*ret);
	return 0;
}

int uhmm_migrate_setup(struct uhmm_space *space, struct uhmm_migrate_args *args, struct uhmm_migrate **ret)
{
	const char *call = "uhmm_migrate_setup";
	struct manual_wish w = { .dev = NULL };
	struct manual *m;
	int r = check_args(call, space, args, false, ret);

	if (!r)
		r = check_range(call, args->start, args->len_bytes, false, &w.start, &w.end);
	if (r)
		return r;
	w.dev = &args->dev->dev;
	w.select = args->select;
	w.from = args->select & UHMM_SELECT_SYSTEM ? FROM_SYSTEM : FROM_DEVICE;
	keep(space, &w, args);
	if (keeps_any(&w))
		return bad_argument(call, "src, dst or the stack of the calling thread lie in the range");
	r = check_mapped(call, space, w.start, w.end);
	if (!r)
		r = open_manual(space, args, &w, &m);
	if (!r)
		*ret = (struct uhmm_migrate *)m;
	return r;
}

int uhmm_migrate_setup_device(struct uhmm_space *space, struct uhmm_migrate_args *args, struct uhmm_migrate **ret)
{
	const char *call = "uhmm_migrate_setup_device";
	struct manual_wish w = { .from = FROM_OFFSETS };
	struct manual *m;
	int r = check_args(call, space, args, true, ret);

	if (r)
		return r;
	w.dev = &args->dev->dev;
	w.select = args->select;
	w.start = args->offset;
	w.end = args->offset + args->len_bytes;
	if (!page_aligned(w.start) || !args->len_bytes || !page_aligned(w.end) || w.end > w.dev->props.size_bytes || w.start > w.end)
		return bad_argument(call, "offset and len_bytes must be multiples of 4096, not 0 in length, and on the device");
	keep(space, &w, args);
	r = open_manual(space, args, &w, &m);
	if (!r)
		*ret = (struct uhmm_migrate *)m;
	return r;
}

/* ---- what comes after ---- */

/* Looks at the address only. Return: 0; -EPERM or -EINVAL, said. */
static int check_open(const char *call, struct uhmm_migrate *handle, struct manual **ret)
{
	struct uhmm_space *space = space_current();
	int r = check_process(call, space);

	*ret = (struct manual *)handle;
	if (!r && !manual_is_open(&space->manuals, *ret))
		return bad_argument(call, "the migration is none, or has been finalized");
	return r;
}

/* The same, before uhmm_migrate_pages(). */
static int check_undecided(const char *call, struct uhmm_migrate *handle, struct manual **ret)
{
	int r = check_open(call, handle, ret);

	if (!r && (*ret)->decided)
		return bad_argument(call, "uhmm_migrate_pages() has been called already");
	return r;
}

void *uhmm_migrate_host(struct uhmm_migrate *handle, size_t i)
{
	struct manual *m;

	if (check_undecided("uhmm_migrate_host", handle, &m) || i >= m->nr_slots)
		return NULL;
	return (void *)(uintptr_t)manual_host(m, (unsigned)i);
}

enum uhmm_skip uhmm_migrate_why(struct uhmm_migrate *handle, size_t i)
{
	struct manual *m;

	if (check_open("uhmm_migrate_why", handle, &m) || i >= m->nr_slots || m->why[i] == WHY_NONE)
		return UHMM_NR_SKIPS;
	return (enum uhmm_skip)m->why[i];
}

static void read_dst(struct manual *m)
{
	memcpy(m->dst, m->user_dst, m->nr_slots * sizeof(*m->dst));
}

static void write_dst(struct manual *m)
{
	memcpy(m->user_dst, m->dst, m->nr_slots * sizeof(*m->dst));
}

int uhmm_migrate_alloc(struct uhmm_migrate *handle)
{
	struct manual *m;
	int r = check_undecided("uhmm_migrate_alloc", handle, &m);

	if (r)
		return r;
	read_dst(m);
	r = manual_alloc(m);
	write_dst(m);
	return r ? UHMM_E_PARTIAL : 0;
}

int uhmm_migrate_copy(struct uhmm_migrate *handle)
{
	struct manual *m;
	int r = check_undecided("uhmm_migrate_copy", handle, &m);

	if (r)
		return r;
	read_dst(m);
	r = manual_copy(m);
	if (r == -EINVAL)
		return bad_argument("uhmm_migrate_copy", "an entry of dst is not a folio of uhmm_folio_alloc(), or does not fit its src");
	return r;
}

int64_t uhmm_migrate_pages(struct uhmm_migrate *handle)
{
	struct manual *m;
	int r = check_undecided("uhmm_migrate_pages", handle, &m);

	if (r)
		return r;
	read_dst(m);
	manual_decide(m);
	copy_src(m);
	write_dst(m);
	return manual_nr_going(m);
}

int uhmm_migrate_finalize(struct uhmm_migrate *handle, struct uhmm_result *ret)
{
	struct manual *m;
	uint64_t stayed = 0;
	int r;

	if (!handle)
		return 0;
	if (ret && ret->sz < sizeof(size_t))
		return bad_argument("uhmm_migrate_finalize", "the result's sz is not set");
	r = check_open("uhmm_migrate_finalize", handle, &m);
	if (r)
		return r;
	manual_end(m);
	copy_src(m);
	if (m->decided)
		write_dst(m);
	memset(m->tally.skipped, 0, sizeof(m->tally.skipped));
	for (unsigned i = 0; i < m->nr_slots; i++) {
		if (m->why[i] != WHY_NONE)
			m->tally.skipped[m->why[i]]++;
		stayed += m->why[i] != WHY_NONE && m->why[i] != UHMM_SKIP_ABSENT;
	}
	fill_result(&m->tally, ret);
	manual_free(m);
	return stayed ? UHMM_E_PARTIAL : 0;
}

/* ---- folios ---- */

struct folio_call {
	struct loose *loose;
	struct device *dev;
	uint64_t offset;
	unsigned order;
	int r; /* out */
};

static void alloc_step(struct mover *mv, void *arg)
{
	struct folio_call *c = arg;

	(void)mv;
	c->r = loose_alloc(c->loose, c->dev, c->order, &c->offset);
}

static void free_step(struct mover *mv, void *arg)
{
	struct folio_call *c = arg;

	(void)mv;
	c->r = loose_take(c->loose, c->dev, c->offset, c->order) ? 0 : -EINVAL;
	if (!c->r)
		device_free(c->dev, c->offset, c->order);
}

/* The space @dev belongs to. Return: 0; -EINVAL, -EPERM, -ENODEV, said. */
static int check_owner(const char *call, struct uhmm_device *dev, struct uhmm_space **ret)
{
	int r;

	*ret = space_current();
	if (!dev)
		return bad_argument(call, "there is no device");
	r = check_process(call, *ret);
	return r ? r : check_device(call, *ret, dev);
}

int uhmm_folio_alloc(struct uhmm_device *dev, unsigned order, struct uhmm_mpfn *ret)
{
	struct uhmm_space *space;
	struct folio_call c;
	int r;

	if (!ret || order > BLOCK_ORDER)
		return bad_argument("uhmm_folio_alloc", "order is 0 to 9, and there is a place for the entry");
	r = check_owner("uhmm_folio_alloc", dev, &space);
	if (r)
		return r;
	c = (struct folio_call){ .loose = &space->manuals.loose, .dev = &dev->dev, .order = order };
	jobs_call(&space->jobs, alloc_step, &c);
	if (!c.r)
		*ret = mpfn_on_device(c.offset, order);
	return c.r;
}

int uhmm_folio_free(struct uhmm_device *dev, struct uhmm_mpfn folio)
{
	struct uhmm_space *space;
	struct folio_call c;
	int r = check_owner("uhmm_folio_free", dev, &space);

	if (r)
		return r;
	if (!mpfn_has(folio, UHMM_MPFN_DEVICE_PRIVATE))
		return bad_argument("uhmm_folio_free", "the entry is none of a device");
	c = (struct folio_call){ .loose = &space->manuals.loose, .dev = &dev->dev, .offset = uhmm_mpfn_offset(folio),
				 .order = uhmm_mpfn_order(folio) };
	jobs_call(&space->jobs, free_step, &c);
	if (c.r)
		log_say(UHMM_LOG_ERROR, "uhmm_folio_free(): the folio is not the caller's, or not any more");
	return c.r;
}
