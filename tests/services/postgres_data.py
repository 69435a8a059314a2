# SPDX-License-Identifier: Apache-2.0
"""Data and comparisons of tests/services/postgres_check.sh.

postgres_data.py folders SYNTH OUT    the rendered catalogue in OUT/seed and OUT/deployed, sessions named by UUIDs
postgres_data.py digest FILE          SHA-256 of the rows of an index, in their order
postgres_data.py same A B             whether two checkpoints are the same but for where their data came from
postgres_data.py skips FILE REASON N  whether a result of catalog show counts N recordings of a reason
"""
import csv
import hashlib
import json
import os
import sqlite3
import struct
import sys
import uuid

PLACES = ("data_dir", "cache_dir", "checkpoint_dir", "schema", "query", "iq_template", "assume_approved", "json")


def folders(synth, out):
    out = os.path.abspath(out)
    with open(os.path.join(synth, "manifest.csv"), newline="") as f:
        rows = list(csv.DictReader(f))
    for row in rows:
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, row["session"]))
        path = os.path.join(out, "iq", "sessions", name, "websdr_%s.npy" % row["receiver"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.exists(path):
            os.link(os.path.join(synth, row["iq"]), path)
        number = int(row["session"][1:])
        # as many digits as a double has
        row.update(latitude=repr(float(row["latitude"]) + number / 3e9), longitude=repr(float(row["longitude"]) + number / 7e9))
        row.update(session=name, emission=name, iq=path, frequency_mhz="%.6f" % (145 + number / 160))
        # four places that come again, as known sources do
        row.update(source="site %d" % (number % 20), label_sigma_m=str(10 + number % 20 + 0.25))
    place = {}
    for row in rows:
        first = place.setdefault(row["source"], row)
        row.update(site_latitude=first["latitude"], site_longitude=first["longitude"])
    plain = ["id", "session", "receiver", "iq", "latitude", "longitude", "frequency_mhz", "snr_db", "timestamp"]
    write(os.path.join(out, "seed"), plain, rows)
    for row in rows:
        row.update(latitude=row["site_latitude"], longitude=row["site_longitude"])
        row["approved"] = "false" if row["source"] == "site 3" else "true"
    write(os.path.join(out, "deployed"), plain + ["sample_rate", "approved", "source", "label_sigma_m"], rows)


def write(folder, names, rows):
    os.makedirs(folder)
    with open(os.path.join(folder, "manifest.csv"), "w", newline="") as f:
        writer = csv.DictWriter(f, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def digest(path):
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True)
    total, count = hashlib.sha256(), 0
    for row in db.execute("SELECT * FROM recordings ORDER BY rowid"):
        total.update(repr(row).encode())
        count += 1
    print(count, total.hexdigest())


def parts(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        body = f.read()
    meta = header.pop("__metadata__")
    lines = meta.pop("config").splitlines()
    # each training is a run of its own
    meta["runtime"] = {k: v for k, v in json.loads(meta["runtime"]).items() if k != "run"}
    meta["config"] = [line for line in lines if line.split(":")[0].strip() not in PLACES]
    return header, meta, body


def same(a, b):
    a, b = parts(a), parts(b)
    for what, x, y in zip(("tensors' table", "metadata", "tensors"), a, b):
        if x == y:
            continue
        if isinstance(x, dict):
            for key in sorted(set(x) | set(y)):
                if x.get(key) != y.get(key):
                    print(key, x.get(key), y.get(key), sep="\n")
        sys.exit("checkpoints differ in their %s" % what)


def skips(path, reason, count):
    with open(path) as f:
        left_out = {r["reason"]: r["recordings"] for r in json.load(f)["left_out"]}
    if left_out.get(reason, 0) != int(count):
        sys.exit("%s: %s" % (reason, left_out))


{"folders": folders, "digest": digest, "same": same, "skips": skips}[sys.argv[1]](*sys.argv[2:])
