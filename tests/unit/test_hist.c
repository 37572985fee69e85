/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/hist.h"

static struct hist hist;

static int clear(void **state)
{
	(void)state;
	memset(&hist, 0, sizeof(hist));
	return 0;
}

static uint64_t total(void)
{
	uint64_t n = 0;

	for (unsigned b = 0; b < HIST_BUCKETS; b++)
		n += hist.count[b];
	return n;
}

static void an_empty_one_answers_0(void **state)
{
	(void)state;
	assert_int_equal(hist_quantile(&hist, 0), 0);
	assert_int_equal(hist_quantile(&hist, 0.5), 0);
	assert_int_equal(hist_quantile(&hist, 1), 0);
}

static void one_value_is_every_quantile(void **state)
{
	(void)state;
	hist_add(&hist, 123456789);
	assert_int_equal(hist_quantile(&hist, 0), 123456789);
	assert_int_equal(hist_quantile(&hist, 0.5), 123456789);
	assert_int_equal(hist_quantile(&hist, 1), 123456789);
}

static void small_values_are_exact(void **state)
{
	(void)state;
	for (uint64_t v = 0; v < HIST_SUB; v++)
		hist_add(&hist, v);
	for (unsigned v = 0; v < HIST_SUB; v++)
		assert_int_equal(hist_quantile(&hist, (v + 0.001) / (HIST_SUB - 1.0)), v);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void quantiles_are_at_most_a_sixteenth_too_high(void **state)
{
	enum { N = 20000 };
	static uint64_t value[N];
	uint64_t seed = 1;

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		value[i] = next_random(&seed) >> (21 + next_random(&seed) % 40); /* all sizes up to 2^43 */
		hist_add(&hist, value[i]);
	}
	qsort(value, N, sizeof(*value), by_value);
	for (unsigned k = 0; k <= 1000; k++) {
		double q = k / 1000.0;
		uint64_t exact = value[(uint64_t)(q * (N - 1))], got = hist_quantile(&hist, q);

		assert_true(got >= exact);
		assert_true(got <= exact + exact / 16 + 1);
	}
	assert_int_equal(hist_quantile(&hist, 1), value[N - 1]);
	assert_int_equal(total(), N);
}

static void bucket_edges_are_in_their_bucket(void **state)
{
	(void)state;
	for (unsigned shift = 4; shift < 43; shift++) {
		for (int d = -1; d <= 1; d++) {
			uint64_t v = (UINT64_C(1) << shift) + (uint64_t)(int64_t)d;

			clear(NULL);
			hist_add(&hist, v);
			hist_add(&hist, UINT64_C(1) << 43); /* or the bound by the largest value would hide the edge */
			assert_true(hist_quantile(&hist, 0) >= v);
			assert_true(hist_quantile(&hist, 0) <= v + v / 16);
		}
	}
}

static void very_long_ones_land_in_the_last_bucket(void **state)
{
	(void)state;
	hist_add(&hist, UINT64_C(1) << 43);
	hist_add(&hist, UINT64_MAX);
	assert_int_equal(hist.count[HIST_BUCKETS - 1], 2);
	assert_int_equal(hist.max, UINT64_MAX);
}

static void *add_many(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	for (unsigned i = 0; i < 10000; i++)
		hist_add(&hist, next_random(&seed) >> 30);
	return NULL;
}

static void threads_lose_no_count(void **state)
{
	pthread_t t[4];
	uint64_t max = 0;

	(void)state;
	for (uintptr_t i = 0; i < 4; i++)
		t[i] = spawn(add_many, (void *)i);
	(void)hist_quantile(&hist, 0.99); /* reading meanwhile is allowed */
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (uint64_t i = 0; i < 4; i++) {
		uint64_t seed = i;

		for (unsigned k = 0; k < 10000; k++)
			max = max_u64(max, next_random(&seed) >> 30);
	}
	assert_int_equal(total(), 40000);
	assert_int_equal(hist.max, max);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(an_empty_one_answers_0, clear),
		cmocka_unit_test_setup(one_value_is_every_quantile, clear),
		cmocka_unit_test_setup(small_values_are_exact, clear),
		cmocka_unit_test_setup(quantiles_are_at_most_a_sixteenth_too_high, clear),
		cmocka_unit_test_setup(bucket_edges_are_in_their_bucket, clear),
		cmocka_unit_test_setup(very_long_ones_land_in_the_last_bucket, clear),
		cmocka_unit_test_setup(threads_lose_no_count, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
