/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_CUDA_ALONE_H
#define TOOLS_CUDA_ALONE_H

/* CUDA without uhmm: how fast it copies by itself, and how its own managed memory moves. */

#include <stdint.h>

#include "tools/samples.h"
#include "uhmm/uhmm.h"

enum cuda_way { CUDA_TO_DEVICE, CUDA_HOME };

struct cuda_alone;

/*
 * Memory of @bytes, or of a quarter of what the GPU has free if that is less, in a context beside @dev's, which is a "cuda:...".
 * Return: 0, or a negative errno after saying why.
 */
int cuda_alone_open(struct cuda_alone **ret, struct uhmm_device *dev, uint64_t bytes);

/* Accepts NULL. */
void cuda_alone_close(struct cuda_alone *a);

/* How much it is: a multiple of 2 MiB. */
uint64_t cuda_alone_bytes(const struct cuda_alone *a);

/* Pinned memory of so many bytes, zeros at first. */
unsigned char *cuda_alone_pinned(struct cuda_alone *a);

/*
 * Copies all of it, from @host or to it, by commands of @unit_bytes that are waited for one by one, and adds the time of each in
 * microseconds to @ret_us. Return: seconds, or a negative value after saying why.
 */
double cuda_alone_copy(struct cuda_alone *a, enum cuda_way way, void *host, uint64_t unit_bytes, struct samples *ret_us);

/* Why there is no managed memory to be compared with: the end of a sentence. NULL: there is. */
const char *cuda_alone_lacks_managed(const struct cuda_alone *a);

/*
 * Managed memory, all at once: asks for it on the device or on the host, and waits. It is written on the device before it comes home.
 * Return: seconds, or a negative value after saying why.
 */
double cuda_alone_prefetch(struct cuda_alone *a, enum cuda_way way);

/*
 * Managed memory that the device has written comes home by reads of a CPU: of a word in each 4 KiB, as it is for CUDA to choose what
 * comes with one. The time of each @unit_bytes in microseconds goes to @ret_us. Return: seconds, or a negative value after saying why.
 */
double cuda_alone_touch(struct cuda_alone *a, uint64_t unit_bytes, struct samples *ret_us);

#endif
