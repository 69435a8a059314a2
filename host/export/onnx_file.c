/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A graph to a file. protobuf-c packs the messages; where it comes to a tensor's bytes it hands over the address of the
 * tensor's description, and the bytes themselves go to the file in its place.
 * Source: ONNX, docs/ExternalData.md.
 */
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "host/export/onnx_graph.h"

#define BUFFER_BYTES ((size_t)1 << 20)
#define CHUNK_BYTES ((size_t)4 << 20)  /* of a mapped tensor in memory at once */
#define EXTERNAL_ALIGN ((size_t)65536) /* what Windows maps files by */
#define EXTERNAL_LEAST 1024 /* bytes; smaller tensors stay in the model's file, as onnx's own tools leave them */

/* The file, what is not written to it yet, and room for what a fill makes. */
typedef struct sink {
	ProtobufCBuffer base;
	hd_new_file file;
	hd_status status;
	char *buffer;
	size_t used;
	size_t written; /* with what is still in the buffer */
	hd_onnx *graph;
	size_t next; /* tensor whose bytes come next */
	void *scratch;
} sink;

static void flush(sink *s)
{
	if (s->status == HD_OK)
		s->status = hd_new_file_append(&s->file, s->buffer, s->used);
	s->used = 0;
}

static void put(sink *s, const void *data, size_t bytes)
{
	if (s->status != HD_OK)
		return;
	s->written += bytes;
	if (bytes > BUFFER_BYTES - s->used)
		flush(s);
	if (bytes > BUFFER_BYTES) {
		if (s->status == HD_OK)
			s->status = hd_new_file_append(&s->file, data, bytes);
		return;
	}
	if (bytes) /* no data, no pointer */
		memcpy(s->buffer + s->used, data, bytes);
	s->used += bytes;
}

static void put_tensor(sink *s, const hd_onnx_stored *stored)
{
	const hd_onnx_tensor *t = &stored->tensor;
	if (s->status != HD_OK)
		return;
	if (!t->data) {
		s->status = t->fill(s->scratch, t->source);
		put(s, s->scratch, stored->bytes);
		return;
	}
	if (!t->mapped) {
		put(s, t->data, stored->bytes);
		return;
	}
	for (size_t at = 0; at < stored->bytes; at += CHUNK_BYTES) {
		size_t left = stored->bytes - at, n = left < CHUNK_BYTES ? left : CHUNK_BYTES;
		put(s, (const char *)t->data + at, n);
		hd_file_forget((const char *)t->data + at, n);
	}
}

static void append(ProtobufCBuffer *buffer, size_t length, const uint8_t *data)
{
	sink *s = (sink *)buffer;
	const hd_onnx *g = s->graph;
	/* tensors that lie beside the file have no bytes here */
	while (s->next < g->graph.n_initializer && !g->tensors[s->next]->message.has_raw_data)
		s->next++;
	if (s->next < g->graph.n_initializer && data == (const uint8_t *)g->tensors[s->next])
		put_tensor(s, g->tensors[s->next++]);
	else
		put(s, data, length);
}

static hd_status sink_open(sink *s, const char *path, hd_onnx *graph)
{
	hd_status st;
	size_t largest = 0;
	*s = (sink){.base.append = append, .graph = graph, .file.fd = -1};
	for (size_t i = 0; i < graph->graph.n_initializer; i++)
		if (!graph->tensors[i]->tensor.data && graph->tensors[i]->bytes > largest)
			largest = graph->tensors[i]->bytes;
	HD_TRY(hd_alloc(&s->buffer, 1, BUFFER_BYTES));
	if (largest)
		HD_TRY(hd_alloc(&s->scratch, 1, largest));
	HD_TRY(hd_new_file_open(&s->file, path));
done:
	return st;
}

static void sink_close(sink *s)
{
	hd_new_file_close(&s->file);
	free(s->scratch);
	free(s->buffer);
	s->scratch = s->buffer = NULL;
}

/* ---- weights beside the model's file ---- */

static bool is_external(const hd_onnx_stored *stored)
{
	return stored->message.data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
}

static Onnx__StringStringEntryProto *entry(hd_onnx *graph, const char *key, const char *value)
{
	Onnx__StringStringEntryProto *e = hd_onnx_keep(graph, sizeof *e);
	char *copy = hd_onnx_keep(graph, strlen(value) + 1);
	if (!e || !copy)
		return NULL;
	onnx__string_string_entry_proto__init(e);
	e->key = (char *)key;
	e->value = strcpy(copy, value);
	return e;
}

