"""What all modules share."""

from __future__ import annotations

from typing import Callable, Optional

import torch
from torch import nn
from torch.nn import functional

import fff

from . import _dense, _operator, _script

_ACTIVATIONS = {nn.ReLU: 2, _dense.SquaredReLU: 3, nn.SiLU: 4, nn.Identity: 5}  # GELU has two; as in fff_activation
_FUNCTIONS = {functional.gelu: 0, functional.relu: 2, torch.relu: 2, functional.silu: 4}
_call = _operator.call
_is_compiling: Callable[[], bool] = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)


def _activation_number(activation: Callable) -> int:
    if type(activation) is nn.GELU:
        return 1 if activation.approximate == "tanh" else 0
    for function, number in _FUNCTIONS.items():
        if activation is function:
            return number
    if type(activation) not in _ACTIVATIONS:
        raise ValueError(f"activation {activation!r}: the kernels have nn.GELU, nn.ReLU, fff.torch.SquaredReLU, nn.SiLU and "
                         "nn.Identity")
    return _ACTIVATIONS[type(activation)]


def _routing_number(routing: str) -> int:
    if routing not in fff.ROUTINGS:
        raise ValueError(f"routing {routing!r}: one of {', '.join(fff.ROUTINGS)}")
    return fff.ROUTINGS.index(routing)


def _has_hooks(module: nn.Module) -> bool:
    return any(getattr(module, name, None) for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"))


def _checked_thresholds(thresholds: Optional[torch.Tensor], nodes: int) -> Optional[torch.Tensor]:
    if thresholds is not None and tuple(thresholds.shape) != (nodes,):
        raise ValueError(f"thresholds have shape {tuple(thresholds.shape)}, not ({nodes},)")
    return thresholds


class _Evaluated(nn.Module):
    """What all modules share. `_stored` is what quantize() sets: store_input, store_output, exact_routes. Nothing packed hangs on a
    module, so that it can be copied and pickled."""

    _stored: tuple = (0, 0, False)
    input_width: int
    output_width: int

    def forward_out(self, x: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        """forward() into memory of the caller's, by the kernels in either mode; returns `out`. It has the shape and
        type that forward()'s result would have, and shares no memory with x. Its rows follow one another or, where
        there are 2 dimensions, lie any stride apart. No gradients: RuntimeError where one is wanted. Hooks do not
        run."""
        self._write(x, out)
        return out

    def _write(self, x: torch.Tensor, out: torch.Tensor) -> None:
        raise NotImplementedError

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        """What evaluation computes, by the definition: all neurons, those off the paths set to 0. Any floating type, any device."""
        raise NotImplementedError

    @property
    def store(self) -> Optional[str]:
        """What quantize() was told that the kernels store of the weights; None: what these are."""
        return None if self._stored[0] == 0 else "+".join(fff.STORES[choice - 1] for choice in self._stored[:2])

    @property
    def exact_routes(self) -> bool:
        """Likewise: whether tokens take the routes of the weights as they are."""
        return self._stored[2]

    def _quantize(self, choices: tuple[int, int], exact_routes: bool) -> None:
        self.__dict__["_stored"] = (*choices, exact_routes)
        self.repack()

    def _stored_repr(self) -> str:
        return "" if self.store is None else f", stores {self.store}{' with exact routes' if self.exact_routes else ''}"

    def repack(self) -> None:
        """Forgets the packed copy of the weights; the next call packs anew. Needed only after writes to a part of a weight that
        PyTorch does not count: see fff.torch.watch()."""
        for weight in self.parameters():
            _operator.release(weight)

    def _tokens(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() < 1 or x.shape[-1] != self.input_width:
            raise ValueError(f"x has shape {tuple(x.shape)}, not (..., {self.input_width})")
        return x.reshape(-1, self.input_width)

    def __prepare_scriptable__(self) -> nn.Module:  # torch.jit.script asks for it
        return _script.scriptable(self)

    def train(self, mode: bool = True):
        if mode != self.training:
            self.repack()  # memory back while training, and whatever training wrote is seen
        return super().train(mode)

    def _apply(self, *args, **kwargs):  # .to(), .double(), .share_memory() ...
        self.repack()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        self.repack()
        given = state_dict.get(f"{prefix}thresholds")
        if given is not None and "thresholds" in self._buffers and self.thresholds is None:
            nodes = getattr(self, "parallel_size", 1) * self.n_nodes
            self.thresholds = torch.zeros(nodes, dtype=given.dtype, device=self._probed().device)  # which are then loaded
        return super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
