/* SPDX-License-Identifier: Apache-2.0 */
/* The graph: nodes, values, tensors and their names. Sources: onnx.proto; ONNX, docs/IR.md and docs/Versioning.md. */
#include "host/export/onnx.h"

#include <search.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/common/memory.h"
#include "host/common/version.h"
#include "host/export/onnx_graph.h"
#include "kernels/half.h"

#define BLOCK_BYTES 65536
#define OUTPUTS_MAX 8
#define ATTRIBUTES_MAX 16

/* ---- memory ---- */

typedef struct hd_onnx_block {
	struct hd_onnx_block *next;
	size_t used, bytes;
	alignas(max_align_t) char data[];
} hd_onnx_block;

void hd_onnx_failed(hd_onnx *graph, hd_status status)
{
	if (status == HD_OK || graph->status != HD_OK)
		return;
	graph->status = status;
	graph->error = strdup(hd_error_text());
}

void *hd_onnx_keep(hd_onnx *graph, size_t bytes)
{
	size_t align = alignof(max_align_t);
	hd_onnx_block *block = graph->blocks;
	if (graph->status != HD_OK)
		return NULL;
	if (bytes > SIZE_MAX / 2) {
		hd_onnx_failed(graph, hd_fail(HD_E_MEMORY, "out of host memory: %zu bytes", bytes));
		return NULL;
	}
	bytes = (bytes + align - 1) / align * align;
	if (!block || block->bytes - block->used < bytes) {
		size_t room = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
		hd_status st = hd_alloc(&block, 1, sizeof *block + room);
		if (st != HD_OK) {
			hd_onnx_failed(graph, st);
			return NULL;
		}
		block->bytes = room;
		block->next = graph->blocks;
		graph->blocks = block;
	}
	void *out = block->data + block->used;
	block->used += bytes;
	return out;
}

static void *keep_copy(hd_onnx *graph, const void *data, size_t bytes)
{
	void *out = hd_onnx_keep(graph, bytes);
	if (out && bytes)
		memcpy(out, data, bytes);
	return out;
}

static char *keep_text(hd_onnx *graph, const char *text)
{
	return keep_copy(graph, text, strlen(text) + 1);
}

static char *keep_format(hd_onnx *graph, const char *format, ...) __attribute__((format(printf, 2, 3)));
static char *keep_format(hd_onnx *graph, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int length = vsnprintf(NULL, 0, format, args);
	char *out = hd_onnx_keep(graph, (size_t)length + 1);
	if (out)
		vsnprintf(out, (size_t)length + 1, format, again);
	va_end(again);
	va_end(args);
	return out;
}

/* Appends a pointer to an array of *count that grows. */
static void append(hd_onnx *graph, void *array_pointer, size_t *count, size_t *capacity, void *item)
{
	void **array;
	if (graph->status == HD_OK)
		hd_onnx_failed(graph, hd_grow(array_pointer, capacity, *count + 1, sizeof item));
	if (graph->status != HD_OK)
		return;
	memcpy(&array, array_pointer, sizeof array);
	array[(*count)++] = item;
}

/* ---- names ---- */

typedef struct value_name {
	const char *name;
	const hd_onnx_stored *stored; /* NULL where it is no tensor */
} value_name;

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const value_name *)a)->name, ((const value_name *)b)->name);
}

static const value_name *find_name(const hd_onnx *graph, const char *name)
{
	const value_name key = {.name = name};
	void *found = tfind(&key, &graph->names, compare_names);
	return found ? *(value_name *const *)found : NULL;
}

/* name is kept already. */
static hd_onnx_value add_name(hd_onnx *graph, const char *name, const hd_onnx_stored *stored)
{
	value_name *entry = name ? hd_onnx_keep(graph, sizeof *entry) : NULL;
	if (!entry)
		return "";
	*entry = (value_name){.name = name, .stored = stored};
	void *found = tsearch(entry, &graph->names, compare_names);
	if (!found)
		hd_onnx_failed(graph, hd_fail(HD_E_MEMORY, "out of host memory"));
	else if (*(value_name **)found != entry)
		hd_onnx_failed(graph, hd_fail(HD_E_FAILED, "ONNX graph: two values of the name '%s'", name));
	return graph->status == HD_OK ? name : "";
}

