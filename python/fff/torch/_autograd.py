"""Derivatives of the operators, and vmap.

Three ways. Nothing to differentiate: the kernels alone. Reverse mode by itself: the kernels, and in the backward pass
fff::backward, or, where weights are not float32 or not stored as they are, _dense.gradients(). Forward mode,
or any transform of torch.func: the value is the kernels', and every derivative is PyTorch's own of the definition along the
nodes that the kernels visited, so that transforms may be nested in any order.
"""

from __future__ import annotations

import functools

import torch
from torch.autograd import forward_ad

from . import _dense, _forest

transformed = torch._C._are_functorch_transforms_active


class _BelowAutograd:
    """The operators on tensors without derivatives: the next kernel below PyTorch's autograd, whichever that is."""

    def __getattr__(self, name):
        def call(*inputs):
            guard = torch._C._AutoDispatchBelowAutograd()  # while it lives
            try:
                return getattr(torch.ops.fff, name)(*inputs)
            finally:
                del guard
        return call


kernels = _BelowAutograd()


def _widened(tensors) -> list:
    """As float32, differentiably: derivatives with 16-bit weights are computed in float32, and rounded once."""
    return [tensor if tensor is None else tensor.float() for tensor in tensors]


def detached(inputs) -> tuple:
    return tuple(value.detach() if isinstance(value, torch.Tensor) else value for value in inputs)


def _has_tangent(tensor: torch.Tensor) -> bool:
    if tensor.layout != torch.strided:  # refused further down
        return False
    return forward_ad.unpack_dual(tensor, level=0).tangent is not None  # level 0 is the only one there is


def derivatives_wanted(inputs) -> tuple[bool, bool]:
    """Whether a gradient of these tensors is wanted, and whether anything but reverse mode is at work."""
    tensors = [value for value in inputs if value is not None]
    tangent = any(map(_has_tangent, tensors))
    gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return gradient or tangent, tangent or transformed()


def with_value(value: torch.Tensor, derivative_of: torch.Tensor) -> torch.Tensor:
    """The bits of `value` (but NaN where the other is not finite) with the derivatives of `derivative_of`: a zero of the right
    sign is subtracted. A torch.autograd.Function cannot be called under a transform that is being dispatched."""
    return value.detach() - (derivative_of.detach() - derivative_of)


_OF = (1, 2, 4, 8)  # bits of fff::backward's `wanted`: of x, input weight, bias, output weight, as in native/train.h


def gradients(grad: torch.Tensor, saved: tuple, nodes: torch.Tensor, logits: torch.Tensor, plan: tuple,
              needed: tuple) -> tuple:
    """Of x, input weight, bias and output weight, `saved`, given that of the output: by the kernels, or, where a derivative of the
    gradients may be wanted, by the definition. None where it is not `needed`."""
    if torch.is_grad_enabled() or transformed():
        found = _dense.gradients(grad, *saved, nodes, plan[2], plan[4])
    else:
        found = torch.ops.fff.backward(grad, *saved, nodes, logits, *plan, bits(needed))
    return tuple(part if want else None for part, want in zip(found, needed))


def bits(needed: tuple) -> int:
    """fff::backward's `wanted`."""
    return sum(bit for bit, want in zip(_OF, needed) if want)


def is_autocast() -> bool:
    return torch.is_autocast_enabled("cpu") if hasattr(torch, "get_autocast_dtype") else torch.is_autocast_cpu_enabled()


