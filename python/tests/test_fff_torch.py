"""fff.torch against the NumPy package's bits, the authors' definition and their recorded results, and whatever may be thrown at it.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_torch.py

FFF_TEST_NATIVE=1 or 0 says which operator is expected: the compiled one or that in Python.
"""

import concurrent.futures
import copy
import gc
import io
import json
import math
import os
import pathlib
import pickle
import random
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
import torch
from torch import nn

import fff
import fff.torch
from fff.torch import FFF, BenchmarkFFF

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"
NATIVE = fff.torch.backend() == "native"
MODERN = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)
ACTIVATIONS = [nn.GELU, lambda: nn.GELU("tanh"), nn.ReLU, fff.torch.SquaredReLU, nn.SiLU, nn.Identity]


class TheirFFF(nn.Module):
    """The authors' training module as far as structure goes, and its definition, token by token in float64."""

    def __init__(self, input_width, output_width, depth, parallel_size, activation=nn.GELU):
        super().__init__()
        self.input_width, self.output_width, self.depth, self.parallel_size = input_width, output_width, depth, parallel_size
        self.n_nodes = 2 ** (depth + 1) - 1
        self.linear_in = nn.Linear(input_width, parallel_size * self.n_nodes)
        self.linear_out = nn.Linear(parallel_size * self.n_nodes, output_width, bias=False)
        self.activation = activation()

    def forward(self, x):
        tokens = x.reshape(-1, self.input_width).double()
        w_in, w_out = self.linear_in.weight.double(), self.linear_out.weight.double()
        bias = 0 if self.linear_in.bias is None else self.linear_in.bias.double()
        z = tokens @ w_in.t() + bias
        y = torch.zeros(len(tokens), self.output_width, dtype=torch.double)
        for t in range(len(tokens)):
            for tree in range(self.parallel_size):
                node = 0
                for _ in range(self.depth + 1):
                    row = tree * self.n_nodes + node
                    y[t] += self.activation(z[t, row]) * w_out[:, row]
                    node = 2 * node + 1 + int(z[t, row] > 0)
        return y.float().reshape(*x.shape[:-1], self.output_width)


class TheirBenchmark(nn.Module):
    def __init__(self, input_width, depth, output_width):
        super().__init__()
        self.input_width, self.depth, self.output_width, self.n_nodes = input_width, depth, output_width, 2 ** (depth + 1) - 1
        self.w1s = nn.Parameter(torch.randn(self.n_nodes, input_width) / math.sqrt(input_width))
        self.w2s = nn.Parameter(torch.randn(self.n_nodes, output_width))


def numpy_layer(module, isa="auto"):
    """The C library's layer of the same weights."""
    weights = [None if weight is None else weight.detach().numpy() for weight in module._weights()]
    depth, trees, activation, routing, node_major = module._plan
    return fff.Layer(weights[0], weights[2] if node_major else weights[2].T, depth=depth, trees=trees, biases=weights[1],
                     activation=fff.ACTIVATIONS[activation], routing=fff.ROUTINGS[routing], isa=isa)


def bits(tensor):
    return tensor.detach().contiguous().numpy().tobytes()


def small(depth=4, trees=3, width=33, out=21, seed=1, bias=True, **options):
    torch.manual_seed(seed)
    module = FFF(width, out, depth, trees, **options).eval()
    if not bias:
        module.linear_in.bias = None
    return module


