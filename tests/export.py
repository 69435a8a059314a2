# SPDX-License-Identifier: Apache-2.0
"""What tests/export.sh compares and converts.

export.py positions A B      lines of `heimdall predict`, pairwise within 2 m
export.py metrics A B        metrics as JSON, each within a 1e-4 part
export.py kiwi FILE.wav FILE.npy   a KiwiSDR recording (stereo of 16 bits in many data chunks) as pairs of int16
"""
import json
import math
import struct
import sys

import numpy as np

EARTH_RADIUS_M = 6371008.8
LIMIT_M = 2.0
LIMIT_PART = 1e-4


def distance_m(a, b):
    lat1, lon1, lat2, lon2 = map(math.radians, (*a, *b))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(h))


def positions(*names):
    lists = [[line.split() for line in open(name)] for name in names]
    if len(lists[0]) != len(lists[1]) or not lists[0]:
        sys.exit("answers: %d and %d" % tuple(map(len, lists)))
    apart = [distance_m(*((float(words[1]), float(words[3])) for words in pair)) for pair in zip(*lists)]
    print("%d answers, %.2f m apart at most" % (len(apart), max(apart)))
    return all(d <= LIMIT_M for d in apart)


def metrics(*names):
    a, b = (json.load(open(name)) for name in names)
    if a.keys() != b.keys() or not a:
        sys.exit("other metrics: %s" % (a.keys() ^ b.keys()))
    worst = max(a, key=lambda key: abs(a[key] - b[key]) / max(1e-6, abs(a[key])))
    print("%d metrics, furthest apart: %s, %g and %g" % (len(a), worst, a[worst], b[worst]))
    return all(abs(a[key] - b[key]) <= LIMIT_PART * max(1e-6, abs(a[key])) for key in a)


def kiwi(wav, npy):
    data = open(wav, "rb").read()
    at, blocks = 12, []
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"data":
            blocks.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    samples = np.frombuffer(b"".join(blocks), "<i2").reshape(-1, 2)
    np.save(npy, samples)
    return len(samples) > 0


if __name__ == "__main__":
    sys.exit(not {"positions": positions, "metrics": metrics, "kiwi": kiwi}[sys.argv[1]](*sys.argv[2:]))
