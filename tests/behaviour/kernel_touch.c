/* SPDX-License-Identifier: MIT */
/* The kernel itself reads and writes memory that is on a device: system calls neither fail nor see other bytes. */
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "rig.h"

#define SEED  61
#define BYTES (2 * BLOCK)

static char *mem; /* before each case: filled, and on the device; every second one of THPs */

static int put_away(void **state)
{
	static unsigned n;

	mem = map_anon(BYTES, true, n++ & 1);
	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	return 0;
}

static int put_down(void **state)
{
	unmap_anon(mem, BYTES);
	eventually(used_bytes() == 0);
	return 0;
}

/* A file without a name, in the build's folder, so that it is on a real file system; else in memory. */
static int scratch_file(int flags)
{
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);

	return fd >= 0 || flags ? fd : memfd_create("scratch", MFD_CLOEXEC);
}

static void write_and_read(void **state)
{
	int fd = scratch_file(0);

	assert_int_equal(write(fd, mem, BYTES), BYTES);
	go(mem, BYTES);
	assert_int_equal(pwrite(fd, mem + 5, BYTES - 5, 5), BYTES - 5);
	memset(mem, 0, BYTES);
	go(mem, BYTES);
	assert_int_equal(pread(fd, mem, BYTES, 0), BYTES);
	assert_pattern(mem, BYTES, SEED);
	close(fd);
}

static void vectors_over_both_ends_of_a_block(void **state)
{
	struct iovec v[] = { { mem + 100, PAGE }, { mem + BLOCK - 10, 20 }, { mem + BYTES - 64, 64 } };
	char got[PAGE + 84];
	int fd = scratch_file(0);

	assert_int_equal(writev(fd, v, 3), sizeof(got));
	assert_int_equal(pread(fd, got, sizeof(got), 0), sizeof(got));
	assert_memory_equal(got, mem + 100, PAGE);
	assert_memory_equal(got + PAGE, mem + BLOCK - 10, 20);
	assert_memory_equal(got + PAGE + 20, mem + BYTES - 64, 64);
	go(mem, BYTES);
	assert_int_equal(preadv(fd, v, 3, 0), sizeof(got));
	assert_pattern(mem, BYTES, SEED);
	close(fd);
}

static void pipes_and_sockets(void **state)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	for (size_t at = 0; at < BYTES; at += 16 * KIB) {
		assert_int_equal(write(ends[1], mem + at, 16 * KIB), 16 * KIB);
		assert_int_equal(read(ends[0], mem + at, 16 * KIB), 16 * KIB);
		if (at % (512 * KIB) == 0)
			(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
	}
	close(ends[0]);
	close(ends[1]);
	assert_pattern(mem, BYTES, SEED);

	go(mem, BYTES);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(send(ends[1], mem + PAGE, PAGE, 0), PAGE);
	assert_int_equal(recv(ends[0], mem + BLOCK + PAGE, PAGE, MSG_WAITALL), PAGE);
	assert_memory_equal(mem + PAGE, mem + BLOCK + PAGE, PAGE);
	close(ends[0]);
	close(ends[1]);
}

static void direct_io(void **state)
{
	int fd = scratch_file(O_DIRECT);

	if (fd < 0)
		skip(); /* this file system has none */
	for (unsigned i = 0; i < 4; i++) {
		fill_pattern(mem, BYTES, SEED + i);
		go(mem, BYTES);
		if (pwrite(fd, mem, BYTES, 0) != BYTES)
			skip();
		memset(mem, 0, BYTES);
		go(mem, BYTES);
		assert_int_equal(pread(fd, mem, BYTES, 0), BYTES);
		assert_pattern(mem, BYTES, SEED + i);
	}
	close(fd);
}

