/* SPDX-License-Identifier: MIT */
/*
 * Three ways lead to a userfaultfd: the system call (root, CAP_SYS_PTRACE, or vm.unprivileged_userfaultfd=1), the device
 * node (whoever may open it), and the system call with USER_MODE_ONLY (anybody, by default). Only the first two serve
 * touches by the kernel itself, such as read(2) into a page that is away.
 *
 * UFFDIO_API can be asked once per descriptor, and fails as a whole if one feature is unknown: so a first descriptor
 * learns what there is, and a second one asks for what we want of it.
 */
#include "os/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/pages.h"
#include "os/fail.h"
#include "os/thread.h"
#include "os/uapi.h"

#define EVENTS          (UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP)
#define FEATURES_NEEDED (EVENTS | UAPI_FEATURE_MOVE)
#define FEATURES_WANTED UAPI_FEATURE_POISON

static int open_syscall(unsigned flags)
{
	int err = os_fail(OS_UFFD_OPEN);
	int fd;

	if (os_without(WITHOUT_UFFD))
		return -ENOSYS;
	if (os_without(WITHOUT_PRIVILEGE) && !(flags & UAPI_USER_MODE_ONLY))
		return -EPERM;
	if (err)
		return -err;
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
	return fd < 0 ? -errno : fd;
}

static int open_node(void)
{
	int node, fd;

	if (os_without(WITHOUT_UFFD) || os_without(WITHOUT_PRIVILEGE))
		return -EPERM;
	node = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (node < 0)
		return -errno;
	fd = ioctl(node, UAPI_DEV_USERFAULTFD, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		fd = -errno;
	close(node);
	return fd;
}

static int open_any(enum uffd_open_mode mode, struct uffd *u)
{
	int fd = -EPERM;

	u->user_mode_only = false;
	if (mode != UFFD_USER_ONLY) {
		u->path = "syscall";
		fd = open_syscall(0);
		if (fd == -EPERM) {
			u->path = "/dev/userfaultfd";
			fd = open_node();
			if (fd < 0)
				fd = -EPERM;
		}
	}
	if (fd == -EPERM && mode != UFFD_FULL) {
		u->path = "user-mode-only";
		u->user_mode_only = true;
		fd = open_syscall(UAPI_USER_MODE_ONLY);
	}
	return fd;
}

static int ask_features(int fd, uint64_t want, uint64_t *ret_features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = want };
	int err = os_fail(OS_UFFD_API);

	if (err)
		return -err;
	if (ioctl(fd, UFFDIO_API, &api))
		return -errno;
	if (os_without(WITHOUT_MOVE))
		api.features &= ~UAPI_FEATURE_MOVE;
	if (os_without(WITHOUT_EVENTS))
		api.features &= ~(uint64_t)(UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP);
	if (os_without(WITHOUT_POISON))
		api.features &= ~UAPI_FEATURE_POISON;
	if ((os_without(WITHOUT_PRIVILEGE) || os_without(WITHOUT_FORK_EVENT)) && want & UFFD_FEATURE_EVENT_FORK)
		return -EPERM;
	*ret_features = api.features;
	return 0;
}

int uffd_try_open(struct uffd *u, enum uffd_open_mode mode, unsigned flags)
{
	uint64_t offered = 0, want;
	int fd, r;

	fd = open_any(mode, u);
	if (fd < 0)
		return fd;
	r = ask_features(fd, 0, &offered);
	close(fd);
	if (r)
		return r;
	u->features = offered;
	if ((offered & FEATURES_NEEDED) != FEATURES_NEEDED)
		return -EOPNOTSUPP;

	fd = open_any(mode, u);
	if (fd < 0)
		return fd;
	want = UAPI_FEATURE_MOVE | (offered & FEATURES_WANTED);
	if (!(flags & UFFD_NO_EVENTS))
		want |= EVENTS;
	if (flags & UFFD_WANT_FORK)
		want |= UFFD_FEATURE_EVENT_FORK;
	r = ask_features(fd, want, &offered);
	if (r) {
		close(fd);
		return r;
	}
	u->fd = fd;
	u->fork_events = flags & UFFD_WANT_FORK;
	return 0;
}

