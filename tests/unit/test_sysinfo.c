/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <sys/stat.h>

#include "os/fail.h"
#include "os/map.h"
#include "os/sysinfo.h"

static void without_thp_the_setting_is_never(void **state)
{
	(void)state;
	fail_set(NULL, "thp");
	assert_int_equal(sysinfo_thp(), THP_NEVER);
	fail_set(NULL, NULL);
}

static void the_setting_is_the_word_in_brackets(void **state)
{
	static const char *const words[] = { "[never]", "[madvise]", "[always]" };
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char text[100] = "[never]";

	(void)state;
	if (f) {
		assert_non_null(fgets(text, sizeof(text), f));
		fclose(f);
	}
	assert_non_null(strstr(text, words[sysinfo_thp()]));
}

static void there_is_memory(void **state)
{
	(void)state;
	assert_true(sysinfo_ram_bytes() >= 16 * MIB);
	assert_true(page_aligned(sysinfo_ram_bytes()));
}

static void advice_is_seen_for_its_mapping_only(void **state)
{
	char *mem = map_blocks(3 * BLOCK_BYTES, false);

	(void)state;
	if (madvise(mem + BLOCK_BYTES, BLOCK_BYTES, MADV_HUGEPAGE))
		skip(); /* a kernel without THP */
	assert_false(sysinfo_advised_huge(addr_of(mem)));
	assert_false(sysinfo_advised_huge(addr_of(mem) + BLOCK_BYTES - 1));
	assert_true(sysinfo_advised_huge(addr_of(mem) + BLOCK_BYTES));
	assert_true(sysinfo_advised_huge(addr_of(mem) + 2 * BLOCK_BYTES - 1));
	assert_false(sysinfo_advised_huge(addr_of(mem) + 2 * BLOCK_BYTES));
	unmap_blocks(mem, 3 * BLOCK_BYTES);
	assert_false(sysinfo_advised_huge(addr_of(mem) + BLOCK_BYTES)); /* nothing is there */
}

static void it_is_seen_among_many_mappings(void **state)
{
	enum { N = 200 };
	char *mem[N];

	(void)state;
	for (unsigned i = 0; i < N; i++)
		mem[i] = map_blocks(BLOCK_BYTES, i % 3 == 0);
	for (unsigned i = 0; i < N; i += 7)
		assert_int_equal(sysinfo_advised_huge(addr_of(mem[i])), i % 3 == 0);
	for (unsigned i = 0; i < N; i++)
		unmap_blocks(mem[i], BLOCK_BYTES);
}

static void advice_against_is_seen_too(void **state)
{
	char *mem = map_blocks(BLOCK_BYTES, true);

	(void)state;
	if (sysinfo_advice(addr_of(mem)) != ADVICE_HUGE)
		skip();
	assert_int_equal(madvise(mem, BLOCK_BYTES, MADV_NOHUGEPAGE), 0);
	assert_int_equal(sysinfo_advice(addr_of(mem)), ADVICE_NO_HUGE);
	unmap_blocks(mem, BLOCK_BYTES);
	mem = mmap(NULL, BLOCK_BYTES, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_int_equal(sysinfo_advice(addr_of(mem)), ADVICE_NONE);
	munmap(mem, BLOCK_BYTES);
}

/* Settings of our own, in a folder that looks like the system's. */
static char dir[] = "/tmp/uhmm-thp-XXXXXX";

static void set(const char *size, const char *text)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s%s", dir, size);
	(void)mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s%s/enabled", dir, size);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void unset(const char *size)
{
	char path[200];

	snprintf(path, sizeof(path), "%s%s/enabled", dir, size);
	unlink(path);
	snprintf(path, sizeof(path), "%s%s", dir, size);
	rmdir(path);
}

static void the_sizes_between_are_read_one_by_one(void **state)
{
	const char *usual = sysinfo_thp_dir;
	struct sysinfo_mthp m;

	(void)state;
	assert_non_null(mkdtemp(dir));
	sysinfo_thp_dir = dir;
	m = sysinfo_mthp(); /* nothing is there: an old kernel */
	assert_int_equal(m.always | m.advised, 0);
	set("", "always [madvise] never\n");
	set("/hugepages-16kB", "[always] inherit madvise never\n");
	set("/hugepages-64kB", "always [inherit] madvise never\n");
	set("/hugepages-128kB", "always inherit [madvise] never\n");
	set("/hugepages-256kB", "always inherit madvise [never]\n");
	set("/hugepages-2048kB", "[always] inherit madvise never\n"); /* is no size between */
	m = sysinfo_mthp();
	assert_int_equal(m.always, 1u << 2);
	assert_int_equal(m.advised, 1u << 2 | 1u << 4 | 1u << 5);
	set("", "[always] madvise never\n");
	assert_int_equal(sysinfo_mthp().always, 1u << 2 | 1u << 4);
	set("", "always madvise [never]\n");
	assert_int_equal(sysinfo_mthp().advised, 1u << 2 | 1u << 5);
	fail_set(NULL, "thp");
	m = sysinfo_mthp();
	assert_int_equal(m.always | m.advised, 0);
	fail_set(NULL, NULL);
	unset("/hugepages-16kB");
	unset("/hugepages-64kB");
	unset("/hugepages-128kB");
	unset("/hugepages-256kB");
	unset("/hugepages-2048kB");
	unset("");
	sysinfo_thp_dir = usual;
}

static void trying_the_page_tables_leaves_nothing(void **state)
{
	uint64_t start, end;
	bool first = sysinfo_has_pt_reclaim();

	(void)state;
	assert_int_equal(sysinfo_has_pt_reclaim(), first);
	assert_false(map_is_own(0, UINT64_MAX, &start, &end));
	fail_set("mmap:1", NULL);
	assert_false(sysinfo_has_pt_reclaim());
	fail_set(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_thp_the_setting_is_never),
		cmocka_unit_test(the_setting_is_the_word_in_brackets),
		cmocka_unit_test(there_is_memory),
		cmocka_unit_test(advice_is_seen_for_its_mapping_only),
		cmocka_unit_test(it_is_seen_among_many_mappings),
		cmocka_unit_test(advice_against_is_seen_too),
		cmocka_unit_test(the_sizes_between_are_read_one_by_one),
		cmocka_unit_test(trying_the_page_tables_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
