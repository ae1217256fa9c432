"""Fast feedforward layers on the CPU: libfff for PyTorch, 1.13 or later.

    import torch, fff.torch

    model = fff.torch.replace_ffn(model).eval()      # the authors' layers, replaced; weights are shared
    with torch.no_grad():
        y = model(x)

    layer = fff.torch.FFF(768, 768, depth=11, parallel_size=1)   # their constructor and state_dict

In evaluation mode the modules call the operator torch.ops.fff.forward, which torch.compile and torch.export see as one
node: the kernels, with the same bits as the C library's, on PyTorch's threads, for any leading dimensions. It has gradients
(by all neurons, along the same paths). In training mode the modules compute the masked dense definition. The operator is compiled at
the first import; where it cannot be, one in Python takes its place (backend() tells).

The kernels work on a packed copy of the weights, made at the first call and again when the weights have changed; see
FFF.repack() for the changes that cannot be seen, and release() for the memory. Calls may be made from any number of threads.
"""

from __future__ import annotations

from typing import Optional

import torch as _torch

from . import _operator
from ._convert import from_module, replace_ffn
from ._dense import SquaredReLU
from ._modules import FFF, BenchmarkFFF

__all__ = ["FFF", "BenchmarkFFF", "SquaredReLU", "backend", "from_module", "packed", "release", "replace_ffn"]


def backend() -> str:
    """"native": the compiled operator; or "python: ", and why there is none."""
    return "native" if _operator.native else f"python: {_operator.reason}"


def packed() -> tuple[int, int]:
    """How many layers are packed, and the bytes that they hold."""
    return _operator.packed()


def release(weight: Optional[_torch.Tensor] = None) -> None:
    """Frees packed layers: those made from the memory of `weight`, or all. Those whose weights are gone are freed by either, by
    the next packing, and when a module changes between training and evaluation. A call under way keeps its own."""
    _operator.release(weight)
