/* SPDX-License-Identifier: MIT */
/*
 * argp prints two lines for a mistake and exits with 64; we want one sentence and 2. So it is told to be silent, and
 * what it could not understand is found again from where it stopped reading: the word before state->next.
 */
#include "tools/args.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/say.h"
#include "tools/size.h"

static int status_of_mistakes = EXIT_MISUSE;

void args_status(int status)
{
	status_of_mistakes = status;
}

void args_wrong(const char *fmt, ...)
{
	char sentence[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sentence, sizeof(sentence), fmt, ap);
	va_end(ap);
	say("%s", sentence);
	exit(status_of_mistakes);
}

static const struct argp_option *find_option(const struct argp *argp, const char *word, size_t len)
{
	for (const struct argp_option *o = argp->options; o->name || o->key; o++)
		if (o->name && strlen(o->name) == len && !strncmp(o->name, word, len))
			return o;
	return NULL;
}

_Noreturn static void wrong_word(const struct argp_state *state)
{
	const char *word = state->next > 0 ? state->argv[state->next - 1] : "";
	const struct argp_option *option = NULL;

	if (!strncmp(word, "--", 2))
		option = find_option(state->root_argp, word + 2, strcspn(word + 2, "="));
	if (option && option->arg)
		args_wrong("%s wants a value: write %s=%s", word, word, option->arg);
	if (option)
		args_wrong("--%s takes no value: leave away what follows the \"=\"", option->name);
	args_wrong("there is no option %s: \"%s --help\" lists them", word, state->name);
}

error_t args_common(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	switch (key) {
	case 'h':
		argp_help(state->root_argp, stdout, ARGP_HELP_STD_HELP, state->name);
		exit(EXIT_DONE);
	case ARGP_KEY_ERROR:
		wrong_word(state);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

char *args_help_filter(int key, const char *text, void *input)
{
	(void)input;
	return key == ARGP_KEY_HELP_DUP_ARGS_NOTE ? NULL : (char *)text;
}

void args_parse(const struct argp *argp, int argc, char **argv, void *input)
{
	int end = 0;

	argp_parse(argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, &end, input);
	if (end < argc)
		args_wrong("\"%s\" is one word too many: see \"%s --help\"", argv[end], argv[0]);
}

uint64_t args_size(const char *option, const char *arg)
{
	uint64_t bytes;

	if (size_parse(arg, &bytes))
		args_wrong("%s=%s is not a size: write a number and K, M, G or T, such as 512M", option, arg);
	if (!bytes)
		args_wrong("%s=%s leaves nothing to move: ask for 4K or more", option, arg);
	return bytes;
}

unsigned args_count(const char *option, const char *arg, unsigned max)
{
	char *end;
	unsigned long n = strtoul(arg, &end, 10);

	if (*arg < '0' || *arg > '9' || *end || n < 1 || n > max)
		args_wrong("%s=%s is out of range: write a whole number from 1 to %u", option, arg, max);
	return (unsigned)n;
}

pid_t args_pid(const char *arg)
{
	char *end;
	long pid = strtol(arg, &end, 10);

	if (*end || pid <= 0 || pid > INT32_MAX)
		args_wrong("\"%s\" is not the number of a process", arg);
	return (pid_t)pid;
}
