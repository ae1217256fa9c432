"""What modules of leaves and of several parts share."""

from __future__ import annotations

from typing import Optional

import torch

from . import _operator
from ._evaluated import _call, _Evaluated, _is_compiling


class _Parts(_Evaluated):
    """Modules that fff::forest evaluates."""

    def _given(self) -> Optional[tuple[list, list]]:
        """Weights and numbers of all parts as the operator takes them; None where something has been put around a
        weight (a parametrization) that only dense() computes."""
        raise NotImplementedError

    def _bias(self) -> Optional[torch.Tensor]:
        return None

    def eval_forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., input width) -> (..., output width) by the kernels, whatever the mode."""
        if _call is not None and not _is_compiling():
            y = _call(self, x)
            if y is not NotImplemented:
                return y
        given = self._given() if self._evaluates() else None
        if given is None:
            return self._without_kernels(x)
        return _operator.forest(x, *given, self._bias(), *self._stored)

    def _evaluates(self) -> bool:
        """Whether eval_forward() is what the kernels compute."""
        return True

    def _without_kernels(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x)

    def _write(self, x: torch.Tensor, out: torch.Tensor) -> None:
        given = self._given()
        if given is None:
            raise ValueError("the weights are not plain parameters")
        _operator.forest_out(x, *given, self._bias(), *self._stored, out=out)

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What each token visits, by the kernels: entries (int32) and logits (float32), both (..., path length). Tree
        after tree come the nodes; and after the depth nodes of a tree of leaves the neurons of the leaf, N + leaf *
        leaf width + j. No gradients."""
        given = self._given()
        if given is None:
            raise ValueError("the weights are not plain parameters")
        with torch.no_grad():
            return _operator.forest_route(x, *given, self._bias(), *self._stored)
