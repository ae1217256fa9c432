"""How evenly tokens use the trees of a model."""

from __future__ import annotations

from typing import Callable, Iterable, NamedTuple

import torch
from torch import nn

from ._evaluated import _Evaluated
from ._leaves import Forest, LeafFFF
from ._modules import _Layer


class Usage(NamedTuple):
    """Of one layer."""

    tokens: int
    visits: torch.Tensor  # (trees, nodes), of leaf layers (1, leaves): how many tokens met each
    leaf_perplexity: torch.Tensor  # (trees,): exp of the entropy of tokens over a tree's leaves; 1 if all reach one, 2 ** depth if even
    dead: int  # nodes, of leaf layers leaves, that no token met


class _Count:
    def __init__(self, layer: _Evaluated):
        self.layer, self.tokens = layer, 0
        self.counted = False  # a call that runs has been
        leaves = isinstance(layer, LeafFFF)
        self.trees, self.bins = (1, layer.n_leaves) if leaves else (layer.parallel_size, layer.n_nodes)
        self.leaves = self.bins if leaves else 2 ** layer.depth
        self.visits = torch.zeros(self.trees, self.bins, dtype=torch.long, device="cpu")

    def add(self, x: torch.Tensor) -> None:
        x = x.detach().reshape(-1, x.shape[-1])
        met = self.layer.leaves(x).reshape(-1, 1, 1) if isinstance(self.layer, LeafFFF) else self.layer.route(x)[0]
        first = torch.arange(self.trees, device="cpu").unsqueeze(1) * self.bins
        self.visits += torch.bincount((met.long() + first).flatten(), minlength=self.visits.numel()).reshape(self.visits.shape)
        self.tokens += x.shape[0]

    def result(self) -> Usage:
        share = self.visits[:, self.bins - self.leaves:].double() / max(self.tokens, 1)
        entropy = -torch.where(share > 0, share * share.clamp(min=1e-300).log(), torch.zeros_like(share)).sum(1)
        return Usage(self.tokens, self.visits, entropy.exp(), int((self.visits == 0).sum()))


def _counted(forward: Callable, parts: list) -> Callable:
    """In place of a hook, since those of 1.13 are not told of keywords. What a forest has counted for its parts, they do not
    count once more where it calls them."""
    def call(x, *more, **options):
        new = [part for part in parts if not part.counted]
        for part in new:
            part.add(x)
            part.counted = True
        try:
            return forward(x, *more, **options)
        finally:
            for part in new:
                part.counted = False
    return call


@torch.no_grad()
def usage(model: nn.Module, batches: Iterable) -> dict[str, Usage]:
    """Runs `model` in evaluation mode over `batches` (each a tensor, a tuple of arguments or a dict of keywords), and counts which
    nodes the tokens of each FFF in it visit: by the names that model.named_modules() has. Layers that no batch reached are left out.
    By the kernels: on the CPU."""
    modules = dict(model.named_modules())
    counts = {name: _Count(module) for name, module in modules.items() if isinstance(module, (_Layer, LeafFFF))}
    if not counts:
        raise ValueError(f"there is no FFF in this {type(model).__name__}")
    replaced = []
    for name, module in modules.items():
        if isinstance(module, Forest):
            parts = [counts[part] for part in counts if any(modules[part] is of for of in module.parts)]
        elif name in counts:
            parts = [counts[name]]
        else:
            continue

        replaced.append((module, vars(module).get("forward")))
        module.forward = _counted(module.forward, parts)
    modes = {module: module.training for module in modules.values()}
    model.eval()
    try:
        for batch in batches:
            if isinstance(batch, dict):
                model(**batch)
            else:
                model(*batch if isinstance(batch, (tuple, list)) else (batch,))
    finally:
        for module, had in replaced:
            del module.forward
            if had is not None:
                module.forward = had
        for module, mode in modes.items():
            module.training = mode
    return {name: of.result() for name, of in counts.items() if of.tokens}
