/* SPDX-License-Identifier: MIT */
/* What file: says to each path, that it shares with nobody and leaves nothing behind, and what it does on a full disk and without
 * io_uring. */
#include "unit.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/err.h"
#include "base/pages.h"
#include "drivers/file/file.h"

extern const struct uhmm_driver uhmm_driver_file;

static const struct uhmm_driver *drv = &uhmm_driver_file;
static char dir[64], path[96], why[1400], said[500];
static char buf[BLOCK_BYTES] __attribute__((aligned(4096))), back[BLOCK_BYTES] __attribute__((aligned(4096)));

static void hear(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)ctx;
	(void)level;
	snprintf(said, sizeof(said), "%s", message);
}

static int open_spec(struct file **ret, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int open_spec(struct file **ret, const char *fmt, ...)
{
	struct uhmm_driver_props props = { .sz = sizeof(props) };
	char options[4200];
	void *ctx = NULL;
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(options, sizeof(options), fmt, ap);
	va_end(ap);
	why[0] = said[0] = '\0';
	r = drv->open(options, &props, &ctx, why, sizeof(why));
	*ret = ctx;
	return r;
}

static int wait_copy(struct file *f, int r, uint64_t fence) { return r || !fence ? r : drv->fence_wait(f, fence); }

static int in(struct file *f, uint64_t offset, uint64_t bytes)
{
	struct uhmm_seg seg = { offset, buf, bytes };
	uint64_t fence = 0;
	int r = drv->copy_in(f, &seg, 1, &fence);

	return wait_copy(f, r, fence);
}

/* Return: the bytes came back. */
static bool same(struct file *f, uint64_t offset, uint64_t bytes)
{
	struct uhmm_seg seg = { offset, back, bytes };
	uint64_t fence = 0;
	int r;

	memset(back, 0xa5, bytes);
	r = drv->copy_out(f, &seg, 1, &fence);
	return !wait_copy(f, r, fence) && !memcmp(back, buf, bytes);
}

static void noise(uint64_t seed)
{
	for (size_t i = 0; i < BLOCK_BYTES / 8; i++)
		((uint64_t *)(void *)buf)[i] = next_random(&seed);
}

static bool exists(const char *name) { return !access(name, F_OK); }

static void make(const char *name, off_t bytes)
{
	int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	close(fd);
}

static void a_new_file_has_no_name(void **state)
{
	struct file *f;

	(void)state;
	assert_int_equal(open_spec(&f, "%s,size=8M", path), 0);
	assert_false(exists(path));
	noise(1);
	assert_int_equal(in(f, 0, BLOCK_BYTES), 0);
	assert_true(same(f, 0, BLOCK_BYTES));
	drv->close(f);
	assert_int_equal(open_spec(&f, "%s", dir), 0); /* a directory */
	assert_int_equal(f->size, GIB);
	assert_int_equal(rmdir(dir), 0); /* nothing with a name is in it */
	assert_int_equal(mkdir(dir, 0700), 0);
	drv->close(f);
}

static void a_kept_file_stays_and_is_ours_alone(void **state)
{
	struct file *f, *other;
	struct stat st;

	(void)state;
	assert_int_equal(open_spec(&f, "%s,size=8M,keep=on", path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(open_spec(&other, "%s,keep=on", path), -EBUSY);
	assert_non_null(strstr(why, "in use by another device"));
	assert_true(exists(path));
	noise(2);
	assert_int_equal(in(f, 0, BLOCK_BYTES), 0);
	drv->close(f);
	assert_true(exists(path));
	assert_int_equal(open_spec(&f, "%s,size=8M", path), -EEXIST);
	assert_non_null(strstr(why, "keep=on"));
	assert_int_equal(open_spec(&f, "%s,keep=on", path), 0);
	assert_int_equal(f->size, 8 * MIB); /* what it has */
	drv->close(f);
	unlink(path);
}

static void bad_specs_are_told(void **state)
{
	static const struct { const char *options, *says; int r; } bad[] = {
		{ "", "a path comes first", -EINVAL },
		{ "size=1G", "the path comes first", -EINVAL },
		{ "/nonesuch/x", "/nonesuch/x cannot be made", -ENOENT },
		{ "/proc/version/x", "cannot be looked at", -ENOTDIR },
		{ "/dev/null", "is no file, directory or block device", -EINVAL },
		{ "/tmp/x,", "nothing follows the comma", -EINVAL },
		{ "/tmp/x,sise=1G", "sise", -EINVAL },
		{ "/tmp/x,size=3M", "size must be a multiple of 2M", -EINVAL },
		{ "/tmp/x,size=4096T", "at most 2P", -EINVAL },
		{ "/tmp/x,keep", "no value", -EINVAL },
		{ "/tmp,keep=on", "is a directory", -EINVAL },
		{ "/tmp/x,direct=maybe", "on or off", -EINVAL },
	};
	struct file *f;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(open_spec(&f, "%s", bad[i].options), bad[i].r);
		if (!strstr(why, bad[i].says))
			fail_msg("\"%s\": \"%s\" is not in \"%s\"", bad[i].options, bad[i].says, why);
	}
	assert_int_equal(open_spec(&f, "/%02000d", 1), -EINVAL);
	assert_non_null(strstr(why, "the path is longer"));
}

static void a_size_that_cannot_be_leaves_nothing(void **state)
{
	struct rlimit old, low = { 4 << 20, RLIM_INFINITY };
	struct file *f;

	(void)state;
	getrlimit(RLIMIT_FSIZE, &old);
	low.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	assert_int_equal(open_spec(&f, "%s,size=8M,keep=on", path), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_non_null(strstr(why, "ulimit -f"));
	assert_false(exists(path));
}

static void zeros_are_not_on_the_disk(void **state)
{
	struct file *f;
	struct stat st;

	(void)state;
	assert_int_equal(open_spec(&f, "%s,size=8M", path), 0);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(in(f, 0, BLOCK_BYTES), 0);
	assert_true(same(f, 0, BLOCK_BYTES));
	assert_int_equal(fstat(f->fd, &st), 0);
	assert_int_equal(st.st_blocks, 0);

	/* noise, zeros, and noise again; then zeros over all of it */
	noise(3);
	memset(buf + 100 * PAGE_BYTES, 0, 300 * PAGE_BYTES);
	memset(buf + 450 * PAGE_BYTES, 0, PAGE_BYTES);
	assert_int_equal(in(f, BLOCK_BYTES, BLOCK_BYTES), 0);
	assert_true(same(f, BLOCK_BYTES, BLOCK_BYTES));
	assert_int_equal(fstat(f->fd, &st), 0);
	assert_true(st.st_blocks * 512 < 300 * 4096);
	assert_int_equal(drv->clear(f, BLOCK_BYTES + 90 * PAGE_BYTES, 50 * PAGE_BYTES), 0);
	memset(buf + 90 * PAGE_BYTES, 0, 50 * PAGE_BYTES);
	assert_true(same(f, BLOCK_BYTES, BLOCK_BYTES));
	drv->close(f);
}

static void punch_gives_room_back(void **state)
{
	struct file *f;
	struct stat before, after;

	(void)state;
	assert_int_equal(open_spec(&f, "%s,size=8M,punch=on", path), 0);
	noise(4);
	assert_int_equal(in(f, 0, BLOCK_BYTES), 0);
	fstat(f->fd, &before);
	drv->folio_free(f, 0, 9);
	fstat(f->fd, &after);
	assert_true(after.st_blocks < before.st_blocks);
	drv->close(f);
}

static void runs_of_zero_bits(void **state)
{
	static _Atomic uint64_t words[16];
	struct file f = { .zeros = words };
	bool zero;

	(void)state;
	zeros_set(&f, 3 * PAGE_BYTES, 200 * PAGE_BYTES, true);
	assert_int_equal(zeros_run(&f, 0, 500 * PAGE_BYTES, &zero), 3 * PAGE_BYTES);
	assert_false(zero);
	assert_int_equal(zeros_run(&f, 3 * PAGE_BYTES, 500 * PAGE_BYTES, &zero), 200 * PAGE_BYTES);
	assert_true(zero);
	assert_int_equal(zeros_run(&f, 60 * PAGE_BYTES, 7 * PAGE_BYTES, &zero), 7 * PAGE_BYTES);
	zeros_set(&f, 64 * PAGE_BYTES, 64 * PAGE_BYTES, false);
	assert_int_equal(zeros_run(&f, 3 * PAGE_BYTES, 500 * PAGE_BYTES, &zero), 61 * PAGE_BYTES);
	assert_int_equal(zeros_run(&f, 70 * PAGE_BYTES, 500 * PAGE_BYTES, &zero), 58 * PAGE_BYTES);
	assert_false(zero);
}

static void short_and_interrupted_ones_go_on(void **state)
{
	struct io io = { 0, NULL, 8192, 0 };

	(void)state;
	assert_int_equal(io_account(&io, -EINTR, true), 0);
	assert_int_equal(io_account(&io, -EAGAIN, false), 0);
	assert_int_equal(io_account(&io, 4096, true), 0);
	assert_int_equal(io.done, 4096);
	assert_int_equal(io_account(&io, 0, true), -EIO);
	assert_int_equal(io_account(&io, 0, false), -ENOSPC);
	assert_int_equal(io_account(&io, -EIO, false), -EIO);
}

static void a_file_that_was_cut_short_is_an_error(void **state)
{
	struct file *f;

	(void)state;
	make(path, 8 << 20);
	assert_int_equal(open_spec(&f, "%s,keep=on", path), 0);
	noise(5);
	assert_int_equal(in(f, 0, BLOCK_BYTES), 0);
	assert_int_equal(truncate(path, 4096), 0);
	assert_false(same(f, 0, BLOCK_BYTES));
	drv->close(f);
	unlink(path);
}

/* ---- in children: what cannot be undone ---- */

static int on_a_full_disk(void *arg)
{
	struct file *f;
	unsigned fitted = 0;

	(void)arg;
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=8M"))
		return 77;
	if (open_spec(&f, "%s,size=64M,reserve=on", dir) != -ENOSPC || !strstr(why, "no room"))
		return 1;
	if (open_spec(&f, "%s,size=64M", dir))
		return 2;
	noise(6);
	while (fitted < 32 && !in(f, fitted * BLOCK_BYTES, BLOCK_BYTES))
		fitted++;
	if (fitted < 2 || fitted > 4 || in(f, 20 * BLOCK_BYTES, BLOCK_BYTES) != -ENOSPC || !strstr(said, "the disk is full"))
		return 3;
	for (unsigned i = 0; i < fitted; i++)
		if (!same(f, i * BLOCK_BYTES, BLOCK_BYTES))
			return 4;
	drv->close(f);
	return 0;
}

static bool forbid(int call)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_LEN(code), code };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static int without_rings(void *arg)
{
	struct file *f;

	(void)arg;
	if (!forbid(SYS_io_uring_setup))
		return 77;
	if (open_spec(&f, "%s,size=8M", dir) || f->nr_slots || f->async || !strstr(said, "io_uring cannot be had"))
		return 1;
	noise(7);
	if (in(f, 0, BLOCK_BYTES) || !same(f, 0, BLOCK_BYTES))
		return 2;
	drv->close(f);
	return 0;
}

/* Forbidden after the device was opened: copies go on. */
static int rings_that_die(void *arg)
{
	struct file *f;

	(void)arg;
	if (open_spec(&f, "%s,size=8M", dir) || !f->nr_slots)
		return 77;
	noise(8);
	if (in(f, 0, BLOCK_BYTES) || !forbid(SYS_io_uring_enter))
		return 1;
	for (unsigned i = 0; i < 20; i++) {
		noise(100 + i);
		if (in(f, BLOCK_BYTES, BLOCK_BYTES) || !same(f, BLOCK_BYTES, BLOCK_BYTES))
			return 2;
	}
	drv->close(f);
	return 0;
}

static void check_child(int (*fn)(void *))
{
	int status = in_child(fn, NULL);

	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("the child ended with 0x%x", (unsigned)status);
}

static void a_full_disk_is_told_and_nothing_is_lost(void **state)
{
	(void)state;
	check_child(on_a_full_disk);
}

static void without_io_uring_it_is_plain(void **state)
{
	(void)state;
	check_child(without_rings);
	check_child(rings_that_die);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_file_has_no_name),
		cmocka_unit_test(a_kept_file_stays_and_is_ours_alone),
		cmocka_unit_test(bad_specs_are_told),
		cmocka_unit_test(a_size_that_cannot_be_leaves_nothing),
		cmocka_unit_test(zeros_are_not_on_the_disk),
		cmocka_unit_test(punch_gives_room_back),
		cmocka_unit_test(runs_of_zero_bits),
		cmocka_unit_test(short_and_interrupted_ones_go_on),
		cmocka_unit_test(a_file_that_was_cut_short_is_an_error),
		cmocka_unit_test(a_full_disk_is_told_and_nothing_is_lost),
		cmocka_unit_test(without_io_uring_it_is_plain),
	};
	int failures;

	snprintf(dir, sizeof(dir), "%s/uhmm-file-XXXXXX", getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 40 ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/x", dir);
	uhmm_log_set(hear, NULL, UHMM_LOG_WARN);
	failures = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(dir);
	return failures;
}