static hd_onnx_value new_name(hd_onnx *graph, const char *op)
{
	char *name = keep_format(graph, "%s%s", graph->scope, op);
	for (int i = 1; name && find_name(graph, name); i++)
		name = keep_format(graph, "%s%s_%d", graph->scope, op, i);
	return add_name(graph, name, NULL);
}

static bool check_value(hd_onnx *graph, hd_onnx_value value, const char *reader)
{
	if (graph->status != HD_OK)
		return false;
	if (find_name(graph, value))
		return true;
	hd_onnx_failed(graph, hd_fail(HD_E_FAILED, "ONNX graph: %s reads '%s', which nothing makes", reader, value));
	return false;
}

/* ---- the graph ---- */

/* The IR version of the release that brought an operator set (ONNX, docs/Versioning.md, "Released Versions"). */
static int64_t ir_version(int opset)
{
	return opset >= 19 ? 9 : opset >= 15 ? 8 : 7;
}

hd_status hd_onnx_create(hd_onnx **out, int opset, const char *graph_name)
{
	hd_status st;
	*out = NULL;
	if (opset < HD_ONNX_OPSET_MIN || opset > HD_ONNX_OPSET_MAX)
		return hd_fail(
		        HD_E_USAGE, "ONNX opset %d: must be %d .. %d", opset, HD_ONNX_OPSET_MIN, HD_ONNX_OPSET_MAX);
	HD_TRY(hd_alloc(out, 1, sizeof **out));
	hd_onnx *g = *out;
	g->opset = opset;
	g->scope = "";
	onnx__model_proto__init(&g->model);
	onnx__graph_proto__init(&g->graph);
	onnx__operator_set_id_proto__init(&g->operators);
	g->operators.has_version = 1;
	g->operators.version = opset;
	g->operators.domain = (char *)"";
	g->operators_list[0] = &g->operators;
	g->graph.name = keep_text(g, graph_name);
	g->model.graph = &g->graph;
	g->model.opset_import = g->operators_list;
	g->model.n_opset_import = 1;
	g->model.has_ir_version = 1;
	g->model.ir_version = ir_version(opset);
	g->model.producer_name = (char *)"heimdall";
	g->model.producer_version = (char *)hd_version;
	st = g->status;
done:
	if (st != HD_OK) {
		hd_onnx_free(*out);
		*out = NULL;
	}
	return st;
}

static void keep_name(void *entry)
{
	(void)entry; /* of the graph's blocks */
}

void hd_onnx_free(hd_onnx *graph)
{
	if (!graph)
		return;
	tdestroy(graph->names, keep_name);
	free(graph->model.metadata_props);
	free(graph->tensors);
	free(graph->graph.initializer);
	free(graph->graph.output);
	free(graph->graph.input);
	free(graph->graph.node);
	while (graph->blocks) {
		hd_onnx_block *next = graph->blocks->next;
		free(graph->blocks);
		graph->blocks = next;
	}
	free(graph->error);
	free(graph);
}

hd_status hd_onnx_status(const hd_onnx *graph)
{
	return graph->status == HD_OK
	               ? HD_OK
	               : hd_fail(graph->status, "%s", graph->error ? graph->error : "out of host memory");
}

int hd_onnx_opset(const hd_onnx *graph)
{
	return graph->opset;
}

size_t hd_onnx_type_bytes(hd_onnx_type type)
{
	switch (type) {
	case HD_ONNX_U8:
	case HD_ONNX_I8:
	case HD_ONNX_BOOL:
		return 1;
	case HD_ONNX_F16:
		return 2;
	case HD_ONNX_F32:
	case HD_ONNX_I32:
		return 4;
	case HD_ONNX_I64:
	case HD_ONNX_F64:
		return 8;
	}
	return 0;
}

void hd_onnx_scope(hd_onnx *graph, const char *scope)
{
	const char *kept = keep_text(graph, scope);
	if (kept)
		graph->scope = kept;
}

