"""The operators on the CPU in Python, by the NumPy package: the same bits, some 20 us a call more, one thread."""

from __future__ import annotations

import hashlib
import threading
import weakref
from typing import Callable, Optional

import numpy as np
import torch

import fff

from . import _forest

_lock = threading.Lock()
_packed: dict = {}
_BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # as fff.Layer knows it


def on_cpu(tensor: torch.Tensor, name: str) -> torch.Tensor:
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise NotImplementedError(f"{name} is on {tensor.device} with layout {tensor.layout}, where fff's kernels take dense tensors on "
                        "the CPU alone")
    return tensor.detach()


def _tensor(tensor: torch.Tensor, name: str) -> torch.Tensor:
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(f"{name} has dtype {tensor.dtype}, where fff's kernels take torch.float32, torch.bfloat16 and torch.float16 (the "
                        "modules' method dense() takes any floating type)")
    return on_cpu(tensor, name)


_WATCHES = COUNT, SAMPLE, ALL = range(3)  # as in native/watch.h
_watch = SAMPLE
_LEAST, _A_TOKEN, _MOST, _FAR = 32, 4, 512, 1024


def watch(how: int) -> None:
    """PyTorch's count of writes alone; and a sample; and all elements."""
    global _watch
    if how not in _WATCHES:
        raise ValueError("watch(0, 1 or 2)")
    _watch = how


def _array(weight: torch.Tensor) -> np.ndarray:
    """Its memory, as fff.Layer takes it."""
    if weight.dtype == torch.bfloat16:
        return weight.view(torch.int16).numpy().view(_BFLOAT16)
    return weight.numpy()


def _bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.int32 if array.itemsize == 4 else np.int16)


class _Weight:
    """What is known of a weight when it is packed; native/watch.h says why."""

    def __init__(self, weight: torch.Tensor):
        self.place = _place(weight)
        array = np.atleast_1d(_array(weight))
        bits = _bits(array.reshape(-1))
        count = min(bits.size, _MOST)
        at = np.array([(i * 0x9E3779B97F4A7C15 % 2 ** 64) * bits.size >> 64 for i in range(count)], np.int64)
        for i in np.flatnonzero(bits[at] << 1 == 0):  # most ways to rewrite a weight leave a zero as it is
            window = np.flatnonzero(bits[at[i]:at[i] + _FAR] << 1)
            at[i] += window[0] if window.size else 0
        self.at = np.unravel_index(at, array.shape) if count else (at,) * array.ndim
        self.sample = bits[at]
        self.hash = _hash(array) if _watch == ALL else None

    def same(self, weight: torch.Tensor, tokens: int) -> bool:
        if _place(weight) != self.place:
            return False
        array = np.atleast_1d(_array(weight))
        if _watch == COUNT:
            return True
        if _watch == ALL:
            return self.hash == _hash(array)
        count = max(_LEAST, _A_TOKEN * tokens)
        return bool((_bits(array[tuple(part[:count] for part in self.at)]) == self.sample[:count]).all())


def _place(weight: torch.Tensor) -> tuple:
    return weight.data_ptr(), weight.dtype, weight.shape, weight.stride(), 0 if weight.is_inference() else weight._version


def _hash(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array)).digest()


def _store(store_input: int, store_output: int) -> Optional[str]:
    """As fff.Layer is told."""
    if not all(0 <= choice <= len(fff.STORES) for choice in (store_input, store_output)):
        raise ValueError(f"store_input {store_input} or store_output {store_output}")
    if store_input == store_output == 0:
        return None
    return f"{fff.STORES[store_input - 1]}+{fff.STORES[store_output - 1]}"


