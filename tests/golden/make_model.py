#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes model.safetensors: one small ConvNeXt with two heads, computed by PyTorch in double precision.

Debian's python3-torch and python3-numpy. Holds the initial weights (timm's names), a batch, the network's
outputs, the loss, every gradient, and every weight after ten AdamW steps with clipping on that batch.
"""
import pathlib

import torch
from torch import nn
from torch.nn import functional as F

import safetensors_file
from small_net import C, DEPTHS, H, W, WIDTHS, as_float32, first_values, smooth_bound

N = 3
LR, DECAY, CLIP, STEPS = 1e-3, 0.05, 1.0, 10


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of an NCHW map."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc1 = nn.Linear(c, 4 * c)
        self.fc2 = nn.Linear(4 * c, c)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv_dw = nn.Conv2d(c, c, 7, padding=3, groups=c)
        self.norm = nn.LayerNorm(c, eps=1e-6)
        self.mlp = Mlp(c)
        self.gamma = nn.Parameter(torch.empty(c))

    def forward(self, x):
        y = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1)))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class Stage(nn.Module):
    def __init__(self, before, c, depth):
        super().__init__()
        self.downsample = nn.Identity()
        if before:
            self.downsample = nn.Sequential(LayerNorm2d(before, eps=1e-6), nn.Conv2d(before, c, 2, 2))
        self.blocks = nn.Sequential(*[Block(c) for _ in range(depth)])

    def forward(self, x):
        return self.blocks(self.downsample(x))


class Head(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.fc1, self.norm1 = nn.Linear(d, 128), nn.LayerNorm(128, eps=1e-6)
        self.fc2, self.norm2 = nn.Linear(128, 64), nn.LayerNorm(64, eps=1e-6)
        self.fc3 = nn.Linear(64, 2)

    def forward(self, x):
        x = F.relu(self.norm1(self.fc1(x)))
        return self.fc3(F.relu(self.norm2(self.fc2(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(C, WIDTHS[0], 4, 4), LayerNorm2d(WIDTHS[0], eps=1e-6))
        self.stages = nn.ModuleList(
            Stage(WIDTHS[i - 1] if i else 0, WIDTHS[i], DEPTHS[i]) for i in range(4))
        self.head = nn.ModuleDict({"norm": nn.LayerNorm(WIDTHS[3], eps=1e-6)})
        self.position_head = Head(WIDTHS[3])
        self.uncertainty_head = Head(WIDTHS[3])

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        x = self.head["norm"](x.mean((2, 3)))
        return self.position_head(x), self.uncertainty_head(x)


def nll(mu, u, target, weight):
    sigma = smooth_bound(u)
    rows = (torch.log(sigma) + (target - mu) ** 2 / (2 * sigma ** 2)).sum(1)
    return (weight * rows).sum() / weight.sum(), sigma


def main():
    torch.manual_seed(7)
    torch.set_default_dtype(torch.float64)
    net = Net()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(first_values(p))
    names = [n for n, _ in net.named_parameters()]
    x = as_float32(torch.randn(N, C, H, W))
    target = as_float32(torch.rand(N, 2) * 2 - 1)
    weight = torch.tensor([1.0, 1.0, 0.5])
    out = {"x": x, "target": target, "weight": weight}
    out.update({"w." + n: p.detach().clone() for n, p in net.named_parameters()})

    decay = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim == 1]
    adamw = torch.optim.AdamW([{"params": decay, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}], lr=LR)
    for step in range(STEPS):
        mu, u = net(x)
        loss, sigma = nll(mu, u, target, weight)
        adamw.zero_grad()
        loss.backward()
        if step == 0:
            out.update({"mu": mu.detach(), "u": u.detach(), "sigma": sigma.detach(), "loss": loss.detach().reshape(1)})
            out.update({"g." + n: p.grad.clone() for n, p in net.named_parameters()})
        norm = nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        if step == 0:
            out["norm"] = norm.reshape(1)
        adamw.step()
    out.update({"after." + n: p.detach() for n, p in net.named_parameters()})
    path = pathlib.Path(__file__).with_name("model.safetensors")
    safetensors_file.write(path, {k: v.numpy().astype("float32") for k, v in out.items()})
    print(f"{path}: {len(names)} parameters, {path.stat().st_size} bytes, loss {out['loss'].item():.6f}, norm {out['norm'].item():.4f}")


if __name__ == "__main__":
    main()
