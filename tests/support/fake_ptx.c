/* SPDX-License-Identifier: MIT */
/* See fake_ptx.h. The text becomes lines that name registers and other lines by number, for fake_ptx_run.c. */
#include "fake_ptx_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void __attribute__((noreturn, format(printf, 2, 3))) refuse(struct ptx *p, const char *words, ...)
{
	va_list args;
	int used = snprintf(p->log, p->log_bytes, "ptxas application ptx input, line %u; error   : ", p->line);

	va_start(args, words);
	if (used >= 0 && (size_t)used < p->log_bytes)
		(void)vsnprintf(p->log + used, p->log_bytes - (size_t)used, words, args);
	va_end(args);
	longjmp(p->wrong, 1);
}

static bool in_word(char c) { return c && (strchr("_$%.", c) || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')); }

/* The next word or sign is p->token; "": the end. */
static void next(struct ptx *p)
{
	size_t n = 0;

	while (*p->at && strchr(" \t\n", *p->at))
		p->line += *p->at++ == '\n';
	while (in_word(p->at[n]))
		n++;
	n += !n && *p->at;
	if (n >= NAME_BYTES)
		refuse(p, "Parsing error near '%.*s': syntax error", (int)n, p->at);
	memcpy(p->token, p->at, n);
	p->token[n] = '\0';
	p->at += n;
}

static bool is(const struct ptx *p, const char *what) { return !strcmp(p->token, what); }

static bool eat(struct ptx *p, const char *what)
{
	bool yes = is(p, what);

	if (yes)
		next(p);
	return yes;
}

static void need(struct ptx *p, const char *what)
{
	if (!eat(p, what))
		refuse(p, "Parsing error near '%s': syntax error", p->token);
}

static unsigned find_name(const struct names *n, const char *name)
{
	unsigned i = 0;

	while (i < n->nr && strcmp(n->name[i], name))
		i++;
	return i;
}

static unsigned add_name(struct ptx *p, struct names *n, const char *name, unsigned value)
{
	if (find_name(n, name) < n->nr)
		refuse(p, "Duplicate definition of variable '%s'", name);
	if (n->nr == NR_NAMES)
		refuse(p, "too many names for this stand-in");
	snprintf(n->name[n->nr], NAME_BYTES, "%s", name);
	n->value[n->nr] = value;
	return n->nr++;
}

/* The token is a name that @n has. */
static unsigned known(struct ptx *p, const struct names *n)
{
	unsigned i = find_name(n, p->token);

	if (i == n->nr)
		refuse(p, "Unknown symbol '%s'", p->token);
	next(p);
	return i;
}

/* ".u64" */
static unsigned type_bits(struct ptx *p, const char *type)
{
	static const char *const types[] = { ".u8", ".u32", ".s32", ".b32", ".f32", ".u64", ".s64", ".b64", ".pred" };
	static const unsigned bits[] = { 8, 32, 32, 32, 32, 64, 64, 64, 1 };

	for (size_t i = 0; i < sizeof(bits) / sizeof(*bits); i++)
		if (!strcmp(types[i], type))
			return bits[i];
	refuse(p, "Parsing error near '%s': syntax error", type);
}

/* (.param .u64 a, ...) or (.reg .u64 %a, ...) */
static void read_params(struct ptx *p, struct ptx_function *f)
{
	need(p, "(");
	while (!is(p, ")")) {
		unsigned bits;

		need(p, f->is_entry ? ".param" : ".reg");
		bits = type_bits(p, p->token);
		next(p);
		add_name(p, &f->params, p->token, bits);
		if (!f->is_entry)
			f->params.value[f->params.nr - 1] = add_name(p, &f->registers, p->token, bits);
		next(p);
		if (!is(p, ")"))
			need(p, ",");
	}
	need(p, ")");
}

static void read_operand(struct ptx *p, struct ptx_function *f, struct line *l)
{
	static const char *const special[] = { "%ctaid.x", "%ntid.x", "%nctaid.x", "%tid.x" };
	struct operand *o = &l->operands[l->nr++];
	char *end;

	if (l->nr > NR_OPERANDS)
		refuse(p, "Arguments mismatch for instruction");
	for (unsigned i = 0; i < 4; i++)
		if (eat(p, special[i])) {
			o->kind = BLOCK + i;
			return;
		}
	if (p->token[0] == '%') {
		o->reg = known(p, &f->registers);
		return;
	}
	o->kind = NUMBER;
	o->number = p->token[0] == '0' && p->token[1] == 'f' ? strtoull(p->token + 2, &end, 16) : strtoull(p->token, &end, 0);
	if (!p->token[0] || *end)
		refuse(p, "Unknown symbol '%s'", p->token);
	next(p);
}

/* [%register+offset] */
static void read_place(struct ptx *p, struct ptx_function *f, struct line *l)
{
	need(p, "[");
	if (l->op == OP_LD_PARAM)
		l->target = known(p, &f->params);
	else
		read_operand(p, f, l);
	if (eat(p, "+")) {
		l->offset = strtoll(p->token, NULL, 0);
		next(p);
	}
	need(p, "]");
}

/* call (%result), function, (%arguments) */
static void read_call(struct ptx *p, struct ptx_function *f, struct line *l)
{
	need(p, "(");
	read_operand(p, f, l);
	need(p, ")");
	need(p, ",");
	for (l->target = 0; l->target < p->nr && strcmp(p->functions[l->target].name, p->token); l->target++)
		;
	if (l->target == p->nr || p->functions[l->target].is_entry)
		refuse(p, "Unknown symbol '%s'", p->token);
	next(p);
	need(p, ",");
	need(p, "(");
	while (!is(p, ")")) {
		read_operand(p, f, l);
		if (!is(p, ")"))
			need(p, ",");
	}
	need(p, ")");
	if (l->nr != 1 + p->functions[l->target].params.nr)
		refuse(p, "Call has wrong number of parameters");
}

static void read_operands(struct ptx *p, struct ptx_function *f, struct line *l, unsigned nr)
{
	if (l->op == OP_CALL) {
		read_call(p, f, l);
		return;
	}
	if (l->op == OP_BRA) { /* the label may come later: its number, and where it is will be known */
		l->target = find_name(&f->labels, p->token);
		if (l->target == f->labels.nr)
			add_name(p, &f->labels, p->token, NR_LINES);
		next(p);
		return;
	}
	for (unsigned i = 0; i < nr; i++) {
		if (i)
			need(p, ",");
		if (is(p, "["))
			read_place(p, f, l);
		else
			read_operand(p, f, l);
	}
}

static const struct form {
	const char *start; /* of the word; the type is what is left */
	enum op op;
	unsigned nr;       /* operands */
} forms[] = {
	{ "mov", OP_MOV, 2 }, { "cvt.u64", OP_CVT, 2 }, { "add", OP_ADD, 3 }, { "sub", OP_SUB, 3 }, { "min", OP_MIN, 3 },
	{ "mul.lo", OP_MUL_LO, 3 }, { "mul.wide", OP_MUL_WIDE, 3 }, { "shl", OP_SHL, 3 }, { "shr", OP_SHR, 3 }, { "fma.rn", OP_FMA, 4 },
	{ "setp", OP_SETP, 3 }, { "ld.param", OP_LD_PARAM, 2 }, { "ld.global", OP_LD, 2 }, { "st.global", OP_ST, 2 },
	{ "red.global.add", OP_RED_ADD, 2 }, { "bra", OP_BRA, 1 }, { "ret", OP_RET, 0 }, { "call", OP_CALL, 0 },
};

static void read_line(struct ptx *p, struct ptx_function *f)
{
	static const char *const compares[] = { ".eq", ".ne", ".lt", ".le", ".gt", ".ge" };
	struct line *l = &f->lines[f->nr_lines++];
	const struct form *form = forms;
	const char *type;

	if (f->nr_lines == NR_LINES)
		refuse(p, "too many lines for this stand-in");
	if (eat(p, "@")) {
		l->guarded = true;
		l->unless = eat(p, "!");
		l->guard = known(p, &f->registers);
	}
	while (form < forms + sizeof(forms) / sizeof(*forms) &&
	       (strncmp(form->start, p->token, strlen(form->start)) || !strchr(".", p->token[strlen(form->start)])))
		form++;
	if (form == forms + sizeof(forms) / sizeof(*forms))
		refuse(p, "Not a name of any known instruction: '%s'", p->token);
	l->op = form->op;
	type = p->token + strlen(form->start);
	if (l->op == OP_SETP) {
		for (l->compare = EQ; l->compare <= GE && strncmp(type, compares[l->compare], 3); l->compare++)
			;
		type += l->compare <= GE ? 3 : 0;
	}
	if (l->op < OP_BRA || (l->op > OP_RET && l->op < OP_CALL)) {
		l->bits = type_bits(p, type);
		l->is_float = type[1] == 'f';
		l->is_signed = type[1] == 's';
	}
	next(p);
	read_operands(p, f, l, form->nr);
	need(p, ";");
}

static void read_registers(struct ptx *p, struct ptx_function *f)
{
	unsigned bits = type_bits(p, p->token);

	do {
		next(p);
		add_name(p, &f->registers, p->token, bits);
		next(p);
	} while (is(p, ","));
	need(p, ";");
}

static void read_body(struct ptx *p, struct ptx_function *f)
{
	need(p, "{");
	while (!is(p, "}")) {
		const char *after = p->at;

		if (*after == ':') {
			unsigned i = find_name(&f->labels, p->token);

			if (i == f->labels.nr)
				i = add_name(p, &f->labels, p->token, NR_LINES);
			if (f->labels.value[i] != NR_LINES)
				refuse(p, "Duplicate definition of label '%s'", p->token);
			f->labels.value[i] = f->nr_lines;
			next(p);
			next(p);
		} else if (eat(p, ".reg")) {
			read_registers(p, f);
		} else {
			read_line(p, f);
		}
	}
	need(p, "}");
	for (unsigned i = 0; i < f->labels.nr; i++)
		if (f->labels.value[i] == NR_LINES)
			refuse(p, "Label '%s' is not defined", f->labels.name[i]);
	if (!f->nr_lines || f->lines[f->nr_lines - 1].op != OP_RET || f->lines[f->nr_lines - 1].guarded)
		refuse(p, "'%s' does not end with ret", f->name);
}

static void read_function(struct ptx *p)
{
	struct ptx_function *f = &p->functions[p->nr];

	if (p->nr == NR_CALLED)
		refuse(p, "too many functions for this stand-in");
	f->module = p;
	f->is_entry = eat(p, ".visible");
	need(p, f->is_entry ? ".entry" : ".func");
	if (!f->is_entry) {
		need(p, "(");
		need(p, ".reg");
		type_bits(p, p->token);
		next(p);
		f->result = add_name(p, &f->registers, p->token, 64);
		next(p);
		need(p, ")");
	}
	snprintf(f->name, sizeof(f->name), "%s", p->token);
	next(p);
	read_params(p, f);
	read_body(p, f);
	p->nr++;
}

static bool read_module(struct ptx *p)
{
	static const char *const head[] = { ".version", ".target", ".address_size" };

	if (setjmp(p->wrong))
		return false;
	next(p);
	for (unsigned i = 0; i < 3; i++) {
		need(p, head[i]);
		next(p); /* its value */
	}
	while (p->token[0])
		read_function(p);
	return true;
}

struct ptx *ptx_load(const char *text, char *ret_log, size_t log_bytes)
{
	struct ptx *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->at = text;
	p->line = 1;
	p->log = ret_log;
	p->log_bytes = log_bytes;
	if (read_module(p))
		return p;
	free(p);
	return NULL;
}

void ptx_free(struct ptx *p) { free(p); }

const struct ptx_function *ptx_entry(const struct ptx *p, const char *name)
{
	for (unsigned i = 0; i < p->nr; i++)
		if (p->functions[i].is_entry && !strcmp(p->functions[i].name, name))
			return &p->functions[i];
	return NULL;
}

unsigned ptx_nr_params(const struct ptx_function *f) { return f->params.nr; }

unsigned ptx_param_bytes(const struct ptx_function *f, unsigned i) { return f->params.value[i] / 8; }
