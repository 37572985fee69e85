/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/pageset.h"

/* What the set should be, and whether every question is answered as it should be. */
static void check(const struct pageset *s, const bool *model)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++) {
		unsigned next = i, end = i;

		while (next < PAGES_PER_BLOCK && !model[next])
			next++;
		while (end < PAGES_PER_BLOCK && model[end])
			end++;
		assert_int_equal(pageset_has(s, i), model[i]);
		assert_int_equal(pageset_next(s, i), next);
		assert_int_equal(pageset_run_end(s, i), end);
		n += model[i];
	}
	assert_int_equal(pageset_count(s), n);
	assert_int_equal(pageset_empty(s), n == 0);
	assert_int_equal(pageset_next(s, PAGES_PER_BLOCK), PAGES_PER_BLOCK);
}

static void check_loops(const struct pageset *s, const bool *model)
{
	bool seen[PAGES_PER_BLOCK] = { false };
	unsigned previous_end = 0;

	pageset_for_each(s, i) {
		assert_false(seen[i]);
		seen[i] = true;
	}
	assert_memory_equal(seen, model, sizeof(seen));
	pageset_for_each_run(s, i, end) {
		assert_true(i < end);
		assert_true(i > previous_end || (i == 0 && previous_end == 0)); /* maximal: a gap lies between */
		for (unsigned k = i; k < end; k++)
			seen[k] = false;
		previous_end = end;
	}
	for (unsigned i = 0; i < PAGES_PER_BLOCK; i++)
		assert_false(seen[i]);
}

static void the_empty_and_the_full_set(void **state)
{
	bool model[PAGES_PER_BLOCK] = { false };
	struct pageset s = { 0 };

	(void)state;
	check(&s, model);
	check_loops(&s, model);
	pageset_add_range(&s, 0, PAGES_PER_BLOCK);
	memset(model, 1, sizeof(model));
	check(&s, model);
	check_loops(&s, model);
}

static void runs_across_words_and_at_both_ends(void **state)
{
	static const unsigned range[][2] = { { 0, 1 }, { 63, 65 }, { 100, 100 }, { 127, 128 }, { 192, 320 }, { 511, 512 } };
	bool model[PAGES_PER_BLOCK] = { false };
	struct pageset s = { 0 };

	(void)state;
	for (unsigned r = 0; r < sizeof(range) / sizeof(*range); r++) {
		pageset_add_range(&s, range[r][0], range[r][1]);
		for (unsigned i = range[r][0]; i < range[r][1]; i++)
			model[i] = true;
	}
	check(&s, model);
	check_loops(&s, model);
}

static void random_changes_as_a_byte_array(void **state)
{
	bool model[PAGES_PER_BLOCK] = { false };
	struct pageset s = { 0 };
	uint64_t seed = 1;

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		for (unsigned n = 0; n < 20; n++) {
			unsigned i = next_random(&seed) % PAGES_PER_BLOCK;
			bool add = next_random(&seed) >> 20 & 1;

			(add ? pageset_add : pageset_del)(&s, i);
			model[i] = add;
		}
		if (round % 10 == 0)
			check(&s, model);
		check_loops(&s, model);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_empty_and_the_full_set),
		cmocka_unit_test(runs_across_words_and_at_both_ends),
		cmocka_unit_test(random_changes_as_a_byte_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
