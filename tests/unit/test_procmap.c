/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/err.h"
#include "os/fail.h"
#include "os/procmap.h"

static struct procmap query, text;

static int open_both(void **state)
{
	(void)state;
	if (procmap_open(&query))
		return -1;
	fail_set(NULL, "procmap_query");
	if (procmap_open(&text))
		return -1;
	fail_set(NULL, NULL);
	return 0;
}

static int close_both(void **state)
{
	(void)state;
	procmap_close(&query);
	procmap_close(&text);
	procmap_close(&text); /* once more is fine */
	return 0;
}

static void without_the_ioctl_the_text_is_read(void **state)
{
	(void)state;
	assert_false(text.has_query);
}

static uint32_t flags_of(const struct procmap *m, const void *mem)
{
	struct mapping got;

	assert_int_equal(procmap_find(m, addr_of(mem), &got), 0);
	assert_true(got.start <= addr_of(mem) && addr_of(mem) < got.end);
	return got.flags;
}

static void check_flags(const void *mem, uint32_t flags)
{
	assert_int_equal(flags_of(&query, mem), flags);
	assert_int_equal(flags_of(&text, mem), flags);
}

static void protection_is_told(void **state)
{
	static const struct { int prot; uint32_t flags; } kinds[] = {
		{ PROT_NONE, 0 }, { PROT_READ, MAPPING_READ }, { PROT_READ | PROT_WRITE, MAPPING_READ | MAPPING_WRITE },
		{ PROT_READ | PROT_EXEC, MAPPING_READ | MAPPING_EXEC },
	};
	char *mem = map_blocks(BLOCK_BYTES, false);

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		assert_int_equal(mprotect(mem, BLOCK_BYTES, kinds[i].prot), 0);
		check_flags(mem, kinds[i].flags);
	}
	unmap_blocks(mem, BLOCK_BYTES);
}

static void files_are_files(void **state)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), mfd = memfd_create("test", MFD_CLOEXEC);
	char *mem[3];

	(void)state;
	assert_int_equal(ftruncate(mfd, PAGE_BYTES), 0);
	mem[0] = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
	mem[1] = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, mfd, 0);
	mem[2] = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, mfd, 0);
	check_flags(mem[0], MAPPING_READ | MAPPING_FILE);
	check_flags(mem[1], MAPPING_READ | MAPPING_WRITE | MAPPING_SHARED | MAPPING_FILE);
	check_flags(mem[2], MAPPING_READ | MAPPING_WRITE | MAPPING_FILE);
	for (unsigned i = 0; i < 3; i++)
		munmap(mem[i], PAGE_BYTES);
	close(fd);
	close(mfd);
}

static void private_dev_zero_counts_as_a_file(void **state)
{
	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	char *mem = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	(void)state;
	assert_ptr_not_equal(mem, MAP_FAILED);
	check_flags(mem, MAPPING_READ | MAPPING_WRITE | MAPPING_FILE);
	munmap(mem, PAGE_BYTES);
	close(fd);
}

static void shared_anonymous_memory_is_a_file(void **state)
{
	char *mem = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t by_query, by_text;

	(void)state;
	by_query = flags_of(&query, mem);
	by_text = flags_of(&text, mem);
	munmap(mem, PAGE_BYTES);
	assert_int_equal(by_query, MAPPING_READ | MAPPING_WRITE | MAPPING_SHARED | MAPPING_FILE); /* "/dev/zero (deleted)" */
	assert_int_equal(by_text, by_query);
}

static void a_gap_yields_the_next_mapping(void **state)
{
	char *mem = map_blocks(3 * BLOCK_BYTES, false);
	struct mapping got;

	(void)state;
	munmap(mem + BLOCK_BYTES, BLOCK_BYTES);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(procmap_find(i ? &text : &query, addr_of(mem) + BLOCK_BYTES + 5, &got), 0);
		assert_int_equal(got.start, addr_of(mem) + 2 * BLOCK_BYTES);
		assert_int_equal(got.end, addr_of(mem) + 3 * BLOCK_BYTES);
	}
	unmap_blocks(mem, 3 * BLOCK_BYTES);
}

/* The text also lists the kernel's own page at the top of the address space, which no program can map over. */
static bool is_users(const struct mapping *m) { return m->end <= UINT64_C(1) << 56; }

static void compare_at(uint64_t addr)
{
	struct mapping q = { 0 }, t = { 0 };
	int rq = procmap_find(&query, addr, &q), rt = procmap_find(&text, addr, &t);

	if (rt == 0 && !is_users(&t))
		rt = -ENOENT;
	assert_int_equal(rq, rt);
	if (rq)
		return;
	assert_int_equal(q.start, t.start);
	assert_int_equal(q.end, t.end);
	assert_int_equal(q.flags, t.flags);
}

