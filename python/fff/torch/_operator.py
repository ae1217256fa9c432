"""torch.ops.fff.forward, route, forest, forest_route and train: compiled, or in Python where that cannot be; and what both share:
shapes for tracing, and gradients.

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

    forest(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False) -> y
    forest.out(the same, *, out) -> ()
    forest_route(the same) -> (nodes, logits), both (..., path length)

of a layer of several parts. `plan` has eight numbers a part: depth, trees, activation, routing, node_major, leaf width (0: path sums),
what `factor` is (0: the factor, 1: its sigmoid is, 2: 1 minus that), and a bit for each weight that `weights` has of the part, the
lowest one for the first of these: of path sums input_weight, bias, two without, output_weight, one without, thresholds, factor; of leaves
node_weights, node_biases, w1s, b1s, w2s, b2s, thresholds, factor.

    train(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False, thresholds=None)
                                                                                                           -> (y, nodes, logits)
    backward(grad, the same tensors, nodes, logits, the same numbers, wanted=15) -> gradients of x, input_weight, bias, output_weight
    backward_rows(likewise) -> that of x; rows (int32); gradients of these rows: (rows, input width), (rows,), (rows, output width)

for training: nothing is packed, the parameters are read where they lie, all float32. `wanted` has a bit a gradient, 1, 2, 4, 8; one that is
not wanted is empty. fff::train has derivatives by y; the others have none.

x and the weights are all float32, all bfloat16 or all float16; where store_input is not 0, x may be any of them. On the CPU.
Anything else is a TypeError, ValueError or (CUDA, sparse) NotImplementedError.
"""

from __future__ import annotations

import os
import warnings
from typing import Callable, Optional

import torch

import fff

from . import _autocast, _autograd, _build, _forest, _training

_ARGUMENTS = ("(Tensor x, Tensor input_weight, Tensor? bias, Tensor output_weight, int depth, int trees=1, int activation=0, "
              "int routing=0, bool node_major=False, int store_input=0, int store_output=0, bool exact_routes=False")

_FOREST = ("(Tensor x, Tensor[] weights, int[] plan, Tensor? output_bias=None, int store_input=0, int store_output=0, "
           "bool exact_routes=False")

_PLAN = "int depth, int trees=1, int activation=0, int routing=0, bool node_major=False"
_TRAIN = (f"(Tensor x, Tensor input_weight, Tensor? bias, Tensor output_weight, {_PLAN}, Tensor? thresholds=None) -> "
          "(Tensor, Tensor, Tensor)")
_BACKWARD = ("(Tensor grad, Tensor x, Tensor input_weight, Tensor? bias, Tensor output_weight, Tensor nodes, Tensor logits, "
             f"{_PLAN}, int wanted=15) -> (Tensor, Tensor, Tensor, Tensor")

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
    from . import _python, _python_training

    _library = torch.library.Library("fff", "DEF")
    _library.define("forward" + _ARGUMENTS + ") -> Tensor")
    _library.define("forward.out" + _ARGUMENTS + ", *, Tensor(a!) out) -> ()")
    _library.define("route" + _ARGUMENTS + ") -> (Tensor, Tensor)")
    _library.define("forest" + _FOREST + ") -> Tensor")
    _library.define("forest.out" + _FOREST + ", *, Tensor(a!) out) -> ()")
    _library.define("forest_route" + _FOREST + ") -> (Tensor, Tensor)")
    _library.define("train" + _TRAIN)
    _library.define("backward" + _BACKWARD + ")")
    _library.define("backward_rows" + _BACKWARD + ", Tensor)")
    for _function in (_python.forward, _python.route, _python.forest, _python.forest_route, _python_training.train,
                      _python_training.backward, _python_training.backward_rows):
        _library.impl(_function.__name__, _function, "CPU")
    _library.impl("forward.out", _python.forward_out, "CPU")
    _library.impl("forest.out", _python.forest_out, "CPU")
else:
    _library = torch.library.Library("fff", "IMPL")

call: Optional[Callable] = native.call if native else None
release: Callable = native.release if native else _python.release
packed: Callable = native.packed if native else _python.packed
watch: Callable = native.watch if native else _python.watch


_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def _check(x: torch.Tensor, input_weight: torch.Tensor, store_input: int) -> None:
    _check_tokens(x, input_weight.dtype, input_weight.shape[1], store_input)


def _check_tokens(x: torch.Tensor, dtype: torch.dtype, width: int, store_input: int) -> None:
    if x.dtype not in _TYPES or dtype not in _TYPES or (x.dtype != dtype and store_input == 0):
        raise TypeError(f"x is {x.dtype} and the weights {dtype}, where fff's kernels take torch.float32, torch.bfloat16 "
                        "and torch.float16, the same for both (the modules' method dense() takes any floating type)")
    if x.dim() < 1 or x.shape[-1] != width:
        raise ValueError(f"x has shape {tuple(x.shape)}, not (..., {width})")


def _fake_forward(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
                  store_input=0, store_output=0, exact_routes=False):
    _check(x, input_weight, store_input)
    return x.new_empty([*x.shape[:-1], output_weight.shape[1 if node_major else 0]])


