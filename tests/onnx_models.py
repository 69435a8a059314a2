# SPDX-License-Identifier: Apache-2.0
"""What onnx_models.c wrote, checked by onnx and run by onnxruntime: the answers are the engine's.

usage: onnx_models.py FOLDER

Every NAME.safetensors there holds inputs and wanted outputs of the models NAME.*.onnx.
"""
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

RADIUS_M = 6371008.8
MAX_ERROR, MEAN_ERROR = 1e-5, 2e-6  # of mu and sigma, label units; float32 rounding alone makes up to 1e-6
# Roundings, each half a unit in the last place of what is left of the distance, on the way of mu to degrees from the
# origin, counted: scale (2), c (3), sin(c)/c (3), s or side (1), hyp or cos(lat - f0) (3), t (1), atan (1), degrees (2).
ROUNDINGS = 16


def vector(degrees):
    lat, lon = np.radians(degrees[:, 0]), np.radians(degrees[:, 1])
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def distance_m(a, b):
    chord = np.linalg.norm(vector(a) - vector(b), axis=1)
    return 2 * RADIUS_M * np.arcsin(np.minimum(1, chord / 2))


def rounding_m(degrees):
    """Half a unit in the last place of float32 latitudes and longitudes, in metres."""
    half = np.spacing(np.abs(degrees).astype(np.float32)).astype(np.float64) / 2 * np.pi / 180 * RADIUS_M
    return np.hypot(half[:, 0], half[:, 1] * np.cos(np.radians(degrees[:, 0])))


def positions_bound_m(wanted, mu, scale_m):
    distance = np.hypot(mu[:, 0], mu[:, 1]).astype(np.float64) * scale_m
    # a thousandth more: wanted degrees and distances here are rounded too
    return 1.001 * (rounding_m(wanted) + ROUNDINGS * 2.0**-24 * distance) + 1e-6


def check_positions(case, got, mu, scale_m):
    """mu: what the graph made its positions of; the wanted ones are of case["mu"]."""
    failures = []
    degrees = got["positions"].astype(np.float64)
    if not (np.abs(degrees[:, 0]) <= 90).all() or not (np.abs(degrees[:, 1]) <= 180).all():
        failures.append("positions out of range")
    moved = np.linalg.norm(mu.astype(np.float64) - case["mu"], axis=1) * scale_m
    error = distance_m(degrees, case["positions"])
    # a step of mu is none longer on the sphere
    bound = positions_bound_m(case["positions"], mu, scale_m) + 1.001 * moved
    worst = np.argmax(error / bound)
    if not (error <= bound).all():
        failures.append(f"position {worst}: {error[worst]:.3f} m off, bound {bound[worst]:.3f} m")
    if not np.array_equal(got["uncertainties"], got.get("sigma", case["sigma"]) * np.float32(scale_m)):
        failures.append("uncertainties are not sigma in metres")
    return failures, error[worst] / bound[worst]


def load(path):
    """Checks a model and returns what runs it: a function from inputs to outputs, both by name."""
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs)))


def check_network(path, case):
    run = load(path)
    got = run({"features": case["features"]})
    failures, words = [], []
    for name in ("mu", "sigma"):
        error = np.abs(got[name].astype(np.float64) - case[name])
        words.append(f"{name} {error.max():.1e}")
        if not (error.max() <= MAX_ERROR and error.mean() <= MEAN_ERROR):
            failures.append(f"{name} off by {error.max():.2e}, on average {error.mean():.2e}")
        if np.ptp(case[name]) < 10 * MAX_ERROR:
            failures.append(f"{name} is the same for all: nothing was tested")
    failures += check_positions(case, got, got["mu"], float(case["frame"][2]))[0]
    # rows do not depend on each other
    single = run({"features": case["features"][1:2]})
    if not np.abs(single["mu"] - got["mu"][1:2]).max() <= MAX_ERROR:
        failures.append("a row depends on the others")
    return failures, ", ".join(words)


def check_frame(path, case):
    got = load(path)({"mu": case["mu"], "sigma": case["sigma"]})
    failures, share = check_positions(case, got, case["mu"], float(case["frame"][2]))
    return failures, f"{share:.2f} of the bound at most"


def check_beyond(path, case):
    got = load(path)({"index": case["index"]})["picked"]
    beside = path.with_name(path.name + ".data").stat().st_size
    failures = [] if np.array_equal(got, case["picked"]) else ["other weights"]
    return failures, f"{beside} bytes beside it"


def checker(case):
    return check_network if "features" in case else check_beyond if "index" in case else check_frame


def main(folder):
    passed = failed = 0
    for answers in sorted(pathlib.Path(folder).glob("*.safetensors")):
        case = load_file(answers)
        models = sorted(pathlib.Path(folder).glob(answers.stem + ".*onnx"))
        if not models:
            failed += 1
            print(f"{answers.stem}: no model")
        for path in models:
            failures, words = checker(case)(path, case)
            print(f"{path.stem:<16} {words}{''.join('; ' + f for f in failures)}")
            passed, failed = passed + (not failures), failed + bool(failures)
    print(f"{passed} passed, {failed} failed")
    return failed or not passed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1])))
