/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX Runtime of a Python interpreter: one child process per runtime, asked over a socket (ort_server.c). */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "host/common/memory.h"
#include "host/export/ort.h"
#include "host/export/ort_process.h"

#define ANSWER_S 600 /* the longest that one request may take */
#define END_MS 5000  /* a child whose socket is closed ends on its own within */
#define WORDS_BYTES 4096
#define TEXT_MOST (64u << 20)

typedef struct state {
	pid_t child;
	int link;
	int words;   /* what the child writes to its stderr: a file in memory */
	off_t shown; /* bytes of it that went to ours */
	bool started, broken;
} state;

typedef struct child_session {
	uint32_t id;
} child_session;

/* ---- the child's words ---- */

/* What the child has said since the last time goes to stderr. */
static void pass_on(state *s)
{
	char buffer[WORDS_BYTES];
	ssize_t got;
	while ((got = pread(s->words, buffer, sizeof buffer, s->shown)) > 0) {
		fwrite(buffer, 1, (size_t)got, stderr);
		s->shown += got;
	}
}

/* Its last line: what a Python program that fails ends with. */
static void last_line(char out[WORDS_BYTES], const state *s)
{
	off_t end = lseek(s->words, 0, SEEK_END), from = end > WORDS_BYTES - 1 ? end - (WORDS_BYTES - 1) : 0;
	ssize_t got = pread(s->words, out, WORDS_BYTES - 1, from);
	got = got < 0 ? 0 : got;
	while (got > 0 && (out[got - 1] == '\n' || out[got - 1] == ' '))
		got--;
	out[got] = 0;
	char *line = strrchr(out, '\n');
	if (line)
		memmove(out, line + 1, strlen(line + 1) + 1);
}

/* The child is of no more use. */
static hd_status lost(state *s, int error)
{
	char line[WORDS_BYTES] = "";
	s->broken = true;
	if (error == EAGAIN || error == EWOULDBLOCK)
		return hd_fail(HD_E_FAILED, "Python's onnxruntime: no answer within %d s", ANSWER_S);
	/* its last words are written by the time it has ended */
	if (s->started)
		hd_ort_reap(s->child, END_MS);
	s->started = false;
	last_line(line, s);
	return hd_fail(HD_E_FAILED, "Python's onnxruntime: %s", line[0] ? line : "the process ended without a word");
}

/* ---- the link ---- */

static hd_status put(state *s, const void *data, size_t bytes)
{
	const char *at = data;
	while (bytes) {
		ssize_t sent = s->broken ? -1 : send(s->link, at, bytes, MSG_NOSIGNAL);
		if (sent < 0 && !s->broken && errno == EINTR)
			continue;
		if (sent <= 0)
			return lost(s, s->broken ? EPIPE : errno);
		at += sent;
		bytes -= (size_t)sent;
	}
	return HD_OK;
}

