/* SPDX-License-Identifier: Apache-2.0 */
/* Finding ONNX Runtime, and what its two ways (ort.h) have in common. */
#include "host/export/runtime.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/export/ort.h"
#include "host/export/ort_process.h"

#define ASK_MS 60000
#define PATHS_BYTES 8192
#define PYTHON "python3"
#define INSTALL                                                                                                        \
	"install it with 'pip install onnxruntime' (HEIMDALL_PYTHON names the interpreter) or name libonnxruntime.so " \
	"with --onnxruntime or HEIMDALL_ONNXRUNTIME"

/* Says where the package is and which library it has, a line each, without importing it; nothing where there is none.
 */
static const char find_package[] = "import sys\n"
                                   "if sys.path[:1] == ['']:\n"
                                   "    del sys.path[0]\n"
                                   "import glob, importlib.util, os\n"
                                   "spec = importlib.util.find_spec('onnxruntime')\n"
                                   "for folder in (spec.submodule_search_locations or []) if spec else []:\n"
                                   "    print(folder)\n"
                                   "    for file in sorted(glob.glob(os.path.join(glob.escape(folder), 'capi', "
                                   "'libonnxruntime.so*'))):\n"
                                   "        print(file)\n"
                                   "    break\n";

/* ---- looking for it ---- */

/* All that was tried, one after the other. */
typedef struct tried {
	char text[1536];
} tried;

static void note(tried *t, const char *what)
{
	size_t used = strlen(t->text);
	snprintf(t->text + used, sizeof t->text - used, "%s%s", used ? "; " : "", what);
}

static hd_status open_loader(hd_runtime *r, tried *t)
{
	static const char *const names[] = {"libonnxruntime.so.1", "libonnxruntime.so"};
	hd_status st = HD_E_UNSUPPORTED;
	for (size_t i = 0; i < sizeof names / sizeof *names && st == HD_E_UNSUPPORTED; i++) {
		st = hd_ort_open_library(r, names[i]);
		if (st == HD_E_UNSUPPORTED)
			note(t, hd_error_text());
	}
	return st;
}

/* The package's library, and where that is none or cannot be used its Python. */
static hd_status open_package(hd_runtime *r, tried *t)
{
	char paths[PATHS_BYTES], *next = NULL;
	const char *named = getenv("HEIMDALL_PYTHON"), *interpreter = named && *named ? named : PYTHON;
	hd_status st = hd_ort_ask(paths, sizeof paths, interpreter, find_package, ASK_MS);
	if (st != HD_OK) {
		note(t, hd_error_text());
		return HD_E_UNSUPPORTED;
	}
	const char *folder = strtok_r(paths, "\n", &next);
	if (!folder) {
		char words[256];
		snprintf(words, sizeof words, "%s has no package onnxruntime", interpreter);
		note(t, words);
		return HD_E_UNSUPPORTED;
	}
	for (const char *file; (file = strtok_r(NULL, "\n", &next));) {
		st = hd_ort_open_library(r, file);
		if (st != HD_E_UNSUPPORTED)
			return st;
		note(t, hd_error_text());
	}
	st = hd_ort_open_python(r, interpreter);
	if (st == HD_E_UNSUPPORTED)
		note(t, hd_error_text());
	return st;
}

hd_status hd_runtime_open(hd_runtime **out, const char *library)
{
	hd_status st;
	tried t = {""};
	const char *named = library && *library ? library : getenv("HEIMDALL_ONNXRUNTIME");
	*out = NULL;
	HD_TRY(hd_alloc(out, 1, sizeof **out));
	if (named && *named) {
		/* one that was asked for is taken or refused, never replaced by another */
		st = hd_ort_open_library(*out, named);
		if (st == HD_E_UNSUPPORTED)
			note(&t, hd_error_text());
	} else {
		st = open_loader(*out, &t);
		if (st == HD_E_UNSUPPORTED)
			st = open_package(*out, &t);
	}
	if (st == HD_E_UNSUPPORTED)
		hd_fail(st, "no ONNX Runtime: %s; " INSTALL, t.text);
done:
	if (st != HD_OK) {
		hd_runtime_close(*out);
		*out = NULL;
	}
	return st;
}

hd_status hd_runtime_open_python(hd_runtime **out, const char *interpreter)
{
	hd_status st = hd_alloc(out, 1, sizeof **out);
	if (st == HD_OK && (st = hd_ort_open_python(*out, interpreter)) != HD_OK) {
		hd_runtime_close(*out);
		*out = NULL;
	}
	return st;
}

void hd_runtime_close(hd_runtime *runtime)
{
	if (!runtime)
		return;
	if (runtime->state)
		runtime->way->end(runtime);
	free(runtime->name);
	free(runtime);
}

const char *hd_runtime_name(const hd_runtime *runtime)
{
	return runtime->name;
}

/* ---- levels and errors ---- */

