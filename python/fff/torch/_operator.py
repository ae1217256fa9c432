"""torch.ops.fff.forward and torch.ops.fff.route: compiled, or in Python where that cannot be; and what both share: shapes
for tracing, and gradients.

    forward(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
            store_input=0, store_output=0, exact_routes=False) -> y
    forward.out(the same, *, out) -> ()
    route(the same) -> (nodes, logits)

    x              (..., input width)
    input_weight   (trees * nodes, input width); bias (trees * nodes,) or None
    output_weight  (output width, trees * nodes), or (trees * nodes, output width) if node_major
    activation     0 GELU, 1 GELU by tanh, 2 ReLU, 3 squared ReLU, 4 SiLU, 5 identity
    routing        0: right if logit > 0; 1: right if logit >= 0
    store_input    what is stored of input rows: 0 as the weight is, 1 float32, 2 bfloat16, 3 float16, 4 int8; store_output likewise
    exact_routes   route by the weights as they are given
    out            what y would be, in memory of the caller's that x does not share; rows follow one another or, where
                   there are 2 dimensions, lie any stride apart
    y              (..., output width), of x's type; nodes (int32) and logits (float32), both (..., trees, depth + 1)

x and the weights are all float32, all bfloat16 or all float16; where store_input is not 0, x may be any of them. On the CPU.
Anything else is a TypeError, ValueError or (CUDA, sparse) NotImplementedError.
"""

from __future__ import annotations

import os
import warnings
from typing import Callable, Optional

import torch

import fff

from . import _autocast, _autograd, _build

_ARGUMENTS = ("(Tensor x, Tensor input_weight, Tensor? bias, Tensor output_weight, int depth, int trees=1, int activation=0, "
              "int routing=0, bool node_major=False, int store_input=0, int store_output=0, bool exact_routes=False")

native = None  # the compiled module
reason = ""  # why there is none
try:
    native = _build.load()
    native.open(fff._library._name)
except (ImportError, OSError, RuntimeError) as error:
    if native is not None:  # compiled, but the library does not fit: Python's operator would not either
        raise ImportError(str(error).split("\n", maxsplit=1)[0]) from error
    reason = str(error)
    if os.environ.get("FFF_TORCH_NATIVE") != "0":
        warnings.warn(f"fff.torch has no compiled operator, and uses the slower one in Python, whose results are the same: {reason}",
                      stacklevel=2)

if native is None:
    from . import _python

    _library = torch.library.Library("fff", "DEF")
    _library.define("forward" + _ARGUMENTS + ") -> Tensor")
    _library.define("forward.out" + _ARGUMENTS + ", *, Tensor(a!) out) -> ()")
    _library.define("route" + _ARGUMENTS + ") -> (Tensor, Tensor)")
    _library.impl("forward", _python.forward, "CPU")
    _library.impl("forward.out", _python.forward_out, "CPU")
    _library.impl("route", _python.route, "CPU")
else:
    _library = torch.library.Library("fff", "IMPL")

call: Optional[Callable] = native.call if native else None
release: Callable = native.release if native else _python.release
packed: Callable = native.packed if native else _python.packed
watch: Callable = native.watch if native else _python.watch


_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def _check(x: torch.Tensor, input_weight: torch.Tensor, store_input: int) -> None:
    if x.dtype not in _TYPES or input_weight.dtype not in _TYPES or (x.dtype != input_weight.dtype and store_input == 0):
        raise TypeError(f"x is {x.dtype} and the weights {input_weight.dtype}, where fff's kernels take torch.float32, torch.bfloat16 "
                        "and torch.float16, the same for both (the modules' method dense() takes any floating type)")
    if x.dim() < 1 or x.shape[-1] != input_weight.shape[1]:
        raise ValueError(f"x has shape {tuple(x.shape)}, not (..., {input_weight.shape[1]})")


def _fake_forward(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
                  store_input=0, store_output=0, exact_routes=False):
    _check(x, input_weight, store_input)
    return x.new_empty([*x.shape[:-1], output_weight.shape[1 if node_major else 0]])


def _fake_forward_out(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
                      store_input=0, store_output=0, exact_routes=False, *, out):
    y = _fake_forward(x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, store_input)
    if out.dtype != y.dtype:
        raise TypeError(f"out has dtype {out.dtype}, where the results are {y.dtype}")
    if out.shape != y.shape:
        raise ValueError(f"out has shape {tuple(out.shape)}, not {tuple(y.shape)}")


def _fake_route(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
                store_input=0, store_output=0, exact_routes=False):
    _check(x, input_weight, store_input)
    shape = [*x.shape[:-1], trees, depth + 1]
    return x.new_empty(shape, dtype=torch.int32), x.new_empty(shape, dtype=torch.float32)


def _refuse(x, input_weight, bias, output_weight, *plan, out=None, **more):
    """In place of PyTorch's dispatcher, which fills a screen."""
    named = (("x", x), ("input_weight", input_weight), ("bias", bias), ("output_weight", output_weight), ("out", out))
    kinds = [f"{name} is {'quantised' if tensor.is_quantized else tensor.layout} on {tensor.device}" for name, tensor in named
             if tensor is not None and (tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_quantized)]
    raise NotImplementedError(f"{', '.join(kinds)}, where fff's kernels take dense tensors on the CPU alone (the modules' method "
                              "dense() takes dense tensors on any device)")


for _kind in ("CUDA", "HIP", "MPS", "XPU", "HPU", "XLA", "PrivateUse1", "SparseCPU", "SparseCUDA", "SparseCsrCPU",
              "SparseCsrCUDA", "QuantizedCPU", "QuantizedCUDA", "MkldnnCPU"):
    for _name in ("forward", "forward.out", "route"):
        _library.impl(_name, _refuse, _kind)

if hasattr(torch.library, "register_fake"):
    torch.library.register_fake("fff::forward", _fake_forward)
    torch.library.register_fake("fff::route", _fake_route)
else:
    _library.impl("forward", _fake_forward, "Meta")
    _library.impl("route", _fake_route, "Meta")
_library.impl("forward.out", _fake_forward_out, "Meta")
_autocast.register(_library)
_autograd.register(_library, _fake_forward, _fake_route)

forward = torch.ops.fff.forward.default
forward_out = torch.ops.fff.forward.out
route = torch.ops.fff.route.default