class SameBits(unittest.TestCase):
    def test_operator_as_expected(self):
        expected = os.environ.get("FFF_TEST_NATIVE")
        if expected is not None:
            self.assertEqual(NATIVE, expected == "1", fff.torch.backend())

    def test_random_shapes(self):
        choose = random.Random(int(os.environ.get("FFF_TEST_SEED", "1")))
        for _ in range(60):
            depth, trees = choose.choice([(0, 1), (0, 70), (1, 3), (3, 2), (5, 1), (7, 4)])
            module = small(depth, trees, choose.randint(1, 80), choose.randint(1, 80), choose.randint(0, 1 << 30),
                           activation=choose.choice(ACTIVATIONS), routing=choose.choice([">", ">="]))
            leading = choose.choice([(), (1,), (0,), (5,), (3, 4), (2, 1, 7), (300,), (0, 3)])
            x = torch.randn(*leading, module.input_width)
            expected = numpy_layer(module)(x.numpy().reshape(-1, module.input_width))
            with torch.no_grad():
                y = module(x)
            self.assertEqual(y.shape, (*leading, module.output_width))
            self.assertEqual(bits(y), expected.tobytes())
            self.assertEqual(bits(module(x)), expected.tobytes())  # with gradients: the same kernels
            with torch.inference_mode():
                self.assertEqual(bits(module(x.clone())), expected.tobytes())
            nodes, logits = module.route(x)
            self.assertEqual(nodes.shape, (*leading, trees, depth + 1))
            expected_nodes, expected_logits = numpy_layer(module).route(x.numpy().reshape(-1, module.input_width))
            self.assertEqual(bits(nodes), expected_nodes.tobytes())
            self.assertEqual(bits(logits), expected_logits.tobytes())

    def test_benchmark_module(self):
        for depth in (0, 3, 8):
            module = BenchmarkFFF(40, depth, 24).eval()
            x = torch.randn(100, 40)
            x[7] = 0  # logits of 0: right
            with torch.no_grad():
                self.assertEqual(bits(module(x)), numpy_layer(module)(x.numpy()).tobytes())
                torch.testing.assert_close(module(x), module.dense(x), rtol=0, atol=1e-4)
            for leading in ((100,), (1,), (0,), (), (5, 2)):  # theirs takes (batch, width) alone, and gives (batch, 1, width)
                x = torch.randn(*leading, 40)
                for mode in (True, False):
                    module.train(mode)
                    for gradients in (True, False):
                        with torch.set_grad_enabled(gradients):
                            self.assertEqual(module(x).shape, (*leading, 1, 24))
                            self.assertEqual(module.forward(x).shape, (*leading, 1, 24))

    def test_instruction_sets(self):
        module = small()
        x = torch.randn(50, 33)
        expected = numpy_layer(module, "generic")(x.numpy()).tobytes()
        before = os.environ.get("FFF_ISA")
        try:
            for isa in fff.isas():
                os.environ["FFF_ISA"] = isa
                module.repack()
                with torch.no_grad():
                    self.assertEqual(bits(module(x)), expected, isa)
        finally:
            os.environ.pop("FFF_ISA")
            if before is not None:
                os.environ["FFF_ISA"] = before
            module.repack()

    def test_threads(self):
        module = small(9, 1, 128, 128)
        x = torch.randn(3000, 128)
        expected = numpy_layer(module)(x.numpy()).tobytes()
        before = torch.get_num_threads()
        try:
            for count in (1, 2, 5):
                torch.set_num_threads(count)
                with torch.no_grad():
                    self.assertEqual(bits(module(x)), expected)
        finally:
            torch.set_num_threads(before)
        with torch.no_grad(), concurrent.futures.ThreadPoolExecutor(4) as pool:
            modules = [module, copy.deepcopy(module)]
            for result in pool.map(lambda i: one_thread(modules[i % 2], x[:40]), range(100)):
                self.assertEqual(result, expected[:40 * 128 * 4])

    def test_strides(self):
        module = small()
        wide = torch.randn(50, 40)
        expected = numpy_layer(module)
        with torch.no_grad():
            for x in (wide[:, 3:36], wide[::3, :33], wide[:, :33].t().contiguous().t(), wide[:1, :33].expand(9, 33),
                      wide[:, :33].flip(0), torch.randn(33, 4, 5).permute(1, 2, 0), wide[:, :33].neg()):
                self.assertEqual(bits(module(x)), expected(x.contiguous().numpy().reshape(-1, 33)).tobytes())


    def test_alignment(self):
        """Memory that PyTorch has not allocated may lie anywhere."""
        def held(tensor):
            return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

        def moved(tensor):
            return torch.frombuffer(bytearray(b"?" + held(tensor)), dtype=tensor.dtype, offset=1).reshape(tensor.shape)

        torch.manual_seed(1)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            module, x = small().to(dtype), torch.randn(50, 33).to(dtype)
            weights = [weight.detach().contiguous() for weight in module._weights()]
            expected = held(torch.ops.fff.forward(x, *weights, *module._plan))
            routes = [held(part) for part in torch.ops.fff.route(x, *weights, *module._plan)]
            for watched in ("count", "all", "sample"):
                fff.torch.watch(watched)
                odd = [moved(weight) for weight in weights]
                for given, given_weights in ((moved(x), weights), (x, odd), (moved(x), odd)):
                    self.assertEqual(held(torch.ops.fff.forward(given, *given_weights, *module._plan)), expected)
                    self.assertEqual([held(part) for part in torch.ops.fff.route(given, *given_weights, *module._plan)], routes)
            odd[0].mul_(2)
            self.assertNotEqual(held(torch.ops.fff.forward(x, *odd, *module._plan)), expected)
            with torch.no_grad():
                self.assertEqual(held(module(moved(x))), expected)
        x, bias = torch.randn(7, 12), torch.randn(9)
        for layer in (fff.torch.LeafFFF(12, 4, 9, 3, nn.SiLU(), thresholds=torch.randn(7)), fff.torch.MasterLeafFFF(12, 4, 9, 2),
                      FFF(12, 9, 3, 2, thresholds=torch.randn(30))):
            weights, plan = layer.eval()._given()
            with torch.no_grad():
                expected = held(torch.ops.fff.forest(x, weights, plan, bias))
                self.assertEqual(held(torch.ops.fff.forest(moved(x), [moved(weight) for weight in weights], plan, moved(bias))), expected)


def one_thread(module, x):
    with torch.no_grad():
        return bits(module(x))


