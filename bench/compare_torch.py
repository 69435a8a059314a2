#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One training step of the same model here and in PyTorch, on the same machine.

The model in PyTorch is ConvNeXt as Liu et al. 2022 ("A ConvNet for the 2020s") describe it, with two heads and the loss
of kernels/kernels.def (gaussian_nll), written out below. On a GPU: channels_last, bfloat16 autocast, fused AdamW, eager
and torch.compile(mode="max-autotune"). On a CPU: float32, eager, channels_last and contiguous, as either may be faster.
Both sides clip the gradient and draw dropout. Warm-up is left out; medians. Ours is $BUILD/bench/steps, which also
assembles its batch from cached features.

First both have to be the same model: as many parameters, and with weights that bench/steps wrote the same answers and the
same loss in float32.

Ends with 77 where there is no PyTorch, 1 where the two differ.
"""
import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time

MISSING = 77
TOLERANCE = 1e-5  # of the largest answer: float32 through some 60 layers; the tanh form of GELU is 3e-5 away
SIZES = {
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}
CHANNELS, HEIGHT, WIDTH = 3, 128, 32
HEAD_WIDTHS, DROPOUT = (128, 64), 0.2  # defaults of the program's settings
NORM_EPS = 1e-6
SIGMA_LO, SIGMA_HI = 0.001, 1.0

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    print(
        "PyTorch is not here: `apt-get install python3-torch` and run this with /usr/bin/python3, or `pip install torch` "
        "into a virtual environment and run it with that one's python",
        file=sys.stderr,
    )
    sys.exit(MISSING)


class MapNorm(nn.LayerNorm):
    """Layer norm over the channels of (N,C,H,W)."""

    def __init__(self, channels):
        super().__init__(channels, eps=NORM_EPS)

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = Mlp(channels)
        self.gamma = nn.Parameter(1e-6 * torch.ones(channels))

    def forward(self, x):
        y = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1)))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class Stage(nn.Module):
    def __init__(self, before, channels, depth):
        super().__init__()
        self.downsample = nn.Sequential()
        if before:
            self.downsample = nn.Sequential(MapNorm(before), nn.Conv2d(before, channels, 2, 2))
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(self.downsample(x))


class Head(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = len(HEAD_WIDTHS)
        for i, hidden in enumerate(HEAD_WIDTHS + (2,), 1):
            setattr(self, f"fc{i}", nn.Linear(width, hidden))
            if i <= self.layers:
                setattr(self, f"norm{i}", nn.LayerNorm(hidden, eps=NORM_EPS))
            width = hidden

    def forward(self, x):
        for i in range(1, self.layers + 1):
            x = getattr(self, f"norm{i}")(getattr(self, f"fc{i}")(x))
            x = F.dropout(F.relu(x), DROPOUT, self.training)
        return getattr(self, f"fc{self.layers + 1}")(x)


class Localizer(nn.Module):
    """Parameters have timm's names, as the program's files."""

    def __init__(self, size):
        super().__init__()
        depths, widths = SIZES[size]
        self.stem = nn.Sequential(nn.Conv2d(CHANNELS, widths[0], 4, 4), MapNorm(widths[0]))
        self.stages = nn.Sequential(
            *(Stage(widths[i - 1] if i else 0, widths[i], depths[i]) for i in range(len(depths)))
        )
        self.head = nn.ModuleDict({"norm": nn.LayerNorm(widths[-1], eps=NORM_EPS)})
        self.position_head = Head(widths[-1])
        self.uncertainty_head = Head(widths[-1])

    def forward(self, x):
        x = self.head["norm"](self.stages(self.stem(x)).mean((2, 3)))
        # heads and loss in float32, as here
        with torch.autocast(x.device.type, enabled=False):
            return self.position_head(x.float()), self.uncertainty_head(x.float())


def sigma_of(raw, lo=SIGMA_LO, hi=SIGMA_HI):
    return lo + (hi - lo) * (1 - torch.exp(-F.softplus(raw) / (hi - lo)))


def loss_of(mu, sigma, target):
    return (sigma.log() + (target - mu) ** 2 / (2 * sigma**2)).sum(1).mean()


# ---- the same model ----


def read_safetensors(path):
    """Tensors and metadata of a file of float32 tensors (huggingface/safetensors, README "Format")."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=begin).reshape(
            entry["shape"]
        )
    return tensors, header.get("__metadata__", {})


