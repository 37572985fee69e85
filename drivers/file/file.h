/* SPDX-License-Identifier: MIT */
#ifndef DRIVERS_FILE_H
#define DRIVERS_FILE_H

/* A file or a block device. README.md says which source has what. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uhmm/driver.h"

#define FILE_SLOTS  8u   /* copies in flight at once by rings; further ones are plain */
#define FILE_IOS    512u /* reads or writes of one copy, before it has to wait for them */
#define FILE_PATH   1024
#define FILE_IO_MAX ((uint64_t)64 << 20)

/* One read or write, some of which is done. */
struct io {
	uint64_t offset;
	char *host;
	uint32_t bytes, done;
};

struct ring; /* ring.c */

/* What one copy needs. Whoever has taken it is its owner. */
struct slot {
	struct slot *next; /* a free one's; guarded by slots_lock */
	struct ring *ring;
	unsigned nr;
	bool out;
	struct io ios[FILE_IOS];
};

struct file {
	/* constant after open; bytes */
	char path[FILE_PATH];
	uint64_t size, keep, reserve, punch, async, direct, uring;
	int fd;
	bool created; /* by us, and still to be seen at its path */
	_Atomic uint64_t *zeros;

	/* guarded by slots_lock */
	pthread_mutex_t slots_lock;
	struct slot *free_slots;

	unsigned nr_slots; /* constant after open */
	struct slot slots[FILE_SLOTS];

	_Atomic bool said_full;
};

/* place.c: opens, locks, sizes. Return: 0 with f->fd and f->size, or -errno with a sentence. */
int place_open(struct file *f, char *ret_why, size_t why_bytes);
void place_close(struct file *f);

/* ring.c or no_ring.c. @mem: of RING_BYTES. Return: 0 or -errno. */
#define RING_BYTES 512u
int ring_open(struct ring *ring);
void ring_close(struct ring *ring);

/* Starts up to as many as a ring takes; ring_finish() sees to the rest, and returns the first error. */
void ring_start(struct ring *ring, int fd, struct io *ios, unsigned nr, bool out);
int ring_finish(struct ring *ring);

/* plain.c. Return: 0 or -errno. */
int plain_io(int fd, struct io *io, bool out);

/* What a read or a write answered, the same for both engines. @r: bytes, or -errno. Return: 0, go on if bytes are left; or -errno. */
int io_account(struct io *io, int64_t r, bool out);

/* zeros.c: a bit for each page, 1 for zeros that are not on the disk. */
uint64_t zeros_bytes(uint64_t size);
void zeros_set(struct file *f, uint64_t offset, uint64_t bytes, bool zero);

/* How far from @offset, up to @bytes, all pages are as the first: zeros or not. */
uint64_t zeros_run(const struct file *f, uint64_t offset, uint64_t bytes, bool *ret_zero);

/* copy.c */
int file_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int file_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence);
int file_fence_wait(void *ctx, uint64_t fence);
int file_clear(void *ctx, uint64_t offset, uint64_t bytes);
void file_folio_free(void *ctx, uint64_t offset, unsigned order);

#endif