static hd_status get(state *s, void *data, size_t bytes)
{
	char *at = data;
	while (bytes) {
		ssize_t got = recv(s->link, at, bytes, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return lost(s, got < 0 ? errno : EPIPE);
		at += got;
		bytes -= (size_t)got;
	}
	return HD_OK;
}

/* The head of an answer; *text is new, an error of the child's is one here. */
static hd_status get_head(state *s, char **text, bool opening)
{
	hd_status st;
	uint32_t head[2];
	char *words = NULL;
	HD_TRY(get(s, head, sizeof head));
	if (head[1] > TEXT_MOST) {
		st = lost(s, EPIPE);
		goto done;
	}
	HD_TRY(hd_alloc(&words, (size_t)head[1] + 1, 1));
	HD_TRY(get(s, words, head[1]));
	if (head[0])
		st = hd_fail(hd_ort_status((int)head[0], opening), "%s", words);
	else if (text) {
		*text = words;
		words = NULL;
	}
	pass_on(s);
done:
	free(words);
	return st;
}

/* ---- sessions ---- */

static hd_status read_ports(hd_port **out, int *count, const json_t *list)
{
	hd_status st;
	size_t i, k;
	json_t *row, *dim;
	HD_TRY(hd_alloc(out, json_array_size(list), sizeof **out));
	*count = (int)json_array_size(list);
	json_array_foreach(list, i, row)
	{
		hd_port *port = &(*out)[i];
		const json_t *shape = json_object_get(row, "shape");
		const char *name = json_string_value(json_object_get(row, "name"));
		HD_TRY(hd_strdup(&port->name, name ? name : ""));
		port->type = (hd_onnx_type)json_integer_value(json_object_get(row, "type"));
		port->ndim = (int)json_array_size(shape);
		if (port->type == 0 || port->ndim > HD_PORT_DIMS) {
			st = hd_fail(HD_E_DATA, "'%s' is no tensor of at most %d dimensions", port->name, HD_PORT_DIMS);
			goto done;
		}
		json_array_foreach(shape, k, dim) port->shape[k] = json_integer_value(dim);
	}
done:
	return st;
}

static hd_status read_metadata(hd_session *session, json_t *object)
{
	hd_status st;
	const char *key;
	json_t *value;
	HD_TRY(hd_alloc(&session->metadata, json_object_size(object), sizeof *session->metadata));
	json_object_foreach(object, key, value)
	{
		hd_ort_pair *pair = &session->metadata[session->metadata_count++];
		HD_TRY(hd_strdup(&pair->key, key));
		HD_TRY(hd_strdup(&pair->value, json_is_string(value) ? json_string_value(value) : ""));
	}
done:
	return st;
}

static hd_status open_session(hd_session *session, hd_runtime_level level, int threads)
{
	hd_status st;
	state *s = session->runtime->state;
	uint32_t length = (uint32_t)strlen(session->path);
	int32_t numbers[2] = {hd_ort_level(level), threads};
	char *text = NULL;
	json_t *json = NULL;
	child_session *own;
	HD_TRY(put(s, "O", 1));
	HD_TRY(put(s, &length, sizeof length));
	HD_TRY(put(s, numbers, sizeof numbers));
	HD_TRY(put(s, session->path, length));
	HD_TRY(get_head(s, &text, true));
	json = json_loads(text, JSON_ALLOW_NUL, NULL);
	HD_TRY(hd_alloc(&own, 1, sizeof *own));
	session->state = own;
	own->id = (uint32_t)json_integer_value(json_object_get(json, "id"));
	HD_TRY(read_ports(&session->inputs, &session->input_count, json_object_get(json, "inputs")));
	HD_TRY(read_ports(&session->outputs, &session->output_count, json_object_get(json, "outputs")));
	HD_TRY(read_metadata(session, json_object_get(json, "metadata")));
done:
	json_decref(json);
	free(text);
	return st;
}

static void close_session(hd_session *session)
{
	state *s = session->runtime->state;
	const child_session *own = session->state;
	/* nothing to tell where the child is gone */
	if (own && !s->broken && put(s, "C", 1) == HD_OK && put(s, &own->id, sizeof own->id) == HD_OK)
		get_head(s, NULL, false);
	free(session->state);
}

/* ---- a run ---- */

static size_t elements(const int64_t *shape, uint32_t ndim)
{
	size_t n = 1;
	for (uint32_t i = 0; i < ndim; i++)
		n *= (size_t)shape[i];
	return n;
}

static hd_status put_tensor(state *s, const hd_run_tensor *t)
{
	hd_status st;
	uint32_t ndim = (uint32_t)t->ndim;
	HD_TRY(put(s, &ndim, sizeof ndim));
	HD_TRY(put(s, t->shape, ndim * sizeof *t->shape));
	HD_TRY(put(s, t->data, elements(t->shape, ndim) * sizeof *t->data));
done:
	return st;
}

static hd_status get_tensor(state *s, hd_run_tensor *t)
{
	hd_status st;
	uint32_t ndim;
	HD_TRY(get(s, &ndim, sizeof ndim));
	if (ndim > HD_PORT_DIMS) {
		/* the rest of the answer cannot be told apart any more */
		s->broken = true;
		st = hd_fail(HD_E_DATA, "an output has %u dimensions, at most %d are read", ndim, HD_PORT_DIMS);
		goto done;
	}
	t->ndim = (int)ndim;
	HD_TRY(get(s, t->shape, ndim * sizeof *t->shape));
	size_t count = elements(t->shape, ndim);
	HD_TRY(hd_alloc(&t->data, count, sizeof *t->data));
	HD_TRY(get(s, t->data, count * sizeof *t->data));
done:
	return st;
}

static hd_status run(hd_session *session, const hd_run_tensor *inputs, hd_run_tensor *outputs)
{
	hd_status st;
	state *s = session->runtime->state;
	uint32_t numbers[2] = {((const child_session *)session->state)->id, (uint32_t)session->input_count}, count;
	HD_TRY(put(s, "R", 1));
	HD_TRY(put(s, numbers, sizeof numbers));
	for (int i = 0; i < session->input_count; i++)
		HD_TRY(put_tensor(s, &inputs[i]));
	HD_TRY(get_head(s, NULL, false));
	HD_TRY(get(s, &count, sizeof count));
	if ((int)count != session->output_count) {
		st = lost(s, EPIPE);
		goto done;
	}
	for (uint32_t i = 0; i < count; i++)
		HD_TRY(get_tensor(s, &outputs[i]));
done:
	return st;
}

/* ---- the child ---- */

static void end(hd_runtime *runtime)
{
	state *s = runtime->state;
	if (!s)
		return;
	if (s->link >= 0)
		close(s->link);
	if (s->started)
		hd_ort_reap(s->child, s->broken ? 0 : END_MS);
	if (s->words >= 0)
		close(s->words);
	free(s);
	runtime->state = NULL;
}

static hd_status start(state *s, const char *interpreter)
{
	hd_status st;
	int pair[2] = {-1, -1};
	s->words = memfd_create("heimdall-onnxruntime", MFD_CLOEXEC);
	if (s->words < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return hd_fail(HD_E_FAILED, "%s: %s", interpreter, strerror(errno));
	s->link = pair[0];
	const struct timeval limit = {.tv_sec = ANSWER_S};
	setsockopt(s->link, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	setsockopt(s->link, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	HD_TRY(hd_ort_spawn(&s->child, interpreter, hd_ort_server,
	        (const hd_ort_fd[]){{s->words, 2}, {pair[1], 3}, {-1, 0}, {-1, 1}}, 4));
	s->started = true;
done:
	close(pair[1]);
	return st;
}

static const hd_ort_way way = {open_session, close_session, run, end};

hd_status hd_ort_open_python(hd_runtime *runtime, const char *interpreter)
{
	hd_status st;
	state *s = NULL;
	char *text = NULL;
	json_t *json = NULL;
	runtime->way = &way;
	HD_TRY(hd_alloc(&s, 1, sizeof *s));
	*s = (state){.link = -1, .words = -1};
	runtime->state = s;
	HD_TRY(start(s, interpreter));
	HD_TRY(get_head(s, &text, true));
	json = json_loads(text, 0, NULL);
	const char *version = json_string_value(json_object_get(json, "version"));
	const char *path = json_string_value(json_object_get(json, "path"));
	HD_TRY(hd_sprintf(&runtime->name, "ONNX Runtime %s, Python's, of %s", version ? version : "?",
	        path && *path ? path : interpreter));
done:
	json_decref(json);
	free(text);
	if (st != HD_OK)
		end(runtime);
	/* whatever it was: this interpreter does not do */
	return st == HD_OK || st == HD_E_MEMORY ? st : hd_context(HD_E_UNSUPPORTED, "%s", interpreter);
}
