# SPDX-License-Identifier: Apache-2.0
"""publish_load.py FILE... -- MODEL...: the positions of a published model, loaded as MLflow's users load it.

MODEL is what mlflow.onnx.load_model takes: models:/NAME@ALIAS, s3://bucket/v1.0.0, a folder; one that was exported with
its features. FILE... as predict_in_python.py takes them. Prints a line for each MODEL and way: mlflow.onnx, whose graph
runs in onnxruntime, and mlflow.pyfunc, which checks the input against the signature.
"""
import sys
import warnings

import numpy as np
import onnxruntime

warnings.filterwarnings("ignore")
import mlflow  # noqa: E402

from predict_in_python import read  # noqa: E402


def signal_of(files):
    """(1,C,samples,2); a missing receiver is zeros."""
    recordings = [None if name == "none" else read(name) for name in files]
    samples = min(len(r) for r in recordings if r is not None)
    signal = np.zeros((1, len(files), samples, 2), np.float32)
    for channel, recording in enumerate(recordings):
        if recording is not None:
            signal[0, channel] = recording[:samples]
    return signal


def show(way, positions, sigmas):
    print(way, "latitude %.6f longitude %.6f" % tuple(positions[0]),
          "sigma_north_m %.1f sigma_east_m %.1f" % tuple(sigmas[0]), flush=True)


def main(files, models):
    signal = signal_of(files)
    for uri in models:
        info = mlflow.models.get_model_info(uri)
        if not info.signature or set(info.flavors) != {"onnx", "python_function"}:
            sys.exit(f"{uri}: signature {info.signature}, flavors {sorted(info.flavors)}")
        name = info.signature.inputs.input_names()[0]
        model = mlflow.onnx.load_model(uri)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        show("onnx", *session.run(["positions", "uncertainties"], {name: signal}))
        answers = mlflow.pyfunc.load_model(uri).predict({name: signal})
        show("pyfunc", answers["positions"], answers["uncertainties"])


if __name__ == "__main__":
    split = sys.argv.index("--")
    main(sys.argv[1:split], sys.argv[split + 1:])
