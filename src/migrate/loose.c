/* SPDX-License-Identifier: MIT */
#include "migrate/loose.h"

#include <errno.h>

#include "os/map.h"

#define WORDS_BYTES (MAX_LOOSE * sizeof(uint64_t))
#define NONE        MAX_LOOSE

/* Never 0: indices of devices begin with 1. */
static uint64_t word_of(const struct device *d, uint64_t offset, unsigned order)
{
	return offset | (uint64_t)d->index << 52 | order;
}

static unsigned home_of(uint64_t word)
{
	return (unsigned)(word * 0x9e3779b97f4a7c15u >> 48) & (MAX_LOOSE - 1);
}

static unsigned next_of(unsigned i)
{
	return (i + 1) & (MAX_LOOSE - 1);
}

int loose_init(struct loose *l)
{
	lock_init(&l->lock, LOCK_LEAF);
	l->nr = 0;
	l->word = map_own(WORDS_BYTES, 0);
	return l->word ? 0 : -ENOMEM;
}

void loose_fini(struct loose *l)
{
	map_own_free(l->word, WORDS_BYTES);
	l->word = NULL;
	lock_fini(&l->lock);
}

static unsigned find_locked(const struct loose *l, uint64_t word)
{
	unsigned i = home_of(word);

	while (l->word[i] && l->word[i] != word)
		i = next_of(i);
	return l->word[i] ? i : NONE;
}

static bool add_locked(struct loose *l, uint64_t word)
{
	unsigned i = home_of(word);

	if (l->nr >= MAX_LOOSE / 2)
		return false;
	while (l->word[i])
		i = next_of(i);
	l->word[i] = word;
	l->nr++;
	return true;
}

/* Those behind it that were pushed on because of it move up, so that a search may end at the first free word. */
static void del_locked(struct loose *l, unsigned i)
{
	for (unsigned k = next_of(i); l->word[k]; k = next_of(k)) {
		unsigned way = (k - home_of(l->word[k])) & (MAX_LOOSE - 1), gap = (k - i) & (MAX_LOOSE - 1);

		if (way < gap)
			continue;
		l->word[i] = l->word[k];
		i = k;
	}
	l->word[i] = 0;
	l->nr--;
}

int loose_alloc(struct loose *l, struct device *d, unsigned order, uint64_t *ret_offset)
{
	int r = atomic_load(&d->closing) ? -ENOMEM : device_alloc(d, order, ret_offset);
	bool known;

	if (r)
		return r;
	lock_take(&l->lock);
	known = add_locked(l, word_of(d, *ret_offset, order));
	lock_drop(&l->lock);
	if (!known) {
		device_free(d, *ret_offset, order);
		return -ENOMEM;
	}
	atomic_fetch_add(&l->bytes[d->index], order_bytes(order));
	return 0;
}

bool loose_has(struct loose *l, const struct device *d, uint64_t offset, unsigned order)
{
	unsigned i;

	lock_take(&l->lock);
	i = find_locked(l, word_of(d, offset, order));
	lock_drop(&l->lock);
	return i != NONE;
}

bool loose_take(struct loose *l, const struct device *d, uint64_t offset, unsigned order)
{
	unsigned i;

	lock_take(&l->lock);
	i = find_locked(l, word_of(d, offset, order));
	if (i != NONE)
		del_locked(l, i);
	lock_drop(&l->lock);
	if (i != NONE)
		atomic_fetch_sub(&l->bytes[d->index], order_bytes(order));
	return i != NONE;
}
