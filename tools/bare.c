/* SPDX-License-Identifier: MIT */
/*
 * The server knows how many pages the toucher is going to touch and ends after as many, so neither poll() nor a
 * wake-up descriptor stands in its way: read, copy, read, copy, as fast as a pager can be that serves one page at
 * a time. Should it fail, it closes the descriptor: the toucher then goes on with zeros instead of waiting for
 * ever.
 *
 * Between passes MADV_DONTNEED empties the memory; that raises no message, because no events were asked for.
 */
#include "tools/bare.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/region.h"
#include "tools/say.h"
#include "tools/touch.h"
#include "uhmm/space.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

struct bare {
	int fd;
	struct region here;  /* what is touched */
	struct region store; /* where its pages come from */
	int server_errno;    /* the server's; read after it was joined */
};

static int open_uffd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC), dev;

	if (fd >= 0)
		return fd;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
		close(dev);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	return fd;
}

static int watch(struct bare *b)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)b->here.mem, .len = b->here.bytes },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	b->fd = open_uffd();
	if (b->fd < 0 || ioctl(b->fd, UFFDIO_API, &api) || ioctl(b->fd, UFFDIO_REGISTER, &reg)) {
		int err = errno;

		say("the bare userfaultfd could not be set up: %s", strerror(err));
		return -err;
	}
	return 0;
}

int bare_open(struct bare **ret, uint64_t bytes)
{
	struct bare *b = calloc(1, sizeof(*b));
	int r = b ? 0 : -ENOMEM;

	if (!b) {
		say("there is no memory for the bare userfaultfd");
		return r;
	}
	b->fd = -1;
	r = region_init(&b->here, bytes, REGION_BASE);
	if (!r)
		r = region_init(&b->store, bytes, REGION_BASE);
	if (!r)
		r = watch(b);
	if (r) {
		bare_close(b);
		return r;
	}
	region_fill(&b->store);
	*ret = b;
	return 0;
}

void bare_close(struct bare *b)
{
	if (!b)
		return;
	if (b->fd >= 0)
		close(b->fd);
	region_fini(&b->here);
	region_fini(&b->store);
	free(b);
}

static int serve_one(struct bare *b)
{
	struct uffd_msg msg;
	struct uffdio_copy copy = { .len = UHMM_PAGE_BYTES };
	uint64_t at;

	if (read(b->fd, &msg, sizeof(msg)) != sizeof(msg))
		return errno ? errno : EIO;
	at = (msg.arg.pagefault.address & ~(UHMM_PAGE_BYTES - 1)) - (uintptr_t)b->here.mem;
	copy.dst = (uintptr_t)b->here.mem + at;
	copy.src = (uintptr_t)b->store.mem + at;
	return ioctl(b->fd, UFFDIO_COPY, &copy) ? errno : 0;
}

static void *serve(void *arg)
{
	struct bare *b = arg;

	b->server_errno = 0;
	for (uint64_t at = 0; at < b->here.bytes && !b->server_errno; at += UHMM_PAGE_BYTES)
		b->server_errno = serve_one(b);
	if (b->server_errno) {
		close(b->fd);
		b->fd = -1;
	}
	return NULL;
}

static int start_server(struct bare *b, const cpu_set_t *cpus, pthread_t *ret)
{
	pthread_attr_t attr;
	int err = pthread_attr_init(&attr);

	if (err)
		return err;
	err = pthread_attr_setaffinity_np(&attr, sizeof(*cpus), cpus);
	if (!err)
		err = pthread_create(ret, &attr, serve, b);
	pthread_attr_destroy(&attr);
	return err;
}

double bare_pass(struct bare *b, const cpu_set_t *server_cpus, struct samples *ret_us)
{
	double seconds = 0;
	pthread_t server;
	int err;

	madvise(b->here.mem, b->here.bytes, MADV_DONTNEED);
	err = start_server(b, server_cpus, &server);
	if (!err) {
		seconds = touch_range(&b->here, 0, b->here.bytes, UHMM_PAGE_BYTES, TOUCH_READ, ret_us);
		pthread_join(server, NULL);
		err = b->server_errno;
	}
	if (!err && !region_is_intact(&b->here))
		err = EIO;
	if (!err)
		return seconds;
	say("the bare userfaultfd failed: %s", strerror(err));
	return -1;
}
