/* SPDX-License-Identifier: Apache-2.0 */
#include "host/model/pickle.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"

typedef hd_pickle_value value;

typedef struct machine {
	hd_pickle *pickle;
	const unsigned char *start, *at, *end;
	value **stack;
	size_t depth, stack_capacity;
	size_t marks[HD_PICKLE_MARKS_MAX]; /* stack depths */
	size_t mark_count;
	value **memo;
	size_t memo_count, memo_capacity; /* memo_count: of MEMOIZE, which numbers by itself */
} machine;

typedef hd_status operation(machine *m, unsigned char op);

/* ---- the stack ---- */

static hd_status malformed(const char *what)
{
	hd_fail(HD_E_DATA, "%s", what);
	return HD_E_DATA;
}

static hd_status take(machine *m, uint64_t n, const unsigned char **bytes)
{
	if (n > (size_t)(m->end - m->at))
		return malformed("it ends inside an opcode");
	*bytes = m->at;
	m->at += n;
	return HD_OK;
}

/* A little-endian number of up to 8 bytes. */
static hd_status take_number(machine *m, int bytes, uint64_t *out)
{
	const unsigned char *b;
	hd_status st = take(m, (uint64_t)bytes, &b);
	*out = 0;
	for (int i = 0; st == HD_OK && i < bytes; i++)
		*out |= (uint64_t)b[i] << (8 * i);
	return st;
}

static hd_status push(machine *m, value *v)
{
	if (m->depth >= HD_PICKLE_STACK_MAX)
		return malformed("more values are stacked than any file of weights needs");
	hd_status st = hd_grow(&m->stack, &m->stack_capacity, m->depth + 1, sizeof(void *));
	if (st == HD_OK)
		m->stack[m->depth++] = v;
	return st;
}

static hd_status push_new(machine *m, hd_pickle_kind kind, value **out)
{
	hd_status st;
	hd_pickle *p = m->pickle;
	value *v = NULL;
	if (p->count >= HD_PICKLE_VALUES_MAX)
		return malformed("more values than any file of weights needs");
	HD_TRY(hd_grow(&p->values, &p->capacity, p->count + 1, sizeof(void *)));
	HD_TRY(hd_alloc(&v, 1, sizeof *v));
	p->values[p->count++] = v;
	v->kind = kind;
	*out = v;
	HD_TRY(push(m, v));
done:
	return st;
}

/* Lowest stack index above the newest mark. */
static size_t stack_floor(const machine *m)
{
	return m->mark_count ? m->marks[m->mark_count - 1] : 0;
}

static hd_status pop(machine *m, value **out)
{
	if (m->depth <= stack_floor(m))
		return malformed("an opcode finds nothing on the stack");
	*out = m->stack[--m->depth];
	return HD_OK;
}

static hd_status top(const machine *m, value **out)
{
	if (m->depth <= stack_floor(m))
		return malformed("an opcode finds nothing on the stack");
	*out = m->stack[m->depth - 1];
	return HD_OK;
}

/* Takes the newest mark and what lies above it off the stack; *items stays valid until the next push. */
static hd_status pop_mark(machine *m, value ***items, size_t *count)
{
	if (!m->mark_count)
		return malformed("an opcode finds no mark on the stack");
	size_t from = m->marks[--m->mark_count];
	*items = m->stack ? m->stack + from : NULL;
	*count = m->depth - from;
	m->depth = from;
	return HD_OK;
}

static hd_status extend(value *v, value **items, size_t count)
{
	if (!count)
		return HD_OK;
	hd_status st = hd_grow(&v->items, &v->capacity, v->count + count, sizeof(void *));
	if (st != HD_OK)
		return st;
	memcpy(v->items + v->count, items, count * sizeof(void *));
	v->count += count;
	return HD_OK;
}

/* ---- scalars ---- */

static hd_status op_constant(machine *m, unsigned char op)
{
	value *v;
	hd_status st = push_new(m, op == 'N' ? HD_PICKLE_NONE : HD_PICKLE_BOOL, &v);
	if (st == HD_OK)
		v->integer = op == 0x88;
	return st;
}

