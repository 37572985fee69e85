/* SPDX-License-Identifier: MIT */
#ifndef OS_UFFD_H
#define OS_UFFD_H

/*
 * One userfaultfd of this process, and what its ioctls really answer. Each errno is turned into an outcome that says
 * what happened to the page, because the same errno means different things for different ioctls.
 */

#include <stdbool.h>
#include <stdint.h>

struct uffd {
	int fd;
	uint64_t features;    /* granted */
	bool user_mode_only;  /* kernel-mode touches of missing pages fail with EFAULT */
	bool fork_events;     /* a child of fork(2) is announced, with a userfaultfd for it */
	const char *path;     /* how it was had: "syscall", "/dev/userfaultfd", "user-mode-only" */
};

enum uffd_open_mode {
	UFFD_FULL,            /* serves kernel-mode touches too, or fails */
	UFFD_FULL_OR_USER,    /* takes a user-mode-only one if need be */
	UFFD_USER_ONLY,
};

/*
 * Fork events are had where the process has the privilege for them; without, there are none.
 * Return: 0; -ENOSYS no userfaultfd in this kernel; -EPERM refused; -EOPNOTSUPP the kernel lacks MOVE or events;
 * -EMFILE and the like. The log hears one sentence that says what to do.
 */
int uffd_open(struct uffd *u, enum uffd_open_mode mode);
void uffd_close(struct uffd *u);

#define UFFD_WANT_FORK (1u << 0) /* fork events too, which need a privilege */
#define UFFD_NO_EVENTS (1u << 1) /* none: whoever changes watched memory is not held up */

/* The same without sentences. @flags: UFFD_WANT_FORK (-EPERM without the privilege), UFFD_NO_EVENTS. */
int uffd_try_open(struct uffd *u, enum uffd_open_mode mode, unsigned flags);

enum uffd_outcome {
	UFFD_E_AGAIN = 1, /* an event waits to be read, or the page is in use for a moment: try again later */
	UFFD_E_EXISTS,    /* a page is there already */
	UFFD_E_MISSING,   /* the source is a hole, or one of the mappings is gone */
	UFFD_E_BUSY,      /* the source page is pinned, or shared after fork */
	UFFD_E_REFUSED,   /* the mapping is not of a kind (protection, file, another userfaultfd) that this works on */
	UFFD_E_NO_MEMORY, /* the host has none */
};

#define UFFD_DONTWAKE  (1u << 0)
#define UFFD_SRC_HOLES (1u << 1) /* MOVE only: a page that the source does not have is passed over, and counts as moved */

/*
 * Watch [start, end) for missing pages; pieces that are watched already stay so.
 * Return: 0, UFFD_E_REFUSED, UFFD_E_MISSING, UFFD_E_NO_MEMORY (also: too many mappings).
 */
int uffd_register(const struct uffd *u, uint64_t start, uint64_t end);
int uffd_unregister(const struct uffd *u, uint64_t start, uint64_t end);

/* Does the kernel refuse to end the watch of one userfaultfd by way of another one? Since 6.17. @page: nobody's, for trying. */
bool uffd_keeps_apart(const struct uffd *u, uint64_t page);

/* As uffd_unregister(), trying again while the kernel has no memory. Return: it is not watched any more. What still is must never be
 * unmapped once nobody reads events: that would wait for ever. */
bool uffd_release(const struct uffd *u, uint64_t start, uint64_t end);

/*
 * Moves pages, without copying them, into the watched empty range [dst, dst + len). One huge page moves as one when both
 * ends are aligned, len covers it and dst has no page table.
 * @ret_moved: bytes that moved, also when the outcome is not 0.
 * Return: 0 or any outcome above. Context: any thread; never blocks on another fault.
 */
int uffd_move(const struct uffd *u, uint64_t dst, uint64_t src, uint64_t len, unsigned flags, uint64_t *ret_moved);

/* Fills [dst, dst + len) with copies of [src, ...). Return and Context as uffd_move(), never UFFD_E_BUSY. */
int uffd_copy(const struct uffd *u, uint64_t dst, const void *src, uint64_t len, unsigned flags, uint64_t *ret_copied);

/* Maps zero pages. Return: 0, UFFD_E_AGAIN, _EXISTS, _MISSING, _REFUSED, _NO_MEMORY. */
int uffd_zeropage(const struct uffd *u, uint64_t dst, uint64_t len, unsigned flags);

/* A touch of [dst, dst + len) shall raise SIGBUS from now on. Return: as uffd_zeropage(); UFFD_E_REFUSED too where the
 * kernel has no UFFDIO_POISON. */
int uffd_poison(const struct uffd *u, uint64_t dst, uint64_t len);

/* Does an event wait to be read? Then every MOVE, COPY and ZEROPAGE answers UFFD_E_AGAIN. @canary: a page of our own that
 * is watched and there. */
bool uffd_held_up(const struct uffd *u, uint64_t canary);

/* Lets every thread that waits for a page of [start, start + len) look again. */
void uffd_wake(const struct uffd *u, uint64_t start, uint64_t len);

/* Has the process whose memory this is ended, or called exec? Nobody will touch that memory any more. @canary: as above. */
bool uffd_is_over(const struct uffd *u, uint64_t canary);

enum uffd_kind { UFFD_FAULT, UFFD_REMOVE, UFFD_UNMAP, UFFD_REMAP, UFFD_FORK, UFFD_OTHER };

struct uffd_message {
	enum uffd_kind kind;
	bool write;           /* FAULT: it was a store */
	uint64_t start, end;  /* FAULT: the page; REMOVE, UNMAP: the range; REMAP: the old place */
	uint64_t to;          /* REMAP: the new start */
	int fd;               /* FORK: the child's userfaultfd, with the features of this one; the reader's to close */
	uint64_t seq;         /* FAULT: for the reader's use */
};

/* Does a message wait to be read? */
bool uffd_has_message(const struct uffd *u);

/* One message. Return: 1 when there was one, 0 when none waits, -errno. Never blocks. Reading an event lets its causer
 * go on. -EMFILE: a FORK for which there is no descriptor; it stays, and everything with it, until there is one. */
int uffd_read(const struct uffd *u, struct uffd_message *ret);

#endif
