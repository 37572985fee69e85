/* SPDX-License-Identifier: MIT */
/*
 * The limit is for all processes of a run together. Each tells what it holds, and reads what the others do, and all divide by the same
 * rule (run_divide.h). So nobody waits for anybody, and a moment later all see the same sum.
 *
 * What a child of fork shares with its parent is in memory once, and cannot leave: the parent tells of it, and the child may hold it
 * besides its share. It becomes less as either side writes to it, and nobody says so: so as long as the parent lives the child's
 * page tables are looked at now and then (smaps_rollup).
 *
 * run_share_round() and what it calls are in the policy's thread: no malloc, no locale, nothing that may have left. So the share lies
 * in a shared mapping.
 */
#include "tools/run_share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tools/run_divide.h"
#include "tools/run_report.h"

#define CHECK_NS 1000000000 /* between looks for processes that have died without a word */
#define TELL_NS  20000000   /* between full reports */
#define LOOK_NS  20000000   /* between looks at what is shared; more where one takes long, or finds nothing new */
#define LOOK_MAX_NS UINT64_C(1000000000)
#define LOOK_SHARE 20       /* so many times as long as it takes, at least */
#define LOOK_CHANGE (UINT64_C(1) << 20) /* is something new */

static struct run_share *self;
static pid_t self_pid;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Private memory: what is resident, less what is a file's or shared. */
static uint64_t private_bytes(int statm)
{
	uint64_t value[3] = { 0 };
	char text[128];
	ssize_t n = pread(statm, text, sizeof(text) - 1, 0);
	const char *at = text;

	text[n > 0 ? n : 0] = '\0';
	for (unsigned i = 0; i < 3; i++, at += *at == ' ')
		for (; *at >= '0' && *at <= '9'; at++)
			value[i] = value[i] * 10 + (uint64_t)(*at - '0');
	return (value[1] - value[2]) * UHMM_PAGE_BYTES;
}

static int open_statm(void)
{
	return open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
}

struct run_share *run_share_make(struct run_file *file, pid_t parent)
{
	struct run_share *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int statm;

	if (s == MAP_FAILED)
		return NULL;
	statm = parent ? open_statm() : -1;
	if (statm >= 0) {
		s->parent = parent;
		s->next_look_ns = now_ns() + LOOK_NS; /* most children have called exec by then */
		atomic_store(&s->shared_bytes, private_bytes(statm));
		close(statm);
	}
	s->file = file;
	s->slot = run_slot_take(file);
	if (!s->slot) {
		munmap(s, sizeof(*s));
		return NULL;
	}
	run_put(&s->slot->began_ns, now_ns());
	run_put(&s->slot->parent, (uint64_t)s->parent);
	self_pid = getpid();
	self = s;
	return s;
}

void run_share_forget(void)
{
	if (!self)
		return;
	munmap(self, sizeof(*self));
	self = NULL;
}

int run_share_watch(struct run_share *s)
{
	s->statm = open_statm();
	return s->statm < 0 ? -1 : 0;
}

/* Of the kernel's figures in kB, the one called @name. */
static uint64_t figure(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) << 10 : 0;
}

/* As much as the kernel says, or @most, which is what it cannot be more than. */
static uint64_t shared_now(uint64_t most)
{
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	uint64_t all, own;
	char text[2048];
	ssize_t n;

	if (fd < 0)
		return most;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	all = figure(text, "Anonymous:");
	own = figure(text, "Private_Clean:") + figure(text, "Private_Dirty:");
	if (n <= 0 || all >= own + most)
		return most;
	return all > own ? all - own : 0;
}

void run_share_look(struct run_share *s)
{
	uint64_t began = now_ns(), before = atomic_load(&s->shared_bytes), now, every;

	if (!before || began < s->next_look_ns)
		return;
	now = getppid() == s->parent ? shared_now(before) : 0;
	atomic_store(&s->shared_bytes, now);
	every = before - now >= LOOK_CHANGE ? LOOK_NS : 2 * s->look_every_ns;
	if (every > LOOK_MAX_NS)
		every = LOOK_MAX_NS;
	s->look_every_ns = every < LOOK_NS ? LOOK_NS : every;
	s->next_look_ns = now_ns() + s->look_every_ns + LOOK_SHARE * (now_ns() - began);
}

/* How much of @held is this process's alone. @ret_shared: the rest. */
static uint64_t own_bytes(struct run_share *s, uint64_t held, uint64_t *ret_shared)
{
	uint64_t shared = atomic_load(&s->shared_bytes);

	*ret_shared = shared < held ? shared : held;
	return held - *ret_shared;
}

uint64_t run_share_tell(struct run_share *s)
{
	uint64_t shared, bytes = own_bytes(s, private_bytes(s->statm), &shared);

	run_put(&s->slot->resident, bytes);
	run_put(&s->slot->shared, shared);
	if (bytes > run_get(&s->slot->resident_max))
		run_put(&s->slot->resident_max, bytes);
	run_put(&s->slot->now_ns, now_ns());
	return bytes;
}

