"""Training by the kernels' backward pass, against autograd over the masked dense definition.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_torch_train.py
"""

import copy
import gc
import importlib.util
import io
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import unittest
import warnings
from unittest import mock

import torch
import torch.utils.checkpoint
from torch import nn

import fff
import fff.torch
from fff.torch import FFF, BenchmarkFFF, NodeMajorFFF, RowAdam

MODERN = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)
ACTIVATIONS = [nn.GELU, lambda: nn.GELU("tanh"), nn.ReLU, fff.torch.SquaredReLU, nn.SiLU, nn.Identity]
SHAPES = [(5, 3, 4, 2), (33, 21, 5, 3), (64, 48, 6, 1), (17, 16, 0, 9), (1, 1, 3, 2), (8, 1, 2, 1), (100, 130, 1, 4)]


def bits(tensor):
    return tensor.detach().contiguous().numpy().tobytes()


def node_major(width=12, out=10, depth=4, biased=True, routing=">", activation=None):
    """A NodeMajorFFF, as from_module() makes them."""
    source, nodes = nn.Module(), 2 ** (depth + 1) - 1
    source.a = nn.Parameter(torch.randn(nodes, width) / width ** 0.5)
    source.b = nn.Parameter(torch.randn(nodes) * 0.1)
    source.c = nn.Parameter(torch.randn(nodes, out) / (depth + 1) ** 0.5)
    made = NodeMajorFFF.__new__(NodeMajorFFF)
    nn.Module.__init__(made)
    made._set(source, ("a", "b" if biased else None, "c"), depth, activation or nn.GELU(), routing, False)
    return made


def made_by(y):
    """The name of the operation's backward pass, but for changes of shape."""
    node = y.grad_fn
    while type(node).__name__ in ("UnsqueezeBackward0", "ViewBackward0"):
        node = node.next_functions[0][0]
    return type(node).__name__


def gradients(module, call, x, seed=3):
    """Of x and all parameters, for a loss that weighs all outputs differently."""
    module.zero_grad(set_to_none=True)
    leaf = x.detach().clone().requires_grad_()
    y = call(leaf)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(y.dtype)
    (y * weights).sum().backward()
    return [leaf.grad, *(weight.grad for weight in module.parameters())]


class Compared(unittest.TestCase):
    def assert_close(self, found, expected, relative=1e-5, what=""):
        self.assertEqual(len(found), len(expected))
        for i, (one, other) in enumerate(zip(found, expected)):
            if other is None or one is None:
                self.assertIs(one, other, f"{what} {i}")
                continue
            one = one.to_dense() if one.layout != torch.strided else one
            self.assertEqual(one.shape, other.shape)
            scale = other.abs().max().item() if other.numel() else 0
            apart = (one.double() - other.double()).abs().max().item() if other.numel() else 0
            self.assertLessEqual(apart, relative * scale, f"{what} {i}")

    def assert_kernels(self, module, x):
        """That train() does take the way that is tested here."""
        self.assertIn("_Train", made_by(module(x.clone().requires_grad_())))


