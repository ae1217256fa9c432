"""What fff::forest is given, and its definition with all neurons: for other types and devices, and for gradients."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

import torch
from torch.nn import functional

from . import _dense

SLOTS, NUMBERS = 8, 8  # weights (at most) and numbers of a part
PLAIN, SIGMOID, ONE_MINUS_SIGMOID = range(3)  # what `factor` is: the factor itself, or what it is computed from

_Weight = Optional[torch.Tensor]


class Part(NamedTuple):
    """One part. Of path sums `nodes` and `outputs` are fff::forward's input and output weights, and there are no
    leaves."""

    nodes: _Weight  # (trees * N, input width)
    node_biases: _Weight  # (trees * N,), or (trees * N, 1)
    leaves: _Weight  # (trees * L, input width, leaf width)
    leaf_biases: _Weight  # (trees * L, leaf width)
    outputs: torch.Tensor  # (trees * L, leaf width, output width)
    output_biases: _Weight  # (trees * L, output width)
    thresholds: _Weight  # (trees * N,)
    factor: _Weight  # one number
    depth: int
    trees: int
    activation: int
    routing: int
    node_major: int
    leaf_width: int
    factor_is: int
    present: int  # a bit for each of the weights

    @property
    def node_count(self) -> int:
        """Of a tree."""
        return 2 ** self.depth - 1 if self.leaf_width else 2 ** (self.depth + 1) - 1

    @property
    def tree_entries(self) -> int:
        """Entries of a tree in a token's path."""
        return self.depth + self.leaf_width if self.leaf_width else self.depth + 1

    @property
    def input_width(self) -> int:
        return (self.leaves if self.leaf_width else self.nodes).shape[1]

    @property
    def output_width(self) -> int:
        return self.outputs.shape[2 if self.leaf_width else 1 if self.node_major else 0]

    def scale(self) -> _Weight:
        if self.factor is None or self.factor_is == PLAIN:
            return None if self.factor is None else self.factor.reshape(())
        share = torch.sigmoid(self.factor.reshape(()))
        return share if self.factor_is == SIGMOID else 1 - share

    def matrices(self) -> tuple[torch.Tensor, _Weight, torch.Tensor]:
        """Of the neurons that add to outputs, a row each: input weights, biases, output weights."""
        if not self.leaf_width:
            bias = None if self.node_biases is None else self.node_biases.reshape(-1)
            return self.nodes, bias, self.outputs if self.node_major else self.outputs.t()
        bias = None if self.leaf_biases is None else self.leaf_biases.reshape(-1)
        return self.leaves.transpose(1, 2).flatten(0, 1), bias, self.outputs.flatten(0, 1)

    def neurons(self, entries: torch.Tensor) -> torch.Tensor:
        """Rows of those matrices (tokens, n) that a path's entries (tokens, path length of the part) stand for."""
        by_tree = entries.reshape(-1, self.trees, self.tree_entries)
        if not self.leaf_width:
            return _dense.rows(by_tree)
        first = torch.arange(self.trees, device=entries.device).unsqueeze(1) * (2 ** self.depth * self.leaf_width)
        return (by_tree[:, :, self.depth:].long() - self.node_count + first).flatten(1)

    def leaf(self, entries: torch.Tensor) -> torch.Tensor:
        """The leaves that were reached (tokens, trees), counted through all trees."""
        first = entries.reshape(-1, self.trees, self.tree_entries)[:, :, self.depth].long() - self.node_count
        return first // self.leaf_width + torch.arange(self.trees, device=entries.device) * 2 ** self.depth

    def walk(self, tokens: torch.Tensor) -> torch.Tensor:
        """Entries of each token's path (tokens, path length of the part), by the definition."""
        node = torch.zeros(tokens.shape[0], self.trees, 1, dtype=torch.long, device=tokens.device)
        path, count = [], self.node_count
        if self.depth > 0:
            bias = None if self.node_biases is None else self.node_biases.reshape(-1)
            logits = functional.linear(tokens, self.nodes, bias).detach().reshape(-1, self.trees, count)
            limits = 0 if self.thresholds is None else self.thresholds.detach().reshape(self.trees, count)
            right = (logits >= limits if self.routing else logits > limits).long()
            for _ in range(self.depth):
                path.append(node)
                node = 2 * node + 1 + right.gather(2, node)
        if not self.leaf_width:
            path.append(node)
        else:
            path.append(count + (node - count) * self.leaf_width + torch.arange(self.leaf_width, device=tokens.device))
        return torch.cat(path, 2).flatten(1)


