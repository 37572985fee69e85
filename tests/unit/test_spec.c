/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/err.h"
#include "base/spec.h"

#define US UINT64_C(1000)
#define MS (1000 * US)

struct fields {
	uint64_t size, latency, lanes, verify;
	char path[SPEC_WORD_BYTES];
};

static const struct spec_key keys[] = {
	{ "size", SPEC_SIZE, offsetof(struct fields, size) },
	{ "latency", SPEC_TIME, offsetof(struct fields, latency) },
	{ "lanes", SPEC_COUNT, offsetof(struct fields, lanes) },
	{ "verify", SPEC_BOOL, offsetof(struct fields, verify) },
	{ "path", SPEC_WORD, offsetof(struct fields, path) },
	{ NULL, 0, 0 },
};

static const struct good {
	enum spec_kind kind;
	const char *text;
	uint64_t value;
} good[] = {
	{ SPEC_SIZE, "0", 0 }, { SPEC_SIZE, "4096", 4096 }, { SPEC_SIZE, "7B", 7 },
	{ SPEC_SIZE, "64K", 64 * KIB }, { SPEC_SIZE, "64KiB", 64 * KIB }, { SPEC_SIZE, "3M", 3 * MIB },
	{ SPEC_SIZE, "3MiB", 3 * MIB }, { SPEC_SIZE, "1G", GIB }, { SPEC_SIZE, "1.5G", GIB + GIB / 2 },
	{ SPEC_SIZE, "2GiB", 2 * GIB }, { SPEC_SIZE, "1T", 1024 * GIB }, { SPEC_SIZE, "0.25TiB", 256 * GIB },
	{ SPEC_TIME, "0ns", 0 }, { SPEC_TIME, "500ns", 500 }, { SPEC_TIME, "20us", 20 * US },
	{ SPEC_TIME, "1.5ms", 1500 * US }, { SPEC_TIME, "1s", 1000 * MS },
	{ SPEC_COUNT, "0", 0 }, { SPEC_COUNT, "3", 3 }, { SPEC_COUNT, "1000000", 1000000 },
	{ SPEC_BOOL, "on", 1 }, { SPEC_BOOL, "1", 1 }, { SPEC_BOOL, "off", 0 }, { SPEC_BOOL, "0", 0 },
};

static void good_values_are_understood(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
		uint64_t v = 99;

		assert_int_equal(spec_parse_value(good[i].text, good[i].kind, &v), 0);
		assert_int_equal(v, good[i].value);
	}
}

static const struct { enum spec_kind kind; const char *text; } bad[] = {
	{ SPEC_SIZE, "" }, { SPEC_SIZE, "K" }, { SPEC_SIZE, "-1" }, { SPEC_SIZE, " 1" }, { SPEC_SIZE, "1 K" },
	{ SPEC_SIZE, "1k" }, { SPEC_SIZE, "1KB" }, { SPEC_SIZE, "1Kx" }, { SPEC_SIZE, "9e99" }, { SPEC_SIZE, "8388608T" },
	{ SPEC_SIZE, "inf" }, { SPEC_SIZE, "nan" }, { SPEC_SIZE, "+1" }, { SPEC_SIZE, "many" },
	{ SPEC_TIME, "" }, { SPEC_TIME, "5" }, { SPEC_TIME, "5m" }, { SPEC_TIME, "us" }, { SPEC_TIME, "-5us" },
	{ SPEC_COUNT, "" }, { SPEC_COUNT, "1.5" }, { SPEC_COUNT, "-1" }, { SPEC_COUNT, "1K" }, { SPEC_COUNT, "0x10" },
	{ SPEC_COUNT, "1e3" }, { SPEC_BOOL, "" }, { SPEC_BOOL, "yes" }, { SPEC_BOOL, "On" }, { SPEC_BOOL, "2" },
	{ SPEC_BOOL, "01" }, { SPEC_WORD, "" }, { SPEC_WORD, "a-word-that-is-longer-than-it-may" },
};

static void bad_values_are_refused_and_change_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		char v[SPEC_WORD_BYTES] = "as it was", was[SPEC_WORD_BYTES] = "as it was";

		assert_int_equal(spec_parse_value(bad[i].text, bad[i].kind, v), -EINVAL);
		assert_memory_equal(v, was, sizeof(v));
	}
}

static void the_longest_word_fits(void **state)
{
	char word[SPEC_WORD_BYTES + 1], v[SPEC_WORD_BYTES];

	(void)state;
	memset(word, 'w', sizeof(word));
	word[SPEC_WORD_BYTES - 1] = '\0';
	assert_int_equal(spec_parse_value(word, SPEC_WORD, v), 0);
	assert_string_equal(v, word);
}

static void the_longest_path_fits(void **state)
{
	char path[SPEC_PATH_BYTES + 1], v[SPEC_PATH_BYTES];

	(void)state;
	memset(path, 'p', sizeof(path));
	path[SPEC_PATH_BYTES] = '\0';
	assert_int_equal(spec_parse_value(path, SPEC_PATH, v), -EINVAL);
	path[SPEC_PATH_BYTES - 1] = '\0';
	assert_int_equal(spec_parse_value(path, SPEC_PATH, v), 0);
	assert_string_equal(v, path);
}

