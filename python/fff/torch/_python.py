"""The operators on the CPU in Python, by the NumPy package: the same bits, some 20 us a call more, one thread."""

from __future__ import annotations

import hashlib
import threading
import weakref
from typing import Optional

import numpy as np
import torch

import fff

_lock = threading.Lock()
_packed: dict = {}


def _tensor(tensor: torch.Tensor, name: str) -> torch.Tensor:
    if tensor.dtype != torch.float32:
        raise TypeError(f"{name} has dtype {tensor.dtype}, where fff's kernels take torch.float32 alone (the modules' method "
                        "dense() takes any floating type)")
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise NotImplementedError(f"{name} is on {tensor.device} with layout {tensor.layout}, where fff's kernels take dense tensors on "
                        "the CPU alone")
    return tensor.detach()


_WATCHES = COUNT, SAMPLE, ALL = range(3)  # as in watch.h
_watch = SAMPLE
_LEAST, _A_TOKEN, _MOST = 32, 8, 1024


def watch(how: int) -> None:
    """PyTorch's count of writes alone; and a sample; and all elements."""
    global _watch
    if how not in _WATCHES:
        raise ValueError("watch(0, 1 or 2)")
    _watch = how


class _Weight:
    """What is known of a weight when it is packed; watch.h says why."""

    def __init__(self, weight: torch.Tensor):
        self.place = _place(weight)
        array = weight.numpy()
        bits = array.reshape(-1).view(np.int32)
        count = min(bits.size, _MOST)
        at = np.array([(i * 0x9E3779B97F4A7C15 % 2 ** 64) * bits.size >> 64 for i in range(count)], np.int64)
        for i in np.flatnonzero(bits[at] << 1 == 0):  # most ways to rewrite a weight leave a zero as it is
            window = np.flatnonzero(bits[at[i]:at[i] + _MOST] << 1)
            at[i] += window[0] if window.size else 0
        self.at = np.unravel_index(at, array.shape)
        self.sample = bits[at]
        self.hash = _hash(array) if _watch == ALL else None

    def same(self, weight: torch.Tensor, tokens: int) -> bool:
        if _place(weight) != self.place:
            return False
        array = weight.numpy()
        if _watch == COUNT:
            return True
        if _watch == ALL:
            return self.hash == _hash(array)
        count = max(_LEAST, _A_TOKEN * tokens)
        return bool((array[tuple(part[:count] for part in self.at)].view(np.int32) == self.sample[:count]).all())


def _place(weight: torch.Tensor) -> tuple:
    return weight.data_ptr(), weight.shape, weight.stride(), 0 if weight.is_inference() else weight._version


def _hash(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array)).digest()


def _layer(tokens, input_weight, bias, output_weight, depth, trees, activation, routing, node_major) -> fff.Layer:
    named = [("input_weight", input_weight), ("bias", bias), ("output_weight", output_weight)]
    held = [weight for _, weight in named if weight is not None]
    weights = [_tensor(weight, name) for name, weight in named if weight is not None]
    key = (*map(id, held), depth, trees, activation, routing, node_major)
    with _lock:
        entry = _packed.get(key)
    if (entry and all(ref() is weight for ref, weight in zip(entry[0], held)) and
            all(known.same(weight, tokens) for known, weight in zip(entry[1], weights))):
        return entry[2]
    if not 0 <= activation < len(fff.ACTIVATIONS) or not 0 <= routing < len(fff.ROUTINGS):
        raise ValueError(f"activation {activation} or routing {routing}")
    arrays = [weight.numpy() for weight in weights]
    known = [_Weight(weight) for weight in weights]
    layer = fff.Layer(arrays[0], arrays[-1] if node_major else arrays[-1].T, depth=depth, trees=trees,
                      biases=None if bias is None else arrays[1].copy(), activation=fff.ACTIVATIONS[activation],
                      routing=fff.ROUTINGS[routing])
    with _lock:
        for stale in [key for key, entry in _packed.items() if any(ref() is None for ref in entry[0])]:
            del _packed[stale]
        _packed[key] = ([weakref.ref(weight) for weight in held], known, layer)
    return layer


def _count(x: torch.Tensor) -> int:
    return x.numel() // max(x.shape[-1], 1) if x.dim() else 0


def _tokens(x: torch.Tensor, layer: fff.Layer):
    x = _tensor(x, "x")
    if x.dim() < 1 or x.shape[-1] != layer.input_width:
        raise ValueError(f"x has shape {tuple(x.shape)}, not (..., {layer.input_width})")
    return x.contiguous().numpy().reshape(-1, layer.input_width)


def forward(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False):
    layer = _layer(_count(x), input_weight, bias, output_weight, depth, trees, activation, routing, node_major)
    y = torch.empty([*x.shape[:-1], layer.output_width])
    layer(_tokens(x, layer), out=y.numpy().reshape(-1, layer.output_width))
    return y


def route(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False):
    layer = _layer(_count(x), input_weight, bias, output_weight, depth, trees, activation, routing, node_major)
    nodes, logits = layer.route(_tokens(x, layer))
    shape = [*x.shape[:-1], trees, depth + 1]
    return torch.from_numpy(nodes.astype("int32")).reshape(shape), torch.from_numpy(logits).reshape(shape)


def release(weight: Optional[torch.Tensor]) -> None:
    with _lock:
        for key, entry in list(_packed.items()):
            if weight is None or any(ref() is None or ref() is weight for ref in entry[0]):
                del _packed[key]


def packed() -> tuple[int, int]:
    with _lock:
        return len(_packed), sum(entry[2].memory for entry in _packed.values())
