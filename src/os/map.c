/* SPDX-License-Identifier: MIT */
#include "os/map.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "base/lock.h"
#include "base/log.h"
#include "base/pages.h"
#include "os/fail.h"
#include "os/uapi.h"

/*
 * Few, large and long-lived: a short array does. Written under a lock; read without one, because those who ask include
 * threads of the program, which must not hold what a fault thread may need. end == 0: a free slot.
 */
#define NR_PIECES 4096

static struct {
	struct lock lock; /* writers; rank LEAF */
	struct { _Atomic uint64_t start, end; } piece[NR_PIECES];
	_Atomic unsigned nr; /* slots from here on have never been used */
} own = { .lock = { PTHREAD_MUTEX_INITIALIZER, LOCK_LEAF } };

int map_own_add(uint64_t start, uint64_t end)
{
	int r = -ENOSPC;

	lock_take(&own.lock);
	for (unsigned i = 0; r && i < NR_PIECES; i++) {
		if (own.piece[i].end)
			continue;
		own.piece[i].start = start;
		if (i >= own.nr)
			own.nr = i + 1;
		own.piece[i].end = end; /* last: it makes the slot count */
		r = 0;
	}
	lock_drop(&own.lock);
	return r;
}

static void forget(uint64_t start)
{
	lock_take(&own.lock);
	for (unsigned i = 0; i < own.nr; i++)
		if (own.piece[i].end && own.piece[i].start == start)
			own.piece[i].end = 0;
	lock_drop(&own.lock);
}

void map_own_forget_all(void)
{
	lock_init(&own.lock, LOCK_LEAF); /* a thread that is not here may have held it */
	for (unsigned i = 0; i < own.nr; i++)
		own.piece[i].end = 0;
}

bool map_is_own(uint64_t start, uint64_t end, uint64_t *ret_start, uint64_t *ret_end)
{
	bool found = false;

	for (unsigned i = 0, nr = own.nr; i < nr; i++) {
		uint64_t e = own.piece[i].end, s = own.piece[i].start;

		if (!e || s >= end || e <= start || (found && s >= *ret_start))
			continue;
		*ret_start = s;
		*ret_end = e;
		found = true;
	}
	return found;
}

/*
 * Where our memory goes: far below the program's mappings, one piece after another. Left to itself, mmap() would put small pieces
 * into holes that the program has just made, where a MAP_FIXED of the program, which knows the hole for its own, replaces
 * them. The region is not reserved, only remembered: whoever else maps something there is gone around.
 */
#define REGION_BYTES (UINT64_C(1) << 40)

static struct {
	_Atomic uint64_t base, cursor; /* base 0: not looked for yet; 1: there is none */
} region;

static void find_region(void)
{
	void *mem = MAP_FAILED;
	uint64_t none = 0;

	if (atomic_load(&region.base))
		return;
	mem = mmap(NULL, REGION_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem != MAP_FAILED)
		munmap(mem, REGION_BYTES);
	(void)atomic_compare_exchange_strong(&region.base, &none, mem == MAP_FAILED ? 1 : (uintptr_t)mem);
}

bool map_may_be_own(uint64_t start, uint64_t end)
{
	uint64_t base = atomic_load(&region.base), used = atomic_load(&region.cursor), own_start = 0, own_end;

	if (used > REGION_BYTES) /* it went round once: pieces may be anywhere in it, as the program's are */
		used = 0;
	return (base > 1 && start < base + used && end > base) || map_is_own(start, end, &own_start, &own_end);
}

static void *map_anywhere(uint64_t bytes)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uint64_t base;

	find_region();
	base = atomic_load(&region.base);
	for (unsigned tries = 0; base > 1 && tries < 1000; tries++) {
		uint64_t at = base + atomic_fetch_add(&region.cursor, bytes) % REGION_BYTES;
		void *mem;

		if (at + bytes > base + REGION_BYTES)
			continue; /* the end: the next one is at the start again */
		mem = mmap((void *)(uintptr_t)at, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE, -1, 0);
		if (mem != MAP_FAILED)
			return mem;
		if (errno != EEXIST)
			return mem;
	}
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
}

