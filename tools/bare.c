/* SPDX-License-Identifier: MIT */
/*
 * The server knows how many pages the toucher is going to touch and ends after as many, so neither poll() nor a
 * wake-up descriptor stands in its way: read, copy, read, copy, as fast as a pager can be that serves one page at
 * a time. Should it fail, it closes the descriptor: the toucher then goes on with zeros instead of waiting for
 * ever.
 *
 * No events are asked for, so neither MADV_DONTNEED nor a MOVE out of the memory raises a message.
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

#include "tools/clock.h"
#include "tools/say.h"
#include "tools/touch.h"
#include "uhmm/driver.h"
#include "uhmm/space.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* Linux 6.8; the distribution's header may be older. */
struct uffd_move {
	uint64_t dst, src, len, mode;
	int64_t move;
};
#define MOVE         _IOWR(0xAA, 0x05, struct uffd_move)
#define FEATURE_MOVE (UINT64_C(1) << 16)

#define BATCH_BYTES (32 * UHMM_BLOCK_BYTES) /* moved out before they are copied, as uhmm does it */

struct bare {
	int fd;
	struct region here;  /* what is touched */
	struct region store; /* where its pages come from */
	struct region slots; /* REGION_HUGE: where its THPs are meanwhile */
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

static bool is_huge(const struct bare *b) { return b->here.pages == REGION_HUGE; }

static int watch_region(int fd, const struct region *r)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)r->mem, .len = r->bytes },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

static int watch(struct bare *b)
{
	struct uffdio_api api = { .api = UFFD_API, .features = is_huge(b) ? FEATURE_MOVE : 0 };

	b->fd = open_uffd();
	if (b->fd < 0 || ioctl(b->fd, UFFDIO_API, &api) || watch_region(b->fd, &b->here) ||
	    (is_huge(b) && watch_region(b->fd, &b->slots))) {
		int err = errno;

		say("the bare userfaultfd could not be set up: %s", strerror(err));
		return -err;
	}
	return 0;
}

int bare_open(struct bare **ret, uint64_t bytes, enum region_pages pages)
{
	struct bare *b = calloc(1, sizeof(*b));
	int r = b ? 0 : -ENOMEM;

	if (!b) {
		say("there is no memory for the bare userfaultfd");
		return r;
	}
	b->fd = -1;
	r = region_init(&b->here, bytes, pages);
	if (!r)
		r = region_init(&b->store, bytes, pages);
	if (!r && pages == REGION_HUGE)
		r = region_init(&b->slots, bytes, pages);
	if (!r) {
		region_fill(&b->here);
		r = watch(b);
	}
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
	region_fini(&b->slots);
	free(b);
}

static int move_block(struct bare *b, const unsigned char *to, const unsigned char *from)
{
	struct uffd_move move = { .dst = (uintptr_t)to, .src = (uintptr_t)from, .len = UHMM_BLOCK_BYTES };

	return ioctl(b->fd, MOVE, &move) ? errno : 0;
}

static double empty_huge(struct bare *b, struct crew *crew, unsigned nr)
{
	uint64_t start = clock_ns(), end;
	int err = 0;

	for (uint64_t from = 0; from < b->here.bytes; from = end) {
		end = from + BATCH_BYTES < b->here.bytes ? from + BATCH_BYTES : b->here.bytes;
		for (uint64_t at = from; at < end && !err; at += UHMM_BLOCK_BYTES)
			err = move_block(b, b->slots.mem + at, b->here.mem + at);
		if (err) {
			say("a bare UFFDIO_MOVE failed: %s", strerror(err));
			return -1;
		}
		crew_copy(crew, nr, b->store.mem + from, b->slots.mem + from, end - from);
	}
	return (double)(clock_ns() - start) / 1e9;
}

double bare_empty(struct bare *b, struct crew *crew, unsigned nr)
{
	if (is_huge(b))
		return empty_huge(b, crew, nr);
	madvise(b->here.mem, b->here.bytes, MADV_DONTNEED);
	return 0;
}

static int serve_one(struct bare *b)
{
	uint64_t step = is_huge(b) ? UHMM_BLOCK_BYTES : UHMM_PAGE_BYTES, at;
	struct uffdio_copy copy = { .len = UHMM_PAGE_BYTES };
	struct uffd_msg msg;

	if (read(b->fd, &msg, sizeof(msg)) != sizeof(msg))
		return errno ? errno : EIO;
	at = (msg.arg.pagefault.address & ~(step - 1)) - (uintptr_t)b->here.mem;
	if (is_huge(b)) {
		uhmm_copy(b->slots.mem + at, b->store.mem + at, UHMM_BLOCK_BYTES);
		return move_block(b, b->here.mem + at, b->slots.mem + at);
	}
	copy.dst = (uintptr_t)b->here.mem + at;
	copy.src = (uintptr_t)b->store.mem + at;
	return ioctl(b->fd, UFFDIO_COPY, &copy) ? errno : 0;
}

static void *serve(void *arg)
{
	struct bare *b = arg;

	b->server_errno = 0;
	for (uint64_t at = 0; at < b->here.bytes && !b->server_errno; at += is_huge(b) ? UHMM_BLOCK_BYTES : UHMM_PAGE_BYTES)
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

	err = start_server(b, server_cpus, &server);
	if (!err) {
		seconds = touch_range(&b->here, 0, b->here.bytes, is_huge(b) ? UHMM_BLOCK_BYTES : UHMM_PAGE_BYTES, TOUCH_READ,
				      ret_us);
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