int uffd_open(struct uffd *u, enum uffd_open_mode mode)
{
	int r = uffd_try_open(u, mode, UFFD_WANT_FORK);

	if (r == -EPERM)
		r = uffd_try_open(u, mode, 0);
	switch (r) {
	case 0:
		if (u->user_mode_only)
			log_say(UHMM_LOG_WARN, "userfaultfd serves user-mode touches only: a system call on memory that is on a "
					       "device fails with EFAULT; run as root or set vm.unprivileged_userfaultfd=1 to lift that");
		break;
	case -ENOSYS:
		log_say(UHMM_LOG_ERROR, "this kernel has no userfaultfd (CONFIG_USERFAULTFD); uhmm needs Linux 6.8 or later with it");
		break;
	case -EPERM:
		log_say(UHMM_LOG_ERROR, "userfaultfd is refused: run as root, set vm.unprivileged_userfaultfd=1, give access to "
					"/dev/userfaultfd, or accept UHMM_SPACE_USER_MODE_ONLY");
		break;
	case -EOPNOTSUPP:
		log_say(UHMM_LOG_ERROR, "this kernel's userfaultfd lacks %s; uhmm needs Linux 6.8 or later",
			u->features & UAPI_FEATURE_MOVE ? "remove, unmap or remap events" : "UFFDIO_MOVE");
		break;
	default:
		log_say(UHMM_LOG_ERROR, "userfaultfd cannot be opened: %s", strerrordesc_np(-r));
	}
	return r;
}

void uffd_close(struct uffd *u)
{
	if (u->fd >= 0)
		close(u->fd);
	u->fd = -1;
}