void hd_onnx_metadata(hd_onnx *graph, const char *key, const char *value)
{
	Onnx__StringStringEntryProto *entry = hd_onnx_keep(graph, sizeof *entry);
	if (!entry)
		return;
	onnx__string_string_entry_proto__init(entry);
	entry->key = keep_text(graph, key);
	entry->value = keep_text(graph, value);
	append(graph, &graph->model.metadata_props, &graph->model.n_metadata_props, &graph->metadata_capacity, entry);
}

/* ---- inputs and outputs ---- */

static void set_dim(hd_onnx *graph, Onnx__TensorShapeProto__Dimension *message, const hd_onnx_dim *dim)
{
	onnx__tensor_shape_proto__dimension__init(message);
	if (dim->name) {
		message->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
		message->dim_param = keep_text(graph, dim->name);
	} else {
		message->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
		message->dim_value = dim->size;
	}
}

static Onnx__ValueInfoProto *describe(
        hd_onnx *graph, const char *name, hd_onnx_type type, int ndim, const hd_onnx_dim *dims)
{
	Onnx__ValueInfoProto *info = hd_onnx_keep(graph, sizeof *info);
	Onnx__TypeProto *kind = hd_onnx_keep(graph, sizeof *kind);
	Onnx__TypeProto__Tensor *tensor = hd_onnx_keep(graph, sizeof *tensor);
	Onnx__TensorShapeProto *shape = hd_onnx_keep(graph, sizeof *shape);
	Onnx__TensorShapeProto__Dimension **list = hd_onnx_keep(
	                                          graph, (size_t)ndim * sizeof(Onnx__TensorShapeProto__Dimension *)),
	                                  *messages = hd_onnx_keep(graph, (size_t)ndim * sizeof *messages);
	if (graph->status != HD_OK)
		return NULL;
	onnx__value_info_proto__init(info);
	onnx__type_proto__init(kind);
	onnx__type_proto__tensor__init(tensor);
	onnx__tensor_shape_proto__init(shape);
	for (int d = 0; d < ndim; d++) {
		set_dim(graph, &messages[d], &dims[d]);
		list[d] = &messages[d];
	}
	shape->dim = list;
	shape->n_dim = (size_t)ndim;
	tensor->has_elem_type = 1;
	tensor->elem_type = (int32_t)type;
	tensor->shape = shape;
	kind->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
	kind->tensor_type = tensor;
	info->name = (char *)name;
	info->type = kind;
	return info;
}

hd_onnx_value hd_onnx_input(hd_onnx *graph, const char *name, hd_onnx_type type, int ndim, const hd_onnx_dim *dims)
{
	const char *kept = keep_text(graph, name);
	Onnx__ValueInfoProto *info = describe(graph, kept, type, ndim, dims);
	append(graph, &graph->graph.input, &graph->graph.n_input, &graph->input_capacity, info);
	return add_name(graph, kept, NULL);
}

void hd_onnx_output(
        hd_onnx *graph, hd_onnx_value value, const char *name, hd_onnx_type type, int ndim, const hd_onnx_dim *dims)
{
	const char *kept = keep_text(graph, name);
	if (!kept || !check_value(graph, value, "an output"))
		return;
	if (strcmp(value, name) != 0) {
		HD_ONNX_NODE(graph, "Identity", value);
		if (graph->status != HD_OK)
			return;
		graph->graph.node[graph->graph.n_node - 1]->output[0] = (char *)kept;
		add_name(graph, kept, NULL);
	}
	Onnx__ValueInfoProto *info = describe(graph, kept, type, ndim, dims);
	append(graph, &graph->graph.output, &graph->graph.n_output, &graph->output_capacity, info);
}

/* ---- tensors ---- */

