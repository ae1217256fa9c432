"""The operators under torch.autocast("cpu"): as torch.nn.Linear there, which computes in the autocast type.

float32 tokens are rounded to that type, and results are of it. Weights of another type are not copied: the layer that is
packed stores its rows in that type, which is the same as packing rounded weights; it is kept from call to call. Biases
stay as they are. What quantize() has set goes before.
"""

from __future__ import annotations

import torch

_CHOICES = {torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}  # fff_weight_choice


def _type() -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if hasattr(torch, "get_autocast_dtype") else torch.get_autocast_cpu_dtype()


def _named(name: str):
    operator = torch.ops.fff
    for part in name.split("."):
        operator = getattr(operator, part)
    return operator


def _rule(name: str):
    operator = _named(name)

    def call(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False, store_input=0,
             store_output=0, exact_routes=False, **out):
        dtype = _type()
        with torch.autocast("cpu", enabled=False):
            if x.dtype in _CHOICES and input_weight.dtype in _CHOICES:
                x = x.to(dtype)
                if input_weight.dtype != dtype:
                    store_input, store_output = store_input or _CHOICES[dtype], store_output or _CHOICES[dtype]
            return operator(x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, store_input,
                            store_output, exact_routes, **out)
    return call


def _forest_rule(name: str):
    operator = _named(name)

    def call(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False, **out):
        dtype = _type()
        with torch.autocast("cpu", enabled=False):
            own = next((weight.dtype for weight in weights if weight is not None), None)
            if x.dtype in _CHOICES and own in _CHOICES:
                x = x.to(dtype)
                if own != dtype:
                    store_input, store_output = store_input or _CHOICES[dtype], store_output or _CHOICES[dtype]
            return operator(x, weights, plan, output_bias, store_input, store_output, exact_routes, **out)
    return call


def register(library) -> None:
    library.impl("forward", _rule("forward.default"), "AutocastCPU")
    library.impl("forward.out", _rule("forward.out"), "AutocastCPU")
    library.impl("route", _rule("route.default"), "AutocastCPU")
    library.impl("forest", _forest_rule("forest.default"), "AutocastCPU")
    library.impl("forest.out", _forest_rule("forest.out"), "AutocastCPU")
    library.impl("forest_route", _forest_rule("forest_route.default"), "AutocastCPU")
