"""Leaf layers, layers of several parts and listed rows in NumPy: against the definition in float64, and the authors' recorded
results.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_leaves.py
"""

import json
import math
import os
import pathlib
import pickle
import random
import unittest

import numpy as np

import fff

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
ACTIVATIONS = {
    "gelu": lambda z: z / 2 * (1 + np.vectorize(math.erf, otypes=[float])(z / math.sqrt(2))),
    "gelu_tanh": lambda z: z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z ** 3))),
    "relu": lambda z: np.maximum(z, 0), "relu2": lambda z: np.maximum(z, 0) ** 2,
    "silu": lambda z: z / (1 + np.exp(-z)), "identity": lambda z: z,
}


def read_tensors(file):
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    about = header.pop("__metadata__")
    kinds = {"F32": np.float32, "I64": np.int64}
    return about, {name: np.frombuffer(data[8 + length:][slice(*entry["data_offsets"])], kinds[entry["dtype"]])
                   .reshape(entry["shape"]) for name, entry in header.items()}


def random_leaves(rng, depth, into, width, out, trees=None, biases=True):
    """Arrays as the fastfeedforward package has them; of several trees, in a dimension before."""
    before = () if trees is None else (trees,)
    nodes, leaves = 2 ** depth - 1, 2 ** depth

    def normal(*shape, scale=1.0):
        return (rng.standard_normal((*before, *shape)) * scale).astype(np.float32)

    arrays = {"node_weights": normal(nodes, into, scale=into ** -0.5), "node_biases": normal(nodes, 1, scale=0.3),
              "w1s": normal(leaves, into, width, scale=into ** -0.5), "b1s": normal(leaves, width, scale=0.3),
              "w2s": normal(leaves, width, out), "b2s": normal(leaves, out)}
    if not biases:
        arrays.update({"node_biases": None, "b1s": None, "b2s": None})
    return arrays


def leaf_sums(x, arrays, activation="relu", routing=">=", thresholds=None, factor=None):
    """Outputs of one tree in float64, and how near any node that was visited came to a tie."""
    weights = {name: None if array is None else array.astype(np.float64) for name, array in arrays.items()}
    y, margin = np.zeros((len(x), weights["w2s"].shape[-1])), np.full(len(x), np.inf)
    nodes = len(weights["node_weights"])
    for token, row in enumerate(x.astype(np.float64)):
        node = 0
        while node < nodes:
            z = row @ weights["node_weights"][node] - (0 if thresholds is None else float(thresholds[node]))
            z += 0 if weights["node_biases"] is None else weights["node_biases"][node, 0]
            margin[token] = min(margin[token], abs(z))
            node = 2 * node + 1 + (z > 0 or (z == 0 and routing == ">="))
        leaf = node - nodes
        z = row @ weights["w1s"][leaf] + (0 if weights["b1s"] is None else weights["b1s"][leaf])
        y[token] = ACTIVATIONS[activation](z) @ weights["w2s"][leaf]
        y[token] += 0 if weights["b2s"] is None else weights["b2s"][leaf]
    return y * (1 if factor is None else float(factor)), margin


def tree_sums(x, w_in, w_out, biases, depth, trees, activation="gelu", routing=">", thresholds=None, factor=None):
    """Likewise of path sums."""
    z = x.astype(np.float64) @ w_in.astype(np.float64).T + biases
    limits = np.zeros(len(w_in)) if thresholds is None else thresholds.astype(np.float64)
    nodes, mask, margin = fff.nodes_per_tree(depth), np.zeros_like(z), np.full(len(x), np.inf)
    for token in range(len(x)):
        for tree in range(trees):
            node = 0
            for level in range(depth + 1):
                row = tree * nodes + node
                mask[token, row] = 1
                apart = z[token, row] - limits[row]
                if level < depth:
                    margin[token] = min(margin[token], abs(apart))
                node = 2 * node + 1 + (apart > 0 or (apart == 0 and routing == ">="))
    return (ACTIVATIONS[activation](z) * mask) @ w_out.astype(np.float64) * (1 if factor is None else float(factor)), margin


class Compared(unittest.TestCase):
    def assert_near(self, y, expected, margin=None):
        clear = slice(None) if margin is None else margin > 1e-5
        if margin is not None:
            self.assertGreater(np.count_nonzero(clear), 0.9 * len(y))
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(y[clear], expected[clear], rtol=0, atol=1e-5 * scale)


