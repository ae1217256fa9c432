"""Modules of path sums."""

from __future__ import annotations

import math
from typing import Callable, Optional

import torch
from torch import nn
from torch.nn import functional

import fff

from . import _dense, _forest, _operator, _training
from ._evaluated import _activation_number, _call, _checked_thresholds, _Evaluated, _has_hooks, _is_compiling, _routing_number


class _Layer(_Evaluated):
    """Modules of path sums alone. `_plan` is what the operator is told beside the tensors: depth, trees, activation, routing,
    node_major.

    sparse          the weights' gradients, which are 0 for all neurons but those that a batch meets, are torch.sparse_coo_tensor's of
                    these: of weights that have a row a neuron (input weights, biases; output weights of NodeMajorFFF, not FFF)
    dense_training  train() computes dense(), as it does where the kernels have no backward pass
    Both are attributes that may be set at any time; neither is in the state_dict."""

    sparse = False
    _flat = False  # the input weight is one column, row after row
    dense_training = False
    _sink: Optional[Callable] = None  # what takes the weights' gradients as rows: a RowAdam's, while there is one
    _plan: tuple
    depth: int
    parallel_size: int
    routing: str
    _node_major = False

    def __setattr__(self, name: str, value) -> None:
        if name == "activation":  # may be exchanged, as in theirs
            self.__dict__["_plan"] = (self.depth, self.parallel_size, _activation_number(value), _routing_number(self.routing),
                                      self._node_major)
        elif name == "routing":
            number, plan = _routing_number(value), self.__dict__.get("_plan")
            if plan is not None:
                self.__dict__["_plan"] = (*plan[:3], number, plan[4])
        super().__setattr__(name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., input width) -> (..., output width).

        In evaluation mode by the kernels: float32, bfloat16 or float16 tensors on the CPU, of the weights' type; TypeError or
        ValueError for others. In training mode by the kernels, too, forward and backward, for float32 tensors on the CPU, else, and
        under autocast, by dense()."""
        if _call is not None and not _is_compiling():
            y = _call(self, x)
            if y is not NotImplemented:
                return y
        weights = self._weights()
        if weights is None:
            return self.dense(x)
        if self.training:
            return self._shaped(self._train(x, *weights)) if self._trains_by_kernels(x, weights) else self.dense(x)
        if self._limits() is not None:
            return self._shaped(_operator.forest(x, *self._given(), None, *self._stored))
        return self._shaped(_operator.forward(x, *weights, *self._plan, *self._stored))

    def _trains_by_kernels(self, x: torch.Tensor, weights: tuple) -> bool:
        return (not self.dense_training and not _has_hooks(self.activation)
                and _training.by_kernels((x, *weights, self._limits())))

    def _train(self, x: torch.Tensor, input_weight: torch.Tensor, bias: Optional[torch.Tensor],
               output_weight: torch.Tensor) -> torch.Tensor:
        plan, sink = self._plan, self._sink
        if sink is not None and not all(weight is None or isinstance(weight, nn.Parameter) for weight in (input_weight, bias, output_weight)):
            sink = None  # torch.func.functional_call() has others in their place
        if not self._node_major and not _training.is_node_major(output_weight):
            output_weight, plan = output_weight.t().contiguous(), (*plan[:4], True)
        if (self.sparse or sink is not None) and not self._flat:
            sparse = (self.sparse, self.sparse, self.sparse and self._node_major)
            return _training.train_rows(sink, sparse, x, input_weight, bias, output_weight, *plan, self._limits())
        return _operator.train(x, input_weight, bias, output_weight, *plan, self._limits())[0]

    def _write(self, x: torch.Tensor, out: torch.Tensor) -> None:
        weights = self._weights()
        if weights is None:
            raise ValueError("the weights are not plain parameters")
        if self._limits() is not None:
            _operator.forest_out(x, *self._given(), None, *self._stored, out=self._unshaped(out))
            return
        _operator.forward_out(x, *weights, *self._plan, *self._stored, out=self._unshaped(out))

    def _unshaped(self, out: torch.Tensor) -> torch.Tensor:
        """What _shaped() would make this of."""
        return out

    def _shaped(self, y: torch.Tensor) -> torch.Tensor:
        """The operator's output as the module gives it."""
        return y

    def _limits(self) -> Optional[torch.Tensor]:
        """Thresholds; None: there are none."""
        return None

    def _weights(self) -> Optional[tuple]:
        """Input weight, bias, output weight; None where something has been put around them (a parametrization, an
        adapter, quantised weights) that only dense() computes."""
        raise NotImplementedError

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The visited nodes (int32) and their logits, both (..., trees, depth + 1), by the kernels. Without gradients."""
        weights = self._weights()
        if weights is None:
            raise ValueError("the weights are not plain parameters")
        with torch.no_grad():
            if self._limits() is None:
                return _operator.route(x, *weights, *self._plan, *self._stored)
            nodes, logits = _operator.forest_route(x, *self._given(), None, *self._stored)
            shape = (*x.shape[:-1], self.parallel_size, self.depth + 1)
            return nodes.reshape(shape), logits.reshape(shape)

    def _given(self) -> Optional[tuple]:
        """The layer as a part of fff::forest; None as _weights()."""
        weights = self._weights()
        if weights is None:
            return None
        return _forest.given([weights[0], weights[1], None, None, weights[2], None, self._limits(), None],
                             [*map(int, self._plan), 0, _forest.PLAIN])

    def _probed(self) -> torch.Tensor:
        """Rows of input weights, for those that try a module out."""
        raise NotImplementedError


class FFF(_Layer):
    """A fast feedforward layer, path sum: the module of the UltraFastBERT repository's training code, by its name,
    arguments and state_dict (linear_in.weight, linear_in.bias, linear_out.weight), evaluated by libfff's kernels.

    input_width, output_width   of the last dimension of input and output
    depth           0 to 30; a tree has 2 ** (depth + 1) - 1 nodes
    parallel_size   the number of trees
    activation      a class or function that makes one: nn.GELU (either), nn.ReLU, SquaredReLU, nn.SiLU, nn.Identity. An
                    attribute, too: a module may be set in its place. Changes within one (GELU's approximate) are not seen
    routing         ">": right if logit > 0, as theirs; ">=": right if logit >= 0. An attribute, too
    thresholds      a tensor of one number a node, which its logit is compared with instead of 0: a buffer in the
                    state_dict, or a parameter if it is one (of which there is no gradient). An attribute, too, which may
                    be set at any time; None: there are none. Those of nodes that do not route must be numbers
    sparse          see _Layer

    linear_out.weight has the shape that theirs has, (output width, neurons), and its memory neuron after neuron, strides (1, output
    width): training reads and writes the rows of neurons. node_major_() does that to other weights.
    """

    thresholds: Optional[torch.Tensor]

    def __init__(self, input_width: int, output_width: int, depth: int, parallel_size: int = 1,
                 activation: Callable[[], nn.Module] = nn.GELU, *, routing: str = ">",
                 thresholds: Optional[torch.Tensor] = None, sparse: bool = False, device=None, dtype=None):
        super().__init__()
        if input_width < 1 or output_width < 1 or parallel_size < 1:
            raise ValueError(f"widths {input_width} and {output_width}, {parallel_size} trees")
        neurons = parallel_size * fff.nodes_per_tree(depth)
        linear_in = nn.Linear(input_width, neurons, device=device, dtype=dtype)  # drawn as theirs is
        linear_out = nn.Linear(neurons, output_width, bias=False, device=device, dtype=dtype)
        nn.init.uniform_(linear_in.weight, -1 / math.sqrt(input_width), 1 / math.sqrt(input_width))
        nn.init.uniform_(linear_in.bias, -1 / math.sqrt(input_width), 1 / math.sqrt(input_width))
        bound = 1 / math.sqrt((depth + 1) * parallel_size)
        nn.init.uniform_(linear_out.weight, -bound, bound)
        linear_out.weight = _training.node_major(linear_out.weight)
        self.sparse = sparse
        self._set(linear_in, linear_out, activation(), input_width, output_width, depth, parallel_size, routing)
        self.thresholds = _checked_thresholds(thresholds, neurons)

    def _set(self, linear_in, linear_out, activation, input_width, output_width, depth, parallel_size, routing) -> None:
        self.input_width, self.output_width, self.depth = input_width, output_width, depth
        self.parallel_size, self.n_nodes, self.routing = parallel_size, 2 ** (depth + 1) - 1, routing
        self.linear_in, self.linear_out = linear_in, linear_out
        self.activation = activation
        self.register_buffer("thresholds", None)

    def _limits(self) -> Optional[torch.Tensor]:
        return getattr(self, "thresholds", None)  # pickles of older versions have none

    def _weights(self) -> Optional[tuple]:
        if type(self.linear_in) is not nn.Linear or type(self.linear_out) is not nn.Linear:
            return None
        into, out = self.linear_in._parameters, self.linear_out._parameters
        if into.get("weight") is None or out.get("weight") is None or "bias" not in into or out.get("bias") is not None:
            return None
        return into["weight"], into["bias"], out["weight"]

    def _trains_by_kernels(self, x: torch.Tensor, weights: tuple) -> bool:
        return super()._trains_by_kernels(x, weights) and not _has_hooks(self.linear_in) and not _has_hooks(self.linear_out)

    def _probed(self) -> torch.Tensor:
        return self.linear_in.weight

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.linear_in(self._tokens(x))
        limits = self._limits()
        activations = _dense.on_paths(logits, self.activation(logits), self.depth, self.parallel_size,
                                      self._plan[3], None if limits is None else limits.detach())
        return self.linear_out(activations).reshape(*x.shape[:-1], self.output_width)

    def extra_repr(self) -> str:
        return f"{self.parallel_size}x{self.depth}, {self.input_width} -> {self.output_width}, routing {self.routing}{self._stored_repr()}"


class NodeMajorFFF(_Layer):
    """One tree whose matrices both have a row a node; made by from_module(), with the names that the weights have there.

    activation      a module that the kernels have
    unsqueeze       the output is (..., 1, output width), as that of a batched product
    """

    _node_major = True

    def _set(self, module: nn.Module, names: tuple, depth: int, activation: nn.Module, routing: str, unsqueeze: bool,
             flat: bool = False) -> None:
        """`names` of the input weight, the bias (or None) and the output weight in `module`. `flat`: the input weight is one
        column, row after row."""
        for name in names:
            if name is not None:
                self.register_parameter(name, getattr(module, name))
        self._names, self._flat, self.unsqueeze = names, flat, unsqueeze
        self.depth, self.parallel_size, self.n_nodes, self.routing = depth, 1, 2 ** (depth + 1) - 1, routing
        self.activation = activation
        into, out = getattr(self, names[0]), getattr(self, names[2])
        self.input_width, self.output_width = into.numel() // self.n_nodes, out.shape[1]
        if not flat:
            self._direct = (*names, unsqueeze)  # what the short way in native/modules.h reads

    def _weights(self) -> Optional[tuple]:
        into, bias, out = (None if name is None else self._parameters.get(name) for name in self._names)
        if into is None or out is None or (bias is None and self._names[1] is not None):
            return None
        return into.view(self.n_nodes, self.input_width) if self._flat else into, bias, out

    def _shaped(self, y: torch.Tensor) -> torch.Tensor:
        return y.unsqueeze(-2) if self.unsqueeze else y

    def _unshaped(self, out: torch.Tensor) -> torch.Tensor:
        if self.unsqueeze and (out.dim() < 2 or out.shape[-2] != 1):
            raise ValueError(f"out has shape {list(out.shape)}, not [..., 1, {self.output_width}]")
        return out.squeeze(-2) if self.unsqueeze else out

    def _probed(self) -> torch.Tensor:
        return getattr(self, self._names[0])

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        into, bias, out = (None if name is None else getattr(self, name) for name in self._names)
        logits = functional.linear(self._tokens(x), into.view(self.n_nodes, self.input_width), bias)
        activations = _dense.on_paths(logits, self.activation(logits), self.depth, 1, self._plan[3])
        return self._shaped((activations @ out).reshape(*x.shape[:-1], self.output_width))

    def extra_repr(self) -> str:
        return f"1x{self.depth}, {self.input_width} -> {self.output_width}, routing {self.routing}{self._stored_repr()}"


class BenchmarkFFF(NodeMajorFFF):
    """The module of the UltraFastBERT repository's benchmark_pytorch, there FFF too: one tree, no bias, GELU, `logit >= 0`
    goes right, state_dict w1s (nodes, input width) and w2s (nodes, output width). As theirs, it makes (batch, 1, output width)
    of (batch, input width). Mind the order of the arguments."""

    def __init__(self, input_width: int, depth: int, output_width: int):
        super().__init__()
        nodes = fff.nodes_per_tree(depth)
        if input_width < 1 or output_width < 1:
            raise ValueError(f"widths {input_width} and {output_width}")
        into, out = 1 / math.sqrt(input_width), 1 / math.sqrt(depth + 1)
        self.w1s = nn.Parameter(torch.empty(nodes, input_width).uniform_(-into, into))
        self.w2s = nn.Parameter(torch.empty(nodes, output_width).uniform_(-out, out))
        self._set(self, ("w1s", None, "w2s"), depth, nn.GELU(), ">=", True)