static hd_status op_integer(machine *m, unsigned char op)
{
	hd_status st;
	uint64_t raw;
	value *v;
	HD_TRY(take_number(m, op == 'J' ? 4 : op == 'M' ? 2 : 1, &raw));
	HD_TRY(push_new(m, HD_PICKLE_INT, &v));
	v->integer = op == 'J' ? (int32_t)(uint32_t)raw : (int64_t)raw;
done:
	return st;
}

/* Two's complement of any length; beyond 64 bits it is opaque. */
static hd_status op_long(machine *m, unsigned char op)
{
	hd_status st;
	uint64_t length, raw = 0;
	const unsigned char *b;
	value *v;
	HD_TRY(take_number(m, op == 0x8a ? 1 : 4, &length));
	HD_TRY(take(m, length, &b));
	HD_TRY(push_new(m, length > 8 ? HD_PICKLE_OPAQUE : HD_PICKLE_INT, &v));
	if (length > 8)
		goto done;
	for (uint64_t i = 0; i < length; i++)
		raw |= (uint64_t)b[i] << (8 * i);
	if (length && length < 8 && b[length - 1] & 0x80)
		raw |= UINT64_MAX << (8 * length);
	v->integer = (int64_t)raw;
done:
	return st;
}

static hd_status op_float(machine *m, unsigned char op)
{
	hd_status st;
	const unsigned char *b;
	uint64_t bits = 0;
	value *v;
	(void)op;
	HD_TRY(take(m, 8, &b));
	for (int i = 0; i < 8; i++)
		bits = bits << 8 | b[i];
	HD_TRY(push_new(m, HD_PICKLE_FLOAT, &v));
	memcpy(&v->real, &bits, sizeof bits);
done:
	return st;
}

static hd_status op_text(machine *m, unsigned char op)
{
	hd_status st;
	uint64_t length;
	const unsigned char *b;
	value *v;
	bool text = op == 'X' || op == 0x8c || op == 0x8d || op == 'U' || op == 'T';
	int width = op == 0x8c || op == 'U' || op == 'C' ? 1 : op == 'X' || op == 'T' || op == 'B' ? 4 : 8;
	HD_TRY(take_number(m, width, &length));
	HD_TRY(take(m, length, &b));
	HD_TRY(push_new(m, text ? HD_PICKLE_TEXT : HD_PICKLE_BYTES, &v));
	v->text = (const char *)b;
	v->text_length = length;
done:
	return st;
}

/* ---- containers ---- */

static hd_status op_tuple(machine *m, unsigned char op)
{
	hd_status st;
	value **items = NULL, *v;
	size_t count = op == ')' ? 0 : op - 0x84u;
	if (op == 't') {
		HD_TRY(pop_mark(m, &items, &count));
	} else {
		if (m->depth - stack_floor(m) < count)
			return malformed("a tuple wants more values than are on the stack");
		m->depth -= count;
		items = m->stack ? m->stack + m->depth : NULL;
	}
	/* the new value takes the place of the first item, so the items are kept first */
	value *first = count && items ? items[0] : NULL;
	HD_TRY(push_new(m, HD_PICKLE_TUPLE, &v));
	if (!count)
		goto done;
	items = m->stack + m->depth - 1;
	HD_TRY(extend(v, &first, 1));
	HD_TRY(extend(v, items + 1, count - 1));
done:
	return st;
}

static hd_status op_empty(machine *m, unsigned char op)
{
	value *v;
	return push_new(m, op == ']' ? HD_PICKLE_LIST : op == '}' ? HD_PICKLE_DICT : HD_PICKLE_OPAQUE, &v);
}

/* Appends to a list; an opaque object takes anything and keeps nothing. */
static hd_status append(machine *m, value **items, size_t count)
{
	value *to;
	hd_status st = top(m, &to);
	if (st != HD_OK || to->kind == HD_PICKLE_OPAQUE)
		return st;
	return to->kind == HD_PICKLE_LIST ? extend(to, items, count) : malformed("it appends to what is no list");
}

