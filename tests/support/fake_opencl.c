/* SPDX-License-Identifier: MIT */
/* See fake_opencl.h. A command is done when it is begun. */
#include "fake_opencl.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/opencl/cl.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT extern struct fake_opencl fake_opencl;
struct fake_opencl fake_opencl = { .nr_platforms = 2 };

struct cl_platform {
	const char *name;
	unsigned first, nr;
};

struct cl_device {
	const char *name;
	uint64_t type;
	uint32_t unified;
};

struct cl_mem {
	size_t bytes;
	char data[];
};

struct cl_event {
	int32_t status;
};

static struct cl_device devices[] = { { "fake cpu", 2, 1 }, { "fake small cpu", 2, 1 }, { "fake gpu", 4, 0 } };
static struct cl_platform platforms[] = { { "Fake One", 0, 1 }, { "Fake Two", 1, 2 } };

static void *made(size_t bytes)
{
	atomic_fetch_add(&fake_opencl.live, 1);
	return calloc(1, bytes);
}

static int32_t gone(void *p)
{
	atomic_fetch_sub(&fake_opencl.live, 1);
	free(p);
	return CL_SUCCESS;
}

static int32_t tell(const void *what, size_t size, size_t room, void *ret)
{
	if (room < size)
		return -30;
	memcpy(ret, what, size);
	return CL_SUCCESS;
}

static int32_t tell_u32(uint32_t v, size_t room, void *ret) { return tell(&v, sizeof(v), room, ret); }
static int32_t tell_u64(uint64_t v, size_t room, void *ret) { return tell(&v, sizeof(v), room, ret); }
static int32_t tell_text(const char *text, size_t room, void *ret) { return tell(text, strlen(text) + 1, room, ret); }

/* The functions, with the standard's own names. */
#define CL_DECLARE(result, name, there, arguments) EXPORT result fake_##name arguments __asm__(there);
CL_FUNCTIONS(CL_DECLARE)

int32_t fake_get_platforms(uint32_t max, struct cl_platform **ret, uint32_t *ret_nr)
{
	for (uint32_t i = 0; i < fake_opencl.nr_platforms && i < max; i++)
		ret[i] = &platforms[i];
	*ret_nr = fake_opencl.nr_platforms;
	return *ret_nr ? CL_SUCCESS : CL_PLATFORM_NOT_FOUND_KHR;
}

int32_t fake_platform_info(struct cl_platform *p, uint32_t what, size_t bytes, void *ret, size_t *ret_bytes)
{
	(void)ret_bytes;
	return what == CL_PLATFORM_NAME ? tell_text(p->name, bytes, ret) : -30;
}

int32_t fake_get_devices(struct cl_platform *p, uint64_t type, uint32_t max, struct cl_device **ret, uint32_t *ret_nr)
{
	(void)type;
	if (fake_opencl.no_devices)
		return CL_DEVICE_NOT_FOUND;
	for (unsigned i = 0; i < p->nr && i < max; i++)
		ret[i] = &devices[p->first + i];
	*ret_nr = p->nr;
	return CL_SUCCESS;
}

int32_t fake_device_info(struct cl_device *d, uint32_t what, size_t bytes, void *ret, size_t *ret_bytes)
{
	(void)ret_bytes;
	switch (what) {
	case CL_DEVICE_NAME:
		return tell_text(d->name, bytes, ret);
	case CL_DEVICE_TYPE:
		return tell_u64(d->type, bytes, ret);
	case CL_DEVICE_GLOBAL_MEM_SIZE:
		return tell_u64(UINT64_C(512) << 20, bytes, ret);
	case CL_DEVICE_MAX_MEM_ALLOC_SIZE:
		return tell_u64(UINT64_C(128) << 20, bytes, ret);
	case CL_DEVICE_AVAILABLE:
		return tell_u32(!fake_opencl.unavailable, bytes, ret);
	case CL_DEVICE_HOST_UNIFIED_MEMORY:
		return tell_u32(d->unified, bytes, ret);
	case CL_DEVICE_VERSION:
		return tell_text(fake_opencl.version ? fake_opencl.version : "OpenCL 1.2 fake", bytes, ret);
	default:
		return -30;
	}
}

struct cl_context *fake_create_context(const intptr_t *properties, uint32_t nr, struct cl_device *const *list,
				       void (*notify)(const char *, const void *, size_t, void *), void *ctx, int32_t *ret)
{
	(void)properties, (void)nr, (void)list, (void)notify, (void)ctx;
	*ret = atomic_exchange(&fake_opencl.create_context, 0);
	return *ret ? NULL : made(1);
}

