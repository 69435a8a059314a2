#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the files of weights that test_weights.c and test_torch_file.c read: what PyTorch, torchvision and Lightning-like code leave.

Debian's python3-torch and python3-torchvision. Element i of the k-th tensor of a model is
0.5 sin(1.7 i + k) / sqrt(fan), plus 1 where fan is 1 (norms, biases, layer scale), with fan the elements behind the
first dimension: the test computes the same. Some of the files try to create heimdall-pickle-ran when loaded.
"""
import argparse
import fractions
import os
import pathlib
import sys
import types

import numpy as np
import torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

import safetensors_file

HERE = pathlib.Path(__file__).parent
WIDTHS, DEPTHS = (8, 16, 24, 32), (1, 1, 2, 1)
N, H, W = 2, 64, 32


def small_model():
    settings = [CNBlockConfig(w, WIDTHS[s + 1] if s < 3 else None, DEPTHS[s]) for s, w in enumerate(WIDTHS)]
    model = ConvNeXt(settings, num_classes=3).eval()
    with torch.no_grad():
        for k, p in enumerate(model.state_dict().values()):
            fan = max(1, p[0].numel())
            i = torch.arange(p.numel(), dtype=torch.float64)
            v = 0.5 * torch.sin(1.7 * i + k) / fan**0.5 + (fan == 1)
            p.copy_(v.reshape(p.shape).float())
    return model


def original_names(state):
    """torchvision's names as the original release has them."""
    out = {}
    parts = {"0": "dwconv", "2": "norm", "3": "pwconv1", "5": "pwconv2"}
    for name, value in state.items():
        w = name.split(".")
        if w[0] == "classifier":
            new = {"0": "norm", "2": "head"}[w[1]] + "." + w[2]
        elif w[1] == "0":
            new = f"downsample_layers.0.{w[2]}.{w[3]}"
        elif int(w[1]) % 2 == 0:
            new = f"downsample_layers.{int(w[1]) // 2}.{w[2]}.{w[3]}"
        elif w[3] == "layer_scale":
            new, value = f"stages.{int(w[1]) // 2}.{w[2]}.gamma", value.reshape(-1)
        else:
            new = f"stages.{int(w[1]) // 2}.{w[2]}.{parts[w[4]]}.{w[5]}"
        out[new] = value
    return out


def lightning(state):
    """What a trainer leaves beside the weights, objects of classes that are not installed among it."""
    module = types.ModuleType("lab_project")
    module.Callback = type("Callback", (), {"__module__": "lab_project", "__qualname__": "Callback"})
    sys.modules["lab_project"] = module
    callback = module.Callback()
    callback.best = torch.tensor(0.25)
    some = nn.Parameter(torch.ones(4, 3))
    optimizer = torch.optim.AdamW([some])
    some.sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "1.9.0",
        "state_dict": {"model." + k: v for k, v in state.items()},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(1.5), "dirpath": HERE.__class__("runs")}, "own": callback},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"last_epoch": 3, "base_lrs": [1e-3], "verbose": False}],
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "hparams_name": "kwargs",
        "hyper_parameters": argparse.Namespace(lr=1e-3, big=2**70, negative=-70000, seen={1, 2}, scale=np.float64(2.5), dtype=torch.float32),
    }


def kinds():
    """One tensor of every dtype, and views: transposed, with an offset and a step, shared, empty, of no dimension."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    return {
        "transposed": base.t(),
        "stepped": base[1:4:2, 1:6:2],
        "permuted": torch.arange(24, dtype=torch.float64).reshape(2, 3, 4).permute(2, 0, 1),
        "shared": base[2],
        "scalar": torch.tensor(4.0),
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(torch.arange(3.0)),
        "half": torch.arange(3).half(),
        "bfloat": torch.arange(3).bfloat16(),
        "long": torch.arange(3) - 1,
        "int": torch.arange(3, dtype=torch.int32) - 1,
        "short": torch.arange(3, dtype=torch.int16) - 1,
        "char": torch.arange(3, dtype=torch.int8) - 1,
        "byte": torch.arange(3, dtype=torch.uint8),
        "bool": torch.tensor([False, True, True]),
        "a number": 7,
        "a text": "no tensor",
    }


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


RAN = "heimdall-pickle-ran"


def refused():
    w = torch.ones(2)
    return {
        "evil_tensor.pth": {"features.0.0.weight": Calls(os.system, "touch " + RAN)},
        "evil_beside.ckpt": {"state_dict": {"features.0.0.weight": w}, "callbacks": Calls(os.system, "touch " + RAN)},
        "evil_eval.pth": {"state_dict": {"features.0.0.weight": w}, "x": Calls(eval, f"open({RAN!r}, 'w')")},
        "evil_key.pth": {Calls(exec, f"open({RAN!r}, 'w')"): w},
        "object_tensor.pth": {"features.0.0.weight": fractions.Fraction(1, 2)},
        "whole_model.pth": nn.Linear(2, 2),
        "list.pth": [w, w],
        "no_tensor.pth": {"epoch": 1},
    }


def main():
    torch.manual_seed(7)
    folder = HERE / "weights"
    folder.mkdir(exist_ok=True)
    model = small_model()
    state = model.state_dict()
    torch.save(state, folder / "torchvision.pth")
    torch.save(lightning(state), folder / "lightning.ckpt")
    torch.save({"model": {k: v.half() for k, v in original_names(state).items()}}, folder / "original_half.pth")
    for protocol in (2, 3, 4, 5):
        torch.save(kinds(), folder / f"kinds_{protocol}.pth", pickle_protocol=protocol)
    for name, value in refused().items():
        torch.save(value, folder / name)
    torch.save({"w": torch.ones(2)}, folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.jit.script(nn.Linear(2, 2)).save(str(folder / "script.pt"))
    with torch.no_grad():
        model = model.double()
        x = torch.sin(0.37 * torch.arange(N * 3 * H * W, dtype=torch.float64)).float().double().reshape(N, 3, H, W)
        features = model.classifier[:2](model.avgpool(model.features(x)))
    safetensors_file.write(folder / "features.safetensors", {"features": features.numpy().astype("float32")})
    for path in sorted(folder.iterdir()):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
