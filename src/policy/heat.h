/* SPDX-License-Identifier: MIT */
#ifndef POLICY_HEAT_H
#define POLICY_HEAT_H

/*
 * One byte for each block of the program: how many laps of the clock's hand it may stay. Written by fault threads when a block
 * comes, and by the policy's thread when the hand passes; a lost update is a lap more or less.
 */

#include <stdatomic.h>
#include <stdint.h>

#include "base/pages.h"
#include "mem/meta.h"

#define HEAT_UNSEEN 0 /* the hand was never here */
#define HEAT_COLD   1 /* may leave */
#define HEAT_WARM   2 /* has come since the hand was here: one lap of grace */
#define HEAT_MAX    6

struct heat {
	/* constant after heat_init() */
	_Atomic(_Atomic uint8_t *) *root; /* one for each GiB; touched where used */

	struct meta leaves;               /* 512 bytes each */
};

int heat_init(struct heat *h);
void heat_fini(struct heat *h);

/* The byte of the block at @addr. Return: NULL without memory. Context: fault thread too. */
_Atomic uint8_t *heat_of(struct heat *h, uint64_t addr);

/* The block has come, or was missed: @by more laps. */
void heat_warm(struct heat *h, uint64_t addr, unsigned by);

#endif