def _layer(x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, store_input, store_output,
           exact_routes) -> fff.Layer:
    """The layer packed from these weights, which have been checked to go with the tokens."""
    tokens = _count(x)
    named = [("input_weight", input_weight), ("bias", bias), ("output_weight", output_weight)]
    held = [weight for _, weight in named if weight is not None]
    weights = [_tensor(weight, name) for name, weight in named if weight is not None]
    for name, weight in [*named[1:], ("x", _tensor(x, "x"))]:
        if weight is not None and weight.dtype != input_weight.dtype and (name != "x" or store_input == 0):
            raise TypeError(f"{name} has dtype {weight.dtype}, where the weights are {input_weight.dtype} (the modules' method dense() "
                            "takes any floating type)")
    key = (*map(id, held), depth, trees, activation, routing, node_major, store_input, store_output, exact_routes)

    def make() -> fff.Layer:
        if not 0 <= activation < len(fff.ACTIVATIONS) or not 0 <= routing < len(fff.ROUTINGS):
            raise ValueError(f"activation {activation} or routing {routing}")
        arrays = [_array(weight) for weight in weights]
        return fff.Layer(arrays[0], arrays[-1] if node_major else arrays[-1].T, depth=depth, trees=trees,
                         biases=None if bias is None else arrays[1].copy(), activation=fff.ACTIVATIONS[activation],
                         routing=fff.ROUTINGS[routing],
                         store=_store(store_input, store_output), exact_routes=exact_routes)
    return _cached(key, held, weights, tokens, make)


def _cached(key: tuple, held: list, weights: list, tokens: int, make: Callable[[], fff.Layer]) -> fff.Layer:
    """The layer of that key, packed anew if `weights`, what `held` are without gradients, have changed."""
    with _lock:
        entry = _packed.get(key)
    if (entry and all(ref() is weight for ref, weight in zip(entry[0], held)) and
            all(known.same(weight, tokens) for known, weight in zip(entry[1], weights))):
        return entry[2]
    known = [_Weight(weight) for weight in weights]
    layer = make()
    with _lock:
        for stale in [key for key, entry in _packed.items() if any(ref() is None for ref in entry[0])]:
            del _packed[stale]
        _packed[key] = ([weakref.ref(weight) for weight in held], known, layer)
    return layer


def _part(part: _forest.Part, options: dict):
    """As fff.Layer.forest() takes it."""
    if not 0 <= part.activation < len(fff.ACTIVATIONS) or not 0 <= part.routing < len(fff.ROUTINGS):
        raise ValueError(f"activation {part.activation} or routing {part.routing}")
    if part.factor_is not in (_forest.PLAIN, _forest.SIGMOID, _forest.ONE_MINUS_SIGMOID):
        raise ValueError(f"factor kind {part.factor_is}")
    if part.leaf_width and part.leaves.shape[2] != part.leaf_width:
        raise ValueError(f"w1s has shape {tuple(part.leaves.shape)}, where leaves are {part.leaf_width} wide")

    def array(weight):
        return None if weight is None else _array(weight.detach())

    if part.factor is not None and part.factor.numel() != 1:
        raise ValueError(f"factor has shape {tuple(part.factor.shape)}, and is one number")
    scale = None if part.factor is None else part._replace(factor=part.factor.detach().float()).scale()
    options = {**options, "activation": fff.ACTIVATIONS[part.activation], "routing": fff.ROUTINGS[part.routing],
               "factor": None if scale is None else scale.numpy(),
               "thresholds": None if part.thresholds is None else part.thresholds.detach().float().numpy()}
    if part.leaf_width:
        return fff.Leaves(*map(array, part[:6]), depth=part.depth, trees=part.trees, **options)
    outputs, biases = array(part.outputs), array(part.node_biases)
    return fff.Trees(array(part.nodes), outputs if part.node_major else outputs.T, depth=part.depth, trees=part.trees,
                     biases=None if biases is None else biases.reshape(-1), **options)


def _forest_layer(x, weights, plan, output_bias, store_input, store_output, exact_routes) -> fff.Layer:
    """As _layer()."""
    all_parts = _forest.parts(weights, plan)
    names = _forest.Part._fields[:_forest.SLOTS]
    named = [(name, weight) for part in all_parts for name, weight in zip(names, part) if weight is not None]
    named += [] if output_bias is None else [("output_bias", output_bias)]
    held = [weight for _, weight in named]
    plain = [_tensor(weight, name) for name, weight in named]
    dtype = all_parts[0].outputs.dtype
    for name, weight in [*named, ("x", _tensor(x, "x"))]:
        if name not in ("thresholds", "factor") and weight.dtype != dtype and (name != "x" or store_input == 0):
            raise TypeError(f"{name} has dtype {weight.dtype}, where the weights are {dtype} (the modules' method dense() takes any "
                            "floating type)")
    key = (len(held), output_bias is None, *map(id, held), *plan, store_input, store_output, exact_routes)

    def make() -> fff.Layer:
        options = {"store": _store(store_input, store_output), "exact_routes": exact_routes}
        return fff.Layer.forest([_part(part, options) for part in all_parts],
                                output_bias=None if output_bias is None else _array(output_bias.detach()))
    return _cached(key, held, plain, _count(x), make)


