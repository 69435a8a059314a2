# SPDX-License-Identifier: Apache-2.0
"""Quantised models of test_quantize.c, checked by onnx and run by onnxruntime: every operation in few bits does what its
definition says, in double, with the inputs that it was given.

usage: quantize_models.py operations|answers FEATURES.safetensors MODEL.onnx...

answers: also of the whole model, beside float32's. The float32 model of M.PRECISION.onnx is M.onnx beside it; calibrated on the first 16 rows of the features.
"""
import math
import platform
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from safetensors.numpy import load_file

LEVELS = {
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
EPS32, EPS16, TINY16 = 2.0**-24, 2.0**-11, 2.0**-25
# x86 sums products of halves in float32; Arm may sum them in half precision
SUMS16 = EPS32 if platform.machine() == "x86_64" else EPS16
CALIBRATED = 16


class Model:
    def __init__(self, path):
        self.path = path
        onnx.checker.check_model(path, full_check=True)
        self.proto = onnx.load(path)
        self.precision = {p.key: p.value for p in self.proto.metadata_props}["heimdall.precision"]
        self.tensors = {t.name: numpy_helper.to_array(t) for t in self.proto.graph.initializer}
        self.maker = {o: n for n in self.proto.graph.node for o in n.output}

    def users(self, name):
        return [n for n in self.proto.graph.node if name in n.input]

    def user(self, name, op):
        return next(n for n in self.users(name) if n.op_type == op)

    def run(self, features, level, names):
        """Values of these names; those of the file, as they are."""
        wanted = [n for n in dict.fromkeys(names) if n not in self.tensors and n != "features"]
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        have = {o.name for o in proto.graph.output}
        proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted if n not in have)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = LEVELS[level]
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
        values = dict(zip(wanted, session.run(wanted, {"features": features})))
        return {**values, **self.tensors, "features": features}


def worst(error, bound):
    """Largest share of the bound; NaN counts as infinite."""
    return float(np.nan_to_num(error / bound, nan=np.inf).max())


# ---- eight bits ----


def dynamic_range(x):
    """onnx/docs/Operators.md, DynamicQuantizeLinear."""
    lo, hi = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
    scale = (hi - lo) / np.float32(255)
    if scale == 0:
        return np.float32(1), 0
    return scale, int(np.clip(np.rint(-lo / scale), 0, 255))


def products(model):
    """Of each matrix product: input, output behind its bias, weights, their scales, bias, scale and zero point or None."""
    op = {"int8-dynamic": "DynamicQuantizeLinear", "int8-static": "QuantizeLinear"}[model.precision]
    for node in (n for n in model.proto.graph.node if n.op_type == op):
        if op == "DynamicQuantizeLinear":
            product = model.user(node.output[0], "MatMulInteger")
            y = model.user(model.user(product.output[0], "Cast").output[0], "Mul")
            weights = product.input[1]
            scales = next(i for i in model.maker[next(i for i in y.input if model.maker[i].op_type == "Mul")].input
                          if i in model.tensors)
            at = None
        else:
            y = model.user(model.user(node.output[0], "DequantizeLinear").output[0], "MatMul")
            weights, scales = model.maker[y.input[1]].input[:2]
            at = model.tensors[node.input[1]], int(model.tensors[node.input[2]])
        add = model.user(y.output[0], "Add")
        bias = next(i for i in add.input if i in model.tensors)
        yield node.input[0], add.output[0], model.tensors[weights], model.tensors[scales], model.tensors[bias], at


def check_products(model, features, level):
    listed = list(products(model))
    values = model.run(features, level, [n for p in listed for n in p[:2]])
    share, failures = 0, []
    for x_name, y_name, weights, scales, bias, at in listed:
        x, y = values[x_name], values[y_name].astype(np.float64)
        scale, zero_point = at or dynamic_range(x)
        steps = x / scale
        q = np.clip(np.rint(steps) + zero_point, 0, 255).astype(np.int64) - zero_point
        whole = q @ weights.astype(np.int64)
        by = float(scale) * scales.astype(np.float64)
        terms = (np.abs(q) @ np.abs(weights.astype(np.int64))) * by + np.abs(bias)
        # sums of floats where nothing is fused; cast, two factors and bias otherwise, which is less
        bound = (x.shape[-1] + 4) * EPS32 * terms + 1e-30
        # a step more or less where the quotient lies in the middle between two, but for its rounding
        middle = np.abs(np.abs(steps - np.floor(steps)) - 0.5) < 1e-4
        bound = bound + middle.astype(np.float64) @ np.abs(weights).astype(np.float64) * by
        here = worst(np.abs(y - (whole * by + bias)), bound)
        share = max(share, here)
        if not here <= 1:
            failures.append(f"{x_name}: product off by {here:.3g} bounds at level {level}")
    if not listed:
        failures.append("no product in 8 bits")
    return failures, f"{len(listed)} products, {share:.2f} of the bound"