def without_autocast(backward):
    """For backward passes: they compute in the types that the forward pass had, along the routes that it took, also where backward()
    is called under autocast."""
    @functools.wraps(backward)
    def call(*inputs):
        if not is_autocast():
            return backward(*inputs)
        with torch.autocast("cpu", enabled=False):
            return backward(*inputs)
    return call


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *inputs):  # type: ignore[override]
        ctx.save_for_backward(*inputs[:4])
        ctx.plan = inputs[4:]
        return kernels.forward(*inputs)

    @staticmethod
    @without_autocast
    def backward(ctx, grad):  # type: ignore[override]
        saved = ctx.saved_tensors  # once: a checkpoint gives them but once
        nodes, logits = torch.ops.fff.route(*detached(saved), *ctx.plan)
        if saved[1].dtype == torch.float32 and not any(ctx.plan[5:]):
            found = gradients(grad, saved, nodes, logits, ctx.plan[:5], ctx.needs_input_grad[:4])
        else:
            found = _dense.gradients(*_widened((grad, *saved)), nodes, ctx.plan[2], ctx.plan[4])
        return (*(part if part is None else part.to(of.dtype) for part, of in zip(found, saved)), *(None for _ in ctx.plan))


def forward(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
            store_input=0, store_output=0, exact_routes=False):
    """The kernel of fff::forward for PyTorch's autograd."""
    inputs = (x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, store_input, store_output,
              exact_routes)
    wanted, forward_mode = derivatives_wanted(inputs[:4])
    if not wanted:
        return kernels.forward(*inputs)
    if not forward_mode:
        return _Forward.apply(*inputs)
    value = kernels.forward(*detached(inputs))
    nodes, _ = kernels.route(*detached(inputs))
    along = _dense.along(*_widened(inputs[:4]), nodes, activation, node_major)
    return with_value(value.float(), along).to(x.dtype)


def _into(name: str, tensors: tuple, inputs: tuple, out: torch.Tensor) -> None:
    """As PyTorch's own operators with out=: no derivatives, and an error where one is wanted."""
    if any(derivatives_wanted(tensors)) or derivatives_wanted((out,))[0]:
        raise RuntimeError(f"fff::{name}.out has no derivatives, and one of its tensors wants one: use torch.no_grad(), or "
                           "forward() without out")
    guard = torch._C._AutoDispatchBelowAutograd()  # while it lives
    try:
        getattr(torch.ops.fff, name).out(*inputs, out=out)
    finally:
        del guard


def forward_out(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
                store_input=0, store_output=0, exact_routes=False, *, out):
    """The kernel of fff::forward.out."""
    weights = (input_weight, bias, output_weight)
    _into("forward", (x, *weights), (x, *weights, depth, trees, activation, routing, node_major, store_input, store_output,
                                     exact_routes), out)


def route(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False,
          store_input=0, store_output=0, exact_routes=False):
    """The kernel of fff::route: the logits have derivatives, the nodes none."""
    inputs = (x, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, store_input, store_output,
              exact_routes)
    nodes, logits = kernels.route(*detached(inputs))
    if not derivatives_wanted(inputs[:4])[0]:
        return nodes, logits
    return nodes, with_value(logits, _dense.logits_at(*_widened(inputs[:3]), nodes).reshape(logits.shape))


class _Forest(torch.autograd.Function):
    @staticmethod
    def forward(ctx, plan, stored, x, output_bias, *weights):  # type: ignore[override]
        ctx.save_for_backward(x, output_bias, *weights)
        ctx.plan, ctx.stored = plan, stored
        return kernels.forest(x, list(weights), plan, output_bias, *stored)

    @staticmethod
    @without_autocast
    def backward(ctx, grad):  # type: ignore[override]
        saved = ctx.saved_tensors
        x, output_bias, *weights = detached(saved)
        entries, _ = torch.ops.fff.forest_route(x, weights, ctx.plan, output_bias, *ctx.stored)
        grad, x, output_bias, *weights = _widened((grad, *saved))
        of_x, of_weights, of_bias = _forest.gradients(grad, x, weights, ctx.plan, output_bias, entries)
        found = (of_x, of_bias, *of_weights)
        return (None, None, *(part if part is None else part.to(of.dtype) for part, of in zip(found, saved)))


