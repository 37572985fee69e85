/* SPDX-License-Identifier: MIT */
/*
 * Memory that the program may not write: it comes home under the protection it has, huge if it left huge, and not for a moment
 * does a store get through that shall fault.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "rig.h"

#define SEED  93
#define BYTES (4 * BLOCK)

static const int protections[] = { PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC };
#define NR_PROTECTIONS (sizeof(protections) / sizeof(*protections))

/* Does this kernel make a THP of base pages where nothing may be written? Before Linux 6.18 it does not. */
static bool collapses(void)
{
	char *mem = map_anon(BLOCK, true, false);
	bool can;

	fill_pattern(mem, BLOCK, SEED);
	assert_int_equal(madvise(mem, BLOCK, MADV_HUGEPAGE), 0);
	assert_int_equal(mprotect(mem, BLOCK, PROT_READ), 0);
	can = !madvise(mem, BLOCK, 25 /* MADV_COLLAPSE */);
	unmap_anon(mem, BLOCK);
	return can;
}

static void protect(char *mem, int protection)
{
	assert_int_equal(mprotect(mem, BYTES, protection), 0);
}

/* Is all of it one mapping with this protection? */
static bool is_protected(const char *mem, int protection)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], rwx[5];
	uint64_t start, end;
	bool found = false;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, rwx) == 3 && start <= (uintptr_t)mem && end >= (uintptr_t)mem + BYTES)
			found = (rwx[0] == 'r') == !!(protection & PROT_READ) && (rwx[1] == 'w') == !!(protection & PROT_WRITE) &&
				(rwx[2] == 'x') == !!(protection & PROT_EXEC);
	fclose(maps);
	return found;
}

/* Away while it may be written, home while it may not. */
static void there_and_back(char *mem, int protection, enum way way)
{
	go(mem, BYTES);
	protect(mem, protection);
	if (way == BY_CALL)
		come(mem, BYTES);
	for (size_t k = 0; way == BY_TOUCH && k < BYTES; k += BLOCK)
		(void)*(volatile char *)(mem + k + 5 * PAGE);
	assert_true(all_home(mem, BYTES));
	assert_true(is_protected(mem, protection));
}

/* A THP may not be had at a moment, or a page be in use: then the next time. */
#define ROUNDS 20

static void it_comes_home_huge_under_its_protection(void **state)
{
	for (enum way way = 0; way < NR_WAYS; way++)
		for (size_t k = 0; k < NR_PROTECTIONS; k++) {
			if (way == BY_TOUCH && !(protections[k] & PROT_READ))
				continue;
			char *mem = map_anon(BYTES, true, true);
			bool huge = false;

			fill_pattern(mem, BYTES, SEED);
			if (anon_huge_bytes(mem, BYTES) < BYTES)
				skip();
			for (unsigned n = 0; n < ROUNDS && !huge; n++) {
				there_and_back(mem, protections[k], way);
				/* after a touch it is made huge while the toucher goes on */
				for (unsigned tries = 0; tries < 2000 && !huge; tries++) {
					huge = anon_huge_bytes(mem, BYTES) == BYTES;
					if (way == BY_CALL)
						break;
				}
				protect(mem, PROT_READ | PROT_WRITE);
				assert_pattern(mem, BYTES, SEED);
			}
			if (collapses())
				assert_true(huge);
			unmap_anon(mem, BYTES);
		}
}

/* Read-only all the time, lent out only on the way to the device. */
static void read_only_memory_goes_and_comes_home_huge(void **state)
{
	char *mem = map_anon(BYTES, true, true);
	bool huge = false;

	fill_pattern(mem, BYTES, SEED);
	if (anon_huge_bytes(mem, BYTES) < BYTES)
		skip();
	protect(mem, PROT_READ);
	for (unsigned n = 0; n < ROUNDS && !huge; n++) {
		assert_int_equal(uhmm_to_device(space, mem, BYTES, dev, UHMM_MOVE_READ_ONLY, NULL), 0);
		assert_true(all_on_device(mem, BYTES));
		assert_true(is_protected(mem, PROT_READ));
		come(mem, BYTES);
		assert_true(is_protected(mem, PROT_READ));
		assert_pattern(mem, BYTES, SEED);
		huge = anon_huge_bytes(mem, BYTES) == BYTES;
	}
	if (collapses())
		assert_true(huge);
	unmap_anon(mem, BYTES);
}

