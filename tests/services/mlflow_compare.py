#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reads a run back through MLflow's own client and compares it with the run's folder: every param, tag, point and artifact.

mlflow_compare.py [--wanted STATUS] [--no_model] [--params FILE] RUN_FOLDER TRACKING_URI

Prints what was compared; ends with 1 and the differences where there are any. STATUS: the server's status of the run
(default: as status.json says). --no_model: checkpoints and models are not expected. --params: a params.json
of earlier, for they never change at the server. It reads metrics.log with a reader of
its own (host/track/metrics_log.h has the format).
"""
import argparse
import collections
import json
import math
import os
import struct
import sys
import tempfile
import zlib

import mlflow

LARGEST = 1.7976931348623157e308  # what MLflow's SQL store keeps of infinities
SHOWN = 12  # differences of a kind
PARAM_CHARACTERS, TAG_CHARACTERS = 6000, 5000

differences = []


def differ(kind, text):
    differences.append((kind, text))


def bits(value):
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        value = math.copysign(LARGEST, value)
    return struct.pack("<d", value + 0.0).hex()  # a database's key has one zero


def read_json(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        return json.load(f)


def read_log(path):
    """{name: Counter of (step, time, bits)}, lines, lines left out."""
    points, lines, bad = collections.defaultdict(collections.Counter), 0, 0
    if not os.path.exists(path):
        return points, lines, bad
    with open(path, "rb") as f:
        for line in f:
            body, _, crc = line.rstrip(b"\n").rpartition(b" ")
            if not line.endswith(b"\n") or len(crc) != 8 or f"{zlib.crc32(body):08x}".encode() != crc:
                bad += 1
                continue
            words = body.decode().split(" ")
            time_ms, step, _ = map(int, words[:3])
            for word in words[3:]:
                name, _, value = word.partition("=")
                points[name][(step, time_ms, bits(float(value)))] += 1
            lines += 1
    return points, lines, bad


def find_run(client, run_id):
    experiments = [e.experiment_id for e in client.search_experiments(view_type=mlflow.entities.ViewType.ALL)]
    runs = client.search_runs(experiments, f"tags.`heimdall.run_id` = '{run_id}'", mlflow.entities.ViewType.ALL)
    if len(runs) != 1:
        differ("run", f"{len(runs)} runs have the tag heimdall.run_id={run_id}")
    return runs[0] if runs else None


def compare_points(client, folder, run):
    points, lines, bad = read_log(os.path.join(folder, "metrics.log"))
    count = twice = 0
    for name in sorted(set(points) | set(run.data.metrics)):
        there = collections.Counter((m.step, m.timestamp, bits(m.value))
                                    for m in client.get_metric_history(run.info.run_id, name))
        here = points.get(name, {})
        twice += sum(here.values()) - len(here) if here else 0
        count += len(here)
        for point in sorted(set(here) | set(there)):
            if there[point] != (1 if point in here else 0):
                differ("point", f"{name} step {point[0]} at {point[1]}, value {point[2]}: {there[point]} at the server, "
                       f"{1 if point in here else 0} in the log")
    print(f"points: {count} of {len(points)} names in {lines} lines"
          + (f", {twice} of them twice in the log" if twice else "")
          + (f", {bad} lines left out for their checksum" if bad else ""))


def compare_texts(kind, here, there, most, exact):
    for name in sorted(set(here) | (set(there) if exact else set())):
        want, got = here.get(name), there.get(name)
        if want is not None and len(want) > most:
            want = want[:most - 1] + "\u2026"
        if want != got:
            differ(kind, f"{name}: {got!r} at the server, {want!r} in the folder")
    print(f"{kind}s: {len(here)}")


def artifact_files(client, run_id, path=None):
    for item in client.list_artifacts(run_id, path):
        if item.is_dir:
            yield from artifact_files(client, run_id, item.path)
        else:
            yield item.path


def files_under(folder, below):
    for where, _, names in os.walk(os.path.join(folder, below)):
        for name in names:
            yield os.path.join(where, name)


def expected_artifacts(folder, model):
    """{path at the server: file}"""
    out = {name: os.path.join(folder, name) for name in ("config.yaml", "command.txt", "environment.json", "catalog.csv")}
    for path in files_under(folder, "artifacts"):
        out[os.path.relpath(path, os.path.join(folder, "artifacts"))] = path
    checkpoints = os.path.join(folder, "checkpoints")
    for name in os.listdir(checkpoints) if model and os.path.isdir(checkpoints) else ():
        if name == "best.safetensors" or name.startswith("model") and name.endswith((".onnx", ".data")):
            out["model/" + name] = os.path.join(checkpoints, name)
    return {name: path for name, path in out.items() if os.path.exists(path)}


def content(path):
    with open(path, "rb") as f:
        return f.read()


def compare_artifacts(client, folder, run, model):
    expected = expected_artifacts(folder, model)
    there = set(artifact_files(client, run.info.run_id))
    size = 0
    for name in sorted(set(expected) | there):
        if name not in there:
            differ("artifact", f"{name}: not at the server")
        elif name not in expected:
            differ("artifact", f"{name}: at the server, and nothing of the folder")
        else:
            with tempfile.TemporaryDirectory() as to:
                got = content(client.download_artifacts(run.info.run_id, name, to))
            size += len(got)
            if got != content(expected[name]):
                differ("artifact", f"{name}: other bytes than {expected[name]}")
    print(f"artifacts: {len(there)} files, {size} bytes")


def compare_run(folder, run, identity, status, wanted):
    if run.info.run_name != identity["name"]:
        differ("run", f"name {run.info.run_name}, not {identity['name']}")
    if run.info.lifecycle_stage != "active":
        differ("run", f"is {run.info.lifecycle_stage}")
    if run.info.status != (wanted or status["state"]):
        differ("run", f"status {run.info.status}, not {wanted or status['state']}")
    if run.info.start_time != identity["created_ms"]:
        differ("run", f"began at {run.info.start_time}, not {identity['created_ms']}")
    if not wanted and status["end_ms"] and run.info.end_time != status["end_ms"]:
        differ("run", f"ended at {run.info.end_time}, not {status['end_ms']}")
    print(f"run: {run.info.run_id} {run.info.run_name} {run.info.status}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wanted")
    parser.add_argument("--no_model", action="store_true")
    parser.add_argument("--params")
    parser.add_argument("folder")
    parser.add_argument("uri")
    options = parser.parse_args()
    folder = options.folder
    mlflow.set_tracking_uri(options.uri)
    client = mlflow.MlflowClient(options.uri)
    identity = read_json(folder, "run.json")
    run = find_run(client, identity["id"])
    if run:
        experiment = client.get_experiment(run.info.experiment_id)
        if experiment.name != identity["experiment"]:
            differ("run", f"experiment {experiment.name}, not {identity['experiment']}")
        compare_run(folder, run, identity, read_json(folder, "status.json"), options.wanted)
        params = read_json(*os.path.split(options.params or os.path.join(folder, "params.json")))
        compare_texts("param", params, run.data.params, PARAM_CHARACTERS, True)
        compare_texts("tag", read_json(folder, "tags.json"), run.data.tags, TAG_CHARACTERS, False)
        compare_points(client, folder, run)
        compare_artifacts(client, folder, run, not options.no_model)
    shown = collections.Counter()
    for kind, text in differences:
        shown[kind] += 1
        if shown[kind] <= SHOWN:
            print(f"DIFFERS {kind} {text}")
    for kind, count in shown.items():
        print(f"DIFFERS {kind}: {count}")
    sys.exit(1 if differences else 0)


main()
