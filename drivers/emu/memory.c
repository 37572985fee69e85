/* SPDX-License-Identifier: MIT */
/* emu's memory: one hidden mapping of the whole size, which costs what is used of it. It keeps what it has touched until
 * the device is closed, as a card does. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "base/pages.h"
#include "drivers/emu/emu.h"

/* The device itself, the segments of its queue, and a byte for each 2 MiB. */
static uint64_t segs_bytes(void) { return EMU_QUEUE * EMU_SEGS * sizeof(struct uhmm_seg); }
static uint64_t context_bytes(uint64_t size)
{
	return block_up(sizeof(struct emu) + segs_bytes() + (size >> BLOCK_SHIFT));
}

int emu_memory_open(struct emu **e, char *ret_why, size_t why_bytes)
{
	uint64_t size = (*e)->size;
	struct emu *dev = uhmm_host_reserve(context_bytes(size));
	char *memory = uhmm_host_alloc(size);

	if (!memory || !dev) {
		uhmm_host_free(memory, size);
		uhmm_host_free(dev, context_bytes(size));
		return err_why(ret_why, why_bytes, -ENOMEM, "there is no address space for %llu bytes", (unsigned long long)size);
	}
	memcpy(dev, *e, sizeof(*dev));
	dev->memory = memory;
	dev->seg_memory = (struct uhmm_seg *)(void *)(dev + 1);
	dev->touched = (_Atomic uint8_t *)dev->seg_memory + segs_bytes();
	if (dev->populate) {
		memset(memory, 0, size);
		emu_touch(dev, 0, size);
	}
	*e = dev;
	return 0;
}

void emu_memory_close(struct emu *e)
{
	uhmm_host_free(e->memory, e->size);
	uhmm_host_free(e, context_bytes(e->size));
}

void emu_touch(struct emu *e, uint64_t offset, uint64_t bytes)
{
	for (uint64_t i = offset >> BLOCK_SHIFT; i << BLOCK_SHIFT < offset + bytes; i++)
		if (!atomic_load_explicit(&e->touched[i], memory_order_relaxed) && !atomic_exchange(&e->touched[i], 1))
			atomic_fetch_add_explicit(&e->touched_bytes, BLOCK_BYTES, memory_order_relaxed);
}

/* Its kernels are threads of the process. */
uint64_t emu_address(void *ctx, uint64_t offset)
{
	struct emu *e = ctx;

	return (uintptr_t)e->memory + offset;
}

uint64_t emu_host_bytes(void *ctx)
{
	struct emu *e = ctx;

	return atomic_load_explicit(&e->touched_bytes, memory_order_relaxed);
}

bool emu_take_failure(_Atomic int64_t *left)
{
	int64_t n = atomic_load_explicit(left, memory_order_relaxed);

	while (n > 0)
		if (atomic_compare_exchange_weak(left, &n, n - 1))
			return true;
	return false;
}

int emu_folio_alloc(void *ctx, uint64_t offset, unsigned order)
{
	struct emu *e = ctx;

	(void)offset;
	return order > 0 && emu_take_failure(&e->alloc_failures) ? -ENOMEM : 0;
}

int emu_clear(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct emu *e = ctx;

	emu_touch(e, offset, bytes);
	uhmm_clear_away(e->memory + offset, bytes);
	return 0;
}
