/* SPDX-License-Identifier: MIT */
/*
 * Who frees a folio of a lent device hands it in here. A loan is made inside the gate, on the side of events, and whoever
 * frees a folio has ended the claim of its last page before, inside the gate on the other side. So a folio of which a loan
 * may speak is freed after that loan was counted, and one that was being freed while the loan was made is none of its.
 */
#include <sched.h>
#include <stdio.h>

#include "base/err.h"
#include "device/device.h"

struct withheld {
	struct withheld *next;
	uint64_t offset;
	unsigned order;
};

void device_lend(struct device *d, struct device *ret)
{
	lock_take(&d->loan_lock);
	atomic_fetch_add(&d->nr_loans, 1);
	lock_drop(&d->loan_lock);
	if (ret->lender == d && ret->ctx == d->ctx)
		return; /* others may be reading from it */
	ret->driver = d->driver;
	ret->ctx = d->ctx;
	ret->props = d->props;
	ret->index = d->index;
	snprintf(ret->spec, sizeof(ret->spec), "%s", d->spec);
	ret->lender = d;
}

void device_keep(struct device *d)
{
	lock_take(&d->loan_lock);
	atomic_fetch_add(&d->nr_keeps, 1);
	lock_drop(&d->loan_lock);
	/* a folio that an entry names from here on is freed by somebody who has changed the entry since, and sees the counter */
	atomic_thread_fence(memory_order_seq_cst);
}

static bool withholds(struct device *d)
{
	return device_is_lent(d) || atomic_load(&d->nr_keeps);
}

bool device_withhold(struct device *d, uint64_t offset, unsigned order)
{
	struct withheld *w;
	bool kept;

	if (d->lender)
		return true;
	if (likely(!withholds(d)))
		return false;
	while (!(w = meta_alloc(&d->withheld_nodes)))
		sched_yield(); /* some bytes, without which a child could read a stranger's */
	w->offset = offset;
	w->order = order;
	lock_take(&d->loan_lock);
	kept = withholds(d);
	if (kept) {
		w->next = d->withheld;
		d->withheld = w;
	}
	lock_drop(&d->loan_lock);
	if (!kept)
		meta_free(&d->withheld_nodes, w);
	return kept;
}

/* One of @count has ended. */
static void end_one(struct device *d, _Atomic unsigned *count)
{
	struct withheld *list = NULL;

	lock_take(&d->loan_lock);
	atomic_fetch_sub(count, 1);
	if (!withholds(d)) {
		list = d->withheld;
		d->withheld = NULL;
	}
	lock_drop(&d->loan_lock);
	while (list) {
		struct withheld *next = list->next;
		uint64_t offset = list->offset;
		unsigned order = list->order;

		meta_free(&d->withheld_nodes, list);
		device_free(d, offset, order);
		list = next;
	}
}

void device_loan_end(struct device *d)
{
	end_one(d, &d->nr_loans);
}

void device_keep_end(struct device *d)
{
	end_one(d, &d->nr_keeps);
}
