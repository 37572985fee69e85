/* SPDX-License-Identifier: MIT */
#ifndef TESTS_FAKE_PTX_PARTS_H
#define TESTS_FAKE_PTX_PARTS_H

/* What reads PTX, fake_ptx.c, and what runs it, fake_ptx_run.c, have in common. */

#include <setjmp.h>

#include "fake_ptx.h"

#define NAME_BYTES  48u
#define NR_NAMES    48u  /* registers of a function, its labels, or its parameters */
#define NR_LINES    128u /* of a function */
#define NR_CALLED   8u   /* functions of a module */
#define NR_OPERANDS 5u

enum op {
	OP_MOV, OP_CVT, OP_ADD, OP_SUB, OP_MIN, OP_MUL_LO, OP_MUL_WIDE, OP_SHL, OP_SHR, OP_FMA, OP_SETP, OP_BRA, OP_RET, OP_LD_PARAM, OP_LD,
	OP_ST, OP_RED_ADD, OP_CALL,
};

enum compare { EQ, NE, LT, LE, GT, GE };

struct operand {
	enum { REGISTER, NUMBER, BLOCK, BLOCK_THREADS, NR_BLOCKS, THREAD } kind;
	unsigned reg;
	uint64_t number;
};

struct line {
	enum op op;
	enum compare compare;
	bool guarded, unless, is_float, is_signed;
	unsigned guard, bits; /* bits: of the type; of what is taken, where the result has others */
	unsigned nr;          /* operands: the result first; of a call, the result and the arguments */
	struct operand operands[NR_OPERANDS];
	int64_t offset;       /* of [register+offset] */
	unsigned target;      /* a label, a parameter or a function, by number */
};

struct names {
	unsigned nr;
	char name[NR_NAMES][NAME_BYTES];
	unsigned value[NR_NAMES]; /* a label's line, a parameter's bits */
};

struct ptx_function {
	const struct ptx *module;
	char name[NAME_BYTES];
	bool is_entry;
	struct names registers, labels, params; /* of a function that is called, params are numbers of registers */
	unsigned result;                        /* a register */
	unsigned nr_lines;
	struct line lines[NR_LINES];
};

struct ptx {
	unsigned nr;
	struct ptx_function functions[NR_CALLED];

	/* while it is read */
	const char *at;
	unsigned line;
	char token[NAME_BYTES];
	char *log;
	size_t log_bytes;
	jmp_buf wrong;
};

#endif
