#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""results.py FILE FOLDER SECTION...: writes sections (cpu, gpu, roofline) of FILE, between "<!-- SECTION: generated -->"
and "<!-- SECTION: end -->", from what bench/all.sh left in FOLDER. What is outside stays as it is. gpu-missing: section
gpu from kernels/kernels.def, without figures, where it has none yet."""
import json
import pathlib
import re
import sys


def load(folder, name):
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(heading, rows):
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    return lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]


def number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def operations(ops):
    rows = []
    for r in ops["rows"]:
        if "median_us" not in r:
            rows.append([r["op"], r.get("failed") or r.get("left_out")] + [""] * 8)
            continue
        top = f"{r['percent_of_ceiling']:.0f}"
        rows.append(
            [r["op"], r["shape"]]
            + [f"{r[k]:.1f}" for k in ("median_us", "interval_percent", "p10_us", "p90_us", "alone_us")]
            + [number(r.get("graph_us"), 1), f"{r['gb_per_s']:.1f}", f"{r['gflop_per_s']:.1f}", f"({top})" if r["host_bound"] else top]
        )
    return table(["op", "shape", "us", "+-%", "p10", "p90", "alone us", "graph us", "GB/s", "GFLOP/s", "% top"], rows)


def about(results):
    c = results["ceilings"]
    return (
        f"Commit {results['commit']}, {results['backend']}/{results['device']}, {results['threads']} threads; at most: "
        f"copy {c['copy_gb_per_s']:.1f} GB/s, triad {c['triad_gb_per_s']:.1f} GB/s, products "
        f"f32 {c['f32_gflop_per_s']:.0f}, bf16 {c['bf16_gflop_per_s']:.0f}, f16 {c['f16_gflop_per_s']:.0f} GFLOP/s (0: none)."
    )


def steps(results):
    lines = ["", "Training steps (`bench/steps`):", ""]
    rows, more = [], []
    for r in results["rows"]:
        if r["what"] == "features":
            kind = "magnitude, stft_mel_db" if r["fused"] else "magnitude, stft_power, mel_db"
            more = [
                "",
                f"Features ({kind}) of recordings of {r['recording_samples']} samples in device memory: "
                f"{r['recordings_per_s']:.1f} a second.",
            ]
            continue
        gb = (r["parameter_bytes"] + r["activation_bytes"]) / 1e9
        rows.append(
            [r["model"], r["batch"], r["precision"], f"{1e3 * r['seconds']:.2f}", f"{r['interval_percent']:.1f}"]
            + [f"{r['samples_per_s']:.1f}", f"{gb:.2f}", number(r["original_gb"], 0), f"{r['percent_of_peak']:.1f}"]
            + [f"{r['hours_100_epochs']:.2f}"]
        )
    samples = {f"{r['data_samples']:.0f}" for r in results["rows"] if "data_samples" in r}
    heading = ["model", "batch", "precision", "ms", "+-%", "samples/s", "plan GB", "original's GB", "% of product rate"]
    return lines + table(heading + [f"h for 100 epochs of {', '.join(samples)} samples (original: 3 h)"], rows) + more


def torch(results):
    lines = ["", f"PyTorch {results['torch']} on {results['device']} (`bench/compare_torch.py`):", ""]
    rows = [
        [r["what"], r["model"], r["batch"], r["precision"]]
        + [number(r["ours_s"] and 1e3 * r["ours_s"], 2), f"{1e3 * r['torch_s']:.2f}", number(r["ratio"], 2)]
        for r in results["rows"]
        if "torch_s" in r
    ]
    return lines + table(["what", "model", "batch", "precision", "ours ms", "PyTorch ms", "times as fast"], rows)


def measured(folder):
    ops, large, step, peer = (load(folder, n) for n in ("ops", "large", "steps", "torch"))
    if not ops:
        sys.exit(f"{folder}/ops.json is not there: the operations were not measured")
    lines = [about(ops), ""] + operations(ops)
    if large:
        lines += ["", "At the shapes of a training step of Large (`--shapes large`):", ""] + operations(large)
    if step:
        lines += steps(step)
    return lines + (torch(peer) if peer else ["", "PyTorch: not measured."])


NO_ROW = "No row was run on a GPU."
NOT_RUN = "not run on a GPU"


def not_run():
    """A row per operation of kernels.def; it is read beside this file."""
    definitions = pathlib.Path(__file__).resolve().parent.parent / "kernels" / "kernels.def"
    names = re.findall(r"^HD_OP\((\w+),", definitions.read_text(), flags=re.MULTILINE)
    names += ["training steps of Tiny, Base, Large at batch 32, 64, 128, 256", "features a second"]
    names += ["PyTorch, bf16, eager and compiled, beside them"]
    return [NO_ROW, ""] + table(["operation", "H100"], [[name, NOT_RUN] for name in names])


def main(path, folder, sections):
    path, folder = pathlib.Path(path), pathlib.Path(folder)
    text = path.read_text()
    for section in sections:
        if section == "gpu-missing":
            if NO_ROW not in text:
                continue  # a GPU's figures stay
            section, lines = "gpu", not_run()
        elif section == "roofline":
            lines = ["```", (folder / "roofline.txt").read_text().rstrip(), "```"]
        else:
            lines = measured(folder)
        begin, end = f"<!-- {section}: generated -->", f"<!-- {section}: end -->"
        body = "\n".join([begin, ""] + lines + ["", end])
        text, count = re.subn(re.escape(begin) + ".*?" + re.escape(end), lambda _: body, text, flags=re.DOTALL)
        if count != 1:
            sys.exit(f"{path}: {count} sections {section}, want one between {begin} and {end}")
    path.write_text(text)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