class Recorded(Compared):
    def test_results_of_the_authors(self):
        files = sorted(DATA.glob("leaf_*.safetensors"))
        self.assertGreaterEqual(len(files), 2)
        for file in files:
            about, tensors = read_tensors(file)
            names = ("node_weights", "node_biases", "w1s", "b1s", "w2s")
            options = {"depth": tensors["depth"][()], "activation": about["activation"].lower()}
            for b2s, expected, other in ((None, "output", "output_with_b2"), (tensors["b2s"], "output_with_b2", "output")):
                layer = fff.LeafLayer(*(tensors[name] for name in names), b2s, **options)
                y = layer(tensors["input"])
                self.assert_near(y, tensors[expected])
                self.assertGreater(np.abs(y - tensors[other]).max(), 0.01, "the two could not be told apart")


class LeafLayers(Compared):
    def test_definition(self):
        choose = random.Random(int(os.environ.get("FFF_TEST_SEED", "1")))
        for _ in range(60):
            rng = np.random.default_rng(choose.randint(0, 1 << 30))
            depth, into, width, out = (choose.randint(0, 6), choose.randint(1, 70), choose.randint(1, 20), choose.randint(1, 70))
            arrays = random_leaves(rng, depth, into, width, out, biases=choose.random() < 0.5)
            options = {"activation": choose.choice(list(ACTIVATIONS)), "routing": choose.choice([">", ">="])}
            if choose.random() < 0.5:
                options["thresholds"] = (0.5 * rng.standard_normal(2 ** depth - 1)).astype(np.float32)
            if choose.random() < 0.5:
                options["factor"] = np.float32(rng.standard_normal())
            x = rng.standard_normal((40, into)).astype(np.float32)
            layer = fff.LeafLayer(*arrays.values(), **options, sleef="any")
            y = layer(x)
            self.assert_near(y, *leaf_sums(x, arrays, **options))
            nodes, logits = layer.route(x)
            self.assertEqual(nodes.shape, (40, depth + width))
            self.assertEqual(layer.accumulate(nodes, logits).tobytes(), y.tobytes())

    def test_ties(self):
        arrays = random_leaves(np.random.default_rng(1), 3, 5, 2, 4)
        arrays["node_biases"][:] = 0
        x = np.zeros((1, 5), np.float32)
        for routing, leaf in ((">=", 7), (">", 0)):
            nodes, _ = fff.LeafLayer(*arrays.values(), routing=routing).route(x)
            self.assertEqual(nodes[0, 3], 7 + 2 * leaf)
        self.assertEqual(fff.LeafLayer(*arrays.values()).route(x)[0][0, 3], 7 + 2 * 7)  # theirs

    def test_several_trees(self):
        """In a dimension of their own, or one after the other: the sum of the trees."""
        rng = np.random.default_rng(2)
        arrays = random_leaves(rng, 3, 11, 4, 9, trees=3)
        x = rng.standard_normal((30, 11)).astype(np.float32)
        parts = [leaf_sums(x, {name: array[tree] for name, array in arrays.items()}) for tree in range(3)]
        expected, margin = sum(part[0] for part in parts), np.minimum.reduce([part[1] for part in parts])
        layer = fff.LeafLayer(*arrays.values())
        self.assertEqual((layer.trees, layer.depth, layer.path_length), (3, 3, 3 * 7))
        self.assert_near(layer(x), expected, margin)
        stacked = {name: array.reshape(-1, *array.shape[2:]) for name, array in arrays.items()}
        self.assertEqual(fff.LeafLayer(*stacked.values(), trees=3)(x).tobytes(), layer(x).tobytes())
        stacked["node_biases"] = stacked["node_biases"][:, 0]
        self.assertEqual(fff.LeafLayer(*stacked.values(), trees=3, depth=3)(x).tobytes(), layer(x).tobytes())

    def test_any_layout(self):
        rng = np.random.default_rng(3)
        for shape in ((3, 11, 4, 9), (0, 11, 4, 9), (2, 1, 4, 9), (2, 11, 1, 9), (2, 11, 4, 1), (0, 1, 1, 1)):
            arrays = random_leaves(rng, *shape)
            x = rng.standard_normal((20, shape[1])).astype(np.float32)
            expected = fff.LeafLayer(*arrays.values())(x).tobytes()
            for change in (np.asfortranarray, lambda a: a[::-1].copy()[::-1], lambda a: a[..., ::-1].copy()[..., ::-1],
                           lambda a: a.repeat(2, axis=-1)[..., ::2], lambda a: a.swapaxes(0, -1).copy().swapaxes(0, -1),
                           lambda a: a.swapaxes(-2, -1).copy().swapaxes(-2, -1), lambda a: a.astype(np.float32).view(np.ndarray)):
                changed = {name: change(array) for name, array in arrays.items()}
                self.assertEqual(fff.LeafLayer(*changed.values())(x).tobytes(), expected)
            unaligned = {}
            for name, array in arrays.items():
                unaligned[name] = np.zeros(array.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(array.shape)
                unaligned[name][:] = array
            self.assertEqual(fff.LeafLayer(*unaligned.values())(x).tobytes(), expected)
        same = {name: np.broadcast_to(array[:1], array.shape) for name, array in random_leaves(rng, 3, 11, 4, 9).items()}
        copied = {name: array.copy() for name, array in same.items()}
        x = rng.standard_normal((20, 11)).astype(np.float32)
        self.assertEqual(fff.LeafLayer(*same.values())(x).tobytes(), fff.LeafLayer(*copied.values())(x).tobytes())

    def test_not_copied(self):
        """The published layout is handed over where it lies."""
        arrays = random_leaves(np.random.default_rng(4), 3, 11, 4, 9)
        part = fff.Leaves(*arrays.values())
        self.assertTrue(all(any(np.may_share_memory(array, held) for held in part._arrays if held is not None)
                            for array in arrays.values()))

    def test_types(self):
        rng = np.random.default_rng(5)
        arrays = random_leaves(rng, 4, 20, 5, 12)
        x = rng.standard_normal((60, 20)).astype(np.float32)
        plain = fff.LeafLayer(*arrays.values())
        for dtype, name in ((np.float16, "f16"), (BFLOAT16, "bf16")):
            def narrow(array, dtype=dtype):
                return array.astype(dtype) if dtype == np.float16 else (array.view(np.uint32) >> 16).astype(np.uint16).view(dtype)

            def wide(array):
                return (array.astype(np.float32) if array.dtype == np.float16 else
                        (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32))

            narrowed = {key: narrow(array) for key, array in arrays.items()}
            layer = fff.LeafLayer(*narrowed.values())
            self.assertEqual((layer.input_type, layer.output_type), (name, name))
            self.assertEqual(layer(x).tobytes(), fff.LeafLayer(*map(wide, narrowed.values()))(x).tobytes())
        exact = fff.LeafLayer(*arrays.values(), store="i8", exact_routes=True)
        self.assertEqual((exact.input_type, exact.output_type), ("i8", "i8"))
        np.testing.assert_array_equal(exact.route(x)[0], plain.route(x)[0])
        self.assertLess(np.abs(exact(x) - plain(x)).max(), 0.05 * np.abs(plain(x)).max())

    def test_int8_given(self):
        rng = np.random.default_rng(6)
        shapes = {"node_weights": (7, 20), "w1s": (8, 20, 5), "w2s": (8, 5, 12)}
        given = {name: rng.integers(-127, 128, shape).astype(np.int8) for name, shape in shapes.items()}
        scales = {"node_scales": rng.uniform(0.001, 0.01, 7), "leaf_scales": rng.uniform(0.001, 0.01, (8, 5)),
                  "output_scales": rng.uniform(0.001, 0.01, (8, 5))}
        scales = {name: array.astype(np.float32) for name, array in scales.items()}
        numbers = (given["node_weights"] * scales["node_scales"][:, None], given["w1s"] * scales["leaf_scales"][:, None],
                   given["w2s"] * scales["output_scales"][..., None])
        x = rng.standard_normal((60, 20)).astype(np.float32)
        layer = fff.LeafLayer(given["node_weights"], None, given["w1s"], None, given["w2s"], None, store="f32", **scales)
        expected = fff.LeafLayer(numbers[0], None, numbers[1], None, numbers[2], None)
        np.testing.assert_allclose(layer(x), expected(x), rtol=0, atol=1e-6)
        for words, change in (("node_scales, row 0", {"node_scales": None}), ("leaf_scales, leaf 0, neuron 0", {"leaf_scales": None}),
                              ("output_scales, leaf 0, neuron 0", {"output_scales": None})):
            with self.assertRaisesRegex(fff.Error, words):
                fff.LeafLayer(given["node_weights"], None, given["w1s"], None, given["w2s"], None, **{**scales, **change})
        with self.assertRaisesRegex(ValueError, "leaf_scales are for int8 weights, and w1s is f32"):
            fff.LeafLayer(numbers[0], None, numbers[1], None, numbers[2], None, leaf_scales=scales["leaf_scales"])

    def test_refused(self):
        arrays = random_leaves(np.random.default_rng(7), 3, 11, 4, 9)

        def made(**changes):
            options = {name: changes.pop(name) for name in list(changes) if name not in arrays}
            return fff.LeafLayer(**{**arrays, **changes}, **options)

        for words, changes in [
            (r"node_weights has shape \(15, 11\), where w1s of shape \(8, 11, 4\) wants \(7, 11\)", {"node_weights": np.ones((15, 11), np.float32)}),
            (r"node_weights has shape \(7, 12\)", {"node_weights": np.ones((7, 12), np.float32)}),
            ("node_biases has shape", {"node_biases": np.ones((8, 1), np.float32)}),
            (r"b1s has shape \(8, 5\)", {"b1s": np.ones((8, 5), np.float32)}),
            (r"w2s has shape \(8, 5, 9\)", {"w2s": np.ones((8, 5, 9), np.float32)}),
            (r"w2s has shape \(8, 36\)", {"w2s": np.ones((8, 36), np.float32)}),
            (r"b2s has shape \(8, 10\)", {"b2s": np.ones((8, 10), np.float32)}),
            ("7 leaves a tree, which is no power of 2", {"w1s": np.ones((7, 11, 4), np.float32)}),
            ("8 leaves a tree, where depth 4 has 16", {"depth": 4}),
            ("does not fit 3 trees", {"trees": 3}), ("0 trees", {"trees": 0}),
            (r"thresholds has shape \(8,\)", {"thresholds": np.zeros(8, np.float32)}),
            ("no width or number may be 0", {"w1s": np.ones((8, 11, 0), np.float32)}),
            ("activation 'tanh'", {"activation": "tanh"}), ("routing '<'", {"routing": "<"}), ("store 'fp8'", {"store": "fp8"}),
            (r"output_bias have shape \(8,\)", {"output_bias": np.zeros(8, np.float32)}),
        ]:
            with self.subTest(words), self.assertRaisesRegex(ValueError, words):
                made(**changes)
        for words, changes in [
            ("w1s has dtype float64", {"w1s": np.ones((8, 11, 4))}), ("b2s has dtype int64", {"b2s": np.ones((8, 9), np.int64)}),
            ("node_weights has dtype float16, and w1s float32", {"node_weights": np.ones((7, 11), np.float16)}),
            ("b1s is a list", {"b1s": [1]}), ("factor is no single number", {"factor": np.ones(2)}), ("missing", {}),
        ]:
            with self.subTest(words), self.assertRaisesRegex(TypeError, words):
                if changes:
                    made(**changes)
                else:
                    fff.LeafLayer(*list(arrays.values())[:5])  # pylint: disable=no-value-for-parameter
        for changes in ({"factor": np.inf}, {"thresholds": np.full(7, np.nan, np.float32)}):
            with self.assertRaises(fff.Error) as caught:
                made(**changes)
            self.assertEqual(caught.exception.status, fff.Status.NUMBER)
        bad = arrays["w1s"].copy()
        bad[5, 7, 2] = 1e6
        with self.assertRaisesRegex(fff.Error, "w1s, leaf 5, neuron 2, column 7"):
            made(w1s=bad, store="f16")
        bad = arrays["w2s"].copy()
        bad[5, 2, 7] = 1e6
        with self.assertRaisesRegex(fff.Error, "w2s, leaf 5, neuron 2, column 7"):
            made(w2s=bad, store="f16")
        one = made()
        with self.assertRaisesRegex(TypeError, "immutable"):
            one.__init__(*arrays.values())
        self.assertEqual(repr(one), f"fff.LeafLayer(1x3 leaves of 4, 11 -> 9, {one.isa})")


class Forests(Compared):
    def test_definition(self):
        choose = random.Random(int(os.environ.get("FFF_TEST_SEED", "2")))
        for _ in range(40):
            rng = np.random.default_rng(choose.randint(0, 1 << 30))
            into, out = choose.randint(1, 50), choose.randint(1, 50)
            x = rng.standard_normal((40, into)).astype(np.float32)
            parts, expected, margin, path = [], np.zeros((40, out)), np.full(40, np.inf), 0
            for _ in range(choose.randint(1, 4)):
                options = {"activation": choose.choice(list(ACTIVATIONS)), "routing": choose.choice([">", ">="])}
                if choose.random() < 0.5:
                    options["factor"] = np.float32(rng.standard_normal())
                if choose.random() < 0.5:
                    depth, width = choose.randint(0, 4), choose.randint(1, 6)
                    arrays = random_leaves(rng, depth, into, width, out, biases=choose.random() < 0.5)
                    parts.append(fff.Leaves(*arrays.values(), **options))
                    path += depth + width
                    more = leaf_sums(x, arrays, **options)
                else:
                    depth, trees = choose.choice([(0, 7), (3, 1), (2, 3)])
                    rows = trees * fff.nodes_per_tree(depth)
                    w_in, w_out, biases = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, into), (rows, out), (rows,)))
                    thresholds = rng.standard_normal(rows).astype(np.float32)
                    parts.append(fff.Trees(w_in, w_out, biases=biases, depth=depth, trees=trees, thresholds=thresholds, **options))
                    path += trees * (depth + 1)
                    more = tree_sums(x, w_in, w_out, biases, depth, trees, thresholds=thresholds, **options)
                expected, margin = expected + more[0], np.minimum(margin, more[1])
            output_bias = rng.standard_normal(out).astype(np.float32) if choose.random() < 0.5 else None
            layer = fff.Layer.forest(parts, output_bias=output_bias, sleef="any")
            self.assertEqual((layer.path_length, len(layer.parts)), (path, len(parts)))
            y = layer(x)
            self.assert_near(y, expected + (0 if output_bias is None else output_bias), margin)
            self.assertEqual(layer.accumulate(*layer.route(x)).tobytes(), y.tobytes())
            for isa in fff.isas():
                self.assertEqual(fff.Layer.forest(parts, output_bias=output_bias, isa=isa, sleef="any")(x, threads=2).tobytes(),
                                 y.tobytes())
            singly = [fff.Layer.forest([part], sleef="any") for part in parts]
            self.assertEqual(b"".join(sorted(other.route(x)[1].tobytes() for other in singly)) and
                             np.concatenate([other.route(x)[1] for other in singly], axis=-1).tobytes(), layer.route(x)[1].tobytes())

    def test_layer_takes_them(self):
        rng = np.random.default_rng(8)
        w_in, w_out = (rng.standard_normal((7, width)).astype(np.float32) for width in (5, 6))
        biases, thresholds, bias = (rng.standard_normal(count).astype(np.float32) for count in (7, 7, 6))
        x = rng.standard_normal((40, 5)).astype(np.float32)
        options = {"depth": 2, "biases": biases, "thresholds": thresholds, "factor": 0.25}
        layer = fff.Layer(w_in, w_out, output_bias=bias, **options)
        expected, margin = tree_sums(x, w_in, w_out, biases, 2, 1, thresholds=thresholds, factor=0.25)
        self.assert_near(layer(x), expected + bias, margin)
        self.assertEqual(fff.Layer.forest([fff.Trees(w_in, w_out, **options)], output_bias=bias)(x).tobytes(), layer(x).tobytes())
        for narrow in (bias.astype(np.float16), (bias.view(np.uint32) >> 16).astype(np.uint16).view([("bfloat16", np.uint16)])):
            same = np.asarray(narrow, np.float32) if narrow.dtype == np.float16 else (
                narrow.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
            self.assertEqual(fff.Layer(w_in, w_out, **options, output_bias=narrow)(x).tobytes(),
                             fff.Layer(w_in, w_out, **options, output_bias=same)(x).tobytes())
        self.assertNotEqual(fff.Layer(w_in, w_out, depth=2, biases=biases)(x).tobytes(), layer(x).tobytes())

    def test_refused(self):
        w = np.ones((7, 5), np.float32)
        trees = fff.Trees(w, w, depth=2)
        with self.assertRaisesRegex(ValueError, "at least one part"):
            fff.Layer.forest([])
        with self.assertRaisesRegex(TypeError, "part 1 is a Layer"):
            fff.Layer.forest([trees, fff.Layer(w, w, depth=2)])
        with self.assertRaisesRegex(ValueError, "part 1 is 4 -> 5, where part 0 is 5 -> 5"):
            fff.Layer.forest([trees, fff.Trees(w[:, :4], w, depth=2)])
        with self.assertRaises(fff.Error) as caught:
            fff.Layer.forest([trees] * 1025)
        self.assertEqual(caught.exception.status, fff.Status.PARTS)
        bad = w.copy()
        bad[3, 1] = np.nan
        with self.assertRaisesRegex(fff.Error, "part 1: input_weights, row 3, column 1"):
            fff.Layer.forest([trees, fff.Trees(bad, w, depth=2, store="i8")])
        layer = fff.Layer.forest([trees, trees])
        self.assertEqual(layer.trees, 2)
        with self.assertRaisesRegex(AttributeError, "see parts"):
            layer.depth  # pylint: disable=pointless-statement
        with self.assertRaises(AttributeError):
            trees.depth = 3
        self.assertRaisesRegex(TypeError, "pickle its weights", pickle.dumps, trees)


class ListedRows(Compared):
    def setUp(self):
        rng = np.random.default_rng(9)
        self.w_in, self.w_out = (rng.standard_normal((500, width)).astype(np.float32) for width in (30, 20))
        self.biases = rng.standard_normal(500).astype(np.float32)
        self.x, self.rows = rng.standard_normal((3, 4, 30)).astype(np.float32), rng.integers(0, 500, (3, 4, 9)).astype(np.uint32)
        self.layer = fff.Layer(self.w_in, self.w_out, depth=0, trees=500, biases=self.biases)

    def test_definition(self):
        logits = self.layer.dot_rows(self.x, self.rows)
        self.assertEqual((logits.shape, logits.dtype), (self.rows.shape, np.float32))
        self.assert_near(logits, np.einsum("abi,abci->abc", self.x.astype(float), self.w_in[self.rows]) + self.biases[self.rows])
        factors = fff.activate(logits) * np.float32(0.5)
        y = self.layer.sum_rows(self.rows, factors)
        self.assert_near(y, np.einsum("abc,abco->abo", factors.astype(float), self.w_out[self.rows]))
        out = np.full((3, 4, 25), 7, np.float32)
        self.layer.sum_rows(self.rows, factors, out=out[..., 2:22])
        np.testing.assert_array_equal(out[..., 2:22], y)
        self.assertTrue((out[..., :2] == 7).all() and (out[..., 22:] == 7).all())
        backwards = self.layer.dot_rows(self.x[::-1], self.rows[::-1])
        self.assertEqual(backwards.tobytes(), logits[::-1].tobytes())
        for batch in ((0, 4), (3, 0)):
            self.assertEqual(self.layer.dot_rows(np.empty((*batch, 30), np.float32), np.empty((*batch, 9), np.uint32)).shape, (*batch, 9))
        none = np.empty((2, 0), np.uint32)
        self.assertEqual(self.layer.dot_rows(self.x[0, :2], none).shape, (2, 0))
        np.testing.assert_array_equal(self.layer.sum_rows(none, np.empty((2, 0), np.float32)), np.zeros((2, 20)))

    def test_refused(self):
        for error, words, call in [
            (ValueError, r"rows have shape \(4, 9\), not \(3, 4\)", lambda: self.layer.dot_rows(self.x, self.rows[0])),
            (TypeError, "rows has dtype int64", lambda: self.layer.dot_rows(self.x, self.rows.astype(int))),
            (ValueError, "x has shape", lambda: self.layer.dot_rows(self.x[..., :29], self.rows)),
            (ValueError, "factors has shape", lambda: self.layer.sum_rows(self.rows, np.ones((3, 4, 8), np.float32))),
            (ValueError, "factors", lambda: self.layer.sum_rows(self.rows, np.ones((2, 4, 9), np.float32))),
            (fff.Error, "dot_rows", lambda: self.layer.dot_rows(self.x, self.rows + np.uint32(492))),
            (fff.Error, "sum_rows", lambda: self.layer.sum_rows(self.rows + np.uint32(492), np.ones((3, 4, 9), np.float32))),
        ]:
            with self.subTest(words), self.assertRaisesRegex(error, words):
                call()
        forest = fff.Layer.forest([fff.Trees(self.w_in, self.w_out, depth=0, trees=500)] * 2)
        leaves = fff.LeafLayer(*random_leaves(np.random.default_rng(1), 2, 30, 3, 20).values())
        biased = fff.Layer(self.w_in, self.w_out, depth=0, trees=500, output_bias=np.zeros(20, np.float32))
        for layer in (forest, leaves, biased):
            with self.assertRaisesRegex(ValueError, "of one part of path sums"):
                layer.dot_rows(self.x, self.rows)
            with self.assertRaisesRegex(ValueError, "of one part of path sums"):
                layer.sum_rows(self.rows, np.ones((3, 4, 9), np.float32))


if __name__ == "__main__":
    unittest.main()
