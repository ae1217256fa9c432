"""Initial weights of path-sum layers, beside those that the constructor draws, which are those of the authors' module."""

from __future__ import annotations

import math

import torch
from torch import nn

from . import _dense
from ._modules import _Layer


def _layers(model: nn.Module) -> list[_Layer]:
    found = [module for module in model.modules() if isinstance(module, _Layer)]
    if not found or any(layer._weights() is None for layer in found):
        raise ValueError("there is no path-sum layer with plain parameters in it: FFF, BenchmarkFFF or NodeMajorFFF")
    return found


@torch.no_grad()
def init_normal_(model: nn.Module, std: float = 0.02) -> nn.Module:
    """Weights N(0, std), biases 0, of every path-sum layer in `model`, which it returns. It is what UltraFastBERT's training ran
    with: its initialisation of all linear layers came after the module's own."""
    for layer in _layers(model):
        into, bias, out = layer._weights()
        into.normal_(0, std)
        out.normal_(0, std)
        if bias is not None:
            bias.zero_()
        layer.repack()
    return model


@torch.no_grad()
def init_unit_(model: nn.Module, x_scale: float = 1.0) -> nn.Module:
    """Weights of every path-sum layer in `model`, which it returns, such that logits and outputs have a standard deviation of
    nearly 1, for inputs whose elements have one of `x_scale`: input weights N(0, 1 / (x_scale sqrt(input width))), biases 0, output
    weights N(0, 1 / sqrt(trees (depth + 1) E[activation(z)^2])), z being N(0, 1)."""
    if not x_scale > 0:
        raise ValueError(f"x_scale {x_scale}")
    for layer in _layers(model):
        into, bias, out = layer._weights()
        into.normal_(0, 1 / (x_scale * math.sqrt(layer.input_width)))
        out.normal_(0, 1 / math.sqrt(layer.parallel_size * (layer.depth + 1) * _second_moment(layer._plan[2])))
        if bias is not None:
            bias.zero_()
        layer.repack()
    return model


def _second_moment(activation: int) -> float:
    """E[activation(z)^2] of z ~ N(0, 1)."""
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64, device="cpu")
    weight = torch.exp(-z.square() / 2)
    return float((weight * _dense.activate(z, activation).square()).sum() / weight.sum())
