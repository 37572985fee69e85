/* SPDX-License-Identifier: MIT */
/*
 * file:PATH[,size=SIZE][,keep=on][,reserve=on][,punch=on][,direct=off][,uring=off][,async=off]
 *
 *   PATH         a directory: a file without a name in it; a new file: made, and unlinked at once; with keep=on also a file or
 *                block device that exists, whose contents are lost
 *   size=SIZE    default: what a file or block device has, else 1G
 *   keep=on      what PATH names stays there
 *   reserve=on   the disk's room is taken at the start, so that it cannot be full later
 *   punch=on     the room of what left the device is given back to the file system at once
 *   direct=off   through the page cache
 *   uring=off    plain reads and writes
 *   async=off    a copy is waited for by who starts it
 */
#include "drivers/file/file.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/pages.h"
#include "base/spec.h"

static const struct spec_key keys[] = {
	{ "size", SPEC_SIZE, offsetof(struct file, size) },
	{ "keep", SPEC_BOOL, offsetof(struct file, keep) },
	{ "reserve", SPEC_BOOL, offsetof(struct file, reserve) },
	{ "punch", SPEC_BOOL, offsetof(struct file, punch) },
	{ "direct", SPEC_BOOL, offsetof(struct file, direct) },
	{ "uring", SPEC_BOOL, offsetof(struct file, uring) },
	{ "async", SPEC_BOOL, offsetof(struct file, async) },
	{ NULL, 0, 0 },
};

/* The rings lie behind it: what a ring is, only ring.c knows. */
static uint64_t context_bytes(void) { return block_up(sizeof(struct file) + FILE_SLOTS * RING_BYTES); }

static int parse(struct file *f, const char *options, char *why, size_t why_bytes)
{
	size_t len = strcspn(options, ",");
	int r;

	f->direct = f->uring = f->async = 1;
	if (!len)
		return err_why(why, why_bytes, -EINVAL, "a path comes first: file:PATH,size=1G");
	for (const struct spec_key *k = keys; k->name; k++)
		if (!strncmp(options, k->name, strlen(k->name)) && options[strlen(k->name)] == '=')
			return err_why(why, why_bytes, -EINVAL, "the path comes first: file:PATH,%.*s", (int)len, options);
	if (len >= sizeof(f->path))
		return err_why(why, why_bytes, -EINVAL, "the path is longer than %zu bytes", sizeof(f->path) - 1);
	memcpy(f->path, options, len);
	r = options[len] ? spec_parse(options + len + 1, keys, f, why, why_bytes) : 0;
	if (!r && options[len] && !options[len + 1])
		r = err_why(why, why_bytes, -EINVAL, "nothing follows the comma");
	if (!r && (!block_aligned(f->size) || f->size > UINT64_C(1) << 51))
		r = err_why(why, why_bytes, -EINVAL, "size must be a multiple of 2M, at most 2P");
	return r;
}

/* As many rings as can be had; without any, copies are plain. */
static void open_rings(struct file *f)
{
	char *mem = (char *)f + sizeof(*f);
	int r = -ENOSYS;

	for (; f->uring && f->nr_slots < FILE_SLOTS; f->nr_slots++) {
		struct slot *s = &f->slots[f->nr_slots];

		s->ring = (struct ring *)(void *)(mem + f->nr_slots * RING_BYTES);
		r = ring_open(s->ring);
		if (r)
			break;
		s->next = f->free_slots;
		f->free_slots = s;
	}
	if (f->uring && !f->nr_slots)
		log_say(UHMM_LOG_WARN, "%s: io_uring cannot be had (%s); reads and writes go one by one", f->path,
			strerrordesc_np(-r));
	if (!f->nr_slots)
		f->async = 0;
}

static void file_close(void *ctx)
{
	struct file *f = ctx;

	if (!f)
		return;
	for (unsigned i = 0; i < f->nr_slots; i++)
		ring_close(f->slots[i].ring);
	if (f->zeros)
		uhmm_host_free(f->zeros, zeros_bytes(f->size));
	place_close(f);
	uhmm_host_free(f, context_bytes());
}

static int file_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	struct file *f = uhmm_host_reserve(context_bytes());
	int r;

	if (!f)
		return -ENOMEM;
	f->fd = -1;
	pthread_mutex_init(&f->slots_lock, NULL);
	r = parse(f, options, ret_why, why_bytes);
	if (!r)
		r = place_open(f, ret_why, why_bytes);
	if (!r) {
		f->zeros = uhmm_host_reserve(zeros_bytes(f->size));
		if (!f->zeros)
			r = -ENOMEM;
	}
	if (r) {
		file_close(f);
		return r;
	}
	open_rings(f);
	ret_props->size_bytes = f->size;
	ret_props->orders = 0;
	ret_props->caps = f->async ? UHMM_CAP_ASYNC : 0;
	*ret_ctx = f;
	return 0;
}

extern const struct uhmm_driver uhmm_driver_file;

const struct uhmm_driver uhmm_driver_file = {
	.sz = sizeof(struct uhmm_driver),
	.name = "file",
	.summary = "a file or a block device, by io_uring and past the page cache",
	.open = file_open,
	.close = file_close,
	.copy_in = file_copy_in,
	.copy_out = file_copy_out,
	.fence_wait = file_fence_wait,
	.clear = file_clear,
	.folio_free = file_folio_free,
};
