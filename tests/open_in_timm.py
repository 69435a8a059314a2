# SPDX-License-Identifier: Apache-2.0
"""Opens a checkpoint with safetensors and timm alone, and compares torch's answers with those of `heimdall predict`.

open_in_timm.py weights FILE SIZE CHANNELS   random weights of timm's model, every tensor far from zero, to start from
open_in_timm.py compare CHECKPOINT CASE...   CASE is a folder: channels (a line per channel: the .npy that
                                             `heimdall features` wrote, or none), predict.txt, predict.json

Everything else comes from the checkpoint's metadata and the formulas in the headers: nothing of this program's code
runs here. Exit status 1 where a difference is larger than TOLERANCE, or a name, shape or count does not fit.
"""
import json
import math
import pathlib
import re
import sys

import numpy as np
import timm
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

EARTH_RADIUS_M = 6371008.8
SILENCE_DB = -90.0
TOLERANCE = 1e-5  # of a label unit, of sigma
HEADS = ("position_head", "uncertainty_head")


def backbone(size, channels):
    return timm.create_model(f"convnext_{size}", pretrained=False, num_classes=0, in_chans=channels).eval()


def write_weights(path, size, channels):
    """No tensor may be so small that its place in the network would not show: timm's layer scale starts at 1e-6."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, p in backbone(size, channels).state_dict().items():
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim > 1:
            state[name] = noise / math.sqrt(p[0].numel())
        elif name.endswith(".bias"):
            state[name] = 0.1 * noise
        else:
            state[name] = 1 + 0.1 * noise
    save_file(state, path, metadata={"format": "pt"})


def head(tensors, prefix, width):
    """fc, norm, ReLU for each hidden layer, then the last fc; as many layers as there are."""
    layers = []
    numbers = [int(m[1]) for m in (re.fullmatch(prefix + r"\.fc(\d+)\.weight", n) for n in tensors) if m]
    for i in range(1, max(numbers) + 1):
        outputs, inputs = tensors[f"{prefix}.fc{i}.weight"].shape
        if inputs != width:
            sys.exit(f"{prefix}.fc{i}: takes {inputs} values, comes behind {width}")
        layers.append((f"fc{i}", nn.Linear(inputs, outputs)))
        if i < max(numbers):
            batch = f"{prefix}.norm{i}.running_mean" in tensors
            norm = nn.BatchNorm1d(outputs) if batch else nn.LayerNorm(outputs, eps=1e-6)
            layers += [(f"norm{i}", norm), (f"relu{i}", nn.ReLU())]
        width = outputs
    module = nn.Sequential()
    for name, layer in layers:
        module.add_module(name, layer)
    state = {n[len(prefix) + 1 :]: t for n, t in tensors.items() if n.startswith(prefix + ".")}
    for name in module.state_dict():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
    module.load_state_dict(state, strict=True)
    return module.eval()


class Checkpoint:
    def __init__(self, path):
        with safe_open(path, framework="pt") as file:
            meta = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        self.config = {}
        for group in yaml.safe_load(meta["config"]).values():
            self.config.update(group)
        self.card = json.loads(meta["data"])
        self.heads = {n: t for n, t in tensors.items() if n.startswith(HEADS)}
        self.body = {n: t for n, t in tensors.items() if n not in self.heads}
        self.backbone = backbone(self.config["backbone_size"], self.card["channels"])
        # strict: any name that is missing or too many, and any other shape, is an error
        self.backbone.load_state_dict(self.body, strict=True)
        self.position, self.uncertainty = (head(tensors, h, self.backbone.num_features) for h in HEADS)

    def parameters(self):
        """Of the file and of timm's model."""
        return sum(t.numel() for t in self.body.values()), sum(p.numel() for p in self.backbone.parameters())

    def network_input(self, channels):
        """(1,C,H,W) of levels in dB: half precision as the feature cache keeps them, then the card's statistics."""
        shape = (self.card["height"], self.config["frames"])
        levels = np.full((self.card["channels"],) + shape, SILENCE_DB, np.float32)
        for c, path in enumerate(channels):
            if path == "none":
                continue
            values = np.load(path)
            if values.shape != (1,) + shape:
                sys.exit(f"{path}: shape {values.shape}, want {(1,) + shape}: one network input of one receiver")
            levels[c] = values[0].astype(np.float16)
        if self.card["offset"]:
            sys.exit("gain_offsets: not compared here")
        mean, rstd = (np.array(self.card[k], np.float32)[:, None] for k in ("mean", "rstd"))
        return torch.from_numpy((levels - mean) * rstd)[None]

    def sigma(self, raw):
        """kernels.def, gaussian_nll; label units."""
        lo, hi = (self.card[k] / self.card["scale_m"] for k in ("sigma_min_m", "sigma_max_m"))
        if self.config.get("uncertainty_bound", "smooth") == "clamp":
            return np.clip(np.logaddexp(0, raw), lo, hi)
        return lo + (hi - lo) * (1 - np.exp(-np.logaddexp(0, raw) / (hi - lo)))

    def degrees(self, north_m, east_m):
        """Snyder 1987, equations 20-14 and 20-15, of the azimuthal equidistant projection."""
        lat0 = math.radians(self.card["origin_latitude_deg"])
        rho = math.hypot(north_m, east_m)
        c = rho / EARTH_RADIUS_M
        latitude = math.asin(math.cos(c) * math.sin(lat0) + north_m * math.sin(c) * math.cos(lat0) / rho)
        x = east_m * math.sin(c)
        y = rho * math.cos(lat0) * math.cos(c) - north_m * math.sin(lat0) * math.sin(c)
        return math.degrees(latitude), self.card["origin_longitude_deg"] + math.degrees(math.atan2(x, y))

    def predict(self, channels):
        with torch.no_grad():
            features = self.backbone(self.network_input(channels))
            mu, raw = (h(features)[0].double().numpy() for h in (self.position, self.uncertainty))
        scale = self.card["scale_m"]
        latitude, longitude = self.degrees(mu[0] * scale, mu[1] * scale)
        sigma_m = self.sigma(raw) * scale
        return {
            "latitude": latitude,
            "longitude": longitude,
            "sigma_north_m": sigma_m[0],
            "sigma_east_m": sigma_m[1],
        }


