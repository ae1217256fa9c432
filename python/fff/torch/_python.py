"""The operators on the CPU in Python, by the NumPy package: the same bits, some 20 us a call more, one thread."""

from __future__ import annotations

import threading
import weakref
from typing import Optional

import torch

import fff

_lock = threading.Lock()
_packed: dict = {}


def _tensor(tensor: torch.Tensor, name: str) -> torch.Tensor:
    if tensor.dtype != torch.float32:
        raise TypeError(f"{name} has dtype {tensor.dtype}, where fff's kernels take float32 alone (the modules' method "
                        "dense() takes any)")
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise TypeError(f"{name} is on {tensor.device} with layout {tensor.layout}, where fff's kernels take dense tensors on "
                        "the CPU alone")
    return tensor.detach()


def _state(tensor: torch.Tensor) -> tuple:
    """What changes when the weights do; operator.cpp tells more."""
    sample = tensor[(0,) * tensor.dim()].item() if tensor.numel() else 0
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), tensor.shape, tensor.stride(), version, str(sample)  # as text: NaN is to equal itself


def _layer(input_weight, bias, output_weight, depth, trees, activation, routing, node_major) -> fff.Layer:
    weights = [weight for weight in (input_weight, bias, output_weight) if weight is not None]
    arrays = [_tensor(weight, name).numpy() for weight, name in zip(weights, ("weight", "weight or bias", "weight"))]
    key = (*map(id, weights), depth, trees, activation, routing, node_major)
    state = [_state(weight.detach()) for weight in weights]
    with _lock:
        entry = _packed.get(key)
        if entry and entry[1] == state and all(ref() is weight for ref, weight in zip(entry[0], weights)):
            return entry[2]
    if not 0 <= activation < len(fff.ACTIVATIONS) or not 0 <= routing < len(fff.ROUTINGS):
        raise ValueError(f"activation {activation} or routing {routing}")
    layer = fff.Layer(arrays[0], arrays[-1] if node_major else arrays[-1].T, depth=depth, trees=trees,
                      biases=None if bias is None else arrays[1].copy(), activation=fff.ACTIVATIONS[activation],
                      routing=fff.ROUTINGS[routing])
    with _lock:
        for stale in [key for key, entry in _packed.items() if any(ref() is None for ref in entry[0])]:
            del _packed[stale]
        _packed[key] = ([weakref.ref(weight) for weight in weights], state, layer)
    return layer


def _tokens(x: torch.Tensor, layer: fff.Layer):
    x = _tensor(x, "x")
    if x.dim() < 1 or x.shape[-1] != layer.input_width:
        raise ValueError(f"x has shape {tuple(x.shape)}, not (..., {layer.input_width})")
    return x.contiguous().numpy().reshape(-1, layer.input_width)


def forward(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False):
    layer = _layer(input_weight, bias, output_weight, depth, trees, activation, routing, node_major)
    y = torch.empty([*x.shape[:-1], layer.output_width])
    layer(_tokens(x, layer), out=y.numpy().reshape(-1, layer.output_width))
    return y


def route(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False):
    layer = _layer(input_weight, bias, output_weight, depth, trees, activation, routing, node_major)
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