/* name and dims are kept already. */
static hd_onnx_value store(
        hd_onnx *graph, const char *name, const hd_onnx_tensor *tensor, size_t ndim, const int64_t *dims, bool constant)
{
	hd_onnx_stored *stored = hd_onnx_keep(graph, sizeof *stored);
	if (!stored)
		return "";
	stored->tensor = *tensor;
	stored->constant = constant;
	stored->bytes = hd_onnx_type_bytes(tensor->type);
	for (size_t d = 0; d < ndim; d++)
		stored->bytes *= (size_t)dims[d];
	Onnx__TensorProto *m = &stored->message;
	onnx__tensor_proto__init(m);
	m->name = (char *)name;
	m->has_data_type = 1;
	m->data_type = (int32_t)tensor->type;
	m->dims = (int64_t *)dims;
	m->n_dims = ndim;
	m->has_raw_data = 1;
	m->raw_data.data = (uint8_t *)stored;
	m->raw_data.len = stored->bytes;
	size_t count = graph->graph.n_initializer;
	append(graph, &graph->tensors, &count, &graph->tensor_capacity, stored);
	append(graph, &graph->graph.initializer, &graph->graph.n_initializer, &graph->initializer_capacity, m);
	return add_name(graph, name, stored);
}

hd_onnx_value hd_onnx_weight(hd_onnx *graph, const char *name, const hd_onnx_tensor *tensor)
{
	char *kept = keep_text(graph, name);
	int64_t *dims = keep_copy(graph, tensor->shape, (size_t)tensor->ndim * sizeof *dims);
	if (graph->status != HD_OK)
		return "";
	if (!tensor->data && !tensor->fill) {
		hd_onnx_failed(graph, hd_fail(HD_E_FAILED, "ONNX graph: the tensor '%s' has no data", name));
		return "";
	}
	return store(graph, kept, tensor, (size_t)tensor->ndim, dims, false);
}

/* The constant of that name, made where there is none; values are copied. name is kept already. */
static hd_onnx_value constant(
        hd_onnx *graph, const char *name, hd_onnx_type type, int ndim, const int64_t *shape, const void *values)
{
	if (graph->status != HD_OK)
		return "";
	const value_name *there = find_name(graph, name);
	size_t bytes = hd_onnx_type_bytes(type);
	for (int d = 0; d < ndim; d++)
		bytes *= (size_t)shape[d];
	if (there) {
		const hd_onnx_stored *s = there->stored;
		if (s && s->constant && s->tensor.type == type && s->message.n_dims == (size_t)ndim &&
		        !memcmp(s->message.dims, shape, (size_t)ndim * sizeof *shape) &&
		        !memcmp(s->tensor.data, values, bytes))
			return there->name;
		hd_onnx_failed(graph, hd_fail(HD_E_FAILED, "ONNX graph: two values of the name '%s'", name));
		return "";
	}
	int64_t *dims = keep_copy(graph, shape, (size_t)ndim * sizeof *dims);
	hd_onnx_tensor tensor = {.type = type, .data = keep_copy(graph, values, bytes)};
	return store(graph, name, &tensor, (size_t)ndim, dims, true);
}

hd_onnx_value hd_onnx_f32(hd_onnx *graph, float value)
{
	/* nine digits tell every float */
	return constant(
	        graph, keep_format(graph, "constants/f32_%.9g", (double)value), HD_ONNX_F32, 0, (int64_t[]){0}, &value);
}

hd_onnx_value hd_onnx_f16(hd_onnx *graph, float value)
{
	uint16_t half = hd_float_to_half(value);
	return constant(graph, keep_format(graph, "constants/f16_%.9g", (double)hd_half_to_float(half)), HD_ONNX_F16, 0,
	        (int64_t[]){0}, &half);
}

hd_onnx_value hd_onnx_i64(hd_onnx *graph, int64_t value)
{
	return constant(graph, keep_format(graph, "constants/i64_%lld", (long long)value), HD_ONNX_I64, 0,
	        (int64_t[]){0}, &value);
}

hd_onnx_value hd_onnx_i64s(hd_onnx *graph, int count, const int64_t *values)
{
	const char *name = "constants/i64s";
	for (int i = 0; name && i < count; i++)
		name = keep_format(graph, "%s_%lld", name, (long long)values[i]);
	return constant(graph, name, HD_ONNX_I64, 1, (int64_t[]){count}, values);
}

hd_onnx_value hd_onnx_f32s(hd_onnx *graph, const char *name, int ndim, const int64_t *shape, const float *values)
{
	return constant(graph, keep_text(graph, name), HD_ONNX_F32, ndim, shape, values);
}

/* ---- nodes ---- */

