/* SPDX-License-Identifier: MIT */
/*
 * A whole driver. This device's memory is a piece of host memory; yours is behind a bus. What must be written is four
 * functions and a table: open, close, copy in, copy out. uhmm decides what lies at which offset.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <uhmm/driver.h>
#include <uhmm/uhmm.h>

#define DEVICE_BYTES ((size_t)64 << 20)
#define BYTES        ((size_t)32 << 20)

struct shelf {
	unsigned char *mem;
	_Atomic uint64_t in, out; /* bytes that were copied */
};

static struct shelf the_shelf;

static int shelf_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why,
		      size_t why_bytes)
{
	struct shelf *s = &the_shelf;

	if (*options) {
		snprintf(ret_why, why_bytes, "a shelf has no options, and \"%s\" was written", options);
		return -EINVAL;
	}
	s->mem = uhmm_host_alloc(DEVICE_BYTES);
	if (!s->mem)
		return -ENOMEM;
	ret_props->size_bytes = DEVICE_BYTES;
	ret_props->orders = 0; /* all */
	*ret_ctx = s;
	return 0;
}

static void shelf_close(void *ctx)
{
	struct shelf *s = ctx;

	if (s)
		uhmm_host_free(s->mem, DEVICE_BYTES);
}

/* Called while a thread of the program may be waiting for this very page: no malloc, no printf here. */
static int shelf_copy_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct shelf *s = ctx;

	(void)ret_fence; /* stays 0: the copy has ended when we return */
	for (unsigned i = 0; i < nr; i++) {
		uhmm_copy(s->mem + segs[i].offset, segs[i].host, segs[i].bytes);
		s->in += segs[i].bytes;
	}
	return 0;
}

static int shelf_copy_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	struct shelf *s = ctx;

	(void)ret_fence;
	for (unsigned i = 0; i < nr; i++) {
		uhmm_copy(segs[i].host, s->mem + segs[i].offset, segs[i].bytes);
		s->out += segs[i].bytes;
	}
	return 0;
}

static const struct uhmm_driver shelf = {
	.sz       = sizeof(struct uhmm_driver),
	.name     = "shelf",
	.summary  = "a piece of host memory, and nothing else",
	.open     = shelf_open,
	.close    = shelf_close,
	.copy_in  = shelf_copy_in,
	.copy_out = shelf_copy_out,
};

int main(void)
{
	struct uhmm_space *space;
	struct uhmm_device *dev;
	char *mem;
	int r;

	mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED || uhmm_driver_add(&shelf))
		return 1;
	memset(mem, 'x', BYTES);

	r = uhmm_open(NULL, &space);
	if (r) {
		fprintf(stderr, "uhmm_open: %s\n", uhmm_strerror(r));
		return r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP ? 77 : 1;
	}
	r = uhmm_device_open(space, "shelf:", &dev);
	if (!r)
		r = uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
	if (r)
		fprintf(stderr, "to the shelf: %s\n", uhmm_strerror(r));
	for (size_t i = 0; i < BYTES && !r; i += 4096)
		r = mem[i] != 'x';
	printf("%llu KiB went to the shelf, %llu KiB came back\n", (unsigned long long)the_shelf.in / 1024,
	       (unsigned long long)the_shelf.out / 1024);
	return uhmm_close(space) || r;
}
