# SPDX-License-Identifier: Apache-2.0
"""The golden files' format: little-endian safetensors, each tensor in its array's own dtype."""
import json
import struct

import numpy as np

DTYPES = {"float32": "F32", "float64": "F64", "int16": "I16"}


def write(path, tensors):
    # wide elements first: every tensor is aligned to its own
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
    header, offset = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": DTYPES[value.dtype.name], "shape": list(value.shape),
                        "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            f.write(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes())
