/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fields of the outer messages are walked as protobuf's wire format has them, so that weights are passed over; the
 * small messages in them are unpacked by protobuf-c. Source: protobuf.dev, Encoding; onnx.proto for the numbers.
 */
#include "host/export/onnx_peek.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/file.h"
#include "host/common/memory.h"
#include "onnx/onnx.pb-c.h"

enum { MODEL_GRAPH = 7, MODEL_METADATA = 14 };
enum { GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { TENSOR_EXTERNAL_DATA = 13 };
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* ---- wire format ---- */

typedef struct walk {
	const uint8_t *at, *end;
	uint64_t number;     /* of the field */
	const uint8_t *data; /* of a field of bytes, else NULL */
	size_t bytes;
} walk;

static bool varint(uint64_t *out, walk *w)
{
	*out = 0;
	for (int shift = 0; shift < 64 && w->at < w->end; shift += 7) {
		uint8_t byte = *w->at++;
		*out |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

/* The next field; false where the message is broken. */
static bool next_field(walk *w)
{
	uint64_t key, size = 0;
	if (!varint(&key, w))
		return false;
	w->number = key >> 3;
	w->data = NULL;
	switch (key & 7) {
	case WIRE_VARINT:
		return varint(&size, w);
	case WIRE_64:
		size = 8;
		break;
	case WIRE_32:
		size = 4;
		break;
	case WIRE_BYTES:
		if (!varint(&size, w))
			return false;
		w->data = w->at;
		break;
	default:
		return false;
	}
	if (size > (uint64_t)(w->end - w->at))
		return false;
	w->bytes = (size_t)size;
	w->at += size;
	return true;
}

/* Takes a field of bytes. */
typedef hd_status (*take)(hd_onnx_peek *out, const walk *field);

static hd_status walk_message(hd_onnx_peek *out, const walk *message, take each)
{
	hd_status st = HD_OK;
	walk w = {.at = message->data, .end = message->data + message->bytes};
	while (st == HD_OK && w.at < w.end) {
		if (!next_field(&w))
			return hd_fail(HD_E_DATA, "no ONNX model, or a damaged one");
		if (w.data)
			st = each(out, &w);
	}
	return st;
}

/* ---- what is in the messages ---- */

static hd_status no_message(const char *what)
{
	return hd_fail(HD_E_DATA, "no ONNX model, or a damaged one: %s", what);
}

static hd_status take_metadata(hd_onnx_peek *out, const walk *field)
{
	hd_status st;
	Onnx__StringStringEntryProto *entry = onnx__string_string_entry_proto__unpack(NULL, field->bytes, field->data);
	if (!entry)
		return no_message("metadata");
	HD_TRY(hd_grow(&out->metadata, &out->metadata_capacity, out->metadata_count + 1, sizeof *out->metadata));
	hd_onnx_entry *e = &out->metadata[out->metadata_count++];
	HD_TRY(hd_strdup(&e->key, entry->key ? entry->key : ""));
	HD_TRY(hd_strdup(&e->value, entry->value ? entry->value : ""));
done:
	onnx__string_string_entry_proto__free_unpacked(entry, NULL);
	return st;
}

static hd_status port_from(hd_port *out, const Onnx__ValueInfoProto *info)
{
	const Onnx__TypeProto__Tensor *tensor =
	        info->type && info->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ? info->type->tensor_type
	                                                                                    : NULL;
	const char *name = info->name ? info->name : "";
	if (!tensor || !tensor->shape || tensor->elem_type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT)
		return hd_fail(HD_E_DATA, "'%s' is no tensor of float32", name);
	if (tensor->shape->n_dim > HD_PORT_DIMS)
		return hd_fail(HD_E_DATA, "'%s' has %zu dimensions", name, tensor->shape->n_dim);
	out->type = HD_ONNX_F32;
	out->ndim = (int)tensor->shape->n_dim;
	for (int i = 0; i < out->ndim; i++) {
		const Onnx__TensorShapeProto__Dimension *d = tensor->shape->dim[i];
		bool fixed = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
		out->shape[i] = fixed ? d->dim_value : -1;
	}
	return hd_strdup(&out->name, name);
}

static hd_status take_port(hd_port **ports, size_t *count, size_t *capacity, const walk *field)
{
	hd_status st;
	Onnx__ValueInfoProto *info = onnx__value_info_proto__unpack(NULL, field->bytes, field->data);
	if (!info)
		return no_message("a port");
	HD_TRY(hd_grow(ports, capacity, *count + 1, sizeof **ports));
	HD_TRY(port_from(&(*ports)[*count], info));
	++*count;
done:
	onnx__value_info_proto__free_unpacked(info, NULL);
	return st;
}

static hd_status add_external(hd_onnx_peek *out, const char *name)
{
	for (size_t i = 0; i < out->external_count; i++)
		if (!strcmp(out->external[i], name))
			return HD_OK;
	if (!name[0] || strchr(name, '/'))
		return hd_fail(HD_E_DATA, "its weights are in '%s', which is no file beside it", name);
	hd_status st = hd_grow(&out->external, &out->external_capacity, out->external_count + 1, sizeof *out->external);
	return st == HD_OK ? hd_strdup(&out->external[out->external_count++], name) : st;
}

static hd_status take_of_tensor(hd_onnx_peek *out, const walk *field)
{
	hd_status st = HD_OK;
	if (field->number != TENSOR_EXTERNAL_DATA)
		return HD_OK;
	Onnx__StringStringEntryProto *entry = onnx__string_string_entry_proto__unpack(NULL, field->bytes, field->data);
	if (!entry)
		return no_message("external data");
	if (entry->key && entry->value && !strcmp(entry->key, "location"))
		st = add_external(out, entry->value);
	onnx__string_string_entry_proto__free_unpacked(entry, NULL);
	return st;
}

static hd_status take_of_graph(hd_onnx_peek *out, const walk *field)
{
	if (field->number == GRAPH_INPUT)
		return take_port(&out->inputs, &out->input_count, &out->input_capacity, field);
	if (field->number == GRAPH_OUTPUT)
		return take_port(&out->outputs, &out->output_count, &out->output_capacity, field);
	return field->number == GRAPH_INITIALIZER ? walk_message(out, field, take_of_tensor) : HD_OK;
}

static hd_status take_of_model(hd_onnx_peek *out, const walk *field)
{
	if (field->number == MODEL_METADATA)
		return take_metadata(out, field);
	return field->number == MODEL_GRAPH ? walk_message(out, field, take_of_graph) : HD_OK;
}

hd_status hd_onnx_peek_file(hd_onnx_peek *out, const char *path)
{
	const void *data = NULL;
	size_t bytes = 0;
	*out = (hd_onnx_peek){0};
	hd_status st = hd_file_map(&data, &bytes, path);
	if (st != HD_OK)
		return st;
	st = walk_message(out, &(walk){.data = data, .bytes = bytes}, take_of_model);
	if (st == HD_OK && (!out->input_count || !out->output_count))
		st = no_message("no inputs and outputs");
	hd_file_unmap(data, bytes);
	if (st != HD_OK) {
		hd_context(st, "%s", path);
		hd_onnx_peek_free(out);
	}
	return st;
}

static void free_ports(hd_port *ports, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(ports[i].name);
	free(ports);
}

void hd_onnx_peek_free(hd_onnx_peek *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->metadata_count; i++) {
		free(p->metadata[i].key);
		free(p->metadata[i].value);
	}
	for (size_t i = 0; i < p->external_count; i++)
		free(p->external[i]);
	free(p->metadata);
	free_ports(p->inputs, p->input_count);
	free_ports(p->outputs, p->output_count);
	free(p->external);
	*p = (hd_onnx_peek){0};
}

const char *hd_onnx_peek_find(const hd_onnx_peek *p, const char *key)
{
	for (size_t i = 0; i < p->metadata_count; i++)
		if (!strcmp(p->metadata[i].key, key))
			return p->metadata[i].value;
	return NULL;
}
