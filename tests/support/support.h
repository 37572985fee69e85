/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

/*
 * What the tests in behaviour/, stress/ and driver/ share. Sees include/uhmm and the C library only: these tests stand
 * where a program stands.
 *
 * A call whose name says skip ends the whole program with status 77 and one line that says why: call it from main()
 * before the first case runs. What cannot be had without a fault of the library (memory, /proc) ends it with status 1.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uhmm/uhmm.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* Does free() give memory back at once? The address sanitizer keeps it for a while. */
#if defined(__SANITIZE_ADDRESS__)
#define FREE_UNMAPS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FREE_UNMAPS 0
#endif
#endif
#ifndef FREE_UNMAPS
#define FREE_UNMAPS 1
#endif

#define SUPPORT_SKIP 77

/* Prints "SKIP: " and the sentence, and exits with 77. */
void support_skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Unless uhmm_open() can have a full userfaultfd with UFFDIO_MOVE here. */
void skip_unless_uffd(void);

/* Unless a 2 MiB page could be had just now. */
bool has_thp(void);
void skip_unless_thp(void);

/* Does memory that was only read share one page of zeros? A hypervisor may have switched that off; then it has pages. */
bool has_zero_page(void);

/* uhmm_open(); skips where the host refuses it, ends the program with 1 on any other failure. */
struct uhmm_space *open_space_or_skip(const struct uhmm_space_opts *opts);

/* $UHMM_TEST_DEVICE: tests/driver runs once for each spec. "emu:size=1G" when it is not set. */
const char *device_spec(void);

/*
 * Private anonymous memory of @bytes (a multiple of 4096), between two inaccessible pages so that it shares a mapping
 * with nothing else. @align2m: it starts at a multiple of 2 MiB; otherwise one base page past such a multiple. @huge:
 * MADV_HUGEPAGE, otherwise MADV_NOHUGEPAGE. Never NULL. Nothing is touched.
 */
void *map_anon(size_t bytes, bool align2m, bool huge);
/*
 * The addresses are not used again: a fault thread that has read of a touch may get its CPU long after the toucher has gone on, by
 * another's doing, and has ended. It then does what was asked for: brings home what is there now.
 */
void unmap_anon(void *mem, size_t bytes);

/* mlock(2) and munlock(2) by hand: sanitizers make the library's do nothing. */
int lock_memory(const void *mem, size_t bytes);
int unlock_memory(const void *mem, size_t bytes);

/* How much of the mappings in [addr, addr + len) is in THPs, by /proc/self/smaps; mappings that reach past the ends count
 * with all they have, but never for more than what lies inside. */
size_t anon_huge_bytes(const void *addr, size_t len);

/*
 * A pattern in which every word depends on the seed and on its own offset, so that a page in the wrong place shows. @mem
 * is a multiple of 8; a tail shorter than a word is filled too.
 *
 * check_pattern() returns the offset of the first wrong byte's word, or -1. The _at forms take a piece of a larger
 * pattern that starts @offset (a multiple of 8) after the pattern's own start.
 */
void fill_pattern_at(void *mem, size_t len, uint64_t seed, size_t offset);
int64_t check_pattern_at(const void *mem, size_t len, uint64_t seed, size_t offset);

static inline void fill_pattern(void *mem, size_t len, uint64_t seed)
{
	fill_pattern_at(mem, len, seed, 0);
}

static inline int64_t check_pattern(const void *mem, size_t len, uint64_t seed)
{
	return check_pattern_at(mem, len, seed, 0);
}

/* The offset of the first byte that is not zero, or -1. @mem and @len are multiples of 8. */
int64_t check_zero(const void *mem, size_t len);

/* From now on the library's sentences up to @level are remembered, and shown with "# " before them. */
void support_log_start(enum uhmm_log_level level);

/* A copy of the last sentence, valid until this thread asks again; "" when there was none. */
const char *support_last_log(void);

/* How many sentences there were, and forgetting them. */
unsigned support_log_count(void);
void support_log_clear(void);

/* $UHMM_SEED, or a new one; printed, so that a failure can be repeated. */
uint64_t seed_from_env(void);

/* The next number of a sequence; @state is any value, a seed to begin with. */
uint64_t next_random(uint64_t *state);

/* Monotonic. */
uint64_t now_ns(void);

#endif
