/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_PACKED_H
#define DRIVERS_PACKED_H

/* Compressed RAM. README.md says which file has what. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "drivers/packed/heap.h"
#include "uhmm/driver.h"

/* A library of compression. It is opened when the first device is. */
struct codec {
	const char *name;
	int level_min, level_max, level_default; /* 0 is none of them */

	/* Return: 0, or -ENODEV with a sentence. */
	int (*load)(char *ret_why, size_t why_bytes);

	/* What one worker needs, in bytes, multiples of 64: pieces have at most PACKED_MAX_PIECE. */
	size_t (*pack_bytes)(int level);
	size_t (*unpack_bytes)(void);

	/* Make the two pieces of memory usable; each gives what pack() and unpack() want, or NULL. */
	void *(*pack_init)(void *mem, size_t bytes);
	void *(*unpack_init)(void *mem, size_t bytes);

	/* Return: how many bytes of @dst it took; 0 when @room is not enough. */
	size_t (*pack)(void *state, int level, const void *src, size_t bytes, void *dst, size_t room);

	/* @dst has room for @bytes, all there are; only the first @want need be right. Return: it could be read. */
	bool (*unpack)(void *state, const void *src, size_t packed_bytes, void *dst, size_t bytes, size_t want);
};

#define PACKED_MAX_PIECE ((size_t)64 << 10)
#define PACKED_WORKERS   32u
#define PACKED_LOCKS     64u

/* What a thread needs for the time of a call; constant after the first use but for what the states hold. */
struct worker {
	struct worker *next;   /* a free one's; guarded by workers_lock */
	void *pack, *unpack;   /* NULL: not used yet */
	char *memory;          /* of both states */
	char *packed, *piece;  /* PACKED_MAX_PIECE each */
};

/* One aligned piece of the device's offsets (units.c). An object's bytes begin with a struct object. */
struct unit {
	_Atomic uint64_t whole; /* an object for all pages at once, of which those in its mask still count; 0: none */
	_Atomic uint64_t pages; /* a table of one object for each page that is not in that mask, 0 for zeros; 0: no table */
};

enum object_kind { OBJECT_PACKED, OBJECT_PLAIN, OBJECT_SAME };

struct object {
	uint32_t bytes; /* of data */
	uint16_t kind;
	uint16_t mask;  /* of a whole unit: the pages that it stands for; guarded by the unit's lock */
	char data[];
};

struct packed {
	/* constant after open; bytes */
	const struct codec *codec;
	uint64_t size, limit, piece;
	char level_text[32];
	int level;
	unsigned pages_per_unit, unit_shift;
	size_t pack_bytes, unpack_bytes, worker_bytes;
	struct unit *units;
	_Atomic uint8_t *units_touched; /* 1 for each page of units */
	char *worker_memory;

	struct heap heap;
	pthread_mutex_t locks[PACKED_LOCKS]; /* a unit's, by its number: its two words, and the masks and tables behind them */

	/* guarded by workers_lock */
	pthread_mutex_t workers_lock;
	pthread_cond_t worker_came;
	struct worker *free_workers;
	struct worker workers[PACKED_WORKERS];

	/* atomic */
	_Atomic uint64_t own_bytes; /* of host memory: units and workers */
	_Atomic uint64_t full_at;   /* what the heap had in use when it had no room; 0: it has */
};

/* packed.c */
int packed_open(const struct codec *codec, const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx,
		char *ret_why, size_t why_bytes);
void packed_close(void *ctx);
struct worker *worker_take(struct packed *p);
void worker_put(struct packed *p, struct worker *w);
uint64_t packed_host_bytes(void *ctx);

/* units.c */

/* A look at one unit: which object each page is in. Valid as long as the caller's pages are its own. */
struct unit_view {
	uint64_t whole;      /* an object, if any of the pages asked for is in it */
	uint16_t in_whole;   /* which */
	uint64_t page[16];   /* the others' objects, 0 for zeros */
};

/* @mask: bit i is the unit's i-th page. All pages named are the caller's: nobody else reads or writes them meanwhile. */
void unit_look(struct packed *p, uint64_t unit, uint16_t mask, struct unit_view *ret);
void unit_drop(struct packed *p, uint64_t unit, uint16_t mask);

/* After a drop of the same pages. The object is the unit's from now on; 0 is zeros. Return: 0 or -ENOSPC (then it is not). */
void unit_put_whole(struct packed *p, uint64_t unit, uint64_t object);
int unit_put_page(struct packed *p, uint64_t unit, unsigned page, uint64_t object);

/* copy.c */
int packed_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int packed_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int packed_clear(void *ctx, uint64_t offset, uint64_t bytes);
int packed_folio_alloc(void *ctx, uint64_t offset, unsigned order);
void packed_folio_free(void *ctx, uint64_t offset, unsigned order);

/* library.c */
struct library_symbol {
	const char *name; /* NULL ends a list */
	void *slot;       /* of a function pointer */
};

/* Opens a shared library for good, and finds what is listed. @package: what Debian calls it. Return: 0, or -ENODEV with a
 * sentence. Context: a thread of the program. */
int library_open(const char *file, const char *package, const struct library_symbol *symbols, char *ret_why, size_t why_bytes);

#endif
