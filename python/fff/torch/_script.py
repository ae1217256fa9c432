"""For torch.jit.script: modules that TorchScript can read (it wants no annotations from __future__). They call the operator
whatever their training mode."""

from typing import Optional

import torch
from torch import nn


class _ScriptFFF(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias: Optional[torch.Tensor] = self.linear_in.bias
        return torch.ops.fff.forward(x, self.linear_in.weight, bias, self.linear_out.weight, self.depth, self.trees,
                                     self.activation_number, self.routing_number, False, self.store_input, self.store_output,
                                     self.exact_routes)


class _ScriptBenchmarkFFF(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.fff.forward(x, self.w1s, None, self.w2s, self.depth, 1, 0, 1, True, self.store_input,
                                     self.store_output, self.exact_routes).unsqueeze(-2)


def scriptable(module: nn.Module) -> nn.Module:
    """What TorchScript compiles in place of an FFF or BenchmarkFFF: the same weights by the same names."""
    from ._modules import FFF, BenchmarkFFF  # which imports this

    if type(module) not in (FFF, BenchmarkFFF) or module._weights() is None:
        raise NotImplementedError(f"torch.jit.script knows FFF and BenchmarkFFF with plain parameters, not this "
                                  f"{type(module).__name__}: torch.jit.trace does")
    made = (_ScriptFFF if type(module) is FFF else _ScriptBenchmarkFFF)()
    if type(module) is FFF:
        made.linear_in, made.linear_out = module.linear_in, module.linear_out
        made.depth, made.trees, made.activation_number, made.routing_number, _ = module._plan
    else:
        made.w1s, made.w2s, made.depth = module.w1s, module.w2s, module.depth
    made.store_input, made.store_output, made.exact_routes = module._stored
    return made.train(module.training)
