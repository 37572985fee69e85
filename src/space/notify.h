/* SPDX-License-Identifier: MIT */
#ifndef SPACE_NOTIFY_H
#define SPACE_NOTIFY_H

/*
 * Interval notifiers: who holds something about a range of the program - where its pages are, or their bytes - is told before
 * that stops being true. It asks for the sequence, looks, asks whether the sequence is still the same, and if so believes what
 * it has seen until it is told.
 *
 *   change   seq + 1, then the callback, then the page goes           notify_changed()
 *   reader   seq, look, seq again; the same: what it saw holds        notify_read_begin(), notify_read_retry()
 *
 * A change is announced when its pages have been claimed, or, for an event, while it is applied inside the gate; so who looks
 * after the announcement and before the end of the change finds MIGRATING, or cannot get into the gate, and waits
 * (mirror/range.c). What the two sides do between any two steps of each other is in docs/locking.md, "Notifiers".
 *
 * A slot is never given back to the system, so that a fault thread may look at one without a lock. All orders are seq_cst: the
 * remover's "dead, then active?" against the caller's "active, then dead?" needs it, and nothing here is hot.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/gate.h"

#define MAX_NOTIFIERS 256

typedef void notify_fn(void *ctx, void *start, void *end); /* as uhmm_notifier_fn */

enum notify_state { NOTIFY_FREE, NOTIFY_FILLING, NOTIFY_LIVE, NOTIFY_DYING };

struct notifier {
	_Atomic uint32_t state;   /* enum notify_state */
	_Atomic uint32_t active;  /* threads that may be in the callback; who removes sleeps on it */
	_Atomic uint64_t seq;     /* changes of the range that were begun */

	/* written while FILLING; read by others while active, LIVE only */
	_Atomic uint64_t start, end;
	_Atomic unsigned owner;   /* a device's index: what it does itself is no news to it; 0 for none */
	notify_fn *call;
	void *ctx;

	_Atomic bool holds_arms;  /* mirror/range.c: mappings are kept watched for it */
};

struct notifiers {
	struct notifier slot[MAX_NOTIFIERS];
	_Atomic unsigned end;     /* slots from here on were never used */
	_Atomic unsigned nr;      /* that are not free */
};

/* Return: NULL when there are MAX_NOTIFIERS. Context: any thread; takes no lock. */
struct notifier *notify_add(struct notifiers *ns, uint64_t start, uint64_t end, unsigned owner, notify_fn *call, void *ctx);

/* Afterwards the callback runs no more. Context: a thread that is not in it, and holds nothing that it waits for. */
void notify_remove(struct notifiers *ns, struct notifier *n);

/* Is it one that was added and not removed? Looks at the address only. */
bool notify_is_live(struct notifiers *ns, const struct notifier *n);

/* [start, end) changes; @owner: the device that takes it, 0 for none. Context: any thread, fault thread, inside the gate or
 * not; no lock held. */
void notify_changed(struct notifiers *ns, uint64_t start, uint64_t end, unsigned owner);

/* Waits while a callback runs. Context: as notify_remove(). */
uint64_t notify_read_begin(struct notifier *n);

/*
 * Has anything of its range changed since? Never waits for a callback, so that it can be asked under a lock that the callback
 * takes; when an event is being applied and that takes longer than a moment, the answer is yes.
 */
bool notify_read_retry(const struct notifier *n, const struct gate *g, uint64_t seq);

#endif