void *map_own(uint64_t bytes, unsigned flags)
{
	uint64_t slack = flags & MAP_OWN_HUGE ? BLOCK_BYTES : 0;
	uint64_t got, start;
	void *mem;

	if (os_fail(OS_MMAP))
		return NULL;
	bytes = page_up(bytes);
	mem = map_anywhere(bytes + slack);
	if (mem == MAP_FAILED)
		return NULL;
	got = (uintptr_t)mem;
	start = slack ? block_up(got) : got;
	if (start > got)
		munmap(mem, start - got);
	if (got + slack > start)
		munmap((void *)(start + bytes), got + slack - start);
	mem = (void *)start;

	/* a child must not share these pages: MOVE refuses shared ones */
	if ((!(flags & MAP_OWN_INHERIT) && madvise(mem, bytes, MADV_DONTFORK)) || map_own_add(start, start + bytes)) {
		munmap(mem, bytes);
		return NULL;
	}
	if (flags & MAP_OWN_HUGE)
		(void)madvise(mem, bytes, MADV_HUGEPAGE); /* without THP it is merely slower */
	if (flags & MAP_OWN_SMALL)
		(void)madvise(mem, bytes, MADV_NOHUGEPAGE); /* a kernel without THP refuses, and is right */
	return mem;
}

void map_own_free(void *mem, uint64_t bytes)
{
	if (!mem)
		return;
	forget((uintptr_t)mem);
	munmap(mem, page_up(bytes));
}

static int advise(uint64_t start, uint64_t len, int advice)
{
	int err = os_fail(OS_MADVISE);

	if (!err && madvise((void *)(uintptr_t)start, len, advice))
		err = errno;
	return -err;
}

void *map_shared(uint64_t bytes)
{
	void *mem = os_fail(OS_MMAP) ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

int map_discard(uint64_t start, uint64_t len)
{
	return advise(start, len, MADV_DONTNEED);
}

int map_collapse(uint64_t start, uint64_t len)
{
	return advise(start, len, MADV_COLLAPSE);
}

int map_advise_huge(uint64_t start, uint64_t len)
{
	return advise(start, len, MADV_HUGEPAGE);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int map_populate_write(uint64_t start, uint64_t len)
{
	return advise(start, len, MADV_POPULATE_WRITE);
}

int map_inherit(uint64_t start, uint64_t len, bool inherit)
{
	return advise(start, len, inherit ? MADV_DOFORK : MADV_DONTFORK);
}

bool map_is_locked(uint64_t start, uint64_t len)
{
	return madvise((void *)(uintptr_t)start, len, MADV_COLD) && errno == EINVAL;
}

int map_protect(uint64_t start, uint64_t len, bool writable)
{
	return mprotect((void *)(uintptr_t)start, len, PROT_READ | (writable ? PROT_WRITE : 0)) ? -errno : 0;
}

uint64_t map_program(uint64_t fixed, uint64_t bytes)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	uint64_t got, start;
	void *mem;

	if (os_fail(OS_MMAP))
		return 0;
	if (fixed)
		mem = mmap((void *)(uintptr_t)fixed, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0);
	else
		mem = mmap(NULL, bytes + BLOCK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (mem == MAP_FAILED)
		return 0;
	got = (uintptr_t)mem;
	start = block_up(got);
	if (!fixed) {
		if (start > got)
			munmap(mem, start - got);
		munmap((void *)(start + bytes), got + BLOCK_BYTES - start);
	}
	(void)map_advise_huge(start, bytes);
	return start;
}

void map_program_free(uint64_t start, uint64_t bytes, bool keep)
{
	/* where it fails there is too little memory for a mapping less */
	if (keep)
		(void)mmap((void *)(uintptr_t)start, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	else
		(void)munmap((void *)(uintptr_t)start, bytes);
}