def _fake_forward_out(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
                      store_input=0, store_output=0, exact_routes=False, *, out):
    _check_out(_fake_forward(x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, store_input), out)


def _check_out(y: torch.Tensor, out: torch.Tensor) -> None:
    if out.dtype != y.dtype:
        raise TypeError(f"out has dtype {out.dtype}, where the results are {y.dtype}")
    if out.shape != y.shape:
        raise ValueError(f"out has shape {tuple(out.shape)}, not {tuple(y.shape)}")


def _fake_route(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
                store_input=0, store_output=0, exact_routes=False):
    _check(x, input_weight, store_input)
    shape = [*x.shape[:-1], trees, depth + 1]
    return x.new_empty(shape, dtype=torch.int32), x.new_empty(shape, dtype=torch.float32)


def _fake_forest(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False):
    first = _forest.parts(weights, plan)[0]
    _check_tokens(x, first.outputs.dtype, first.input_width, store_input)
    return x.new_empty([*x.shape[:-1], first.output_width])


def _fake_forest_out(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False, *, out):
    _check_out(_fake_forest(x, weights, plan, output_bias, store_input), out)


def _fake_forest_route(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False):
    first = _forest.parts(weights, plan)[0]
    _check_tokens(x, first.outputs.dtype, first.input_width, store_input)
    shape = [*x.shape[:-1], _forest.path_length(plan)]
    return x.new_empty(shape, dtype=torch.int32), x.new_empty(shape, dtype=torch.float32)


def _fake_train(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False, thresholds=None):
    y = _fake_forward(x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major)
    return (y, *_fake_route(x, input_weight, bias, output_weight, depth, trees))


def _fake_backward(grad, x, input_weight, bias, output_weight, nodes, logits, depth, trees=1, activation=0, routing=0,
                   node_major=False, wanted=15):
    neurons, into = input_weight.shape
    out = output_weight.shape[1 if node_major else 0]
    wants_x, wants_input, wants_bias, wants_output = (bool(wanted & bit) for bit in (1, 2, 4, 8))
    of_output = x.new_empty([neurons if wants_output else 0, out])
    return (x.new_empty(x.shape if wants_x else [0]), x.new_empty([neurons if wants_input else 0, into]),
            x.new_empty([neurons if wants_bias and bias is not None else 0]), of_output if node_major else of_output.t())


def _fake_backward_rows(grad, x, input_weight, bias, output_weight, nodes, logits, depth, trees=1, activation=0, routing=0,
                        node_major=False, wanted=15):
    raise NotImplementedError("fff::backward_rows returns as many rows as tokens meet neurons, which only running it tells")


def _refuse(x, input_weight, bias, output_weight, *plan, out=None, **more):
    """In place of PyTorch's dispatcher, which fills a screen."""
    _refuse_named(("x", x), ("input_weight", input_weight), ("bias", bias), ("output_weight", output_weight), ("out", out))


def _refuse_forest(x, weights, plan, output_bias=None, *stored, out=None, **more):
    _refuse_named(("x", x), ("output_bias", output_bias), ("out", out),
                  *((f"weight {i}", weight) for i, weight in enumerate(weights)))


def _refuse_named(*named):
    kinds = [f"{name} is {'quantised' if tensor.is_quantized else tensor.layout} on {tensor.device}" for name, tensor in named
             if tensor is not None and (tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_quantized)]
    raise NotImplementedError(f"{', '.join(kinds)}, where fff's kernels take dense tensors on the CPU alone (the modules' method "
                              "dense() takes dense tensors on any device)")


for _kind in ("CUDA", "HIP", "MPS", "XPU", "HPU", "XLA", "PrivateUse1", "SparseCPU", "SparseCUDA", "SparseCsrCPU",
              "SparseCsrCUDA", "QuantizedCPU", "QuantizedCUDA", "MkldnnCPU"):
    for _name in ("forward", "forward.out", "route", "train"):
        _library.impl(_name, _refuse, _kind)
    for _name in ("forest", "forest.out", "forest_route"):
        _library.impl(_name, _refuse_forest, _kind)

_FAKES = {"forward": _fake_forward, "route": _fake_route, "forest": _fake_forest, "forest_route": _fake_forest_route,
          "train": _fake_train, "backward": _fake_backward, "backward_rows": _fake_backward_rows}
for _name, _fake in _FAKES.items():
    if hasattr(torch.library, "register_fake"):
        torch.library.register_fake(f"fff::{_name}", _fake)
    else:
        _library.impl(_name, _fake, "Meta")
_library.impl("forward.out", _fake_forward_out, "Meta")
_library.impl("forest.out", _fake_forest_out, "Meta")
_autocast.register(_library)
_autograd.register(_library, _FAKES)
_training.register(_library, _FAKES)

forward = torch.ops.fff.forward.default
forward_out = torch.ops.fff.forward.out
route = torch.ops.fff.route.default
forest = torch.ops.fff.forest.default
forest_out = torch.ops.fff.forest.out
forest_route = torch.ops.fff.forest_route.default
train = torch.ops.fff.train.default
