"""fff.torch's LeafFFF, MasterLeafFFF and Forest: against the NumPy package's bits, the authors' recorded results, and their
definitions, token by token in float64.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_torch_leaves.py
"""

import concurrent.futures
import copy
import io
import json
import math
import os
import pathlib
import pickle
import random
import unittest
import warnings
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional

import fff
import fff.torch
from fff.torch import FFF, BenchmarkFFF, Forest, LeafFFF, MasterLeafFFF

try:
    from torch import func
except ImportError:
    try:
        import functorch as func  # as it was with 1.13
    except ImportError:
        func = None

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"
MODERN = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 5)
ACTIVATIONS = [nn.GELU, lambda: nn.GELU("tanh"), nn.ReLU, fff.torch.SquaredReLU, nn.SiLU, nn.Identity]
NAMES = ("node_weights", "node_biases", "w1s", "b1s", "w2s", "b2s")


def bits(tensor):
    return tensor.detach().contiguous().numpy().tobytes()


class TheirLeaf(nn.Module):
    """The module of fastfeedforward as far as structure goes, and its definition, token by token in float64: in evaluation without
    b2s, unless `adds`."""

    def __init__(self, input_width, leaf_width, output_width, depth, activation=None, adds=False, master=0):
        super().__init__()
        leaves, nodes = 2 ** depth, 2 ** depth - 1
        self.input_width, self.leaf_width, self.output_width, self.adds = input_width, leaf_width, output_width, adds
        self.activation, self.dropout, self.train_hardened = activation or nn.ReLU(), 0.0, False
        self.region_leak, self.usage_mode, self.leaf_dropout = 0.0, "none", nn.Dropout(0.0)
        self.depth = nn.Parameter(torch.tensor(depth, dtype=torch.long), requires_grad=False)
        self.node_weights = nn.Parameter(torch.randn(nodes, input_width) / math.sqrt(input_width))
        self.node_biases = nn.Parameter(torch.randn(nodes, 1) * 0.1)
        self.w1s = nn.Parameter(torch.randn(leaves, input_width, leaf_width) / math.sqrt(input_width))
        self.b1s = nn.Parameter(torch.randn(leaves, leaf_width) * 0.1)
        self.w2s = nn.Parameter(torch.randn(leaves, leaf_width, output_width))
        self.b2s = nn.Parameter(torch.randn(leaves, output_width))
        if master:
            self.magic_w1 = nn.Parameter(torch.randn(1, input_width, master) / math.sqrt(input_width))
            self.magic_b1 = nn.Parameter(torch.randn(1, master) * 0.1)
            self.magic_w2, self.magic_b2 = nn.Parameter(torch.randn(1, master, output_width)), nn.Parameter(torch.randn(1, output_width))
            self.k = nn.Parameter(torch.tensor(0.5))

    def leaf(self, x, leaf, b2s):
        y = self.activation(x @ self.w1s[leaf].double() + self.b1s[leaf].double()) @ self.w2s[leaf].double()
        return y + self.b2s[leaf].double() if b2s else y

    def right(self, x, node):
        return x @ self.node_weights[node].double() + self.node_biases[node, 0].double()

    def tree(self, x, node, decide):
        """The mixture of what the leaves below a node give; `decide` makes a share of a logit."""
        if node >= len(self.node_weights):
            return self.leaf(x, node - len(self.node_weights), True)
        share = decide(self.right(x, node))
        return (1 - share) * self.tree(x, 2 * node + 1, decide) + share * self.tree(x, 2 * node + 2, decide)

    def walk(self, x):
        node = 0
        while node < len(self.node_weights):
            node = 2 * node + 1 + int(self.right(x, node) >= 0)
        return self.leaf(x, node - len(self.node_weights), self.adds)

    def forward(self, x):
        tokens, many = x.reshape(-1, x.shape[-1]).double(), []
        for token in tokens:
            y = self.tree(token, 0, torch.sigmoid) if self.training else self.walk(token)
            if hasattr(self, "k"):
                share, hidden = torch.sigmoid(self.k.double()), self.activation(token @ self.magic_w1[0].double() + self.magic_b1[0].double())
                y = share * y + (1 - share) * (hidden @ self.magic_w2[0].double() + self.magic_b2[0].double())
            many.append(y)
        return torch.stack(many).to(x.dtype).reshape(*x.shape[:-1], self.output_width)


def leaf(depth=3, width=4, into=12, out=9, seed=1, kind=LeafFFF, **options):
    torch.manual_seed(seed)
    return kind(into, width, out, depth, **options).eval()


def forest(output_bias=True, activation=nn.SiLU, into=12, out=9):
    torch.manual_seed(3)
    made = Forest([FFF(into, out, 2, 2, activation), LeafFFF(into, 3, out, 2, activation()), FFF(into, out, 0, 5, activation),
                   MasterLeafFFF(into, 2, out, 3, activation(), master_width=6)], output_bias=output_bias).eval()
    if output_bias:
        nn.init.normal_(made.output_bias)
    return made


def layers():
    """Of every kind."""
    limited = leaf(activation=nn.SiLU())
    limited.thresholds = torch.linspace(-0.5, 0.5, 7)
    return [leaf(activation=nn.SiLU()), leaf(0, activation=nn.GELU()), leaf(5, 1, eval_b2s=False, activation=nn.GELU()), limited,
            leaf(kind=MasterLeafFFF, activation=nn.SiLU()), leaf(0, kind=MasterLeafFFF, activation=nn.SiLU()), forest(), forest(False)]


