#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes trainer_*.safetensors: ten steps of training a small ConvNeXt with two heads, by PyTorch in double precision.

Debian's python3-torch, python3-torchvision and python3-numpy. The backbone is torchvision's ConvNeXt, the heads are
torch.nn.Sequential, the optimiser is torch.optim.AdamW; only names are turned into timm's. CASES lists what differs.

A file holds the batch (x NCHW, target, weight, perhaps label_sigma); of the first step mu, sigma, loss and norm, the
gradient's before clipping; of all steps lr, losses and norms. w. are the initial weights, g. the gradients of the
first step, after. and ema. the weights and their average behind the last; eval.mu and eval.sigma are what the average
gives in evaluation mode.

Batch norm takes a shift of all rows out again, so that the gradients of fcN.bias before it and of head.norm.bias are
0 but for rounding; AdamW makes whole steps of that rounding. In trainer_original.safetensors those tensors say nothing
behind w., and running_mean follows them.
"""
import dataclasses
import math
import pathlib

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

import safetensors_file
from small_net import C, DEPTHS, H, SIGMA_MAX, SIGMA_MIN, W, WIDTHS, as_float32, first_values, smooth_bound

HERE = pathlib.Path(__file__).parent
LR, DECAY, CLIP, STEPS = 1e-3, 0.05, 1.0, 10
WARMUP, COSINE_END = 4, 12
EMA_DECAY = 0.9
BATCH_NORM_EPS, LAYER_NORM_EPS = 1e-5, 1e-6
HEADS = ("position_head.", "uncertainty_head.")


@dataclasses.dataclass
class Case:
    name: str
    seed: int
    widths: tuple
    batch_norm: bool = False
    clamp: bool = False  # the bound of sigma; otherwise smooth
    centred: bool = False  # biases are drawn around 0: rows differ more, and sigma is on both sides of the clamp
    weight: tuple = (1.0, 1.0, 0.5)
    label_sigma: tuple = ()
    beta: float = 0.0  # of beta-NLL (Seitzer et al. 2022, eq. 5)
    layer_decay: float = 1.0
    eps: float = 1e-8  # of AdamW
    frozen_steps: int = 0
    micro_batches: tuple = ()  # rows of each; empty: the batch as a whole
    gradients_but: tuple = ()  # beginnings of names whose g. is left out: a file stays below 1 MB


CASES = (
    # a shift in front of batch norm has a gradient of 0 but for rounding, which a small eps would turn into steps
    Case("original", 149, (128, 64), eps=1e-4, batch_norm=True, clamp=True, centred=True, weight=(1.0, 1.0, 1.0, 1.0),
         gradients_but=("stages.",)),
    Case("layer", 17, (40, 24, 12), label_sigma=(0.4, 0.0, 0.15), beta=0.5, layer_decay=0.7),
    Case("frozen", 2, (128, 64), frozen_steps=4, micro_batches=(2, 1)),
)


class Net(nn.Module):
    def __init__(self, case):
        super().__init__()
        stages = [CNBlockConfig(w, WIDTHS[s + 1] if s < 3 else None, DEPTHS[s]) for s, w in enumerate(WIDTHS)]
        self.backbone = ConvNeXt(stages, stochastic_depth_prob=0.0)
        self.backbone.classifier[2] = nn.Identity()
        self.position_head, self.uncertainty_head = head(case), head(case)

    def forward(self, x):
        x = self.backbone(x)
        return self.position_head(x), self.uncertainty_head(x)


def head(case):
    layers, before = [], WIDTHS[-1]
    for width in case.widths:
        norm = nn.BatchNorm1d(width) if case.batch_norm else nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        layers += [nn.Linear(before, width), norm, nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 2))


def timm_name(name):
    w = name.split(".")
    if w[0] != "backbone":  # Linear, norm, ReLU; Linear, ...
        return f"{w[0]}.{('fc', 'norm')[int(w[1]) % 3]}{int(w[1]) // 3 + 1}.{w[2]}"
    if w[1] == "classifier":
        return f"head.norm.{w[3]}"
    stage, odd = divmod(int(w[2]), 2)
    if w[2] == "0":
        return f"stem.{w[3]}.{w[4]}"
    if not odd:
        return f"stages.{stage}.downsample.{w[3]}.{w[4]}"
    block = f"stages.{stage}.blocks.{w[3]}."
    if w[4] == "layer_scale":
        return block + "gamma"
    return block + {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}[w[5]] + "." + w[6]


def state(net):
    """Weights and running statistics under timm's names and in its shapes: views of the network's own."""
    out = {}
    for name, t in net.state_dict(keep_vars=True).items():
        if not name.endswith("num_batches_tracked"):
            out[timm_name(name)] = t.reshape(-1) if name.endswith("layer_scale") else t
    return out


def copies(net, prefix=""):
    return {prefix + n: t.detach().clone() for n, t in state(net).items()}


def draw(case):
    """The initial weights and the batch."""
    torch.manual_seed(case.seed)
    out = {}
    for name, t in copies(Net(case)).items():
        out["w." + name] = as_float32(0.5 + torch.rand_like(t)) if name.endswith("running_var") else first_values(t)
        if case.centred and name.endswith(".bias"):
            out["w." + name] = as_float32(out["w." + name] - 1)
    n = len(case.weight)
    # a level of each row's own: features of rows that differ by noise alone leave batch norm little but rounding
    out["x"] = as_float32(torch.randn(n, C, H, W) + 2 * torch.randn(n, C, 1, 1))
    out["target"] = as_float32(torch.rand(n, 2) * 2 - 1)
    out["weight"] = torch.tensor(case.weight)
    if case.label_sigma:
        out["label_sigma"] = as_float32(torch.tensor(case.label_sigma))
    return out


def layer_scales(names, decay):
    """Factor of each learning rate, as timm's param_groups_layer_decay: the groups are stem, each block, the rest."""
    blocks = [f"stages.{s}.blocks.{b}." for s, depth in enumerate(DEPTHS) for b in range(depth)]
    last = len(blocks) + 1

    def group(name):
        if name.startswith("stem."):
            return 0
        if ".downsample." in name:
            name = name.split("downsample.")[0] + "blocks.0."
        return next((i + 1 for i, b in enumerate(blocks) if name.startswith(b)), last)

    return {n: decay ** (last - group(n)) for n in names}