def _count(x: torch.Tensor) -> int:
    return x.numel() // max(x.shape[-1], 1) if x.dim() else 0


def _tokens(x: torch.Tensor, layer: fff.Layer):
    x = _tensor(x, "x")
    if x.dim() < 1 or x.shape[-1] != layer.input_width:
        raise ValueError(f"x has shape {tuple(x.shape)}, not (..., {layer.input_width})")
    return x.float().contiguous().numpy().reshape(-1, layer.input_width)


def forward(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
            store_input=0, store_output=0, exact_routes=False):
    layer = _layer(x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, store_input, store_output,
                   exact_routes)
    y = torch.empty([*x.shape[:-1], layer.output_width], dtype=torch.float32, device="cpu")
    layer(_tokens(x, layer), out=y.numpy().reshape(-1, layer.output_width))
    return y.to(x.dtype)


def forward_out(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
                store_input=0, store_output=0, exact_routes=False, *, out):
    y = forward(x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, store_input, store_output,
                exact_routes)
    _write(y, x, out)


def _write(y: torch.Tensor, x: torch.Tensor, out: torch.Tensor) -> None:
    """The results into `out`, which is checked."""
    _tensor(out, "out")
    if out.dtype != y.dtype:
        raise TypeError(f"out has dtype {out.dtype}, where the results are {y.dtype}")
    if out.shape != y.shape:
        raise ValueError(f"out has shape {list(out.shape)}, not {list(y.shape)}")
    if not (out.is_contiguous() or (out.dim() == 2 and out.stride(1) == 1 and out.stride(0) >= out.shape[1])):
        raise ValueError(f"out has strides {list(out.stride())}, where its rows must be contiguous, and, but for 2 "
                         "dimensions, follow one another")
    if np.shares_memory(_array(out.detach()), _array(x.detach())):
        raise ValueError("out shares memory with x")
    out.copy_(y)


def route(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
          store_input=0, store_output=0, exact_routes=False):
    layer = _layer(x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, store_input, store_output,
                   exact_routes)
    nodes, logits = layer.route(_tokens(x, layer))
    shape = [*x.shape[:-1], trees, depth + 1]
    return torch.from_numpy(nodes.astype("int32")).reshape(shape), torch.from_numpy(logits).reshape(shape)


def forest(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False):
    layer = _forest_layer(x, weights, plan, output_bias, store_input, store_output, exact_routes)
    y = torch.empty([*x.shape[:-1], layer.output_width], dtype=torch.float32, device="cpu")
    layer(_tokens(x, layer), out=y.numpy().reshape(-1, layer.output_width))
    return y.to(x.dtype)


def forest_out(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False, *, out):
    _write(forest(x, weights, plan, output_bias, store_input, store_output, exact_routes), x, out)


def forest_route(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False):
    layer = _forest_layer(x, weights, plan, output_bias, store_input, store_output, exact_routes)
    nodes, logits = layer.route(_tokens(x, layer))
    shape = [*x.shape[:-1], layer.path_length]
    return torch.from_numpy(nodes.astype("int32")).reshape(shape), torch.from_numpy(logits).reshape(shape)


def release(weight: Optional[torch.Tensor]) -> None:
    with _lock:
        for key, entry in list(_packed.items()):
            if weight is None or any(ref() is None or ref() is weight for ref in entry[0]):
                del _packed[key]


def packed() -> tuple[int, int]:
    with _lock:
        return len(_packed), sum(entry[2].memory for entry in _packed.values())