class Definition(unittest.TestCase):
    def test_recorded_results_of_the_authors(self):
        files = sorted(DATA.glob("path_*.safetensors"))
        self.assertGreaterEqual(len(files), 5)
        for file in files:
            data = file.read_bytes()
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8:8 + length])
            about = header.pop("__metadata__")
            kinds = {"F32": np.float32, "F64": np.float64, "I32": np.int32}
            tensors = {name: torch.from_numpy(np.frombuffer(data[8 + length:][slice(*entry["data_offsets"])],
                                                            kinds[entry["dtype"]]).reshape(entry["shape"]).copy())
                       for name, entry in header.items()}
            width = int(about["hidden"])
            module = FFF(width, width, int(about["depth"]), int(about["trees"]), getattr(nn, about["activation"]))
            module.load_state_dict({name: tensors[name] for name in module.state_dict()})
            x, scale = tensors["input"], tensors["output_f64"].abs().max().item()
            with torch.no_grad():
                for computed in (module.train()(x), module.eval()(x)):
                    self.assertLess((computed - tensors["output_f64"]).abs().max().item(), 1e-5 * scale, file.name)
                    self.assertLess((computed - tensors["output"]).abs().max().item(), 1e-5 * scale, file.name)
            self.assertTrue(torch.equal(module.route(x)[0], tensors["path"]), file.name)

    def test_gradients(self):
        for activation in ACTIVATIONS:
            for module in (small(activation=activation), small(0, 9, activation=activation), BenchmarkFFF(33, 4, 21)):
                x = torch.randn(6, 5, 33)
                weight = torch.randn_like(module.dense(x))
                found = []
                for mode in (True, False):
                    module.train(mode)
                    module.zero_grad()
                    leaf = x.clone().requires_grad_()
                    y = module(leaf)
                    (y * weight).sum().backward()
                    found.append([y, leaf.grad] + [parameter.grad.clone() for parameter in module.parameters()])
                for dense, kernels in zip(*found):
                    self.assertGreater(dense.abs().max().item(), 0)
                    torch.testing.assert_close(kernels, dense, rtol=1e-4, atol=1e-5 * dense.abs().max().item())

    def test_dense_by_finite_differences(self):
        module = small(3, 2, 7, 5, activation=nn.SiLU).double().train()
        x = torch.randn(4, 7, dtype=torch.double, requires_grad=True)
        parameters = list(module.parameters())
        self.assertTrue(torch.autograd.gradcheck(lambda x, *_: module(x), (x, *parameters)))

    def test_second_derivative(self):
        found = []
        module = small(activation=nn.SiLU)
        x = torch.randn(5, 33)
        for mode in (True, False):
            module.train(mode)
            leaf = x.clone().requires_grad_()
            (first,) = torch.autograd.grad(module(leaf).square().sum(), leaf, create_graph=True)
            (second,) = torch.autograd.grad(first.square().sum(), leaf)
            found.append(second)
        torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4 * found[0].abs().max().item())

    def test_only_some_gradients(self):
        module = small()
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        self.assertFalse(module(torch.randn(2, 33)).requires_grad)
        x = torch.randn(2, 33, requires_grad=True)
        module(x).sum().backward()
        self.assertGreater(x.grad.abs().max().item(), 0)
        module.linear_in.bias.requires_grad_()
        module(x.detach()).sum().backward()
        self.assertGreater(module.linear_in.bias.grad.abs().max().item(), 0)
        self.assertIsNone(module.linear_in.weight.grad)

    def test_training_step(self):
        module = small().train()
        reference = copy.deepcopy(module)
        optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
        x = torch.randn(20, 33)
        module.eval()
        with torch.no_grad():
            before = bits(module(x))
        module.train()
        module(x).square().sum().backward()
        optimizer.step()
        module.eval()
        with torch.no_grad():
            self.assertNotEqual(bits(module(x)), before)
            self.assertEqual(bits(module(x)), numpy_layer(module)(x.numpy()).tobytes())
            self.assertEqual(bits(reference.eval()(x)), before)


class Weights(unittest.TestCase):
    """A packed copy is never older than the weights."""

    def setUp(self):
        self.module = small()
        self.x = torch.randn(9, 33)
        self.check()

    def check(self, module=None):
        module = module or self.module
        with torch.no_grad():
            self.assertEqual(bits(module(self.x)), numpy_layer(module)(self.x.numpy()).tobytes())
            self.assertEqual(bits(torch.ops.fff.forward(self.x, *module._weights(), *module._plan)), bits(module(self.x)))

    def test_in_place(self):
        for weight in self.module.parameters():
            for row in (0, -1):
                with torch.no_grad():
                    weight[row] += 1
                self.check()

    def test_past_the_version(self):
        for weight in self.module.parameters():
            weight.data.mul_(2)
            self.check()
        self.module.linear_in.weight.data[5, 5] += 100  # cannot be seen
        self.module.repack()
        self.check()

    def test_other_parameters(self):
        other = small(seed=2)
        self.module.linear_in.weight = other.linear_in.weight
        self.check()
        self.module.linear_out = other.linear_out
        self.check()
        self.module.linear_in.bias = None
        self.check()
        self.module.linear_in.weight.data = torch.randn(93, 33)
        self.check()

    def test_load_state_dict(self):
        self.module.load_state_dict(small(seed=3).state_dict())
        self.check()
        if MODERN:
            self.module.load_state_dict(small(seed=4).state_dict(), assign=True)
            self.check()

    def test_made_in_inference_mode(self):
        with torch.inference_mode():
            module = small(seed=5)
            y = module(self.x)
            self.assertEqual(bits(y), numpy_layer(module)(self.x.numpy()).tobytes())
            module.load_state_dict(small(seed=6).state_dict())
            self.assertEqual(bits(module(self.x)), numpy_layer(module)(self.x.numpy()).tobytes())

    def test_copies(self):
        other = copy.deepcopy(self.module)
        with torch.no_grad():
            other.linear_out.weight.add_(1)
        self.check(other)
        self.check()
        self.check(pickle.loads(pickle.dumps(self.module)))
        buffer = io.BytesIO()
        torch.save(self.module, buffer)
        buffer.seek(0)
        self.check(torch.load(buffer, **({"weights_only": False} if MODERN else {})))

    def test_types_and_back(self):
        self.module.double()
        with torch.no_grad(), self.assertRaises(TypeError):
            self.module(self.x.double())
        self.module.float()
        self.check()

    def test_activation_exchanged(self):
        before = bits(self.module(self.x))
        self.module.activation = nn.ReLU()
        self.check()
        self.assertNotEqual(bits(self.module(self.x)), before)
        with self.assertRaises(ValueError):
            self.module.activation = nn.Tanh()

    def test_routing_exchanged(self):
        """Of all logits 0, which one goes left by and the other right."""
        for module in (FFF(4, 3, 2, 2), BenchmarkFFF(4, 2, 3), fff.torch.LeafFFF(4, 2, 3, 2)):
            with torch.no_grad():
                for weight in (module.linear_in.weight, module.linear_in.bias) if isinstance(module, FFF) else (
                        module.w1s,) if isinstance(module, BenchmarkFFF) else (module.node_weights, module.node_biases):
                    weight.zero_()
            x, found = torch.randn(5, 4), []
            for routing in (">", ">=", ">"):
                module.routing = routing
                with torch.no_grad():
                    y = module.eval()(x)
                    torch.testing.assert_close(y, module.dense(x))
                    if not isinstance(module, fff.torch.LeafFFF):
                        torch.testing.assert_close(module.train()(x), y)
                found.append(module.route(x)[0][0].flatten().tolist())
            self.assertEqual(found[0], found[2])
            self.assertNotEqual(found[0], found[1])
            with self.assertRaisesRegex(ValueError, "routing '<'"):
                module.routing = "<"
            self.assertEqual(module.routing, ">")

    def test_memory(self):
        fff.torch.release()
        self.assertEqual(fff.torch.packed(), (0, 0))
        modules = [small(seed=i) for i in range(5)]
        for module in modules:
            self.check(module)
        count, held = fff.torch.packed()
        self.assertEqual(count, 5)
        self.assertGreater(held, 5 * 93 * (33 + 21) * 4)
        modules[0].train()
        self.assertEqual(fff.torch.packed()[0], 4)
        fff.torch.release(modules[1].linear_out.weight)
        self.assertEqual(fff.torch.packed()[0], 3)
        modules.clear()
        del module
        gc.collect()
        self.check()  # packs, and so frees what is gone
        self.assertEqual(fff.torch.packed()[0], 1)

    def test_references(self):
        """Calls keep nothing alive."""
        held = [self.module, vars(self.module), self.x, *self.module.parameters(), *map(vars, self.module.children())]
        before = [sys.getrefcount(thing) for thing in held]
        with torch.no_grad():
            for _ in range(100):
                self.module(self.x)
                self.module.forward(self.x)
                with self.assertRaises(ValueError):
                    self.module(self.x[:, 1:])
        self.assertEqual([sys.getrefcount(thing) for thing in held], before)

    def test_exchanged_while_in_use(self):
        """One thread calls, another changes the weights and releases: each result is of one state or the other."""
        module, x = small(6, 1, 64, 64), torch.randn(8, 64)
        first = copy.deepcopy(module.state_dict())
        second = small(6, 1, 64, 64, seed=9).state_dict()
        expected = set()
        for state in (first, second):
            module.load_state_dict(state)
            expected.add(bits(numpy_out(module, x)))
        with torch.no_grad(), concurrent.futures.ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(one_thread, module, x) for _ in range(300)]
            for _ in range(50):
                fff.torch.release()
            for done in calls:
                self.assertIn(done.result(), expected)


