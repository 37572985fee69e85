/* SPDX-License-Identifier: MIT */
#ifndef POLICY_HEAT_H
#define POLICY_HEAT_H

/*
 * One byte for each block of the program: how many laps of the clock's hand it may stay, and whether it is used as a whole.
 * Written by fault threads when a block comes, and by the policy's thread when the hand passes; a lost update is a lap or a
 * fetched block more or less.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/pages.h"
#include "mem/meta.h"

#define HEAT_UNSEEN 0 /* the hand was never here */
#define HEAT_COLD   1 /* may leave */
#define HEAT_WARM   2 /* has come since the hand was here: one lap of grace */
#define HEAT_MAX    6
#define HEAT_LAPS   0x0f

/* Beside it: all of the block was wanted when it was home last, and is brought so many times more at its first touch. */
#define HEAT_DENSE_SHIFT 4
#define HEAT_DENSE_MAX   3

struct heat {
	/* constant after heat_init() */
	_Atomic(_Atomic uint8_t *) *root; /* one for each GiB; touched where used */

	struct meta leaves;               /* 512 bytes each */
};

int heat_init(struct heat *h);
void heat_fini(struct heat *h);

/* The byte of the block at @addr. Return: NULL without memory. Context: fault thread too. */
_Atomic uint8_t *heat_of(struct heat *h, uint64_t addr);

/* The block has come, or was missed: @by more laps, up to @most. */
void heat_warm(struct heat *h, uint64_t addr, unsigned by, unsigned most);

/* The hand passes. Return: the block is cold. */
bool heat_cool(struct heat *h, uint64_t addr);

/* All of the block was wanted, page after page. */
void heat_dense(struct heat *h, uint64_t addr);
/* Shall it come as a whole? Asking takes one of the times away, so that a block that has become sparse is found out. */
bool heat_take_dense(struct heat *h, uint64_t addr);

#endif
