/* SPDX-License-Identifier: MIT */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/*
 * How functions answer, everywhere below src/api:
 *
 *   0         done.
 *   negative  an errno that is fatal here: forwarded unchanged, never matched.
 *   positive  a named outcome of this very function (UFFD_E_BUSY, ...), listed in its header, handled by the caller and
 *             never forwarded. One that nobody expected goes through err_fold(), which reports it.
 *
 * ret_ outputs are untouched on failure. errno is nobody's channel: src/os turns it into a return value at once.
 */

#include <stdbool.h>
#include <stddef.h>

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Holds in every build; a violated one means bytes could be lost, so it ends the process. */
#define uhmm_assert(cond) \
	do { \
		if (unlikely(!(cond))) \
			err_assert_failed(#cond, __FILE__, __LINE__); \
	} while (0)

_Noreturn void err_assert_failed(const char *cond, const char *file, int line);

/* An outcome the caller has no case for becomes -EPROTO, and the log names it. */
int err_fold_at(int r, const char *what, const char *file, int line);
#define err_fold(r, what) err_fold_at(r, what, __FILE__, __LINE__)

/* Fills a caller's buffer with a sentence for people; a NULL buffer is fine. Returns @r. */
int err_why(char *why, size_t bytes, int r, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
