"""Derivatives of fff.torch's layers in every mode that PyTorch has, against those of the dense definition in float64.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_torch_derivatives.py
"""

import copy
import unittest
import warnings

import torch
import torch.autograd.functional as functional
import torch.utils.checkpoint
from torch import nn
from torch.autograd import forward_ad

import fff.torch
from fff.torch import FFF, BenchmarkFFF, _dense

try:
    from torch import func
except ImportError:
    try:
        import functorch as func  # as it was with 1.13
    except ImportError:
        func = None

ACTIVATIONS = [nn.GELU, lambda: nn.GELU("tanh"), nn.ReLU, fff.torch.SquaredReLU, nn.SiLU, nn.Identity]


def squares(f):
    return lambda *inputs: f(*inputs).square().sum()


def tangent(f, x, t):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, t))).tangent


def bits(tensor):
    return tensor.detach().contiguous().numpy().tobytes()


class Compared(unittest.TestCase):
    def assert_close(self, found, expected, what):
        if not isinstance(found, torch.Tensor):
            self.assertEqual(len(found), len(expected), what)
            for one, other in zip(found, expected):
                self.assert_close(one, other, what)
            return
        scale = expected.abs().max().item()
        self.assertGreater(scale, 0, what)
        torch.testing.assert_close(found.double(), expected.double(), rtol=1e-3, atol=1e-4 * scale, msg=lambda text: f"{what}: {text}")

    def layers(self, activations=(nn.SiLU,)):
        """Name, function of tokens, and the same by the definition in float64."""
        for activation in activations:
            torch.manual_seed(1)
            for layer in (FFF(6, 5, 3, 2, activation).eval(), FFF(6, 5, 0, 9, activation).eval()):
                exact = copy.deepcopy(layer).double()
                model = nn.Sequential(nn.Linear(6, 6), layer)
                exact_model = nn.Sequential(copy.deepcopy(model[0]).double(), exact)
                yield "layer", layer, exact.dense
                yield "operator", lambda x, layer=layer: torch.ops.fff.forward(x, *layer._weights(), *layer._plan), exact.dense
                yield "model", model, lambda x, m=exact_model: m[1].dense(m[0](x))
        layer = BenchmarkFFF(6, 3, 5).eval()
        yield "benchmark", layer, copy.deepcopy(layer).double().dense

    def compare(self, transform, *inputs, activations=(nn.SiLU,)):
        exact_inputs = [value.double() for value in inputs]
        for name, f, exact in self.layers(activations):
            expected = transform(exact, *exact_inputs)
            for gradients in (True, False) if isinstance(f, nn.Module) else (True,):  # of the parameters
                with self.subTest(name=name, gradients=gradients):
                    if isinstance(f, nn.Module):
                        f.requires_grad_(gradients)
                    self.assert_close(transform(f, *inputs), expected, name)

    def setUp(self):
        torch.manual_seed(2)
        self.x, self.t = torch.randn(4, 6), torch.randn(4, 6)