def numpy_out(module, x):
    return torch.from_numpy(numpy_layer(module)(x.numpy()))


class Modules(unittest.TestCase):
    def test_same_names_as_theirs(self):
        ours, theirs = FFF(32, 48, 3, 2), TheirFFF(32, 48, 3, 2)
        self.assertEqual({k: v.shape for k, v in ours.state_dict().items()}, {k: v.shape for k, v in theirs.state_dict().items()})
        ours, theirs = BenchmarkFFF(32, 3, 48), TheirBenchmark(32, 3, 48)
        self.assertEqual({k: v.shape for k, v in ours.state_dict().items()}, {k: v.shape for k, v in theirs.state_dict().items()})
        self.assertIs(type(FFF(input_width=3, output_width=4, depth=2, parallel_size=1, activation=nn.ReLU).activation), nn.ReLU)

    def test_from_module(self):
        for shape in [(33, 21, 4, 3), (16, 16, 0, 5), (8, 8, 5, 1)]:
            theirs = TheirFFF(*shape).eval()
            ours = fff.torch.from_module(theirs)
            self.assertFalse(ours.training)
            self.assertIs(ours.linear_in.weight, theirs.linear_in.weight)
            x = torch.randn(2, 11, shape[0])
            with torch.no_grad():
                torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)
            self.assertIs(fff.torch.from_module(ours), ours)
        theirs = TheirBenchmark(33, 4, 21)
        self.assertIsInstance(fff.torch.from_module(theirs), BenchmarkFFF)
        self.assertTrue(fff.torch.from_module(theirs).training)

    def test_from_module_refuses(self):
        for error, module in [(ValueError, nn.Linear(3, 4)), (TypeError, "FFF"),
                              (ValueError, TheirFFF(4, 4, 2, 1, nn.Tanh))]:
            with self.assertRaises(error):
                fff.torch.from_module(module)
        wrong = TheirFFF(4, 4, 2, 1)
        wrong.linear_in = nn.Linear(4, 8)
        with self.assertRaises(ValueError):
            fff.torch.from_module(wrong)

    def test_replace_ffn(self):
        shared = TheirFFF(8, 8, 3, 1)
        model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(8, 8), shared), "b": TheirFFF(8, 8, 2, 2), "c": shared}).eval()
        names = list(model.state_dict())
        self.assertIs(fff.torch.replace_ffn(model), model)
        self.assertEqual(list(model.state_dict()), names)
        self.assertIsInstance(model["b"], FFF)
        self.assertIs(model["a"][1], model["c"])
        self.assertFalse(model["b"].training)
        fff.torch.replace_ffn(model)  # once more changes nothing
        self.assertIsInstance(fff.torch.replace_ffn(TheirFFF(8, 8, 3, 1)), FFF)
        with self.assertRaises(ValueError):
            fff.torch.replace_ffn(nn.Linear(3, 3))
        mixed = nn.Sequential(TheirFFF(8, 8, 2, 1), TheirFFF(8, 8, 2, 1, nn.Tanh))
        with self.assertRaises(ValueError):
            fff.torch.replace_ffn(mixed)
        self.assertIsInstance(mixed[0], TheirFFF)

    def test_hooks(self):
        theirs = TheirFFF(8, 8, 3, 1).eval()
        seen = []
        theirs.register_forward_hook(lambda module, args, y: seen.append(type(module)))
        module = fff.torch.from_module(theirs)
        x = torch.randn(2, 8)
        with torch.no_grad():
            y = module(x)
            self.assertEqual(seen, [FFF])
            handle = module.register_forward_pre_hook(lambda module, args: (2 * args[0],))
            self.assertEqual(bits(module(x)), bits(module.forward(2 * x)))
            handle.remove()
            self.assertEqual(bits(module(x)), bits(y))
            handle = torch.nn.modules.module.register_module_forward_hook(lambda module, args, y: y + 1)
            self.assertEqual(bits(module(x)), bits(y + 1))
            handle.remove()
            module.forward = lambda x: x
            self.assertIs(module(x), x)
            del module.forward
            self.assertEqual(bits(module(x=x)), bits(y))

    def test_replaced_forward(self):
        """Of a type, and of one that it inherits from."""
        x = torch.randn(2, 8)
        for module in (FFF(8, 5, 3, 2).eval(), BenchmarkFFF(8, 3, 5).eval(), fff.torch.LeafFFF(8, 2, 5, 3).eval(),
                       fff.torch.Forest([FFF(8, 5, 3, 2)]).eval()):
            with torch.no_grad():
                expected = bits(module(x))
                for kind in type(module).__mro__:
                    if kind is nn.Module:
                        break
                    if "forward" not in vars(kind) and kind is not type(module):
                        continue
                    with mock.patch.object(kind, "forward", lambda self, x: (self, x)):
                        found = module(x)
                    self.assertEqual((found[0] is module, found[1] is x), (kind.forward is type(module).forward,) * 2)
                    self.assertEqual(bits(module(x)), expected)

    def test_subclass(self):
        class Doubled(FFF):
            def forward(self, x):
                return 2 * super().forward(x)

        torch.manual_seed(1)
        module, plain = Doubled(33, 21, 4, 3).eval(), small()
        x = torch.randn(5, 33)
        with torch.no_grad():
            self.assertEqual(bits(module(x)), bits(2 * plain(x)))

    def test_wrapped_weights(self):
        """What only the dense definition can compute, it computes."""
        module, x = small(), torch.randn(5, 33)
        nn.utils.weight_norm(module.linear_in)
        with torch.no_grad():
            module.linear_in.weight_g.mul_(2)
            torch.testing.assert_close(module(x), module.dense(x))
        module = small()
        module.linear_in = nn.Sequential(nn.Linear(33, 93))
        with torch.no_grad():
            self.assertEqual(module(x).shape, (5, 21))
        with self.assertRaises(ValueError):
            module.route(x)

    def test_replaced_module_call(self):
        """torch.fx and others put a function of their own in place of nn.Module.__call__."""
        module, x, seen = small(), torch.randn(5, 33), []
        usual = nn.Module.__call__

        def call(self, *args, **kwargs):
            seen.append(self)
            return usual(self, *args, **kwargs)

        with torch.no_grad():
            expected = bits(module(x))
            nn.Module.__call__ = call
            try:
                self.assertEqual(bits(module(x)), expected)
            finally:
                nn.Module.__call__ = usual
            self.assertEqual(seen, [module])
            self.assertEqual(bits(module(x)), expected)


