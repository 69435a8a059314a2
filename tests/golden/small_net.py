# SPDX-License-Identifier: Apache-2.0
"""What the generators of golden models share: the small ConvNeXt's sizes, its first values, the bound of sigma."""
import torch
from torch.nn import functional as F

DEPTHS, WIDTHS = (1, 1, 2, 1), (8, 16, 24, 32)
C, H, W = 3, 64, 32
SIGMA_MIN, SIGMA_MAX = 0.01, 1.0


def as_float32(t):
    """float32 values, so that both sides start from the same numbers."""
    return t.float().double()


def first_values(p):
    """Of a parameter like p: large enough that every part matters, around 1 in norms, biases and layer scales."""
    return as_float32(0.5 * torch.randn_like(p) / max(1, p[0].numel()) ** 0.5 + (p.ndim == 1))


def smooth_bound(u):
    """sigma within (SIGMA_MIN, SIGMA_MAX), with a gradient everywhere."""
    span = SIGMA_MAX - SIGMA_MIN
    return SIGMA_MIN + span * (1 - torch.exp(-F.softplus(u) / span))
