#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes runtime.onnx, two_inputs.onnx and whole_numbers.onnx of tests/test_runtime.c. Needs the package onnx.

runtime.onnx: x (N,3) to y (N,2) = x W + b and z (N,3) = x / (1 + |x|), with metadata.
two_inputs.onnx: left (2,N) and right (N,2) to their product (2,2).
whole_numbers.onnx: x (N,3) to its shape, an int64 tensor.
"""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = os.path.dirname(os.path.abspath(__file__))


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def write(name, nodes, inputs, outputs, constants=(), metadata=None):
    tensors = [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in constants]
    graph = helper.make_graph(nodes, name, inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7, producer_name="")
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    with open(os.path.join(FOLDER, name + ".onnx"), "wb") as file:
        file.write(model.SerializeToString(deterministic=True))


write(
    "runtime",
    [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["y"]),
        helper.make_node("Softsign", ["x"], ["z"]),
    ],
    [value("x", ["N", 3])],
    [value("y", ["N", 2]), value("z", ["N", 3])],
    [("w", [[1, 0.5], [-2, 0.25], [3, 4]]), ("b", [0.125, -1])],
    {"heimdall.format": "1", "greeting": "gr\u00fc\u00dfe, \u4f60\u597d"},
)
write(
    "two_inputs",
    [helper.make_node("MatMul", ["left", "right"], ["y"])],
    [value("left", [2, "N"]), value("right", ["N", 2])],
    [value("y", [2, 2])],
)
write(
    "whole_numbers",
    [helper.make_node("Shape", ["x"], ["y"])],
    [value("x", ["N", 3])],
    [value("y", [2], TensorProto.INT64)],
)
