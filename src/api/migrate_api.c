/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "base/log.h"
#include "os/map.h"
#include "space/vma.h"

int check_range(const char *call, const void *start, size_t len_bytes, bool round_len, uint64_t *ret_start,
		uint64_t *ret_end)
{
	uint64_t s = (uintptr_t)start, len = round_len ? page_up(len_bytes) : len_bytes;
	const char *wrong = NULL;

	if (!len_bytes)
		wrong = "is empty";
	else if (!page_aligned(s))
		wrong = "does not start at a multiple of 4096; round the address down";
	else if (!page_aligned(len))
		wrong = "is not a multiple of 4096 bytes long";
	else if (len < len_bytes || s + len < s || s + len > UINT64_C(1) << TABLE_ADDRESS_BITS)
		wrong = "goes beyond the end of the address space";
	if (wrong) {
		log_say(UHMM_LOG_ERROR, "%s(): the range at 0x%llx of %zu bytes %s", call, (unsigned long long)s, len_bytes,
			wrong);
		return -EINVAL;
	}
	*ret_start = s;
	*ret_end = s + len;
	return 0;
}

static uint64_t moved_bytes(const struct tally *t)
{
	uint64_t bytes = 0;

	for (unsigned k = 0; k < NR_ORDERS; k++)
		bytes += t->moved_folios[k] * order_bytes(k);
	return bytes;
}

void fill_result(const struct tally *t, struct uhmm_result *ret)
{
	struct uhmm_result full;
	size_t sz;

	if (!ret)
		return;
	memset(&full, 0, sizeof(full));
	sz = full.sz = ret->sz;
	full.moved_bytes = moved_bytes(t);
	memcpy(full.moved_folios, t->moved_folios, sizeof(full.moved_folios));
	full.cleared_pages = t->cleared_pages;
	memcpy(full.skipped_pages, t->skipped, sizeof(full.skipped_pages));
	memcpy(ret, &full, sz < sizeof(full) ? sz : sizeof(full));
}

/* What UHMM_MOVE_ORDER says: the largest order + 1, 0 for nothing. */
#define MOVE_ORDER_BITS UINT32_C(0xf00)

static unsigned limit_of(uint32_t flags) { return (flags & MOVE_ORDER_BITS) >> 8; }

static int check_call(const char *call, struct uhmm_space *space, const struct uhmm_result *ret, uint32_t flags,
		      uint32_t known)
{
	if (!space || (ret && ret->sz < sizeof(size_t))) {
		log_say(UHMM_LOG_ERROR, "%s(): %s", call, space ? "the result's sz is not set" : "there is no space");
		return -EINVAL;
	}
	if (flags & ~known || limit_of(flags) > NR_ORDERS) {
		log_say(UHMM_LOG_ERROR, "%s(): flags is 0x%x; %s", call, flags,
			known ? "there are UHMM_MOVE_READ_ONLY (0x1) and UHMM_MOVE_ORDER(0) to (9), 0x100 to 0xa00" :
				"no flags are defined");
		return -EINVAL;
	}
	return check_process(call, space);
}

/* Nothing but gaps? @t has counted every page of the range as something. */
static bool all_unmapped(const struct tally *t, uint64_t start, uint64_t end)
{
	return t->skipped[UHMM_SKIP_UNMAPPED] == (end - start) >> PAGE_SHIFT;
}

int uhmm_to_device(struct uhmm_space *space, void *start, size_t len_bytes, struct uhmm_device *dev, uint32_t flags,
		   struct uhmm_result *ret)
{
	uint64_t s, e, stayed = 0;
	struct tally t;
	int r;

	r = check_call("uhmm_to_device", space, ret, flags, UHMM_MOVE_READ_ONLY | MOVE_ORDER_BITS);
	if (!r)
		r = check_device("uhmm_to_device", space, dev);
	if (!r)
		r = check_range("uhmm_to_device", start, len_bytes, true, &s, &e);
	if (r)
		return r;
	jobs_run_limited(&space->jobs, flags & UHMM_MOVE_READ_ONLY ? JOB_TO_DEVICE_READ_ONLY : JOB_TO_DEVICE, s, e, &dev->dev,
			 limit_of(flags), &t);
	fill_result(&t, ret);
	if (t.error)
		return t.error;
	if (all_unmapped(&t, s, e)) {
		log_say(UHMM_LOG_ERROR, "uhmm_to_device(): nothing is mapped at 0x%llx", (unsigned long long)s);
		return -EFAULT;
	}
	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		stayed += k == UHMM_SKIP_ABSENT ? 0 : t.skipped[k];
	return stayed ? UHMM_E_PARTIAL : 0;
}