def given(weights: Sequence[_Weight], numbers: Sequence[int]) -> tuple[list[torch.Tensor], list[int]]:
    """The operator's two lists of one part, from its weights and numbers but `present`."""
    present = sum(1 << slot for slot, weight in enumerate(weights) if weight is not None)
    return [weight for weight in weights if weight is not None], [*numbers, present]


def parts(weights: Sequence[torch.Tensor], plan: Sequence[int]) -> list[Part]:
    """The operator's two lists, part by part."""
    if not plan or len(plan) % NUMBERS:
        raise ValueError(f"a part has {NUMBERS} numbers, and there are {len(plan)}")
    found, taken = [], 0
    for first in range(0, len(plan), NUMBERS):
        numbers = plan[first:first + NUMBERS]
        slots: list[_Weight] = [None] * SLOTS
        for slot in range(SLOTS):
            if numbers[-1] >> slot & 1:
                slots[slot] = weights[taken] if taken < len(weights) else None
                taken += 1
        part = Part(*slots, *numbers)
        dimensions, into, out = (3, "w1s", "w2s") if part.leaf_width else (2, "input_weight", "output_weight")
        for name, weight in ((into, part.leaves if part.leaf_width else part.nodes), (out, part.outputs)):
            if weight is None or weight.dim() != dimensions:
                raise ValueError(f"{name} is missing, or has not {dimensions} dimensions")
        found.append(part)
    if taken != len(weights):
        raise ValueError(f"there are {len(weights)} weights, and the plan names others")
    return found


def path_length(plan: Sequence[int]) -> int:
    lengths = (Part(*[None] * SLOTS, *plan[first:first + NUMBERS]) for first in range(0, len(plan), NUMBERS))
    return sum(part.trees * part.tree_entries for part in lengths)


def _split(all_parts: list[Part], entries: torch.Tensor) -> Sequence[torch.Tensor]:
    """Of entries (..., path length), those of each part: (tokens, its path length)."""
    lengths = [part.trees * part.tree_entries for part in all_parts]
    return entries.reshape(-1, sum(lengths)).split(lengths, dim=1)


def walk(x: torch.Tensor, weights, plan) -> torch.Tensor:
    """Entries of paths (tokens, path length), by the definition."""
    return torch.cat([part.walk(x.reshape(-1, x.shape[-1])) for part in parts(weights, plan)], 1)


def logits_at(x: torch.Tensor, weights, plan, entries: torch.Tensor) -> torch.Tensor:
    """Logits (tokens, path length) of the entries that were visited. Differentiable."""
    tokens, found = x.reshape(-1, x.shape[-1]), []
    all_parts = parts(weights, plan)
    for part, of_part in zip(all_parts, _split(all_parts, entries)):
        into, bias, _ = part.matrices()
        chosen = functional.linear(tokens, into, bias).gather(1, part.neurons(of_part))
        if part.leaf_width and part.depth:
            bias = None if part.node_biases is None else part.node_biases.reshape(-1)
            first = torch.arange(part.trees, device=x.device).unsqueeze(1) * part.node_count
            nodes = of_part.reshape(-1, part.trees, part.tree_entries)[:, :, :part.depth].long() + first
            routers = functional.linear(tokens, part.nodes, bias).gather(1, nodes.flatten(1))
            routers = routers.reshape(-1, part.trees, part.depth)
            chosen = torch.cat([routers, chosen.reshape(-1, part.trees, part.leaf_width)], 2).flatten(1)
        found.append(chosen)
    return torch.cat(found, 1)