def learning_rate(k):
    if k < WARMUP:
        return LR * (k + 1) / WARMUP
    return LR * 0.5 * (1 + math.cos(math.pi * (k - WARMUP) / (COSINE_END - WARMUP)))


def bounded(case, u):
    return torch.clamp(F.softplus(u), SIGMA_MIN, SIGMA_MAX) if case.clamp else smooth_bound(u)


def losses(case, mu, sigma, batch):
    """Of each row, weighted."""
    variance = sigma**2
    if case.label_sigma:
        variance = variance + batch["label_sigma"][:, None] ** 2
    terms = 0.5 * torch.log(variance) + (batch["target"] - mu) ** 2 / (2 * variance)
    if case.beta:
        terms = terms * variance.detach() ** case.beta
    return batch["weight"] * terms.sum(1)


def gradient_pass(case, net, batch):
    """Forward and backward over the micro-batches: the gradients are summed. mu, the raw sigma and the loss."""
    rows, total = case.micro_batches or (len(batch["x"]),), batch["weight"].sum()
    parts = zip(*[t.split(rows) for t in batch.values()])
    mus, us, loss = [], [], 0
    for values in parts:
        part = dict(zip(batch, values))
        mu, u = net(part["x"])
        part_loss = losses(case, mu, bounded(case, u), part).sum() / total
        part_loss.backward()
        mus.append(mu.detach())
        us.append(u.detach())
        loss = loss + part_loss.detach()
    return torch.cat(mus), torch.cat(us), loss


def optimizer(case, net):
    scales = layer_scales(state(net), case.layer_decay)
    groups = {}
    for name, p in net.named_parameters():
        decayed = p.ndim > 1 and not name.endswith("layer_scale")
        key = scales[timm_name(name)], DECAY if decayed else 0.0
        groups.setdefault(key, []).append(p)
    return torch.optim.AdamW([{"params": p, "weight_decay": d, "scale": s} for (s, d), p in groups.items()], lr=LR, eps=case.eps)


def train(case, drawn, dtype):
    net = Net(case).to(dtype)
    with torch.no_grad():
        for name, t in state(net).items():
            t.copy_(drawn["w." + name])
    batch = {k: t.to(dtype) for k, t in drawn.items() if not k.startswith("w.")}
    adamw, average = optimizer(case, net), copies(net)
    out = {"lr": torch.tensor([learning_rate(k) for k in range(STEPS)]),
           "losses": torch.zeros(STEPS), "norms": torch.zeros(STEPS)}
    raw = []
    for k in range(STEPS):
        net.backbone.requires_grad_(k >= case.frozen_steps)
        adamw.zero_grad(set_to_none=True)
        mu, u, loss = gradient_pass(case, net, batch)
        raw.append(u)
        out["losses"][k] = loss
        if k == 0:
            grads = {timm_name(n): p.grad.reshape(-1) if n.endswith("layer_scale") else p.grad
                     for n, p in net.named_parameters() if p.grad is not None}
            out.update({"g." + n: g.clone() for n, g in grads.items() if not n.startswith(case.gradients_but)})
            out.update({"mu": mu, "sigma": bounded(case, u), "loss": loss.reshape(1)})
        norm = nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        out["norms"][k] = norm
        for group in adamw.param_groups:
            group["lr"] = learning_rate(k) * group["scale"]
        adamw.step()
        keep = min(EMA_DECAY, (1 + k) / (10 + k))
        average = {n: keep * average[n] + (1 - keep) * t for n, t in copies(net).items()}
    out["norm"] = out["norms"][:1].clone()
    out.update(copies(net, "after."))
    out.update({"ema." + n: t for n, t in average.items()})
    with torch.no_grad():
        for name, t in state(net).items():
            t.copy_(average[name])
        mu, u = net.eval()(batch["x"])
    out.update({"eval.mu": mu, "eval.sigma": bounded(case, u)})
    return out, raw


