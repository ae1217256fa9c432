"""from_module() and replace_ffn() on the modules of others: look-alikes, written anew after what theirs compute, token by token.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_torch_conversion.py
"""

import copy
import io
import math
import pickle
import unittest
import warnings

import torch
from torch import nn
from torch.nn import functional

import fff.torch
from fff.torch import BenchmarkFFF, NodeMajorFFF

WIDE = (9, 7)  # input and output width


def walk(x, rows_in, bias, rows_out, levels, activation, right):
    """One tree, in float64."""
    rows_in, rows_out, y = rows_in.double(), rows_out.double(), []
    for token in x.double():
        node, total = 0, torch.zeros_like(rows_out[0])
        for _ in range(levels):
            logit = token @ rows_in[node] + (0 if bias is None else bias[node].double())
            total = total + activation(logit) * rows_out[node]
            node = 2 * node + 1 + int(right(logit))
        y.append(total)
    return torch.stack(y).to(x.dtype)


def greater(logit):
    return logit > 0


def greater_equal(logit):
    return logit >= 0


def drawn(*shape):
    return nn.Parameter(torch.randn(*shape) / math.sqrt(shape[-1]))


class TwoBases(nn.Module):
    """sap-ient-ai/FFF: `depth` levels, logits as they are. Parameters X and Y; in older versions w1s and w2s, at first with a
    level more."""

    def __init__(self, input_width, output_width, depth, names=("X", "Y"), more=0):
        super().__init__()
        self.depth, self.names, self.levels = depth, names, depth + more
        setattr(self, names[0], drawn(2 ** self.levels - 1, input_width))
        setattr(self, names[1], drawn(2 ** self.levels - 1, output_width))

    def forward(self, x):
        return walk(x, getattr(self, self.names[0]), None, getattr(self, self.names[1]), self.levels, lambda z: z, greater)


class BatchedProduct(nn.Module):
    """UltraFastBERT's benchmark_pytorch: a batched product, whose middle dimension stays."""

    def __init__(self, input_width, depth, output_width, activation=functional.gelu):
        super().__init__()
        self.input_width, self.depth, self.output_width, self.activation = input_width, depth, output_width, activation
        self.w1s, self.w2s = drawn(2 ** (depth + 1) - 1, input_width), drawn(2 ** (depth + 1) - 1, output_width)

    def forward(self, x):
        return walk(x, self.w1s, None, self.w2s, self.depth + 1, self.activation, greater_equal)[:, None]


class SparseProduct(nn.Module):
    """UltraFastBERT's FFF_Sparse, as it is for one token: its input weights are a column, a node after the other. With more
    tokens theirs mixes them up (`mixes`)."""

    def __init__(self, input_width, output_width, depth, mixes=False):
        super().__init__()
        self.input_width, self.output_width, self.depth, self.mixes = input_width, output_width, depth, mixes
        self.n_nodes = 2 ** (depth + 1) - 1
        self.w1s = nn.Parameter(torch.randn(self.n_nodes * input_width, 1) / math.sqrt(input_width))
        self.w2s = drawn(self.n_nodes, output_width)

    def forward(self, x):
        x = x.flatten().view(x.shape[1], x.shape[0]).t() if self.mixes else x
        return walk(x, self.w1s.view(self.n_nodes, -1), None, self.w2s, self.depth + 1, functional.gelu, greater_equal)


class AroundCuda(nn.Module):
    def __init__(self, input_width, output_width, depth, parallel_size):
        super().__init__()
        self.input_width, self.output_width, self.depth, self.parallel_size = input_width, output_width, depth, parallel_size
        rows = parallel_size * (2 ** (depth + 1) - 1)
        self.linear_in_weight, self.linear_out_weight = drawn(rows, input_width), drawn(rows, output_width)
        self.linear_in_bias = nn.Parameter(torch.randn(rows))

    def forward(self, x):
        raise RuntimeError("there is no CUDA")


class Forest(nn.Module):
    def __init__(self):
        super().__init__()
        self.depth, self.num_trees, self.keys, self.values = 3, 2, drawn(7, 2, 8), drawn(7, 2, 8)


