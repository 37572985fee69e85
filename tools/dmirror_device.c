/* SPDX-License-Identifier: MIT */
/*
 * Each node is a device of the library; each command is a call or two of uhmm/mirror.h, and an answer in the driver's words. A
 * device's allocation can be made to fail, because one of the commands asks for that.
 */
#include "tools/dmirror_device.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "uhmm/driver.h"
#include "uhmm/uhmm.h"

#define FLAG_FAIL_ALLOC 1u

/* a byte of a snapshot */
#define SEEN_ERROR 0xff
#define SEEN_READ  0x01
#define SEEN_WRITE 0x02
#define SEEN_HUGE  0x04
#define SEEN_ZERO  0x10
#define SEEN_LOCAL 0x20

#define PAGE UINT64_C(4096)

/* ---- the devices ---- */

static struct node {
	struct uhmm_device *dev;
	void *ctx;                 /* the driver's */
	_Atomic unsigned failures; /* allocations that shall fail */
} node[DMIRROR_NODES];

static struct uhmm_space *space;

/* The driver under the nodes: emu, of which an allocation can be made to fail. */
static struct uhmm_driver driver;
static const struct uhmm_driver *emu;
static unsigned opening; /* the node whose device is being opened, by one thread at a time */

static int failing_open(const char *options, struct uhmm_driver_props *props, void **ctx, char *why, size_t why_bytes)
{
	int r = emu->open(options, props, ctx, why, why_bytes);

	if (!r)
		node[opening].ctx = *ctx;
	return r;
}

static bool take_failure(const void *ctx)
{
	for (unsigned i = 0; i < DMIRROR_NODES; i++)
		if (node[i].ctx == ctx)
			return atomic_exchange(&node[i].failures, 0);
	return false;
}

static int failing_alloc(void *ctx, uint64_t offset, unsigned order)
{
	if (take_failure(ctx))
		return -ENOMEM;
	return emu->folio_alloc ? emu->folio_alloc(ctx, offset, order) : 0;
}

static int add_driver(void)
{
	const struct uhmm_driver *d;

	for (unsigned n = 0; (d = uhmm_driver_get(n)) && strcmp(d->name, "emu"); n++)
		;
	if (!d)
		return -ENODEV;
	emu = d;
	driver = *emu;
	driver.name = "dmirror";
	driver.summary = "the emu device, of which an allocation can be made to fail";
	driver.open = failing_open;
	driver.folio_alloc = failing_alloc;
	return uhmm_driver_add(&driver);
}

static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)ctx;
	(void)level;
	dprintf(STDERR_FILENO, "uhmm dmirror: %s\n", message);
}

void dmirror_forget(void)
{
	space = NULL;
	for (unsigned i = 0; i < DMIRROR_NODES; i++)
		node[i].dev = NULL;
}

int dmirror_open(unsigned n)
{
	static bool ready;
	int r = 0;

	if (!ready) {
		if (getenv("UHMM_DMIRROR_VERBOSE"))
			uhmm_log_set(hear, NULL, UHMM_LOG_WARN);
		r = add_driver();
		if (r)
			return r;
		ready = true;
	}
	if (!space)
		r = uhmm_open(NULL, &space);
	if (r) {
		dprintf(STDERR_FILENO, "uhmm dmirror: this process cannot be looked after: %s; \"uhmm doctor\" tells more\n",
			uhmm_strerror(r));
		return r;
	}
	opening = n;
	return node[n].dev ? 0 : uhmm_device_open(space, "dmirror:size=4G", &node[n].dev);
}

/* ---- the commands ---- */

struct call {
	struct node *node;
	struct dmirror_command *cmd;
	void *addr, *ptr;
	size_t bytes;
};

static int transfer(struct call *c, bool write, uint32_t flags)
{
	UHMM_OPTS(uhmm_access, done);
	int r;

	if (write)
		r = uhmm_device_write(c->node->dev, c->addr, c->bytes, c->ptr, flags, &done);
	else
		r = uhmm_device_read(c->node->dev, c->addr, c->bytes, c->ptr, flags, &done);
	c->cmd->cpages = done.done_bytes / PAGE;
	c->cmd->faults = done.faults;
	return r;
}

/* Bits that any page of the range has. No heap: a command may write beyond what a careless program has allocated for its result,
 * as the driver would, and programs get away with that until the next malloc(). */