class Refuses(unittest.TestCase):
    def test_inputs(self):
        module = small()
        for error, x in [(TypeError, torch.randn(2, 33).double()), (TypeError, torch.randn(2, 33).half()),
                         (TypeError, torch.randn(2, 33).bfloat16()), (TypeError, torch.zeros(2, 33, dtype=torch.long)),
                         (TypeError, torch.zeros(2, 33, dtype=torch.bool)), (TypeError, torch.randn(2, 33, dtype=torch.cfloat)),
                         (ValueError, torch.randn(2, 32)), (ValueError, torch.randn(33, 2)), (ValueError, torch.tensor(1.0)),
                         (ValueError, torch.randn(0)), (NotImplementedError, torch.randn(2, 33).to_sparse()),
                         (NotImplementedError, torch.quantize_per_tensor(torch.randn(2, 33), 0.1, 0, torch.qint8))]:
            for gradients in (False, True):
                with self.subTest(x=x.dtype, shape=x.shape, gradients=gradients), torch.set_grad_enabled(gradients):
                    with self.assertRaises(error):
                        module(x)
        for x in (None, [1.0] * 33, np.zeros((2, 33), np.float32), "x", 3):
            with self.assertRaises((TypeError, AttributeError, RuntimeError)):
                module(x)
        with self.assertRaises(TypeError):
            module()
        with self.assertRaises(TypeError):
            module(torch.randn(2, 33), torch.randn(2, 33))

    def test_messages(self):
        """One line, in the words of PyTorch's users."""
        module, x = small(), torch.randn(2, 33)
        for words, wrong in [(["torch.bfloat16", "torch.float32"], x.bfloat16()), (["torch.float16"], x.half()),
                             (["torch.float64"], x.double()), (["torch.int64"], x.long()), (["torch.int32"], x.int()),
                             (["torch.uint8"], x.byte()), (["torch.int8"], x.char()), (["torch.int16"], x.short()),
                             (["torch.bool"], x.bool()), (["torch.complex64"], x.cfloat()), (["torch.complex128"], x.cdouble()),
                             (["sparse_coo"], x.to_sparse()), (["sparse_csr"], x.to_sparse_csr()), (["mkldnn"], x.to_mkldnn()),
                             (["quantised"], torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)), (["32", "33"], x[:, 1:])]:
            for gradients in (True, False):
                for call in (module, lambda x: torch.ops.fff.forward(x, *module._weights(), *module._plan),
                             lambda x: torch.ops.fff.route(x, *module._weights(), *module._plan)):
                    with torch.set_grad_enabled(gradients), self.assertRaises((TypeError, ValueError, NotImplementedError)) as raised:
                        call(wrong)
                    for word in words:
                        self.assertIn(word, str(raised.exception))
                    self.assertNotIn("c10", str(raised.exception))
                    self.assertNotIn("\n", str(raised.exception))
        weights = [weight.detach() for weight in module._weights()]
        for at in range(3):
            for type_, name in ((torch.bfloat16, "torch.bfloat16"), (torch.float16, "torch.float16"), (torch.int64, "torch.int64")):
                changed = [weight.to(type_) if i == at else weight for i, weight in enumerate(weights)]
                with self.assertRaisesRegex(TypeError, name):
                    torch.ops.fff.forward(x, *changed, *module._plan)

    def run_python(self, code, **environment):
        return subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONWARNINGS": "", **environment})

    def test_import_without_pytorch(self):
        done = self.run_python("import sys; sys.modules['torch'] = None; import fff.torch")
        self.assertEqual(done.returncode, 1)
        self.assertIn('ImportError: fff.torch needs PyTorch 1.13 or later: pip install "libfff[torch]"', done.stderr)

    def test_import_with_an_old_pytorch(self):
        for version in ("1.12.1+cu113", "1.9.0", "0.4.1"):
            with tempfile.TemporaryDirectory() as folder:  # of its own: Python keeps bytecode by seconds and size
                package = pathlib.Path(folder) / "torch"
                package.mkdir()
                (package / "__init__.py").write_text(f"__version__ = '{version}'\n")
                done = self.run_python("import fff.torch", PYTHONPATH=folder + os.pathsep + os.environ["PYTHONPATH"])
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"ImportError: fff.torch needs PyTorch 1.13 or later, and this is {version}", done.stderr)

    def test_import_with_a_broken_pytorch(self):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "torch.py").write_text("import nothing_of_this_name\n")
            done = self.run_python("import fff.torch", PYTHONPATH=folder + os.pathsep + os.environ["PYTHONPATH"])
            self.assertIn("nothing_of_this_name", done.stderr)
            self.assertNotIn("pip install", done.stderr)

    def test_no_compiler(self):
        """A warning that says what is missing, and the operator in Python."""
        with tempfile.TemporaryDirectory() as folder:
            for words, environment in [("there is no C++ compiler", {"PATH": folder, "CXX": ""}),
                                       ("CXX is 'no-such-compiler -O3'", {"CXX": "no-such-compiler -O3"}),
                                       ("not a folder", {"FFF_TORCH_CACHE": __file__})]:
                done = self.run_python("import fff.torch, warnings; print(fff.torch.backend())",
                                       **{"FFF_TORCH_NATIVE": "1", "FFF_TORCH_CACHE": folder, **environment})
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("UserWarning: fff.torch has no compiled operator", done.stderr)
                if words != "not a folder":
                    self.assertIn(words, done.stderr)
                self.assertTrue(done.stdout.startswith("python: "), done.stdout)
            quiet = self.run_python("import fff.torch", FFF_TORCH_NATIVE="0")
            self.assertNotIn("Warning", quiet.stderr)

    @unittest.skipUnless(NATIVE, "nothing is compiled")
    def test_damaged_cache(self):
        """What is there and cannot be loaded is compiled anew: by a compiler that only copies what this process has loaded,
        and counts. That the true one compiles it is shown where this process got it from."""
        with tempfile.TemporaryDirectory() as folder:
            compiler, calls = pathlib.Path(folder) / "compiler", pathlib.Path(folder) / "calls"
            compiler.write_text(f'#!/bin/sh\necho >>"{calls}"\nfor target; do :; done\n'
                                f'cp "{fff.torch._operator.native.__file__}" "$target"\n')
            compiler.chmod(0o700)
            for damaged, expected in ((False, 2), (False, 2), (True, 4)):  # compiled and linked; found; compiled again
                if damaged:
                    made.write_bytes(b"no library")
                done = self.run_python("import fff.torch; print(fff.torch.backend(), fff.torch._operator.native.__file__)",
                                       FFF_TORCH_CACHE=folder, CXX=str(compiler))
                self.assertEqual((done.returncode, done.stdout[:7]), (0, "native "), done.stderr)
                made = pathlib.Path(done.stdout[7:].strip())
                self.assertEqual((made.parent, made.suffix), (pathlib.Path(folder), ".so"))
                self.assertGreater(made.stat().st_size, 1000)
                self.assertEqual(len(calls.read_text()), expected)

    def test_dense_takes_any_type(self):
        module, x = small(), torch.randn(5, 33)
        with torch.no_grad():
            expected = module(x)
            torch.testing.assert_close(module.double().dense(x.double()).float(), expected)
            torch.testing.assert_close(module.train()(x.double()).float(), expected)
            self.assertEqual(module.bfloat16().dense(x.bfloat16()).dtype, torch.bfloat16)

    def test_constructor(self):
        for arguments in [(0, 4, 2, 1), (4, 0, 2, 1), (4, 4, -1, 1), (4, 4, 31, 1), (4, 4, 2, 0), (4, 4, 2, 1, nn.Tanh)]:
            with self.subTest(arguments=arguments), self.assertRaises(ValueError):
                FFF(*arguments)
        with self.assertRaises(ValueError):
            FFF(4, 4, 2, 1, routing="<")
        with self.assertRaises(ValueError):
            BenchmarkFFF(0, 2, 4)

    def test_meta(self):
        if MODERN:
            y = small().to("meta")(torch.empty(2, 5, 33, device="meta"))
            self.assertEqual((y.shape, y.device.type), ((2, 5, 21), "meta"))

    def test_random_operator_arguments(self):
        """Whatever comes: a result of the right shape, or one of the documented exceptions."""
        choose = random.Random(int(os.environ.get("FFF_TEST_SEED", "1")))
        kinds = [torch.float32] * 12 + [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.bool, torch.cfloat]
        accepted = refused = 0

        def tensor(shape):
            if choose.random() < 0.1:
                shape = [choose.choice([0, 1, 2, 3, 7, 14]) for _ in range(choose.choice([0, 1, 2, 3]))]
            made = torch.zeros(shape, dtype=choose.choice(kinds))
            if choose.random() < 0.2 and made.dim() == 2:
                made = made.t().contiguous().t()
            if choose.random() < 0.05 and made.dim():
                made = made[:1].expand(made.shape)
            if choose.random() < 0.05 and made.dim():
                made = made[::2]
            return made

        for _ in range(3000):
            depth, trees, major = choose.choice([0, 1, 2, 3]), choose.choice([1, 2, 3]), choose.random() < 0.5
            rows, width, out = trees * (2 ** (depth + 1) - 1), choose.choice([1, 2, 7, 33]), choose.choice([1, 3, 8])
            x = tensor([*choose.choice([(), (0,), (1,), (4,), (2, 3)]), width])
            plan = [depth, trees, choose.choice(range(6)), choose.choice([0, 1]), major]
            if choose.random() < 0.1:
                at = choose.randrange(4)
                plan[at] = choose.choice([-1, 6, 31, 64, 1 << 33, -(1 << 62), (1 << 63) - 1])
            bias = None if choose.random() < 0.3 else tensor([rows])
            arguments = (x, tensor([rows, width]), bias, tensor([rows, out] if major else [out, rows]), *plan)
            try:
                y = choose.choice([torch.ops.fff.forward, lambda *a: torch.ops.fff.route(*a)[1]])(*arguments)
                accepted += 1
                self.assertEqual(y.shape[:x.dim() - 1], x.shape[:-1])
                self.assertEqual(y.dtype, torch.float32)
            except (TypeError, ValueError, RuntimeError, MemoryError, OverflowError):
                refused += 1
        self.assertGreater(accepted, 200)
        self.assertGreater(refused, 500)
        fff.torch.release()

    def test_random_inputs(self):
        choose = random.Random(int(os.environ.get("FFF_TEST_SEED", "1")) + 1)
        module = small()
        kinds = [torch.float32] * 6 + [torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool]
        accepted = refused = 0
        for _ in range(3000):
            shape = [choose.choice([0, 1, 2, 3, 33, 64]) for _ in range(choose.choice([0, 1, 2, 2, 3, 4]))]
            if shape and choose.random() < 0.7:
                shape[-1] = 33
            x = torch.zeros(shape, dtype=choose.choice(kinds))
            if choose.random() < 0.2 and x.dim() > 1:
                x = x.transpose(0, 1)
            if choose.random() < 0.2 and x.dim():
                x = x[::choose.choice([1, 2, 3])]
            if choose.random() < 0.2 and x.is_floating_point():
                x.requires_grad_()
            with torch.set_grad_enabled(choose.random() < 0.5):
                try:
                    y = choose.choice([module, module.forward])(x)
                    accepted += 1
                    self.assertEqual(y.shape, (*x.shape[:-1], 21))
                except (TypeError, ValueError):
                    refused += 1
        self.assertGreater(accepted, 500)
        self.assertGreater(refused, 500)

    def test_library_older_than_the_header(self):
        """A library without a function, and one of another version: an ImportError that says so."""
        with tempfile.TemporaryDirectory() as folder:
            names = [name for name in fff._c._SIGNATURES if name != "fff_version"]
            cases = [("lacks", "0.1.0", names[:-3])]
            if NATIVE:  # which is compiled with a header; that in Python has none to compare with
                cases.append(("0.0.9", "0.0.9", names))
            for what, version, functions in cases:
                source = pathlib.Path(folder) / "old.c"
                source.write_text(f'const char *fff_version(void) {{ return "{version}"; }}\n' +
                                  "".join(f"int {name}(void) {{ return 0; }}\n" for name in functions))
                library = pathlib.Path(folder) / "old.so"
                subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
                done = subprocess.run([sys.executable, "-c", "import fff.torch"], capture_output=True, text=True, check=False,
                                      env={**os.environ, "FFF_LIBRARY": str(library)})
                self.assertEqual(done.returncode, 1)
                self.assertIn("ImportError", done.stderr)
                self.assertIn(what, done.stderr)


