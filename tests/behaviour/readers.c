/* SPDX-License-Identifier: MIT */
/*
 * The threads that read messages, all on one CPU: who need not be woken is not, and whoever is needed comes, though he dozed
 * (src/fault/doze.h). A device of the test's own holds readers up for as long as it likes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "rig.h"
#include "uhmm/driver.h"

#define SEED    23
#define BYTES   (8 * MIB)
#define READERS 2

/* ---- a device that gives bytes back when it is allowed to ---- */

static int allowed[2]; /* a pipe: one byte for each copy */
static _Atomic unsigned held;

static int held_open(const char *options, struct uhmm_driver_props *ret_props, void **ret_ctx, char *ret_why, size_t why_bytes)
{
	(void)options, (void)ret_why, (void)why_bytes;
	ret_props->size_bytes = 4 * BLOCK;
	*ret_ctx = uhmm_host_alloc(4 * BLOCK);
	return *ret_ctx ? 0 : -ENOMEM;
}

static void held_close(void *ctx) { uhmm_host_free(ctx, 4 * BLOCK); }

static int held_in(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	(void)ret_fence;
	for (unsigned i = 0; i < nr; i++)
		memcpy((char *)ctx + segs[i].offset, segs[i].host, segs[i].bytes);
	return 0;
}

static int held_out(void *ctx, const struct uhmm_seg *segs, unsigned nr, uint64_t *ret_fence)
{
	char byte;

	(void)ret_fence;
	atomic_fetch_add(&held, 1);
	if (read(allowed[0], &byte, 1) != 1)
		return -EIO;
	for (unsigned i = 0; i < nr; i++)
		memcpy(segs[i].host, (char *)ctx + segs[i].offset, segs[i].bytes);
	return 0;
}

static const struct uhmm_driver held_driver = {
	.sz = sizeof(struct uhmm_driver), .name = "held", .summary = "for a test", .open = held_open, .close = held_close,
	.copy_in = held_in, .copy_out = held_out,
};

/* ---- who is woken ---- */

/* How often the thread of that name has begun to wait. */
static uint64_t waits_of(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	uint64_t waits = 0;

	assert_non_null(tasks);
	while ((task = readdir(tasks))) {
		char path[300], line[200];
		unsigned long n;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(line, sizeof(line), f) && strstr(line, name))
			while (fgets(line, sizeof(line), f))
				if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1)
					waits += n;
		fclose(f);
	}
	closedir(tasks);
	return waits;
}

static char *mem;

/* Touches so many pages one after another that whoever is not needed dozes. */
static void touch_all(void)
{
	assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, 0, NULL), 0);
	for (size_t at = 0; at < BYTES; at += PAGE)
		assert_int_equal(check_pattern_at(mem + at, 8, SEED, at), -1);
}

static uint64_t waits_while_touched(void)
{
	uint64_t before = waits_of("uhmm-pump");

	touch_all();
	return waits_of("uhmm-pump") - before;
}

/* Where others want the CPU too, who is about to read may be without it for so long that the pump is needed: not every time. */
static void who_is_not_needed_is_not_woken(void **state)
{
	(void)state;
	touch_all();
	eventually(waits_while_touched() <= PAGES(BYTES) / 8);
}

struct toucher {
	pthread_t thread;
	char *at;
	bool right;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	t->right = check_pattern(t->at, PAGE, SEED) == -1;
	return NULL;
}

/* So many readers wait for the device: the toucher of each block is in @ret. */
static void hold_up(struct uhmm_device *d, char *block, unsigned nr, struct toucher *ret)
{
	unsigned before = atomic_load(&held);

	fill_pattern(block, BLOCK, SEED);
	fill_pattern(block + BLOCK, BLOCK, SEED);
	assert_int_equal(uhmm_to_device(space, block, 2 * BLOCK, d, 0, NULL), 0);
	touch_all();
	for (unsigned i = 0; i < nr; i++) {
		ret[i].at = block + i * BLOCK;
		assert_int_equal(pthread_create(&ret[i].thread, NULL, touch, &ret[i]), 0);
	}
	eventually(atomic_load(&held) == before + nr);
}

static void let_go(unsigned nr, struct toucher *t)
{
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(write(allowed[1], "", 1), 1);
	for (unsigned i = 0; i < nr; i++) {
		pthread_join(t[i].thread, NULL);
		assert_true(t[i].right);
	}
}

static void empty_pipe(void)
{
	char bytes[64];

	assert_int_equal(fcntl(allowed[0], F_SETFL, O_NONBLOCK), 0);
	while (read(allowed[0], bytes, sizeof(bytes)) > 0)
		;
	assert_int_equal(fcntl(allowed[0], F_SETFL, 0), 0);
}

static void a_touch_is_served_when_the_one_who_is_awake_is_held_up(void **state)
{
	struct uhmm_device *d = open_device("held:");
	char *block = map_anon(2 * BLOCK, true, true);
	struct toucher t[1];

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		hold_up(d, block, 1, t);
		touch_all(); /* by the other one */
		let_go(1, t);
		assert_pattern(block, BLOCK, SEED);
		assert_pattern(block + BLOCK, BLOCK, SEED);
		empty_pipe();
	}
	unmap_anon(block, 2 * BLOCK);
	assert_int_equal(uhmm_device_close(d), 0);
}

static void memory_is_unmapped_when_all_readers_are_held_up(void **state)
{
	struct uhmm_device *d = open_device("held:");
	char *block = map_anon(2 * BLOCK, true, true), *more;
	struct toucher t[READERS];

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		more = map_anon(BLOCK, true, true);
		fill_pattern(more, BLOCK, SEED);
		assert_int_equal(uhmm_to_device(space, more, BLOCK, dev, 0, NULL), 0);
		hold_up(d, block, READERS, t);
		unmap_anon(more, BLOCK); /* its event has been read, by the pump */
		eventually(info(dev).used_bytes == 0);
		let_go(READERS, t);
		assert_pattern(block, BLOCK, SEED);
		assert_pattern(block + BLOCK, BLOCK, SEED);
		empty_pipe();
	}
	unmap_anon(block, 2 * BLOCK);
	assert_int_equal(uhmm_device_close(d), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_not_needed_is_not_woken),
		cmocka_unit_test(a_touch_is_served_when_the_one_who_is_awake_is_held_up),
		cmocka_unit_test(memory_is_unmapped_when_all_readers_are_held_up),
	};
	UHMM_OPTS(uhmm_space_opts, opts, .fault_threads = READERS);
	cpu_set_t one;
	int r;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	if (sched_setaffinity(0, sizeof(one), &one) || pipe(allowed))
		return 1;
	signal(SIGALRM, too_long);
	alarm(110);
	space = open_space_or_skip(&opts);
	if (uhmm_device_open(space, "emu:size=64M", &dev) || uhmm_driver_add(&held_driver))
		return 1;
	mem = map_anon(BYTES, true, false);
	fill_pattern(mem, BYTES, SEED);
	r = cmocka_run_group_tests_name("readers", tests, NULL, NULL);
	unmap_anon(mem, BYTES);
	return rig_close(r);
}
