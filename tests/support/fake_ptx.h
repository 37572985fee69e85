/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAKE_PTX_H
#define TESTS_FAKE_PTX_H

/*
 * PTX on a CPU, as much of it as examples/ and the tests need: functions whose parameters are registers, entries whose parameters are
 * in .param space; integers, floats, branches, global memory. A text is refused as ptxas would refuse it where what is wrong is a
 * name, a type's existence or the form of a line; whether types fit one another is not seen (tests/cli/cuda_examples.sh lets ptxas
 * itself look, where there is one). Threads run one after the other.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ptx;
struct ptx_function;

/* Return: the module; or NULL, with a line of the log that says why. */
struct ptx *ptx_load(const char *text, char *ret_log, size_t log_bytes);
void ptx_free(struct ptx *p);

/* Return: what is .visible .entry @name; or NULL. */
const struct ptx_function *ptx_entry(const struct ptx *p, const char *name);

/* How many parameters an entry has, and how long one is, in bytes. */
unsigned ptx_nr_params(const struct ptx_function *f);
unsigned ptx_param_bytes(const struct ptx_function *f, unsigned i);

/* What one thread knows of itself. */
struct ptx_thread {
	uint32_t block, block_threads, nr_blocks, thread;
};

/* @place: where the @bytes at the device's address @at are here; NULL: it must not use them. Return: whether all could be used. */
bool ptx_run(const struct ptx_function *f, const uint64_t *params, const struct ptx_thread *self,
	     void *(*place)(uint64_t at, unsigned bytes));

#endif
