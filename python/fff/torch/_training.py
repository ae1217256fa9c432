"""fff::train, fff::backward and fff::backward_rows for PyTorch's autograd: the kernels' own backward pass, which computes the
neurons on the paths alone.

The gradient flows through the path only, as in the published training code: where a token goes is taken as it is. Derivatives of
gradients, forward mode and the transforms of torch.func are PyTorch's own of the definition along the same nodes, as _autograd.py
has them for evaluation.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

import torch
from torch import nn

from . import _autograd, _dense

_disable = getattr(getattr(torch, "compiler", None), "disable", lambda function: function)


class RowGradients(NamedTuple):
    """What one backward pass has found of a layer's weights: gradients of the neurons that its tokens met. None where the weight
    wants no gradient."""

    rows: torch.Tensor  # int32, ascending: tree * nodes + node
    input_weight: Optional[torch.Tensor]  # (rows, input width)
    bias: Optional[torch.Tensor]  # (rows,)
    output_weight: Optional[torch.Tensor]  # (rows, output width), whatever the layout of the parameter


def by_kernels(tensors: tuple) -> bool:
    """Whether the kernels' backward pass is one for these tensors: float32, dense and on the CPU, and not under autocast."""
    return not _autograd.is_autocast() and all(
        tensor is None or (tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.layout == torch.strided)
        for tensor in tensors)


def is_node_major(weight: torch.Tensor) -> bool:
    """Whether an output weight (output width, neurons) has its memory neuron after neuron."""
    width = weight.shape[0]
    return weight.t().is_contiguous() or width == 1 or (weight.stride(0) == 1 and weight.stride(1) >= width)


_PLAN = 5  # depth, trees, activation, routing, node_major; behind them, thresholds, which decide the nodes and nothing else


def _save(ctx, inputs: tuple, nodes: torch.Tensor, logits: torch.Tensor) -> None:
    ctx.mark_non_differentiable(nodes, logits)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:4], nodes, logits)
    ctx.plan, ctx.none = inputs[4:4 + _PLAN], (None,) * (len(inputs) - 4)


def node_major(weight: nn.Parameter) -> nn.Parameter:
    """The same numbers and shape, with memory neuron after neuron."""
    return nn.Parameter(weight.detach().t().contiguous().t(), weight.requires_grad)


@torch.no_grad()
def node_major_(weight: nn.Parameter) -> None:
    """Lays the memory out so, in place; a gradient that is there, too."""
    if not is_node_major(weight):
        weight.data = weight.data.t().contiguous().t()
        if weight.grad is not None and weight.grad.layout == torch.strided:
            weight.grad = weight.grad.t().contiguous().t()


class _Train(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *inputs):  # type: ignore[override]
        y, nodes, logits = _autograd.kernels.train(*inputs)
        _save(ctx, inputs, nodes, logits)
        return y, nodes, logits

    @staticmethod
    @_autograd.without_autocast
    def backward(ctx, grad, _nodes, _logits):  # type: ignore[override]
        *saved, nodes, logits = ctx.saved_tensors  # once: a checkpoint gives them but once
        if grad is None:
            return (None,) * 4 + ctx.none
        return _autograd.gradients(grad, tuple(saved), nodes, logits, ctx.plan, ctx.needs_input_grad[:4]) + ctx.none


def train(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False, thresholds=None):
    """The kernel of fff::train for PyTorch's autograd: y has derivatives, nodes and logits have none."""
    inputs = (x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, thresholds)
    wanted, forward_mode = _autograd.derivatives_wanted(inputs[:4])
    if not wanted:
        return _autograd.kernels.train(*inputs)
    if not forward_mode:
        return _Train.apply(*inputs)
    y, nodes, logits = _autograd.kernels.train(*_autograd.detached(inputs))
    return _autograd.with_value(y, _dense.along(*inputs[:4], nodes, activation, node_major)), nodes, logits