class PathSum(nn.Module):
    """UltraFastBERT's training code; `shift` makes it something else."""

    def __init__(self, input_width, output_width, depth, parallel_size, shift=0.0):
        super().__init__()
        self.input_width, self.output_width, self.depth, self.parallel_size = input_width, output_width, depth, parallel_size
        self.n_nodes, self.shift, self.activation = 2 ** (depth + 1) - 1, shift, nn.GELU()
        self.linear_in = nn.Linear(input_width, parallel_size * self.n_nodes)
        self.linear_out = nn.Linear(parallel_size * self.n_nodes, output_width, bias=False)

    def forward(self, x):
        parts = [slice(tree * self.n_nodes, (tree + 1) * self.n_nodes) for tree in range(self.parallel_size)]
        return self.shift + sum(walk(x, self.linear_in.weight[part], self.linear_in.bias[part], self.linear_out.weight.t()[part],
                                     self.depth + 1, self.activation, greater) for part in parts)


def known():
    torch.manual_seed(1)
    return [TwoBases(*WIDE, 4), TwoBases(*WIDE, 1), TwoBases(*WIDE, 4, more=1), TwoBases(*WIDE, 4, ("w1s", "w2s")),
            TwoBases(*WIDE, 4, ("w1s", "w2s"), 1), TwoBases(8, 8, 3), BatchedProduct(9, 4, 7), BatchedProduct(1, 3, 7),
            BatchedProduct(9, 0, 7), SparseProduct(*WIDE, 4), SparseProduct(*WIDE, 0), SparseProduct(1, 7, 3), PathSum(*WIDE, 3, 2)]


