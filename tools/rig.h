/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_RIG_H
#define TOOLS_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/region.h"
#include "uhmm/uhmm.h"

/* An open space with one device: what every measurement stands on. */
struct rig {
	struct uhmm_space *space;
	struct uhmm_device *dev;
	struct uhmm_device_info info; /* as it was just after opening */
	uint64_t pool_bytes;          /* that it was told to keep in recycled THPs at most */
	unsigned copy_threads;        /* that the library was told to use for one large migration */
};

/* Whether @bytes of memory can be had without pushing the machine to its end. Return: whether, after saying so if not. */
bool rig_fits(uint64_t bytes);

/*
 * @spec:       a device, or NULL for an "emu:" that has room for @bytes and whose memory is there from the start, as a
 *              real device's is
 * @host_bytes: memory that the caller is going to use besides the device's
 *
 * Return: EXIT_DONE; EXIT_FAILED or, for a spec that cannot be meant, EXIT_MISUSE, after saying why.
 */
int rig_open(struct rig *rig, const char *spec, uint64_t bytes, uint64_t host_bytes);

/* The two steps of it: a space without a device, with a pool of @bytes; and a device into rig->dev.
 * Return: 0, or a negative errno after saying why. */
int rig_open_space(struct rig *rig, uint64_t bytes);
int rig_open_device(struct rig *rig, const char *spec);

/* Accepts a zeroed rig. Return: EXIT_DONE, or EXIT_FAILED after saying why. */
int rig_close(struct rig *rig);

/* Move a piece of a region, or bring all of it home. Pages that stayed are in @ret, and the first time they are told
 * with their reasons. Return: the time it took in seconds, or a negative value after saying why. */
double rig_to_device(struct rig *rig, const struct region *r, uint64_t from_bytes, uint64_t to_bytes,
		     struct uhmm_result *ret);
double rig_send(struct rig *rig, const struct region *r, uint64_t from_bytes, uint64_t to_bytes, uint32_t flags,
		struct uhmm_result *ret); /* with UHMM_MOVE_* */
double rig_to_system(struct rig *rig, const struct region *r, struct uhmm_result *ret);

/* The smallest folio of what moved, as an order: how far apart touches may be and still bring everything home. */
unsigned rig_smallest_order(const struct uhmm_result *moved);

#endif
