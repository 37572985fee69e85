/* SPDX-License-Identifier: MIT */
#ifndef UHMM_POLICY_H
#define UHMM_POLICY_H

#include "uhmm/space.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A limit for the memory of this process. A thread of the library looks how much private memory the process holds - the
 * program's pages, uhmm's own, and a device's where that keeps its bytes in RAM - and moves to devices what has not been touched for
 * long, before the limit is reached. At the limit, growth waits until there is room. With several devices, what has been away the
 * longest moves on from each to the next, so that there is room on the first.
 *
 * What may leave: private anonymous memory that can be read and written, in mappings of 2 MiB and more. Stacks stay.
 */

/* What the policy sees and has done. Bytes and counts since uhmm_policy_start(). */
struct uhmm_policy_stats {
	size_t sz;
	uint64_t limit_bytes;        /* in force now */
	uint64_t resident_bytes;     /* that count against it, when it was last looked */
	uint64_t resident_max_bytes; /* the most that was ever seen */
	uint64_t rounds;             /* looks */
	uint64_t laps;               /* of the clock's hand over all memory */
	uint64_t evicted_bytes;      /* moved to devices */
	uint64_t zero_bytes;         /* of pages that held only zeros, and were given up without a copy */
	uint64_t waits;              /* touches that had to wait for room */
	uint64_t wait_ns;            /* how long, all together */
	uint64_t over;               /* touches that were let through above the limit, since no room could be made */
	uint64_t stuck;              /* rounds in which nothing could leave though it should have */
	uint64_t busy_device;        /* blocks are on their way to this one, the first is 1; 0: to none */
	uint64_t busy_ns;            /* for so long already: a device that does not answer shows here */
	uint64_t full;               /* times a device had no room for what should have gone to it */
	uint64_t ahead_bytes;        /* of blocks that were called home ahead of a sequential reader */
	uint64_t returned_bytes;     /* of what was about to leave when it was touched, and came back without a copy */
	uint64_t onward_bytes;       /* moved on from one of the devices to the next */
};

/**
 * uhmm_policy_round_fn - is called each time the policy has looked
 * @ctx: what was given with it
 * @now: the figures of this moment
 *
 * Return: the limit from now on, in bytes; 0 leaves it as it is.
 * Context: the policy's thread: it must not touch memory that may leave, nor allocate, nor fork; of uhmm it may call uhmm_stats() and
 * uhmm_device_query().
 */
typedef uint64_t uhmm_policy_round_fn(void *ctx, const struct uhmm_policy_stats *now);

/* The bytes of "emu:" devices stand for memory that is elsewhere: they do not count. */
#define UHMM_POLICY_EMU_APART (1u << 0)
/* Ask for THPs in every mapping that is looked after (MADV_HUGEPAGE), the first time it is seen: what is huge moves in 1 us
 * where 512 base pages take 700. */
#define UHMM_POLICY_HUGE      (1u << 1)
/* A child of fork(2) will start a policy of its own when uhmm_fork_held() asks for it: it is given what was away piece by piece, no
 * faster than it makes room, so that both stay below their limits. Without fork events, and before Linux 6.17, it makes no difference. */
#define UHMM_POLICY_CHILDREN  (1u << 2)

/* The least limit that is accepted: what uhmm's threads and their buffers take, and room for some blocks. */
#define UHMM_POLICY_LIMIT_MIN (UINT64_C(48) << 20)

#define UHMM_POLICY_DEVICES_MAX 16

struct uhmm_policy_opts {
	size_t sz;                           /* sizeof(struct uhmm_policy_opts) */
	uint64_t limit_bytes;                /* UHMM_POLICY_LIMIT_MIN and more */
	struct uhmm_device *const *devices;  /* the first takes what leaves; from there it moves on to the second, ... */
	unsigned nr_devices;                 /* 1..UHMM_POLICY_DEVICES_MAX */
	uint32_t flags;                      /* UHMM_POLICY_* */
	uhmm_policy_round_fn *round;         /* or NULL */
	void *round_ctx;
};

/**
 * uhmm_policy_start() - keep the memory of this process below a limit
 * @space: an open space
 * @opts:  limit, devices and the like
 *
 * There is one policy in a space. None of its devices may be closed before it is stopped; uhmm_close() stops it.
 *
 * Return: 0; -EINVAL an option is out of range, or a device of the space has UHMM_CAP_HEAP; -E2BIG as uhmm_open(); -EBUSY there
 * is one already; -ENODEV; -EPERM in a child of the opener; -ENOMEM, -EAGAIN when the thread cannot be had.
 * Context: any thread, may block.
 * Since: 0.2
 */
UHMM_API int uhmm_policy_start(struct uhmm_space *space, const struct uhmm_policy_opts *opts);

/**
 * uhmm_policy_stop() - no limit any more
 * @space: an open space
 *
 * What has left stays on its devices until it is touched.
 *
 * Return: 0, also when there was none; -EINVAL; -EPERM in a child of the opener.
 * Context: any thread, may block; not from the policy's own callback.
 * Since: 0.2
 */
UHMM_API int uhmm_policy_stop(struct uhmm_space *space);

/**
 * uhmm_policy_stats() - what the policy sees and has done
 * @space: an open space
 * @ret:   filled in; @ret->sz must be set
 *
 * Return: 0; -EINVAL when @ret->sz is not set; -ENOENT when there was never a policy; -EPERM.
 * Context: any thread.
 * Since: 0.2
 */
UHMM_API int uhmm_policy_stats(struct uhmm_space *space, struct uhmm_policy_stats *ret);

/**
 * uhmm_fork_held() - does the parent wait until this process has made room?
 *
 * In a child of fork(2) whose parent has a policy with UHMM_POLICY_CHILDREN: what was on the parent's devices is more than fits
 * below its limit. Open a space, devices and a policy; then it comes as fast as room is made for it, and fork() returns in the
 * parent when all has come. Whoever touches what has not come yet waits. So does a fork in this process.
 *
 * Return: 1 if so; 0 if not, or not yet.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API int uhmm_fork_held(void);

/**
 * uhmm_fork_take_all() - no room will be made: let everything come
 *
 * For a child that cannot, or shall not, have a policy. It happens by itself when the child looks after nothing for 5 seconds.
 *
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API void uhmm_fork_take_all(void);

#ifdef __cplusplus
}
#endif

#endif