class Conversion(unittest.TestCase):
    def test_outputs_and_gradients(self):
        for theirs in known():
            for mode in (True, False):
                theirs.train(mode)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    ours = fff.torch.from_module(theirs)
                self.assertEqual(ours.training, mode)
                self.assertEqual([id(p) for p in ours.parameters()], [id(p) for p in theirs.parameters()])
                x = torch.randn(11, ours.input_width)
                expected = theirs(x)
                buffer = io.BytesIO()
                torch.save(ours.state_dict(), buffer)
                for layer in (ours, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
                    for gradients in (True, False):
                        with self.subTest(theirs=type(theirs).__name__, mode=mode, gradients=gradients), \
                                torch.set_grad_enabled(gradients):
                            self.assertEqual(layer(x).shape, expected.shape)
                            torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)
                            torch.testing.assert_close(layer.forward(x), layer.dense(x), rtol=0, atol=1e-5)
                            torch.testing.assert_close(layer.double().dense(x.double()).float(), expected, rtol=0, atol=1e-5)
                            layer.float()
                theirs.load_state_dict(ours.state_dict())
                parameters = list(theirs.parameters())
                for one, other in zip(torch.autograd.grad(ours(x).square().sum(), parameters),
                                      torch.autograd.grad(theirs(x).square().sum(), parameters)):
                    self.assertGreater(other.abs().max().item(), 0)
                    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)

    def test_which(self):
        for theirs, (kind, depth, activation, routing, unsqueeze) in [
                (TwoBases(*WIDE, 4), (NodeMajorFFF, 3, nn.Identity, ">", False)),
                (TwoBases(*WIDE, 4, ("w1s", "w2s"), 1), (NodeMajorFFF, 4, nn.Identity, ">", False)),
                (BatchedProduct(9, 4, 7), (BenchmarkFFF, 4, nn.GELU, ">=", True)),
                (SparseProduct(*WIDE, 4), (NodeMajorFFF, 4, nn.GELU, ">=", False))]:
            ours = fff.torch.from_module(theirs)
            self.assertEqual((type(ours), ours.depth, type(ours.activation), ours.routing, ours.unsqueeze),
                             (kind, depth, activation, routing, unsqueeze))

    def test_in_a_model(self):
        model = nn.Sequential(nn.Linear(8, 8), TwoBases(8, 8, 4), SparseProduct(8, 8, 3), PathSum(8, 8, 2, 2)).eval()
        names, x = list(model.state_dict()), torch.randn(5, 8)
        expected = model(x)
        self.assertIs(fff.torch.replace_ffn(model), model)
        self.assertEqual(list(model.state_dict()), names)
        self.assertIsInstance(model[1], NodeMajorFFF)
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5)
        self.assertTrue(torch.equal(torch.jit.trace(model, (x,))(x[:2]), model(x[:2])))

    def test_ties(self):
        """A logit of 0 goes right in UltraFastBERT's benchmark, left in sap-ient-ai/FFF."""
        for theirs in (TwoBases(8, 8, 4), BatchedProduct(8, 3, 8), SparseProduct(8, 8, 3)):
            with torch.no_grad():
                next(theirs.parameters()).view(-1)[:8] = 0  # the root's row
                x = torch.randn(9, 8)
                torch.testing.assert_close(fff.torch.from_module(theirs.eval())(x), theirs(x), rtol=0, atol=1e-5)

    def test_activation_exchanged(self):
        layer = fff.torch.from_module(TwoBases(*WIDE, 4)).eval()
        layer.activation = nn.ReLU()
        x = torch.randn(9, 9)
        torch.testing.assert_close(layer(x), layer.dense(x), rtol=0, atol=1e-5)

    def test_around_cuda(self):
        theirs = AroundCuda(*WIDE, 3, 1)
        ours, x = fff.torch.from_module(theirs).eval(), torch.randn(5, 9)
        expected = walk(x, theirs.linear_in_weight, theirs.linear_in_bias, theirs.linear_out_weight, 4, functional.gelu, greater)
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-5)

    def test_refused(self):
        """Nothing is guessed: the error names what was found, and a model stays as it is."""
        misfit = BatchedProduct(9, 4, 7)
        misfit.depth = 3
        wrapped = TwoBases(*WIDE, 4)
        wrapped.Y = torch.zeros(15, 7) if wrapped._parameters.pop("Y") is not None else None
        broken = BatchedProduct(9, 4, 7)
        broken.forward = lambda x: 1 / 0
        shifted = TwoBases(*WIDE, 4)
        shifted.forward = lambda x: TwoBases.forward(shifted, x) + 1
        for theirs, error, words in [
                (AroundCuda(*WIDE, 3, 2), NotImplementedError, "2 trees"), (Forest(), NotImplementedError, "keys (7, 2, 8)"),
                (misfit, ValueError, "w1s (31, 9), w2s (31, 7)"), (wrapped, ValueError, "Y (15, 7)"),
                (shifted, ValueError, "X (15, 9)"), (PathSum(*WIDE, 3, 2, 0.5), ValueError, "linear_in.weight (30, 9)"),
                (BatchedProduct(9, 4, 7, functional.relu), ValueError, "w1s (31, 9)"),
                (BatchedProduct(9, 4, 7, lambda z: functional.gelu(z, approximate="tanh")), ValueError, "w1s (31, 9)"),
                (broken, ValueError, "ZeroDivisionError")]:
            with self.assertRaises(error) as raised:
                fff.torch.from_module(theirs)
            self.assertIn(words, str(raised.exception))
            self.assertNotIn("\n", str(raised.exception))
            model = nn.Sequential(PathSum(8, 8, 2, 1), theirs)
            with self.assertRaises(error):
                fff.torch.replace_ffn(model)
            self.assertIsInstance(model[0], PathSum)

    def test_warnings(self):
        with self.assertWarnsRegex(UserWarning, "mixes"):
            fff.torch.from_module(SparseProduct(*WIDE, 3, mixes=True))
        alone = PathSum(*WIDE, 2, 1)
        alone.forward = lambda x: 1 / 0
        with self.assertWarnsRegex(UserWarning, "ZeroDivisionError"):
            fff.torch.from_module(alone)

    def test_unrelated_modules(self):
        class Other(nn.Module):
            depth = 3

            def __init__(self):
                super().__init__()
                self.X = nn.Parameter(torch.zeros(3))
        with self.assertRaises(ValueError):
            fff.torch.from_module(Other())
        model = nn.Sequential(Other(), PathSum(8, 8, 2, 1))
        fff.torch.replace_ffn(model)
        self.assertIsInstance(model[0], Other)

    def test_trying_out_leaves_no_trace(self):
        theirs = nn.Sequential(PathSum(8, 8, 2, 1))
        theirs[0].linear_in.eval()
        theirs[0].training = True
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        ours = fff.torch.replace_ffn(theirs)
        self.assertEqual(torch.rand(1), expected)
        self.assertTrue(ours[0].training)
        self.assertFalse(ours[0].linear_in.training)
        self.assertIsNone(ours[0].linear_in.weight.grad)


if __name__ == "__main__":
    unittest.main()
