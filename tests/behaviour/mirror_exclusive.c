/* SPDX-License-Identifier: MIT */
/* What a device has alone: until a CPU touches it, or a fork, another device, or an unmapping takes it away. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define SEED  95
#define BYTES (2 * BLOCK)

static char copy[BYTES];

static char *filled(bool huge)
{
	char *mem = map_anon(BYTES, true, huge);

	fill_pattern(mem, BYTES, SEED);
	return mem;
}

static size_t nr_exclusive(const char *mem) { return count_where(mem, BYTES, UHMM_WHERE_EXCLUSIVE); }

static void take(struct uhmm_device *d, char *mem, size_t bytes)
{
	struct uhmm_extent ext;
	size_t nr;

	assert_int_equal(uhmm_device_exclusive(d, mem, bytes), 0);
	assert_int_equal(count_where(mem, bytes, UHMM_WHERE_EXCLUSIVE), PAGES(bytes));
	assert_int_equal(uhmm_query(space, mem, PAGE, &ext, 1, &nr), 0);
	assert_ptr_equal(ext.dev, d);
}

static void a_touch_ends_it(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		char *mem = filled(huge);

		take(dev, mem, BYTES);
		assert_int_equal(uhmm_device_read(dev, mem, BYTES, copy, 0, NULL), 0);
		assert_pattern(copy, BYTES, SEED);
		assert_int_equal(uhmm_device_write(dev, mem + BLOCK, 8, "byDevice", UHMM_ACCESS_RESIDENT, NULL), 0);
		assert_int_equal(nr_exclusive(mem), PAGES(BYTES));
		assert_memory_equal(mem + BLOCK, "byDevice", 8);
		eventually(count_where(mem + BLOCK, PAGE, UHMM_WHERE_SYSTEM) == 1);
		assert_int_equal(count_where(mem, BLOCK, UHMM_WHERE_EXCLUSIVE), PAGES(BLOCK));
		assert_int_equal(uhmm_device_read(dev, mem + BLOCK, 8, copy, UHMM_ACCESS_RESIDENT, NULL), -ENOENT);
		assert_int_equal(uhmm_device_write(dev, mem + BLOCK, 8, copy + BLOCK, 0, NULL), 0);
		assert_pattern(mem, BYTES, SEED);
		eventually(!nr_exclusive(mem));
		unmap_anon(mem, BYTES);
	}
}

static void own_pages_become_exclusive_and_asking_twice_is_fine(void **state)
{
	char *mem = filled(true);

	go(mem, BYTES);
	take(dev, mem, BYTES);
	assert_int_equal(used_bytes(), 0);
	take(dev, mem, BLOCK);
	assert_int_equal(nr_exclusive(mem), PAGES(BYTES));
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

static void holes_become_zeros(void **state)
{
	char *mem = map_anon(BYTES, true, false);

	take(dev, mem, 5 * PAGE);
	assert_int_equal(uhmm_device_read(dev, mem, 5 * PAGE, copy, 0, NULL), 0);
	assert_zeros(copy, 5 * PAGE);
	assert_zeros(mem, BYTES);
	unmap_anon(mem, BYTES);
}

static void protection_is_looked_at_anew(void **state)
{
	char *mem = filled(false);

	take(dev, mem, 2 * PAGE);
	assert_int_equal(mprotect(mem, PAGE, PROT_READ), 0);
	assert_int_equal(uhmm_device_write(dev, mem, 1, "x", 0, NULL), -EPERM);
	assert_int_equal(uhmm_device_read(dev, mem, PAGE, copy, 0, NULL), 0);
	assert_pattern(copy, PAGE, SEED);
	assert_int_equal(nr_exclusive(mem), 2);
	assert_int_equal(uhmm_device_exclusive(dev, mem, PAGE), -EPERM);
	assert_int_equal(mprotect(mem, PAGE, PROT_NONE), 0);
	assert_int_equal(uhmm_device_read(dev, mem, 1, copy, 0, NULL), -EFAULT);
	assert_int_equal(mprotect(mem, PAGE, PROT_READ | PROT_WRITE), 0);
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

static void what_cannot_be_had(void **state)
{
	char *shared = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *mem = filled(false);

	assert_ptr_not_equal(shared, MAP_FAILED);
	memset(shared, 7, 2 * PAGE);
	assert_int_equal(uhmm_device_exclusive(dev, shared, 2 * PAGE), -EBUSY);
	assert_int_equal(shared[PAGE], 7);
	munmap(mem + 3 * PAGE, PAGE);
	assert_int_equal(uhmm_device_exclusive(dev, mem, 5 * PAGE), -EFAULT);
	munmap(shared, 2 * PAGE);
	unmap_anon(mem, BYTES);
}

/* ---- others take it away ---- */