static const struct {
	const char *name;
	int value; /* GraphOptimizationLevel */
} levels[HD_RUNTIME_LEVELS] = {{"disabled", 0}, {"basic", 1}, {"extended", 2}, {"all", 99}};

const char *hd_runtime_level_name(hd_runtime_level level)
{
	return levels[level].name;
}

int hd_ort_level(hd_runtime_level level)
{
	return levels[level].value;
}

/* OrtErrorCode */
enum { INVALID_ARGUMENT = 2, NO_SUCH_FILE = 3, NOT_IMPLEMENTED = 9 };

hd_status hd_ort_status(int code, bool opening)
{
	if (code == NO_SUCH_FILE)
		return HD_E_IO;
	if (code == NOT_IMPLEMENTED)
		return HD_E_UNSUPPORTED;
	return opening || code == INVALID_ARGUMENT ? HD_E_DATA : HD_E_FAILED;
}

/* ---- sessions ---- */

/* Left to itself the runtime takes all of the machine and pins its threads, also where this process may not. */
static int own_cores(void)
{
	cpu_set_t set;
	return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

hd_status hd_session_open(
        hd_session **out, hd_runtime *runtime, const char *model_path, hd_runtime_level level, int threads)
{
	hd_status st;
	*out = NULL;
	HD_TRY(hd_alloc(out, 1, sizeof **out));
	(*out)->runtime = runtime;
	HD_TRY(hd_strdup(&(*out)->path, model_path));
	st = runtime->way->open(*out, level, threads > 0 ? threads : own_cores());
	if (st != HD_OK)
		hd_context(st, "%s", model_path);
done:
	if (st != HD_OK) {
		hd_session_close(*out);
		*out = NULL;
	}
	return st;
}

static void free_ports(hd_port *ports, int count)
{
	for (int i = 0; ports && i < count; i++)
		free(ports[i].name);
	free(ports);
}

void hd_session_close(hd_session *session)
{
	if (!session)
		return;
	session->runtime->way->close(session);
	for (int i = 0; i < session->metadata_count; i++) {
		free(session->metadata[i].value);
		free(session->metadata[i].key);
	}
	free(session->metadata);
	free_ports(session->outputs, session->output_count);
	free_ports(session->inputs, session->input_count);
	free(session->path);
	free(session);
}

const char *hd_session_metadata(const hd_session *session, const char *key)
{
	for (int i = 0; i < session->metadata_count; i++)
		if (!strcmp(session->metadata[i].key, key))
			return session->metadata[i].value;
	return NULL;
}

const hd_port *hd_session_inputs(const hd_session *session, int *count)
{
	*count = session->input_count;
	return session->inputs;
}

const hd_port *hd_session_outputs(const hd_session *session, int *count)
{
	*count = session->output_count;
	return session->outputs;
}

/* "(N,3,128,32)" */
static void shape_text(char out[128], const int64_t *shape, int ndim)
{
	int used = snprintf(out, 128, "(");
	for (int i = 0; i < ndim; i++) {
		used += snprintf(out + used, 128 - (size_t)used, "%s", i ? "," : "");
		used += shape[i] < 0 ? snprintf(out + used, 128 - (size_t)used, "?")
		                     : snprintf(out + used, 128 - (size_t)used, "%lld", (long long)shape[i]);
	}
	snprintf(out + used, 128 - (size_t)used, ")");
}

static hd_status check_input(const hd_session *session, const hd_port *port, const hd_run_tensor *t)
{
	bool fits = t->ndim == port->ndim;
	for (int i = 0; fits && i < t->ndim; i++)
		fits = t->shape[i] >= 0 && (port->shape[i] < 0 || port->shape[i] == t->shape[i]);
	if (port->type != HD_ONNX_F32)
		return hd_fail(HD_E_DATA, "%s: input '%s' takes no floats", session->path, port->name);
	if (fits)
		return HD_OK;
	char want[128], got[128];
	shape_text(want, port->shape, port->ndim);
	shape_text(got, t->shape, t->ndim);
	return hd_fail(HD_E_DATA, "%s: input '%s' is %s, the model takes %s", session->path, port->name, got, want);
}

hd_status hd_session_run(hd_session *session, const hd_run_tensor *inputs, hd_run_tensor *outputs)
{
	hd_status st = HD_OK;
	memset(outputs, 0, (size_t)session->output_count * sizeof *outputs);
	for (int i = 0; i < session->input_count; i++)
		HD_TRY(check_input(session, &session->inputs[i], &inputs[i]));
	st = session->runtime->way->run(session, inputs, outputs);
	if (st != HD_OK)
		hd_context(st, "%s", session->path);
done:
	for (int i = 0; st != HD_OK && i < session->output_count; i++) {
		free(outputs[i].data);
		outputs[i] = (hd_run_tensor){0};
	}
	return st;
}
