/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ONNX graph under construction, and the file it becomes (protobuf-c, ONNX's own schema).
 *
 * Values are named by texts that the graph owns. After the first failure every function does nothing and returns
 * "" where it returns a value; hd_onnx_status() and hd_onnx_write() tell what it was, so that graphs are written as
 * plain sequences of operations. One thread at a time per graph.
 */
#ifndef HD_EXPORT_ONNX_H
#define HD_EXPORT_ONNX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heimdall/status.h"

#define HD_ONNX_OPSET_MIN 14
#define HD_ONNX_OPSET_MAX 20

/* Element types, with ONNX's numbers (onnx.proto, TensorProto.DataType). */
typedef enum hd_onnx_type {
	HD_ONNX_F32 = 1,
	HD_ONNX_U8 = 2,
	HD_ONNX_I8 = 3,
	HD_ONNX_I32 = 6,
	HD_ONNX_I64 = 7,
	HD_ONNX_BOOL = 9,
	HD_ONNX_F16 = 10,
	HD_ONNX_F64 = 11
} hd_onnx_type;

size_t hd_onnx_type_bytes(hd_onnx_type type);

/* A dimension of an input or output: a size, or (name not NULL) one that only a run knows. */
typedef struct hd_onnx_dim {
	int64_t size;
	const char *name;
} hd_onnx_dim;

typedef struct hd_onnx hd_onnx;
typedef const char *hd_onnx_value; /* "": an operator's optional input left out */

/* opset: HD_ONNX_OPSET_MIN .. MAX, else HD_E_USAGE. The file gets the ir_version that came with that opset. */
hd_status hd_onnx_create(hd_onnx **out, int opset, const char *graph_name);
void hd_onnx_free(hd_onnx *graph); /* NULL-safe */
hd_status hd_onnx_status(const hd_onnx *graph);
int hd_onnx_opset(const hd_onnx *graph);
/* Makes a failure of the code that builds the graph the graph's own, with the thread's error text; HD_OK does nothing.
 */
void hd_onnx_failed(hd_onnx *graph, hd_status status);

/* The graph's inputs and outputs, in order. The output is `value` under its own name (an Identity where they differ).
 */
hd_onnx_value hd_onnx_input(hd_onnx *graph, const char *name, hd_onnx_type type, int ndim, const hd_onnx_dim *dims);
void hd_onnx_output(
        hd_onnx *graph, hd_onnx_value value, const char *name, hd_onnx_type type, int ndim, const hd_onnx_dim *dims);

/*
 * A tensor of the file. It is not copied: `data` (or what `fill` makes of `source`) is read while the file is written,
 * one tensor at a time, and has to stay until then; name and description are copied. fill writes all bytes of the
 * tensor to `out`. Two tensors of one name are an error.
 */
typedef hd_status (*hd_onnx_fill)(void *out, const void *source);
typedef struct hd_onnx_tensor {
	hd_onnx_type type;
	int ndim;
	int64_t shape[4];
	const void *data; /* C order, little endian; or NULL and: */
	hd_onnx_fill fill;
	const void *source;
	bool mapped; /* data is part of a mapped file: its pages are let go of once they are written */
} hd_onnx_tensor;
hd_onnx_value hd_onnx_weight(hd_onnx *graph, const char *name, const hd_onnx_tensor *tensor);

/* Zeroed memory that lives as long as the graph (contexts of fill); NULL and a failed graph where there is none. */
void *hd_onnx_keep(hd_onnx *graph, size_t bytes);

/* Small constants, copied. The same one asked for twice is stored once. ndim 0: a scalar. */
hd_onnx_value hd_onnx_f32(hd_onnx *graph, float value);
hd_onnx_value hd_onnx_f16(hd_onnx *graph, float value);
hd_onnx_value hd_onnx_i64(hd_onnx *graph, int64_t value);
hd_onnx_value hd_onnx_i64s(hd_onnx *graph, int count, const int64_t *values); /* one dimension */
hd_onnx_value hd_onnx_f32s(hd_onnx *graph, const char *name, int ndim, const int64_t *shape, const float *values);

/*
 * Appends a node and returns its first output, under a new name made of the graph's scope and the operator.
 * HD_ONNX_NODE(g, "Conv", x, w, b) counts its inputs. Attributes go to the node appended last.
 */
hd_onnx_value hd_onnx_node(hd_onnx *graph, const char *op, int input_count, const hd_onnx_value *inputs);
#define HD_ONNX_NODE(graph, op, ...)                                                                                   \
	hd_onnx_node((graph), (op), (int)(sizeof((hd_onnx_value[]){__VA_ARGS__}) / sizeof(hd_onnx_value)),             \
	        (hd_onnx_value[]){__VA_ARGS__})
/* A second (third, ...) output of the last node. */
hd_onnx_value hd_onnx_more_output(hd_onnx *graph);
void hd_onnx_attr_int(hd_onnx *graph, const char *name, int64_t value);
void hd_onnx_attr_ints(hd_onnx *graph, const char *name, int count, const int64_t *values);
void hd_onnx_attr_float(hd_onnx *graph, const char *name, float value);
void hd_onnx_attr_text(hd_onnx *graph, const char *name, const char *value);

/* Names of nodes and values that follow start with it, "stages.2.blocks.5/"; "" for none. */
void hd_onnx_scope(hd_onnx *graph, const char *scope);

/* Adds an entry of the model's metadata_props. */
void hd_onnx_metadata(hd_onnx *graph, const char *key, const char *value);

typedef enum hd_onnx_external {
	HD_ONNX_EXTERNAL_AUTO,
	HD_ONNX_EXTERNAL_NEVER,
	HD_ONNX_EXTERNAL_ALWAYS
} hd_onnx_external;

/*
 * Writes the model: atomically, beside the target, renamed when it is on the disk. Weights go into the file, or, when
 * all of it takes more than protobuf's 2 GiB (or always), into FILE.data beside it (ONNX's external data: location,
 * offset, length; offsets on 64 KiB boundaries for mapping; weights under 1 KiB and constants stay in the file). Where
 * both files are there already, the model is removed before its weights are replaced: never is one read with the
 * other's. Memory: the largest tensor that has a fill, once. A graph may be written more than once. NEVER and more than
 * 2 GiB: HD_E_USAGE.
 */
hd_status hd_onnx_write(hd_onnx *graph, const char *path, hd_onnx_external external);

/* Bytes of a model on the disk, with those of the weights beside it. HD_E_IO where there is none. */
hd_status hd_onnx_bytes(size_t *out, const char *path);

/* Removes a model and the weights beside it, where they are. */
void hd_onnx_remove(const char *path);

#endif
