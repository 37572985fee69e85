/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "base/err.h"
#include "base/log.h"
#include "os/map.h"

static int bad(const char *why)
{
	return bad_argument("uhmm_policy_start", why);
}

static int read_options(const struct uhmm_policy_opts *opts, struct uhmm_policy_opts *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (size_t i = sizeof(*ret); i < opts->sz; i++)
		if (((const char *)opts)[i]) {
			log_say(UHMM_LOG_ERROR, "uhmm_policy_start(): the options use a field that this version (%s) does not know",
				uhmm_version());
			return -E2BIG;
		}
	memcpy(ret, opts, opts->sz < sizeof(*ret) ? opts->sz : sizeof(*ret));
	if (ret->limit_bytes < UHMM_POLICY_LIMIT_MIN)
		return bad("the limit is below 48 MiB, which uhmm's own threads and buffers need");
	if (ret->limit_bytes > UINT64_C(1) << 50)
		return bad("the limit is above 1 PiB");
	if (!ret->devices || !ret->nr_devices || ret->nr_devices > UHMM_POLICY_DEVICES_MAX)
		return bad("1 to 16 devices are needed");
	if (ret->flags & ~(UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE | UHMM_POLICY_CHILDREN))
		return bad("flags has a bit that is not one of UHMM_POLICY_*");
	return 0;
}

static int start_locked(struct uhmm_space *space, const struct uhmm_policy_opts *o)
{
	struct device *devices[UHMM_POLICY_DEVICES_MAX];
	int r;

	for (unsigned i = 0; i < o->nr_devices; i++) {
		r = check_device("uhmm_policy_start", space, o->devices[i]);
		if (r)
			return r;
		devices[i] = &o->devices[i]->dev;
	}
	/* one that the policy does not use as well: its heap must not be away when its pages are brought home */
	for (unsigned i = 1; i < MAX_DEVICES; i++)
		if (device_handle(space, i) && space->device[i].dev.props.caps & UHMM_CAP_HEAP)
			return bad("a device keeps what it needs in memory that a policy would look after (UHMM_CAP_HEAP)");
	if (!space->policy)
		space->policy = map_own(sizeof(*space->policy), 0);
	if (!space->policy)
		return -ENOMEM;
	if (atomic_load(&space->policy->running)) {
		log_say(UHMM_LOG_ERROR, "uhmm_policy_start(): there is a policy already; stop it first");
		return -EBUSY;
	}
	r = policy_start(space->policy, &space->migrator, &space->jobs, o, devices);
	if (r)
		log_say(UHMM_LOG_ERROR, "uhmm_policy_start(): its thread and what it reads cannot be had: %s", strerrordesc_np(-r));
	return r;
}

/*
 * A child with a policy is watched by its parent and by itself. Where one of them can end the other's watch, it would, and what is away
 * would be zeros: there children are given all at once, and open their spaces after that.
 */
static bool keeps_apart(struct uhmm_space *space)
{
	void *page = map_own(PAGE_BYTES, 0);
	bool apart = page && uffd_keeps_apart(&space->sp.uffd, (uintptr_t)page);

	if (page)
		map_own_free(page, PAGE_BYTES);
	return apart;
}

int uhmm_policy_start(struct uhmm_space *space, const struct uhmm_policy_opts *opts)
{
	struct uhmm_policy_opts o;
	int r;

	if (!space || !opts || opts->sz < sizeof(size_t))
		return bad("space and options must not be NULL, and the options' sz must be set");
	r = check_process("uhmm_policy_start", space);
	if (!r)
		r = read_options(opts, &o);
	if (r)
		return r;
	if (o.flags & UHMM_POLICY_CHILDREN && !keeps_apart(space))
		o.flags &= ~UHMM_POLICY_CHILDREN;
	lock_take(&space->lock);
	r = start_locked(space, &o);
	lock_drop(&space->lock);
	return r;
}

int uhmm_policy_stop(struct uhmm_space *space)
{
	if (!space)
		return bad_argument("uhmm_policy_stop", "there is no space");
	if (check_process("uhmm_policy_stop", space))
		return -EPERM;
	if (space->policy)
		policy_stop(space->policy);
	pace_take_all(); /* nobody makes room for what the parent of this process still has */
	return 0;
}

int uhmm_policy_stats(struct uhmm_space *space, struct uhmm_policy_stats *ret)
{
	if (!space || !ret || ret->sz < sizeof(size_t))
		return bad_argument("uhmm_policy_stats", "space and result must not be NULL, and the result's sz must be set");
	if (check_process("uhmm_policy_stats", space))
		return -EPERM;
	if (!space->policy)
		return -ENOENT;
	policy_stats(space->policy, ret);
	return 0;
}