static void devices_take_it_from_each_other(void **state)
{
	struct uhmm_device *other = open_device("emu:size=64M");
	char *mem = filled(true);

	for (unsigned k = 0; k < 3; k++) {
		take(dev, mem, BYTES);
		take(other, mem, BYTES);
		assert_int_equal(uhmm_device_read(dev, mem, 1, copy, UHMM_ACCESS_RESIDENT, NULL), -ENOENT);
	}
	assert_int_equal(uhmm_device_read(dev, mem + 5 * PAGE, 8, copy, 0, NULL), 0); /* a look is enough */
	assert_int_equal(count_where(mem + 5 * PAGE, PAGE, UHMM_WHERE_EXCLUSIVE), 0);
	assert_pattern(mem, BYTES, SEED);
	assert_int_equal(uhmm_device_close(other), 0);
	unmap_anon(mem, BYTES);
}

static void closing_the_device_brings_the_bytes_home(void **state)
{
	struct uhmm_device *other = open_device("emu:size=64M");
	char *mem = filled(true);

	take(other, mem, BYTES);
	assert_int_equal(uhmm_device_write(other, mem, 4, "here", 0, NULL), 0);
	assert_int_equal(uhmm_device_close(other), 0);
	assert_int_equal(nr_exclusive(mem), 0);
	assert_int_equal(count_where(mem, BYTES, UHMM_WHERE_SYSTEM), PAGES(BYTES));
	assert_memory_equal(mem, "here", 4);
	assert_int_equal(check_pattern_at(mem + 8, BYTES - 8, SEED, 8), -1);
	unmap_anon(mem, BYTES);
}

static void munmap_frees_it(void **state)
{
	char *mem = filled(true);
	uint64_t before = stats().device_bytes;

	take(dev, mem, BYTES);
	assert_int_equal(munmap(mem, BLOCK), 0);
	eventually(stats().device_bytes <= before + BLOCK);
	assert_int_equal(uhmm_device_read(dev, mem, 1, copy, 0, NULL), -EFAULT);
	assert_int_equal(check_pattern_at(mem + BLOCK, BLOCK, SEED, BLOCK), -1);
	eventually(stats().device_bytes == before);
	unmap_anon(mem, BYTES);
}

