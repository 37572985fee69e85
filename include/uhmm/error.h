/* SPDX-License-Identifier: MIT */
#ifndef UHMM_ERROR_H
#define UHMM_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define UHMM_API __attribute__((visibility("default")))
#else
#define UHMM_API
#endif

/*
 * Every call returns 0 when it did what was asked, a negative errno when it did not, or a positive UHMM_E_*
 * for an outcome between the two. errno itself is never set, and nothing is ever printed: what a person should
 * read goes, as one sentence, through the log callback.
 */

/* Some pages stayed where they were; nothing is lost. The result structure says how many, and why. */
#define UHMM_E_PARTIAL 1

enum uhmm_log_level {
	UHMM_LOG_ERROR = 0, /* a call failed, or bytes are in danger */
	UHMM_LOG_WARN  = 1, /* something works, but less well than it could */
	UHMM_LOG_INFO  = 2, /* said once: what was found, what was chosen */
	UHMM_LOG_DEBUG = 3,
};

/**
 * uhmm_log_fn - receives one complete sentence, without a newline
 * @ctx:     what was given to uhmm_log_set()
 * @level:   how serious it is
 * @message: the sentence; valid during the call only
 *
 * Context: any thread, also a fault thread: it must not allocate, must not touch memory that has been given to
 * uhmm, and must not call uhmm. write(2) to a file descriptor is fine.
 */
typedef void uhmm_log_fn(void *ctx, enum uhmm_log_level level, const char *message);

/**
 * uhmm_log_set() - choose who hears the library's sentences
 * @fn:    the callback, or NULL for silence (the default)
 * @ctx:   handed to @fn
 * @level: the least serious level that is still wanted
 *
 * One callback serves the whole process, so that a failed uhmm_open() is heard too.
 *
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API void uhmm_log_set(uhmm_log_fn *fn, void *ctx, enum uhmm_log_level level);

/**
 * uhmm_strerror() - one sentence for a return value of this library
 * @r: what a uhmm call returned
 *
 * Return: a string that is never freed.
 * Context: any thread.
 * Since: 0.1
 */
UHMM_API const char *uhmm_strerror(int r);

#ifdef __cplusplus
}
#endif

#endif
