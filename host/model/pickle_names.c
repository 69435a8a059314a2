/* SPDX-License-Identifier: Apache-2.0 */
/* What values of a pickle are called: keys, classes, and the names that are refused. */
#include <stdio.h>
#include <string.h>

#include "host/model/pickle.h"

typedef hd_pickle_value value;

static bool text_is(const char *text, size_t length, const char *want)
{
	return length == strlen(want) && !memcmp(text, want, length);
}

bool hd_pickle_is_global(const value *v, const char *module, const char *name)
{
	return v->kind == HD_PICKLE_GLOBAL && text_is(v->text, v->text_length, module) &&
	       text_is(v->name, v->name_length, name);
}

const value *hd_pickle_get(const value *dict, const char *key)
{
	if (dict->kind != HD_PICKLE_DICT)
		return NULL;
	for (size_t i = dict->count; i >= 2; i -= 2) {
		const value *k = dict->items[i - 2];
		if (k->kind == HD_PICKLE_TEXT && text_is(k->text, k->text_length, key))
			return dict->items[i - 1];
	}
	return NULL;
}

const char *hd_pickle_describe(const value *v, char *buffer, size_t bytes)
{
	static const char *const kinds[] = {[HD_PICKLE_NONE] = "None",
	        [HD_PICKLE_BOOL] = "a bool",
	        [HD_PICKLE_INT] = "an int",
	        [HD_PICKLE_FLOAT] = "a float",
	        [HD_PICKLE_TEXT] = "a text",
	        [HD_PICKLE_BYTES] = "bytes",
	        [HD_PICKLE_TUPLE] = "a tuple",
	        [HD_PICKLE_LIST] = "a list",
	        [HD_PICKLE_DICT] = "a dict",
	        [HD_PICKLE_GLOBAL] = "a class",
	        [HD_PICKLE_STORAGE] = "a storage",
	        [HD_PICKLE_TENSOR] = "a tensor",
	        [HD_PICKLE_OPAQUE] = "an object"};
	const value *named = v->kind == HD_PICKLE_OPAQUE ? v->of : v;
	if (!named || named->kind != HD_PICKLE_GLOBAL) {
		snprintf(buffer, bytes, "%s", kinds[v->kind]);
		return buffer;
	}
	snprintf(buffer, bytes, "%.*s.%.*s", (int)(named->text_length < 100 ? named->text_length : 100), named->text,
	        (int)(named->name_length < 100 ? named->name_length : 100), named->name);
	for (char *c = buffer; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	return buffer;
}

bool hd_pickle_could_run_code(const value *v)
{
	static const char *const modules[] = {"os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "pty",
	        "runpy", "importlib", "ctypes", "pickle", "_pickle", "code", "codeop", "webbrowser", "commands",
	        "multiprocessing", "threading", "asyncio", "signal", "tempfile", "urllib", "http", "requests",
	        "operator", "_operator", "marshal", "platform", "timeit", "pdb", "bdb", "trace", "pip", "torch.hub",
	        "dill", "cloudpickle", "imp", "posixpath", "glob", "io", "_io"};
	static const char *const plain[] = {"set", "frozenset", "bytearray", "bytes", "complex", "slice", "range",
	        "xrange", "object", "int", "long", "float", "str", "unicode", "bool", "dict", "list", "tuple",
	        "getattr", "Ellipsis"};
	if (v->kind != HD_PICKLE_GLOBAL)
		return false;
	if (text_is(v->text, v->text_length, "builtins") || text_is(v->text, v->text_length, "__builtin__")) {
		for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
			if (text_is(v->name, v->name_length, plain[i]))
				return false;
		return true;
	}
	for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
		size_t n = strlen(modules[i]);
		if (v->text_length >= n && !memcmp(v->text, modules[i], n) &&
		        (v->text_length == n || v->text[n] == '.'))
			return true;
	}
	return false;
}
