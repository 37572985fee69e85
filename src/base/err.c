/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"

_Noreturn void err_assert_failed(const char *cond, const char *file, int line)
{
	log_die("the library is in a state it must never be in (%s, %s:%d) and stops before bytes are lost", cond, file, line);
}

int err_fold_at(int r, const char *what, const char *file, int line)
{
	if (r <= 0)
		return r;
	log_say(UHMM_LOG_ERROR, "%s had outcome %d, which nobody expected at %s:%d", what, r, file, line);
	return -EPROTO;
}

int err_why(char *why, size_t bytes, int r, const char *fmt, ...)
{
	va_list ap;

	if (!why || !bytes)
		return r;
	va_start(ap, fmt);
	vsnprintf(why, bytes, fmt, ap);
	va_end(ap);
	return r;
}
