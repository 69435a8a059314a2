/* SPDX-License-Identifier: Apache-2.0 */
/* What a graph under construction is made of; for the two files that make it and write it. */
#ifndef HD_EXPORT_ONNX_GRAPH_H
#define HD_EXPORT_ONNX_GRAPH_H

#include "host/export/onnx.h"
#include "onnx/onnx.pb-c.h"

/* A tensor of the file. Its message's raw_data points to this very struct, which the writer puts the bytes in place of.
 */
typedef struct hd_onnx_stored {
	Onnx__TensorProto message;
	hd_onnx_tensor tensor;
	size_t bytes;
	bool constant; /* small and needed to infer shapes: never beside the file */
} hd_onnx_stored;

struct hd_onnx {
	hd_status status;
	char *error; /* text of the first failure */
	int opset;
	const char *scope;
	struct hd_onnx_block *blocks; /* memory of everything below but the arrays that grow */
	void *names;                  /* tree (tsearch) of the values' names */
	Onnx__ModelProto model;
	Onnx__GraphProto graph;
	Onnx__OperatorSetIdProto operators, *operators_list[1];
	hd_onnx_stored **tensors; /* as many, and in the order of, graph.initializer */
	size_t node_capacity, input_capacity, output_capacity, initializer_capacity, tensor_capacity, metadata_capacity;
};

#endif
