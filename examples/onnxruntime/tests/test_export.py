"""Models exported from PyTorch, run by ONNX Runtime, against PyTorch.

What can be the same bits is compared as bits: each node fff:PathFFF against the C library, from the input that the node
had. What cannot, since PyTorch sums in another order, is held to a bound that follows from the numbers at hand
(docs/equivalence.md): two float32 evaluations, each within its bound of the exact value, are within the sum of both.
Where a logit is within that bound of zero, float32 cannot decide which way a token goes: a tie, counted and left out.
"""

from __future__ import annotations

import os
import pathlib
import re
import sys
import tempfile
import unittest
from typing import Any

import fff
import numpy as np
import onnx
import torch
from models import SEED, LeafWeights, same_bits, session
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "examples" / "onnxruntime"))
os.environ.setdefault("FFF_TORCH_NATIVE", "0")  # its results are the same
import fff.torch  # noqa: E402
from export import ExportError, export, find_layers  # noqa: E402
from fastbert import FastBert, PathFFF, read_safetensors  # noqa: E402

UNIT = 2.0 ** -24  # of float32: half the distance from 1 to the next number
END_TO_END = 2e-5  # of the largest value, for sequences that no token left: what `fff verify` requires of whole models


def gamma(count: int) -> float:
    """The bound of the relative error that `count` roundings in any order can leave."""
    return count * UNIT / (1 - count * UNIT)


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, depth: int, trees: int, activation, bias: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads = heads
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ffn = PathFFF(width, width, depth, trees, activation, bias)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        sequences, length, width = h.shape
        q, k, v = self.mix(self.norm1(h)).reshape(sequences, length, self.heads, -1).transpose(1, 2).chunk(3, dim=-1)
        context = (q @ k.transpose(2, 3) * (width / self.heads) ** -0.5).softmax(-1) @ v
        h = h + self.out(context.transpose(1, 2).reshape(sequences, length, width))
        return h + self.ffn(self.norm2(h))


class Transformer(nn.Module):
    def __init__(self, width: int = 64, heads: int = 4, layers: int = 3, depth: int = 5, trees: int = 2,
                 activation=nn.GELU, bias: bool = True):
        super().__init__()
        self.embedding = nn.Embedding(100, width)
        self.blocks = nn.ModuleList(Block(width, heads, depth, trees, activation, bias) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        h = self.embedding(ids)
        for block in self.blocks:
            h = block(h)
        return self.norm(h)


def with_nodes_as_outputs(path: str) -> tuple[bytes, list[onnx.NodeProto]]:
    """The model with the inputs and outputs of its PathFFF nodes as outputs, and those nodes."""
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.domain == "fff"]
    for node in nodes:
        for name in (node.input[0], node.output[0]):
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model.SerializeToString(), nodes


def c_layer(module: nn.Module, activation: str, **options: Any) -> fff.Layer:
    bias = module.linear_in.bias
    return fff.Layer(module.linear_in.weight.detach().numpy(), module.linear_out.weight.detach().numpy().T,
                     biases=None if bias is None else bias.detach().numpy(), depth=module.depth,
                     trees=module.parallel_size, activation=activation, **options)


def hold_to_bound(module: nn.Module, activation: str, x: np.ndarray, ours: np.ndarray, theirs: np.ndarray):
    """Both outputs of a layer for the same tokens against each other: the worst share of the bound, and the ties."""
    first = module.linear_in.weight.detach().double().numpy()
    second = module.linear_out.weight.detach().double().numpy()
    bias = module.linear_in.bias
    bias = np.zeros(len(first)) if bias is None else bias.detach().double().numpy()
    wide = x.astype(np.float64)
    logits = wide @ first.T + bias
    # Each logit is within this of the exact one, whatever the order of summation: width products, one addition more.
    logit_bound = gamma(x.shape[1] + 1) * (np.abs(wide) @ np.abs(first).T + np.abs(bias))
    nodes_of_tree = 2 ** (module.depth + 1) - 1
    on_path, tie = np.zeros(logits.shape, bool), np.zeros(len(x), bool)
    tokens = np.arange(len(x))
    for tree in range(module.parallel_size):
        node = np.zeros(len(x), np.int64)
        for level in range(module.depth + 1):
            row = tree * nodes_of_tree + node
            on_path[tokens, row] = True
            if level < module.depth:
                tie |= np.abs(logits[tokens, row]) <= logit_bound[tokens, row]
            node = 2 * node + 1 + (logits[tokens, row] > 0)
    exact = getattr(torch.nn.functional, activation)(torch.from_numpy(logits)).numpy() * on_path
    # GELU, SiLU and ReLU change by at most 1.13 times what their argument does; 16 units for evaluating them.
    activation_bound = (1.13 * logit_bound + 16 * UNIT * np.abs(logits)) * on_path
    size = np.abs(exact) + activation_bound
    # Sums over the path: adding the zeros of other nodes rounds nothing.
    path_length = module.parallel_size * (module.depth + 1)
    bound = activation_bound @ np.abs(second).T + gamma(path_length + 1) * (size @ np.abs(second).T)
    clear = ~tie
    share = np.abs(ours.astype(np.float64) - theirs)[clear] / (2 * bound[clear] + 1e-300)
    return float(share.max()) if clear.any() else 0.0, int(tie.sum())


