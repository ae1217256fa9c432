"""Leaf layers for export.py: modules with the parameters of fastfeedforward's FFF (arXiv 2308.14711), among them
fff.torch.LeafFFF, and those with a master leaf (arXiv 2405.16836), as fff.torch.MasterLeafFFF is.

A module is one node fff:LeafFFF. One with a master leaf is two, whose sum is added by ONNX's Add: the master leaf is a
layer of depth 0. Their factors, sigmoid(k) and 1 - sigmoid(k), are computed now.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Optional

import torch
from torch import nn

OF_TREE = ("node_weights", "node_biases", "w1s", "b1s", "w2s", "b2s")
OF_MASTER = ("magic_w1", "magic_b1", "magic_w2", "magic_b2", "k")

Node = tuple[str, Mapping[str, Any], list[Optional[torch.Tensor]]]  # operator, attributes, inputs after X


def is_leaf_layer(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in (*OF_TREE, "depth"))


def has_master(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in OF_MASTER)


def misfit(module: nn.Module) -> Optional[str]:
    """What keeps a module from being a LeafFFF, for an error message; None: nothing does."""
    if module.training:
        return "is in training mode, where all leaves are mixed: call eval() first"
    if module.w1s.dim() != 3 or module.w2s.dim() != 3:
        return f"w1s and w2s have {module.w1s.dim()} and {module.w2s.dim()} dimensions, not 3"
    (leaves, width, hidden), out = module.w1s.shape, module.w2s.shape[2]
    nodes, depth = leaves - 1, int(module.depth)
    if not 0 <= depth <= 30 or leaves != 2 ** depth:
        return f"w1s has {leaves} leaves, where depth is {depth}"
    shapes = [(nodes, width), (nodes, 1), (leaves, width, hidden), (leaves, hidden), (leaves, hidden, out), (leaves, out)]
    names = list(OF_TREE)
    if has_master(module):
        own = module.magic_w1.shape[-1]
        shapes += [(1, width, own), (1, own), (1, own, out), (1, out), ()]
        names += OF_MASTER
    if getattr(module, "thresholds", None) is not None:
        shapes.append((nodes,))
        names.append("thresholds")
    for name, shape in zip(names, shapes):
        found = getattr(module, name)
        if tuple(found.shape) != shape:
            return f"{name} has shape {tuple(found.shape)}, not {shape}"
        if found.dtype != torch.float32:
            return f"weights are {found.dtype}, not torch.float32; convert the model first"
    return None


def leaf_sum(module: nn.Module, x: torch.Tensor, attributes: Mapping[str, Any],
             activate: Callable) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition, in float64: outputs (tokens, output width), and how near each token comes to a threshold."""
    wide, depth, tokens = x.double(), attributes["depth"], torch.arange(len(x))
    logits = wide @ module.node_weights.double().T + module.node_biases.double().reshape(-1)
    if getattr(module, "thresholds", None) is not None:
        logits = logits - module.thresholds.double()
    smallest = torch.full((len(x),), float("inf"), dtype=torch.float64)
    node = torch.zeros(len(x), dtype=torch.long)
    for _ in range(depth):
        logit = logits[tokens, node]
        smallest = torch.minimum(smallest, logit.abs())
        node = 2 * node + 1 + (logit >= 0 if attributes["routing"] == ">=" else logit > 0).long()
    leaf = node - (2 ** depth - 1)

    def dense(w1: torch.Tensor, b1: torch.Tensor, w2: torch.Tensor, b2: torch.Tensor) -> torch.Tensor:
        hidden = activate((wide[:, None] @ w1.double())[:, 0] + b1.double(), attributes["activation"])
        return (hidden[:, None] @ w2.double())[:, 0] + b2.double()

    b2s = module.b2s if attributes["b2s"] else torch.zeros_like(module.b2s)
    y = dense(module.w1s[leaf], module.b1s[leaf], module.w2s[leaf], b2s[leaf])
    if not has_master(module):
        return y, smallest
    share = torch.sigmoid(module.k.double())
    return share * y + (1 - share) * dense(module.magic_w1[0], module.magic_b1[0], module.magic_w2[0],
                                           module.magic_b2[0]), smallest


def nodes_of(module: nn.Module, attributes: Mapping[str, Any]) -> list[Node]:
    """The nodes whose sum the module is."""
    weights: list[Optional[torch.Tensor]] = [getattr(module, name) for name in OF_TREE]
    if not attributes["b2s"]:
        weights[5] = None
    weights.append(getattr(module, "thresholds", None))
    if not has_master(module):
        return [("LeafFFF", attributes, weights)]
    share = torch.sigmoid(module.k.detach().double()).reshape(1)
    nothing = module.node_weights.detach()[:0]
    master = [nothing, None, *(getattr(module, name) for name in OF_MASTER[:4]), None, (1 - share).float()]
    return [("LeafFFF", attributes, [*weights, share.float()]), ("LeafFFF", {**attributes, "depth": 0}, master)]
