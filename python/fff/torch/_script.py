"""For torch.jit.script: modules that TorchScript can read (it wants no annotations from __future__). They call the operator
whatever their training mode. weights() is what the operator is given of a module as a part of a layer."""

from typing import List, Optional

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


class _ScriptPart(nn.Module):
    """A module that is a part of a layer, or a layer of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.fff.forest(x, self.weights(), self.plan, None, self.store_input, self.store_output, self.exact_routes)


def _with(found: List[torch.Tensor], more: Optional[torch.Tensor]) -> List[torch.Tensor]:
    if more is not None:
        found.append(more)
    return found


class _ScriptPathPart(_ScriptPart):
    """An FFF in a forest, or with thresholds."""

    def weights(self) -> List[torch.Tensor]:
        found = _with([self.linear_in.weight], self.linear_in.bias)
        found.append(self.linear_out.weight)
        return _with(found, self.thresholds)


class _ScriptLeaves(_ScriptPart):
    def leaf_weights(self) -> List[torch.Tensor]:
        found: List[torch.Tensor] = [self.node_weights, self.node_biases, self.w1s, self.b1s, self.w2s]
        if self.eval_b2s:
            found.append(self.b2s)
        return _with(found, self.thresholds)

    def weights(self) -> List[torch.Tensor]:
        return self.leaf_weights()


class _ScriptMasterLeaves(_ScriptLeaves):
    def weights(self) -> List[torch.Tensor]:
        found = self.leaf_weights()
        found.extend([self.k, self.magic_w1, self.magic_b1, self.magic_w2, self.magic_b2, self.k])
        return found


class _ScriptForest(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: List[torch.Tensor] = []
        for part in self.parts:
            found.extend(part.weights())
        bias: Optional[torch.Tensor] = self.output_bias
        return torch.ops.fff.forest(x, found, self.plan, bias, self.store_input, self.store_output, self.exact_routes)


def scriptable(module: nn.Module) -> nn.Module:
    """What TorchScript compiles in place of a module of ours: the same weights by the same names."""
    from ._leaves import Forest  # which import this
    from ._modules import FFF, BenchmarkFFF
    from ._parts import _Parts

    if isinstance(module, _Parts) and module.training:
        raise NotImplementedError(f"torch.jit.script knows a {type(module).__name__} in evaluation mode: call eval() first")
    if _has_more(module):
        raise NotImplementedError(f"this {type(module).__name__} has hooks or a forward() of its own, which torch.jit.script would leave "
                                  "out: torch.jit.trace does not")
    if type(module) is Forest:
        made: nn.Module = _ScriptForest()
        made.parts = nn.ModuleList(_part(part) for part in module.parts)
        made.register_parameter("output_bias", module.output_bias)
        made.plan = _given(module)[1]
    elif isinstance(module, _Parts) or (type(module) is FFF and module._limits() is not None):
        made = _part(module)
    elif type(module) is FFF and module._weights() is not None:
        made = _ScriptFFF()
        made.linear_in, made.linear_out = module.linear_in, module.linear_out
        made.depth, made.trees, made.activation_number, made.routing_number, _ = module._plan
    elif type(module) is BenchmarkFFF and module._weights() is not None:
        made = _ScriptBenchmarkFFF()
        made.w1s, made.w2s, made.depth = module.w1s, module.w2s, module.depth
    else:
        raise _unknown(module)
    made.store_input, made.store_output, made.exact_routes = module._stored
    return made.train(module.training)


def _has_more(module: nn.Module) -> bool:
    """Whether a call runs something else than the kernels. In training that of the modules within, too, where dense() calls them."""
    from ._evaluated import _has_hooks

    called = [module, *(module.children() if module.training else ())]
    return any(_has_hooks(each) or "forward" in vars(each) for each in called)


def _unknown(module: nn.Module) -> NotImplementedError:
    return NotImplementedError(f"torch.jit.script knows FFF, BenchmarkFFF, LeafFFF, MasterLeafFFF and Forest with plain "
                               f"parameters, not this {type(module).__name__}: torch.jit.trace does")


def _given(module: nn.Module) -> tuple:
    given = module._given()
    if given is None:
        raise _unknown(module)
    return given


def _part(module: nn.Module) -> nn.Module:
    """A module as a part of a layer."""
    from ._leaves import LeafFFF, MasterLeafFFF
    from ._modules import FFF

    made: Optional[nn.Module] = {FFF: _ScriptPathPart, LeafFFF: _ScriptLeaves, MasterLeafFFF: _ScriptMasterLeaves}.get(
        type(module), lambda: None)()
    if made is None:
        raise _unknown(module)
    made.plan = _given(module)[1]
    if type(module) is FFF:
        made.linear_in, made.linear_out = module.linear_in, module.linear_out
    else:
        made.eval_b2s = module.eval_b2s
    for name, parameter in module._parameters.items():
        made.register_parameter(name, parameter)
    if "thresholds" not in module._parameters:
        made.register_buffer("thresholds", getattr(module, "thresholds", None))
    made.store_input, made.store_output, made.exact_routes = module._stored
    return made.train(module.training)
