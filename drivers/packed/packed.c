/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing, and the workers: what a thread needs to pack or unpack, of which there are more than threads that
 * call. All of it is host memory that was set aside at open and costs nothing until it is used; the worker that was given
 * back last is taken first, so few are ever used, and those are warm.
 *
 *   size=SIZE    the device's address space: how much of the program fits, whatever it shrinks to. Default: twice the machine's
 *                memory
 *   limit=SIZE   of host memory for what is packed. Default: none
 *   level=N      of the codec
 *   piece=SIZE   what is packed at once, 4K to 64K, a power of two. Default 4K: docs/packed.md has the figures
 */
#include "drivers/packed/packed.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/pages.h"
#include "base/spec.h"

static const struct spec_key keys[] = {
	{ "size", SPEC_SIZE, offsetof(struct packed, size) },
	{ "limit", SPEC_SIZE, offsetof(struct packed, limit) },
	{ "level", SPEC_WORD, offsetof(struct packed, level_text) },
	{ "piece", SPEC_SIZE, offsetof(struct packed, piece) },
	{ NULL, 0, 0 },
};

/* ---- workers ---- */

static bool worker_ready(struct packed *p, struct worker *w)
{
	if (w->unpack)
		return true;
	w->pack = p->codec->pack_init(w->memory, p->pack_bytes);
	w->unpack = w->pack ? p->codec->unpack_init(w->memory + p->pack_bytes, p->unpack_bytes) : NULL;
	atomic_fetch_add_explicit(&p->own_bytes, min_u64(p->worker_bytes, 4 << 20), memory_order_relaxed);
	return w->unpack;
}

/* Return: NULL only if the library does not like its memory, which packed_open() has tried. */
struct worker *worker_take(struct packed *p)
{
	struct worker *w;

	pthread_mutex_lock(&p->workers_lock);
	while (!p->free_workers)
		pthread_cond_wait(&p->worker_came, &p->workers_lock);
	w = p->free_workers;
	p->free_workers = w->next;
	pthread_mutex_unlock(&p->workers_lock);
	if (worker_ready(p, w))
		return w;
	worker_put(p, w);
	return NULL;
}

void worker_put(struct packed *p, struct worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&p->workers_lock);
	w->next = p->free_workers;
	p->free_workers = w;
	pthread_cond_signal(&p->worker_came);
	pthread_mutex_unlock(&p->workers_lock);
}

static uint64_t workers_bytes(const struct packed *p) { return block_up(PACKED_WORKERS * p->worker_bytes); }

static int workers_init(struct packed *p)
{
	p->pack_bytes = p->codec->pack_bytes(p->level);
	p->unpack_bytes = p->codec->unpack_bytes();
	p->worker_bytes = (p->pack_bytes + p->unpack_bytes + 2 * PACKED_MAX_PIECE + 65535) & ~(size_t)65535;
	p->worker_memory = uhmm_host_alloc(workers_bytes(p));
	if (!p->worker_memory)
		return -ENOMEM;
	pthread_mutex_init(&p->workers_lock, NULL);
	pthread_cond_init(&p->worker_came, NULL);
	for (unsigned i = PACKED_WORKERS; i-- > 0;) {
		struct worker *w = &p->workers[i];

		w->memory = p->worker_memory + i * p->worker_bytes;
		w->packed = w->memory + p->pack_bytes + p->unpack_bytes;
		w->piece = w->packed + PACKED_MAX_PIECE;
		worker_put(p, w);
	}
	return 0;
}

/* ---- options ---- */

static uint64_t twice_the_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);

	return block_up(pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) * 2 : UINT64_C(1) << 30);
}

static int parse_level(struct packed *p, char *why, size_t why_bytes)
{
	const struct codec *c = p->codec;
	char *end;
	long level;

	p->level = c->level_default;
	if (!p->level_text[0])
		return 0;
	level = strtol(p->level_text, &end, 10);
	if (*end || !level || level < c->level_min || level > c->level_max)
		return err_why(why, why_bytes, -EINVAL, "level=%s is not a whole number from %d to %d, without 0", p->level_text,
			       c->level_min, c->level_max);
	p->level = (int)level;
	return 0;
}

