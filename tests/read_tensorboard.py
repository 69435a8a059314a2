# SPDX-License-Identifier: Apache-2.0
"""read_tensorboard.py FOLDER WANT.csv: TensorBoard's own readers give every point that WANT.csv has (tag,step,value), once,
and no other, from the event files of FOLDER."""

import csv
import math
import os
import struct
import sys
from collections import Counter

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.util import tensor_util

ALL = 1 << 30


def single(value):
    """As a number of 32 bits; NaN as one that equals itself."""
    value = struct.unpack("f", struct.pack("f", value))[0]
    return "nan" if math.isnan(value) else value


def scalars(folder):
    reader = event_accumulator.EventAccumulator(folder, size_guidance={event_accumulator.SCALARS: ALL})
    reader.Reload()
    for tag in reader.Tags()["scalars"]:
        for event in reader.Scalars(tag):
            yield tag, event.step, single(event.value)


def tensors(folder):
    """What the pages of TensorBoard are made from."""
    reader = plugin_event_accumulator.EventAccumulator(folder, tensor_size_guidance={"scalars": ALL})
    reader.Reload()
    for tag in reader.Tags()["tensors"]:
        for event in reader.Tensors(tag):
            yield tag, event.step, single(float(tensor_util.make_ndarray(event.tensor_proto)))


def main():
    folder, path = sys.argv[1:]
    with open(path, newline="", encoding="utf-8") as file:
        want = Counter((tag, int(step), single(float(value))) for tag, step, value in csv.reader(file))
    failed = 0
    for read in scalars, tensors:
        got = Counter(read(folder))
        print(f"{read.__name__}: {sum(got.values())} points of {sum(want.values())}")
        for name, rest in ("missing", want - got), ("too many", got - want):
            for point in list(rest)[:5]:
                print(f"{read.__name__}: {name}: {point}")
            failed += len(rest)
    sys.exit(failed != 0)


main()
