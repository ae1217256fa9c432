"""Modules of leaves, and of several parts."""

from __future__ import annotations

import math
from typing import Callable, Iterable, Optional, Union

import torch
from torch import nn
from torch.nn import functional

from . import _forest, _operator
from ._evaluated import _activation_number, _checked_thresholds, _routing_number
from ._modules import FFF, BenchmarkFFF, NodeMajorFFF, _Layer
from ._parts import _Parts

_USAGES = ("none", "hard", "soft")


class LeafFFF(_Parts):
    """A fast feedforward layer with a small dense layer at each leaf (arXiv 2308.14711): the module FFF of the
    fastfeedforward package, by its arguments, methods and state_dict. In evaluation mode libfff's kernels compute the
    leaf that each token reaches; in training mode PyTorch computes all of them, mixed as theirs.

    input_width, leaf_width, output_width   of tokens, of each leaf's hidden layer, of results
    depth           a tree has 2 ** depth leaves
    activation      a module, class or function that the kernels have: ReLU, GELU (either), SiLU, SquaredReLU, Identity.
                    An attribute, too; changes within a module (GELU's approximate) are not seen
    dropout         after the activation, in training
    train_hardened  training computes with decisions of 0 or 1, too
    region_leak     the chance that a node's decision is turned round, in training
    usage_mode      "hard" or "soft": training counts in node_usage and leaf_usage what tokens use; "none"
    eval_b2s        False: evaluation leaves b2s out, as the package's own evaluation does; its training adds them
    routing         ">=": right if logit >= 0, as theirs; ">": right if logit > 0
    thresholds      a tensor of one number a node, which its logit is compared with instead of 0: a buffer in the
                    state_dict, or a parameter if it is one, which training then has gradients of. An attribute, too,
                    which may be set at any time; None: there are none

    A state_dict of arXiv 2405.16836's modules may have `f`, how many tokens of the last batch in training reached each leaf
    by hard decisions. Then this has it, too, and counts it while usage_mode is not "none".
    """

    _names = ("node_weights", "node_biases", "w1s", "b1s", "w2s", "b2s")
    _master: tuple[str, ...] = ()
    thresholds: Optional[torch.Tensor]

    def __init__(self, input_width: int, leaf_width: int, output_width: int, depth: int,
                 activation: Optional[Callable] = None, dropout: float = 0.0, train_hardened: bool = False,
                 region_leak: float = 0.0, usage_mode: str = "none", *, eval_b2s: bool = True, routing: str = ">=",
                 thresholds: Optional[torch.Tensor] = None, device=None, dtype=None):
        super().__init__()
        if min(input_width, leaf_width, output_width) < 1 or not 0 <= depth <= 30:
            raise ValueError(f"widths {input_width}, {leaf_width} and {output_width}, depth {depth}")
        if not 0 <= dropout <= 1 or not 0 <= region_leak <= 1:
            raise ValueError(f"dropout {dropout} and region_leak {region_leak}: each is from 0 to 1")
        leaves, nodes = 2 ** depth, 2 ** depth - 1
        into, out = 1 / math.sqrt(input_width), 1 / math.sqrt(leaf_width)

        def drawn(bound: float, *shape: int) -> nn.Parameter:  # in the order that theirs are drawn in
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype).uniform_(-bound, bound))

        self.depth = nn.Parameter(torch.tensor(depth, dtype=torch.long, device=device), requires_grad=False)
        self.node_weights, self.node_biases = drawn(into, nodes, input_width), drawn(into, nodes, 1)
        if nodes == 0:  # no gradient ever reaches them, which DistributedDataParallel would wait for
            self.node_weights.requires_grad_(False)
            self.node_biases.requires_grad_(False)
        self.w1s, self.b1s = drawn(into, leaves, input_width, leaf_width), drawn(into, leaves, leaf_width)
        self.w2s, self.b2s = drawn(out, leaves, leaf_width, output_width), drawn(out, leaves, output_width)
        activation = nn.ReLU() if activation is None else activation
        self._set(activation() if isinstance(activation, type) else activation, nn.Dropout(dropout),
                  bool(train_hardened), region_leak, usage_mode, eval_b2s, routing)
        if usage_mode != "none":
            self.node_usage = nn.Parameter(torch.zeros(nodes, device=device, dtype=dtype), requires_grad=False)
            self.leaf_usage = nn.Parameter(torch.zeros(leaves, device=device, dtype=dtype), requires_grad=False)
        self.thresholds = _checked_thresholds(thresholds, nodes)

    def _set(self, activation, leaf_dropout: nn.Module, train_hardened: bool, region_leak: float, usage_mode: str,
             eval_b2s: bool, routing: str = ">=") -> None:
        """All but the parameters, which are there."""
        if usage_mode not in _USAGES:
            raise ValueError(f"usage_mode {usage_mode!r}: one of {', '.join(_USAGES)}")
        self.n_leaves, self.input_width, self.leaf_width = self.w1s.shape
        self.output_width, self.n_nodes = self.w2s.shape[2], self.n_leaves - 1
        self._levels = self.n_leaves.bit_length() - 1
        self.train_hardened, self.region_leak, self.usage_mode = train_hardened, region_leak, usage_mode
        self.leaf_dropout, self.dropout = leaf_dropout, leaf_dropout.p
        self.register_buffer("thresholds", None)
        self.activation, self.routing, self.eval_b2s = activation, routing, bool(eval_b2s)

    def __setattr__(self, name: str, value) -> None:
        if name == "activation":  # may be exchanged
            self.__dict__["_number"] = _activation_number(value)
        elif name == "routing":
            _routing_number(value)
        super().__setattr__(name, value)
        if name in ("activation", "eval_b2s", "routing", "thresholds", *self._master):
            self._list()

    def _list(self) -> None:
        """Keeps what the short way in native/modules.h reads: names of parameters, and the plan; None where there is no
        such way."""
        ready = {"_number", "eval_b2s", "routing", "_levels"} <= set(self.__dict__)
        if ready and all(name in self._parameters for name in self._master):
            named, plan = self._parts_by(lambda name: name)
            self.__dict__["_listed"] = (tuple(named), tuple(plan)) if self.thresholds is None else None

    # ---- Evaluation ----

    def _leaf_weights(self, get: Callable) -> list:
        weights = [get(name) for name in self._names]
        if not self.eval_b2s:
            weights[5] = None
        return [*weights, self.thresholds, None]

    def _numbers(self) -> list:
        return [self._levels, 1, self._number, _routing_number(self.routing), 0, self.leaf_width, _forest.PLAIN]

    def _parts_by(self, get: Callable) -> tuple[list, list]:
        return _forest.given(self._leaf_weights(get), self._numbers())

    def _given(self) -> Optional[tuple[list, list]]:
        if any(self._parameters.get(name) is None for name in self._names + self._master):
            return None
        return self._parts_by(self._parameters.get)

    def _probed(self) -> torch.Tensor:
        return self.w1s.transpose(1, 2)

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self._tokens(x)
        weights, plan = self._parts_by(lambda name: getattr(self, name))
        entries = _forest.walk(tokens, weights, plan)
        return _forest.along(tokens, weights, plan, None, entries).reshape(*x.shape[:-1], self.output_width)

    def leaves(self, x: torch.Tensor) -> torch.Tensor:
        """The leaf that evaluation takes each token to: (...), int32."""
        return (self.route(x)[0][..., self._levels] - self.n_nodes) // self.leaf_width

    def forward(self, x: torch.Tensor, return_entropies: bool = False, use_hard_decisions: Optional[bool] = None):
        """(..., input width) -> (..., output width).

        In evaluation mode by the kernels: float32, bfloat16 or float16 tensors on the CPU, of the weights' type. In
        training mode by training_forward(). With return_entropies a pair, as there."""
        if self.training:
            return self.training_forward(x, return_entropies, bool(use_hard_decisions))
        if return_entropies:
            raise ValueError("evaluation has no entropies: return_entropies is for training")
        if use_hard_decisions is not None and not use_hard_decisions:
            raise ValueError("evaluation has hard decisions alone: use_hard_decisions=False is for training")
        return self.eval_forward(x)

    # ---- Training ----

    def decisions(self, x: torch.Tensor) -> torch.Tensor:
        """How far each token belongs to the right of each node, from 0 to 1: (tokens, nodes)."""
        logits = functional.linear(self._tokens(x), self.node_weights, self.node_biases.reshape(-1))
        return torch.sigmoid(logits if self.thresholds is None else logits - self.thresholds)

    def _mix(self, right: torch.Tensor, hard: bool, record: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The mixture of leaves (tokens, leaves), and the decisions that it is made of, leaks among them."""
        mixture, taken = right.new_ones(right.shape[0], 1), []
        for level in range(self._levels):
            first = 2 ** level - 1
            of_level = right[:, first:2 * first + 1]
            if self.region_leak > 0 and self.training:
                turned = torch.empty_like(of_level).uniform_(0, 1) < self.region_leak
                of_level = torch.where(turned, 1 - of_level, of_level)
            taken.append(of_level)
            if hard:
                of_level = torch.round(of_level)
            both = torch.stack((1 - of_level, of_level), 2).flatten(1)
            mixture = mixture.repeat_interleave(2, 1) * both
            if record and level + 1 < self._levels:
                self._count(self.node_usage, both, 2 * first + 1)
        return mixture, torch.cat(taken, 1) if taken else right

    @torch.no_grad()
    def _count(self, usage: torch.Tensor, shares: torch.Tensor, first: int) -> None:
        shares = torch.round(shares) if self.usage_mode == "hard" else shares
        usage[first:first + shares.shape[1]] += shares.sum(0)

    @torch.no_grad()
    def _count_reached(self, right: torch.Tensor) -> None:
        if "f" in self._parameters:
            self.f.copy_(_mixture(torch.round(right), self._levels).sum(0))

    def training_forward(self, x: torch.Tensor, return_entropies: bool = False, use_hard_decisions: bool = False):
        """All leaves, each weighed by the decisions on the way to it. With return_entropies also each node's mean
        entropy (nodes,)."""
        tokens, record = self._tokens(x), self.usage_mode != "none"
        if record and self._levels > 0:
            with torch.no_grad():
                self.node_usage[0] += tokens.shape[0]
        mixture, right = self._mix(self.decisions(tokens), use_hard_decisions or self.train_hardened, record)
        if record:
            self._count(self.leaf_usage, mixture, 0)
            self._count_reached(right)
        y = self._mixed(tokens, mixture).reshape(*x.shape[:-1], self.output_width)
        return (y, _entropies(right)) if return_entropies else y

    def _mixed(self, tokens: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        logits = (tokens @ self.w1s.transpose(0, 1).flatten(1)).unflatten(1, self.b1s.shape) + self.b1s
        activations = self.leaf_dropout(self.activation(logits)) * mixture.unsqueeze(2)
        return activations.flatten(1) @ self.w2s.flatten(0, 1) + mixture @ self.b2s

    def get_node_param_group(self) -> dict:
        """For optimizers that look at how much nodes have been used."""
        return {"params": [self.node_weights, self.node_biases], "usage": self.node_usage}

    def get_leaf_param_group(self) -> dict:
        """Likewise leaves."""
        return {"params": [self.w1s, self.b1s, self.w2s, self.b2s], "usage": self.leaf_usage}

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        depth, errors = state_dict.get(f"{prefix}depth"), args[-1] if args else kwargs["error_msgs"]
        reached = state_dict.get(f"{prefix}f")
        if reached is not None and "f" not in self._parameters:
            self.f = nn.Parameter(torch.zeros(self.n_leaves, device=self.w1s.device, dtype=self.w1s.dtype), requires_grad=False)
        known = isinstance(depth, torch.Tensor) and depth.numel() == 1 and depth.device.type != "meta"
        if known and int(depth) != self._levels:
            errors.append(f"{prefix}depth is {int(depth)}, where this layer's is {self._levels}")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _apply(self, *args, **kwargs):
        super()._apply(*args, **kwargs)
        depth = self._parameters.get("depth")
        if depth is not None and not depth.is_inference():
            depth.data.fill_(self._levels)  # to_empty() makes memory of any content
        return self

    def extra_repr(self) -> str:
        return (f"depth {self._levels}, {self.input_width} -> {self.leaf_width} -> {self.output_width}, "
                f"routing {self.routing}{'' if self.eval_b2s else ', evaluated without b2s'}{self._stored_repr()}")


class MasterLeafFFF(LeafFFF):
    """A LeafFFF and a small dense layer that every token takes (arXiv 2405.16836): s * tree + (1 - s) * master leaf,
    where s is sigmoid(k), by one call of the kernels. Its state_dict is that of the authors' module: magic_w1,
    magic_b1, magic_w2, magic_b2, k.

    master_width    of the master leaf's hidden layer; other arguments as LeafFFF's. With a usage_mode there is `f`, too
    """

    _master = ("magic_w1", "magic_b1", "magic_w2", "magic_b2", "k")

    def __init__(self, *args, master_width: int = 8, **options):
        super().__init__(*args, **options)
        if master_width < 1:
            raise ValueError(f"master_width {master_width}")
        kind = {"device": self.w1s.device, "dtype": self.w1s.dtype}
        into, out = 1 / math.sqrt(self.input_width), 1 / math.sqrt(self.leaf_width)
        self.magic_w1 = nn.Parameter(torch.empty(1, self.input_width, master_width, **kind).uniform_(-into, into))
        self.magic_b1 = nn.Parameter(torch.empty(1, master_width, **kind).uniform_(-into, into))
        self.magic_w2 = nn.Parameter(torch.empty(1, master_width, self.output_width, **kind).uniform_(-out, out))
        self.magic_b2 = nn.Parameter(torch.empty(1, self.output_width, **kind).uniform_(-out, out))
        self.k = nn.Parameter(torch.tensor(0.5, **kind))
        if self.usage_mode != "none":
            self.f = nn.Parameter(torch.zeros(self.n_leaves, **kind), requires_grad=False)

    def _parts_by(self, get: Callable) -> tuple[list, list]:
        weights, numbers = self._leaf_weights(get), self._numbers()
        w1, b1, w2, b2, k = map(get, self._master)
        weights[7], numbers[6] = k, _forest.SIGMOID
        tree = _forest.given(weights, numbers)
        master = _forest.given([None, None, w1, b1, w2, b2, None, k],
                               [0, 1, self._number, 0, 0, self.magic_w1.shape[2], _forest.ONE_MINUS_SIGMOID])
        return tree[0] + master[0], tree[1] + master[1]

    def _mixed(self, tokens: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
        hidden = self.leaf_dropout(self.activation(tokens @ self.magic_w1[0] + self.magic_b1[0]))
        share, y = torch.sigmoid(self.k), super()._mixed(tokens, mixture)
        return share * y + (1 - share) * (hidden @ self.magic_w2[0] + self.magic_b2[0].to(y.dtype))


def _entropies(right: torch.Tensor) -> torch.Tensor:
    """Mean entropy of each decision, kept finite as the package does."""
    right, left = right.clamp(1e-6, 1 - 1e-6), (1 - right).clamp(1e-6, 1 - 1e-6)
    return (-right * right.log() - left * left.log()).mean(0)


def balance_loss(layer: LeafFFF, x: torch.Tensor) -> torch.Tensor:
    """How unevenly tokens use the leaves, as arXiv 2405.16836 has it: leaves * sum over leaves of (mean weight of the
    leaf in the soft mixture) * (share of tokens whose hard decisions reach it). It is 1 where both are even and at
    most the number of leaves, and has gradients by the mean weights. No region leaks."""
    right = layer.decisions(x)
    with torch.no_grad():
        hard = _mixture((right >= 0.5).to(right.dtype), layer._levels).mean(0)
    return layer.n_leaves * (_mixture(right, layer._levels).mean(0) * hard).sum()


def _mixture(right: torch.Tensor, levels: int) -> torch.Tensor:
    mixture = right.new_ones(right.shape[0], 1)
    for level in range(levels):
        of_level = right[:, 2 ** level - 1:2 ** (level + 1) - 1]
        mixture = mixture.repeat_interleave(2, 1) * torch.stack((1 - of_level, of_level), 2).flatten(1)
    return mixture


class Forest(_Parts):
    """The sum of several fast feedforward layers of the same widths: FFF, NodeMajorFFF, LeafFFF, MasterLeafFFF, of
    any depths. In evaluation mode one call of the kernels; in training mode the sum of what the parts compute.

    output_bias     True: a parameter of that name, zeros at first, is added, too
    """

    def __init__(self, parts: Iterable[Union[_Layer, LeafFFF]], *, output_bias: bool = False):
        super().__init__()
        modules = list(parts)
        if not modules:
            raise ValueError("a forest has at least one part")
        for index, part in enumerate(modules):
            if not isinstance(part, (_Layer, LeafFFF)):
                raise TypeError(f"part {index} is a {type(part).__name__}, and none of fff.torch's layers "
                                "(from_module() makes them)")
            if isinstance(part, NodeMajorFFF) and part.unsqueeze:
                raise ValueError(f"part {index}, a {type(part).__name__}, has results of (..., 1, output width)")
            widths, first = (part.input_width, part.output_width), (modules[0].input_width, modules[0].output_width)
            if widths != first:
                raise ValueError(f"part {index} is {widths[0]} -> {widths[1]}, where part 0 is {first[0]} -> "
                                 f"{first[1]}")
        self.input_width, self.output_width = modules[0].input_width, modules[0].output_width
        self.parts = nn.ModuleList(modules)
        self._listed = ()  # the short way in native/modules.h asks the parts
        self.register_parameter("output_bias", None)
        if output_bias:
            like = modules[0]._probed()
            self.output_bias = nn.Parameter(torch.zeros(self.output_width, device=like.device, dtype=like.dtype))

    def _bias(self) -> Optional[torch.Tensor]:
        return self.output_bias

    def _given(self) -> Optional[tuple[list, list]]:
        weights, plan = [], []
        for part in self.parts:
            given = part._given()
            if given is None:
                return None
            weights += given[0]
            plan += given[1]
        return weights, plan

    def _evaluates(self) -> bool:
        return not any(part.training for part in self.parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., input width) -> (..., output width)."""
        return self._sum(part(x) for part in self.parts) if self.training else self.eval_forward(x)

    def _without_kernels(self, x: torch.Tensor) -> torch.Tensor:
        return self._sum(part(x) for part in self.parts)

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        return self._sum(part.dense(x) for part in self.parts)

    def _sum(self, outputs) -> torch.Tensor:
        y = sum(outputs)
        return y if self.output_bias is None else y + self.output_bias.to(y.dtype)

    def extra_repr(self) -> str:
        return f"{self.input_width} -> {self.output_width}{self._stored_repr()}"


if _operator.native is not None:
    _operator.native.know(nn.Linear, vars(nn.modules.module), FFF, NodeMajorFFF, BenchmarkFFF, LeafFFF, MasterLeafFFF,
                          Forest)