static void tell_policy(struct run_share *s, const struct uhmm_policy_stats *now, uint64_t own)
{
	struct run_slot *slot = s->slot;

	run_put(&slot->resident, own);
	run_put(&slot->shared, now->resident_bytes - own);
	/* what the policy has seen between two of these is known only where nothing was ever the parent's */
	own = s->parent ? own : now->resident_max_bytes;
	if (own > run_get(&slot->resident_max))
		run_put(&slot->resident_max, own);
	run_put(&slot->evicted, now->evicted_bytes);
	run_put(&slot->zero, now->zero_bytes);
	run_put(&slot->onward, now->onward_bytes);
	run_put(&slot->ahead, now->ahead_bytes);
	run_put(&slot->returned, now->returned_bytes);
	run_put(&slot->waits, now->waits);
	run_put(&slot->wait_ns, now->wait_ns);
	run_put(&slot->over, now->over);
	run_put(&slot->stuck, now->stuck);
	run_put(&slot->full, now->full);
	run_put(&slot->laps, now->laps);
	run_put(&slot->busy_device, now->busy_device);
	run_put(&slot->busy_ns, now->busy_ns);
}

static void tell_all(struct run_share *s)
{
	struct uhmm_stats st = { .sz = sizeof(st) };
	struct run_slot *slot = s->slot;
	uint64_t kept = 0;

	if (!uhmm_stats(s->space, &st)) {
		run_put(&slot->came_home, st.fault_bytes + st.to_system_bytes);
		run_put(&slot->faults, st.faults);
		run_put(&slot->fault_ns_p50, st.fault_ns_p50);
		run_put(&slot->fault_ns_p99, st.fault_ns_p99);
		run_put(&slot->fault_ns_max, st.fault_ns_max);
		run_put(&slot->lost, st.fault_lost);
		run_put(&slot->pool, st.pool_bytes);
		run_put(&slot->metadata, st.metadata_bytes);
		kept += st.pool_bytes + st.metadata_bytes;
	}
	for (unsigned i = 0; i < s->nr_devices; i++) {
		struct uhmm_device_info info = { .sz = sizeof(info) };

		if (uhmm_device_query(s->device[i], &info))
			continue;
		run_put(&slot->used[i], info.used_bytes);
		run_put(&slot->size[i], info.size_bytes);
		if (!(s->file->flags & RUN_EMU_APART && strstr(info.spec, "emu:")))
			kept += info.host_bytes;
	}
	run_put(&slot->kept, kept);
	run_put(&slot->now_ns, now_ns());
}

/* Those that have died without a word hold nothing. */
static void check_others(struct run_share *s)
{
	for (unsigned i = 0; i < RUN_SLOTS; i++)
		if (&s->file->slot[i] != s->slot)
			run_slot_clear(&s->file->slot[i]);
}

/* What cannot leave the process in slot @s: what it shares with the child that shares most with it, and what uhmm itself has there. */
static uint64_t pinned(const struct run_file *f, const struct run_slot *s)
{
	uint64_t most = 0, pid = (uint64_t)atomic_load_explicit(&s->pid, memory_order_relaxed);

	for (unsigned i = 0; i < RUN_SLOTS; i++) {
		const struct run_slot *child = &f->slot[i];

		if (run_get(&child->parent) == pid && atomic_load_explicit(&child->pid, memory_order_relaxed) && run_get(&child->shared) > most)
			most = run_get(&child->shared);
	}
	return most + run_get(&s->kept);
}

static uint64_t share_of(struct run_share *s, uint64_t held)
{
	struct run_part part[RUN_SLOTS];
	unsigned nr = 0, mine = 0;

	for (unsigned i = 0; i < RUN_SLOTS; i++) {
		const struct run_slot *slot = &s->file->slot[i];

		/* its own is free already when the process ends, and this thread does not yet */
		if (slot != s->slot && !atomic_load_explicit(&slot->pid, memory_order_relaxed))
			continue;
		part[nr] = (struct run_part){ run_get(&slot->resident), pinned(s->file, slot), run_get(&slot->managed) == 1 };
		if (slot == s->slot) {
			part[nr].held = held;
			part[nr].managed = true;
			mine = nr;
		}
		nr++;
	}
	return run_divide(s->file->limit, part, nr, mine, UHMM_POLICY_LIMIT_MIN);
}

uint64_t run_share_round(void *ctx, const struct uhmm_policy_stats *now)
{
	struct run_share *s = ctx;
	uint64_t t = now_ns(), shared, share, own = own_bytes(s, now->resident_bytes, &shared);

	tell_policy(s, now, own);
	if (t >= s->next_tell_ns) {
		tell_all(s);
		s->next_tell_ns = t + TELL_NS;
	}
	if (t >= s->next_check_ns) {
		check_others(s);
		s->next_check_ns = t + CHECK_NS;
	}
	share = share_of(s, own);
	run_put(&s->slot->limit, share);
	return share + shared;
}

void run_share_end(const char *path)
{
	if (!self || self_pid != getpid() || atomic_load(&self->slot->pid) != getpid())
		return;
	if (atomic_load(&self->slot->managed) == 1)
		tell_all(self);
	run_report_end(self->file, self->slot);
	if (run_slot_drop(self->file, self->slot) && path)
		unlink(path);
}