static void mremap_takes_it_along_and_a_discard_ends_it(void **state)
{
	char *mem = filled(false), *to = map_anon(BYTES, true, false);

	take(dev, mem, BYTES);
	assert_ptr_equal(mremap(mem, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	assert_int_equal(count_where(to, BLOCK, UHMM_WHERE_EXCLUSIVE), PAGES(BLOCK));
	assert_int_equal(uhmm_device_read(dev, to, BLOCK, copy, UHMM_ACCESS_RESIDENT, NULL), 0);
	assert_pattern(copy, BLOCK, SEED);
	assert_int_equal(uhmm_discard(space, to + PAGE, PAGE), 0);
	assert_int_equal(uhmm_device_read(dev, to + PAGE, PAGE, copy, UHMM_ACCESS_RESIDENT, NULL), -ENOENT);
	assert_int_equal(uhmm_device_read(dev, to + PAGE, PAGE, copy, 0, NULL), 0);
	assert_zeros(copy, PAGE);
	assert_int_equal(check_pattern_at(to + 2 * PAGE, BLOCK - 2 * PAGE, SEED, 2 * PAGE), -1);
	unmap_anon(mem, BYTES);
	unmap_anon(to, BYTES);
}

static int writes_its_own(char *mem)
{
	if (memcmp(mem, "before", 6) || check_pattern_at(mem + 8, BYTES - 8, SEED, 8) != -1)
		return 1;
	memcpy(mem, "child!", 6);
	return memcmp(mem, "child!", 6) != 0;
}

static void after_a_fork_each_side_has_its_own(void **state)
{
	char *mem = filled(true);
	int status;
	pid_t pid;

	take(dev, mem, BYTES);
	assert_int_equal(uhmm_device_write(dev, mem, 6, "before", 0, NULL), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(writes_its_own(mem));
	assert_int_equal(nr_exclusive(mem), 0);
	assert_int_equal(uhmm_device_read(dev, mem, 6, copy, 0, NULL), 0);
	assert_memory_equal(copy, "before", 6);
	assert_int_equal(uhmm_device_write(dev, mem, 6, "parent", 0, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_memory_equal(mem, "parent", 6);
	assert_int_equal(check_pattern_at(mem + 8, BYTES - 8, SEED, 8), -1);
	unmap_anon(mem, BYTES);
}

static int is_refused(char *mem)
{
	uint8_t view;

	return uhmm_device_exclusive(dev, mem, PAGE) != -EPERM || uhmm_device_read(dev, mem, 1, copy, 0, NULL) != -EPERM ||
	       uhmm_device_write(dev, mem, 1, copy, 0, NULL) != -EPERM || uhmm_device_release(dev) != -EPERM ||
	       uhmm_device_snapshot(dev, mem, PAGE, &view) != -EPERM;
}

static void a_child_cannot_use_the_device(void **state)
{
	char *mem = filled(false);
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid)
		_exit(is_refused(mem));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	unmap_anon(mem, BYTES);
}

/* ---- threads ---- */

#define NR_CPUS   2
#define NR_ROUNDS 200

static _Atomic uint64_t *words; /* one page: the device's is word 0, each thread has one after it */
static atomic_bool over;
static _Atomic uint64_t counted[NR_CPUS];

static void *count_up(void *arg)
{
	uintptr_t i = (uintptr_t)arg;

	while (!atomic_load(&over)) {
		atomic_fetch_add(&words[1 + 64 * i], 1);
		atomic_fetch_add(&counted[i], 1);
		sched_yield();
	}
	return NULL;
}

/* A store of the device is of its bytes only, and what CPUs do to others of the same page meanwhile stays. */
static void words_of_one_page_by_the_device_and_by_cpus(void **state)
{
	char *mem = filled(false);
	pthread_t id[NR_CPUS];

	memset(mem, 0, PAGE);
	words = (_Atomic uint64_t *)(void *)mem;
	over = false;
	for (uintptr_t i = 0; i < NR_CPUS; i++) {
		counted[i] = 0;
		assert_int_equal(pthread_create(&id[i], NULL, count_up, (void *)i), 0);
	}
	for (uint64_t k = 1; k <= NR_ROUNDS; k++) {
		uint64_t seen = 0;
		int r = uhmm_device_exclusive(dev, mem, PAGE);

		assert_true(r == 0 || r == -EBUSY); /* a CPU may be quicker */
		assert_int_equal(uhmm_device_write(dev, mem, sizeof(k), &k, 0, NULL), 0);
		assert_int_equal(uhmm_device_read(dev, mem, sizeof(seen), &seen, 0, NULL), 0);
		assert_int_equal(seen, k);
	}
	atomic_store(&over, true);
	for (unsigned i = 0; i < NR_CPUS; i++) {
		assert_int_equal(pthread_join(id[i], NULL), 0);
		assert_int_equal(words[1 + 64 * i], counted[i]);
	}
	assert_int_equal(words[0], NR_ROUNDS);
	unmap_anon(mem, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_touch_ends_it),
		cmocka_unit_test(own_pages_become_exclusive_and_asking_twice_is_fine),
		cmocka_unit_test(holes_become_zeros),
		cmocka_unit_test(protection_is_looked_at_anew),
		cmocka_unit_test(what_cannot_be_had),
		cmocka_unit_test(devices_take_it_from_each_other),
		cmocka_unit_test(closing_the_device_brings_the_bytes_home),
		cmocka_unit_test(munmap_frees_it),
		cmocka_unit_test(mremap_takes_it_along_and_a_discard_ends_it),
		cmocka_unit_test(after_a_fork_each_side_has_its_own),
		cmocka_unit_test(a_child_cannot_use_the_device),
		cmocka_unit_test(words_of_one_page_by_the_device_and_by_cpus),
	};

	rig_open("emu:size=512M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
