#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""mlflow_points.py FOLDER POINTS: a run's folder that ended, with that many points in its metrics.log, ten to a line."""
import json
import math
import os
import sys
import time
import zlib

NAMES = [f"made/{n}" for n in ("loss", "rate", "norm", "error", "sigma", "a.b", "c-d", "e:f", "g_h", "last")]
ODD = [math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, -0.1, 1e-300, 0.0, 123456789.123456789]


def main():
    folder, points = sys.argv[1], int(sys.argv[2])
    begun = int(time.time() * 1000) - 10 * points
    os.makedirs(folder)
    lines = -(-points // len(NAMES))

    def write(name, value):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(value, f)

    name = os.path.basename(folder)
    write("run.json", {"id": f"{zlib.crc32(folder.encode()):08x}{points:024x}", "name": name, "experiment": "made",
                       "created_ms": begun})
    write("status.json", {"state": "FINISHED", "host": "elsewhere", "pid": 1, "pid_start": 1, "start_ms": begun,
                          "end_ms": begun + 10 * lines, "attempts": 1, "epoch": 1, "epochs": 1, "step": lines,
                          "message": ""})
    write("params.json", {"points": str(points), "long": "x" * 7000})
    write("tags.json", {"made": "yes"})
    with open(os.path.join(folder, "metrics.log"), "wb") as log:
        for step in range(lines):
            here = NAMES[:points - step * len(NAMES)]
            values = [math.sin(step * 10.0 + i) * 10.0 ** (step % 40 - 20) for i in range(len(here))]
            if step % 100 == 0:
                values[step // 100 % len(here)] = ODD[step // 100 % len(ODD)]
            line = f"{begun + 10 * step} {step + 1} 0 " + " ".join(f"{n}={v:.17g}" for n, v in zip(here, values))
            log.write(f"{line} {zlib.crc32(line.encode()):08x}\n".encode())


main()
