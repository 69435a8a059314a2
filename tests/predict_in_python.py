# SPDX-License-Identifier: Apache-2.0
"""predict_in_python.py MODEL.onnx FILE...: the position that `heimdall predict` gives, by numpy and onnxruntime alone.

MODEL is one exported with its features. FILE... are .npy at the model's sample rate, of one emission, one for each
receiver in the model's order; "none" for a missing one. Recordings of different lengths are cut to the shortest.
"""
import json
import sys

import numpy as np
import onnxruntime


def read(name):
    """(samples,2) I and Q, full scale 1, from complex numbers or pairs, floats or integers."""
    x = np.load(name)
    pairs = (np.stack([x.real, x.imag], axis=-1) if np.iscomplexobj(x) else x).reshape(-1, 2)
    if pairs.dtype == np.uint8:
        return (pairs - 127.5) / 127.5
    return pairs / -np.iinfo(pairs.dtype).min if pairs.dtype.kind == "i" else pairs


def main(model, *files):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["heimdall.card"])
    receivers = card["receivers"].split(",")
    if len(files) != len(receivers) or set(files) == {"none"}:
        sys.exit(f"{model}: give a recording, or 'none', for each receiver: {' '.join(receivers)}")
    recordings = [None if name == "none" else read(name) for name in files]
    samples = min(len(r) for r in recordings if r is not None)
    signal = np.zeros((1, card["channels"], samples, 2), np.float32)  # a missing receiver stays silent
    for channel in range(card["channels"]):
        recording = recordings[channel % len(recordings)]  # a model of one receiver hears it on every channel
        if recording is not None:
            signal[0, channel] = recording[:samples]
    port = session.get_inputs()[0]
    if len(port.shape) == 3:  # the model takes magnitudes
        signal = np.sqrt((signal**2).sum(axis=-1))
    positions, sigmas = session.run(None, {port.name: signal})[:2]
    print("latitude %.6f longitude %.6f" % tuple(positions[0]), "sigma_north_m %.1f sigma_east_m %.1f" % tuple(sigmas[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