static long futex(void *word, int op, uint32_t value)
{
	return syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static void *wait_on(void *arg)
{
	while (*(_Atomic uint32_t *)arg == 0)
		(void)futex(arg, FUTEX_WAIT_PRIVATE, 0);
	return NULL;
}

static void futexes(void **state)
{
	_Atomic uint32_t *word = (_Atomic uint32_t *)(mem + 12 * PAGE);
	pthread_t waiter;

	assert_int_equal(futex(mem + BLOCK, FUTEX_WAIT_PRIVATE, *(uint32_t *)mem ^ 1), -1); /* it is not that */
	assert_int_equal(errno, EAGAIN);

	/* whether it sleeps already or not when the page goes, it is woken */
	for (unsigned i = 0; i < 50; i++) {
		*word = 0;
		assert_int_equal(pthread_create(&waiter, NULL, wait_on, (void *)word), 0);
		(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
		*word = 1;
		(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
		(void)futex((void *)word, FUTEX_WAKE_PRIVATE, 1);
		pthread_join(waiter, NULL);
	}
}

static void a_mutex_and_a_condition(void **state)
{
	struct shared {
		pthread_mutex_t lock;
		pthread_cond_t changed;
	} *s = (struct shared *)(mem + BLOCK + 77 * PAGE);
	struct timespec soon = { 0, 1000000 };

	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	for (unsigned i = 0; i < 10; i++) {
		(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
		pthread_mutex_lock(&s->lock);
		(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
		assert_int_equal(pthread_cond_timedwait(&s->changed, &s->lock, &soon), ETIMEDOUT); /* long ago */
		(void)uhmm_to_device(space, mem, BYTES, dev, 0, NULL);
		pthread_mutex_unlock(&s->lock);
	}
}

static void another_process_reads_it(void **state)
{
	pid_t parent = getpid(), child;
	int ends[2], status;
	char c;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (!child) {
		struct iovec here = { malloc(BYTES), BYTES }, there = { mem, BYTES };

		alarm(60);
		if (read(ends[0], &c, 1) != 1)
			_exit(1);
		if (process_vm_readv(parent, &here, 1, &there, 1, 0) != (ssize_t)BYTES)
			_exit(errno == EPERM || errno == ENOSYS ? 77 : 2);
		_exit(check_pattern(here.iov_base, BYTES, SEED + 1) >= 0 ? 3 : 0);
	}
	fill_pattern(mem, BYTES, SEED + 1); /* not what it has inherited */
	go(mem, BYTES);
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	close(ends[0]);
	close(ends[1]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

static void structures_of_system_calls(void **state)
{
	struct stat *st = (struct stat *)(mem + PAGE - 16), plain; /* over a page's end */
	struct pollfd *pfd = (struct pollfd *)(mem + BLOCK);
	struct timespec *ts = (struct timespec *)(mem + 99 * PAGE);
	char *path = mem + BYTES - 2;

	assert_int_equal(stat("/", &plain), 0);
	assert_int_equal(stat("/", st), 0);
	assert_int_equal(st->st_ino, plain.st_ino);
	memcpy(path, "/", 2);
	pfd->fd = -1;
	ts->tv_sec = ts->tv_nsec = 0;
	go(mem, BYTES);
	assert_int_equal(stat(path, st), 0);
	assert_int_equal(st->st_ino, plain.st_ino);
	assert_int_equal(poll(pfd, 1, 0), 0);
	assert_int_equal(nanosleep(ts, NULL), 0);
	go(mem, BYTES);
	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, ts), 0);
	assert_true(ts->tv_sec || ts->tv_nsec);
}

static void populate_and_lock(void **state)
{
	assert_int_equal(madvise(mem, BLOCK, MADV_POPULATE_READ), 0);
	assert_int_equal(madvise(mem + BLOCK, BLOCK, MADV_POPULATE_WRITE), 0);
	eventually(all_home(mem, BYTES));
	assert_pattern(mem, BYTES, SEED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(write_and_read, put_away, put_down),
		cmocka_unit_test_setup_teardown(write_and_read, put_away, put_down), /* of THPs */
		cmocka_unit_test_setup_teardown(vectors_over_both_ends_of_a_block, put_away, put_down),
		cmocka_unit_test_setup_teardown(vectors_over_both_ends_of_a_block, put_away, put_down),
		cmocka_unit_test_setup_teardown(pipes_and_sockets, put_away, put_down),
		cmocka_unit_test_setup_teardown(pipes_and_sockets, put_away, put_down),
		cmocka_unit_test_setup_teardown(direct_io, put_away, put_down),
		cmocka_unit_test_setup_teardown(direct_io, put_away, put_down),
		cmocka_unit_test_setup_teardown(futexes, put_away, put_down),
		cmocka_unit_test_setup_teardown(futexes, put_away, put_down),
		cmocka_unit_test_setup_teardown(a_mutex_and_a_condition, put_away, put_down),
		cmocka_unit_test_setup_teardown(another_process_reads_it, put_away, put_down),
		cmocka_unit_test_setup_teardown(another_process_reads_it, put_away, put_down),
		cmocka_unit_test_setup_teardown(structures_of_system_calls, put_away, put_down),
		cmocka_unit_test_setup_teardown(structures_of_system_calls, put_away, put_down),
		cmocka_unit_test_setup_teardown(populate_and_lock, put_away, put_down),
		cmocka_unit_test_setup_teardown(populate_and_lock, put_away, put_down),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
