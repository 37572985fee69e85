/* SPDX-License-Identifier: MIT */
#include "mem/entry.h"

#include "base/err.h"

/* TABLE is entered by a split and left by a collapse or a drop; those keep the meaning and are checked in table.c. */
static const bool legal[NR_ENTRY_STATES][NR_ENTRY_STATES] = {
	[ENTRY_SYSTEM]    = { [ENTRY_SYSTEM] = true, [ENTRY_MIGRATING] = true, [ENTRY_TABLE] = true },
	[ENTRY_MIGRATING] = { [ENTRY_SYSTEM] = true, [ENTRY_DEVICE] = true, [ENTRY_TABLE] = true, [ENTRY_MIGRATING] = true },
	[ENTRY_DEVICE]    = { [ENTRY_SYSTEM] = true, [ENTRY_MIGRATING] = true, [ENTRY_TABLE] = true },
	[ENTRY_TABLE]     = { [ENTRY_SYSTEM] = true },
};

#define KEPT (ENTRY_LOCK | ENTRY_HUGE)

void entry_set(struct entry_slot *s, struct entry to)
{
	uint64_t old = atomic_load_explicit(&s->word, memory_order_relaxed);

	uhmm_assert(legal[entry_state((struct entry){ old })][entry_state(to)]);
	/* release: who sees the state sees the table behind it */
	atomic_store_explicit(&s->word, (old & KEPT) | (to.bits & ~KEPT), memory_order_release);
}

void entry_resize(struct entry_slot *s, unsigned order)
{
	uint64_t old = atomic_load_explicit(&s->word, memory_order_relaxed);

	uhmm_assert(entry_state((struct entry){ old }) == ENTRY_DEVICE);
	atomic_store_explicit(&s->word, (old & ~(UINT64_C(15) << 8)) | (uint64_t)order << 8, memory_order_release);
}

void entry_mark(struct entry_slot *s, uint64_t add, uint64_t del)
{
	uint64_t old = atomic_load_explicit(&s->word, memory_order_relaxed);

	atomic_store_explicit(&s->word, (old & ~del) | add, memory_order_release);
}