def arrays(layer):
    return [None if name == "b2s" and not layer.eval_b2s else getattr(layer, name).detach().float().numpy() for name in NAMES]


def numpy_part(part):
    """As fff.Layer.forest() takes a module: one part, or two."""
    if isinstance(part, FFF):
        depth, trees, activation, routing, _ = part._plan
        return [fff.Trees(part.linear_in.weight.detach().float().numpy(), part.linear_out.weight.detach().float().numpy().T, depth=depth,
                          trees=trees, biases=part.linear_in.bias.detach().float().numpy(), activation=fff.ACTIVATIONS[activation],
                          routing=fff.ROUTINGS[routing])]
    options = {"activation": fff.ACTIVATIONS[part._number]}
    thresholds = None if part.thresholds is None else part.thresholds.float().numpy()
    if not isinstance(part, MasterLeafFFF):
        return [fff.Leaves(*arrays(part), routing=part.routing, thresholds=thresholds, **options)]
    share = torch.sigmoid(part.k.detach().float())
    master = [getattr(part, name).detach().float().numpy() for name in ("magic_w1", "magic_b1", "magic_w2", "magic_b2")]
    return [fff.Leaves(*arrays(part), routing=part.routing, thresholds=thresholds, factor=share.numpy(), **options),
            fff.Leaves(None, None, *master, factor=(1 - share).numpy(), **options)]


def numpy_layer(module, **options):
    parts = module.parts if isinstance(module, Forest) else [module]
    bias = module.output_bias.detach().float().numpy() if isinstance(module, Forest) and module.output_bias is not None else None
    return fff.Layer.forest([made for part in parts for made in numpy_part(part)], output_bias=bias, **options)