def plain_norm(x, w, name, eps, dims):
    mean, variance = x.mean(dims, keepdim=True), x.var(dims, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * w[name + ".weight"] + w[name + ".bias"]


def plain_linear(x, w, name):
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def plain_head(case, w, name, x, training):
    for i in range(1, len(case.widths) + 1):
        x, norm = plain_linear(x, w, f"{name}.fc{i}"), f"{name}.norm{i}"
        if not case.batch_norm:
            x = plain_norm(x, w, norm, LAYER_NORM_EPS, -1)
        elif training:
            x = plain_norm(x, w, norm, BATCH_NORM_EPS, 0)
        else:
            x = (x - w[norm + ".running_mean"]) / torch.sqrt(w[norm + ".running_var"] + BATCH_NORM_EPS)
            x = x * w[norm + ".weight"] + w[norm + ".bias"]
        x = x * (x > 0)
    return plain_linear(x, w, f"{name}.fc{len(case.widths) + 1}")


def plain_net(case, w, x, training):
    """mu and sigma again, from weights under timm's names, without torchvision's or torch.nn's modules."""

    def conv(x, name, **how):
        y = F.conv2d(x.permute(0, 3, 1, 2), w[name + ".weight"], w[name + ".bias"], **how)
        return y.permute(0, 2, 3, 1)

    def norm(x, name):
        return plain_norm(x, w, name, LAYER_NORM_EPS, -1)

    x = norm(conv(x.permute(0, 2, 3, 1), "stem.0", stride=4), "stem.1")
    for s, depth in enumerate(DEPTHS):
        if s:
            x = conv(norm(x, f"stages.{s}.downsample.0"), f"stages.{s}.downsample.1", stride=2)
        for b in range(depth):
            block = f"stages.{s}.blocks.{b}."
            y = norm(conv(x, block + "conv_dw", padding=3, groups=WIDTHS[s]), block + "norm")
            y = plain_linear(y, w, block + "mlp.fc1")
            y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
            x = x + w[block + "gamma"] * plain_linear(y, w, block + "mlp.fc2")
    x = norm(x.mean((1, 2)), "head.norm")
    mu, u = (plain_head(case, w, name[:-1], x, training) for name in HEADS)
    return mu, bounded(case, u)


def check_again(case, tensors):
    """The file's outputs are those of the file's weights."""
    t = {n: torch.from_numpy(v).double() for n, v in tensors.items()}
    for prefix, training, names in (("w.", True, ("mu", "sigma")), ("ema.", False, ("eval.mu", "eval.sigma"))):
        w = {n[len(prefix):]: v for n, v in t.items() if n.startswith(prefix)}
        for name, got in zip(names, plain_net(case, w, t["x"], training)):
            error = (got - t[name]).abs().max() / t[name].abs().max()
            assert error < 1e-5, f"{case.name}: {name} is off by {error:.3g} of its largest value"


def check_clamp(case, raw):
    """Both sides of the clamp at the first step, and never near an edge, where rounding would choose the side."""
    sigma = F.softplus(torch.stack(raw))
    inside = ((sigma > SIGMA_MIN) & (sigma < SIGMA_MAX)).flatten(1).sum(1)
    gap = torch.minimum((sigma - SIGMA_MIN).abs(), (sigma - SIGMA_MAX).abs()).min().item()
    print(f"  sigma inside the clamp, of {raw[0].numel()}: {inside.tolist()}, nearest to an edge {gap:.4f}")
    assert 0 < inside[0] < raw[0].numel() and gap > 1e-3


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for case in CASES:
        drawn = draw(case)
        result, raw = train(case, drawn, torch.float64)
        tensors = {k: v.numpy().astype("float32") for k, v in {**drawn, **result}.items()}
        check_again(case, tensors)
        path = HERE / f"trainer_{case.name}.safetensors"
        safetensors_file.write(path, tensors)
        size = path.stat().st_size
        print(f"{path.name}: {len(tensors)} tensors, {size} bytes, norm {result['norm'].item():.4f}")
        print("  losses " + " ".join(f"{v:.6f}" for v in result["losses"]))
        assert size < 1e6
        if case.clamp:
            check_clamp(case, raw)
        single = train(case, drawn, torch.float32)[0]
        off = {n: ((single[n].double() - t).abs().max() / t.abs().max()).item() for n, t in result.items()
               if t.abs().max() > 1e-10}
        worst = sorted(off, key=off.get)[:-9:-1]
        print("  float32 would be off, of the largest value: " + ", ".join(f"{n} {off[n]:.1e}" for n in worst))


if __name__ == "__main__":
    main()