static void point_beside(hd_onnx *graph, hd_onnx_stored *stored, const char *location, size_t offset)
{
	enum { ENTRIES = 3 };
	char text[2][24];
	Onnx__TensorProto *m = &stored->message;
	snprintf(text[0], sizeof text[0], "%zu", offset);
	snprintf(text[1], sizeof text[1], "%zu", stored->bytes);
	m->external_data = hd_onnx_keep(graph, ENTRIES * sizeof(Onnx__StringStringEntryProto *));
	if (!m->external_data)
		return;
	m->external_data[0] = entry(graph, "location", location);
	m->external_data[1] = entry(graph, "offset", text[0]);
	m->external_data[2] = entry(graph, "length", text[1]);
	m->n_external_data = ENTRIES;
	m->has_data_location = 1;
	m->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
	m->has_raw_data = 0;
}

/* All tensors into the model's file (location NULL) or the bigger ones beside it. */
static void place(hd_onnx *graph, const char *location)
{
	size_t offset = 0;
	for (size_t i = 0; i < graph->graph.n_initializer; i++) {
		hd_onnx_stored *s = graph->tensors[i];
		s->message.has_raw_data = 1;
		s->message.has_data_location = 0;
		s->message.data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT;
		s->message.n_external_data = 0;
		if (!location || s->constant || s->bytes < EXTERNAL_LEAST)
			continue;
		offset = (offset + EXTERNAL_ALIGN - 1) / EXTERNAL_ALIGN * EXTERNAL_ALIGN;
		point_beside(graph, s, location, offset);
		offset += s->bytes;
	}
}

static hd_status write_weights(sink *s, const char *path, hd_onnx *graph)
{
	hd_status st;
	static const char zeros[EXTERNAL_ALIGN];
	HD_TRY(sink_open(s, path, graph));
	for (size_t i = 0; i < graph->graph.n_initializer; i++) {
		if (!is_external(graph->tensors[i]))
			continue;
		put(s, zeros, (EXTERNAL_ALIGN - s->written % EXTERNAL_ALIGN) % EXTERNAL_ALIGN);
		put_tensor(s, graph->tensors[i]);
	}
	flush(s);
	st = s->status;
done:
	return st;
}

static hd_status write_model(sink *s, const char *path, hd_onnx *graph)
{
	hd_status st;
	HD_TRY(sink_open(s, path, graph));
	protobuf_c_message_pack_to_buffer(&graph->model.base, &s->base);
	flush(s);
	st = s->status;
done:
	return st;
}

/*
 * Two files cannot take their places at once. The old model goes first, so that there is never one whose weights are
 * another's.
 */
static hd_status commit_both(sink *model, sink *weights)
{
	hd_status st;
	struct stat info;
	if (stat(model->file.path, &info) == 0 && S_ISREG(info.st_mode))
		unlink(model->file.path);
	HD_TRY(hd_new_file_commit(&weights->file, 1));
	HD_TRY(hd_new_file_commit(&model->file, 1));
done:
	return st;
}

static hd_status write_beside(hd_onnx *graph, const char *path)
{
	hd_status st;
	sink model = {.file.fd = -1}, weights = {.file.fd = -1};
	char *beside = NULL, *copy = NULL;
	HD_TRY(hd_sprintf(&beside, "%s.data", path));
	HD_TRY(hd_strdup(&copy, beside));
	place(graph, basename(copy));
	HD_TRY(hd_onnx_status(graph));
	HD_TRY(write_weights(&weights, beside, graph));
	HD_TRY(write_model(&model, path, graph));
	HD_TRY(commit_both(&model, &weights));
done:
	sink_close(&model);
	sink_close(&weights);
	free(copy);
	free(beside);
	return st;
}

hd_status hd_onnx_write(hd_onnx *graph, const char *path, hd_onnx_external external)
{
	hd_status st;
	sink model = {.file.fd = -1};
	HD_TRY(hd_onnx_status(graph));
	place(graph, NULL);
	size_t bytes = protobuf_c_message_get_packed_size(&graph->model.base);
	if (external == HD_ONNX_EXTERNAL_ALWAYS || (external == HD_ONNX_EXTERNAL_AUTO && bytes > INT32_MAX))
		return write_beside(graph, path);
	if (bytes > INT32_MAX)
		return hd_fail(HD_E_USAGE,
		        "%s: would take %zu bytes, more than an ONNX file can have (2 GiB); the weights have to go "
		        "beside it",
		        path, bytes);
	HD_TRY(write_model(&model, path, graph));
	HD_TRY(hd_new_file_commit(&model.file, 1));
done:
	sink_close(&model);
	return st;
}

hd_status hd_onnx_bytes(size_t *out, const char *path)
{
	struct stat info;
	char *data = NULL;
	hd_status st = hd_sprintf(&data, "%s.data", path);
	if (st == HD_OK && stat(path, &info))
		st = hd_fail(HD_E_IO, "%s: cannot be read", path);
	if (st == HD_OK) {
		*out = (size_t)info.st_size;
		if (!stat(data, &info))
			*out += (size_t)info.st_size;
	}
	free(data);
	return st;
}

void hd_onnx_remove(const char *path)
{
	char *data = NULL;
	unlink(path);
	if (hd_sprintf(&data, "%s.data", path) == HD_OK)
		unlink(data);
	free(data);
}