class SameBits(unittest.TestCase):
    def test_random_shapes(self):
        choose = random.Random(int(os.environ.get("FFF_TEST_SEED", "1")))
        for _ in range(40):
            module = leaf(choose.randint(0, 6), choose.randint(1, 20), choose.randint(1, 70), choose.randint(1, 70),
                          choose.randint(0, 1 << 30), choose.choice([LeafFFF, MasterLeafFFF]), activation=choose.choice(ACTIVATIONS)(),
                          eval_b2s=choose.random() < 0.5, routing=choose.choice([">", ">="]))
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
            expected_nodes, expected_logits = numpy_layer(module).route(x.numpy().reshape(-1, module.input_width))
            self.assertEqual((nodes.shape, nodes.dtype), ((*leading, expected_nodes.shape[-1]), torch.int32))
            self.assertEqual(bits(nodes), expected_nodes.tobytes())
            self.assertEqual(bits(logits), expected_logits.tobytes())

    def test_every_kind(self):
        x = torch.randn(200, 12)
        for module in layers():
            with torch.no_grad():
                self.assertEqual(bits(module(x)), numpy_layer(module)(x.numpy()).tobytes())
                self.assertEqual(b"".join(bits(module(row)) for row in x), bits(module(x)))
                torch.testing.assert_close(module(x), module.dense(x), rtol=0, atol=1e-5)
                torch.testing.assert_close(module(x), copy.deepcopy(module).double().dense(x.double()).float(), rtol=0, atol=1e-5)
                backwards = x.flip(0).t().contiguous().t()
                self.assertEqual(bits(module(backwards).flip(0)), bits(module(x)))

    def test_leaves(self):
        module, x = leaf(4), torch.randn(3, 50, 12)
        found = module.leaves(x)
        self.assertEqual((found.shape, found.dtype), ((3, 50), torch.int32))
        self.assertGreater(len(found.unique()), 5)
        hard = module.train()._mix((module.decisions(x) >= 0.5).float(), False, False)[0]
        self.assertTrue(torch.equal(hard.argmax(1), found.reshape(-1).long()))

    def test_types(self):
        x = torch.randn(60, 12)
        for dtype in (torch.bfloat16, torch.float16):
            for module in layers():
                module.to(dtype)
                with torch.no_grad():
                    y = module(x.to(dtype))
                    self.assertEqual(y.dtype, dtype)
                    name = {torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
                    expected = numpy_layer(module)(x.to(dtype).float().numpy())  # float32 weights of the same numbers
                    self.assertEqual(bits(y.view(torch.int16)), bits(torch.from_numpy(expected).to(dtype).view(torch.int16)), name)
                self.assertRaises(TypeError, module, x)
                module(x.to(dtype)).float().sum().backward()
                self.assertTrue(all(weight.grad is None or weight.grad.dtype == dtype for weight in module.parameters()))

    def test_quantize(self):
        x = torch.randn(60, 12)
        for module in layers():
            expected = module(x)
            fff.torch.quantize(module, "bf16+i8", exact_routes=True)
            with torch.no_grad():
                self.assertNotEqual(bits(module(x)), bits(expected))
                self.assertLess((module(x) - expected).abs().max(), 0.05 * expected.abs().max())
                self.assertEqual(bits(copy.deepcopy(module)(x)), bits(module(x)))
            self.assertIn("bf16+i8", repr(module))
            fff.torch.quantize(module, None)
            self.assertEqual(bits(module(x)), bits(expected))
        bad = leaf()
        with torch.no_grad():
            bad.w1s[5, 7, 2] = math.inf
        fff.torch.quantize(bad, "i8")
        with self.assertRaisesRegex((RuntimeError, fff.Error), "w1s, leaf 5, neuron 2, column 7"):
            bad(x)


class Definition(unittest.TestCase):
    def test_recorded_results_of_the_authors(self):
        files = sorted(DATA.glob("leaf_*.safetensors"))
        self.assertGreaterEqual(len(files), 2)
        for file in files:
            data = file.read_bytes()
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8:8 + length])
            about = header.pop("__metadata__")
            kinds = {"F32": np.float32, "I64": np.int64}
            tensors = {name: torch.from_numpy(np.frombuffer(data[8 + length:][slice(*entry["data_offsets"])],
                                                            kinds[entry["dtype"]]).reshape(entry["shape"]).copy())
                       for name, entry in header.items()}
            module = LeafFFF(int(about["input"]), int(about["leaf_width"]), int(about["output"]), int(about["depth"]),
                             getattr(nn, about["activation"])())
            module.load_state_dict({name: tensors[name] for name in module.state_dict()})
            x = tensors["input"]
            with torch.no_grad():
                for computed, name in ((module.eval()(x), "output_with_b2"), (module.train()(x, use_hard_decisions=True), "output_with_b2")):
                    torch.testing.assert_close(computed, tensors[name], rtol=0, atol=1e-5)
                module.train_hardened = True
                torch.testing.assert_close(module(x), tensors["output_with_b2"], rtol=0, atol=1e-5)
                module.eval().eval_b2s = False
                torch.testing.assert_close(module(x), tensors["output"], rtol=0, atol=1e-5)
                self.assertGreater((module(x) - tensors["output_with_b2"]).abs().max(), 0.01)

    def their(self, **options):
        torch.manual_seed(4)
        theirs = TheirLeaf(8, 3, 5, 3, **options)
        ours = (MasterLeafFFF(8, 3, 5, 3, theirs.activation, master_width=options["master"]) if options.get("master") else
                LeafFFF(8, 3, 5, 3, theirs.activation))
        ours.load_state_dict(theirs.state_dict())
        return theirs, ours

    def test_training(self):
        """Outputs and gradients of the soft mixture."""
        x = torch.randn(2, 7, 8)
        for options in ({}, {"activation": nn.GELU()}, {"master": 4}):
            theirs, ours = self.their(**options)
            found = []
            for module in (theirs, ours):
                y = module(x)
                found.append([y, *torch.autograd.grad(y.square().sum(), [p for p in module.parameters() if p.requires_grad])])
            for expected, one in zip(*found):
                self.assertGreater(expected.abs().max(), 0)
                torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5 * max(1.0, expected.abs().max().item()))

    def test_hard_decisions_and_leaks(self):
        x = torch.randn(20, 8)
        theirs, ours = self.their()
        y = torch.stack([theirs.tree(token, 0, lambda z: (z > 0).double()) for token in x.double()]).float()
        torch.testing.assert_close(ours(x, use_hard_decisions=True), y, rtol=0, atol=1e-5)
        ours.region_leak = 1.0  # every decision is turned round
        y = torch.stack([theirs.tree(token, 0, lambda z: torch.sigmoid(-z)) for token in x.double()]).float()
        torch.testing.assert_close(ours(x), y, rtol=0, atol=1e-5)
        ours.region_leak = 0.25
        torch.manual_seed(1)
        turned = (ours._mix(torch.zeros(4000, 7), False, False)[1] == 1).float().mean(0)
        self.assertTrue(((turned > 0.2) & (turned < 0.3)).all(), turned)
        before = ours.training_forward(x)
        self.assertFalse(torch.equal(ours.training_forward(x), before))  # drawn anew
        ours.eval()
        torch.testing.assert_close(ours.training_forward(x), theirs.train()(x), rtol=0, atol=1e-5)  # no leaks

    def test_dropout(self):
        module = leaf(2, 8, dropout=0.5).train()
        x = torch.randn(5, 12)
        self.assertFalse(torch.equal(module(x), module(x)))
        everything = leaf(2, 8, dropout=1.0).train()
        mixture = everything._mix(everything.decisions(x), False, False)[0]
        torch.testing.assert_close(everything(x), mixture @ everything.b2s)
        self.assertTrue(torch.equal(module.eval()(x), module(x)))

    def test_entropies(self):
        module, x = leaf(3).train(), torch.randn(2, 9, 12)
        y, entropies = module(x, return_entropies=True)
        self.assertEqual((y.shape, entropies.shape), ((2, 9, 9), (7,)))
        p = torch.sigmoid(x.reshape(18, 12) @ module.node_weights.t() + module.node_biases.t())
        torch.testing.assert_close(entropies, torch.distributions.Bernoulli(p).entropy().mean(0))
        with torch.no_grad():
            module.node_biases.fill_(1000.0)
        self.assertTrue(torch.isfinite(module(x, return_entropies=True)[1]).all())
        module.eval()
        self.assertRaises(ValueError, module, x, return_entropies=True)
        self.assertRaises(ValueError, module, x, use_hard_decisions=False)
        self.assertEqual(bits(module(x, use_hard_decisions=True)), bits(module(x)))

    def test_usage(self):
        for mode in ("hard", "soft"):
            module = leaf(3, usage_mode=mode, train_hardened=mode == "hard").train()
            x = torch.randn(50, 12)
            module(x)
            module(x[:20])
            self.assertEqual(module.node_usage[0], 70)
            self.assertAlmostEqual(module.leaf_usage.sum().item(), 70, places=3)
            decisions = module.decisions(torch.cat([x, x[:20]]))
            shares = torch.round(decisions) if mode == "hard" else decisions
            torch.testing.assert_close(module.node_usage[1:3], torch.stack([(1 - shares[:, 0]).sum(), shares[:, 0].sum()]))
            torch.testing.assert_close(module.node_usage[3:], torch.stack([1 - shares[:, 1:3], shares[:, 1:3]], 2).flatten(1).sum(0))
            if mode == "hard":
                leaves = module.eval().leaves(torch.cat([x, x[:20]]))
                self.assertEqual(module.leaf_usage.tolist(), torch.bincount(leaves.long(), minlength=8).tolist())
            usage = module.leaf_usage.clone()
            module.eval()(x)
            self.assertTrue(torch.equal(module.leaf_usage, usage))
            self.assertIs(module.get_leaf_param_group()["usage"], module.leaf_usage)
            self.assertIs(module.get_node_param_group()["params"][0], module.node_weights)

    def test_gradcheck(self):
        for module in (leaf(2, 2, 4, 3, activation=nn.SiLU()), leaf(2, 2, 4, 3, kind=MasterLeafFFF, master_width=3, activation=nn.GELU()),
                       leaf(0, 2, 4, 3, activation=nn.SiLU())):
            module.double().train()
            x = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
            parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
            self.assertTrue(torch.autograd.gradcheck(lambda x, *_, m=module: m(x), (x, *parameters)))
        module = forest(into=4, out=3).double()
        module.train()
        x = torch.randn(2, 4, dtype=torch.double, requires_grad=True)
        self.assertTrue(torch.autograd.gradcheck(lambda x, *_: module(x), (x, module.parts[1].w1s, module.parts[3].k, module.output_bias)))

    def test_balance_loss(self):
        module, x = leaf(3), torch.randn(400, 12)
        p, hard = module.decisions(x), np.zeros((400, 8))
        soft = np.zeros((400, 8))
        for token in range(400):
            for index in range(8):
                node, weight, here = 0, 1.0, 1.0
                for level in (4, 2, 1):
                    right = index & level
                    share = p[token, node].item() if right else 1 - p[token, node].item()
                    weight, here, node = weight * share, here * (share >= 0.5), 2 * node + (2 if right else 1)
                soft[token, index], hard[token, index] = weight, here
        expected = 8 * (soft.mean(0) * hard.mean(0)).sum()
        found = fff.torch.balance_loss(module, x)
        self.assertAlmostEqual(found.item(), expected, places=4)
        found.backward()
        self.assertGreater(module.node_weights.grad.abs().max(), 0)
        with torch.no_grad():
            module.node_biases.fill_(100.0)
        self.assertAlmostEqual(fff.torch.balance_loss(module, x).item(), 8, places=3)
        module = leaf(3, seed=6)
        with torch.no_grad():
            module.node_biases.add_(1.0)
        before = fff.torch.balance_loss(module, x).item()
        optimizer = torch.optim.SGD(module.parameters(), 0.5)
        for _ in range(50):
            optimizer.zero_grad()
            fff.torch.balance_loss(module, x).backward()
            optimizer.step()
        self.assertLess(fff.torch.balance_loss(module, x).item(), before - 0.1)