def along(x: torch.Tensor, weights, plan, output_bias: _Weight, entries: torch.Tensor) -> torch.Tensor:
    """The layer's output, given the entries of its tokens' paths. Differentiable in every way that PyTorch knows."""
    tokens, y = x.reshape(-1, x.shape[-1]), None
    all_parts = parts(weights, plan)
    for part, of_part in zip(all_parts, _split(all_parts, entries)):
        into, bias, out = part.matrices()
        at = part.neurons(of_part)
        all_logits = functional.linear(tokens, into, bias)
        activations = _dense.activate(all_logits.gather(1, at), part.activation)
        more = all_logits.new_zeros(all_logits.shape).scatter(1, at, activations) @ out
        if part.output_biases is not None:
            more = more + part.output_biases[part.leaf(of_part)].sum(1)
        scale = part.scale()
        more = more if scale is None else more * scale
        y = more if y is None else y + more
    y = y if output_bias is None else y + output_bias
    return y.reshape(*x.shape[:-1], y.shape[-1])


def gradients(grad: torch.Tensor, x: torch.Tensor, weights, plan, output_bias: _Weight, entries: torch.Tensor) -> tuple:
    """Of x, the weights and output_bias, given that of the output and the entries that the forward pass visited.
    Nodes that only route have none. Differentiable in turn, along the same paths."""
    tokens, grad = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    of_x, of_weights = torch.zeros_like(tokens), []
    all_parts = parts(weights, plan)
    for part, of_part in zip(all_parts, _split(all_parts, entries)):
        into, bias, out = part.matrices()
        at, scale = part.neurons(of_part), part.scale()
        all_logits = functional.linear(tokens, into, bias)
        logits = all_logits.gather(1, at)
        nothing = torch.zeros_like(all_logits)
        plain = nothing.scatter(1, at, _dense.activate(logits, part.activation))
        scaled = grad if scale is None else grad * scale
        by_logit = nothing.scatter(1, at, (scaled @ out.t()).gather(1, at) * _dense.slope(logits, part.activation))
        of_x = of_x + by_logit @ into
        of_out, reached = plain.t() @ scaled, None
        if part.output_biases is not None:
            reached = grad.new_zeros(grad.shape[0], part.output_biases.shape[0]).scatter(1, part.leaf(of_part), 1.0)
        found: list[_Weight] = [None] * SLOTS
        if part.leaf_width:
            found[2] = (by_logit.t() @ tokens).reshape(-1, part.leaf_width, tokens.shape[1]).transpose(1, 2)
            found[3] = None if part.leaf_biases is None else by_logit.sum(0).reshape(part.leaf_biases.shape)
            found[4] = of_out.reshape(part.outputs.shape)
            found[5] = None if reached is None else reached.t() @ scaled
        else:
            found[0] = by_logit.t() @ tokens
            found[1] = None if part.node_biases is None else by_logit.sum(0).reshape(part.node_biases.shape)
            found[4] = of_out if part.node_major else of_out.t()
        if part.factor is not None:
            sums = plain @ out if reached is None else plain @ out + reached @ part.output_biases
            of_scale = (grad * sums).sum()
            if part.factor_is != PLAIN:
                share = torch.sigmoid(part.factor.reshape(()))
                of_scale = of_scale * share * (1 - share) * (1 if part.factor_is == SIGMOID else -1)
            found[7] = of_scale.reshape(part.factor.shape)
        of_weights += [of for slot, of in enumerate(found) if part.present >> slot & 1]
    return of_x.reshape(x.shape), of_weights, None if output_bias is None else grad.sum(0)
