"""From the authors' live modules, known by their attributes and shapes: their packages are not imported."""

from __future__ import annotations

from typing import Optional

import torch
from torch import nn

from ._modules import FFF, BenchmarkFFF, _Layer


def _shape(module: nn.Module, name: str) -> Optional[tuple]:
    for part in name.split("."):
        module = getattr(module, part, None)  # type: ignore[assignment]
    return tuple(module.shape) if isinstance(module, torch.Tensor) else None


def _is_leaf_variant(module: nn.Module) -> bool:
    first, last = _shape(module, "w1s"), _shape(module, "w2s")
    return hasattr(module, "node_weights") and first is not None and len(first) == 3 and last is not None and len(last) == 3


def _is_path_sum(module: nn.Module) -> bool:
    sizes = [getattr(module, name, None) for name in ("input_width", "output_width", "depth", "parallel_size")]
    if not all(isinstance(size, int) for size in sizes) or not 0 <= sizes[2] <= 30:
        return False
    neurons = sizes[3] * (2 ** (sizes[2] + 1) - 1)
    return (_shape(module, "linear_in.weight") == (neurons, sizes[0]) and
            _shape(module, "linear_out.weight") == (sizes[1], neurons) and isinstance(getattr(module, "activation", None), nn.Module)
            and getattr(module.linear_out, "bias", None) is None)


def _is_benchmark(module: nn.Module) -> bool:
    depth, first, last = getattr(module, "depth", None), _shape(module, "w1s"), _shape(module, "w2s")
    return (isinstance(depth, int) and 0 <= depth <= 30 and first is not None and last is not None and
            len(first) == len(last) == 2 and first[0] == last[0] == 2 ** (depth + 1) - 1 and
            all(isinstance(module._parameters.get(name), nn.Parameter) for name in ("w1s", "w2s")))


def _is_fff(module: nn.Module) -> bool:
    return isinstance(module, _Layer) or _is_leaf_variant(module) or _is_path_sum(module) or _is_benchmark(module)


def from_module(module: nn.Module) -> nn.Module:
    """The FFF or BenchmarkFFF that does what the authors' module `module` does. It shares the module's parameters, and
    takes over its hooks and its training mode; one of fff.torch's is returned as it is.

    The leaf variant (package fastfeedforward) is a NotImplementedError: libfff has no kernels for it yet. Anything else, and
    activations that there are no kernels for, are a ValueError."""
    if isinstance(module, _Layer):
        return module
    if not isinstance(module, nn.Module):
        raise TypeError(f"{type(module).__name__} is no torch.nn.Module")
    if _is_leaf_variant(module):
        raise NotImplementedError(f"{type(module).__name__} is the leaf variant of fast feedforward layers, which libfff has no "
                                  "kernels for yet")
    if not (_is_path_sum(module) or _is_benchmark(module)):
        raise ValueError(f"{type(module).__name__} is none of the fast feedforward layers known")
    made = (FFF if _is_path_sum(module) else BenchmarkFFF).__new__(FFF if _is_path_sum(module) else BenchmarkFFF)
    nn.Module.__init__(made)
    if isinstance(made, FFF):
        made._set(module.linear_in, module.linear_out, module.activation, module.input_width, module.output_width,
                  module.depth, module.parallel_size, ">")
    else:
        made._set(module.w1s, module.w2s, module.depth)
    for name, value in vars(module).items():
        if "_hooks" in name and name in vars(made):
            made.__dict__[name] = value
    made.training = module.training
    return made


def replace_ffn(model: nn.Module) -> nn.Module:
    """Replaces every FFF in `model` by from_module() of it, in place, and returns the model (a new module only if `model` is
    itself an FFF). A layer that stands in several places stays one layer.

    ValueError if there is none; NotImplementedError for the leaf variant. Then nothing has been changed."""
    made: dict = {}
    for module in model.modules():
        if _is_fff(module):
            made[module] = from_module(module)
    if not made:
        raise ValueError(f"{type(model).__name__} has no fast feedforward layer")
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in made:
                parent._modules[name] = made[child]
    return made.get(model, model)