static hd_status op_append(machine *m, unsigned char op)
{
	value **items, *one;
	size_t count;
	hd_status st;
	if (op == 'a') {
		HD_TRY(pop(m, &one));
		HD_TRY(append(m, &one, 1));
	} else {
		HD_TRY(pop_mark(m, &items, &count));
		HD_TRY(append(m, items, count));
	}
done:
	return st;
}

static hd_status op_set_items(machine *m, unsigned char op)
{
	value **items, *pair[2], *to;
	size_t count = 2;
	hd_status st;
	if (op == 's') {
		HD_TRY(pop(m, &pair[1]));
		HD_TRY(pop(m, &pair[0]));
		items = pair;
	} else {
		HD_TRY(pop_mark(m, &items, &count));
	}
	if (count % 2)
		return malformed("a key without a value");
	HD_TRY(top(m, &to));
	if (to->kind == HD_PICKLE_DICT)
		HD_TRY(extend(to, items, count));
	else if (to->kind != HD_PICKLE_OPAQUE)
		st = malformed("it sets items of what is no dictionary");
done:
	return st;
}

static hd_status op_frozen_set(machine *m, unsigned char op)
{
	value **items, *v;
	size_t count;
	(void)op;
	hd_status st = pop_mark(m, &items, &count);
	return st == HD_OK ? push_new(m, HD_PICKLE_OPAQUE, &v) : st;
}

/* ---- names and objects ---- */

static hd_status take_line(machine *m, const char **text, size_t *length)
{
	const unsigned char *newline = memchr(m->at, '\n', (size_t)(m->end - m->at));
	if (!newline)
		return malformed("it ends inside a name");
	*text = (const char *)m->at;
	*length = (size_t)(newline - m->at);
	m->at = newline + 1;
	return HD_OK;
}

static hd_status op_global(machine *m, unsigned char op)
{
	hd_status st;
	value made = {0}, *v, *name, *module;
	if (op == 'c') {
		HD_TRY(take_line(m, &made.text, &made.text_length));
		HD_TRY(take_line(m, &made.name, &made.name_length));
	} else {
		HD_TRY(pop(m, &name));
		HD_TRY(pop(m, &module));
		if (name->kind != HD_PICKLE_TEXT || module->kind != HD_PICKLE_TEXT)
			return malformed("a class is named by what is no text");
		made = (value){.text = module->text,
		        .text_length = module->text_length,
		        .name = name->text,
		        .name_length = name->text_length};
	}
	HD_TRY(push_new(m, HD_PICKLE_GLOBAL, &v));
	made.kind = HD_PICKLE_GLOBAL;
	*v = made;
done:
	return st;
}

/* OrderedDict(), or OrderedDict([(key, value), ...]) of older Pythons. */
static hd_status make_dict(machine *m, const value *arguments)
{
	hd_status st;
	value *v;
	HD_TRY(push_new(m, HD_PICKLE_DICT, &v));
	const value *pairs = arguments->count == 1 ? arguments->items[0] : NULL;
	for (size_t i = 0; pairs && pairs->kind == HD_PICKLE_LIST && i < pairs->count; i++) {
		const value *pair = pairs->items[i];
		if ((pair->kind != HD_PICKLE_TUPLE && pair->kind != HD_PICKLE_LIST) || pair->count != 2)
			return malformed("a key without a value");
		HD_TRY(extend(v, pair->items, 2));
	}
done:
	return st;
}

