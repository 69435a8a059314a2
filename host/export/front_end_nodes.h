/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that the front end's files have in common. */
#ifndef HD_EXPORT_FRONT_END_NODES_H
#define HD_EXPORT_FRONT_END_NODES_H

#include "host/export/onnx.h"

static inline hd_onnx_value hd_node2(hd_onnx *g, const char *op, hd_onnx_value a, hd_onnx_value b)
{
	return HD_ONNX_NODE(g, op, a, b);
}

/* A constant of one dimension and one element. */
static inline hd_onnx_value hd_node_i64s1(hd_onnx *g, int64_t value)
{
	return hd_onnx_i64s(g, 1, &value);
}

/* Size of one dimension: a scalar. */
static inline hd_onnx_value hd_node_size(hd_onnx *g, hd_onnx_value tensor, int64_t axis)
{
	hd_onnx_value shape = HD_ONNX_NODE(g, "Shape", tensor);
	return hd_node2(g, "Gather", shape, hd_onnx_i64(g, axis));
}

/* Sum over one axis; ReduceSum takes its axes as an input in every opset that is written, other reductions do not. */
static inline hd_onnx_value hd_node_sum(hd_onnx *g, hd_onnx_value x, int64_t axis, bool keep)
{
	hd_onnx_value sum = hd_node2(g, "ReduceSum", x, hd_node_i64s1(g, axis));
	hd_onnx_attr_int(g, "keepdims", keep);
	return sum;
}

static inline hd_onnx_value hd_node_cast(hd_onnx *g, hd_onnx_value x, hd_onnx_type type)
{
	hd_onnx_value out = HD_ONNX_NODE(g, "Cast", x);
	hd_onnx_attr_int(g, "to", type);
	return out;
}

/* 0 .. count-1, count a scalar. */
static inline hd_onnx_value hd_node_range(hd_onnx *g, hd_onnx_value count)
{
	return HD_ONNX_NODE(g, "Range", hd_onnx_i64(g, 0), count, hd_onnx_i64(g, 1));
}

#endif
