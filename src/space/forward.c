/* SPDX-License-Identifier: MIT */
#include "space/forward.h"

#include <string.h>

#include "base/err.h"

void forward_init(struct forwards *f)
{
	memset(f->record, 0, sizeof(f->record));
	lock_init(&f->lock, LOCK_LEAF);
}

void forward_fini(struct forwards *f)
{
	lock_fini(&f->lock);
}

unsigned forward_take(struct forwards *f, uint64_t from, uint64_t to)
{
	unsigned i = 1;

	lock_take(&f->lock);
	while (i < NR_FORWARDS && f->record[i].count)
		i++;
	uhmm_assert(i < NR_FORWARDS);
	f->record[i] = (struct forward){ from, to, 1 };
	lock_drop(&f->lock);
	return i;
}

void forward_hold(struct forwards *f, unsigned i)
{
	lock_take(&f->lock);
	f->record[i].count++;
	lock_drop(&f->lock);
}

void forward_drop(struct forwards *f, unsigned i)
{
	lock_take(&f->lock);
	uhmm_assert(f->record[i].count > 0);
	f->record[i].count--;
	lock_drop(&f->lock);
}

/* Without the lock: the caller holds a word that names the record, so it does not change. */
uint64_t forward_address(const struct forwards *f, unsigned i, uint64_t addr)
{
	return addr - f->record[i].from + f->record[i].to;
}
