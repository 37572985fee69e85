/* SPDX-License-Identifier: MIT */
#ifndef MIGRATE_LOOSE_H
#define MIGRATE_LOOSE_H

/*
 * Folios that the program has allocated by hand and that nothing has been put in: what it may name as a destination, each once.
 * Whoever names anything else could have the bytes of another page overwritten.
 *
 * A hash table in memory of ours, changed by workers alone, under a lock that fault threads never take.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "migrate/migrate.h"

#define MAX_LOOSE 65536 /* a power of two; half of them are used at most */

struct loose {
	/* constant after loose_init(); words: 0 for free, else device, offset and order */
	uint64_t *word;

	/* guarded by lock (rank LEAF) */
	struct lock lock;
	unsigned nr;

	/* atomic: by device */
	_Atomic uint64_t bytes[MAX_DEVICES];
};

/* Return: 0 or -ENOMEM. */
int loose_init(struct loose *l);
void loose_fini(struct loose *l);

/* Allocates one. Return: 0; -ENOMEM; what the driver said. Context: a worker. */
int loose_alloc(struct loose *l, struct device *d, unsigned order, uint64_t *ret_offset);

/* Is it one of that order? And the same, and it is one no more: the taker's. */
bool loose_has(struct loose *l, const struct device *d, uint64_t offset, unsigned order);
bool loose_take(struct loose *l, const struct device *d, uint64_t offset, unsigned order);

#endif