def check(steps, size):
    """What differs, as a text; "" where nothing does. And a row of what was compared."""
    with tempfile.TemporaryDirectory(prefix="heimdall-torch.") as folder:
        path = os.path.join(folder, "step.safetensors")
        run_steps(steps, "cpu", size, 2, "default", 0, ["--save", path])
        tensors, metadata = read_safetensors(path)
    bench = {n[len("bench.") :]: tensors.pop(n) for n in list(tensors) if n.startswith("bench.")}
    model = Localizer(size).eval()
    want = sum(p.numel() for p in model.parameters())
    got = sum(t.numel() for t in tensors.values())
    row = {"what": "same model", "model": size, "ours_parameters": got, "torch_parameters": want}
    if got != want:
        return f"{got} parameters here, {want} in PyTorch", row
    # the small sizes keep fc1 and fc2 as 1x1 convolutions
    for name, own in model.state_dict().items():
        if ".mlp." in name and name in tensors and tensors[name].numel() == own.numel():
            tensors[name] = tensors[name].reshape(own.shape)
    model.load_state_dict(tensors, strict=True)
    with torch.no_grad():
        mu, raw = model(bench["x"])
        sigma = sigma_of(raw, float(metadata["sigma_lo"]), float(metadata["sigma_hi"]))
        loss = loss_of(mu, sigma, bench["target"]).item()
    row["ours_loss"], row["torch_loss"] = bench["loss"].item(), loss
    for name, ours, theirs in (("mu", bench["mu"], mu), ("sigma", bench["sigma"], sigma)):
        row[f"{name}_difference"] = difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        if not difference <= TOLERANCE:
            return f"{name} differs by {difference:.2e} of its largest value, more than {TOLERANCE:.0e}", row
    if not abs(loss - row["ours_loss"]) <= TOLERANCE * max(1.0, abs(loss)):
        return f"loss {row['ours_loss']:.6f} here, {loss:.6f} in PyTorch", row
    return "", row


# ---- times ----


def run_steps(steps, accelerator, size, batch, precision, limit, more=()):
    """Row of bench/steps; RuntimeError with its words where it fails."""
    with tempfile.NamedTemporaryFile(prefix="heimdall-steps.", suffix=".json") as out:
        command = [steps, "--accelerator", accelerator, "--models", size, "--batches", str(batch)]
        command += ["--precisions", precision, "--features", "no", "--limit_s", str(limit), "--json", out.name, *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError((done.stdout + done.stderr).strip())
        with open(out.name, encoding="utf-8") as file:
            rows = [r for r in json.load(file)["rows"] if r["what"] == "training step"]
        if not rows:
            raise RuntimeError(done.stdout.strip().splitlines()[-1])
        return rows[0]


def torch_step(size, batch, device, mode):
    """A function that does one training step."""
    torch.manual_seed(0)
    layout = torch.contiguous_format if mode == "contiguous" else torch.channels_last
    model = Localizer(size).to(device).to(memory_format=layout).train()
    cuda = device == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, **({"fused": True} if cuda else {}))
    x = torch.randn(batch, CHANNELS, HEIGHT, WIDTH, device=device).to(memory_format=layout)
    target = torch.rand(batch, 2, device=device) * 2 - 1

    def lose(x, target):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=cuda):
            mu, raw = model(x)
        return loss_of(mu, sigma_of(raw), target)

    run = torch.compile(lose, mode="max-autotune") if mode == "compile" else lose

    def step():
        optimizer.zero_grad(set_to_none=True)
        run(x, target).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def torch_seconds(step, device, limit):
    """Median of a step: samples of as many steps as take 0.1 s, with one wait at their end."""

    def sample(count):
        start = time.perf_counter()
        for _ in range(count):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / count

    for _ in range(3 if device == "cuda" else 1):
        once = sample(1)
    count = max(1, min(64, int(0.1 / once)))
    times, began = [], time.perf_counter()
    while len(times) < 3 or (len(times) < 50 and time.perf_counter() - began < limit):
        times.append(sample(count))
    return statistics.median(times)