static void both_ways_agree_everywhere(void **state)
{
	enum { N = 150 };
	char *mem[N];
	struct mapping m;
	uint64_t seed = 1, at = 0;
	unsigned nr = 0;

	(void)state;
	if (!query.has_query)
		skip();
	for (unsigned i = 0; i < N; i++) /* more than fits one piece of the text */
		mem[i] = map_blocks(BLOCK_BYTES, i % 2);
	while (!procmap_find(&query, at, &m) && is_users(&m)) {
		compare_at(m.start - 1);
		compare_at(m.start);
		compare_at(m.start + next_random(&seed) % (m.end - m.start));
		compare_at(m.end - 1);
		at = m.end;
		nr++;
	}
	compare_at(at);
	assert_true(nr > 2 * N);
	for (unsigned i = 0; i < 300; i++)
		compare_at(next_random(&seed) >> 17);
	for (unsigned i = 0; i < N; i++)
		unmap_blocks(mem[i], BLOCK_BYTES);
}

static void above_all_mappings_there_is_none(void **state)
{
	struct mapping m;

	(void)state;
	if (query.has_query)
		assert_int_equal(procmap_find(&query, UINT64_MAX - PAGE_BYTES, &m), -ENOENT);
	assert_int_equal(procmap_find(&text, UINT64_MAX - 1, &m), -ENOENT);
}

/* Maps a file in nested folders of long names; the path in the text is longer than 4096 bytes. */
static char *map_deep_file(int *depth, char *name)
{
	char *mem;
	int fd;

	memset(name, 'd', 255);
	name[255] = '\0';
	for (*depth = 0; *depth < 17; (*depth)++)
		if (mkdir(name, 0700) || chdir(name))
			break;
	fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	mem = ftruncate(fd, PAGE_BYTES) ? MAP_FAILED : mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	unlink("file"); /* the mapping lives on */
	return mem;
}

static void a_very_long_path_hides_nothing_behind_it(void **state)
{
	char root[] = "/tmp/uhmm-procmap-XXXXXX", cwd[4096], name[256];
	struct mapping m;
	int depth = 0, r;
	char *mem;

	(void)state;
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	assert_non_null(mkdtemp(root));
	assert_int_equal(chdir(root), 0);
	mem = map_deep_file(&depth, name);
	r = procmap_find(&text, addr_of(&m), &m); /* the stack lies above */
	munmap(mem, PAGE_BYTES);
	while (depth-- > 0 && !chdir(".."))
		rmdir(name);
	assert_int_equal(chdir(cwd), 0);
	rmdir(root);
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_int_equal(r, 0);
	assert_true(m.start <= addr_of(&m) && addr_of(&m) < m.end);
}

static void a_failure_is_forwarded(void **state)
{
	struct mapping m;

	(void)state;
	fail_set("procmap:1:5", NULL);
	assert_int_equal(procmap_find(&query, 0, &m), -5);
	fail_set(NULL, NULL);
}

static _Atomic unsigned nr_wrong;

static void *look_up_often(void *arg)
{
	for (unsigned i = 0; i < 200; i++) {
		struct mapping m;

		if (procmap_find(i % 2 ? &text : &query, addr_of(arg), &m) || m.start > addr_of(arg) || m.end <= addr_of(arg))
			atomic_fetch_add(&nr_wrong, 1);
	}
	return NULL;
}

static void several_threads_look_up_at_once(void **state)
{
	char *mem = map_blocks(BLOCK_BYTES, false);
	pthread_t t[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		t[i] = spawn(look_up_often, mem);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(nr_wrong, 0);
	unmap_blocks(mem, BLOCK_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_the_ioctl_the_text_is_read),
		cmocka_unit_test(protection_is_told),
		cmocka_unit_test(files_are_files),
		cmocka_unit_test(private_dev_zero_counts_as_a_file),
		cmocka_unit_test(shared_anonymous_memory_is_a_file),
		cmocka_unit_test(a_gap_yields_the_next_mapping),
		cmocka_unit_test(both_ways_agree_everywhere),
		cmocka_unit_test(above_all_mappings_there_is_none),
		cmocka_unit_test(a_very_long_path_hides_nothing_behind_it),
		cmocka_unit_test(a_failure_is_forwarded),
		cmocka_unit_test(several_threads_look_up_at_once),
	};

	return cmocka_run_group_tests(tests, open_both, close_both);
}