def forest(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False):
    """The kernel of fff::forest for PyTorch's autograd."""
    stored = (store_input, store_output, exact_routes)
    wanted, forward_mode = derivatives_wanted((x, output_bias, *weights))
    if not wanted:
        return kernels.forest(x, weights, plan, output_bias, *stored)
    if not forward_mode:
        return _Forest.apply(plan, stored, x, output_bias, *weights)
    plain_x, plain_bias, *plain = detached((x, output_bias, *weights))
    value = kernels.forest(plain_x, plain, plan, plain_bias, *stored)
    entries, _ = kernels.forest_route(plain_x, plain, plan, plain_bias, *stored)
    wide_x, wide_bias, *wide = _widened((x, output_bias, *weights))
    return with_value(value.float(), _forest.along(wide_x, wide, plan, wide_bias, entries)).to(x.dtype)


def forest_out(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False, *, out):
    """The kernel of fff::forest.out."""
    _into("forest", (x, output_bias, *weights), (x, weights, plan, output_bias, store_input, store_output, exact_routes), out)


def forest_route(x, weights, plan, output_bias=None, store_input=0, store_output=0, exact_routes=False):
    """The kernel of fff::forest_route: the logits have derivatives, the nodes none."""
    plain_x, plain_bias, *plain = detached((x, output_bias, *weights))
    entries, logits = kernels.forest_route(plain_x, plain, plan, plain_bias, store_input, store_output, exact_routes)
    if not derivatives_wanted((x, output_bias, *weights))[0]:
        return entries, logits
    wide_x, *wide = _widened((x, *weights))
    return entries, with_value(logits, _forest.logits_at(wide_x, wide, plan, entries).reshape(logits.shape))


def _sample(values, in_dims, i: int) -> list:
    """The i-th of what is mapped over."""
    return [_sample(value, dim, i) if isinstance(value, (list, tuple)) and isinstance(dim, (list, tuple)) else
            value if dim is None else value.select(dim, i) for value, dim in zip(values, in_dims)]


def _mapped(dim) -> bool:
    return any(map(_mapped, dim)) if isinstance(dim, (list, tuple)) else dim is not None


def _without(value, dim):
    """Something of the shape that is left without the dimension that is mapped over."""
    if isinstance(value, (list, tuple)):
        return [_without(*each) for each in zip(value, dim)] if isinstance(dim, (list, tuple)) else value
    return value if dim is None else value.new_empty([size for d, size in enumerate(value.shape) if d != dim])


def _batched(operator, fake):
    """vmap's rule: tokens alone make one call, which does not care for the dimensions before the last; weights, one for each."""
    def rule(info, in_dims, *inputs):
        x, dim = inputs[0], in_dims[0]
        if dim is not None and x.dim() > 1 and not _mapped(in_dims[1:]):
            y = operator(x.movedim(dim, 0), *inputs[1:])
        elif info.batch_size > 0:
            results = [operator(*_sample(inputs, in_dims, i)) for i in range(info.batch_size)]
            y = tuple(map(torch.stack, zip(*results))) if isinstance(results[0], tuple) else torch.stack(results)
        else:
            y = fake(*map(_without, inputs, in_dims))
            y = tuple(part[None][:0] for part in y) if isinstance(y, tuple) else y[None][:0]
        return y, (0,) * len(y) if isinstance(y, tuple) else 0
    return rule


def register_one(library, name: str, function, fake) -> None:
    """vmap before PyTorch 2.5 calls once for each slice, by itself."""
    library.impl(name, function, "Autograd")
    if hasattr(torch.library, "register_vmap"):
        torch.library.register_vmap(f"fff::{name}", _batched(getattr(torch.ops.fff, name), fake), lib=library)


def register(library, fakes: dict) -> None:
    """Puts all of this where PyTorch's dispatcher finds it."""
    for function in (forward, route, forest, forest_route):
        register_one(library, function.__name__, function, fakes[function.__name__])
    library.impl("forward.out", forward_out, "Autograd")
    library.impl("forest.out", forest_out, "Autograd")