def compare(arguments):
    """Rows, those of the first mode for all models first: compilation takes minutes and may be cut off."""
    cuda = arguments.device == "cuda"
    pairs = [(size, int(batch)) for size in arguments.models.split(",") for batch in arguments.batches.split(",")]
    precision = "bf16-mixed" if cuda else "default"
    ours = {}
    for size, batch in pairs:
        try:
            row = run_steps(arguments.steps, "gpu" if cuda else "cpu", size, batch, precision, arguments.limit_s)
            ours[size, batch] = row["seconds"]
        except RuntimeError as error:
            print(f"{size}, batch {batch}, {precision}: {error}", file=sys.stderr)
    for mode, (size, batch) in ((mode, pair) for mode in arguments.modes for pair in pairs):
        try:
            step = torch_step(size, batch, arguments.device, mode)
            seconds = torch_seconds(step, arguments.device, arguments.limit_s)
        except RuntimeError as error:  # out of memory, a compiler that is not there
            print(f"{size}, batch {batch}, PyTorch {mode}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        own = ours.get((size, batch))
        shown = f"{1e3 * own:.2f} ms here, {seconds / own:.2f} times as fast" if own else "not run here"
        name = "bf16" if cuda else "fp32"
        print(f"{size}, batch {batch}, {name}: PyTorch {mode} {1e3 * seconds:.2f} ms, {shown}", flush=True)
        yield {
            "what": f"training step, PyTorch {mode}",
            "model": size,
            "batch": batch,
            "precision": name,
            "ours_s": own,
            "torch_s": seconds,
            "ratio": own and seconds / own,
        }


def main():
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="results")
    parser.add_argument("--models", default="tiny,base,large" if cuda else "tiny")
    parser.add_argument("--batches", default="32,256" if cuda else "4")
    parser.add_argument("--modes", default="eager,compile" if cuda else "eager,contiguous")
    parser.add_argument("--device", default="cuda" if cuda else "cpu", choices=("cuda", "cpu"))
    parser.add_argument("--check", default="tiny", metavar="SIZE", help="model that is compared first")
    parser.add_argument("--limit_s", type=float, default=3, help="seconds for each figure")
    parser.add_argument("--steps", default=os.path.join(os.environ.get("BUILD", "build"), "bench", "steps"))
    arguments = parser.parse_args()
    arguments.modes = arguments.modes.split(",")
    if not os.access(arguments.steps, os.X_OK):
        sys.exit(f"{arguments.steps}: not there; `make bench-build` makes it")
    # as many as the program takes: some builds start with one
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    print(f"torch {torch.__version__} on {name}, {torch.get_num_threads()} CPU threads")
    fault, row = check(arguments.steps, arguments.check)
    rows = [row]

    def write():
        if arguments.json:
            with open(arguments.json, "w", encoding="utf-8") as file:
                json.dump({"torch": torch.__version__, "device": name, "rows": rows}, file, indent=1)

    write()
    if fault:
        print(f"{arguments.check}: {fault}", file=sys.stderr)
        return 1
    print(
        f"{arguments.check}: {row['ours_parameters']} parameters in both; loss {row['ours_loss']:.6f} and "
        f"{row['torch_loss']:.6f}, mu within {row['mu_difference']:.1e}, sigma within {row['sigma_difference']:.1e}"
    )
    for row in compare(arguments):
        rows.append(row)
        write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