class Derivatives(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(2)
        self.x, self.t = torch.randn(5, 12), torch.randn(5, 12)

    def assert_close(self, found, expected):
        for one, other in zip(found, expected):
            if other is None:
                self.assertIsNone(one)
                continue
            scale = max(other.abs().max().item(), 1e-30)
            torch.testing.assert_close(one.double(), other.double(), rtol=1e-3, atol=1e-4 * scale)

    def test_gradients_in_evaluation(self):
        """Those of the definition along the routes; nodes that only route have none."""
        for module in layers():
            exact = copy.deepcopy(module).double()
            found = []
            for call, layer, x in ((module, module, self.x), (exact.dense, exact, self.x.double())):
                x = x.clone().requires_grad_()
                y = call(x.reshape(5, 1, 12))
                y.square().sum().backward()
                found.append([x.grad, *(p.grad for p in layer.parameters())])
            self.assert_close(*found)
            names = [name for name, parameter in module.named_parameters() if parameter.requires_grad and parameter.numel()
                     and parameter.grad is None]
            self.assertTrue(all(name.split(".")[-1] in ("node_weights", "node_biases", "b2s") for name in names), names)
            self.assertEqual([name for name in names if name.endswith("b2s")], ["b2s"] if not getattr(module, "eval_b2s", True) else [])

    def test_second_derivative(self):
        for module in layers():
            exact, found = copy.deepcopy(module).double(), []
            for call, layer, x in ((module, module, self.x), (exact.dense, exact, self.x.double())):
                x = x.clone().requires_grad_()
                (first,) = torch.autograd.grad(call(x).square().sum(), x, create_graph=True)
                found.append(torch.autograd.grad(first.square().sum(), [x, *(p for p in layer.parameters() if p.requires_grad)],
                                                 allow_unused=True))
            self.assert_close(*found)

    def test_forward_mode(self):
        for module in layers():
            exact, found = copy.deepcopy(module).double(), []
            for call, x, t in ((module, self.x, self.t), (exact.dense, self.x.double(), self.t.double())):
                with forward_ad.dual_level():
                    y = forward_ad.unpack_dual(call(forward_ad.make_dual(x, t)))
                    found.append([y.tangent])
                    if x.dtype == torch.float32:
                        self.assertEqual(bits(y.primal), bits(module(x)))
            self.assert_close(*found)

    def test_only_some_gradients(self):
        module = leaf(kind=MasterLeafFFF)
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        self.assertFalse(module(self.x).requires_grad)
        module.k.requires_grad_()
        module(self.x).sum().backward()
        self.assertNotEqual(module.k.grad.item(), 0)
        self.assertIsNone(module.w1s.grad)

    def test_route_has_gradients(self):
        for module in layers():
            x, entries = self.x.clone().requires_grad_(), module.route(self.x)[0]
            _, logits = torch.ops.fff.forest_route(x, *module._given(), module._bias())
            (found,) = torch.autograd.grad(logits.square().sum(), x)
            exact = copy.deepcopy(module).double()
            y = self.x.double().requires_grad_()
            expected = fff.torch._forest.logits_at(y, *exact._given(), entries)
            torch.testing.assert_close(logits, expected.float(), rtol=1e-4, atol=1e-5)
            self.assert_close([found], torch.autograd.grad(expected.square().sum(), y))

    @unittest.skipIf(func is None, "this PyTorch has no torch.func")
    def test_transforms(self):
        for module in layers():
            exact = copy.deepcopy(module).double()
            for transform in (lambda f: func.grad(lambda x: f(x).square().sum()), func.jacrev, func.jacfwd,
                              lambda f: lambda x: func.jvp(f, (x,), (self.t.to(x.dtype),))[1],
                              lambda f: func.vmap(f) if MODERN else f):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.assert_close([transform(module)(self.x)], [transform(exact.dense)(self.x.double())])

    @unittest.skipUnless(MODERN, "vmap is registered with PyTorch 2.5 and later")
    def test_vmap_over_weights(self):
        module = leaf()
        many = [leaf(seed=seed) for seed in (1, 2, 3)]
        stacked = {name: torch.stack([dict(one.named_parameters())[name].detach() for one in many]) for name in NAMES}
        y = torch.vmap(lambda weights, x: torch.func.functional_call(module, weights, (x,)), in_dims=(0, None))(stacked, self.x)
        self.assertEqual(bits(y), b"".join(bits(one(self.x)) for one in many))

    def test_optimizer_step(self):
        module = leaf(kind=MasterLeafFFF).train()
        optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
        module.eval()
        before = bits(module(self.x))
        module.train()
        module(self.x).square().sum().backward()
        optimizer.step()
        module.eval()
        with torch.no_grad():
            self.assertNotEqual(bits(module(self.x)), before)
            self.assertEqual(bits(module(self.x)), numpy_layer(module)(self.x.numpy()).tobytes())


class Weights(unittest.TestCase):
    def test_changes_are_noticed(self):
        x = torch.randn(9, 12)
        for module in layers():
            for name, weight in module.named_parameters():
                if not weight.is_floating_point() or not weight.numel() or (name == "b2s" and not module.eval_b2s):
                    continue
                with torch.no_grad():
                    module(x)
                    weight.add_(0.5)
                    self.assertEqual(bits(module(x)), numpy_layer(module)(x.numpy()).tobytes(), name)
                    weight.data.mul_(2)  # not counted; a whole weight
                    self.assertEqual(bits(module(x)), numpy_layer(module)(x.numpy()).tobytes(), name)
                weight.data = weight.data.clone()
                self.assertEqual(bits(module(x)), numpy_layer(module)(x.numpy()).tobytes(), name)

    def test_memory(self):
        fff.torch.release()
        module, x = forest(), torch.randn(3, 12)
        module(x)
        module(x)
        self.assertEqual(fff.torch.packed()[0], 1)
        self.assertGreater(fff.torch.packed()[1], 1000)
        module.train()
        self.assertEqual(fff.torch.packed(), (0, 0))
        module.eval()(x)
        del module
        fff.torch.release(torch.zeros(1))
        self.assertEqual(fff.torch.packed(), (0, 0))

    def test_copies(self):
        x = torch.randn(3, 12)
        for module in layers():
            expected = bits(module(x))
            for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
                self.assertEqual(bits(other(x)), expected)

    def test_other_layouts(self):
        x = torch.randn(9, 12)
        module = leaf()
        expected = bits(module(x))
        module.w1s = nn.Parameter(module.w1s.detach().transpose(1, 2).contiguous().transpose(1, 2))
        self.assertEqual(bits(module(x)), expected)
        module.w2s = nn.Parameter(module.w2s.detach().transpose(0, 2).contiguous().transpose(0, 2))
        module.w1s = nn.Parameter(module.w1s.detach().transpose(0, 2).contiguous().transpose(0, 2))
        module.node_weights = nn.Parameter(module.node_weights.detach().t().contiguous().t())
        self.assertEqual(bits(module(x)), expected)
        with torch.no_grad():
            module.w1s[7, 11, 3] += 100
            module.w1s[7] += 1
        self.assertEqual(bits(module(x)), numpy_layer(module)(x.numpy()).tobytes())

    def test_wrapped(self):
        module, x = leaf(), torch.randn(9, 12)
        expected = module(x)
        nn.utils.parametrize.register_parametrization(module, "w1s", nn.Identity())
        torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-5)
        self.assertRaisesRegex(ValueError, "not plain", module.route, x)