class Derivatives(Compared):
    """What PyTorch has by itself."""

    def test_forward_mode(self):
        self.compare(tangent, self.x, self.t, activations=ACTIVATIONS)

        def without_gradients(f, x, t):
            with torch.no_grad():
                return tangent(f, x, t)
        self.compare(without_gradients, self.x, self.t)

    def test_forward_mode_keeps_the_bits(self):
        for _, f, _ in self.layers():
            with forward_ad.dual_level():
                y = forward_ad.unpack_dual(f(forward_ad.make_dual(self.x, self.t))).primal
            self.assertEqual(bits(y), bits(f(self.x)))

    def test_forward_mode_of_weights(self):
        layer = FFF(6, 5, 3, 2).eval()
        exact = copy.deepcopy(layer).double()
        tangents = [torch.randn_like(weight) for weight in layer.parameters()]

        def along(module, call, x):
            with forward_ad.dual_level():
                for part, name, t in zip((module.linear_in, module.linear_in, module.linear_out), ("weight", "bias", "weight"), tangents):
                    value = part._parameters.pop(name).detach()
                    part._parameters[name] = forward_ad.make_dual(value, t.to(value.dtype))
                return forward_ad.unpack_dual(call(x)).tangent
        self.assert_close(along(layer, layer, self.x), along(exact, exact.dense, self.x.double()), "weights")

    def test_reverse_over_forward(self):
        def transform(f, x, t):
            leaf = x.clone().requires_grad_()
            return torch.autograd.grad(tangent(f, leaf, t).square().sum(), leaf)[0]
        self.compare(transform, self.x, self.t)

    def test_forward_over_reverse(self):
        def transform(f, x, t):
            with forward_ad.dual_level():
                dual = forward_ad.make_dual(x.clone().requires_grad_(), t)
                (gradient,) = torch.autograd.grad(f(dual).square().sum(), dual, create_graph=True)
                return forward_ad.unpack_dual(gradient).tangent
        self.compare(transform, self.x, self.t)

    def test_autograd_functional(self):
        for name, transform in [
                ("jacobian", functional.jacobian), ("vectorised", lambda f, x: functional.jacobian(f, x, vectorize=True)),
                ("forward mode", lambda f, x: functional.jacobian(f, x, vectorize=True, strategy="forward-mode")),
                ("jvp", lambda f, x: functional.jvp(f, x, self.t.to(x.dtype))[1]),
                ("vjp", lambda f, x: functional.vjp(f, x, torch.ones_like(f(x)))[1]),
                ("hvp", lambda f, x: functional.hvp(squares(f), x, self.t.to(x.dtype))[1]),
                ("vhp", lambda f, x: functional.vhp(squares(f), x, self.t.to(x.dtype))[1]),
                ("hessian", lambda f, x: functional.hessian(squares(f), x)),
                ("hessian, forward mode", lambda f, x: functional.hessian(squares(f), x, vectorize=True,
                                                                          outer_jacobian_strategy="forward-mode"))]:
            with self.subTest(name):
                self.compare(transform, self.x)

    def test_checkpoint(self):
        options = {"use_reentrant": False}

        def transform(f, x):
            leaf = x.clone().requires_grad_()
            return torch.autograd.grad(torch.utils.checkpoint.checkpoint(f, leaf, **options).square().sum(), leaf)[0]
        self.compare(transform, self.x)

    def test_gradients_off(self):
        for _, f, _ in self.layers():
            leaf = self.x.clone().requires_grad_()
            for context in (torch.no_grad, torch.inference_mode):
                with context():
                    y = f(leaf)
                self.assertFalse(y.requires_grad)
                self.assertEqual(bits(y), bits(f(leaf)))

    def test_route(self):
        """The logits have derivatives, if the operator itself is asked; the module's method has none."""
        layer = FFF(6, 5, 3, 2).eval()
        weights = [weight.detach() for weight in layer._weights()]

        def logits(x):
            return torch.ops.fff.route(x, *weights, *layer._plan)[1]

        def expected(x):
            nodes = torch.ops.fff.route(self.x, *weights, *layer._plan)[0]
            return _dense.logits_at(x, weights[0].to(x.dtype), weights[1].to(x.dtype), nodes).reshape(4, 2, 4)
        self.assert_close(tangent(logits, self.x, self.t), tangent(expected, self.x.double(), self.t.double()), "route")
        self.assert_close(functional.jacobian(logits, self.x), functional.jacobian(expected, self.x.double()), "route")
        self.assertFalse(layer.route(self.x.clone().requires_grad_())[1].requires_grad)