/* What a call would give, without making it. */
static hd_status call(machine *m, const value *callee, value *arguments)
{
	value *v;
	char name[256];
	if (callee->kind != HD_PICKLE_GLOBAL && callee->kind != HD_PICKLE_OPAQUE)
		return malformed("it calls what is no class and no function");
	if (arguments->kind != HD_PICKLE_TUPLE)
		return malformed("a call without a tuple of arguments");
	if (hd_pickle_could_run_code(callee))
		return hd_fail(HD_E_DATA,
		        "it calls %s, which could run code: refused, and nothing of it was run. Do not open this file "
		        "with "
		        "Python either",
		        hd_pickle_describe(callee, name, sizeof name));
	if (hd_pickle_is_global(callee, "collections", "OrderedDict") ||
	        hd_pickle_is_global(callee, "collections", "defaultdict"))
		return make_dict(m, arguments);
	bool tensor = hd_pickle_is_global(callee, "torch._utils", "_rebuild_tensor_v2");
	if (hd_pickle_is_global(callee, "torch._utils", "_rebuild_parameter"))
		return arguments->count ? push(m, arguments->items[0]) : malformed("a parameter without a tensor");
	hd_status st = push_new(m, tensor ? HD_PICKLE_TENSOR : HD_PICKLE_OPAQUE, &v);
	if (st != HD_OK || !tensor) {
		if (st == HD_OK)
			v->of = callee->kind == HD_PICKLE_OPAQUE ? callee->of : callee;
		return st;
	}
	return extend(v, arguments->items, arguments->count);
}

static hd_status op_call(machine *m, unsigned char op)
{
	hd_status st;
	value *callee, *arguments, *keywords;
	if (op == 0x92)
		HD_TRY(pop(m, &keywords));
	HD_TRY(pop(m, &arguments));
	HD_TRY(pop(m, &callee));
	HD_TRY(call(m, callee, arguments));
done:
	return st;
}

/* An object's state: a dictionary's (a state dict's _metadata) and an opaque object's are not needed. */
static hd_status op_build(machine *m, unsigned char op)
{
	hd_status st;
	value *state, *object;
	(void)op;
	HD_TRY(pop(m, &state));
	HD_TRY(top(m, &object));
	if (object->kind != HD_PICKLE_DICT && object->kind != HD_PICKLE_OPAQUE && object->kind != HD_PICKLE_TENSOR)
		st = malformed("it gives a state to what is no object");
done:
	return st;
}

static hd_status op_persistent(machine *m, unsigned char op)
{
	hd_status st;
	value *id, *v;
	(void)op;
	HD_TRY(pop(m, &id));
	if (id->kind != HD_PICKLE_TUPLE)
		return malformed("a storage that is not described by a tuple");
	HD_TRY(push_new(m, HD_PICKLE_STORAGE, &v));
	HD_TRY(extend(v, id->items, id->count));
done:
	return st;
}

/* ---- memo and stack ---- */

static hd_status op_put(machine *m, unsigned char op)
{
	hd_status st;
	value *v;
	uint64_t index = m->memo_count;
	HD_TRY(top(m, &v));
	if (op != 0x94)
		HD_TRY(take_number(m, op == 'q' ? 1 : 4, &index));
	if (index >= HD_PICKLE_MEMO_MAX)
		return malformed("its memo is larger than any file of weights needs");
	HD_TRY(hd_grow(&m->memo, &m->memo_capacity, index + 1, sizeof(void *)));
	m->memo[index] = v;
	m->memo_count++;
done:
	return st;
}

static hd_status op_get(machine *m, unsigned char op)
{
	uint64_t index;
	hd_status st = take_number(m, op == 'h' ? 1 : 4, &index);
	if (st != HD_OK)
		return st;
	if (index >= m->memo_capacity || !m->memo[index])
		return malformed("it refers to a value that is not in its memo");
	return push(m, m->memo[index]);
}

static hd_status op_mark(machine *m, unsigned char op)
{
	(void)op;
	if (m->mark_count >= HD_PICKLE_MARKS_MAX)
		return malformed("it is nested deeper than any file of weights needs");
	m->marks[m->mark_count++] = m->depth;
	return HD_OK;
}

static hd_status op_stack(machine *m, unsigned char op)
{
	value *v, **items;
	size_t count;
	if (op == '1')
		return pop_mark(m, &items, &count);
	hd_status st = op == '0' ? pop(m, &v) : top(m, &v);
	return st == HD_OK && op == '2' ? push(m, v) : st;
}

