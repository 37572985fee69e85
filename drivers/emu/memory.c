/* SPDX-License-Identifier: MIT */
/* emu's memory: one hidden mapping of the whole size, which costs what is used of it. It keeps what it has touched until
 * the device is closed, as a card does. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "drivers/emu/emu.h"

int emu_memory_open(struct emu *e, char *ret_why, size_t why_bytes)
{
	e->memory = uhmm_host_alloc(e->size);
	if (!e->memory)
		return err_why(ret_why, why_bytes, -ENOMEM, "there is no address space for %llu bytes",
			       (unsigned long long)e->size);
	if (e->populate)
		memset(e->memory, 0, e->size);
	return 0;
}

void emu_memory_close(struct emu *e)
{
	uhmm_host_free(e->memory, e->size);
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

	memset(e->memory + offset, 0, bytes);
	return 0;
}
