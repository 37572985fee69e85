/* SPDX-License-Identifier: MIT */
/* A device's accesses against threads that touch, move, unmap and read the same memory. */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>

#define SEED  97
#define BYTES (2 * BLOCK)

static char *mem;
static char copy[BYTES];
static atomic_bool over;
static _Atomic unsigned nr_wrong, nr_done;

static pthread_t spawn(void *(*run)(void *), void *arg)
{
	pthread_t id;

	assert_int_equal(pthread_create(&id, NULL, run, arg), 0);
	return id;
}

static void join(pthread_t id)
{
	assert_int_equal(pthread_join(id, NULL), 0);
}

/* ---- readers of one device ---- */

#define NR_READERS 4

static void *read_resident(void *arg)
{
	static char bufs[NR_READERS][3 * PAGE];
	char *buf = bufs[(uintptr_t)arg];

	for (unsigned k = 0; k < 300; k++) {
		size_t at = (k * 7 % 500) * PAGE;
		int r = uhmm_device_read(dev, mem + at, 3 * PAGE, buf, k % 2 ? UHMM_ACCESS_RESIDENT : 0, NULL);

		if (r || check_pattern_at(buf, 3 * PAGE, SEED, at) != -1)
			nr_wrong++;
	}
	return NULL;
}

static void readers_at_once_leave_the_pages_on_the_device(void **state)
{
	for (unsigned k = 0; k < 4; k++) {
		bool huge = k & 1, exclusive = k & 2;
		pthread_t id[NR_READERS];

		mem = map_anon(BYTES, true, huge);
		fill_pattern(mem, BYTES, SEED);
		if (exclusive)
			assert_int_equal(uhmm_device_exclusive(dev, mem, BYTES), 0);
		else
			go(mem, BYTES);
		nr_wrong = 0;
		for (uintptr_t i = 0; i < NR_READERS; i++)
			id[i] = spawn(read_resident, (void *)i);
		for (unsigned i = 0; i < NR_READERS; i++)
			join(id[i]);
		assert_int_equal(nr_wrong, 0);
		assert_int_equal(count_where(mem, BYTES, exclusive ? UHMM_WHERE_EXCLUSIVE : UHMM_WHERE_DEVICE), PAGES(BYTES));
		unmap_anon(mem, BYTES);
	}
}

/* ---- a range that comes and goes ---- */