class Gradients(Compared):
    def test_slopes(self):
        """At 0, too, where autograd's choice counts."""
        for number in range(len(ACTIVATIONS)):
            logits = torch.tensor([-2.0, -0.5, -0.0, 0.0, 1e-40, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
            (expected,) = torch.autograd.grad(fff.torch._dense.activate(logits, number).sum(), logits)
            torch.testing.assert_close(fff.torch._dense.slope(logits.detach(), number), expected, rtol=1e-12, atol=0)

    def test_definition_is_right(self):
        """gradcheck() wants float64, which dense() alone takes: what all else here is compared with."""
        for activation in ACTIVATIONS:
            torch.manual_seed(1)
            for module in (FFF(5, 3, 3, 2, activation).double(), BenchmarkFFF(4, 2, 3).double()):
                x = torch.randn(4, module.input_width, dtype=torch.float64, requires_grad=True)
                parameters = list(module.parameters())
                self.assertTrue(torch.autograd.gradcheck(lambda x, *_: module.dense(x), (x, *parameters)))

    def test_all_activations(self):
        for number, activation in enumerate(ACTIVATIONS):
            for shape in SHAPES:
                for routing in (">", ">="):
                    for biased in (True, False):
                        torch.manual_seed(number)
                        module = FFF(*shape, activation, routing=routing)
                        if not biased:
                            module.linear_in.bias = None
                        exact = copy.deepcopy(module).double()
                        x = torch.randn(37, shape[0])
                        with self.subTest(number=number, shape=shape, routing=routing, biased=biased):
                            self.assert_kernels(module, x)
                            self.assert_close(gradients(module, module, x), gradients(exact, exact.dense, x.double()))
                            self.assert_close(gradients(module, module, x), gradients(module, module.dense, x))

    def test_node_major(self):
        for biased in (True, False):
            for activation in ACTIVATIONS:
                module = node_major(biased=biased, activation=activation())
                exact = copy.deepcopy(module).double()
                x = torch.randn(19, 12)
                self.assert_kernels(module, x)
                self.assert_close(gradients(module, module, x), gradients(exact, exact.dense, x.double()))
        module = BenchmarkFFF(24, 5, 20)
        x = torch.randn(50, 24)
        self.assertEqual(module(x).shape, (50, 1, 20))
        self.assert_kernels(module, x)
        self.assert_close(gradients(module, module, x), gradients(module, module.dense, x))

    def test_same_bits_as_evaluation(self):
        for shape in SHAPES:
            module = FFF(*shape)
            for x in (torch.randn(70, shape[0]), torch.randn(1, shape[0]), torch.randn(2, 3, shape[0])):
                trained = module.train()(x)
                with torch.no_grad():
                    self.assertEqual(bits(trained), bits(module(x)))
                    self.assertEqual(bits(trained), bits(module.eval()(x)))

    def test_evaluation_takes_the_same_backward_pass(self):
        module = FFF(33, 21, 5, 3)
        x = torch.randn(40, 33)
        trained, evaluated = gradients(module.train(), module, x), gradients(module.eval(), module, x)
        self.assertEqual([bits(part) for part in trained], [bits(part) for part in evaluated])

    def test_batches(self):
        torch.manual_seed(1)
        module = FFF(10, 7, 4, 2)
        for leading in [(), (0,), (1,), (5,), (3, 4), (2, 0, 3), (2, 1, 7), (300,)]:
            x = torch.randn(*leading, 10)
            found = gradients(module, module, x)
            self.assertEqual(found[0].shape, x.shape)
            self.assert_close(found, gradients(module, module.dense, x))

    def test_tokens_and_weights_of_any_alignment(self):
        torch.manual_seed(1)

        def moved(tensor):
            return torch.frombuffer(bytearray(b"?" + bits(tensor)), dtype=tensor.dtype, offset=1).reshape(tensor.shape)

        for module in (FFF(10, 7, 4, 2), FFF(10, 7, 4, 2, thresholds=torch.randn(62) * 0.1), node_major(10, 7)):
            x, plan, limits = torch.randn(9, 10), module._plan, module._limits()
            weights = [weight.detach() for weight in module._weights()]
            if not module._node_major:
                weights[2], plan = weights[2].t().contiguous(), (*plan[:4], True)
            for layout in (False, True):
                if layout:
                    weights[2], plan = weights[2].t().contiguous(), (*plan[:4], False)
                y, nodes, logits = torch.ops.fff.train(x, *weights, *plan, limits)
                grad = torch.randn(y.shape)
                expected = [y, nodes, logits, *torch.ops.fff.backward(grad, x, *weights, nodes, logits, *plan)]
                odd = None if limits is None else moved(limits)
                found = torch.ops.fff.train(moved(x), *map(moved, weights), *plan, odd)
                found += torch.ops.fff.backward(moved(grad), moved(x), *map(moved, weights), nodes, logits, *plan)
                self.assertEqual([bits(part) for part in found], [bits(part) for part in expected])

    def test_tokens_of_any_strides(self):
        torch.manual_seed(1)
        module = FFF(10, 7, 4, 2)
        for x in (torch.randn(40, 20)[:, ::2], torch.randn(10, 40).t(), torch.randn(40, 30)[:, 5:15], torch.randn(1, 10).expand(40, 10),
                  torch.randn(4, 30, 10)[:, ::3], torch.randn(40, 20)[::2, 3:13]):
            plain = x.contiguous()
            module.zero_grad()
            module(x).square().sum().backward()
            found = [weight.grad.clone() for weight in module.parameters()]
            module.zero_grad()
            module(plain).square().sum().backward()
            self.assertEqual([bits(part) for part in found], [bits(weight.grad) for weight in module.parameters()])
        leaf = torch.randn(10, 40, requires_grad=True)
        module(leaf.t()).sum().backward()  # a gradient of strides 0, too
        other = leaf.detach().clone().requires_grad_()
        module.dense(other.t()).sum().backward()
        self.assert_close([leaf.grad], [other.grad])

    def test_only_some_gradients(self):
        torch.manual_seed(1)
        module = FFF(10, 7, 4, 2)
        x = torch.randn(30, 10)
        everything = gradients(module, module, x)
        for wanted in range(16):
            module.zero_grad(set_to_none=True)
            leaf = x.clone().requires_grad_(bool(wanted & 1))
            for bit, weight in zip((2, 4, 8), module.parameters()):
                weight.requires_grad_(bool(wanted & bit))
            y = module(leaf)
            self.assertEqual(y.requires_grad, wanted > 0)
            if not wanted:
                continue
            weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).float()
            (y * weights).sum().backward()
            for bit, found, expected in zip((1, 2, 4, 8), [leaf.grad, *(weight.grad for weight in module.parameters())], everything):
                self.assertEqual(None if found is None else bits(found), bits(expected) if wanted & bit else None)

    def test_accumulation(self):
        torch.manual_seed(1)
        module = FFF(10, 7, 4, 2)
        x = torch.randn(30, 10)
        module(x).sum().backward()
        once = [weight.grad.clone() for weight in module.parameters()]
        module(x).sum().backward()
        self.assert_close([weight.grad for weight in module.parameters()], [2 * part for part in once])

    def test_nan_stays(self):
        module = FFF(10, 7, 4, 2)
        x = torch.randn(6, 10)
        leaf = x.clone().requires_grad_()
        upstream = torch.ones(6, 7)
        upstream[2, 3] = float("nan")
        module(leaf).backward(upstream)
        self.assertEqual(leaf.grad.isnan().any(1).tolist(), [False, False, True, False, False, False])
        rows = (module.route(x)[0][2].long() + torch.tensor([[0], [31]])).flatten()
        met = torch.zeros(62, dtype=torch.bool).scatter(0, rows, True)
        self.assertEqual(module.linear_in.weight.grad.isnan().all(1).tolist(), met.tolist())
        self.assertEqual(module.linear_in.bias.grad.isnan().tolist(), met.tolist())
        self.assertEqual(module.linear_out.weight.grad[3].isnan().tolist(), met.tolist())
        with torch.no_grad():
            x[1] = float("nan")  # goes left all the way
        module.zero_grad()
        leaf = x.clone().requires_grad_()
        module(leaf).sum().backward()
        self.assertEqual(leaf.grad.isnan().any(1).tolist(), [False, True, False, False, False, False])

    def test_writes_before_the_backward_pass(self):
        module = FFF(10, 7, 4, 2)
        for weight in module.parameters():
            y = module(torch.randn(4, 10)).sum()
            with torch.no_grad():
                weight.mul_(0.5)
            with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
                y.backward()
        x = torch.randn(4, 10)
        y = module(x).sum()
        x.add_(1)
        with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
            y.backward()

    def test_twice(self):
        module = FFF(10, 7, 4, 2)
        y = module(torch.randn(4, 10)).sum()
        y.backward(retain_graph=True)
        y.backward()
        with self.assertRaisesRegex(RuntimeError, "second time"):
            y.backward()

    def test_derivatives_of_gradients(self):
        torch.manual_seed(1)
        module = FFF(6, 5, 3, 2, nn.SiLU)
        exact = copy.deepcopy(module).double()
        x = torch.randn(9, 6)

        def penalty(module, call, x):
            leaf = x.clone().requires_grad_()
            inputs = [leaf, *module.parameters()]
            found = torch.autograd.grad(call(leaf).square().sum(), inputs, create_graph=True)
            return torch.autograd.grad(sum(part.square().sum() for part in found), inputs)
        self.assert_close(penalty(module, module, x), penalty(exact, exact.dense, x.double()), 1e-4)

    def test_checkpoint(self):
        torch.manual_seed(1)
        module = FFF(10, 7, 4, 2)
        x = torch.randn(30, 10)
        expected = gradients(module, module, x)
        for reentrant in (True, False):
            found = gradients(module, lambda leaf: torch.utils.checkpoint.checkpoint(module, leaf, use_reentrant=reentrant), x)
            self.assertEqual([bits(part) for part in found], [bits(part) for part in expected])

    def test_threads_do_not_change_bits(self):
        torch.manual_seed(1)
        module = FFF(96, 80, 7, 3)
        x = torch.randn(400, 96)
        before = torch.get_num_threads()
        found = []
        try:
            for threads in (1, 2, 3, 5):
                torch.set_num_threads(threads)
                for module.sparse in (False, True):
                    found.append([bits(part.to_dense()) for part in gradients(module, module, x)])
        finally:
            torch.set_num_threads(before)
        for one in found[1:]:
            self.assertEqual(one, found[0])

    def test_layers_in_a_row(self):
        torch.manual_seed(1)
        model = nn.Sequential(FFF(12, 16, 4, 2), nn.LayerNorm(16), FFF(16, 12, 3, 1, nn.Identity), nn.Linear(12, 3))
        dense = copy.deepcopy(model)
        dense[0].dense_training = dense[2].dense_training = True
        x = torch.randn(50, 12)
        self.assert_close(gradients(model, model, x), gradients(dense, dense, x), 1e-4)

    def test_learns(self):
        torch.manual_seed(1)
        module, target = FFF(16, 4, 4, 2), nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
        optimizer = torch.optim.Adam(module.parameters(), 1e-2)
        x = torch.randn(512, 16)
        y = target(x).detach()
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(module(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        self.assertLess(losses[-1], 0.3 * losses[0])


class Choices(Compared):
    """When train() computes dense(), and says so."""

    def assert_dense(self, module, x, dense=True):
        name = made_by(module(x))
        self.assertEqual("_Train" not in name, dense, name)

    def test_by_choice(self):
        module, x = FFF(10, 7, 4, 2), torch.randn(4, 10)
        self.assert_dense(module, x, False)
        module.dense_training = True
        self.assert_dense(module, x)
        self.assertTrue(copy.deepcopy(module).dense_training)
        module.dense_training = False
        self.assert_dense(module, x, False)

    def test_other_types(self):
        for dtype in (torch.float64, torch.bfloat16):
            self.assert_dense(FFF(10, 7, 4, 2).to(dtype), torch.randn(4, 10, dtype=dtype))
        with torch.autocast("cpu", torch.bfloat16):
            module = FFF(10, 7, 4, 2)
            self.assert_dense(module, torch.randn(4, 10))
            self.assertEqual(module(torch.randn(4, 10)).dtype, torch.bfloat16)

    def test_thresholds(self):
        module, x = FFF(10, 7, 4, 2, thresholds=torch.randn(62) * 0.2), torch.randn(64, 10)
        for _ in range(2):
            self.assert_dense(module, x, False)
            self.assert_close(gradients(module, module, x), gradients(module, module.dense, x))
            self.assertEqual(bits(module(x)), bits(module.eval()(x)))
            module.train()
            module.thresholds.neg_()  # in place, as balancing changes them between steps
        module.thresholds = nn.Parameter(module.thresholds)
        gradients(module, module, x)
        self.assertIsNone(module.thresholds.grad)  # nothing flows through where a token goes
        for wrong in (torch.full((62,), float("nan")), torch.randn(61), torch.randn(62, 1), torch.randn(2, 31)):
            with self.assertRaises((ValueError, RuntimeError)):
                torch.ops.fff.train(x, *module._weights(), *module._plan, wrong)
        module.thresholds = nn.Parameter(module.thresholds.detach().double())
        self.assert_dense(module, x)
        module.thresholds = None
        self.assert_dense(module, x, False)
        optimizer = RowAdam(module)
        module.dense_training = True
        module(x).sum().backward()
        self.assertRaisesRegex(RuntimeError, "not the kernels'", optimizer.step)

    def test_other_modules(self):
        module = FFF(10, 7, 4, 2)
        called = []
        for module, name in ((module, "linear_in"), (module, "activation"), (node_major(10, 7), "activation")):
            hook = getattr(module, name).register_forward_hook(lambda *_: called.append(1))
            self.assert_dense(module, torch.randn(4, 10))
            self.assertEqual(called, [1])
            called.clear()
            hook.remove()
            self.assert_dense(module, torch.randn(4, 10), False)
        module = FFF(10, 7, 4, 2)
        nn.utils.weight_norm(module.linear_out)
        self.assert_dense(module, torch.randn(4, 10))

    def test_errors(self):
        module = FFF(10, 7, 4, 2)
        with self.assertRaises(ValueError):
            module(torch.randn(4, 9))
        with self.assertRaises(RuntimeError):
            module(torch.randn(4, 10, dtype=torch.float64))
        weights = module._weights()
        with self.assertRaises(TypeError):
            torch.ops.fff.train(torch.randn(4, 10).double(), *(weight.double() for weight in weights), *module._plan)
        with self.assertRaises(ValueError):
            torch.ops.fff.train(torch.randn(4, 9), *weights, *module._plan)
        with self.assertRaises(ValueError):
            torch.ops.fff.train(torch.randn(4, 10), *weights, 5, 2)
        x = torch.randn(4, 10)
        with torch.no_grad():
            y, nodes, logits = torch.ops.fff.train(x, *weights, *module._plan)
            for wrong in ((torch.randn(3, 7), x, nodes, logits), (torch.randn(4, 6), x, nodes, logits), (y, x, nodes[:3], logits),
                          (y, x, nodes.long(), logits)):
                with self.assertRaises(ValueError):
                    torch.ops.fff.backward(wrong[0], wrong[1], *weights, *wrong[2:], *module._plan)
            with self.assertRaisesRegex(RuntimeError, "node"):
                torch.ops.fff.backward(y, x, *weights, nodes + 1000, logits, *module._plan)


class Layout(Compared):
    """linear_out.weight: (output width, neurons), its memory neuron after neuron."""

    def test_constructor(self):
        torch.manual_seed(5)
        module = FFF(6, 5, 3, 2)
        self.assertEqual(module.linear_out.weight.shape, (5, 30))
        self.assertEqual(module.linear_out.weight.stride(), (1, 5))
        torch.manual_seed(5)
        linear_in, linear_out = nn.Linear(6, 30), nn.Linear(30, 5, bias=False)
        for weight, bound in ((linear_in.weight, 6 ** -0.5), (linear_in.bias, 6 ** -0.5), (linear_out.weight, 8 ** -0.5)):
            nn.init.uniform_(weight, -bound, bound)
        self.assertTrue(torch.equal(module.linear_out.weight, linear_out.weight))  # the numbers that theirs draws
        self.assertEqual(FFF(6, 5, 3, 2, device="meta").linear_out.weight.stride(), (1, 5))

    def kept(self, module):
        self.assertEqual(module.linear_out.weight.stride(), (1, module.output_width))

    def test_survives(self):
        module = FFF(6, 5, 3, 2)
        self.kept(copy.deepcopy(module))
        self.kept(pickle.loads(pickle.dumps(module)))
        self.kept(FFF(6, 5, 3, 2).double().float())
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        loaded = torch.load(file)
        other = FFF(6, 5, 3, 2)
        other.load_state_dict(loaded)
        self.kept(other)
        self.assertTrue(torch.equal(other.linear_out.weight, module.linear_out.weight))
        theirs = {name: weight.contiguous() for name, weight in module.state_dict().items()}
        other.load_state_dict(theirs)
        self.kept(other)
        plain = nn.Linear(30, 5, bias=False)
        plain.load_state_dict({"weight": loaded["linear_out.weight"]})  # the other way round
        self.assertTrue(torch.equal(plain.weight, module.linear_out.weight))
        self.assertTrue(plain.weight.is_contiguous())
        if MODERN:
            other.load_state_dict(theirs, assign=True)
            self.assertEqual(other.linear_out.weight.stride(), (30, 1))
            fff.torch.node_major_(other)
            self.kept(other)
            self.assertTrue(torch.equal(other.linear_out.weight, module.linear_out.weight))
        shared = FFF(6, 5, 3, 2).share_memory()
        self.kept(shared)
        vector = torch.cat([weight.reshape(-1) for weight in module.parameters()])
        self.assertEqual(vector.numel(), sum(weight.numel() for weight in module.parameters()))

    def test_optimizers(self):
        """Each as with a contiguous weight."""
        options = {"momentum": 0.9}
        for kind, given in ((torch.optim.SGD, options), (torch.optim.Adam, {}), (torch.optim.AdamW, {}), (torch.optim.RMSprop, {}),
                            (torch.optim.Adagrad, {}), (torch.optim.AdamW, {"foreach": True})):
            torch.manual_seed(1)
            module = FFF(6, 5, 3, 2)
            other = copy.deepcopy(module)
            other.linear_out.weight = nn.Parameter(other.linear_out.weight.detach().contiguous())
            self.assertTrue(other.linear_out.weight.is_contiguous())
            x = torch.randn(20, 6)
            for each in (module, other):
                optimizer = kind(each.parameters(), lr=1e-2, **given)
                for _ in range(3):
                    optimizer.zero_grad()
                    each(x).square().sum().backward()
                    optimizer.step()
            self.kept(module)
            self.assertEqual(module.linear_out.weight.grad.stride(), (1, 5))  # taken over as it is, not copied
            self.assertEqual(other.linear_out.weight.grad.stride(), (30, 1))
            self.assert_close(list(module.parameters()), list(other.parameters()), 1e-6)

    def test_other_layouts(self):
        torch.manual_seed(1)
        module = FFF(6, 5, 3, 2)
        x = torch.randn(20, 6)
        expected = gradients(module, module, x)
        wide = torch.zeros(5, 60)
        wide[:, ::2] = module.linear_out.weight.detach()
        for weight in (module.linear_out.weight.detach().contiguous(), wide[:, ::2]):
            other = copy.deepcopy(module)
            other.linear_out.weight = nn.Parameter(weight)
            self.assert_kernels(other, x)
            found = gradients(other, other, x)
            self.assertEqual([bits(part) for part in found], [bits(part) for part in expected])
            other.sparse = True
            self.assertEqual([bits(part.to_dense()) for part in gradients(other, other, x)], [bits(part) for part in expected])
        other = copy.deepcopy(module)
        other.linear_in.weight = nn.Parameter(module.linear_in.weight.detach().t().contiguous().t())  # neuron beside neuron
        self.assertEqual([bits(part) for part in gradients(other, other, x)], [bits(part) for part in expected])

    def test_flat_input_weight(self):
        torch.manual_seed(1)
        source, depth = nn.Module(), 3
        source.w1s, source.w2s = nn.Parameter(torch.randn(15 * 6, 1)), nn.Parameter(torch.randn(15, 5))
        made = NodeMajorFFF.__new__(NodeMajorFFF)
        nn.Module.__init__(made)
        made._set(source, ("w1s", None, "w2s"), depth, nn.GELU(), ">", False, True)
        x = torch.randn(20, 6)
        expected = gradients(made, made.dense, x)
        for made.sparse in (False, True):
            self.assert_close(gradients(made, made, x), expected)


class Sparse(Compared):
    def test_rows(self):
        torch.manual_seed(1)
        for module in (node_major(), BenchmarkFFF(12, 4, 10), FFF(12, 10, 4, 2, sparse=True)):
            module.sparse = False
            x = torch.randn(7, 12)
            expected = gradients(module, module, x)
            module.sparse = True
            found = gradients(module, module, x)
            self.assertEqual([bits(part.to_dense()) for part in found], [bits(part) for part in expected])
            rows = torch.unique((module.route(x)[0].long() + 31 * torch.arange(module.parallel_size).unsqueeze(1)).flatten())
            for weight in module.parameters():
                if weight.shape[0] == module.parallel_size * module.n_nodes:
                    self.assertEqual(weight.grad.layout, torch.sparse_coo)
                    self.assertEqual(weight.grad._indices()[0].tolist(), rows.tolist())
            found = gradients(module, module, torch.randn(0, 12))
            self.assertEqual(sum(part.to_dense().abs().sum().item() for part in found), 0)

    def test_sparse_adam(self):
        torch.manual_seed(1)
        module = node_major()
        module.sparse = True
        optimizer = torch.optim.SparseAdam(list(module.parameters()), 1e-2)
        before = copy.deepcopy(module)
        x = torch.randn(3, 12)
        for _ in range(2):
            optimizer.zero_grad()
            module(x).square().sum().backward()
            optimizer.step()
        met = torch.zeros(31, dtype=torch.bool)
        met[before.route(x)[0].flatten().long()] = True
        for one, other in zip(module.parameters(), before.parameters()):
            changed = (one != other).reshape(31, -1).any(1)
            self.assertTrue((changed[~met] == False).all())  # noqa: E712
            self.assertTrue(changed[met].any())

    def test_accumulates(self):
        torch.manual_seed(1)
        module = node_major()
        x = torch.randn(9, 12)
        found = []
        for module.sparse in (False, True):
            module.zero_grad(set_to_none=True)
            for part in x.split(4):
                module(part).square().sum().backward()
            found.append([weight.grad.to_dense() for weight in module.parameters()])
        self.assert_close(found[1], found[0], 1e-6)

    def test_no_second_derivatives(self):
        module = node_major()
        module.sparse = True
        leaf = torch.randn(3, 12, requires_grad=True)
        with self.assertRaisesRegex(RuntimeError, "sparse"):
            torch.autograd.grad(module(leaf).sum(), leaf, create_graph=True)


def reference_adam(weights, moments, found, step, lr=1e-2, betas=(0.9, 0.99), eps=1e-8, decay=0.1):
    """RowAdam's formula, in float64."""
    for weight, (m, v), gradient in zip(weights, moments, found[1:]):
        at = found.rows.long()
        g = gradient.double()
        m[at] = betas[0] * m[at] + (1 - betas[0]) * g
        v[at] = betas[1] * v[at] + (1 - betas[1]) * g * g
        weight[at] = weight[at] * (1 - lr * decay) - lr * (m[at] / (1 - betas[0] ** step)) / ((v[at] / (1 - betas[1] ** step)).sqrt() + eps)


class RowAdams(Compared):
    SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}

    def test_formula(self):
        torch.manual_seed(1)
        for module in (FFF(12, 10, 4, 2), node_major()):
            optimizer = RowAdam(module, **self.SETTINGS)
            rows = [module._weights()[0], module._weights()[1], module._weights()[2] if module._node_major else module._weights()[2].t()]
            weights = [weight.detach().double() for weight in rows]
            moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights]
            for step in range(1, 6):
                module(torch.randn(6, 12)).square().sum().backward()
                (found,) = optimizer.gradients()
                self.assertTrue(all(weight.grad is None for weight in module.parameters()))
                reference_adam(weights, moments, found, step)
                optimizer.step()
                optimizer.zero_grad()
                self.assertEqual(optimizer.gradients(), [None])
                self.assert_close(rows, weights, 1e-6)

    def test_is_adamw_where_all_neurons_are_met(self):
        torch.manual_seed(1)
        module = FFF(12, 10, 2, 2)
        other = copy.deepcopy(module)
        ours, theirs = RowAdam(module, **self.SETTINGS), torch.optim.AdamW(other.parameters(), **self.SETTINGS)
        for _ in range(5):
            x = torch.randn(400, 12)
            self.assertEqual(int(fff.torch.usage(module, [x])[""].dead), 0)
            for each, optimizer in ((module, ours), (other, theirs)):
                optimizer.zero_grad()
                each(x).square().mean().backward()
                optimizer.step()
        self.assert_close(list(module.parameters()), list(other.parameters()), 1e-4)

    def test_goes_on_from_adamw(self):
        torch.manual_seed(1)
        module = FFF(12, 10, 2, 2)
        theirs = torch.optim.AdamW(module.parameters(), **self.SETTINGS)
        for number in range(3):
            x = torch.randn(400, 12)
            module(x).square().mean().backward()
            theirs.step()
            theirs.zero_grad()
        self.assertIsInstance(theirs.state_dict()["state"][0]["step"], torch.Tensor)
        other = copy.deepcopy(module)
        ours = RowAdam(other)
        ours.load_state_dict(copy.deepcopy(theirs.state_dict()))  # `step` is a tensor, which both would count in
        for _ in range(3):
            x = torch.randn(400, 12)
            for each, optimizer in ((module, theirs), (other, ours)):
                each(x).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
        self.assertEqual([state["step"] for state in ours.state_dict()["state"].values()], [6, 6, 6])
        self.assert_close(list(other.parameters()), list(module.parameters()), 1e-4)

    def test_failed_steps_do_not_count(self):
        module = FFF(12, 10, 2, 2)
        optimizer = RowAdam(module)
        for number in range(2):
            module(torch.randn(9, 12)).sum().backward()
            if number == 1:
                optimizer.param_groups[0]["lr"] = float("nan")
                with self.assertRaises(fff.Error):
                    optimizer.step()
            else:
                optimizer.step()
        self.assertEqual([state["step"] for state in optimizer.state_dict()["state"].values()], [1, 1, 1])

    def test_hooks_on_weights(self):
        """They would see no gradient: refused, but where torch.autograd.grad() returns one."""
        torch.manual_seed(1)
        x = torch.randn(9, 12)
        for change in (False, True):
            for name in ("linear_in.weight", "linear_in.bias", "linear_out.weight"):
                module, seen = FFF(12, 10, 3, 2), []
                optimizer = RowAdam(module)
                if change:
                    module.linear_out.weight.data = module.linear_out.weight.data.contiguous()
                weight = dict(module.named_parameters())[name]
                hooks = [lambda weight=weight, seen=seen: weight.register_hook(seen.append)]
                if hasattr(weight, "register_post_accumulate_grad_hook"):
                    hooks.append(lambda weight=weight, seen=seen: weight.register_post_accumulate_grad_hook(seen.append))
                for register in hooks:
                    hook = register()
                    with self.assertRaisesRegex(RuntimeError, "remove the hook"):
                        module(x).sum().backward()
                    self.assertEqual((seen, optimizer.gradients()), ([], [None]))
                    hook.remove()
                    module(x).sum().backward()
                    self.assertIsNotNone(optimizer.gradients()[0])
                    optimizer.zero_grad()
                hook = hooks[0]()
                (found,) = torch.autograd.grad(module(x).sum(), [weight])
                self.assertEqual(found.shape, weight.shape)
                hook.remove()

    def test_several_backward_passes(self):
        torch.manual_seed(1)
        module = FFF(12, 10, 4, 2)
        optimizer = RowAdam(module)
        x = torch.randn(12, 12)
        for part in x.split(5):
            module(part).square().sum().backward()
        (apart,) = optimizer.gradients()
        optimizer.zero_grad()
        module(x).square().sum().backward()
        (together,) = optimizer.gradients()
        self.assertEqual(apart.rows.tolist(), together.rows.tolist())
        self.assert_close(apart[1:], together[1:])

    def test_dropped_after_an_exchange(self):
        module, x = FFF(12, 10, 4, 2), torch.randn(5, 12)
        optimizer = RowAdam(module)
        for drop in (optimizer.zero_grad, optimizer.step):
            module(x).sum().backward()
            module._sink.exchanged = True  # as gradients() leaves it where there are several processes
            with self.assertRaisesRegex(RuntimeError, "have exchanged"):
                module(x).sum().backward()
            drop()
            self.assertEqual(optimizer.gradients(), [None])

    def test_clipping(self):
        torch.manual_seed(1)
        model = nn.Sequential(FFF(12, 10, 4, 2), nn.Linear(10, 3))
        dense = copy.deepcopy(model)
        optimizer = RowAdam(model)
        x = torch.randn(12, 12)
        model(x).square().sum().backward()
        dense(x).square().sum().backward()
        others = optimizer.others(model)
        self.assertEqual([id(weight) for weight in others], [id(weight) for weight in model[1].parameters()])
        expected = torch.nn.utils.clip_grad_norm_(dense.parameters(), 0.5)
        self.assert_close([optimizer.clip_grad_norm_(0.5, others)], [expected])
        found = optimizer.gradients()[0]
        expected = dense[0].linear_in.weight.grad[found.rows.long()]
        self.assert_close([found.input_weight, model[1].weight.grad], [expected, dense[1].weight.grad])

    def test_state(self):
        torch.manual_seed(1)
        module = FFF(12, 10, 4, 2)
        optimizer = RowAdam(module, **self.SETTINGS)
        batches = torch.randn(6, 5, 12)

        def steps(module, optimizer, batches):
            for x in batches:
                optimizer.zero_grad()
                module(x).square().sum().backward()
                optimizer.step()
        steps(module, optimizer, batches[:3])
        file = io.BytesIO()
        torch.save({"module": module.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        loaded = torch.load(file)
        other = FFF(12, 10, 4, 2)
        other.load_state_dict(loaded["module"])
        resumed = RowAdam(other)
        resumed.load_state_dict(loaded["optimizer"])
        self.assertEqual(resumed.param_groups[0]["weight_decay"], 0.1)
        steps(module, optimizer, batches[3:])
        steps(other, resumed, batches[3:])
        self.assertEqual([bits(weight) for weight in module.parameters()], [bits(weight) for weight in other.parameters()])

    def test_schedulers_and_evaluation(self):
        torch.manual_seed(1)
        module = FFF(12, 10, 4, 2)
        optimizer = RowAdam(module, lr=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 ** step)
        x = torch.randn(8, 12)
        for _ in range(3):
            with torch.no_grad():
                module.eval()
                self.assert_close([module(x)], [module.dense(x)])  # packed anew: steps count as writes
                module.train()
            module(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        self.assertAlmostEqual(optimizer.param_groups[0]["lr"], 1e-2 / 8)
        y = module(x).sum()
        module(x).sum().backward()
        optimizer.step()
        with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
            y.backward()

    def test_whose_layers(self):
        module = FFF(12, 10, 4, 2)
        optimizer = RowAdam(module)
        x = torch.randn(8, 12)
        for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            copied(x).sum().backward()
            self.assertIsNotNone(copied.linear_in.weight.grad)
        self.assertEqual(optimizer.gradients(), [None])
        module.linear_in.weight.requires_grad_(False)
        module(x).sum().backward()
        self.assertIsNone(optimizer.gradients()[0].input_weight)
        before = bits(module.linear_in.weight)
        optimizer.step()
        self.assertEqual(bits(module.linear_in.weight), before)
        module.linear_in.weight.requires_grad_(True)
        del optimizer
        gc.collect()
        module(x).sum().backward()
        self.assertIsNotNone(module.linear_in.weight.grad)

    def test_layouts_of_later(self):
        """Weights that are laid out anew after the optimizer was made: .contiguous(), load_state_dict(assign=True), rows apart."""
        def apart(weight):
            wide = torch.zeros(weight.shape[0], 2 * weight.shape[1])
            wide[:, ::2] = weight
            return wide[:, ::2]

        def assign(module):
            if MODERN:
                module.load_state_dict({name: weight.clone().contiguous() for name, weight in module.state_dict().items()}, assign=True)
            else:
                for part in (module.linear_in, module.linear_out):
                    part.weight = nn.Parameter(part.weight.detach().clone().contiguous())
        changes = [lambda module: setattr(module.linear_out.weight, "data", module.linear_out.weight.data.contiguous()),
                   lambda module: setattr(module.linear_out.weight, "data", apart(module.linear_out.weight.data)),
                   lambda module: setattr(module.linear_in.weight, "data", apart(module.linear_in.weight.data)),
                   lambda module: setattr(module.linear_in.weight, "data", module.linear_in.weight.data.t().contiguous().t()), assign]
        batches = torch.randn(6, 5, 12)
        for change in changes:
            for first in (0, 3):
                torch.manual_seed(1)
                one = FFF(12, 10, 4, 2)
                other = copy.deepcopy(one)
                optimizers = [RowAdam(one, **self.SETTINGS), RowAdam(other, **self.SETTINGS)]
                for step, x in enumerate(batches):
                    if step == first:
                        change(other)
                    for module, optimizer in zip((one, other), optimizers):
                        module(x).square().sum().backward()
                        optimizer.step()
                        optimizer.zero_grad()
                self.assertEqual([bits(weight) for weight in other.parameters()], [bits(weight) for weight in one.parameters()])
                self.assertEqual(optimizers[1].others(other), [])
                resumed = RowAdam(FFF(12, 10, 4, 2))
                resumed.load_state_dict(optimizers[1].state_dict())
                found, expected = resumed.state_dict()["state"], optimizers[0].state_dict()["state"]
                self.assertEqual([bits(found[i]["exp_avg_sq"]) for i in range(3)], [bits(expected[i]["exp_avg_sq"]) for i in range(3)])

    def test_gradients_that_nobody_accumulates(self):
        torch.manual_seed(1)
        module = FFF(12, 10, 4, 2)
        plain = copy.deepcopy(module)
        optimizer = RowAdam(module)
        weights = list(module.parameters())
        leaf = torch.randn(5, 12, requires_grad=True)
        other = leaf.detach().clone().requires_grad_()
        for change in (False, True):
            if change:
                module.linear_out.weight.data = module.linear_out.weight.data.contiguous()
            (found,) = torch.autograd.grad(module(leaf).square().sum(), leaf)
            (expected,) = torch.autograd.grad(plain(other).square().sum(), other)
            self.assertEqual(bits(found), bits(expected))
            module(leaf).sum().backward(inputs=[leaf])
            self.assertEqual(optimizer.gradients(), [None])
            before = [bits(weight) for weight in weights]
            optimizer.step()
            self.assertEqual([bits(weight) for weight in weights], before)
            found = torch.autograd.grad(module(leaf).square().sum(), [leaf, *weights])  # returned, not accumulated
            expected = torch.autograd.grad(plain(other).square().sum(), [other, *plain.parameters()])
            self.assertEqual([bits(part) for part in found], [bits(part) for part in expected])
            self.assertEqual(optimizer.gradients(), [None])
            module(leaf).square().sum().backward(inputs=[module.linear_in.weight, module.linear_out.weight])
            (rows,) = optimizer.gradients()
            self.assertIsNone(rows.bias)
            self.assertEqual(bits(rows.input_weight), bits(found[1][rows.rows.long()]))
            self.assertEqual(bits(rows.output_weight), bits(found[3].t()[rows.rows.long()]))
            optimizer.zero_grad()
            y = module(leaf).square().sum()
            y.backward(retain_graph=True)
            torch.autograd.grad(y, leaf, retain_graph=True)
            y.backward()
            (twice,) = optimizer.gradients()
            self.assert_close([twice.input_weight, twice.output_weight], [2 * rows.input_weight, 2 * rows.output_weight])
            optimizer.zero_grad()
            self.assertTrue(all(weight.grad is None for weight in weights))

    def test_checkpoint(self):
        torch.manual_seed(1)
        module = FFF(12, 10, 4, 2)
        optimizer = RowAdam(module)
        found = []
        leaf = torch.randn(5, 12, requires_grad=True)
        for call in (module, lambda x: torch.utils.checkpoint.checkpoint(module, x, use_reentrant=True),
                     lambda x: torch.utils.checkpoint.checkpoint(module, x, use_reentrant=False)):
            call(leaf).square().sum().backward()
            found.append([bits(part) for part in optimizer.gradients()[0]])
            optimizer.zero_grad()
        self.assertEqual(found[1:], found[:1] * 2)

    def test_other_weights_in_a_call(self):
        """torch.func.functional_call(), in 1.13 torch.nn.utils.stateless: the optimizer has no share in their gradients."""
        functional_call = torch.func.functional_call if MODERN else torch.nn.utils.stateless.functional_call
        module = FFF(12, 10, 4, 2)
        optimizer = RowAdam(module)
        others = {name: weight.detach().clone().requires_grad_() for name, weight in module.named_parameters()}
        functional_call(module, others, (torch.randn(5, 12),)).sum().backward()
        self.assertTrue(all(weight.grad is not None for weight in others.values()))
        self.assertEqual(optimizer.gradients(), [None])

    def test_optimizer_is_gone(self):
        module = FFF(12, 10, 4, 2)
        optimizer, x = RowAdam(module), torch.randn(5, 12)
        y = module(x).sum()
        del optimizer
        gc.collect()
        y.backward()  # of a graph that was made before, too
        for _ in range(2):
            self.assertEqual([weight.grad.layout for weight in module.parameters()], [torch.strided] * 3)
            torch.optim.AdamW(module.parameters()).step()
            module.zero_grad(set_to_none=True)
            module(x).sum().backward()
        first, second = RowAdam(module), RowAdam(module)
        del first
        gc.collect()
        module.zero_grad(set_to_none=True)
        module(x).sum().backward()
        self.assertIsNotNone(second.gradients()[0])

    def test_frozen_in_one_of_several_passes(self):
        torch.manual_seed(1)
        module = FFF(12, 10, 4, 2)
        optimizer, x = RowAdam(module), torch.randn(8, 12)
        module(x[:4]).square().sum().backward()
        (first,) = optimizer.gradients()
        for frozen_first in (False, True):
            optimizer.zero_grad()
            for frozen in (frozen_first, not frozen_first):
                module.linear_in.weight.requires_grad_(not frozen)
                module(x[4:] if frozen else x[:4]).square().sum().backward()
            (found,) = optimizer.gradients()
            expected = torch.zeros_like(found.input_weight)
            expected[torch.searchsorted(found.rows, first.rows)] = first.input_weight
            self.assertEqual(bits(found.input_weight), bits(expected))

    def test_neither_copied_nor_extended(self):
        module = FFF(12, 10, 4, 2)
        optimizer = RowAdam(module)
        for how in (copy.copy, copy.deepcopy, pickle.dumps):
            with self.assertRaisesRegex(TypeError, "belongs to its layers"):
                how(optimizer)
        with self.assertRaisesRegex(ValueError, "another RowAdam"):
            optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})

    def test_refused(self):
        for wrong in (nn.Linear(3, 3), FFF(6, 5, 3, 2).double(), fff.torch.LeafFFF(6, 2, 5, 2)):
            with self.assertRaises(ValueError):
                RowAdam(wrong)
        with self.assertRaises(ValueError):
            RowAdam(FFF(6, 5, 3, 2), lr=-1)
        with self.assertRaises(ValueError):
            RowAdam(FFF(6, 5, 3, 2), betas=(0.9, 1.0))

    def test_contiguous_weights_are_laid_out(self):
        module = FFF(12, 10, 4, 2)
        module.linear_out.weight = nn.Parameter(module.linear_out.weight.detach().contiguous())
        RowAdam(module)
        self.assertEqual(module.linear_out.weight.stride(), (1, 10))


class Tools(Compared):
    def test_usage(self):
        torch.manual_seed(1)
        model = nn.Sequential(FFF(12, 10, 3, 2), FFF(10, 8, 0, 5), fff.torch.LeafFFF(8, 2, 6, 2))
        model[0].train()
        batches = [torch.randn(9, 12), (torch.randn(2, 4, 12),), {"input": torch.randn(3, 12)}]
        found = fff.torch.usage(model, batches)
        self.assertEqual(list(found), ["0", "1", "2"])
        self.assertTrue(model.training and model[2].training)
        first = found["0"]
        self.assertEqual(first.tokens, 20)
        self.assertEqual(first.visits.shape, (2, 15))
        self.assertEqual(first.visits[:, 0].tolist(), [20, 20])
        self.assertEqual(first.visits[:, 7:].sum(1).tolist(), [20, 20])
        self.assertEqual(first.dead, int((first.visits == 0).sum()))
        share = first.visits[0, 7:].double() / 20
        share = share[share > 0]
        self.assertAlmostEqual(first.leaf_perplexity[0].item(), torch.exp(-(share * share.log()).sum()).item(), places=9)
        self.assertEqual(found["1"].leaf_perplexity.tolist(), [1.0] * 5)
        self.assertEqual(found["2"].visits.shape, (1, 4))
        by_keyword = fff.torch.usage(model[0], [{"x": batches[0]}])[""]
        self.assertEqual(by_keyword.visits.tolist(), fff.torch.usage(model[0], [batches[0]])[""].visits.tolist())
        self.assertNotIn("forward", vars(model[0]))
        model[0].forward = model[0].dense  # an instance's own
        fff.torch.usage(model, batches)
        self.assertEqual(model[0].forward, model[0].dense)
        with self.assertRaises(ValueError):
            fff.torch.usage(model, [torch.randn(2, 11)])
        self.assertEqual(model[0].forward, model[0].dense)
        forest = fff.torch.Forest([FFF(12, 10, 3, 2), fff.torch.LeafFFF(12, 2, 10, 2)])
        found = fff.torch.usage(forest, [torch.randn(9, 12)])
        self.assertEqual([each.tokens for each in found.values()], [9, 9])
        forest.forward = forest._without_kernels  # which calls the parts
        found = fff.torch.usage(forest, [torch.randn(9, 12)])
        self.assertEqual([each.tokens for each in found.values()], [9, 9])

        class Twice(nn.Module):
            """A layer that is a forest's part, and called by itself."""

            def __init__(self):
                super().__init__()
                self.forest = forest
                self.again = forest.parts[0]

            def forward(self, x):
                return self.forest(x) + self.again(x) + self.again(x[:2]).sum()

        found = fff.torch.usage(Twice(), [torch.randn(9, 12)])
        self.assertEqual([each.tokens for each in found.values()], [20, 9])
        self.assertEqual([int(each.visits[0].sum()) for each in found.values()], [20 * 4, 9])
        with self.assertRaises(ValueError):
            fff.torch.usage(nn.Linear(3, 3), [])

    def test_initial_weights(self):
        torch.manual_seed(1)
        for activation in ACTIVATIONS:
            module = FFF(256, 200, 7, 4, activation)
            self.assertIs(fff.torch.init_unit_(module, x_scale=3.0), module)
            x = 3 * torch.randn(500, 256)
            self.assertEqual(module.linear_out.weight.stride(), (1, 200))
            with torch.no_grad():
                self.assertLess(abs(module.route(x)[1].std().item() - 1), 0.05)
                # of odd moments: along a path, the logits say where it goes
                self.assertLess(abs(module(x).std().item() - 1), 0.25)
                moment = module.activation(torch.randn(10 ** 6)).square().mean().item()
                for other in (module, fff.torch.init_unit_(FFF(256, 200, 0, 99, activation))):  # of another depth
                    expected = (other.parallel_size * (other.depth + 1) * moment) ** -0.5
                    self.assertLess(abs(other.linear_out.weight.std().item() / expected - 1), 0.02)
                fff.torch.release()
                module.eval()(x)
                self.assertEqual(fff.torch.packed()[0], 1)
                fff.torch.init_unit_(module)
                self.assertEqual(fff.torch.packed()[0], 0)
                module(x)
        fff.torch.init_normal_(module)
        self.assertEqual(fff.torch.packed()[0], 0)
        self.assertLess(abs(module.linear_in.weight.std().item() - 0.02), 1e-3)
        self.assertEqual(module.linear_in.bias.abs().max().item(), 0)
        with self.assertRaises(ValueError):
            fff.torch.init_unit_(nn.Linear(3, 3))


class Defaults(Compared):
    """PyTorch's default type and device are those of what a caller makes, and of nothing else."""

    def results(self):
        torch.manual_seed(1)
        kind = {"dtype": torch.float32, "device": "cpu"}
        x, upstream = torch.randn(9, 12, **kind), torch.randn(9, 10, **kind)
        found = []
        for module in (FFF(12, 10, 4, 2, **kind), fff.torch.LeafFFF(12, 2, 10, 3, **kind)):
            for training in (True, False):
                for module.sparse in (False, True):
                    module.train(training).zero_grad(set_to_none=True)
                    leaf = x.clone().requires_grad_()
                    y = module(leaf)
                    y.backward(upstream)
                    given = [weight.grad for weight in module.parameters() if weight.grad is not None]
                    found += [y, leaf.grad, *(part.to_dense() for part in given)]
            found += [fff.torch.usage(module, [x])[""].visits, fff.torch.from_module(module)(x)]
        module = FFF(12, 10, 4, 2, **kind)
        optimizer = RowAdam(module)
        found.append(optimizer.clip_grad_norm_(0.5))
        for change in (False, True, True):
            if change:
                module.linear_out.weight.data = module.linear_out.weight.data.contiguous()
            for part in x.split(4):
                module(part).backward(upstream[:len(part)])
            found.append(optimizer.clip_grad_norm_(0.5))
            optimizer.step()
            optimizer.zero_grad()
        fff.torch.init_unit_(module)
        return [*found, *module.parameters(), *fff.torch._row_adam._nothing(module)]

    def test_type_and_device(self):
        expected = self.results()
        try:
            torch.set_default_dtype(torch.float64)
            found = [self.results()]
            torch.set_default_dtype(torch.float32)
            if MODERN:
                torch.set_default_device("meta")
                found.append(self.results())
        finally:
            torch.set_default_dtype(torch.float32)
            if MODERN:
                torch.set_default_device(None)
        for each in found:
            self.assertEqual([part.dtype for part in each], [part.dtype for part in expected])
            self.assertEqual([bits(part) for part in each], [bits(part) for part in expected])


class Compilers(Compared):
    @unittest.skipUnless(MODERN, "torch.compile is for a recent PyTorch")
    def test_compile(self):
        backend = "inductor" if os.environ.get("FFF_TEST_INDUCTOR") else "aot_eager"
        torch.manual_seed(1)
        for model in (nn.Sequential(nn.Linear(12, 12), FFF(12, 10, 4, 2), nn.Linear(10, 3)),
                      nn.Sequential(nn.Linear(12, 12), BenchmarkFFF(12, 4, 10), nn.Linear(10, 3))):
            torch._dynamo.reset()
            x = torch.randn(20, 12)
            expected = gradients(model, model, x)
            compiled = torch.compile(model, backend=backend, fullgraph=True)
            self.assert_close(gradients(model, compiled, x), expected)
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            losses = []
            for _ in range(5):
                optimizer.zero_grad()
                loss = compiled(x).square().mean()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            self.assertLess(losses[-1], losses[0])
            self.assert_close([compiled(torch.randn(31, 12)).sum() * 0], [torch.zeros(())])  # another batch

    @unittest.skipUnless(MODERN, "torch.compile is for a recent PyTorch")
    def test_what_is_compiled(self):
        """One operator forward, and one backward: not the dense definition."""
        from torch._dynamo.backends.common import aot_autograd
        graphs = []

        def keep(graph, _inputs):
            graphs.append(graph.print_readable(print_output=False))
            return graph.forward
        torch._dynamo.reset()
        module = FFF(12, 10, 4, 2)
        compiled = torch.compile(module, backend=aot_autograd(fw_compiler=keep, bw_compiler=keep), fullgraph=True)
        compiled(torch.randn(8, 12)).sum().backward()
        self.assertEqual(len(graphs), 2)
        self.assertIn("fff.train", graphs[0])
        self.assertIn("fff.backward", graphs[1])
        self.assertNotIn("mm", graphs[1])

    @unittest.skipUnless(MODERN, "torch.compile is for a recent PyTorch")
    def test_rows_break_the_graph(self):
        torch._dynamo.reset()
        torch.manual_seed(1)
        module = node_major()
        module.sparse = True
        x = torch.randn(9, 12)
        expected = gradients(module, module, x)
        found = gradients(module, torch.compile(module, backend="aot_eager"), x)
        self.assertEqual([bits(part.to_dense()) for part in found], [bits(part.to_dense()) for part in expected])
        optimizer = RowAdam(module)
        torch.compile(module, backend="aot_eager")(x).sum().backward()
        self.assertIsNotNone(optimizer.gradients()[0])

    def test_trace(self):
        module = FFF(12, 10, 4, 2)
        x = torch.randn(9, 12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(module, x)
        self.assertEqual(traced(torch.randn(3, 12)).shape, (3, 10))
        self.assert_close(gradients(module, traced, x), gradients(module, module, x))


def example(folder, name):
    """A program of examples/, as a module."""
    path = pathlib.Path(__file__).resolve().parents[2] / "examples" / folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{folder}_{name}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Examples(unittest.TestCase):
    def test_recorded_states_are_of_the_definition(self):
        train = example("train_text", "train")
        sizes = train.models.Sizes(vocabulary=64, width=16, length=8)
        model = train.models.LanguageModel(sizes, train.ROWS[2])
        batch = train.text.Batch(torch.arange(24).reshape(3, 8), None, None)
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(train.text, "write_tokenizer"), \
                mock.patch.object(FFF, "_train", side_effect=AssertionError("by the kernels")):
            train.save(model, None, batch, pathlib.Path(folder))
            found, _ = train.tools.read_safetensors(pathlib.Path(folder) / "expected.safetensors")
        self.assertEqual(found["hidden"].shape, (2, 8, 16))

    def test_quick_conversion_with_several_seeds(self):
        convert = example("convert_minilm", "convert")

        def results(errors):
            return [convert.Result(name, seed, error, 0, 0, 0, 0) for seed, pair in enumerate(errors)
                    for name, error in zip((convert.ROWS[0].name, convert.CONVERTED.name), pair)]
        self.assertEqual(convert.quick_bar(results([(0.5, 0.2)])), [])
        self.assertEqual(convert.quick_bar(results([(0.5, 0.2), (0.5, 0.3)])), [])
        self.assertEqual(len(convert.quick_bar(results([(0.5, 0.6), (0.5, 0.5)]))), 1)


GLOO = torch.distributed.is_available() and torch.distributed.is_gloo_available() if MODERN else False


class Processes(Compared):
    @unittest.skipUnless(GLOO, "torchrun of 1.13 fails by itself, or there is no gloo")
    def test_two(self):
        script = pathlib.Path(__file__).resolve().parents[2] / "examples" / "torchrun" / "train.py"
        for arguments in ([], ["rows"]):
            done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script),
                                   *arguments], capture_output=True, text=True, check=False, timeout=300,
                                  env={**os.environ, "OMP_NUM_THREADS": "1"})
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    @unittest.skipUnless(GLOO, "there is no gloo")
    def test_rows_of_one_process(self):
        with tempfile.TemporaryDirectory() as folder:
            torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
            try:
                self.rows_of_one_process()
            finally:
                torch.distributed.destroy_process_group()

    def rows_of_one_process(self):
        module = FFF(12, 10, 4, 2)
        other = copy.deepcopy(module)
        optimizers = [RowAdam(module, lr=1e-2), RowAdam(other, lr=1e-2)]
        with self.assertRaisesRegex(ValueError, "holds 0 of the 3"):
            optimizers[0].distribute(other)
        optimizers[0].distribute(module)
        for step in range(3):
            x = torch.randn(8, 12)
            for each, optimizer in zip((module, other), optimizers):
                optimizer.zero_grad()
                if step != 1:  # then nobody has met a row
                    each(x).square().sum().backward()
                optimizer.clip_grad_norm_(0.5)
                optimizer.step()
        for one, another in zip(module.parameters(), other.parameters()):
            self.assertEqual(bits(one), bits(another))
        module(x).sum().backward()
        optimizers[0].gradients()
        with self.assertRaisesRegex(RuntimeError, "have exchanged"):
            module(x).sum().backward()
        optimizers[0].zero_grad()
        module(x).sum().backward()

    def test_not_initialised(self):
        module = FFF(12, 10, 4, 2)
        with self.assertRaisesRegex(RuntimeError, "not initialised"):
            RowAdam(module).distribute(module)


if __name__ == "__main__":
    unittest.main()