/* A part of a block under another protection: base pages, each under its own. */
static void a_block_of_two_protections(void **state)
{
	char *mem = map_anon(BYTES, true, true);

	fill_pattern(mem, BYTES, SEED);
	go(mem, BYTES);
	assert_int_equal(mprotect(mem + 100 * PAGE, 50 * PAGE, PROT_NONE), 0);
	assert_int_equal(mprotect(mem + BLOCK + 100 * PAGE, 50 * PAGE, PROT_READ), 0);
	come(mem, BYTES);
	assert_pattern(mem, 100 * PAGE, SEED);
	assert_int_equal(mprotect(mem, BYTES, PROT_READ | PROT_WRITE), 0);
	assert_pattern(mem, BYTES, SEED);
	unmap_anon(mem, BYTES);
}

/* ---- a storm ---- */

#define NR_WRITERS 2
#define STORM_NS   UINT64_C(3000000000)

static struct {
	char *mem;
	atomic_bool stop;
	atomic_bool no_writing;  /* from here until it is cleared and nobody is inside, every store shall fault */
	_Atomic unsigned inside, tried, got_through;
	int protection;
} storm;

static _Thread_local sigjmp_buf refused_store;

static void on_segv(int sig)
{
	(void)sig;
	siglongjmp(refused_store, 1);
}

static void try_to_write(volatile char *at)
{
	if (sigsetjmp(refused_store, 1))
		return;
	*at = 0x55;
	atomic_fetch_add(&storm.got_through, 1);
}

static void *writer(void *arg)
{
	uint64_t rnd = (uintptr_t)arg;

	while (!atomic_load(&storm.stop)) {
		atomic_fetch_add(&storm.inside, 1);
		if (atomic_load(&storm.no_writing)) {
			try_to_write(storm.mem + next_random(&rnd) % BYTES);
			atomic_fetch_add(&storm.tried, 1);
		}
		atomic_fetch_sub(&storm.inside, 1);
		if (!atomic_load(&storm.no_writing))
			sched_yield();
	}
	return NULL;
}

static void *reader(void *arg)
{
	uint64_t rnd = (uintptr_t)arg;

	while (!atomic_load(&storm.stop)) {
		atomic_fetch_add(&storm.inside, 1);
		if (atomic_load(&storm.no_writing) && storm.protection & PROT_READ)
			(void)*(volatile char *)(storm.mem + next_random(&rnd) % BYTES);
		atomic_fetch_sub(&storm.inside, 1);
		sched_yield();
	}
	return NULL;
}

static void no_store_gets_through_on_the_way_home(void **state)
{
	struct sigaction action = { .sa_handler = on_segv }, before;
	uint64_t began = now_ns();
	pthread_t id[NR_WRITERS + 1];
	unsigned rounds = 0;

	storm.mem = map_anon(BYTES, true, true);
	fill_pattern(storm.mem, BYTES, SEED);
	assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
	for (uintptr_t k = 0; k <= NR_WRITERS; k++)
		assert_int_equal(pthread_create(&id[k], NULL, k ? writer : reader, (void *)(k + 1)), 0);
	do {
		storm.protection = protections[rounds % NR_PROTECTIONS];
		go(storm.mem, BYTES);
		protect(storm.mem, storm.protection);
		atomic_store(&storm.no_writing, true);
		for (unsigned tried = atomic_load(&storm.tried); atomic_load(&storm.tried) - tried < 100;)
			sched_yield();
		come(storm.mem, BYTES);
		assert_true(is_protected(storm.mem, storm.protection));
		atomic_store(&storm.no_writing, false);
		eventually(!atomic_load(&storm.inside));
		protect(storm.mem, PROT_READ | PROT_WRITE);
		assert_pattern(storm.mem, BYTES, SEED);
		rounds++;
	} while (now_ns() - began < STORM_NS || rounds < 2 * NR_PROTECTIONS);
	atomic_store(&storm.stop, true);
	for (unsigned k = 0; k <= NR_WRITERS; k++)
		pthread_join(id[k], NULL);
	sigaction(SIGSEGV, &before, NULL);
	assert_int_equal(atomic_load(&storm.got_through), 0);
	assert_true(atomic_load(&storm.tried) > 100 * rounds);
	unmap_anon(storm.mem, BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_comes_home_huge_under_its_protection),
		cmocka_unit_test(read_only_memory_goes_and_comes_home_huge),
		cmocka_unit_test(a_block_of_two_protections),
		cmocka_unit_test(no_store_gets_through_on_the_way_home),
	};

	rig_open("emu:size=64M");
	return rig_close(cmocka_run_group_tests(tests, NULL, NULL));
}
