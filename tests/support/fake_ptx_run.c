/* SPDX-License-Identifier: MIT */
/* See fake_ptx.h. A register holds its bits, and zeros above them. */
#include "fake_ptx_parts.h"

#include <math.h>
#include <string.h>

#define MAX_DEPTH 4u

struct run {
	const struct ptx_thread *self;
	const uint64_t *params;
	void *(*place)(uint64_t at, unsigned bytes);
	bool failed;
};

static uint64_t masked(uint64_t v, unsigned bits) { return bits == 64 ? v : v & ((UINT64_C(1) << bits) - 1); }

static int64_t as_signed(uint64_t v, unsigned bits) { return bits == 64 ? (int64_t)v : (int64_t)(v << (64 - bits)) >> (64 - bits); }

static float as_float(uint64_t v)
{
	uint32_t bits = (uint32_t)v;
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static uint64_t of_float(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static uint64_t value(const struct run *r, const uint64_t *regs, const struct operand *o)
{
	switch (o->kind) {
	case REGISTER:
		return regs[o->reg];
	case NUMBER:
		return o->number;
	case BLOCK:
		return r->self->block;
	case BLOCK_THREADS:
		return r->self->block_threads;
	case NR_BLOCKS:
		return r->self->nr_blocks;
	default:
		return r->self->thread;
	}
}

static bool compare(const struct line *l, uint64_t a, uint64_t b)
{
	int order = a < b ? -1 : a > b;

	if (l->is_signed)
		order = as_signed(a, l->bits) < as_signed(b, l->bits) ? -1 : as_signed(a, l->bits) > as_signed(b, l->bits);
	if (l->is_float)
		order = as_float(a) < as_float(b) ? -1 : as_float(a) > as_float(b);
	switch (l->compare) {
	case EQ:
		return !order;
	case NE:
		return order;
	case LT:
		return order < 0;
	case LE:
		return order <= 0;
	case GT:
		return order > 0;
	default:
		return order >= 0;
	}
}

static uint64_t compute(const struct line *l, const uint64_t v[NR_OPERANDS])
{
	uint64_t a = masked(v[1], l->bits), b = masked(v[2], l->bits);

	switch (l->op) {
	case OP_ADD:
		return l->is_float ? of_float(as_float(a) + as_float(b)) : a + b;
	case OP_SUB:
		return l->is_float ? of_float(as_float(a) - as_float(b)) : a - b;
	case OP_MIN:
		return a < b ? a : b;
	case OP_MUL_LO:
	case OP_MUL_WIDE:
		return a * b;
	case OP_SHL:
		return v[2] < l->bits ? a << v[2] : 0;
	case OP_SHR:
		return v[2] < l->bits ? a >> v[2] : 0;
	case OP_FMA:
		return of_float(fmaf(as_float(a), as_float(b), as_float(v[3])));
	case OP_SETP:
		return compare(l, a, b);
	default: /* mov, cvt */
		return a;
	}
}

/* What is in memory at @at, or is put there. */
static uint64_t access_memory(struct run *r, const struct line *l, uint64_t at, uint64_t v)
{
	unsigned bytes = l->bits / 8;
	uint64_t found = 0;
	void *place;

	at += (uint64_t)l->offset;
	place = at % bytes ? NULL : r->place(at, bytes);
	if (!place) {
		r->failed = true;
		return 0;
	}
	if (l->op == OP_ST) {
		memcpy(place, &v, bytes);
		return 0;
	}
	memcpy(&found, place, bytes);
	if (l->op == OP_RED_ADD) {
		found += v;
		memcpy(place, &found, bytes);
	}
	return found;
}

static void run_function(struct run *r, const struct ptx_function *f, uint64_t *regs, unsigned depth);

static uint64_t call(struct run *r, const struct ptx_function *f, const uint64_t *args, unsigned depth)
{
	uint64_t regs[NR_NAMES] = { 0 };

	for (unsigned i = 0; i < f->params.nr; i++)
		regs[f->params.value[i]] = args[i];
	r->failed = r->failed || depth == MAX_DEPTH;
	if (!r->failed)
		run_function(r, f, regs, depth + 1);
	return regs[f->result];
}

/* All but bra and ret. */
static void run_line(struct run *r, const struct ptx_function *f, const struct line *l, uint64_t *regs, unsigned depth)
{
	uint64_t v[NR_OPERANDS] = { 0 }, *to = &regs[l->operands[0].reg];

	for (unsigned i = 0; i < l->nr; i++)
		v[i] = value(r, regs, &l->operands[i]);
	switch (l->op) {
	case OP_LD_PARAM:
		*to = masked(r->params[l->target], l->bits);
		break;
	case OP_LD:
		*to = access_memory(r, l, v[1], 0);
		break;
	case OP_ST:
	case OP_RED_ADD:
		(void)access_memory(r, l, v[0], v[1]);
		break;
	case OP_CALL:
		*to = call(r, &f->module->functions[l->target], v + 1, depth);
		break;
	default:
		*to = masked(compute(l, v), l->op == OP_MUL_WIDE || l->op == OP_CVT ? 64 : l->op == OP_SETP ? 1 : l->bits);
	}
}

static void run_function(struct run *r, const struct ptx_function *f, uint64_t *regs, unsigned depth)
{
	for (unsigned at = 0; !r->failed; ) {
		const struct line *l = &f->lines[at++];

		if (l->guarded && (regs[l->guard] != 0) == l->unless)
			continue;
		if (l->op == OP_RET)
			return;
		if (l->op == OP_BRA)
			at = f->labels.value[l->target];
		else
			run_line(r, f, l, regs, depth);
	}
}

bool ptx_run(const struct ptx_function *f, const uint64_t *params, const struct ptx_thread *self,
	     void *(*place)(uint64_t at, unsigned bytes))
{
	struct run r = { self, params, place, false };
	uint64_t regs[NR_NAMES] = { 0 };

	run_function(&r, f, regs, 0);
	return !r.failed;
}