def check_weights(model):
    """Every int8 tensor of at most its steps, one scale per channel of it."""
    failures = []
    for name, q in model.tensors.items():
        if q.dtype != np.int8:
            continue
        steps = 64 if "mlp" in name else 127
        scale = model.tensors[name.replace("_quantized", "_scale")]
        channels = q.T if scale.ndim == 1 else q.reshape(len(q), -1)
        if scale.size != len(channels) or not (scale > 0).all():
            failures.append(f"{name}: {scale.size} scales of {len(channels)} channels")
        most = np.abs(channels.astype(int)).max(axis=1)
        if not np.isin(most, [0, steps]).all():
            failures.append(f"{name}: channels reach {sorted(set(most))} steps, want {steps}")
    return failures


def check_ranges(model, features):
    """Scales and zero points are those of the inputs that the float32 model had on the calibration's rows."""
    plain = Model(model.path.replace(".int8-static", ""))
    inputs = [n.input[0] for n in plain.proto.graph.node if n.op_type == "MatMul"]
    values = plain.run(features[:CALIBRATED], "all", inputs)
    failures = []
    for name, (*_, at) in zip(inputs, products(model)):
        scale, zero_point = dynamic_range(values[name])
        # both ways of running the float32 model differ by roundings
        if not abs(at[0] - scale) <= 1e-4 * scale or abs(at[1] - zero_point) > 1:
            failures.append(f"{name}: range {at}, want {scale}, {zero_point}")
    if len(inputs) != len(list(products(model))):
        failures.append("not every product is quantised")
    return failures


# ---- half precision ----


def attribute(node, name):
    return next(onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name)


def conv(node, x, w, b):
    pad, stride, group = attribute(node, "pads")[0], attribute(node, "strides")[0], attribute(node, "group")
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    size = w.shape[2]
    patches = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))[:, :, ::stride, ::stride]
    how = "nchwij,cij->nchw" if group > 1 else "nchwij,kcij->nkhw"
    return np.einsum(how, patches, w[:, 0] if group > 1 else w, optimize=True) + b[:, None, None]


def layer_norm(node, x, gamma, bias):
    """Value, and how far it moves where each x moves by its own size, to first order: directly, with the mean, and with
    the deviation."""
    centred = x - x.mean(axis=-1, keepdims=True)
    by = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + attribute(node, "epsilon"))
    size, unit = np.abs(x), np.abs(centred) * by
    moved = size + size.mean(axis=-1, keepdims=True) + unit * (unit * size).mean(axis=-1, keepdims=True)
    return centred * by * gamma + bias, moved * by * np.abs(gamma) + np.abs(bias)


def erf(x):
    """Of each different value once: halves are few."""
    different, at = np.unique(x, return_inverse=True)
    return np.array([math.erf(v) for v in different])[at].reshape(x.shape)


def reference(node, inputs):
    """What a node should put out; how far that moves where each input moves by its own size; and the number of float32
    roundings on the way, each of that size."""
    a, op = [np.asarray(i, np.float64) for i in inputs], node.op_type
    size = [np.abs(i) for i in a]
    if op == "MatMul":
        return a[0] @ a[1], size[0] @ size[1], len(a[1])
    if op == "Conv":
        return conv(node, *a), conv(node, *size), a[1][0].size
    if op == "LayerNormalization":
        return *layer_norm(node, *a), a[0].shape[-1] + 8
    if op == "Transpose":
        return a[0].transpose(attribute(node, "perm")), size[0].transpose(attribute(node, "perm")), 0
    # slopes of erf and gelu are at most 2 / sqrt(pi) and 1.13
    if op == "Erf":
        return erf(a[0]), 1.13 * size[0], 8
    if op == "Gelu":
        return a[0] * (erf(a[0] / math.sqrt(2)) + 1) / 2, 1.13 * size[0], 8
    if op == "Add":
        return a[0] + a[1], size[0] + size[1], 1
    y = {"Mul": np.multiply, "Div": np.divide}[op](*a) if op != "Cast" else a[0]
    return y, 2 * np.abs(y), 1


