"""From others' live modules: known by their attributes and shapes, and tried out. Their packages are not imported."""

from __future__ import annotations

import math
import warnings
from typing import Callable, NamedTuple, Optional

import torch
from torch import nn

from ._evaluated import _Evaluated
from ._leaves import LeafFFF, MasterLeafFFF
from ._modules import FFF, BenchmarkFFF, NodeMajorFFF, _Layer

_PAIRS = (("w1s", "w2s"), ("X", "Y"), ("linear_in_weight", "linear_out_weight"), ("keys", "values"))


def _tensor(module: nn.Module, name: str) -> Optional[torch.Tensor]:
    for part in name.split("."):
        module = getattr(module, part, None)  # type: ignore[assignment]
    return module if isinstance(module, torch.Tensor) else None


def _shape(module: nn.Module, name: str) -> Optional[tuple]:
    tensor = _tensor(module, name)
    return None if tensor is None else tuple(tensor.shape)


def _integer(module: nn.Module, name: str) -> Optional[int]:
    value = getattr(module, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _found(module: nn.Module) -> str:
    """What there is of the names known, for messages."""
    names = [name for pair in _PAIRS for name in pair] + ["linear_in.weight", "linear_in.bias", "linear_out.weight", "linear_in_bias"]
    parts = [f"{name} {_shape(module, name)}" for name in names if _shape(module, name) is not None]
    parts += [f"{name} {_integer(module, name)}" for name in ("input_width", "output_width", "depth", "parallel_size")
              if _integer(module, name) is not None]
    return f"{type(module).__name__} ({', '.join(parts)})"


class _Kind(NamedTuple):
    """What a module may be."""

    name: str
    make: Callable[[], _Evaluated]  # of the module's own parameters
    may_run: bool = True  # whether the module can be tried out


def _is_leaf_variant(module: nn.Module) -> bool:
    return hasattr(module, "node_weights") and all(len(_shape(module, name) or ()) == 3 for name in ("w1s", "w2s"))


def _node_major(module: nn.Module, names: tuple, *plan, of: type = NodeMajorFFF) -> Callable[[], _Layer]:
    def make() -> _Layer:
        made = of.__new__(of)
        nn.Module.__init__(made)
        made._set(module, names, *plan)
        return made
    return make


def _path_sum(module: nn.Module) -> list[_Kind]:
    """The module of UltraFastBERT's training code."""
    sizes = [_integer(module, name) for name in ("input_width", "output_width", "depth", "parallel_size")]
    if None in sizes or not 0 <= sizes[2] <= 30 or not isinstance(getattr(module, "activation", None), nn.Module):
        return []
    neurons = sizes[3] * (2 ** (sizes[2] + 1) - 1)
    if (_shape(module, "linear_in.weight") != (neurons, sizes[0]) or _shape(module, "linear_out.weight") != (sizes[1], neurons)
            or getattr(module.linear_out, "bias", None) is not None):
        return []

    def make() -> _Layer:
        made = FFF.__new__(FFF)
        nn.Module.__init__(made)
        made._set(module.linear_in, module.linear_out, module.activation, *sizes, ">")
        return made
    return [_Kind("FFF of UltraFastBERT's training code", make)]


def _two_matrices(module: nn.Module) -> list[_Kind]:
    """One tree in two parameters without a bias: UltraFastBERT's benchmark_pytorch, two modules, and sap-ient-ai/FFF. They
    differ in activation, routing and what they call depth; where their shapes do not, trying them out tells."""
    depth = _integer(module, "depth")
    kinds = []
    for names in _PAIRS[:2]:
        first, last = _shape(module, names[0]), _shape(module, names[1])
        if depth is None or first is None or last is None or len(first) != 2 or len(last) != 2 or not 0 <= depth <= 30:
            continue
        if not all(isinstance(module._parameters.get(name), nn.Parameter) for name in names):
            continue
        named, nodes = (names[0], None, names[1]), 2 ** (depth + 1) - 1
        if first[0] == last[0] == nodes and names[0] == "w1s":
            kinds.append(_Kind("FFF of UltraFastBERT's benchmark_pytorch",
                               _node_major(module, named, depth, nn.GELU(), ">=", True, of=BenchmarkFFF)))
        if first[0] == last[0] == nodes:
            kinds.append(_Kind("FFF of sap-ient-ai/FFF with levels 0 to depth",
                               _node_major(module, named, depth, nn.Identity(), ">", False)))
        if first[0] == last[0] == nodes // 2 and depth > 0:
            kinds.append(_Kind("FFF of sap-ient-ai/FFF", _node_major(module, named, depth - 1, nn.Identity(), ">", False)))
        width = _integer(module, "input_width")
        if names[0] == "w1s" and width is not None and first == (width * nodes, 1) and last[0] == nodes:
            kinds.append(_Kind("FFF_Sparse of UltraFastBERT's benchmark_pytorch",
                               _node_major(module, named, depth, nn.GELU(), ">=", False, True)))
    return kinds


def _leaves(module: nn.Module) -> list[_Kind]:
    """The module of fastfeedforward, whose evaluation forgets b2s, and those made after it, which may add them; with a master leaf, if
    there are parameters for one."""
    first, second = _shape(module, "w1s"), _shape(module, "w2s")
    leaves, into, width = first
    out, master = second[2], hasattr(module, "magic_w1")
    expected = {"node_weights": (leaves - 1, into), "node_biases": (leaves - 1, 1), "w1s": first, "b1s": (leaves, width),
                "w2s": (leaves, width, out), "b2s": (leaves, out)}
    if master:
        hidden = (_shape(module, "magic_w1") or (0,))[-1]
        expected.update({"magic_w1": (1, into, hidden), "magic_b1": (1, hidden), "magic_w2": (1, hidden, out), "magic_b2": (1, out), "k": ()})
    wrong = [name for name, shape in expected.items()
             if _shape(module, name) != shape or not isinstance(module._parameters.get(name), nn.Parameter)]
    depth = _tensor(module, "depth")
    levels = leaves.bit_length() - 1
    if wrong or leaves != 1 << levels or (depth is not None and depth.device.type != "meta" and int(depth) != levels):
        found = ", ".join(f"{name} {_shape(module, name)}" for name in wrong) or f"{leaves} leaves"
        raise ValueError(f"{type(module).__name__} looks like a fast feedforward layer with leaves, but is none of those known: {found}, "
                         f"where w1s is {first}" + ("" if depth is None or depth.device.type == "meta" else f", and depth {int(depth)}"))

    def kind(name: str, eval_b2s: bool) -> _Kind:
        def make() -> _Evaluated:
            made = (MasterLeafFFF if master else LeafFFF).__new__(MasterLeafFFF if master else LeafFFF)
            nn.Module.__init__(made)
            for parameter in expected:
                made.register_parameter(parameter, module._parameters[parameter])
            made.register_parameter("depth", nn.Parameter(torch.tensor(levels, device=module.w1s.device), requires_grad=False)
                                    if depth is None else module._parameters.get("depth", nn.Parameter(depth, requires_grad=False)))
            dropout = getattr(module, "leaf_dropout", None)
            usage = [getattr(module, f"{what}_usage", None) for what in ("node", "leaf")]
            counted = all(isinstance(tensor, nn.Parameter) for tensor in usage)
            for what, tensor in zip(("node", "leaf"), usage if counted else ()):
                made.register_parameter(f"{what}_usage", tensor)
            if counted and isinstance(module._parameters.get("f"), nn.Parameter) and _shape(module, "f") == (leaves,):
                made.register_parameter("f", module.f)
            made._set(module.activation, dropout if isinstance(dropout, nn.Dropout) else nn.Dropout(0.0),
                      bool(getattr(module, "train_hardened", False)), float(getattr(module, "region_leak", 0.0)),
                      str(getattr(module, "usage_mode", "none")) if counted else "none", eval_b2s)
            return made
        return _Kind(name, make)
    if not callable(getattr(module, "activation", None)):
        raise ValueError(f"{type(module).__name__} looks like a fast feedforward layer with leaves, but has no activation")
    adding = kind("FFF of fastfeedforward, if evaluation adds b2s", True)
    # At depth 0 theirs cannot be evaluated.
    return [adding] if levels == 0 else [kind("FFF of fastfeedforward, whose evaluation leaves out b2s", False), adding]


def _cuda(module: nn.Module) -> list[_Kind]:
    """The modules around CUDA kernels in both repositories. They cannot run here."""
    sizes = [_integer(module, name) for name in ("input_width", "output_width", "depth", "parallel_size")]
    if None in sizes or not 0 <= sizes[2] <= 30:
        return []
    rows = sizes[3] * (2 ** (sizes[2] + 1) - 1)
    names = ("linear_in_weight", "linear_in_bias", "linear_out_weight")
    if ([_shape(module, name) for name in names] != [(rows, sizes[0]), (rows,), (rows, sizes[1])] or
            not all(isinstance(module._parameters.get(name), nn.Parameter) for name in names)):
        return []
    if sizes[3] != 1:
        raise NotImplementedError(f"{_found(module)} has {sizes[3]} trees, of which the CUDA kernel that such modules call "
                                  "computes the first alone: it is not clear what is meant")
    return [_Kind("FFF around a CUDA kernel", _node_major(module, names, sizes[2], nn.GELU(), ">", False), False)]


def _kinds(module: nn.Module) -> list[_Kind]:
    """What `module` may be; none if it is no FFF. NotImplementedError and ValueError for what looks like one and cannot be used."""
    if _is_leaf_variant(module):
        return _leaves(module)
    kinds = _path_sum(module) + _two_matrices(module) + _cuda(module)
    if kinds or _integer(module, "depth") is None:
        return kinds
    if _integer(module, "num_trees") is not None and len(_shape(module, "keys") or ()) == 3:
        raise NotImplementedError(f"{_found(module)} is a forest whose weights have nodes before trees, which the kernels do not read")
    for pair in (*_PAIRS[:3], ("linear_in.weight", "linear_out.weight")):
        if all(_shape(module, name) is not None for name in pair):
            raise ValueError(f"{_found(module)} looks like a fast feedforward layer, but is none of those known: shapes and depth do "
                             "not fit, or the weights are not plain parameters")
    return kinds


def _runs(module: nn.Module) -> bool:
    return "forward" in vars(module) or type(module).forward is not nn.Module.forward


def _outputs(module: nn.Module, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Of the tokens one by one, and of all at once, in evaluation mode."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        with torch.no_grad():
            return [module.forward(x) for x in (*tokens.split(1), tokens)]
    finally:
        for part, mode in modes:
            part.training = mode


def _probe(made: _Evaluated) -> torch.Tensor:
    """Three tokens whose logits are about 1, where activations differ most."""
    weight = made._probed().detach().reshape(-1, made.input_width)
    tokens = torch.randn(3, made.input_width, generator=torch.Generator().manual_seed(1), dtype=torch.float32, device="cpu")
    scale = 1 if weight.device.type == "meta" else weight.float().norm(dim=1).mean().item()
    return (tokens / (scale if math.isfinite(scale) and scale > 0 else 1)).to(weight.device, weight.dtype)


def _difference(theirs: list, ours: list) -> Optional[str]:
    """None if they agree. One of the three tokens may be near a tie, and go another way."""
    for one, other in zip(theirs, ours):
        if not isinstance(one, torch.Tensor) or one.shape != other.shape:
            return f"its output is {tuple(one.shape) if isinstance(one, torch.Tensor) else type(one).__name__}, not {tuple(other.shape)}"
    if ours[0].device.type == "meta":
        return None
    largest = []
    for one, other in zip(theirs, ours):
        scale = other.float().abs().max().item()
        apart = (one.float() - other.float()).abs().max().item()
        largest.append(apart / scale if scale > 0 and math.isfinite(apart) else (0.0 if torch.equal(one, other) else math.inf))
    median = sorted(largest)[len(largest) // 2]
    return None if median <= min(200 * torch.finfo(ours[0].dtype).eps, 0.05) else f"its output is {median:.1e} of the largest element off"


def _choose(module: nn.Module, kinds: list[_Kind]) -> _Evaluated:
    """The kind that computes what `module` does."""
    candidates = [(kind, kind.make()) for kind in kinds]
    if not kinds[0].may_run or not _runs(module):
        return candidates[0][1]
    try:
        tokens = _probe(candidates[0][1])  # where there are several they have one width
        theirs = _outputs(module, tokens)
    except Exception as error:
        if len(kinds) > 1:
            raise ValueError(f"{_found(module)} may be {' or '.join(kind.name for kind in kinds)}, and cannot be tried out: "
                             f"{type(error).__name__}: {error}") from error
        warnings.warn(f"{_found(module)} is taken for {kinds[0].name} by its names and shapes alone: it cannot be tried out "
                      f"({type(error).__name__}: {error})", stacklevel=4)
        return candidates[0][1]
    reasons = []
    for kind, made in candidates:
        with torch.no_grad():
            ours = [made.dense(x) for x in tokens.split(1)]
        reason = _difference(theirs[:3], ours)
        if reason is None:
            if _difference([theirs[3]], [torch.cat(theirs[:3])]) is not None:
                warnings.warn(f"{_found(module)} computes tokens otherwise in a batch than alone (FFF_Sparse mixes them up): the "
                              "layer in its place computes each as it is alone", stacklevel=4)
            return made
        reasons.append(f"as {kind.name}, {reason}")
    raise ValueError(f"{_found(module)} computes something else than it looks like: {'; '.join(reasons)}")


def from_module(module: nn.Module) -> nn.Module:
    """The FFF, BenchmarkFFF, NodeMajorFFF or LeafFFF that does what `module` does, one of those of pbelcak/UltraFastBERT,
    sap-ient-ai/FFF or the package fastfeedforward. It shares the module's parameters, and takes over its hooks and its training mode;
    one of fff.torch's is returned as it is.

    A module is known by its attributes and shapes; then it is run on three tokens and compared with the definition: whether b2s are
    added in evaluation, for one, which fastfeedforward's own module does not. Anything else, activations that
    there are no kernels for, and what computes something else than it looks like, are a ValueError that says what was found."""
    if isinstance(module, _Evaluated):
        return module
    if not isinstance(module, nn.Module):
        raise TypeError(f"{type(module).__name__} is no torch.nn.Module")
    kinds = _kinds(module)
    if not kinds:
        raise ValueError(f"{type(module).__name__} is none of the fast feedforward layers known")
    made = _choose(module, kinds)
    for name, value in vars(module).items():
        if "_hooks" in name and name in vars(made):
            made.__dict__[name] = value
    made.training = module.training
    return made


def replace_ffn(model: nn.Module) -> nn.Module:
    """Replaces every FFF in `model` by from_module() of it, in place, and returns the model (a new module only if `model` is
    itself an FFF). A layer that stands in several places stays one layer.

    ValueError if there is none, or one that from_module() refuses. Then nothing has been changed."""
    made: dict = {}
    for module in model.modules():
        if isinstance(module, _Evaluated) or _kinds(module):
            made[module] = from_module(module)
    if not made:
        raise ValueError(f"{type(model).__name__} has no fast feedforward layer")
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in made:
                parent._modules[name] = made[child]
    return made.get(model, model)