static void *unmap_and_map(void *arg)
{
	char *half = mem + BLOCK;

	while (!atomic_load(&over)) {
		if (munmap(half, BLOCK) || mmap(half, BLOCK, PROT_READ | PROT_WRITE,
						MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != half)
			nr_wrong++;
		fill_pattern_at(half, BLOCK, SEED, BLOCK);
		(void)uhmm_to_device(space, half, BLOCK, dev, 0, NULL);
		nr_done++;
	}
	return NULL;
}

/* Every word is what was once stored there, or has not been stored yet. */
static bool words_are_right(size_t from, size_t len)
{
	static uint64_t right[BYTES / 8];

	fill_pattern(right, BYTES, SEED);
	for (size_t i = from / 8; i < (from + len) / 8; i++) {
		uint64_t word;

		memcpy(&word, copy + i * 8, sizeof(word));
		if (word != right[i] && (word || i * 8 < BLOCK))
			return false;
	}
	return true;
}

static void half_of_the_range_is_unmapped_and_mapped_while_the_device_reads(void **state)
{
	pthread_t id;

	mem = map_anon(BYTES, true, true);
	fill_pattern(mem, BYTES, SEED);
	over = false;
	nr_wrong = nr_done = 0;
	id = spawn(unmap_and_map, NULL);
	for (unsigned k = 0; k < 150 || nr_done < 5; k++) {
		size_t from = BLOCK - (k % 64) * PAGE, len = (k % 200 + 64) * PAGE;
		struct uhmm_access acc = { .sz = sizeof(acc) };
		int r = uhmm_device_read(dev, mem + from, len, copy + from, 0, &acc);

		assert_true(r == 0 || r == -EFAULT || r == -EBUSY);
		assert_true(r ? acc.done_bytes < len : acc.done_bytes == len);
		assert_true(words_are_right(from, acc.done_bytes & ~(size_t)7));
		if (k % 10 == 0) /* the half that stays is always readable */
			assert_int_equal(uhmm_device_read(dev, mem, BLOCK, copy, 0, NULL), 0);
		if (k % 10 == 5)
			(void)uhmm_to_device(space, mem, BLOCK, dev, 0, NULL);
	}
	atomic_store(&over, true);
	join(id);
	assert_int_equal(nr_wrong, 0);
	assert_pattern(mem, BLOCK, SEED);
	unmap_anon(mem, BYTES);
}

/* ---- stores of all sides ---- */

#define NR_ROUNDS 12
#define STEP      (PAGES(BYTES) / 64) /* 64 pages, spread over all */

static _Atomic uint64_t *word_of(unsigned page, unsigned slot)
{
	return (_Atomic uint64_t *)(void *)(mem + page * STEP * PAGE) + 1 + 8 * slot;
}

static void *store_by_cpu(void *arg)
{
	uint64_t *ret_rounds = arg;

	while (!atomic_load(&over)) {
		for (unsigned i = 0; i < 64; i++)
			atomic_fetch_add(word_of(i, 0), 1);
		++*ret_rounds;
	}
	return NULL;
}

static void *move_both_ways(void *arg)
{
	for (unsigned k = 0; !atomic_load(&over); k++) {
		char *from = mem + (k % 4) * BLOCK / 4;
		int r = k % 3 == 0 ? uhmm_to_system(space, mem, BYTES, 0, NULL) :
			k % 3 == 1 ? uhmm_to_device(space, mem, BYTES, arg, 0, NULL) :
				     uhmm_device_exclusive(arg, from, BLOCK);

		if (r < 0 && r != -EBUSY)
			nr_wrong++;
	}
	return NULL;
}

static void *store_by_device(void *arg)
{
	unsigned slot = arg == dev ? 1 : 2;

	for (uint64_t round = 1; round <= NR_ROUNDS; round++)
		for (unsigned i = 0; i < 64; i++) {
			void *at = (void *)word_of(i, slot);
			uint64_t seen = 0;
			int r;

			do {
				r = uhmm_device_write(arg, at, sizeof(round), &round, 0, NULL);
			} while (r == -EBUSY);
			if (r)
				nr_wrong++;
			do {
				r = uhmm_device_read(arg, at, sizeof(seen), &seen, 0, NULL);
			} while (r == -EBUSY);
			if (r || seen != round)
				nr_wrong++;
		}
	nr_done++;
	return NULL;
}

static void stores_by_cpus_and_two_devices_while_pages_move(void **state)
{
	for (unsigned huge = 0; huge < 2; huge++) {
		struct uhmm_device *other = open_device("emu:size=64M");
		uint64_t rounds = 0;
		pthread_t cpu, mover, one, two;

		mem = map_anon(BYTES, true, huge);
		memset(mem, 0, BYTES);
		over = false;
		nr_wrong = nr_done = 0;
		cpu = spawn(store_by_cpu, &rounds);
		mover = spawn(move_both_ways, dev);
		one = spawn(store_by_device, dev);
		two = spawn(store_by_device, other);
		join(one);
		join(two);
		atomic_store(&over, true);
		join(cpu);
		join(mover);
		assert_int_equal(nr_wrong, 0);
		for (unsigned i = 0; i < 64; i++) {
			assert_int_equal(*word_of(i, 0), rounds);
			assert_int_equal(*word_of(i, 1), NR_ROUNDS);
			assert_int_equal(*word_of(i, 2), NR_ROUNDS);
			*word_of(i, 0) = *word_of(i, 1) = *word_of(i, 2) = 0;
		}
		assert_zeros(mem, BYTES);
		assert_int_equal(uhmm_device_close(other), 0);
		unmap_anon(mem, BYTES);
	}
}

/* Whoever waits for a device must hold nothing that a fault thread needs: its stack goes away all the time. */
static void *read_from_a_stack_that_goes_away(void *arg)
{
	for (unsigned n = 0; n < 200; n++) {
		char *at = mem + BLOCK + n % 100 * PAGE + 10;
		char got[100];

		if (uhmm_device_read(arg, at, sizeof(got), got, 0, NULL) || memcmp(got, at, sizeof(got)))
			nr_wrong++;
	}
	atomic_store(&over, true);
	return NULL;
}

static void a_reader_stands_on_a_stack_that_goes_away(void **state)
{
	pthread_attr_t attr;
	pthread_t reader;

	mem = map_anon(BYTES, true, false);
	fill_pattern(mem, BYTES, SEED);
	over = false;
	nr_wrong = 0;
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstack(&attr, mem, BLOCK), 0);
	assert_int_equal(pthread_create(&reader, &attr, read_from_a_stack_that_goes_away, dev), 0);
	assert_int_equal(pthread_attr_destroy(&attr), 0);
	while (!atomic_load(&over))
		assert_true(uhmm_to_device(space, mem, BLOCK, dev, 0, NULL) >= 0);
	assert_int_equal(pthread_join(reader, NULL), 0);
	assert_int_equal(nr_wrong, 0);
	unmap_anon(mem, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_at_once_leave_the_pages_on_the_device),
		cmocka_unit_test(half_of_the_range_is_unmapped_and_mapped_while_the_device_reads),
		cmocka_unit_test(stores_by_cpus_and_two_devices_while_pages_move),
		cmocka_unit_test(a_reader_stands_on_a_stack_that_goes_away),
	};

	rig_open("emu:size=512M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