static hd_status op_frame(machine *m, unsigned char op)
{
	uint64_t number;
	hd_status st = take_number(m, op == 0x80 ? 1 : 8, &number);
	if (st == HD_OK && op == 0x80 && (number < 2 || number > 5))
		return hd_fail(
		        HD_E_DATA, "pickle protocol %llu, this program reads 2 to 5", (unsigned long long)number);
	return st;
}

/* pickletools' names: see each opcode there */
static operation *const operations[256] = {[0x80] = op_frame,
        [0x95] = op_frame,
        ['N'] = op_constant,
        [0x88] = op_constant,
        [0x89] = op_constant,
        ['J'] = op_integer,
        ['K'] = op_integer,
        ['M'] = op_integer,
        [0x8a] = op_long,
        [0x8b] = op_long,
        ['G'] = op_float,
        ['X'] = op_text,
        [0x8c] = op_text,
        [0x8d] = op_text,
        ['U'] = op_text,
        ['T'] = op_text,
        ['C'] = op_text,
        ['B'] = op_text,
        [0x8e] = op_text,
        [0x96] = op_text,
        [')'] = op_tuple,
        ['t'] = op_tuple,
        [0x85] = op_tuple,
        [0x86] = op_tuple,
        [0x87] = op_tuple,
        [']'] = op_empty,
        ['}'] = op_empty,
        [0x8f] = op_empty,
        ['a'] = op_append,
        ['e'] = op_append,
        [0x90] = op_append,
        ['s'] = op_set_items,
        ['u'] = op_set_items,
        [0x91] = op_frozen_set,
        ['c'] = op_global,
        [0x93] = op_global,
        ['R'] = op_call,
        [0x81] = op_call,
        [0x92] = op_call,
        ['b'] = op_build,
        ['Q'] = op_persistent,
        ['q'] = op_put,
        ['r'] = op_put,
        [0x94] = op_put,
        ['h'] = op_get,
        ['j'] = op_get,
        ['('] = op_mark,
        ['0'] = op_stack,
        ['1'] = op_stack,
        ['2'] = op_stack};

static hd_status run(machine *m)
{
	for (;;) {
		if (m->at == m->end)
			return malformed("it ends before its last opcode");
		unsigned char op = *m->at++;
		if (op == '.')
			break;
		if (!operations[op])
			return hd_fail(HD_E_DATA, "opcode 0x%02x is none that PyTorch writes", op);
		hd_status st = operations[op](m, op);
		if (st != HD_OK)
			return st;
	}
	if (m->depth != 1 || m->mark_count)
		return hd_fail(HD_E_DATA, "%zu values are left at its end, want 1", m->depth);
	if (m->at != m->end)
		return hd_fail(HD_E_DATA, "%zu bytes behind its end", (size_t)(m->end - m->at));
	m->pickle->root = m->stack[0];
	return HD_OK;
}

hd_status hd_pickle_read(hd_pickle *out, const void *data, size_t bytes)
{
	hd_status st;
	machine *m = NULL;
	*out = (hd_pickle){0};
	if (bytes > HD_PICKLE_BYTES_MAX)
		return hd_fail(
		        HD_E_DATA, "a pickle of %zu bytes, this program reads up to %u", bytes, HD_PICKLE_BYTES_MAX);
	HD_TRY(hd_alloc(&m, 1, sizeof *m));
	m->pickle = out;
	m->start = m->at = data;
	m->end = m->start + bytes;
	st = run(m);
	if (st == HD_E_DATA)
		hd_context(st, "pickle at byte %zu", (size_t)(m->at - m->start));
done:
	if (m) {
		free(m->memo);
		free(m->stack);
	}
	free(m);
	if (st != HD_OK)
		hd_pickle_free(out);
	return st;
}

void hd_pickle_free(hd_pickle *pickle)
{
	if (!pickle)
		return;
	for (size_t i = 0; i < pickle->count; i++) {
		free(pickle->values[i]->items);
		free(pickle->values[i]);
	}
	free(pickle->values);
	*pickle = (hd_pickle){0};
}