static int parse(struct packed *p, const char *options, char *why, size_t why_bytes)
{
	int r;

	p->size = twice_the_memory();
	p->piece = PAGE_BYTES;
	r = spec_parse(options, keys, p, why, why_bytes);
	if (r)
		return r;
	if (!p->size || !block_aligned(p->size) || p->size > UINT64_C(1) << 46)
		return err_why(why, why_bytes, -EINVAL, "size must be a multiple of 2M, from 2M to 64T");
	if (p->limit && p->limit < 2 * BLOCK_BYTES)
		return err_why(why, why_bytes, -EINVAL, "limit must be at least 4M");
	if (p->piece < PAGE_BYTES || p->piece > PACKED_MAX_PIECE || p->piece & (p->piece - 1))
		return err_why(why, why_bytes, -EINVAL, "piece must be 4K, 8K, 16K, 32K or 64K");
	p->pages_per_unit = (unsigned)(p->piece >> PAGE_SHIFT);
	p->unit_shift = (unsigned)__builtin_ctzll(p->piece);
	return parse_level(p, why, why_bytes);
}

/* ---- the callbacks ---- */

static uint64_t units_bytes(const struct packed *p) { return block_up((p->size >> p->unit_shift) * sizeof(struct unit)); }
static uint64_t touched_bytes(const struct packed *p) { return block_up(units_bytes(p) >> PAGE_SHIFT); }

/* Without a limit there is room for the worst: nothing shrinks, pages come alone, and holes are left between them. */
static uint64_t arena_bytes(const struct packed *p)
{
	return p->limit ? block_down(p->limit) : block_up(p->size + p->size / 4) + (UINT64_C(16) << 20);
}

static int memory_init(struct packed *p)
{
	int r = heap_init(&p->heap, arena_bytes(p));

	p->units = uhmm_host_reserve(units_bytes(p));
	p->units_touched = uhmm_host_reserve(touched_bytes(p));
	if (r || !p->units || !p->units_touched)
		return -ENOMEM;
	for (unsigned i = 0; i < PACKED_LOCKS; i++)
		pthread_mutex_init(&p->locks[i], NULL);
	return workers_init(p);
}

int packed_open(const struct codec *codec, const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx,
		char *ret_why, size_t why_bytes)
{
	struct packed *p = uhmm_host_reserve(block_up(sizeof(*p))); /* the program's heap may be what is away */
	struct worker *w;
	int r;

	if (!p)
		return -ENOMEM;
	p->codec = codec;
	r = parse(p, options, ret_why, why_bytes);
	if (!r)
		r = codec->load(ret_why, why_bytes);
	if (!r && memory_init(p))
		r = err_why(ret_why, why_bytes, -ENOMEM, "there is no address space for a device of %llu bytes",
			    (unsigned long long)p->size);
	if (!r) {
		w = worker_take(p);
		worker_put(p, w);
		if (!w)
			r = err_why(ret_why, why_bytes, -ENODEV, "the library refuses the memory that it asked for");
	}
	if (r) {
		packed_close(p);
		return r;
	}
	ret_props->size_bytes = p->size;
	ret_props->orders = 0;
	ret_props->caps = 0;
	*ret_ctx = p;
	return 0;
}

/* Also of one that is half open. */
void packed_close(void *ctx)
{
	struct packed *p = ctx;

	if (!p)
		return;
	uhmm_host_free(p->worker_memory, workers_bytes(p));
	uhmm_host_free(p->units_touched, touched_bytes(p));
	uhmm_host_free(p->units, units_bytes(p));
	heap_fini(&p->heap);
	uhmm_host_free(p, block_up(sizeof(*p)));
}

uint64_t packed_host_bytes(void *ctx)
{
	struct packed *p = ctx;

	return atomic_load_explicit(&p->heap.touched_bytes, memory_order_relaxed) +
	       atomic_load_explicit(&p->own_bytes, memory_order_relaxed);
}
