# SPDX-License-Identifier: Apache-2.0
"""onnx_front_end.py FOLDER COUNT: graphs of the features against the library's levels, all written by test_front_end.

Levels have to agree within their bounds before they are rounded to half precision, and half a step more after; what is
rounded has to be numpy's rounding of what goes in. Every level of ONNX Runtime's optimisations is run.
"""
import glob
import sys

import numpy as np
import onnx
import onnxruntime as ort

LEVELS = [
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
]
EPS = np.finfo(np.float32).eps


def open_session(model, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    content = model if isinstance(model, str) else model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def share_of_bound(got, want, bound):
    """The largest difference as a share of what is allowed; infinite where it cannot be told."""
    if got.shape != want.shape or not np.isfinite(got).all():
        return np.inf
    off = np.abs(got.astype(np.float64) - want)
    return float(np.max(np.divide(off, bound, out=np.where(off > 0, np.inf, 0), where=bound > 0)))


def check_features(path):
    base = path[: -len(".onnx")]
    signal, want, bound = (np.load(f"{base}.{part}.npy") for part in ("signal", "levels", "bounds"))
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    half = next(n for n in model.graph.node if n.op_type == "Cast" and n.attribute[0].i == onnx.TensorProto.FLOAT16)
    model.graph.output.append(onnx.ValueInfoProto(name=half.input[0]))
    step = np.maximum(np.spacing(np.abs(want).astype(np.float16)).astype(np.float64), 2.0**-24)
    worst, worst_rounded = 0, 0
    for level in LEVELS:
        levels = open_session(model, level).run([half.input[0]], {"signal": signal})[0]
        features, count = open_session(path, level).run(["features", "count"], {"signal": signal})
        worst = max(worst, share_of_bound(levels, want, bound))
        # a level just below a power of two is rounded with the larger step
        worst_rounded = max(worst_rounded, share_of_bound(features, want, bound + step * 0.5000001))
        if not np.array_equal(features, levels.astype(np.float16).astype(np.float32)):
            return False, f"{level}: not the levels rounded to half precision"
        if count.shape != () or count * signal.shape[0] != want.shape[0]:
            return False, f"{count} windows for {want.shape[0]} rows"
    off = np.abs(levels - want)
    text = (f"off by {off.max():.1e} dB at most, mean {off.mean():.1e}; {worst:.2f} of the bound, {worst_rounded:.2f} rounded; "
            f"{100 * np.mean(features != want.astype(np.float16)):.2f} % rounded otherwise")
    return worst <= 1 and worst_rounded <= 1, text


def check_fuse(path):
    rng = np.random.default_rng(3)
    worst = 0
    # positions far from the origin and close to each other, and far from each other; sigma over the range of label units
    for n, k, apart, low in [(1, 1, 1e-6, 1e-5), (1, 7, 1e-6, 1e-6), (3, 5, 0.3, 1e-4), (2, 40, 1e-3, 1e-5)]:
        mu = (0.8 + apart * rng.standard_normal((n * k, 2))).astype(np.float32)
        sigma = np.exp(rng.uniform(np.log(low), 0, (n * k, 2))).astype(np.float32)
        m, v = mu.astype(np.float64).reshape(n, k, 2), sigma.astype(np.float64).reshape(n, k, 2) ** 2
        mean = (m / v).sum(1) / (1 / v).sum(1)
        off = m - mean[:, None]
        deviation = np.sqrt(((v + off**2) / v).sum(1) / (1 / v).sum(1))
        # the mean is a sum of k terms of the size of mu; its error goes into every difference from it
        bound = (k + 6) * EPS * np.abs(m).max(1)
        weighted = (np.abs(off) / v).sum(1) / (1 / v).sum(1)
        variance = 2 * weighted * bound + bound**2
        deviation_bound = variance / (2 * deviation) + (k + 8) * EPS * deviation
        for level in LEVELS:
            got = open_session(path, level).run(
                ["mean", "deviation"], {"count": np.array(k, np.int64), "mu": mu, "sigma": sigma})
            worst = max(worst, share_of_bound(got[0], mean, bound), share_of_bound(got[1], deviation, deviation_bound))
    return worst <= 1, f"{worst:.2f} of the bound"


def main():
    folder, count = sys.argv[1], int(sys.argv[2])
    graphs = sorted(glob.glob(f"{folder}/[0-9]*.onnx"))
    fuses = sorted(glob.glob(f"{folder}/fuse*.onnx"))
    bad = len(graphs) != count or len(fuses) == 0
    for check, path in [(check_features, p) for p in graphs] + [(check_fuse, p) for p in fuses]:
        good, text = check(path)
        print(f"{path[len(folder) + 1:]}: {'' if good else 'WRONG: '}{text}")
        bad = bad or not good
    return bad


if __name__ == "__main__":
    sys.exit(main())