def distance_m(a, b):
    lat1, lat2 = math.radians(a["latitude"]), math.radians(b["latitude"])
    dlat, dlon = lat2 - lat1, math.radians(b["longitude"] - a["longitude"])
    h = math.sin(dlat / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin(dlon / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(math.sqrt(h))


def printed_as(line, answer):
    """Whether `predict`'s line shows the numbers of its JSON, rounded to the digits it has."""
    words = line.split()
    shown = dict(zip(words[::2], words[1::2]))
    for key, value in answer.items():
        digits = len(shown[key].partition(".")[2])
        if not abs(float(shown[key]) - value) <= 0.500001 * 10**-digits:
            return False
    return True


def compare(path, folders):
    checkpoint = Checkpoint(path)
    ours, timms = checkpoint.parameters()
    failed, position, sigma, apart = ours != timms, 0.0, 0.0, 0.0
    first = None
    for folder in map(pathlib.Path, folders):
        got = json.loads((folder / "predict.json").read_text())
        want = checkpoint.predict((folder / "channels").read_text().split())
        d = {
            "position": distance_m(got, want) / checkpoint.card["scale_m"],
            "sigma": max(abs(got[k] / want[k] - 1) for k in ("sigma_north_m", "sigma_east_m")),
        }
        if not (d["position"] <= TOLERANCE and d["sigma"] <= TOLERANCE):
            print(f"{folder.name}: predict {got}, torch {want}", file=sys.stderr)
            failed = True
        if not printed_as((folder / "predict.txt").read_text(), got):
            print(f"{folder.name}: {(folder / 'predict.txt').read_text()} is not {got}", file=sys.stderr)
            failed = True
        position, sigma = max(position, d["position"]), max(sigma, d["sigma"])
        first = first or want
        apart = max(apart, distance_m(first, want))
    # answers that are all the same would compare well whatever the network does
    if not apart > 100 * TOLERANCE * checkpoint.card["scale_m"]:
        print(f"all answers lie within {apart:.3g} m: this compares nothing", file=sys.stderr)
        failed = True
    print(
        f"timm {timm.__version__}, torch {torch.__version__}: {len(checkpoint.body)} + {len(checkpoint.heads)} "
        f"tensors, {ours} of {timms} backbone parameters, {len(folders)} answers up to {apart:.0f} m apart; largest difference "
        f"{position:.1e} of a label unit, sigma {sigma:.1e} (bound {TOLERANCE:.0e})"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["weights"] and len(sys.argv) == 5:
        write_weights(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1:2] == ["compare"] and len(sys.argv) > 3:
        sys.exit(compare(sys.argv[2], sys.argv[3:]))
    else:
        sys.exit(__doc__)
