/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the pickles inside PyTorch's files as plain data: dictionaries, lists, texts, numbers and tensor
 * descriptions. Nothing named in a pickle is imported or called: calls of what PyTorch uses to describe tensors are
 * recognised by name, calls of what could run code (os.system, builtins.eval, ...) are refused, and every other
 * object becomes an opaque value that remembers its class.
 * Source of the opcodes: CPython, Lib/pickletools.py; protocols 2 to 5. One thread at a time per pickle.
 */
#ifndef HD_MODEL_PICKLE_H
#define HD_MODEL_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heimdall/status.h"

#define HD_PICKLE_BYTES_MAX (64u << 20)
#define HD_PICKLE_VALUES_MAX (4u << 20)
#define HD_PICKLE_MEMO_MAX (1u << 20)
#define HD_PICKLE_STACK_MAX (1u << 20)
#define HD_PICKLE_MARKS_MAX 1000

typedef enum hd_pickle_kind {
	HD_PICKLE_NONE,
	HD_PICKLE_BOOL,
	HD_PICKLE_INT,
	HD_PICKLE_FLOAT,
	HD_PICKLE_TEXT,
	HD_PICKLE_BYTES,
	HD_PICKLE_TUPLE,
	HD_PICKLE_LIST,
	HD_PICKLE_DICT,    /* OrderedDict too */
	HD_PICKLE_GLOBAL,  /* a class or function by name */
	HD_PICKLE_STORAGE, /* items: "storage", class, key, location, elements */
	HD_PICKLE_TENSOR,  /* items: storage, offset, sizes, strides, ... */
	HD_PICKLE_OPAQUE   /* any other object; `of` is its class, NULL for a set or a number beyond 64 bits */
} hd_pickle_kind;

typedef struct hd_pickle_value hd_pickle_value;
struct hd_pickle_value {
	hd_pickle_kind kind;
	int64_t integer; /* BOOL, INT */
	double real;
	const char *text; /* TEXT, BYTES, and the module of a GLOBAL: into the pickle, without a final 0 */
	size_t text_length;
	const char *name; /* of a GLOBAL */
	size_t name_length;
	hd_pickle_value **items; /* TUPLE, LIST, STORAGE, TENSOR; DICT: key, value, key, value, ... */
	size_t count, capacity;
	const hd_pickle_value *of;
};

typedef struct hd_pickle {
	hd_pickle_value *root;
	hd_pickle_value **values; /* all of them */
	size_t count, capacity;
} hd_pickle;

/* data must outlive the pickle. HD_E_DATA with the reason and the byte where it is malformed or refused. */
hd_status hd_pickle_read(hd_pickle *out, const void *data, size_t bytes);
void hd_pickle_free(hd_pickle *pickle); /* NULL-safe */

/* Value of a text key; NULL where it is not there or dict is no DICT. Of doubled keys the last, as in Python. */
const hd_pickle_value *hd_pickle_get(const hd_pickle_value *dict, const char *key);

/* "module.name" of a GLOBAL or of the class of an OPAQUE, else the kind, cut to fit; returns buffer. */
const char *hd_pickle_describe(const hd_pickle_value *value, char *buffer, size_t bytes);

/* Whether a GLOBAL is module.name. */
bool hd_pickle_is_global(const hd_pickle_value *value, const char *module, const char *name);

/*
 * Whether a GLOBAL is one of the modules and built-in functions whose call could run code or reach out of the file
 * (os, subprocess, builtins but for its plain types, ...): an honest file of weights calls none.
 */
bool hd_pickle_could_run_code(const hd_pickle_value *value);

#endif