/* Pages that were not away; and whether anything is mapped at all. */
static int look_around(struct uhmm_space *space, uint64_t s, uint64_t e, struct tally *t)
{
	uint64_t accounted = moved_bytes(t) >> PAGE_SHIFT, total = (e - s) >> PAGE_SHIFT;
	struct vma_piece vp;

	for (unsigned k = 0; k < UHMM_NR_SKIPS; k++)
		accounted += t->skipped[k];
	if (accounted < total)
		t->skipped[UHMM_SKIP_ABSENT] += total - accounted;
	if (moved_bytes(t) || vma_piece_at(&space->sp, s, e, &vp) || vp.movable || vp.why_not != UHMM_SKIP_UNMAPPED ||
	    vp.end < e)
		return 0;
	log_say(UHMM_LOG_ERROR, "uhmm_to_system(): nothing is mapped at 0x%llx", (unsigned long long)s);
	return -EFAULT;
}

int uhmm_to_system(struct uhmm_space *space, void *start, size_t len_bytes, uint32_t flags, struct uhmm_result *ret)
{
	uint64_t s, e;
	struct tally t;
	int r;

	r = check_call("uhmm_to_system", space, ret, flags, 0);
	if (!r)
		r = check_range("uhmm_to_system", start, len_bytes, true, &s, &e);
	if (r)
		return r;
	jobs_run(&space->jobs, JOB_TO_SYSTEM, s, e, NULL, false, &t);
	r = look_around(space, s, e, &t);
	fill_result(&t, ret);
	if (t.error || r)
		return t.error ? t.error : r;
	jobs_run(&space->jobs, JOB_DISARM, s, e, NULL, false, &t);
	return 0;
}

int uhmm_prefetch(struct uhmm_space *space, void *start, size_t len_bytes, struct uhmm_device *dev)
{
	uint64_t s, e;
	int r;

	r = check_call("uhmm_prefetch", space, NULL, 0, 0);
	if (!r && dev)
		r = check_device("uhmm_prefetch", space, dev);
	if (!r)
		r = check_range("uhmm_prefetch", start, len_bytes, true, &s, &e);
	if (r)
		return r;
	return jobs_post(&space->jobs, dev ? JOB_TO_DEVICE : JOB_TO_SYSTEM, s, e, dev ? &dev->dev : NULL);
}

int uhmm_prefetch_wait(struct uhmm_space *space)
{
	int r = check_call("uhmm_prefetch_wait", space, NULL, 0, 0);

	if (!r)
		jobs_wait_detached(&space->jobs, NULL);
	return r;
}

/*
 * The kernel does it: madvise() raises an event, and that drops what is on a device. The event has been read when
 * madvise() returns; when we return it has been applied, too.
 */
int uhmm_discard(struct uhmm_space *space, void *start, size_t len_bytes)
{
	uint64_t s, e, own_start, own_end;
	int r;

	r = check_call("uhmm_discard", space, NULL, 0, 0);
	if (!r)
		r = check_range("uhmm_discard", start, len_bytes, false, &s, &e);
	if (r)
		return r;
	if (map_is_own(s, e, &own_start, &own_end)) {
		log_say(UHMM_LOG_ERROR, "uhmm_discard(): the range at 0x%llx holds memory of uhmm itself", (unsigned long long)s);
		return -EINVAL;
	}
	r = map_discard(s, e - s);
	if (r == -ENOMEM)
		r = -EFAULT;
	if (r)
		log_say(UHMM_LOG_ERROR, "uhmm_discard(): the range at 0x%llx of %zu bytes cannot be discarded (%s)",
			(unsigned long long)s, len_bytes, strerrordesc_np(-r));
	gate_await_events(&space->sp.gate);
	return r;
}