hd_onnx_value hd_onnx_node(hd_onnx *graph, const char *op, int input_count, const hd_onnx_value *inputs)
{
	Onnx__NodeProto *node = hd_onnx_keep(graph, sizeof *node);
	char **in = hd_onnx_keep(graph, (size_t)input_count * sizeof *in);
	for (int i = 0; i < input_count; i++)
		if (inputs[i][0])
			check_value(graph, inputs[i], op);
	hd_onnx_value name = new_name(graph, op);
	char **out = hd_onnx_keep(graph, OUTPUTS_MAX * sizeof *out);
	if (graph->status != HD_OK)
		return "";
	onnx__node_proto__init(node);
	for (int i = 0; i < input_count; i++)
		in[i] = keep_text(graph, inputs[i]);
	node->input = in;
	node->n_input = (size_t)input_count;
	node->op_type = keep_text(graph, op);
	node->name = (char *)name;
	node->output = out;
	node->output[0] = (char *)name;
	node->n_output = 1;
	node->attribute = hd_onnx_keep(graph, ATTRIBUTES_MAX * sizeof(Onnx__AttributeProto *));
	append(graph, &graph->graph.node, &graph->graph.n_node, &graph->node_capacity, node);
	return graph->status == HD_OK ? name : "";
}

static Onnx__NodeProto *last_node(hd_onnx *graph)
{
	if (graph->status == HD_OK && graph->graph.n_node == 0)
		hd_onnx_failed(graph, hd_fail(HD_E_FAILED, "ONNX graph: no node yet"));
	return graph->status == HD_OK ? graph->graph.node[graph->graph.n_node - 1] : NULL;
}

hd_onnx_value hd_onnx_more_output(hd_onnx *graph)
{
	Onnx__NodeProto *node = last_node(graph);
	if (node && node->n_output == OUTPUTS_MAX)
		hd_onnx_failed(graph, hd_fail(HD_E_FAILED, "ONNX graph: %s has too many outputs", node->name));
	char *name = node ? keep_format(graph, "%s:%zu", node->name, node->n_output) : NULL;
	hd_onnx_value value = add_name(graph, name, NULL);
	if (graph->status != HD_OK || !node)
		return "";
	node->output[node->n_output++] = name;
	return value;
}

static Onnx__AttributeProto *attribute(hd_onnx *graph, const char *name, Onnx__AttributeProto__AttributeType type)
{
	Onnx__NodeProto *node = last_node(graph);
	if (node && node->n_attribute == ATTRIBUTES_MAX)
		hd_onnx_failed(graph, hd_fail(HD_E_FAILED, "ONNX graph: %s has too many attributes", node->name));
	Onnx__AttributeProto *a = hd_onnx_keep(graph, sizeof *a);
	char *kept = keep_text(graph, name);
	if (graph->status != HD_OK || !node)
		return NULL;
	onnx__attribute_proto__init(a);
	a->name = kept;
	a->has_type = 1;
	a->type = type;
	node->attribute[node->n_attribute++] = a;
	return a;
}

void hd_onnx_attr_int(hd_onnx *graph, const char *name, int64_t value)
{
	Onnx__AttributeProto *a = attribute(graph, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
	if (a) {
		a->has_i = 1;
		a->i = value;
	}
}

void hd_onnx_attr_ints(hd_onnx *graph, const char *name, int count, const int64_t *values)
{
	Onnx__AttributeProto *a = attribute(graph, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
	int64_t *kept = keep_copy(graph, values, (size_t)count * sizeof *values);
	if (a && kept) {
		a->ints = kept;
		a->n_ints = (size_t)count;
	}
}

void hd_onnx_attr_float(hd_onnx *graph, const char *name, float value)
{
	Onnx__AttributeProto *a = attribute(graph, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
	if (a) {
		a->has_f = 1;
		a->f = value;
	}
}

void hd_onnx_attr_text(hd_onnx *graph, const char *name, const char *value)
{
	Onnx__AttributeProto *a = attribute(graph, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
	char *kept = keep_text(graph, value);
	if (a && kept) {
		a->has_s = 1;
		a->s = (ProtobufCBinaryData){.len = strlen(kept), .data = (uint8_t *)kept};
	}
}
