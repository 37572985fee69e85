/* SPDX-License-Identifier: MIT */
/* How much of a block comes home with a touch, below a limit: little where touches are scattered, blocks for who reads on. */
#include "rig.h"

#define LIMIT (64 * MIB)
#define LARGE (160 * MIB)

static struct uhmm_policy_stats policy(void)
{
	struct uhmm_policy_stats st = { .sz = sizeof(st) };

	assert_int_equal(uhmm_policy_stats(space, &st), 0);
	return st;
}

/* A piece of the pattern that all of @mem has. */
static void assert_part(const char *mem, size_t at, size_t len)
{
	assert_int_equal(check_pattern_at(mem + at, len, 1, at), -1);
}

/* LARGE bytes of pattern 1, of which most have left as whole blocks. */
static char *more_than_the_limit(void)
{
	UHMM_OPTS(uhmm_policy_opts, o, .limit_bytes = LIMIT, .devices = &dev, .nr_devices = 1,
		  .flags = UHMM_POLICY_EMU_APART | UHMM_POLICY_HUGE);
	char *mem = map_anon(LARGE, true, true);

	assert_int_equal(uhmm_policy_start(space, &o), 0);
	fill_pattern(mem, LARGE, 1);
	eventually(count_where(mem, LARGE, UHMM_WHERE_DEVICE) >= PAGES(LARGE - LIMIT));
	return mem;
}

static void end(char *mem)
{
	assert_int_equal(uhmm_policy_stop(space), 0);
	unmap_anon(mem, LARGE);
}

/* Is all of the block at @mem on the device, in one folio? */
static bool is_whole(char *mem)
{
	struct uhmm_extent ext[2];
	size_t nr;

	assert_int_equal(uhmm_query(space, mem, BLOCK, ext, 2, &nr), 0);
	return nr == 1 && ext[0].where == UHMM_WHERE_DEVICE;
}

static void a_scattered_touch_brings_its_page(void **state)
{
	char *mem = more_than_the_limit();
	unsigned touched = 0;

	(void)state;
	for (size_t at = 0; at < LARGE; at += BLOCK) {
		size_t page = (at / BLOCK * 37 + 5) % 512 * PAGE;

		if (!is_whole(mem + at))
			continue;
		assert_part(mem, at + page, PAGE);
		touched++;
		assert_true(count_where(mem + at, BLOCK, UHMM_WHERE_DEVICE) >= 511);
	}
	assert_true(touched >= 20);
	assert_pattern(mem, LARGE, 1);
	end(mem);
}

static void who_reads_on_gets_blocks_and_the_next_ones_ahead(void **state)
{
	char *mem = more_than_the_limit();
	uint64_t faults = stats().faults, ahead = policy().ahead_bytes;

	(void)state;
	for (unsigned round = 0; round < 3; round++)
		assert_pattern(mem, LARGE, 1);
	/* six for each start, and one or two a block; those that growth causes come on top */
	assert_true(stats().faults - faults < 3 * 6 * LARGE / BLOCK);
	assert_true(policy().ahead_bytes > ahead);
	end(mem);
}

/* Each block is read from its first page to its last: the second time it is known that all of it will be wanted. */
static void a_block_that_was_wanted_as_a_whole_comes_as_one(void **state)
{
	char *mem = more_than_the_limit();
	uint64_t faults[3];

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		faults[round] = stats().faults;
		/* no two neighbours one after the other */
		for (size_t k = 0; k < LARGE / BLOCK; k++)
			assert_part(mem, k * 31 % (LARGE / BLOCK) * BLOCK, BLOCK);
		faults[round] = stats().faults - faults[round];
	}
	/* one a block, and some for what left in between; six for each that comes piece by piece */
	assert_true(faults[1] < 2 * LARGE / BLOCK && faults[2] < 2 * LARGE / BLOCK);
	end(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_scattered_touch_brings_its_page),
		cmocka_unit_test(who_reads_on_gets_blocks_and_the_next_ones_ahead),
		cmocka_unit_test(a_block_that_was_wanted_as_a_whole_comes_as_one),
	};

	if (!FREE_UNMAPS)
		support_skip("the address sanitizer's shadow is memory that may leave, and the library, built with it, touches it");
	rig_open("emu:size=512M");
	return rig_close(cmocka_run_group_tests_name("sparse", tests, NULL, NULL));
}