static int look(struct call *c, uint8_t *ret_any)
{
	uint8_t view[512];
	int r = 0;

	*ret_any = 0;
	for (uint64_t at = 0; !r && at < c->cmd->npages; at += sizeof(view)) {
		uint64_t n = c->cmd->npages - at < sizeof(view) ? c->cmd->npages - at : sizeof(view);

		r = uhmm_device_snapshot(c->node->dev, (char *)c->addr + at * PAGE, n * PAGE, view);
		for (uint64_t i = 0; !r && i < n; i++)
			*ret_any |= view[i];
	}
	return r;
}

static int to_device(struct call *c)
{
	uint8_t any;
	int r = look(c, &any);

	if (!r && any & UHMM_VIEW_ERROR)
		return -EINVAL;
	if (!r)
		r = uhmm_to_device(space, c->addr, c->bytes, c->node->dev, UHMM_MOVE_READ_ONLY, NULL);
	/* what stayed is found missing by the device's own look */
	return r < 0 ? r : transfer(c, false, UHMM_ACCESS_RESIDENT);
}

static int to_system(struct call *c)
{
	struct uhmm_result res = { .sz = sizeof(res) };
	int r = uhmm_to_system(space, c->addr, c->bytes, 0, &res);

	/* a huge page counts as one; what is left of a split one, as the pages that Linux would have made of it */
	for (unsigned k = 0; k < UHMM_ORDER_MAX; k++)
		c->cmd->cpages += res.moved_folios[k] << k;
	c->cmd->cpages += res.moved_folios[UHMM_ORDER_MAX];
	return r < 0 ? r : 0;
}

static uint8_t seen(uint8_t view)
{
	uint8_t s = 0;

	if (view & UHMM_VIEW_ERROR)
		return SEEN_ERROR;
	if (!view || view & UHMM_VIEW_ATOMIC)
		return 0;
	if (view & UHMM_VIEW_LOCAL)
		s |= SEEN_LOCAL;
	if (view & UHMM_VIEW_HUGE)
		s |= SEEN_HUGE;
	if (view & UHMM_VIEW_ZERO)
		s |= SEEN_ZERO;
	return s | (view & UHMM_VIEW_WRITE ? SEEN_WRITE : SEEN_READ);
}

static int snapshot(struct call *c)
{
	uint8_t *view = c->ptr;
	int r = uhmm_device_snapshot(c->node->dev, c->addr, c->bytes, view);

	for (uint64_t i = 0; !r && i < c->cmd->npages; i++)
		view[i] = seen(view[i]);
	c->cmd->cpages = c->cmd->npages;
	return r;
}

static int exclusive(struct call *c)
{
	int r = uhmm_device_exclusive(c->node->dev, c->addr, c->bytes);

	return r ? r : transfer(c, false, 0);
}

static int check_exclusive(struct call *c)
{
	uint8_t any;
	int r = look(c, &any);

	return !r && any & UHMM_VIEW_ATOMIC ? -EPERM : r;
}

static int run(struct call *c, unsigned n)
{
	switch (n) {
	case CMD_READ:
	case CMD_READ_UNLOCKED:   return transfer(c, false, 0);
	case CMD_WRITE:           return transfer(c, true, 0);
	case CMD_TO_DEVICE:       return to_device(c);
	case CMD_TO_SYSTEM:       return to_system(c);
	case CMD_SNAPSHOT:        return snapshot(c);
	case CMD_EXCLUSIVE:       return exclusive(c);
	case CMD_CHECK_EXCLUSIVE: return check_exclusive(c);
	case CMD_RELEASE:         return uhmm_device_release(c->node->dev);
	default:                  return -EINVAL;
	}
}

int dmirror_run(unsigned at, pid_t opener, unsigned n, struct dmirror_command *user)
{
	struct dmirror_command cmd;
	struct call c;
	int r;

	if (!user)
		return -EFAULT;
	cmd = *user;
	cmd.cpages = cmd.faults = 0;
	if (n == CMD_FLAGS) {
		atomic_store(&node[at].failures, cmd.npages & FLAG_FAIL_ALLOC);
		return 0;
	}
	if (opener != getpid())
		return -EINVAL; /* the memory that this file is about is another process's */
	c = (struct call){ &node[at], &cmd, (void *)(uintptr_t)cmd.addr, (void *)(uintptr_t)cmd.ptr, cmd.npages * PAGE };
	if (n != CMD_RELEASE && (cmd.addr % PAGE || !cmd.npages || cmd.npages >> 36 || cmd.addr + c.bytes < cmd.addr))
		return -EINVAL;
	r = run(&c, n);
	if (!r)
		*user = cmd;
	return r;
}

void dmirror_evict(unsigned n)
{
	if (node[n].dev)
		(void)uhmm_device_release(node[n].dev);
}