@unittest.skipUnless(MODERN, "PyTorch 1.13 has neither torch.compile nor torch.export")
class Compiled(unittest.TestCase):
    def setUp(self):
        torch._dynamo.reset()
        self.x = torch.randn(6, 33)

    def model(self):
        return nn.Sequential(nn.Linear(33, 33), small(out=33)).eval()

    def expected(self, model, x):
        with torch.no_grad():
            return bits(model(x))

    def test_compile(self):
        for backend in ("eager", "aot_eager") + (("inductor",) if os.environ.get("FFF_TEST_INDUCTOR") else ()):
            for gradients in (False, True):
                torch._dynamo.reset()
                model = self.model()
                compiled = torch.compile(model, backend=backend, fullgraph=True)
                with self.subTest(backend=backend, gradients=gradients), torch.set_grad_enabled(gradients):
                    for batch in (6, 3, 50, 1):
                        x = torch.randn(batch, 33)
                        self.assertEqual(bits(compiled(x)), self.expected(model, x))
                    with torch.no_grad():
                        model[1].linear_in.weight.mul_(2)
                    self.assertEqual(bits(compiled(self.x)), self.expected(model, self.x))

    def test_compiled_gradients(self):
        model = self.model()
        found = []
        for call in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
            model.zero_grad()
            call(self.x).square().sum().backward()
            found.append([parameter.grad.clone() for parameter in model.parameters()])
        for one, other in zip(*found):
            torch.testing.assert_close(one, other)

    def test_compiled_training(self):
        model = self.model().train()
        torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(self.x), model(self.x))

    def test_export(self):
        for gradients in (False, True):
            for dynamic in (None, ({0: torch.export.Dim("batch", min=1)},)):
                model = self.model()
                with torch.set_grad_enabled(gradients):
                    program = torch.export.export(model, (self.x,), dynamic_shapes=dynamic)
                self.assertIn("fff.forward", program.graph_module.code)
                buffer = io.BytesIO()
                torch.export.save(program, buffer)
                buffer.seek(0)
                loaded = torch.export.load(buffer).module()
                with torch.no_grad():
                    self.assertEqual(bits(loaded(self.x)), self.expected(model, self.x))
                    if dynamic:
                        x = torch.randn(11, 33)
                        self.assertEqual(bits(loaded(x)), self.expected(model, x))

    def test_opcheck(self):
        module = small()
        torch.library.opcheck(torch.ops.fff.forward.default, (self.x, *module._weights(), *module._plan))
        torch.library.opcheck(torch.ops.fff.forward.default,
                              (torch.randn(2, 3, 33, requires_grad=True), *module._weights(), *module._plan))
        weights = [weight.detach() for weight in module._weights()]
        torch.library.opcheck(torch.ops.fff.route.default, (self.x, *weights, *module._plan))

    def test_vmap_and_functional_call(self):
        module = small()
        with torch.no_grad():
            self.assertEqual(bits(torch.vmap(module)(self.x)), bits(module(self.x)))
            other = small(seed=8)
            self.assertEqual(bits(torch.func.functional_call(module, dict(other.state_dict()), (self.x,))), bits(other(self.x)))


