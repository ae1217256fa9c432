"""The definition with all neurons: for training, for other types and devices, and for gradients."""

from __future__ import annotations

from typing import Optional

import torch
from torch import nn
from torch.nn import functional


def walk(logits: torch.Tensor, depth: int, trees: int, routing: int) -> torch.Tensor:
    """Visited nodes (tokens, trees, depth + 1) from the logits of all neurons (tokens, trees * nodes)."""
    logits = logits.detach().reshape(logits.shape[0], trees, 2 ** (depth + 1) - 1)
    right = (logits >= 0 if routing else logits > 0).long()
    node = torch.zeros_like(right[:, :, :1])
    nodes = [node]
    for _ in range(depth):
        node = 2 * node + 1 + right.gather(2, node)
        nodes.append(node)
    return torch.cat(nodes, 2)


def rows(nodes: torch.Tensor) -> torch.Tensor:
    """Rows of the weights (tokens, path length) of nodes (tokens, trees, depth + 1)."""
    trees, levels = nodes.shape[1:]
    first = torch.arange(trees, device=nodes.device).unsqueeze(1) * (2 ** levels - 1)
    return (nodes.long() + first).flatten(1)


def on_paths(logits: torch.Tensor, activations: torch.Tensor, depth: int, trees: int, routing: int,
             thresholds: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Activations (tokens, trees * nodes), with 0 for neurons off their token's paths."""
    above = logits if thresholds is None else logits - thresholds.to(logits.dtype)
    visited = torch.zeros_like(logits, dtype=torch.bool).scatter(1, rows(walk(above, depth, trees, routing)), 1)
    return torch.where(visited, activations, torch.zeros_like(activations))


def activate(logits: torch.Tensor, activation: int) -> torch.Tensor:
    """By number, as in fff_activation."""
    if activation <= 1:
        return functional.gelu(logits, approximate="tanh" if activation else "none")
    if activation == 2:
        return functional.relu(logits)
    if activation == 3:
        return functional.relu(logits).square()
    return functional.silu(logits) if activation == 4 else logits


def logits_at(x: torch.Tensor, input_weight: torch.Tensor, bias: Optional[torch.Tensor], nodes: torch.Tensor) -> torch.Tensor:
    """Logits (tokens, path length) of the nodes (..., trees, depth + 1) that were visited. Differentiable."""
    logits = functional.linear(x.reshape(-1, x.shape[-1]), input_weight, bias)
    return logits.gather(1, rows(nodes.reshape(-1, *nodes.shape[-2:])))


def along(x: torch.Tensor, input_weight: torch.Tensor, bias: Optional[torch.Tensor], output_weight: torch.Tensor,
          nodes: torch.Tensor, activation: int, node_major: bool) -> torch.Tensor:
    """The layer's output, given the nodes that its tokens visit. Differentiable in every way that PyTorch knows."""
    at = rows(nodes.reshape(-1, *nodes.shape[-2:]))
    activations = activate(logits_at(x, input_weight, bias, nodes), activation)
    activations = activations.new_zeros(at.shape[0], input_weight.shape[0]).scatter(1, at, activations)
    y = functional.linear(activations, output_weight.t() if node_major else output_weight)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def slope(logits: torch.Tensor, activation: int) -> torch.Tensor:
    """The derivative of activate()."""
    one = torch.ones_like(logits)
    if activation <= 1:  # what autograd itself calls; it has a derivative in turn
        return torch.ops.aten.gelu_backward(one, logits, approximate="tanh" if activation else "none")
    if activation == 2:
        return (logits > 0).to(logits.dtype)
    if activation == 3:
        return 2 * functional.relu(logits)
    if activation == 4:
        sigmoid = torch.sigmoid(logits)
        return sigmoid * (1 + logits * (1 - sigmoid))
    return one


def gradients(grad: torch.Tensor, x: torch.Tensor, input_weight: torch.Tensor, bias: Optional[torch.Tensor],
              output_weight: torch.Tensor, nodes: torch.Tensor, activation: int, node_major: bool) -> tuple:
    """Of x, input_weight, bias and output_weight, given that of the output and the nodes that the forward pass visited.

    Differentiable in turn: the logits are computed anew, only the routes are taken as they are."""
    width = x.shape[-1]
    tokens, grad = x.reshape(-1, width), grad.reshape(-1, grad.shape[-1])
    at = rows(nodes.reshape(-1, *nodes.shape[-2:]))
    all_logits = functional.linear(tokens, input_weight, bias)
    logits = all_logits.gather(1, at)
    by_neuron = (grad @ (output_weight.t() if node_major else output_weight)).gather(1, at)
    by_logit = torch.zeros_like(all_logits).scatter(1, at, by_neuron * slope(logits, activation))
    activations = torch.zeros_like(all_logits).scatter(1, at, activate(logits, activation))
    of_output_weight = activations.t() @ grad if node_major else grad.t() @ activations
    return ((by_logit @ input_weight).reshape(x.shape), by_logit.t() @ tokens, None if bias is None else by_logit.sum(0),
            of_output_weight)


class SquaredReLU(nn.Module):
    """max(x, 0) ** 2, which PyTorch has no module for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x).square()