int uffd_register(const struct uffd *u, uint64_t start, uint64_t end)
{
	struct uffdio_register arg = {
		.range = { .start = start, .len = end - start },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int err = os_fail(OS_REGISTER);

	if (!err && ioctl(u->fd, UFFDIO_REGISTER, &arg))
		err = errno;
	switch (err) {
	case 0:      return 0;
	case EINVAL: /* a mapping it does not work on, or none */
	case EBUSY:  /* another userfaultfd has it */
	case EPERM:  return UFFD_E_REFUSED;
	case ENOENT:
	case ESRCH:  return UFFD_E_MISSING;
	case ENOMEM: return UFFD_E_NO_MEMORY;
	default:     return -err;
	}
}

int uffd_unregister(const struct uffd *u, uint64_t start, uint64_t end)
{
	struct uffdio_range arg = { .start = start, .len = end - start };
	int err = os_fail(OS_UNREGISTER);

	if (!err && ioctl(u->fd, UFFDIO_UNREGISTER, &arg))
		err = errno;
	switch (err) {
	case 0:      return 0;
	case EINVAL: return UFFD_E_REFUSED;
	case ENOENT:
	case ESRCH:  return UFFD_E_MISSING;
	case ENOMEM: return UFFD_E_NO_MEMORY;
	default:     return -err;
	}
}

bool uffd_keeps_apart(const struct uffd *u, uint64_t page)
{
	bool apart = false;
	struct uffd other;

	if (os_without(WITHOUT_WATCHES_APART))
		return false;
	if (uffd_try_open(&other, u->user_mode_only ? UFFD_USER_ONLY : UFFD_FULL, UFFD_NO_EVENTS))
		return false;
	if (!uffd_register(u, page, page + PAGE_BYTES)) {
		apart = uffd_unregister(&other, page, page + PAGE_BYTES) == UFFD_E_REFUSED;
		(void)uffd_release(u, page, page + PAGE_BYTES);
	}
	uffd_close(&other);
	return apart;
}

bool uffd_release(const struct uffd *u, uint64_t start, uint64_t end)
{
	for (unsigned tries = 0; tries < 100; tries++) {
		int r = uffd_unregister(u, start, end);

		if (r != UFFD_E_NO_MEMORY && r >= 0)
			return true;
		thread_pause(tries);
	}
	return false;
}

/* What a failed MOVE, COPY, ZEROPAGE or POISON says. */
static int outcome(int err)
{
	switch (err) {
	case EAGAIN: return UFFD_E_AGAIN;
	case EEXIST: return UFFD_E_EXISTS;
	case ENOENT:
	case ESRCH:  return UFFD_E_MISSING; /* ESRCH: the process, and with it its memory, is gone or going */
	case EBUSY:  return UFFD_E_BUSY;
	case EINVAL: return UFFD_E_REFUSED;
	case ENOMEM: return UFFD_E_NO_MEMORY;
	default:     return -err; /* EFAULT: an argument of ours is bad */
	}
}

int uffd_move(const struct uffd *u, uint64_t dst, uint64_t src, uint64_t len, unsigned flags, uint64_t *ret_moved)
{
	struct uapi_uffdio_move arg = {
		.dst = dst, .src = src, .len = len,
		.mode = (flags & UFFD_DONTWAKE ? UAPI_MOVE_DONTWAKE : 0) | (flags & UFFD_SRC_HOLES ? UAPI_MOVE_ALLOW_HOLES : 0),
	};
	int err = os_fail(OS_MOVE);

	if (!err && ioctl(u->fd, UAPI_UFFDIO_MOVE, &arg))
		err = errno;
	if (!err) {
		/* for tests: done, and reported as not done. The kernel does that to one page of a run, now and then */
		err = os_fail(OS_MOVE_REPORT);
		if (err)
			arg.move = 0;
	}
	*ret_moved = arg.move > 0 ? (uint64_t)arg.move : 0;
	return err ? outcome(err) : 0;
}

int uffd_copy(const struct uffd *u, uint64_t dst, const void *src, uint64_t len, unsigned flags, uint64_t *ret_copied)
{
	struct uffdio_copy arg = {
		.dst = dst, .src = (uintptr_t)src, .len = len, .mode = flags & UFFD_DONTWAKE ? UFFDIO_COPY_MODE_DONTWAKE : 0,
	};
	int err = os_fail(OS_COPY);

	if (!err && ioctl(u->fd, UFFDIO_COPY, &arg))
		err = errno;
	*ret_copied = arg.copy > 0 ? (uint64_t)arg.copy : 0;
	return err ? outcome(err) : 0;
}

int uffd_zeropage(const struct uffd *u, uint64_t dst, uint64_t len, unsigned flags)
{
	struct uffdio_zeropage arg = {
		.range = { .start = dst, .len = len }, .mode = flags & UFFD_DONTWAKE ? UFFDIO_ZEROPAGE_MODE_DONTWAKE : 0,
	};
	int err = os_fail(OS_ZEROPAGE);

	if (!err && ioctl(u->fd, UFFDIO_ZEROPAGE, &arg))
		err = errno;
	return err ? outcome(err) : 0;
}

/* Zeros for a page that is there are refused with EEXIST - unless the kernel does not even look, because of an event. */
bool uffd_held_up(const struct uffd *u, uint64_t canary)
{
	struct uffdio_zeropage arg = { .range = { .start = canary, .len = PAGE_BYTES } };

	return ioctl(u->fd, UFFDIO_ZEROPAGE, &arg) && errno == EAGAIN;
}

/* Of a live process the same request fails for another reason, if it does. */
bool uffd_is_over(const struct uffd *u, uint64_t canary)
{
	struct uffdio_zeropage arg = { .range = { .start = canary, .len = PAGE_BYTES } };

	return ioctl(u->fd, UFFDIO_ZEROPAGE, &arg) && errno == ESRCH;
}

int uffd_poison(const struct uffd *u, uint64_t dst, uint64_t len)
{
	struct uapi_uffdio_poison arg = { .start = dst, .len = len };
	int err = os_fail(OS_POISON);

	if (!(u->features & UAPI_FEATURE_POISON))
		return UFFD_E_REFUSED;
	if (!err && ioctl(u->fd, UAPI_UFFDIO_POISON, &arg))
		err = errno;
	return err ? outcome(err) : 0;
}

void uffd_wake(const struct uffd *u, uint64_t start, uint64_t len)
{
	struct uffdio_range arg = { .start = start, .len = len };

	/* it can only fail for a bad range, and then nobody waits there */
	(void)ioctl(u->fd, UFFDIO_WAKE, &arg);
}

bool uffd_has_message(const struct uffd *u)
{
	struct pollfd fd = { .fd = u->fd, .events = POLLIN };

	return poll(&fd, 1, 0) > 0;
}

int uffd_read(const struct uffd *u, struct uffd_message *ret)
{
	struct uffd_msg msg;
	ssize_t n;

	do {
		n = read(u->fd, &msg, sizeof(msg));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n != sizeof(msg))
		return -EIO;

	*ret = (struct uffd_message){ .kind = UFFD_OTHER };
	switch (msg.event) {
	case UFFD_EVENT_PAGEFAULT:
		ret->kind = UFFD_FAULT;
		ret->write = msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE;
		ret->start = page_down(msg.arg.pagefault.address);
		ret->end = ret->start + PAGE_BYTES;
		break;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		ret->kind = msg.event == UFFD_EVENT_REMOVE ? UFFD_REMOVE : UFFD_UNMAP;
		ret->start = msg.arg.remove.start;
		ret->end = msg.arg.remove.end;
		break;
	case UFFD_EVENT_REMAP:
		ret->kind = UFFD_REMAP;
		ret->start = msg.arg.remap.from;
		ret->end = msg.arg.remap.from + msg.arg.remap.len;
		ret->to = msg.arg.remap.to;
		break;
	case UFFD_EVENT_FORK:
		ret->kind = UFFD_FORK;
		ret->fd = (int)msg.arg.fork.ufd;
		break;
	}
	return 1;
}
