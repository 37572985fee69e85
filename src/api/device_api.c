/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "base/log.h"

int check_device(const char *call, const struct uhmm_space *space, const struct uhmm_device *dev)
{
	uintptr_t at = (uintptr_t)dev - (uintptr_t)space->device; /* huge, when it lies before */

	if (at < sizeof(space->device) && at % sizeof(*dev) == 0 && dev->space == space)
		return 0;
	log_say(UHMM_LOG_ERROR, "%s(): the device is not an open device of this space", call);
	return -ENODEV;
}

struct uhmm_device *device_handle(struct uhmm_space *space, unsigned index)
{
	struct uhmm_device *dev = &space->device[index];

	return migrator_device(&space->migrator, index) ? dev : NULL;
}

static unsigned free_index_locked(struct uhmm_space *space)
{
	for (unsigned i = 1; i < MAX_DEVICES; i++)
		if (!migrator_device(&space->migrator, i))
			return i;
	return 0;
}

int device_open_locked(struct uhmm_space *space, const char *spec, struct uhmm_device **ret_dev)
{
	unsigned index = free_index_locked(space);
	struct uhmm_device *dev = &space->device[index];
	char why[300] = "";
	int r;

	if (!index) {
		log_say(UHMM_LOG_ERROR, "uhmm_device_open(): 255 devices are open already");
		return -ENOSPC;
	}
	memset(dev, 0, sizeof(*dev));
	r = device_open(&dev->dev, spec, index, why, sizeof(why));
	if (r) {
		log_say(UHMM_LOG_ERROR, "device \"%.60s\" cannot be opened: %s", spec, why);
		return r;
	}
	/* what has left since a policy was first started may be away still, when there is none any more */
	if (dev->dev.props.caps & UHMM_CAP_HEAP && space->policy) {
		device_close(&dev->dev);
		log_say(UHMM_LOG_ERROR, "device \"%.60s\" cannot be opened: it keeps what it needs in memory that the policy of this space "
					"looks after, or did", spec);
		return -EBUSY;
	}
	dev->space = space;
	atomic_store_explicit(&space->migrator.devices[index], &dev->dev, memory_order_release);
	*ret_dev = dev;
	return 0;
}

int uhmm_device_open(struct uhmm_space *space, const char *spec, struct uhmm_device **ret_dev)
{
	int r;

	if (!space || !spec || !ret_dev)
		return bad_argument("uhmm_device_open", "space, spec and the place for the device must not be NULL");
	r = check_process("uhmm_device_open", space);
	if (r)
		return r;
	lock_take(&space->lock);
	r = device_open_locked(space, spec, ret_dev);
	lock_drop(&space->lock);
	return r;
}

/* What is in flight to it ends up there or at home; so it is emptied until nothing is allocated, or a round brings back nothing. */
int device_empty(struct uhmm_space *space, struct device *dev)
{
	_Atomic uint64_t *loose = &space->manuals.loose.bytes[dev->index];
	struct tally t;

	for (;;) {
		uint64_t before;

		if (atomic_load(&space->manuals.nr_on[dev->index]))
			return -EBUSY; /* a migration by hand, or work, has some in its hands, perhaps this very thread's */
		children_await(&space->faults.children); /* what is lent to them is not freed */
		before = buddy_used_bytes(&dev->buddy);
		if (before <= atomic_load(loose))
			break;

		jobs_run(&space->jobs, JOB_TO_SYSTEM, 0, UINT64_C(1) << TABLE_ADDRESS_BITS, dev, false, &t);
		if (t.error && buddy_used_bytes(&dev->buddy) >= before)
			return t.error;
	}
	return 0;
}

/* What the device has alone goes home too. */
static int close_companion(struct uhmm_space *space, struct uhmm_device *dev)
{
	unsigned index = atomic_load(&space->mirror.companion[dev->dev.index]);

	return index ? uhmm_device_close(&space->device[index]) : 0;
}

int uhmm_device_close(struct uhmm_device *dev)
{
	struct uhmm_space *space;
	int r;

	if (!dev)
		return 0;
	space = space_current();
	r = check_process("uhmm_device_close", space);
	if (!r)
		r = check_device("uhmm_device_close", space, dev);
	if (r)
		return r;
	if (atomic_load(&space->manuals.nr_on[dev->dev.index]) || atomic_load(&space->manuals.loose.bytes[dev->dev.index])) {
		log_say(UHMM_LOG_ERROR, "device %s stays open: a migration has not been finalized, a work not released, or a folio not been freed",
			dev->dev.spec);
		return -EBUSY;
	}
	r = close_companion(space, dev);
	if (r)
		return r;
	atomic_store(&dev->dev.closing, 1); /* from now on it takes nothing */
	jobs_wait_detached(&space->jobs, &dev->dev);
	r = device_empty(space, &dev->dev);
	if (r) {
		log_say(UHMM_LOG_ERROR, "device %s keeps %llu bytes that could not be brought home (%s); it stays open",
			dev->dev.spec, (unsigned long long)buddy_used_bytes(&dev->dev.buddy), strerrordesc_np(-r));
		atomic_store(&dev->dev.closing, 0);
		return r;
	}
	lock_take(&space->lock);
	atomic_store_explicit(&space->migrator.devices[dev->dev.index], NULL, memory_order_release);
	gate_await_events(&space->sp.gate); /* a child that is being born may borrow it, */
	children_await(&space->faults.children);
	children_forget_device(&space->faults.children, dev->dev.index);
	lock_take(&space->sames_lock);
	same_forget_device(&space->sames, &dev->dev);
	lock_drop(&space->sames_lock);
	device_close(&dev->dev);
	mirror_forget(&space->mirror, dev->dev.index);
	if (dev->companion_of)
		atomic_store(&space->mirror.companion[dev->companion_of->dev.index], 0);
	dev->space = NULL;
	lock_drop(&space->lock);
	return 0;
}

int uhmm_device_query(struct uhmm_device *dev, struct uhmm_device_info *ret)
{
	struct uhmm_space *space = space_current();
	struct uhmm_device_info info = { .sz = 0 };
	struct device *d;
	int r;

	if (!dev || !ret || ret->sz < sizeof(size_t))
		return bad_argument("uhmm_device_query", "device and result must not be NULL, and the result's sz must be set");
	r = check_process("uhmm_device_query", space);
	if (!r)
		r = check_device("uhmm_device_query", space, dev);
	if (r)
		return r;
	d = &dev->dev;
	info.sz = ret->sz;
	snprintf(info.spec, sizeof(info.spec), "%s", d->spec);
	info.size_bytes = d->props.size_bytes;
	info.orders = d->props.orders;
	info.caps = d->props.caps;
	info.used_bytes = buddy_used_bytes(&d->buddy);
	for (unsigned k = 0; k < NR_ORDERS; k++)
		info.folios[k] = counter_get(&d->buddy.nr_folios[k]);
	info.metadata_bytes = buddy_metadata_bytes(&d->buddy);
	info.open_ns = d->open_ns;
	info.host_bytes = device_host_bytes(d);
	memcpy(ret, &info, ret->sz < sizeof(info) ? ret->sz : sizeof(info));
	return 0;
}