class Exported(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(SEED)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = str(pathlib.Path(folder.name) / "model.onnx")

    def compare(self, model: nn.Module, ids: torch.Tensor, activation: str, tokens: int) -> None:
        model.eval()
        export(model, (ids[:2, :5],), self.path, input_names=["ids"], output_names=["hidden"],
               dynamic_axes={"ids": {0: "batch", 1: "length"}, "hidden": {0: "batch", 1: "length"}})
        graph, nodes = with_nodes_as_outputs(self.path)
        layers = [module for module in model.modules() if isinstance(module, PathFFF)]
        self.assertEqual(len(nodes), len(layers))
        seen = []  # the input that each layer has in PyTorch's own run
        hooks = [layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy()))
                 for layer in layers]
        with torch.no_grad():
            expected = model(ids).numpy()
        for hook in hooks:
            hook.remove()
        found, *tensors = session(graph, threads=2).run(None, {"ids": ids.numpy()})
        parted, ties, worst = np.zeros(len(ids), bool), 0, 0.0
        for i, module in enumerate(layers):
            width = module.linear_in.weight.shape[1]
            x, y = (array.reshape(-1, width) for array in tensors[2 * i:2 * i + 2])
            layer = c_layer(module, activation)
            self.assertTrue(same_bits(y, layer(x)), f"layer {i}: bits")
            with torch.no_grad():
                theirs = module(torch.from_numpy(x)).numpy()
            share, count = hold_to_bound(module, activation, x, y, theirs)
            self.assertLess(share, 1, f"layer {i}: beyond the bound")
            worst, ties = max(worst, share), ties + count
            apart = (layer.route(x)[0] != layer.route(seen[i].reshape(-1, width))[0]).any(axis=1)
            parted |= apart.reshape(len(ids), -1).any(axis=1)
        error = np.abs(found - expected)[~parted].max() / np.abs(expected).max()
        print(f"    {activation}, {tokens} tokens, {len(layers)} layers: {100 * worst:.1f} % of the bound, "
              f"{ties} ties, {parted.sum()} of {len(ids)} sequences apart, end to end {error:.1e}")
        self.assertLess(error, END_TO_END)
        self.assertLessEqual(parted.sum(), len(ids) // 4, "sequences apart: more than rounding explains")
        self.assertLessEqual(ties, tokens // 100)

    def test_transformers(self):
        for name, activation, depth, trees, bias in (("gelu", nn.GELU, 5, 2, True), ("relu", nn.ReLU, 7, 1, False),
                                                     ("silu", nn.SiLU, 0, 40, True), ("gelu", nn.GELU, 2, 8, False)):
            with self.subTest(activation=name, depth=depth):
                model = Transformer(depth=depth, trees=trees, activation=activation, bias=bias)
                self.compare(model, torch.randint(0, 100, (32, 40)), name, 32 * 40)

    def test_stored_types(self):
        """Each node has the bits of the layer that stores the same."""
        model, ids = Transformer(layers=2).eval(), torch.randint(0, 100, (4, 40))
        for stored in ({"store": "bf16"}, {"store": "bf16+i8", "exact_routes": True}):
            export(model, (ids,), self.path, input_names=["ids"], **stored)
            graph, _ = with_nodes_as_outputs(self.path)
            _, *tensors = session(graph).run(None, {"ids": ids.numpy()})
            for i, block in enumerate(model.blocks):
                x, y = (array.reshape(-1, 64) for array in tensors[2 * i:2 * i + 2])
                self.assertTrue(same_bits(y, c_layer(block.ffn, "gelu", **stored)(x)))
                self.assertFalse(same_bits(y, c_layer(block.ffn, "gelu")(x)))

    def test_the_authors_models(self):
        """tests/data: what the authors' code gave for their models, padding included."""
        for name in ("bert_fff_tiny", "bert_fff_3x4_cls", "bert_ff_tiny"):
            folder = ROOT / "tests" / "data" / name
            expected = read_safetensors(folder / "expected.safetensors")
            axes = {0: "batch", 1: "length"}
            export(FastBert(folder).eval(), (torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8)), self.path,
                   input_names=["ids", "mask"], output_names=["hidden"],
                   dynamic_axes={"ids": axes, "mask": axes, "hidden": axes})
            given = {"ids": expected["input_ids"].numpy(), "mask": expected["attention_mask"].numpy()}
            found, wanted = session(self.path).run(None, given)[0], expected["hidden"].numpy()
            error = np.abs(found - wanted).max() / np.abs(wanted).max()
            print(f"    {name}: {error:.1e} from the authors' results")
            with self.subTest(name=name):
                self.assertLess(error, END_TO_END)

    def test_the_bound_notices(self):
        """Results spoiled by less than one part in ten thousand are beyond the bound."""
        module = PathFFF(64, 48, 5, 2).eval()
        x = torch.randn(200, 64)
        with torch.no_grad():
            theirs = module(x).numpy()
        ours = c_layer(module, "gelu")(x.numpy())
        self.assertLess(hold_to_bound(module, "gelu", x.numpy(), ours, theirs)[0], 1)
        spoiled = ours.copy()
        spoiled[17, 3] += 1e-4 * np.abs(ours).max()
        self.assertGreater(hold_to_bound(module, "gelu", x.numpy(), spoiled, theirs)[0], 1)

    def test_ties_are_told_apart(self):
        """Root biases that cancel a token's logit but for rounding: such tokens are ties, and no others."""
        module = PathFFF(64, 48, 4, 3).eval()
        x = torch.randn(100, 64)
        with torch.no_grad():
            for tree in range(3):
                root = tree * module.nodes
                module.linear_in.bias[root] = -(module.linear_in.weight[root].double() @ x[10 + tree].double()).float()
            theirs = module(x).numpy()
        share, ties = hold_to_bound(module, "gelu", x.numpy(), c_layer(module, "gelu")(x.numpy()), theirs)
        self.assertLess(share, 1)
        self.assertEqual(ties, 3)

    def test_model_is_left_as_it_was(self):
        model = Transformer(layers=1).eval()
        ids = torch.zeros(1, 3, dtype=torch.long)
        before = model(ids)
        self.assertEqual(export(model, (ids,), self.path, input_names=["ids"]), ["blocks.0.ffn"])
        self.assertFalse(any("forward" in vars(module) for module in model.modules()))
        self.assertTrue(torch.equal(model(ids), before))


class TheirLeaves(nn.Module):
    """The package fastfeedforward's module as far as evaluation goes: it forgets b2s, unless told otherwise."""

    def __init__(self, width: int, hidden: int, out: int, depth: int, add_b2s: bool = False):
        super().__init__()
        self.depth = nn.Parameter(torch.tensor(depth), requires_grad=False)
        leaves, nodes = 2 ** depth, 2 ** depth - 1
        self.node_weights, self.node_biases = nn.Parameter(torch.randn(nodes, width)), nn.Parameter(torch.randn(nodes, 1))
        self.w1s, self.b1s = nn.Parameter(torch.randn(leaves, width, hidden)), nn.Parameter(torch.randn(leaves, hidden))
        self.w2s, self.b2s = nn.Parameter(torch.randn(leaves, hidden, out)), nn.Parameter(torch.randn(leaves, out))
        self.activation, self.add_b2s = nn.ReLU(), add_b2s

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        node = torch.zeros(len(x), dtype=torch.long)
        for _ in range(int(self.depth)):
            score = (x * self.node_weights[node]).sum(1) + self.node_biases[node, 0]
            node = 2 * node + 1 + (score >= 0).long()
        leaf = node - (2 ** int(self.depth) - 1)
        hidden = self.activation((x[:, None] @ self.w1s[leaf])[:, 0] + self.b1s[leaf])
        y = (hidden[:, None] @ self.w2s[leaf])[:, 0]
        return y + self.b2s[leaf] if self.add_b2s else y


class Leaves(unittest.TestCase):
    """Leaf layers. fff.torch's modules compute by the same kernels, so that a single node has their bits."""

    def setUp(self):
        torch.manual_seed(SEED)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path, self.x = str(pathlib.Path(folder.name) / "model.onnx"), torch.randn(70, 24)

    def exported(self, model: nn.Module, **options: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """What ONNX Runtime and PyTorch give, and the model's operators."""
        export(model.eval(), (self.x[:2],), self.path, input_names=["x"], dynamic_axes={"x": {0: "batch"}}, **options)
        operators = [node.op_type for node in onnx.load(self.path).graph.node if node.op_type != "Constant"]
        with torch.no_grad():
            return session(self.path, 2).run(None, {"x": self.x.numpy()})[0], model(self.x).numpy(), operators

    def test_leaves(self):
        for depth, options in ((4, {}), (3, {"eval_b2s": False, "activation": nn.GELU}), (0, {"routing": ">"})):
            for thresholds in (False, True):
                module = fff.torch.LeafFFF(24, 5, 16, depth, **options)
                if thresholds:
                    module.thresholds = torch.randn(module.n_nodes) / 4
                found, expected, operators = self.exported(module)
                with self.subTest(depth=depth, thresholds=thresholds, **options):
                    self.assertTrue(same_bits(found, expected))
                    self.assertEqual(operators, ["LeafFFF"])

    def test_path_sums_with_thresholds(self):
        for routing in (">", ">="):
            module = fff.torch.FFF(24, 16, depth=4, parallel_size=2, routing=routing, thresholds=torch.randn(62) / 4)
            found, expected, operators = self.exported(module)
            self.assertTrue(same_bits(found, expected))
            self.assertEqual(operators, ["PathFFF"])
            module.thresholds = None
            self.assertFalse(same_bits(found, module(self.x).detach().numpy()))

    def test_the_authors_module(self):
        """Whether it adds b2s is found out."""
        for add_b2s in (False, True):
            found, expected, _ = self.exported(TheirLeaves(24, 6, 16, 4, add_b2s))
            self.assertLess(np.abs(found - expected).max(), 2e-6 * np.abs(expected).max())

    def test_master_leaf(self):
        """Two nodes and a sum, which rounds otherwise than one layer does."""
        for depth, options in ((3, {}), (0, {}), (4, {"eval_b2s": False, "activation": nn.SiLU, "master_width": 3})):
            module = fff.torch.MasterLeafFFF(24, 5, 16, depth, **options)
            found, expected, operators = self.exported(module)
            self.assertEqual(operators, ["LeafFFF", "LeafFFF", "Add"])
            self.assertLess(np.abs(found - expected).max(), 1e-6 * np.abs(expected).max())

    def test_factors_are_constants(self):
        """So that weights are packed when the session is made."""
        module = fff.torch.MasterLeafFFF(24, 5, 16, 3).eval()
        export(module, (self.x[:2],), self.path, input_names=["x"])
        model = onnx.load(self.path)
        made = {output for node in model.graph.node for output in node.output if node.op_type != "Constant"}
        for node in (node for node in model.graph.node if node.op_type == "LeafFFF"):
            self.assertFalse(made & set(node.input))
        session(self.path)
        for constant in (node for node in model.graph.node if node.op_type == "Constant"):
            value = onnx.numpy_helper.to_array(constant.attribute[0].t)
            if value.shape == (1,):
                constant.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.float32([np.inf])))
        with self.assertRaisesRegex(Exception, "factor"):
            session(model.SerializeToString())

    def test_forest(self):
        """Of a path sum, leaves, and leaves with a master leaf."""
        parts = [fff.torch.FFF(24, 16, depth=3, parallel_size=2), fff.torch.LeafFFF(24, 5, 16, 2),
                 fff.torch.MasterLeafFFF(24, 5, 16, 1)]
        forest = fff.torch.Forest(parts, output_bias=True)
        nn.init.normal_(forest.output_bias)
        found, expected, operators = self.exported(nn.Sequential(forest))
        self.assertEqual(sorted(operators), ["Add"] * 4 + ["LeafFFF"] * 3 + ["PathFFF"])
        self.assertLess(np.abs(found - expected).max(), 1e-6 * np.abs(expected).max())
        self.assertFalse(any("forward" in vars(module) for module in forest.modules()))

    def test_stored_types(self):
        module = fff.torch.LeafFFF(24, 5, 16, 4)
        found, plain, _ = self.exported(module, store="bf16+i8", exact_routes=True)
        weights = [getattr(module, name).detach().numpy() for name in LeafWeights._fields[:6]]
        layer = fff.LeafLayer(*weights, store="bf16+i8", exact_routes=True)
        self.assertTrue(same_bits(found, layer(self.x.numpy())))
        self.assertFalse(same_bits(found, plain))
        quantised = fff.torch.quantize(module, "bf16+i8", exact_routes=True)
        found, expected, _ = self.exported(quantised)
        self.assertTrue(same_bits(found, expected))
        for told in ({"exact_routes": True}, {"exact_routes": False}, {"store": "i8"}, {"store": "i8", "exact_routes": False}):
            found, _, _ = self.exported(quantised, **told)  # what is not told stays
            layer = fff.LeafLayer(*weights, **{"store": "bf16+i8", "exact_routes": True, **told})
            self.assertTrue(same_bits(found, layer(self.x.numpy())))

    def test_refused(self):
        def refuses(pattern: str, module: nn.Module, train: bool = False) -> None:
            with self.subTest(pattern=pattern), self.assertRaisesRegex(ExportError, pattern):
                find_layers(nn.Sequential(module).train(train))

        class Scaled(fff.torch.LeafFFF):
            def forward(self, x, *more):
                return super().forward(x, *more) * 1.001

        refuses("0: is in training mode", fff.torch.LeafFFF(24, 5, 16, 3), True)
        refuses("0: weights are torch.float64", fff.torch.LeafFFF(24, 5, 16, 3).double())
        refuses("0 has an FFF layer's attributes but does not compute one", Scaled(24, 5, 16, 3))
        strange = TheirLeaves(24, 5, 16, 3)
        strange.b1s = nn.Parameter(torch.zeros(8, 4))
        refuses(r"0: b1s has shape \(8, 4\), not \(8, 5\)", strange)
        strange = TheirLeaves(24, 5, 16, 3)
        strange.depth.data.fill_(4)
        refuses("0: w1s has 8 leaves, where depth is 4", strange)
        strange = TheirLeaves(24, 5, 16, 3)
        strange.activation = nn.Tanh()
        refuses("0: activation Tanh.* is none that LeafFFF has", strange)


