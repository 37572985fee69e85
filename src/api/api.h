/* SPDX-License-Identifier: MIT */
#ifndef API_API_H
#define API_API_H

/*
 * What the public handles are made of. This room checks arguments, translates, and calls; it decides nothing.
 *
 * struct uhmm_space lies in memory of our own, so no handle of ours is ever away.
 */

#include "fault/fault.h"
#include "migrate/jobs.h"
#include "migrate/manual.h"
#include "migrate/migrate.h"
#include "migrate/same.h"
#include "migrate/work.h"
#include "mirror/mirror.h"
#include "policy/policy.h"
#include "space/space.h"
#include "uhmm/uhmm.h"

struct uhmm_device {
	struct device dev;
	struct uhmm_space *space;
	struct uhmm_device *companion_of; /* it holds what that one has alone (mirror.h); the program never sees it */
};

struct uhmm_space {
	struct space sp;
	struct migrator migrator;
	struct faults faults;
	struct jobs jobs;
	struct mirror mirror;
	struct manuals manuals;
	struct works works;
	uint64_t pool_bytes;
	struct policy *policy; /* NULL until there is one; then memory of our own, until the space is closed */

	/* guarded by lock (rank REGISTRY): opening and closing of devices */
	struct lock lock;
	struct uhmm_device device[MAX_DEVICES]; /* by index; 0 is not used */

	/* guarded by sames_lock (rank FOLIO). A release takes it, so who holds it touches no memory of the program */
	struct lock sames_lock;
	struct sames sames;
};

/* The one space of this process, or NULL: also in a child, where the parent's is not mapped. */
struct uhmm_space *space_current(void);
void space_forget(void);

/* Checks a range. @round_len: round the length up, else it must be a multiple of a page. Return: 0 or -EINVAL, said. */
int check_range(const char *call, const void *start, size_t len_bytes, bool round_len, uint64_t *ret_start,
		uint64_t *ret_end);

/* Says what was wrong with the arguments of a call. Return: -EINVAL. */
int bad_argument(const char *call, const char *what);

/* Is @space open, and by this very process? Looks at the address only: in a child there is nothing behind it.
 * Return: 0 or -EPERM, said. */
int check_process(const char *call, const struct uhmm_space *space);

/* Is @dev an open device of @space? Return: 0 or -ENODEV, said. */
int check_device(const char *call, const struct uhmm_space *space, const struct uhmm_device *dev);

/* Copies a tally to the caller's structure, as far as that knows it; NULL is fine. */
void fill_result(const struct tally *t, struct uhmm_result *ret);

/* Does [mem, mem + bytes) touch [start, end)? */
static inline bool overlaps(const void *mem, uint64_t bytes, uint64_t start, uint64_t end)
{
	return (uintptr_t)mem < end && (uintptr_t)mem + bytes > start;
}

/* What the calling thread, which is in @frame, needs of its stack to come to the call that ends what it begins now. */
void stack_around(struct uhmm_space *space, const void *frame, uint64_t *ret_start, uint64_t *ret_end);

/* The device at @index, or NULL. */
struct uhmm_device *device_handle(struct uhmm_space *space, unsigned index);

/* Opens a device, as uhmm_device_open() says. Context: holds space->lock. */
int device_open_locked(struct uhmm_space *space, const char *spec, struct uhmm_device **ret_dev);

/* Brings home what is on it, again and again until nothing is. Return: 0, or why something stayed. */
int device_empty(struct uhmm_space *space, struct device *dev);

/* What the table and the kernel say, in the words of uhmm_query() and uhmm_walk(). @e: DEVICE or MIGRATING. @ret_dev: NULL
 * where there is none. @bits: PM_*. */
enum uhmm_where where_away(struct uhmm_space *space, struct entry e, struct uhmm_device **ret_dev);
enum uhmm_where where_in_system(uint32_t bits);

/* The built-in drivers, made known at the first need. */
void drivers_init(void);

/* Held while the space appears or disappears, and from before a fork until after it: a fork meets a whole space or none. */
void fork_lock(void);
void fork_unlock(void);

/* fork(2): the child is given what is away (fork.c). */
void fork_init(void);

/* In a child: waits until the parent has given it everything, and watches its memory no longer. */
void fork_await_settled(void);

#endif