def loaded_order(module, loaded):
    """The module's parameters in the order that the loaded program has them."""
    named = dict(module.named_parameters())
    return [named[name] for name, _ in loaded.named_parameters()]


class Reprs(unittest.TestCase):
    def test_what_tells_modules_apart(self):
        quantized = fff.torch.quantize(FFF(8, 5, 3, 2, routing=">="), "bf16+i8", exact_routes=True)
        for module, text in ((FFF(8, 5, 3, 2), "2x3, 8 -> 5, routing >"), (BenchmarkFFF(8, 3, 5), "1x3, 8 -> 5, routing >="),
                             (quantized, "2x3, 8 -> 5, routing >=, stores bf16+i8 with exact routes"),
                             (fff.torch.quantize(BenchmarkFFF(8, 3, 5), "f16"), "1x3, 8 -> 5, routing >=, stores f16+f16"),
                             (fff.torch.LeafFFF(8, 2, 5, 3), "depth 3, 8 -> 2 -> 5, routing >="),
                             (fff.torch.LeafFFF(8, 2, 5, 3, eval_b2s=False), "depth 3, 8 -> 2 -> 5, routing >=, evaluated without b2s"),
                             (fff.torch.Forest([FFF(8, 5, 3, 2)]), "8 -> 5")):
            self.assertEqual(module.extra_repr(), text)
            self.assertIn(text, repr(module))