def check_halves(model, features):
    """Every operation whose output is in half precision. ONNX Runtime's CPU computes them as floats, and where one
    feeds the next leaves out both casts: an input may be what it was before its rounding."""
    inferred = onnx.shape_inference.infer_shapes(model.proto)
    halves = {v.name for v in inferred.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
    nodes = [n for n in model.proto.graph.node if n.output[0] in halves]
    values = model.run(features, "disabled", [i for n in nodes for i in [*n.input, *n.output]])
    share, failures, counts = 0, [], {}
    for node in nodes:
        y = values[node.output[0]].astype(np.float64)
        want, moved, count = reference(node, [values[i] for i in node.input])
        rounded = EPS16 if node.op_type != "Cast" else 0
        bound = EPS16 * np.abs(want) + TINY16 + 1.01 * (rounded + count * SUMS16) * moved
        here = worst(np.abs(y - want), bound)
        share = max(share, here)
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
        if not here <= 1.001:
            failures.append(f"{node.name}: off by {here:.3g} bounds")
    if counts.get("MatMul", 0) == 0 or counts.get("Conv", 0) == 0:
        failures.append(f"in half precision: {counts}")
    return failures, f"{sum(counts.values())} operations, {share:.2f} of the bound"


# ---- the whole model ----

DRAWS, FACTOR = 4, 3


def perturbed(name, w, precision, random):
    """A weight of the float32 model with noise of the size of the roundings that this precision has."""
    if precision == "fp16":
        return w * (1 + random.uniform(-EPS16, EPS16, w.shape))
    if w.ndim < 2:
        return w
    steps = 64 if "mlp" in name else 127
    most = np.abs(w).max(axis=0 if "mlp" in name else tuple(range(1, w.ndim)), keepdims=True)
    return w + random.uniform(-0.5, 0.5, w.shape) * most / steps


def check_answers(model, features):
    """Answers differ from float32's by no more than a few times what they move by where its weights are rounded; a
    rounding of activations is of the same size. Any part of the graph left out moves them by more."""
    plain = Model(model.path.replace(f".{model.precision}", ""))
    outputs = [o.name for o in plain.proto.graph.output]
    want, got = plain.run(features, "all", outputs), model.run(features, "all", outputs)
    moved, failures, words = dict.fromkeys(outputs, 0), [], []
    for draw in range(DRAWS):
        random = np.random.default_rng(draw)
        other = Model(plain.path)
        for t in other.proto.graph.initializer:
            w = numpy_helper.to_array(t)
            if w.dtype == np.float32 and w.size > 1 and t.name in plain.tensors:
                t.CopyFrom(numpy_helper.from_array(
                    perturbed(t.name, w, model.precision, random).astype(np.float32), t.name))
        values = other.run(features, "all", outputs)
        for o in outputs:
            moved[o] = max(moved[o], np.abs(values[o].astype(np.float64) - want[o]).max())
    for o in outputs:
        off = np.abs(got[o].astype(np.float64) - want[o]).max()
        words.append(f"{o} off by {off:.2g}, {off / moved[o]:.1f} of what roundings of weights do")
        if not off <= FACTOR * moved[o]:
            failures.append(words[-1])
        if not FACTOR * moved[o] < np.ptp(want[o], axis=0).max():
            failures.append(f"{o}: nothing was tested, roundings move it by {moved[o]:.2g}")
    return failures, "; ".join(words)


def check(path, features, answers):
    model = Model(path)
    if model.precision == "fp16":
        failures, words = check_halves(model, features[:1])
    else:
        failures, words = check_products(model, features[:2], "disabled")
        more, fused = check_products(model, features[:2], "all")
        failures += more + check_weights(model)
        words += f"; fused: {fused}"
        if model.precision == "int8-static":
            failures += check_ranges(model, features)
    outputs = [o.name for o in model.proto.graph.output]
    values = model.run(features[:2], "all", outputs)
    if not all(np.isfinite(values[o]).all() for o in outputs):
        failures.append("answers are not finite")
    if answers:
        more, said = check_answers(model, features[CALIBRATED:])
        failures, words = failures + more, f"{words}; {said}"
    return failures, words


def main(what, features, *paths):
    passed = failed = 0
    features = load_file(features)["features"]
    for path in paths:
        failures, words = check(path, features, what == "answers")
        print(f"{path}: {words}{''.join('; ' + f for f in failures)}")
        passed, failed = passed + (not failures), failed + bool(failures)
    print(f"{passed} passed, {failed} failed")
    return failed or not passed


if __name__ == "__main__":
    sys.exit(bool(main(*sys.argv[1:])))