int32_t fake_release_context(struct cl_context *c) { return gone(c); }

struct cl_queue *fake_create_queue(struct cl_context *c, struct cl_device *d, uint64_t properties, int32_t *ret)
{
	(void)c, (void)d, (void)properties;
	*ret = CL_SUCCESS;
	return made(1);
}

int32_t fake_release_queue(struct cl_queue *q) { return gone(q); }

struct cl_mem *fake_create_buffer(struct cl_context *c, uint64_t flags, size_t bytes, void *host, int32_t *ret)
{
	struct cl_mem *m;

	(void)c, (void)flags, (void)host;
	*ret = atomic_exchange(&fake_opencl.create_buffer, 0);
	if (*ret)
		return NULL;
	m = made(sizeof(*m) + bytes);
	m->bytes = bytes;
	return m;
}

int32_t fake_release_mem(struct cl_mem *m) { return gone(m); }

/* Return: whether the bytes may be touched; *ret_r is the call's answer. */
static bool begin(struct cl_mem *m, size_t offset, size_t bytes, struct cl_event **ret, int32_t *ret_r)
{
	*ret_r = atomic_exchange(&fake_opencl.enqueue, 0);
	if (!*ret_r && (offset > m->bytes || bytes > m->bytes - offset))
		*ret_r = -30;
	if (*ret_r)
		return false;
	atomic_fetch_add(&fake_opencl.commands, 1);
	*ret = made(sizeof(**ret));
	(*ret)->status = atomic_exchange(&fake_opencl.status, 0);
	return !(*ret)->status;
}

int32_t fake_enqueue_write(struct cl_queue *q, struct cl_mem *m, uint32_t blocking, size_t offset, size_t bytes, const void *host,
			   uint32_t nr_wait, struct cl_event *const *wait, struct cl_event **ret)
{
	int32_t r;

	(void)q, (void)blocking, (void)nr_wait, (void)wait;
	if (begin(m, offset, bytes, ret, &r))
		memcpy(m->data + offset, host, bytes);
	return r;
}

int32_t fake_enqueue_read(struct cl_queue *q, struct cl_mem *m, uint32_t blocking, size_t offset, size_t bytes, void *host,
			  uint32_t nr_wait, struct cl_event *const *wait, struct cl_event **ret)
{
	int32_t r;

	(void)q, (void)blocking, (void)nr_wait, (void)wait;
	if (begin(m, offset, bytes, ret, &r))
		memcpy(host, m->data + offset, bytes);
	return r;
}

int32_t fake_enqueue_fill(struct cl_queue *q, struct cl_mem *m, const void *pattern, size_t pattern_bytes, size_t offset,
			  size_t bytes, uint32_t nr_wait, struct cl_event *const *wait, struct cl_event **ret)
{
	int32_t r;

	(void)q, (void)nr_wait, (void)wait;
	if (begin(m, offset, bytes, ret, &r))
		for (size_t at = 0; at < bytes; at += pattern_bytes)
			memcpy(m->data + offset + at, pattern, pattern_bytes);
	return r;
}

int32_t fake_enqueue_migrate(struct cl_queue *q, uint32_t nr, struct cl_mem *const *mems, uint64_t flags, uint32_t nr_wait,
			     struct cl_event *const *wait, struct cl_event **ret)
{
	int32_t r;

	(void)q, (void)nr, (void)flags, (void)nr_wait, (void)wait;
	(void)begin(mems[0], 0, 0, ret, &r);
	if (!r)
		(*ret)->status = atomic_exchange(&fake_opencl.migrate, 0);
	return r;
}

int32_t fake_flush(struct cl_queue *q)
{
	(void)q;
	return CL_SUCCESS;
}

int32_t fake_wait_for_events(uint32_t nr, struct cl_event *const *events)
{
	for (uint32_t i = 0; i < nr; i++)
		if (events[i]->status)
			return -14;
	return CL_SUCCESS;
}

int32_t fake_event_info(struct cl_event *e, uint32_t what, size_t bytes, void *ret, size_t *ret_bytes)
{
	(void)ret_bytes;
	return what == CL_EVENT_COMMAND_EXECUTION_STATUS ? tell(&e->status, sizeof(e->status), bytes, ret) : -30;
}

int32_t fake_release_event(struct cl_event *e) { return gone(e); }