class Refused(unittest.TestCase):
    """Modules that look like FFF layers and are none that PathFFF can be."""

    def refuses(self, module: nn.Module, pattern: str, **options) -> None:
        with self.subTest(pattern=pattern), self.assertRaisesRegex(ExportError, pattern):
            find_layers(nn.Sequential(module), **options)

    def test_modules(self):
        class Tanh(nn.Tanh):
            pass

        class Scaled(PathFFF):
            def forward(self, x):
                return super().forward(x) * 1.001

        self.refuses(PathFFF(8, 8, 3, 1, Tanh), "0: activation Tanh.* is none that PathFFF has")
        self.refuses(PathFFF(8, 8, 3, 1, Tanh), "does not compute one", activations={Tanh: "gelu"})
        self.refuses(Scaled(8, 8, 3, 1), "does not compute one")
        self.refuses(PathFFF(8, 8, 3, 1).half(), "torch.float16")
        deeper = PathFFF(8, 8, 3, 1)
        deeper.depth = 4
        self.refuses(deeper, r"linear_in.weight has shape \(15, 8\), where 1 trees of depth 4 have 31")
        biased = PathFFF(8, 8, 3, 1)
        biased.linear_out = nn.Linear(15, 8)
        self.refuses(biased, "linear_out has a bias")
        strange = PathFFF(8, 8, 3, 1)
        strange.depth = "deep"
        self.refuses(strange, "depth 'deep'")
        for store in ("f64", "bf16+", "", "i8+i8+i8"):
            with self.assertRaisesRegex(ExportError, re.escape(f"store '{store}' is none of f32, bf16")):
                export(PathFFF(8, 8, 3, 1), (torch.zeros(1, 8),), "none.onnx", input_names=["x"], store=store)

    def test_own_activation(self):
        class Squared(nn.Module):
            def forward(self, x):
                return x.relu() ** 2

        layers = find_layers(PathFFF(8, 8, 3, 2, Squared), {Squared: "relu2"})
        self.assertEqual(layers[""][1]["activation"], "relu2")

    def test_layer_that_is_not_called(self):
        class Outer(nn.Module):
            def __init__(self):
                super().__init__()
                self.ffn = PathFFF(8, 8, 2, 1)

            def forward(self, x):
                return self.ffn.linear_out(self.ffn.linear_in(x))

        never = self.assertRaisesRegex(ExportError, "never called as a module: ffn")
        with tempfile.TemporaryDirectory() as folder, never:
            export(Outer(), (torch.zeros(1, 8),), f"{folder}/m.onnx", input_names=["x"])


if __name__ == "__main__":
    print(f"PyTorch {torch.__version__}")
    unittest.main()