class Traced(unittest.TestCase):
    def test_jit_trace(self):
        """The same bits with gradients on and off, with and without the check, alone and in a model, at another batch size."""
        for layer in (small(), small(bias=False), BenchmarkFFF(33, 4, 21).eval(), small().train()):
            for model in (layer, nn.Sequential(nn.Linear(33, 33), layer)):
                for gradients in (True, False):
                    for check in (True, False):
                        for requires_grad in {gradients, False}:
                            with self.subTest(type(model).__name__, gradients=gradients, check=check, x=requires_grad), \
                                    torch.set_grad_enabled(gradients):
                                x = torch.randn(4, 33, requires_grad=requires_grad)
                                traced = torch.jit.trace(model, (x,), check_trace=check)
                                self.assertEqual("fff::forward" in str(traced.inlined_graph), not layer.training)
                                y = torch.randn(7, 33)
                                self.assertEqual(bits(traced(y)), bits(model(y)))
                                self.assertEqual(traced(y).requires_grad, gradients)

    def test_traced_gradients_and_saving(self):
        layer, x = small(), torch.randn(4, 33)
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.trace(layer, (x,)), buffer)
        buffer.seek(0)
        loaded = torch.jit.load(buffer)
        for one, other in zip(torch.autograd.grad(loaded(x).square().sum(), list(loaded.parameters())),
                              torch.autograd.grad(layer(x).square().sum(), list(loaded_order(layer, loaded)))):
            torch.testing.assert_close(one, other)

    def test_jit_script(self):
        for layer in (small(), small(bias=False), BenchmarkFFF(33, 4, 21).eval()):
            for model in (layer, nn.Sequential(nn.Linear(33, 33), layer)):
                scripted = torch.jit.script(model)
                self.assertEqual(list(scripted.state_dict()), list(model.state_dict()))
                buffer = io.BytesIO()
                torch.jit.save(scripted, buffer)
                buffer.seek(0)
                for program in (scripted, torch.jit.load(buffer)):
                    for batch in (1, 7):
                        x = torch.randn(batch, 33)
                        self.assertEqual(bits(program(x)), bits(model(x)))
        wrapped = small()
        wrapped.linear_in = nn.Sequential(nn.Linear(33, 93))
        with self.assertRaisesRegex(NotImplementedError, "torch.jit.trace"):
            torch.jit.script(wrapped)

    def test_profiler_sees_the_operator(self):
        module, x = small(), torch.randn(4, 33)
        with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            module(x)
        self.assertIn("fff::forward", [event.key for event in profile.key_averages()])


if __name__ == "__main__":
    unittest.main()