static void all_keys_are_filled_in_any_order(void **state)
{
	struct fields f = { .size = 1 };
	char why[200] = "";

	(void)state;
	assert_int_equal(spec_parse("verify=on,path=/tmp/x,lanes=4,latency=20us,size=1.5G", keys, &f, why, sizeof(why)), 0);
	assert_int_equal(f.size, GIB + GIB / 2);
	assert_int_equal(f.latency, 20 * US);
	assert_int_equal(f.lanes, 4);
	assert_int_equal(f.verify, 1);
	assert_string_equal(f.path, "/tmp/x");
	assert_string_equal(why, "");
}

static void what_is_not_named_keeps_its_default(void **state)
{
	struct fields f = { .size = 7, .lanes = 8 };

	(void)state;
	assert_int_equal(spec_parse("", keys, &f, NULL, 0), 0);
	assert_int_equal(f.size, 7);
	assert_int_equal(spec_parse("lanes=2", keys, &f, NULL, 0), 0);
	assert_int_equal(f.size, 7);
	assert_int_equal(f.lanes, 2);
}

static void a_value_may_hold_an_equals_sign(void **state)
{
	struct fields f = { .size = 0 };

	(void)state;
	assert_int_equal(spec_parse("path=a=b", keys, &f, NULL, 0), 0);
	assert_string_equal(f.path, "a=b");
}

/* Refused, with a sentence in which all of @words stand. */
static void assert_refused(const char *options, const char *const *words)
{
	struct fields f = { .size = 0 };
	char why[300] = "";

	assert_int_equal(spec_parse(options, keys, &f, why, sizeof(why)), -EINVAL);
	for (; *words; words++)
		if (!strstr(why, *words))
			fail_msg("\"%s\": \"%s\" is not in \"%s\"", options, *words, why);
}

#define ASSERT_REFUSED(options, ...) assert_refused(options, (const char *const[]){ __VA_ARGS__, NULL })

static void the_sentence_names_key_and_value_and_what_is_right(void **state)
{
	(void)state;
	ASSERT_REFUSED("size=many", "size", "many", "64K");
	ASSERT_REFUSED("lanes=1,size=1KB", "size", "1KB", "64K");
	ASSERT_REFUSED("latency=5", "latency", "5", "20us");
	ASSERT_REFUSED("lanes=1.5", "lanes", "1.5", "whole number");
	ASSERT_REFUSED("verify=yes", "verify", "yes", "on or off");
	ASSERT_REFUSED("path=", "path", "word");
}

static void an_unknown_key_is_told_the_known_ones(void **state)
{
	(void)state;
	ASSERT_REFUSED("sise=1G", "sise", "size", "latency", "lanes", "verify", "path");
	ASSERT_REFUSED("siz=1G", "\"siz\"");
	ASSERT_REFUSED("=1G", "no option");
}

static void a_key_without_a_value_is_refused(void **state)
{
	(void)state;
	ASSERT_REFUSED("verify", "verify", "no value");
	ASSERT_REFUSED("lanes=1,", "no value");
	ASSERT_REFUSED(",lanes=1", "no value");
}

static void very_long_options_are_refused(void **state)
{
	char options[600];

	(void)state;
	memset(options, 'x', sizeof(options) - 1);
	options[sizeof(options) - 1] = '\0';
	ASSERT_REFUSED(options, "longer");
}

static void a_text_means_a_number_or_a_part_of_a_name(void **state)
{
	(void)state;
	assert_true(spec_means("", 3, "Fast GPU"));
	assert_true(spec_means("3", 3, "Fast GPU"));
	assert_false(spec_means("2", 3, "Fast GPU 2"));
	assert_true(spec_means("fast", 3, "Fast GPU"));
	assert_true(spec_means("GPU 2", 3, "Fast GPU 2"));
	assert_false(spec_means("slow", 3, "Fast GPU"));
}

static void a_sentence_is_not_obligatory(void **state)
{
	struct fields f;

	(void)state;
	assert_int_equal(spec_parse("size=many", keys, &f, NULL, 0), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_values_are_understood),
		cmocka_unit_test(bad_values_are_refused_and_change_nothing),
		cmocka_unit_test(the_longest_word_fits),
		cmocka_unit_test(the_longest_path_fits),
		cmocka_unit_test(all_keys_are_filled_in_any_order),
		cmocka_unit_test(what_is_not_named_keeps_its_default),
		cmocka_unit_test(a_value_may_hold_an_equals_sign),
		cmocka_unit_test(the_sentence_names_key_and_value_and_what_is_right),
		cmocka_unit_test(an_unknown_key_is_told_the_known_ones),
		cmocka_unit_test(a_key_without_a_value_is_refused),
		cmocka_unit_test(very_long_options_are_refused),
		cmocka_unit_test(a_text_means_a_number_or_a_part_of_a_name),
		cmocka_unit_test(a_sentence_is_not_obligatory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
