/* SPDX-License-Identifier: MIT */
/*
 * libuhmm-run.so: what `uhmm run` puts in front of a program.
 *
 * Most processes are small and short: a constructor that opened uhmm in each would cost more than they do. So it only starts a thread
 * that looks at the process's size now and then. When that comes near the limit it opens uhmm and the devices, and starts the policy.
 * From then on the library's own threads do everything, and call back here to share out the limit (run_share.c). The thread sleeps
 * for good: if it ended, malloc would hand its arena on to a thread of the program, and what a driver may have in it could leave.
 *
 * A program may close every descriptor it has not opened itself: then the kernel would take userfaultfd's end for the end of all
 * watching, and what is away would read as zeros. So that thread, and with it all that it starts, has a table of descriptors of its
 * own, which the program cannot reach, does not share, and hands on to no child.
 *
 * A child of fork is looked at in the same way. What it shares with its parent cannot leave, so only what it has besides counts, as
 * long as the parent lives; a child that is going to exec soon never comes near the limit. What is away in the parent does not
 * fit into the child: the parent gives as much as there is room for and waits (uhmm_fork_held()), and that opens uhmm, too.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tools/run_calls.h"
#include "tools/run_map.h"
#include "tools/run_share.h"
#include "uhmm/uhmm.h"

#define MIB (UINT64_C(1) << 20)
#define TICK_NS 20000000

static struct run_file *file;
static pid_t self_pid;
static atomic_bool has_late_handler;

/* ---- what is said ---- */

/* What the program has as its standard error now: the threads here have another table of descriptors. */
static int program_stderr(void)
{
	int process = (int)syscall(SYS_pidfd_open, getpid(), 0), fd = -1;

	if (process >= 0) {
		fd = (int)syscall(SYS_pidfd_getfd, process, STDERR_FILENO, 0);
		close(process);
	}
	return fd;
}

static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	char line[600];
	int n = snprintf(line, sizeof(line), "uhmm: %.500s\n", message), before = errno, fd = program_stderr();
	ssize_t written = write(fd >= 0 ? fd : STDERR_FILENO, line, (size_t)n);

	(void)ctx;
	(void)level;
	(void)written;
	if (fd >= 0)
		close(fd);
	errno = before;
}

static void say_why(const char *what, int r)
{
	char sentence[300];

	snprintf(sentence, sizeof(sentence), "%s (%s): process %d is not limited", what, uhmm_strerror(r), (int)getpid());
	hear(NULL, UHMM_LOG_ERROR, sentence);
}

/* ---- starting ---- */

static void add_late_handler(void);

static uint64_t pool_bytes(uint64_t limit)
{
	uint64_t bytes = limit / 16;

	return bytes < 8 * MIB ? 8 * MIB : bytes > 64 * MIB ? 64 * MIB : bytes;
}

/* "%p" in a spec is the process's number: two processes must not write to one file. */
static void expand(const char *spec, char *ret, size_t bytes)
{
	const char *at = strstr(spec, "%p");

	if (at)
		snprintf(ret, bytes, "%.*s%d%s", (int)(at - spec), spec, (int)getpid(), at + 2);
	else
		snprintf(ret, bytes, "%s", spec);
}

static int start(struct run_share *share)
{
	UHMM_OPTS(uhmm_space_opts, space_opts, .pool_bytes = pool_bytes(file->limit),
		  .flags = file->flags & RUN_USER_MODE ? UHMM_SPACE_USER_MODE_ONLY : 0);
	UHMM_OPTS(uhmm_policy_opts, opts, .limit_bytes = file->limit + atomic_load(&share->shared_bytes), .devices = share->device,
		  .round = run_share_round, .round_ctx = share,
		  .flags = UHMM_POLICY_CHILDREN | (file->flags & RUN_EMU_APART ? UHMM_POLICY_EMU_APART : 0) |
			   (file->flags & RUN_NOT_HUGE ? 0 : UHMM_POLICY_HUGE));
	char spec[RUN_SPEC_BYTES + 16];
	int r = uhmm_open(&space_opts, &share->space);

	add_late_handler();
	if (r) {
		say_why("uhmm cannot be opened", r);
		return r;
	}
	for (; !r && share->nr_devices < file->nr_devices; share->nr_devices += !r) {
		expand(file->spec[share->nr_devices], spec, sizeof(spec));
		r = uhmm_device_open(share->space, spec, &share->device[share->nr_devices]);
	}
	opts.nr_devices = share->nr_devices;
	if (!r)
		r = uhmm_policy_start(share->space, &opts);
	if (r) {
		say_why("the policy cannot be started", r);
		uhmm_close(share->space);
		share->space = NULL;
	}
	return r;
}