def _accumulates(node) -> Optional[bool]:
    """Of the node that a plain parameter's gradient goes to, whether this backward pass adds to its `.grad`. False: nobody asks for
    this gradient. None: torch.autograd.grad() returns it."""
    while node.next_functions:  # of a copy in another layout
        node = node.next_functions[0][0]
    try:
        accumulates = torch._C._will_engine_execute_node(node)
    except RuntimeError:  # what it has to say of a leaf under torch.autograd.grad()
        return None
    if accumulates and any(getattr(node.variable, name, None) for name in ("_backward_hooks", "_post_accumulate_grad_hooks")):
        raise RuntimeError("a weight has a hook for its gradient, which a RowAdam takes as rows: remove the hook, and see the optimizer's "
                           "gradients(), or use another optimizer")
    return accumulates


class _TrainRows(torch.autograd.Function):
    """As _Train, with the weights' gradients as rows: given to `sink`, which takes a RowGradients, where the backward pass would add to
    `.grad`; else as tensors, torch.sparse_coo_tensor of those weights that `sparse` says."""

    @staticmethod
    def forward(ctx, sink, sparse, *inputs):  # type: ignore[override]
        y, nodes, logits = _autograd.kernels.train(*inputs)
        _save(ctx, inputs, nodes, logits)
        ctx.sink, ctx.sparse = sink, sparse
        return y, nodes, logits

    @staticmethod
    @_autograd.without_autocast
    def backward(ctx, grad, _nodes, _logits):  # type: ignore[override]
        *saved, nodes, logits = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:6]
        if grad is None:
            return (None,) * 6 + ctx.none
        if torch.is_grad_enabled():
            raise RuntimeError("gradients as rows have no derivatives in turn: for create_graph=True set the layer's `sparse` to False, "
                               "and give it to no RowAdam")
        taken = [False] * 3
        if ctx.sink is not None and ctx.sink.owner() is not None:
            edges = iter(ctx.next_functions)  # of all inputs that are tensors
            nodes_of = [None if tensor is None else next(edges)[0] for tensor in saved]
            asked = [_accumulates(node) if want else False for node, want in zip(nodes_of[1:], needed[1:])]
            taken = [answer is True for answer in asked]
            needed = (needed[0], *(answer is not False for answer in asked))
        of_x, rows, *found = torch.ops.fff.backward_rows(grad, *saved, nodes, logits, *ctx.plan, _autograd.bits(needed))
        found = [part if want else None for part, want in zip(found, needed[1:])]
        if any(taken):
            ctx.sink(RowGradients(rows, *(part if take else None for part, take in zip(found, taken))))
            found = [None if take else part for part, take in zip(found, taken)]
        found = _as_tensors(rows, found, saved[1:], ctx.sparse, ctx.plan[4])
        return (None, None, of_x if needed[0] else None, *found, *ctx.none)


def _as_tensors(rows: torch.Tensor, found: list, weights: list, sparse: tuple, node_major: bool) -> list:
    """Gradients of the weights' shapes; of those that are not sparse, with 0 for all other rows."""
    at, made = rows.long(), []
    for part, weight, coo, beside in zip(found, weights, sparse, (False, False, not node_major)):
        if part is None:
            made.append(None)
        elif coo:
            made.append(torch.sparse_coo_tensor(at.unsqueeze(0), part, weight.shape)._coalesced_(True))
        else:
            dense = part.new_zeros((weight.t() if beside else weight).shape).index_copy_(0, at, part)
            made.append(dense.t() if beside else dense)
    return made


@_disable
def train_rows(sink: Optional[Callable], sparse: tuple, x: torch.Tensor, *inputs) -> torch.Tensor:
    """y, for modules whose weights' gradients are rows: a RowAdam's `sink` takes them, or, of input weight, bias and output weight, those
    are sparse tensors that `sparse` says."""
    if not torch.is_grad_enabled() or _autograd.derivatives_wanted((x, *inputs[:3]))[1]:
        return torch.ops.fff.train(x, *inputs)[0]
    return _TrainRows.apply(sink, sparse, x, *inputs)[0]


def register(library, fakes: dict) -> None:
    _autograd.register_one(library, "train", train, fakes["train"])