class Modules(unittest.TestCase):
    def test_state_dict(self):
        """The published names, forth and back."""
        for master in (0, 8):
            theirs = TheirLeaf(12, 4, 9, 3, master=master)
            ours = leaf(kind=MasterLeafFFF if master else LeafFFF)
            self.assertEqual({k: (v.shape, v.dtype) for k, v in ours.state_dict().items()},
                             {k: (v.shape, v.dtype) for k, v in theirs.state_dict().items()})
            ours.load_state_dict(theirs.state_dict())
            other = TheirLeaf(12, 4, 9, 3, master=master)
            other.load_state_dict(ours.state_dict())
            x = torch.randn(6, 12)
            torch.testing.assert_close(other.train()(x), theirs.train()(x))
            self.assertTrue(torch.equal(ours.depth, torch.tensor(3)))
        wrong = {**leaf().state_dict(), "depth": torch.tensor(4)}
        with self.assertRaisesRegex(RuntimeError, "depth is 4, where this layer's is 3"):
            leaf().load_state_dict(wrong)
        with self.assertRaisesRegex(RuntimeError, "w2s"):
            leaf().load_state_dict(leaf(width=5).state_dict())
        counted = leaf(usage_mode="soft")
        self.assertEqual(list(counted.state_dict())[-2:], ["node_usage", "leaf_usage"])

    def test_from_module(self):
        x = torch.randn(30, 8)
        for options, kind, b2s in (({}, LeafFFF, False), ({"adds": True}, LeafFFF, True), ({"activation": nn.GELU()}, LeafFFF, False),
                                   ({"master": 4, "adds": True}, MasterLeafFFF, True)):
            for mode in (True, False):
                torch.manual_seed(5)
                theirs = TheirLeaf(8, 3, 5, 3, **options).train(mode)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    ours = fff.torch.from_module(theirs)
                self.assertEqual((type(ours), ours.eval_b2s, ours.training), (kind, b2s, mode))
                self.assertEqual({id(p) for p in ours.parameters()}, {id(p) for p in theirs.parameters()})
                self.assertEqual(set(ours.state_dict()), set(theirs.state_dict()))
                torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)
        model = nn.Sequential(nn.Linear(8, 8), TheirLeaf(8, 3, 8, 2), nn.ReLU()).eval()
        expected, names = model(x), set(model.state_dict())
        fff.torch.replace_ffn(model)
        self.assertIsInstance(model[1], LeafFFF)
        self.assertEqual(set(model.state_dict()), names)
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5)
        single = TheirLeaf(8, 3, 5, 0, adds=True)
        torch.testing.assert_close(fff.torch.from_module(single).eval()(x), single.eval()(x), rtol=0, atol=1e-5)
        counted = TheirLeaf(8, 3, 5, 2)
        counted.usage_mode = "hard"
        counted.node_usage, counted.leaf_usage = (nn.Parameter(torch.zeros(n), requires_grad=False) for n in (3, 4))
        ours = fff.torch.from_module(counted).train()
        ours(x)
        self.assertEqual(counted.node_usage[0], 30)

    def test_from_module_refuses(self):
        shifted = TheirLeaf(8, 3, 5, 3)
        shifted.forward = lambda x: TheirLeaf.forward(shifted, x) + 1
        narrow = TheirLeaf(8, 3, 5, 3)
        narrow.b1s = nn.Parameter(torch.zeros(8, 2))
        deep = TheirLeaf(8, 3, 5, 3)
        deep.depth = nn.Parameter(torch.tensor(4), requires_grad=False)
        for module, words in ((shifted, "computes something else"), (narrow, r"b1s \(8, 2\), where w1s is \(8, 8, 3\)"),
                              (deep, "depth 4"), (TheirLeaf(8, 3, 5, 3, nn.Tanh()), "Tanh")):
            with self.assertRaisesRegex(ValueError, words):
                fff.torch.from_module(module)

    def test_constructor(self):
        self.assertIsInstance(LeafFFF(3, 4, 5, 2).activation, nn.ReLU)
        self.assertIsInstance(LeafFFF(3, 4, 5, 2, nn.GELU).activation, nn.GELU)
        x = torch.randn(4, 3)
        module = LeafFFF(3, 4, 5, 2, functional.silu).eval()
        torch.testing.assert_close(module(x), module.dense(x), rtol=0, atol=1e-5)
        for options in ({"dropout": 1.5}, {"region_leak": -0.1}, {"usage_mode": "all"}, {"routing": "<"}, {"activation": nn.Tanh()}):
            with self.assertRaises(ValueError):
                LeafFFF(3, 4, 5, 2, **options)
        for sizes in ((0, 4, 5, 2), (3, 0, 5, 2), (3, 4, 0, 2), (3, 4, 5, -1)):
            with self.assertRaises(ValueError):
                LeafFFF(*sizes)
        self.assertRaises(ValueError, MasterLeafFFF, 3, 4, 5, 2, master_width=0)
        self.assertEqual(LeafFFF(3, 4, 5, 2, dtype=torch.double).w1s.dtype, torch.double)
        self.assertEqual(LeafFFF(3, 4, 5, 2, device="meta").eval()(torch.empty(6, 3, device="meta")).shape, (6, 5))

    def test_depth_is_told_after_to_empty(self):
        for kind in (LeafFFF, MasterLeafFFF):
            made = kind(12, 4, 9, 5, device="meta")
            self.assertTrue(made.depth.is_meta)
            with mock.patch.object(torch, "empty_like", lambda like, **options: torch.full_like(like, 77, **options)):
                made = nn.Sequential(made).to_empty(device="cpu")[0]
            self.assertEqual(made.depth.item(), 5)
            other = kind(12, 4, 9, 5)
            other.load_state_dict(made.state_dict())
            self.assertEqual(other.to(torch.float64).depth.dtype, torch.long)

    def test_gradients_of_depth_0(self):
        """Every parameter that wants a gradient gets one, as DistributedDataParallel asks for."""
        for kind in (LeafFFF, MasterLeafFFF):
            for module in (kind(12, 4, 9, 0), kind(12, 4, 9, 2)):
                module(torch.randn(40, 12)).sum().backward()
                self.assertEqual([name for name, weight in module.named_parameters() if weight.requires_grad and weight.grad is None], [])
                self.assertEqual(module.node_weights.requires_grad, module.n_nodes > 0)

    def test_forest(self):
        x = torch.randn(4, 12)
        module = forest()
        torch.testing.assert_close(module(x), sum(part(x) for part in module.parts) + module.output_bias, rtol=0, atol=1e-5)
        module.train()
        torch.testing.assert_close(module(x), sum(part(x) for part in module.parts) + module.output_bias, rtol=0, atol=1e-5)
        module.eval().parts[1].train()  # that one alone
        torch.testing.assert_close(module(x), sum(part(x) for part in module.parts) + module.output_bias, rtol=0, atol=1e-5)
        for error, parts in ((ValueError, []), (TypeError, [nn.Linear(3, 3)]), (ValueError, [BenchmarkFFF(4, 2, 4)]),
                             (ValueError, [FFF(3, 3, 2), FFF(3, 4, 2)])):
            self.assertRaises(error, Forest, parts)
        theirs = fff.torch.replace_ffn(nn.Sequential(forest()))
        self.assertIsInstance(theirs[0], Forest)

    def test_attributes_exchanged(self):
        """The short way to the kernels sees them, too."""
        x = torch.randn(20, 12)
        for module in (leaf(), leaf(kind=MasterLeafFFF)):
            changes = [("eval_b2s", False), ("activation", nn.GELU()), ("thresholds", torch.linspace(-1, 1, 7)), ("eval_b2s", True),
                       ("thresholds", None), ("routing", ">")]
            seen = set()
            for name, value in changes:
                setattr(module, name, value)
                for whole in (module, Forest([module]).eval()):
                    with torch.no_grad():
                        self.assertEqual(bits(whole(x)), numpy_layer(module)(x.numpy()).tobytes(), name)
                        seen.add(bits(whole(x)))
            self.assertEqual(len(seen), 5)  # `routing` alone makes no difference
            module.register_buffer("thresholds", torch.linspace(-1, 1, 7))
            with torch.no_grad():
                self.assertEqual(bits(module(x)), numpy_layer(module)(x.numpy()).tobytes())
            module.thresholds = None
            module.w1s = nn.Parameter(module.w1s.detach() * 2)
            with torch.no_grad():
                self.assertEqual(bits(module(x)), numpy_layer(module)(x.numpy()).tobytes())
        master = leaf(kind=MasterLeafFFF)
        for name, size in (("magic_w1", (1, 12, 5)), ("magic_b1", (1, 5)), ("magic_w2", (1, 5, 9))):
            setattr(master, name, nn.Parameter(torch.randn(size)))
        with torch.no_grad():
            self.assertEqual(bits(master(x)), numpy_layer(master)(x.numpy()).tobytes())

    def test_hooks_and_subclasses(self):
        for module in layers():
            calls, x = [], torch.randn(3, 12)
            with torch.no_grad():
                expected = bits(module(x))
                handle = module.register_forward_hook(lambda *_, calls=calls: calls.append(1))
                self.assertEqual(bits(module(x)), expected)
                handle.remove()
                module(x)
                self.assertEqual(len(calls), 1)
                module.forward = lambda x: "mine"
                self.assertEqual(module(x), "mine")
                del module.forward
                self.assertEqual(bits(module(x)), expected)

        class Doubled(LeafFFF):
            def forward(self, x):
                return 2 * super().forward(x)

        with torch.no_grad():
            torch.testing.assert_close(leaf(kind=Doubled)(x), 2 * leaf()(x))

    def test_threads(self):
        for module in (leaf(6, 8), forest()):
            x = torch.randn(400, 12)
            with torch.no_grad(), concurrent.futures.ThreadPoolExecutor(4) as pool:
                expected = bits(module(x))
                found = list(pool.map(lambda _, m=module: bits(m(x)), range(40)))
                self.assertEqual(set(found), {expected})

    def test_refuses(self):
        module, x = leaf(), torch.randn(4, 12)
        for error, wrong in ((ValueError, torch.randn(4, 11)), (ValueError, torch.tensor(1.0)), (TypeError, x.double()), (TypeError, x.long())):
            with self.subTest(wrong.dtype), self.assertRaises(error):
                module(wrong)
        self.assertRaises(NotImplementedError, module, x.to_sparse())
        slots, numbers = module._leaf_weights(module._parameters.get), module._numbers()
        for change, words in (({0: None}, "node_weights"), ({2: None}, "w1s"), ({3: slots[3][:, :3]}, "b1s has shape"),
                              ({5: slots[5][:7]}, "b2s has shape"), ({0: slots[0][:6]}, "node_weights has shape"),
                              ({7: torch.ones(2)}, "factor has shape"), ({4: slots[4][0]}, "w2s")):
            wrong = fff.torch._forest.given([change.get(i, weight) for i, weight in enumerate(slots)], numbers)
            with self.subTest(words), self.assertRaisesRegex((ValueError, TypeError), words):
                torch.ops.fff.forest(x, *wrong)
        weights, plan = module._given()
        for index, value in ((0, 31), (0, 4), (1, 0), (1, 2), (2, 6), (3, 2), (5, 5), (6, 3), (7, 0), (7, 255)):
            with self.subTest(plan=index), self.assertRaises((ValueError, RuntimeError, TypeError)):
                torch.ops.fff.forest(x, weights, [value if i == index else number for i, number in enumerate(plan)])
        for lists in (([], []), (weights, plan[:6]), (weights[:5], plan), (weights * 2, plan)):
            with self.assertRaises(ValueError):
                torch.ops.fff.forest(x, *lists)
        with self.assertRaises((ValueError, RuntimeError)):
            torch.ops.fff.forest(x, weights, plan, torch.zeros(8))
        with self.assertRaisesRegex(NotImplementedError, "call eval"):
            torch.jit.script(leaf().train())
        wrapped = leaf()
        wrapped.w1s = None
        with self.assertRaisesRegex(NotImplementedError, "torch.jit.trace"):
            torch.jit.script(wrapped)