/* ---- waiting until it is needed ---- */

static bool is_needed(uint64_t resident)
{
	return resident > file->limit / 8;
}

/* There is no policy in this process, nor will there be one. */
static void give_up(struct run_share *share)
{
	uhmm_fork_take_all();
	if (share)
		atomic_store(&share->slot->managed, 2);
}

/* From here on this thread, and those that it starts, share no descriptors with the program. */
static void part_with_descriptors(void)
{
	if (syscall(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE))
		return; /* forbidden (seccomp): then a program must not close what is not its own */
	/* 0 to 2 mean something to those who open a file and to those who speak */
	for (int fd = 0; fd <= STDERR_FILENO;) {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0 || fd == STDERR_FILENO)
			break;
	}
}

/* What takes long, and so is nothing for the policy's thread. */
static void look_after(struct run_share *share)
{
	for (unsigned n = 0;; n++) {
		bool shares = share->space && atomic_load(&share->shared_bytes);
		struct timespec pause = { .tv_sec = !shares, .tv_nsec = shares ? TICK_NS : 0 };

		if (shares)
			run_share_look(share);
		if (share->space && (!shares || n % (1000000000 / TICK_NS) == 0))
			run_map_make(share);
		nanosleep(&pause, NULL);
	}
}

static void *wait_for_growth(void *arg)
{
	struct run_share *share = arg;
	uint64_t resident;

	part_with_descriptors();
	if (run_share_watch(share)) {
		say_why("/proc/self/statm cannot be opened", -errno);
		give_up(share);
		for (;;)
			pause();
	}
	for (;;) {
		struct timespec pause = { .tv_nsec = TICK_NS };

		run_share_look(share);
		resident = run_share_tell(share);
		if (is_needed(resident) || uhmm_fork_held())
			break;
		/* a sixteenth of the limit at 8 GB/s, 1 to 20 ms */
		if (file->limit / 128 < TICK_NS)
			pause.tv_nsec = file->limit / 128 < 1000000 ? 1000000 : (long)(file->limit / 128);
		nanosleep(&pause, NULL);
	}
	if (start(share))
		give_up(share);
	else
		atomic_store(&share->slot->managed, 1);
	look_after(share);
	return NULL;
}

static void watch(pid_t parent)
{
	struct run_share *share = run_share_make(file, parent);
	pthread_t thread;
	sigset_t all, before;
	pthread_attr_t attr;
	int r;

	if (!share) {
		say_why("there are more processes than uhmm run can look after", -ENOSPC);
		give_up(NULL);
		return;
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 << 10);
	/* signals are for the program's own threads */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, &attr, wait_for_growth, share);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (r) {
		say_why("a thread cannot be started", -r);
		give_up(share);
	}
}

static void begin_in_child(void)
{
	pid_t parent = self_pid; /* not getppid(): it may have ended by now */

	self_pid = getpid();
	run_share_forget();
	watch(parent);
}

/* The library's handlers are added by the first uhmm_open(), and must have run before anything here calls it or asks it. */
static void in_child(void)
{
	if (!atomic_load(&has_late_handler))
		begin_in_child();
}

static void in_child_late(void)
{
	if (self_pid != getpid())
		begin_in_child();
}

static void add_late_handler(void)
{
	if (!atomic_load(&has_late_handler) && !pthread_atfork(NULL, NULL, in_child_late))
		atomic_store(&has_late_handler, true);
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv(RUN_ENV);

	if (!path)
		return;
	file = run_file_open(path, true);
	if (!file)
		return;
	self_pid = getpid();
	uhmm_log_set(hear, NULL, file->flags & RUN_VERBOSE ? UHMM_LOG_WARN : UHMM_LOG_ERROR);
	run_calls_advise_huge(!(file->flags & RUN_NOT_HUGE));
	pthread_atfork(NULL, NULL, in_child);
	watch(0);
}

__attribute__((destructor)) static void end(void)
{
	if (file)
		run_share_end(getenv(RUN_ENV));
}