@unittest.skipUnless(func, "neither torch.func nor functorch is here")
class Transforms(Compared):
    """torch.func's, alone and nested."""

    def test_all(self):
        grad, jvp, vjp, vmap, jacrev, jacfwd = func.grad, func.jvp, func.vjp, func.vmap, func.jacrev, func.jacfwd
        for name, transform in [
                ("grad", lambda f, x, t: grad(squares(f))(x)), ("vjp", lambda f, x, t: vjp(f, x)[1](torch.ones_like(f(x)))[0]),
                ("jvp", lambda f, x, t: jvp(f, (x,), (t,))[1]), ("jacrev", lambda f, x, t: jacrev(f)(x)),
                ("jacfwd", lambda f, x, t: jacfwd(f)(x)), ("hessian", lambda f, x, t: func.hessian(squares(f))(x)),
                ("jacrev of jacfwd", lambda f, x, t: jacrev(jacfwd(squares(f)))(x)),
                ("jacfwd of jacfwd", lambda f, x, t: jacfwd(jacfwd(squares(f)))(x)),
                ("jacrev of jacrev", lambda f, x, t: jacrev(jacrev(squares(f)))(x)),
                ("jvp of grad", lambda f, x, t: jvp(grad(squares(f)), (x,), (t,))[1]),
                ("grad of jvp", lambda f, x, t: grad(lambda x: jvp(f, (x,), (t,))[1].square().sum())(x)),
                ("vmap", lambda f, x, t: vmap(f)(x)), ("vmap of grad", lambda f, x, t: vmap(grad(squares(f)))(x)),
                ("vmap of jvp", lambda f, x, t: vmap(lambda x, t: jvp(f, (x,), (t,))[1])(x, t)),
                ("vmap of hessian", lambda f, x, t: vmap(func.hessian(squares(f)))(x)),
                ("vmap of vmap", lambda f, x, t: vmap(vmap(f))(torch.stack([x, t]))),
                ("vmap over the last", lambda f, x, t: vmap(f, in_dims=1, out_dims=1)(torch.stack([x, t], 1))),
                ("grad of vmap", lambda f, x, t: grad(squares(vmap(f)))(x)),
                ("jvp of vmap", lambda f, x, t: jvp(vmap(f), (x,), (t,))[1])]:
            with self.subTest(name):
                self.compare(transform, self.x, self.t)

    def test_vmap_keeps_the_bits(self):
        for _, f, _ in self.layers():
            self.assertEqual(bits(func.vmap(f)(self.x)), bits(f(self.x)))

    def test_weights(self):
        layer = FFF(6, 5, 3, 2).eval()
        weights = [weight.detach() for weight in layer._weights()]
        tangents = [torch.randn_like(weight) for weight in weights]

        def exact(*weights):
            logits = nn.functional.linear(self.x.to(weights[0].dtype), weights[0], weights[1])
            return nn.functional.linear(_dense.on_paths(logits, layer.activation(logits), 3, 2, 0), weights[2])

        def ours(*weights):
            return torch.ops.fff.forward(self.x, *weights, *layer._plan)
        for name, transform in [
                ("jvp", lambda f, w, t: func.jvp(f, tuple(w), tuple(t))[1]), ("jacrev", lambda f, w, t: func.jacrev(f, (0, 1, 2))(*w)),
                ("jacfwd", lambda f, w, t: func.jacfwd(f, (0, 1, 2))(*w)), ("grad", lambda f, w, t: func.grad(squares(f), (0, 1, 2))(*w)),
                ("vmap", lambda f, w, t: func.vmap(f)(*(torch.stack(pair) for pair in zip(w, t)))),
                ("vmap over some", lambda f, w, t: func.vmap(f, in_dims=(None, None, 1))(w[0], w[1], torch.stack([w[2], t[2]], 1))),
                ("vmap of grad", lambda f, w, t: func.vmap(func.grad(squares(f), (0, 1, 2)))(*(torch.stack(p) for p in zip(w, t))))]:
            with self.subTest(name):
                self.assert_close(transform(ours, weights, tangents),
                                  transform(exact, [w.double() for w in weights], [t.double() for t in tangents]), name)

    @unittest.skipUnless(hasattr(func, "functional_call"), "functional_call came with PyTorch 2.0")
    def test_functional_call(self):
        layer = FFF(6, 5, 3, 2).eval()
        exact = copy.deepcopy(layer).double().train()  # which is dense()
        parameters = {name: value.detach() for name, value in layer.named_parameters()}
        tangents = {name: torch.randn_like(value) for name, value in parameters.items()}
        double = {name: value.double() for name, value in parameters.items()}

        def call(module):
            return lambda parameters, x: func.functional_call(module, parameters, (x,))
        per_token = [func.vmap(func.grad(squares(call(module))), (None, 0))(values, x[:, None])
                     for module, values, x in ((layer, parameters, self.x), (exact, double, self.x.double()))]
        along = [func.jvp(lambda values: call(module)(values, x), (values,), (t,))[1] for module, values, t, x in
                 ((layer, parameters, tangents, self.x), (exact, double, {n: t.double() for n, t in tangents.items()}, self.x.double()))]
        for name in parameters:
            self.assert_close(per_token[0][name], per_token[1][name], name)
        self.assert_close(*along, "jvp")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    unittest.main()