class Traced(unittest.TestCase):
    def test_jit_trace(self):
        for module in layers():
            for gradients in (True, False):
                with torch.set_grad_enabled(gradients):
                    x = torch.randn(4, 12)
                    traced = torch.jit.trace(module, (x,))
                    self.assertIn("fff::forest", str(traced.inlined_graph))
                    buffer = io.BytesIO()
                    torch.jit.save(traced, buffer)
                    buffer.seek(0)
                    y = torch.randn(7, 12)
                    for program in (traced, torch.jit.load(buffer)):
                        self.assertEqual(bits(program(y)), bits(module(y)))

    def test_autocast(self):
        x = torch.randn(50, 12)
        for dtype, store in ((torch.bfloat16, "bf16"),) + (((torch.float16, "f16"),) if MODERN else ()):
            for module in layers():
                fff.torch.release()
                parts = [fff.torch.quantize(copy.deepcopy(module), store)]
                expected = parts[0](x.to(dtype).float()).to(dtype)
                with torch.autocast("cpu", dtype=dtype):
                    for tokens in (x, x.to(dtype)):
                        self.assertEqual(module(tokens).dtype, dtype)
                        self.assertEqual(bits(module(tokens).view(torch.int16)), bits(expected.view(torch.int16)))
                    module(x).float().sum().backward()
                self.assertTrue(all(p.grad is None or p.grad.dtype == torch.float32 for p in module.parameters()))
                module.train()
                with torch.autocast("cpu", dtype=dtype):
                    self.assertEqual(module(x).dtype, dtype)


