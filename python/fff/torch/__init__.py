"""Fast feedforward layers on the CPU: libfff for PyTorch, 1.13 or later.

    import torch, fff.torch

    model = fff.torch.replace_ffn(model).eval()      # the authors' layers, replaced; weights are shared
    with torch.no_grad():
        y = model(x)

    layer = fff.torch.FFF(768, 768, depth=11, parallel_size=1)   # their constructor and state_dict
    layer = fff.torch.LeafFFF(768, 8, 768, depth=6)              # of the package fastfeedforward

In evaluation mode the modules call the operator torch.ops.fff.forward, which torch.compile and torch.export see as one
node: the kernels, with the same bits as the C library's, on PyTorch's threads, for any leading dimensions. It has gradients
(along the same paths). Weights and tokens are float32, bfloat16 or float16, also under torch.autocast; quantize()
says what the kernels store of them. In training mode path sums use torch.ops.fff.train, the kernels and their backward pass on the
parameters themselves, for float32 on the CPU, and else the masked dense definition. The operator is compiled at
the first import; where it cannot be, one in Python takes its place (backend() tells).

The kernels work on a packed copy of the weights, made at the first call and again when the weights have changed; see
watch() for how that is noticed, refresh() for the changes that are not, and release() for the memory. Calls may be made from
any number of threads.
"""

from __future__ import annotations

from typing import Optional

try:
    import torch as _torch
except ModuleNotFoundError as _error:
    if _error.name != "torch":
        raise
    raise ImportError('fff.torch needs PyTorch 1.13 or later: pip install "libfff[torch]", or pip install torch') from _error
if tuple(int(_part) for _part in _torch.__version__.split(".")[:2]) < (1, 13):
    raise ImportError(f"fff.torch needs PyTorch 1.13 or later, and this is {_torch.__version__} ({_torch.__file__}): "
                      'pip install --upgrade "libfff[torch]"')

from .. import _parts as _numpy_parts
from . import _operator
from ._convert import from_module, replace_ffn
from ._dense import SquaredReLU
from ._evaluated import _Evaluated
from ._leaves import Forest, LeafFFF, MasterLeafFFF, balance_loss
from ._initial import init_normal_, init_unit_
from ._modules import FFF, BenchmarkFFF, NodeMajorFFF
from ._row_adam import RowAdam
from ._training import RowGradients
from ._training import node_major_ as _node_major_
from ._usage import Usage, usage

__all__ = ["FFF", "BenchmarkFFF", "Forest", "LeafFFF", "MasterLeafFFF", "NodeMajorFFF", "RowAdam", "RowGradients", "SquaredReLU",
           "Usage", "backend", "balance_loss", "from_module", "init_normal_", "init_unit_", "node_major_", "packed", "quantize",
           "refresh", "release", "replace_ffn", "usage", "watch"]

_WATCHES = ("count", "sample", "all")
_watch = "sample"


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


def quantize(model: _torch.nn.Module, store: Optional[str], *, exact_routes: bool = False) -> _torch.nn.Module:
    """Sets how the kernels store the weights of every FFF in `model`, which it returns.

    store         "bf16", "f16", "i8" or "f32"; or two, for input rows (which decide the routes) and output rows: "bf16+i8". None:
                  as the parameters are
    exact_routes  tokens take the routes of the parameters as they are, not as they are stored

    Parameters and state_dict stay as they are. Training mode does not look at it, and gradients are those of the parameters,
    along the routes taken. Copies and pickles of a module keep it; state_dict does not hold it."""
    choices = _numpy_parts.stores(store)
    found = [module for module in model.modules() if isinstance(module, _Evaluated)]
    if not found:
        raise ValueError(f"there is no FFF in this {type(model).__name__}: replace_ffn() makes them")
    for module in found:
        module._quantize(choices, bool(exact_routes))
    return model


def node_major_(model: _torch.nn.Module) -> _torch.nn.Module:
    """Lays linear_out.weight of every FFF in `model`, which it returns, out in memory neuron after neuron, as FFF's constructor
    does: same name, shape and numbers, strides (1, output width). Training otherwise copies it in every step. In place: memory
    that is shared with other tensors or processes is so no longer. .contiguous() undoes it."""
    for module in model.modules():
        if isinstance(module, FFF) and module._weights() is not None:
            _node_major_(module.linear_out.weight)
    return model


def refresh(model: _torch.nn.Module) -> None:
    """Every FFF in `model` packs its weights anew at its next call, whatever watch() noticed."""
    for module in model.modules():
        if isinstance(module, _Evaluated):
            module.repack()


def watch(how: Optional[str] = None) -> str:
    """How calls notice that weights have changed since they were packed; returns how it was. None changes nothing.

    count    by PyTorch's count of writes, and by where the weights lie. Writes through `.data`, NumPy or a pointer are not
             counted, nor are any to tensors made in inference mode.
    sample   (at first) by the count, and by elements spread over each weight: 4 a token, from 32 to 512, the same ones at
             each call. A write to a whole weight is noticed; one that changes a part p of it, which is not counted, goes
             unnoticed with a chance of (1 - p) ** 32 to (1 - p) ** 512.
    all      by the count, and by all elements: certain, and several times as slow as the kernels themselves."""
    global _watch
    before = _watch
    if how is not None:
        if how not in _WATCHES:
            raise ValueError(f"watch({how!r}): one of {', '.join(_WATCHES)}")
        _operator.watch(_WATCHES.index(how))
        _watch = how
    return before
