/* SPDX-License-Identifier: MIT */
#include "unit.h"

static void nobody_hears_anything_at_first(void **state)
{
	(void)state;
	log_say(UHMM_LOG_ERROR, "nobody %s this", "hears");
}

static void the_callback_gets_level_and_whole_sentence(void **state)
{
	struct said *s = said_start();

	(void)state;
	log_say(UHMM_LOG_WARN, "%d of %s", 3, "them");
	assert_int_equal(s->nr, 1);
	assert_int_equal(s->level, UHMM_LOG_WARN);
	assert_string_equal(s->line, "3 of them");
	said_end(s);
}

static void less_serious_ones_are_not_heard(void **state)
{
	struct said *s = said_start();

	(void)state;
	for (int wanted = UHMM_LOG_ERROR; wanted <= UHMM_LOG_DEBUG; wanted++) {
		log_set(said_hear, s, (enum uhmm_log_level)wanted);
		for (int level = UHMM_LOG_ERROR; level <= UHMM_LOG_DEBUG; level++) {
			s->nr = 0;
			log_say((enum uhmm_log_level)level, "x");
			assert_int_equal(s->nr, level <= wanted);
		}
	}
	said_end(s);
}

static void null_is_silence_again(void **state)
{
	struct said *s = said_start();

	(void)state;
	log_set(NULL, NULL, UHMM_LOG_DEBUG);
	log_say(UHMM_LOG_ERROR, "x");
	assert_int_equal(s->nr, 0);
	said_end(s);
}

static void long_sentences_are_cut_at_400_bytes(void **state)
{
	struct said *s = said_start();
	char text[1000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_say(UHMM_LOG_INFO, "%s", text);
	assert_int_equal(strlen(s->line), 399);
	assert_memory_equal(s->line, text, 399);
	said_end(s);
}

static void say_once(void)
{
	log_once(UHMM_LOG_INFO, "said once, %s", "not twice");
}

static void once_is_once_for_each_place(void **state)
{
	struct said *s = said_start();

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		say_once();
	assert_int_equal(s->nr, 1);
	assert_string_equal(s->line, "said once, not twice");
	log_once(UHMM_LOG_INFO, "another place");
	assert_int_equal(s->nr, 2);
	said_end(s);
}

/* Two listeners, each with a context of its own. */
static int ctx_a, ctx_b;
static _Atomic unsigned nr_heard, nr_wrong_ctx;
static atomic_bool stop;

static void hear_a(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)level;
	(void)message;
	atomic_fetch_add(&nr_heard, 1);
	if (ctx != &ctx_a)
		atomic_fetch_add(&nr_wrong_ctx, 1);
}

static void hear_b(void *ctx, enum uhmm_log_level level, const char *message)
{
	(void)level;
	(void)message;
	atomic_fetch_add(&nr_heard, 1);
	if (ctx != &ctx_b)
		atomic_fetch_add(&nr_wrong_ctx, 1);
}

static void *speak(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop))
		log_say(UHMM_LOG_ERROR, "a sentence of some length: %d, %d, %s", 1, 2, "three");
	return NULL;
}

static void a_callback_never_gets_the_context_of_another(void **state)
{
	pthread_t t[2];

	(void)state;
	atomic_store(&stop, false);
	for (unsigned i = 0; i < 2; i++)
		t[i] = spawn(speak, NULL);
	for (unsigned n = 0; n < 50000 || (n < 5000000 && !nr_heard); n++) {
		log_set(hear_a, &ctx_a, UHMM_LOG_ERROR);
		log_set(hear_b, &ctx_b, UHMM_LOG_ERROR);
		if (n % 256 == 0)
			sched_yield();
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	log_set(NULL, NULL, UHMM_LOG_WARN);
	assert_int_equal(nr_wrong_ctx, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_hears_anything_at_first),
		cmocka_unit_test(the_callback_gets_level_and_whole_sentence),
		cmocka_unit_test(less_serious_ones_are_not_heard),
		cmocka_unit_test(null_is_silence_again),
		cmocka_unit_test(long_sentences_are_cut_at_400_bytes),
		cmocka_unit_test(once_is_once_for_each_place),
		cmocka_unit_test(a_callback_never_gets_the_context_of_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