@unittest.skipUnless(MODERN, "PyTorch before 2.5 is not asked to compile")
class Compiled(unittest.TestCase):
    layers = staticmethod(lambda: layers()[2:7:2])  # some of them: it takes long

    def model(self, layer):
        return nn.Sequential(nn.Linear(12, 12), layer).eval()

    def test_compile(self):
        for backend in ("eager", "aot_eager") + (("inductor",) if os.environ.get("FFF_TEST_INDUCTOR") else ()):
            for layer in self.layers():
                torch._dynamo.reset()
                model = self.model(layer)
                for gradients in (False, True):
                    compiled = torch.compile(model, backend=backend, fullgraph=True)
                    with self.subTest(backend=backend, gradients=gradients), torch.set_grad_enabled(gradients):
                        for batch in (6, 3, 1):
                            x = torch.randn(batch, 12)
                            with torch.no_grad():
                                expected = model(x)
                            if backend == "inductor":
                                torch.testing.assert_close(compiled(x), expected, rtol=1e-5, atol=1e-5)
                            else:
                                self.assertEqual(bits(compiled(x)), bits(expected))

    def test_compiled_gradients(self):
        for layer in self.layers():
            torch._dynamo.reset()
            model, x, found = self.model(layer), torch.randn(5, 12), []
            for call in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
                model.zero_grad()
                call(x).square().sum().backward()
                found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
            self.assertGreater(len(found[0]), 4)
            for one, other in zip(*found):
                torch.testing.assert_close(one, other)

    def test_compiled_training(self):
        for layer in self.layers():
            torch._dynamo.reset()
            model, x = self.model(layer).train(), torch.randn(5, 12)
            torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(x), model(x))

    def test_export(self):
        for layer in self.layers():
            for gradients in (False, True):
                for dynamic in (None, ({0: torch.export.Dim("batch", min=1)},)):
                    model, x = self.model(layer), torch.randn(6, 12)
                    with torch.set_grad_enabled(gradients):
                        program = torch.export.export(model, (x,), dynamic_shapes=dynamic)
                    self.assertIn("fff.forest", program.graph_module.code)
                    buffer = io.BytesIO()
                    torch.export.save(program, buffer)
                    buffer.seek(0)
                    loaded = torch.export.load(buffer).module()
                    with torch.no_grad():
                        self.assertEqual(bits(loaded(x)), bits(model(x)))
                        fff.torch.release()
                        loaded(x)
                        loaded(x)
                        self.assertEqual(fff.torch.packed()[0], 1)  # kept from call to call
                        if dynamic:
                            x = torch.randn(11, 12)
                            self.assertEqual(bits(loaded(x)), bits(model(x)))

    def test_opcheck(self):
        for layer in self.layers():
            weights, plan = layer._given()
            weights = [weight.detach() for weight in weights]
            x = torch.randn(2, 3, 12)
            torch.library.opcheck(torch.ops.fff.forest.default, (x, weights, plan, layer._bias()))
            torch.library.opcheck(torch.ops.fff.forest.default, (x.requires_grad_(), weights, plan, layer._bias()))
            torch.library.opcheck(torch.ops.fff.forest_route.default, (x.detach(), weights, plan, layer._bias()))


if __name__ == "__main__":
    unittest.main()
