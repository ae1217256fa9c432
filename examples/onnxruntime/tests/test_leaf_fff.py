"""The node fff:LeafFFF in ONNX Runtime: the same bits as the C library, the authors' recorded results, and what bad use
gets."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import unittest
from typing import Any

import fff
import numpy as np
import onnxruntime as ort
from models import BFLOAT16, SEED, LeafWeights, leaf_fff_model, make_leaf_weights, names_of, same_bits, session
from onnx import TensorProto

Refused = Exception  # ONNX Runtime's exceptions have no common base of their own
DATA = pathlib.Path(__file__).resolve().parents[3] / "tests" / "data"


def layer_of(weights: LeafWeights, **options: Any) -> fff.LeafLayer:
    more = dict(zip(weights._fields[6:], weights[6:]))
    return fff.LeafLayer(*weights[:6], **more, **options)


OPTIONAL = ("node_biases", "b1s", "b2s", "thresholds", "factor")


def with_numbers(weights: LeafWeights, random: np.random.Generator) -> LeafWeights:
    """With thresholds and a factor."""
    thresholds = random.standard_normal(len(weights.node_weights)).astype(np.float32)
    return weights._replace(thresholds=thresholds, factor=np.array([0.7], np.float32))


def run(weights: LeafWeights, x: np.ndarray, **options: Any) -> np.ndarray:
    return session(leaf_fff_model(weights, **options)).run(None, {"x": x})[0]


def narrowed(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Rounded to float16, or cut off to bfloat16."""
    if np.dtype(dtype) == BFLOAT16:
        return (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16).view(BFLOAT16)
    return array.astype(dtype)


def read_tensors(file: pathlib.Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    about = header.pop("__metadata__")
    kinds = {"F32": np.float32, "I64": np.int64}
    return about, {name: np.frombuffer(data[8 + length:][slice(*entry["data_offsets"])], kinds[entry["dtype"]])
                   .reshape(entry["shape"]) for name, entry in header.items()}


class Golden(unittest.TestCase):
    def test_recorded_results(self):
        """The authors' eval_forward(), which leaves b2s out, and their hardened training, which adds them. Their order
        of summation is another, so bits are not theirs."""
        files = sorted(DATA.glob("leaf_*.safetensors"))
        self.assertGreaterEqual(len(files), 2)
        for file in files:
            about, tensors = read_tensors(file)
            weights = LeafWeights(*(tensors[name] for name in LeafWeights._fields[:6]))
            options = {"depth": int(tensors["depth"]), "activation": about["activation"].lower()}
            for given, expected in ((weights._replace(b2s=None), "output"), (weights, "output_with_b2")):
                with self.subTest(file=file.name, expected=expected):
                    found = run(given, tensors["input"], **options)
                    largest = np.abs(tensors[expected]).max()
                    self.assertLess(np.abs(found - tensors[expected]).max(), 2e-6 * largest)
                    self.assertTrue(same_bits(found, layer_of(given, **options)(tensors["input"])))
            self.assertGreater(np.abs(tensors["output"] - tensors["output_with_b2"]).max(), 1e-3)


class Bits(unittest.TestCase):
    """Bit for bit what fff.LeafLayer gives."""

    def setUp(self):
        self.random = np.random.default_rng(SEED)
        self.addCleanup(os.environ.pop, "FFF_ISA", None)

    def test_random_shapes(self):
        """Shapes, activations, routings and absent inputs, on every usable instruction set, 1 and 2 threads."""
        for isa in fff.isas():
            os.environ["FFF_ISA"] = isa
            for trial in range(24):
                depth, leaf_width = int(self.random.integers(0, 7)), int(self.random.integers(1, 20))
                width, out = (int(size) for size in self.random.integers(1, 150, 2))
                trees = 1 + trial % 3
                weights = with_numbers(make_leaf_weights(self.random, depth, width, leaf_width, out, trees), self.random)
                absent = [name for bit, name in enumerate(OPTIONAL) if trial * 7 % 32 >> bit & 1]
                weights = weights._replace(**dict.fromkeys(absent))
                options = {"activation": fff.ACTIVATIONS[trial % 6], "routing": fff.ROUTINGS[trial // 6 % 2]}
                layer = layer_of(weights, isa="generic", trees=trees, **options)
                runs = session(leaf_fff_model(weights, depth=depth, trees=trees, **options), 1 + trial % 2)
                for batch in (0, 1, 3, 65, int(self.random.integers(2, 600))):
                    x = self.random.standard_normal((batch, width), np.float32)
                    with self.subTest(isa=isa, trial=trial, depth=depth, trees=trees, batch=batch, absent=absent,
                                      **options):
                        self.assertTrue(same_bits(runs.run(None, {"x": x})[0], layer(x)))

    def test_defaults(self):
        """ReLU, and a logit of exactly 0 goes right."""
        weights = make_leaf_weights(self.random, 4, 16, 4, 8)
        weights.node_biases[0] = 0
        x = np.zeros((3, 16), np.float32)
        found = run(weights, x, depth=4)
        self.assertTrue(same_bits(found, layer_of(weights, activation="relu", routing=">=")(x)))
        self.assertFalse(same_bits(found, run(weights, x, depth=4, routing=">")))
        self.assertFalse(same_bits(found, run(weights, x, depth=4, activation="gelu")))

    def test_node_biases_of_one_dimension(self):
        weights = make_leaf_weights(self.random, 5, 20, 3, 10)
        x = self.random.standard_normal((50, 20), np.float32)
        flat = run(weights._replace(node_biases=weights.node_biases[:, 0].copy()), x, depth=5)
        self.assertTrue(same_bits(flat, layer_of(weights)(x)))

    def test_each_input_matters(self):
        """What is compared above would be other bits if an input were passed over."""
        weights = with_numbers(make_leaf_weights(self.random, 3, 20, 6, 10), self.random)
        x = self.random.standard_normal((50, 20), np.float32)
        whole = run(weights, x, depth=3)
        for name in OPTIONAL:
            self.assertFalse(same_bits(whole, run(weights._replace(**{name: None}), x, depth=3)), name)

    def test_shared_on_threads(self):
        """A layer large enough that batches are shared out as tasks."""
        weights = make_leaf_weights(self.random, 6, 768, 32, 768)
        layer = layer_of(weights)
        x = self.random.standard_normal((500, 768), np.float32)
        for threads in (1, 2, 3):
            found = session(leaf_fff_model(weights, depth=6), threads).run(None, {"x": x})[0]
            self.assertTrue(same_bits(found, layer(x)))

    def test_dimensions_before_the_last_are_tokens(self):
        weights = make_leaf_weights(self.random, 4, 33, 5, 21)
        for shape in ((), (7,), (2, 3, 4), (2, 0, 4)):
            x = self.random.standard_normal((*shape, 33)).astype(np.float32)
            found = run(weights, x, depth=4, x_shape=(*shape, None))
            self.assertTrue(same_bits(found, layer_of(weights)(x.reshape(-1, 33)).reshape(*shape, 21)))

    @unittest.skipIf(tuple(map(int, ort.__version__.split(".")[:2])) < (1, 24), "no shape inference before 1.24")
    def test_output_shape_is_inferred(self):
        weights = make_leaf_weights(self.random, 2, 6, 3, 5)
        weights = with_numbers(weights, self.random)
        for absent in ("", *OPTIONAL):
            given = weights._replace(**{absent: None}) if absent else weights
            runs = session(leaf_fff_model(given, depth=2, x_shape=("sequences", 9, None)))
            self.assertEqual(runs.get_outputs()[0].shape, ["sequences", 9, 5])

    def test_weights_that_change(self):
        """Weights as the model's inputs: each run uses what it is given."""
        first, second = (with_numbers(make_leaf_weights(self.random, 4, 30, 5, 20), self.random) for _ in range(2))
        x = self.random.standard_normal((50, 30), np.float32)
        for absent in ((), ("node_biases", "b1s", "factor"), ("b2s", "thresholds")):
            none = dict.fromkeys(absent)
            runs = session(leaf_fff_model(first._replace(**none), constant=False, depth=4))
            for weights in (first._replace(**none), second._replace(**none), first._replace(**none)):
                given = names_of(weights)[0]
                self.assertTrue(same_bits(runs.run(None, {"x": x, **given})[0], layer_of(weights)(x)))


class Types(unittest.TestCase):
    FLOATS = (np.float32, np.float16, BFLOAT16)

    def setUp(self):
        self.random = np.random.default_rng(SEED)
        self.weights = make_leaf_weights(self.random, 4, 40, 6, 24)
        self.x = self.random.standard_normal((70, 40), np.float32)

    def narrow(self, first: Any, second: Any, biases: Any) -> LeafWeights:
        types = (first, biases, first, biases, second, biases)
        return LeafWeights(*map(narrowed, self.weights, types))

    def test_types_of_weights(self):
        for types in itertools.product(self.FLOATS, repeat=3):
            weights = self.narrow(*types)
            with self.subTest(types=types):
                self.assertTrue(same_bits(run(weights, self.x, depth=4), layer_of(weights)(self.x)))

    def test_stored_types(self):
        stores = ("f32", "bf16", "f16", "i8", "bf16+i8", "i8+f32")
        for dtype, store, exact in itertools.product(self.FLOATS, stores, (0, 1)):
            weights = self.narrow(dtype, dtype, dtype)
            with self.subTest(dtype=dtype, store=store, exact=exact):
                expected = layer_of(weights, store=store, exact_routes=bool(exact))(self.x)
                found = run(weights, self.x, depth=4, store=store, exact_routes=exact)
                self.assertTrue(same_bits(found, expected))

    def test_stored_types_differ(self):
        """What the test above compares would be other bits if an attribute were passed over. Tokens are enough for some
        to pass a node so near to 0 that int8 turns them round."""
        x = self.random.standard_normal((3000, 40), np.float32)
        found = [run(self.weights, x, depth=4, **more)
                 for more in ({}, {"store": "bf16"}, {"store": "f16"}, {"store": "i8"}, {"store": "bf16+i8"},
                              {"store": "i8", "exact_routes": 1})]
        for one, other in itertools.combinations(found, 2):
            self.assertFalse(same_bits(one, other))

    def test_int8_weights(self):
        """int8 weights with scales, of several trees, as constants and as inputs; b2s and thresholds of 16 bits, too."""
        whole = with_numbers(make_leaf_weights(self.random, 3, 40, 6, 24, trees=2), self.random)

        def given(name: str) -> np.ndarray:
            return np.clip(getattr(whole, name) * 40, -127, 127).astype(np.int8)

        def scales(*shape: int) -> np.ndarray:
            return self.random.uniform(0.01, 0.03, shape).astype(np.float32)

        small = whole._replace(node_weights=given("node_weights"), w1s=given("w1s"), node_scales=scales(14),
                               leaf_scales=scales(16, 6))
        smaller = small._replace(w2s=given("w2s"), output_scales=scales(16, 6))
        halves = {name: getattr(whole, name).astype(np.float16) for name in ("b2s", "thresholds", "factor")}
        for weights, store, constant in itertools.product((small, smaller, smaller._replace(**halves)), ("", "f32"),
                                                          (True, False)):
            attributes = {"store": store} if store else {}
            with self.subTest(store=store, constant=constant):
                expected = layer_of(weights, trees=2, **attributes)(self.x)
                runs = session(leaf_fff_model(weights, constant=constant, depth=3, trees=2, **attributes))
                found = runs.run(None, {"x": self.x, **({} if constant else names_of(weights)[0])})[0]
                self.assertTrue(same_bits(found, expected))

    def test_types_of_tokens(self):
        """Results have the tokens' type."""
        x = self.x.astype(np.float16)
        found = run(self.weights, x, depth=4, x_type=TensorProto.FLOAT16)
        self.assertTrue(same_bits(found, layer_of(self.weights)(x)))
        x = narrowed(self.x, BFLOAT16)
        wide = (x.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        expected = layer_of(self.weights)(x)
        expected = (expected.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        self.assertTrue(same_bits(run(self.weights, wide, depth=4, cast_to=TensorProto.BFLOAT16), expected))


class BadUse(unittest.TestCase):
    """A clear exception that names the input, and no crash."""

    def setUp(self):
        self.weights = make_leaf_weights(np.random.default_rng(SEED), 3, 16, 4, 12)

    def refuses(self, pattern: str, weights=None, **options) -> None:
        attributes = {name: value for name, value in {"depth": 3, **options}.items() if value is not None}
        with self.subTest(pattern=pattern), self.assertRaisesRegex(Refused, "fff:LeafFFF node 'ffn': " + pattern):
            session(leaf_fff_model(weights or self.weights, **attributes))

    def test_attributes(self):
        self.refuses("attribute depth is missing", depth=None)
        self.refuses("attribute depth is 31, not from 0 to 30", depth=31)
        self.refuses("attribute trees is 0, not from 1 to", trees=0)
        self.refuses("attribute trees is 4294967296, not from 1 to", trees=2 ** 32)
        self.refuses("attribute activation is 'ReLU', not one of the strings gelu", activation="ReLU")
        self.refuses("attribute routing is '<', not one of the strings >, >=", routing="<")
        self.refuses("attribute store is 'f64', not one of", store="f64")
        self.refuses("attribute exact_routes is 2, not from 0 to 1", exact_routes=2)

    def test_depth(self):
        """Each number of nodes or leaves that is not depth's."""
        self.refuses("w1s has 8 in dimension 0, where depth 4 and trees 1 make 16 leaves", depth=4)
        self.refuses("w1s has 8 in dimension 0, where depth 30 and trees 1 make 1073741824 leaves", depth=30)
        self.refuses("w1s has 8 in dimension 0, where depth 3 and trees 2 make 16 leaves", trees=2)
        self.refuses("w1s has 8 in dimension 0, where depth 30 and trees 4294967295 make 4611686017353646080 leaves",
                     depth=30, trees=2 ** 32 - 1)
        for name, number in (("node_weights", "6 in dimension 0, where depth 3 and trees 1 make 7 nodes"),
                             ("node_biases", "6 in dimension 0, where depth 3 and trees 1 make 7 nodes"),
                             ("w1s", "7 in dimension 0, where depth 3 and trees 1 make 8 leaves"),
                             ("b1s", "7 in dimension 0, where depth 3 and trees 1 make 8 leaves"),
                             ("w2s", "7 in dimension 0, where depth 3 and trees 1 make 8 leaves"),
                             ("b2s", "7 in dimension 0, where depth 3 and trees 1 make 8 leaves")):
            short = getattr(self.weights, name)[:-1]
            self.refuses(f"{name} has {number}", self.weights._replace(**{name: short}))

    def test_widths(self):
        """Each width that another input tells otherwise."""
        for name, pattern in (("node_weights", "15 in dimension 1, where the input width of w1s is 16"),
                              ("b1s", "3 in dimension 1, where the leaf width of w1s is 4"),
                              ("b2s", "11 in dimension 1, where the output width of w2s is 12")):
            narrow = np.ascontiguousarray(getattr(self.weights, name)[..., :-1])
            self.refuses(f"{name} has {pattern}", self.weights._replace(**{name: narrow}))
        narrow = np.ascontiguousarray(self.weights.w2s[:, :-1])
        self.refuses("w2s has 3 in dimension 1, where the leaf width of w1s is 4", self.weights._replace(w2s=narrow))
        wide = np.ascontiguousarray(np.repeat(self.weights.node_biases, 2, axis=1))
        self.refuses(r"node_biases is neither \(7, 1\) nor \(7\)", self.weights._replace(node_biases=wide))
        for name in ("w1s", "w2s"):
            empty = getattr(self.weights, name)[..., :0]
            self.refuses(f"{name} has a width of 0", self.weights._replace(**{name: empty}))

    def test_dimensions(self):
        for name, rank in (("node_weights", 2), ("w1s", 3), ("b1s", 2), ("w2s", 3), ("b2s", 2)):
            more = getattr(self.weights, name)[None]
            self.refuses(f"{name} has {rank + 1} dimensions, not {rank}", self.weights._replace(**{name: more}))

    def test_types(self):
        for name in LeafWeights._fields[:6]:
            wide = self.weights._replace(**{name: getattr(self.weights, name).astype(np.float64)})
            int8 = ", bfloat16 or int8" if name in ("node_weights", "w1s", "w2s") else " or bfloat16"
            self.refuses(f"{name} is not float32, float16{int8}", wide)
        self.refuses("b1s is not float32, float16 or bfloat16", self.weights._replace(b1s=np.zeros((8, 4), np.int8)))
        half = self.weights._replace(w1s=self.weights.w1s.astype(np.float16))
        self.refuses("node_weights is f32, where w1s is f16: they must be of one type", half)

    def test_thresholds_and_factor(self):
        spoil = self.weights._replace
        self.refuses("thresholds has 6 in dimension 0, where depth 3 and trees 1 make 7 nodes",
                     spoil(thresholds=np.zeros(6, np.float32)))
        self.refuses("thresholds has 2 dimensions, not 1", spoil(thresholds=np.zeros((7, 1), np.float32)))
        self.refuses("weights: .*threshold", spoil(thresholds=np.full(7, np.nan, np.float32)))
        self.refuses("factor has 2 elements, not 1", spoil(factor=np.ones(2, np.float32)))
        self.refuses("factor has 0 dimensions", spoil(factor=np.array(1, np.float32)))
        self.refuses("weights: .*factor", spoil(factor=np.full(1, np.inf, np.float32)))

    def test_scales(self):
        """Missing, needless, of a wrong shape or value."""
        small = self.weights._replace(
            node_weights=np.ones((7, 16), np.int8), w1s=np.ones((8, 16, 4), np.int8), w2s=np.ones((8, 4, 12), np.int8),
            node_scales=np.ones(7, np.float32), leaf_scales=np.ones((8, 4), np.float32),
            output_scales=np.ones((8, 4), np.float32))
        session(leaf_fff_model(small, depth=3))
        for name, weight in (("node_scales", "node_weights"), ("leaf_scales", "w1s"), ("output_scales", "w2s")):
            self.refuses(f"{name} are missing, where {weight} is int8", small._replace(**{name: None}))
            self.refuses(f"{name} are for int8 weights, and {weight} is f32",
                         self.weights._replace(**{name: getattr(small, name)}))
            spoilt = getattr(small, name).copy()
            spoilt[(5, 2)[:spoilt.ndim]] = -1
            at = "5" if spoilt.ndim == 1 else "5, 2"
            self.refuses(rf"{name}\[{at}\]: scales", small._replace(**{name: spoilt}))
        self.refuses("node_scales has 6 in dimension 0", small._replace(node_scales=np.ones(6, np.float32)))
        self.refuses("leaf_scales has 3 in dimension 1, where the leaf width of w1s is 4",
                     small._replace(leaf_scales=np.ones((8, 3), np.float32)))
        low = small.w1s.copy()
        low[3, 9, 2] = -128
        self.refuses(r"w1s\[3, 9, 2\]: .*does not fit", small._replace(w1s=low))

    def test_weights_that_do_not_fit_their_type(self):
        for name, at in (("node_weights", (5, 7)), ("w1s", (6, 9, 3)), ("w2s", (5, 2, 10))):
            spoilt = getattr(self.weights, name).copy()
            spoilt[at] = 70000
            where = ", ".join(map(str, at))
            self.refuses(rf"{name}\[{where}\]: .*does not fit", self.weights._replace(**{name: spoilt}), store="f16")

    def test_input(self):
        runs = session(leaf_fff_model(self.weights, depth=3, x_shape=("batch", "width")))
        with self.assertRaisesRegex(Refused, "LeafFFF node 'ffn': X is 15 wide, where the layer's input width is 16"):
            runs.run(None, {"x": np.zeros((4, 15), np.float32)})
        self.assertEqual(runs.run(None, {"x": np.zeros((4, 16), np.float32)})[0].shape, (4, 12))

    def test_changing_weights_that_do_not_fit(self):
        runs = session(leaf_fff_model(self.weights._replace(b2s=None), constant=False, depth=3))
        given = names_of(self.weights._replace(b2s=None))[0]
        with self.assertRaises(Refused):
            runs.run(None, {"x": np.zeros((1, 16), np.float32), **given, "b1s": np.zeros((8, 3), np.float32)})

    def test_missing_input(self):
        with self.assertRaises(Refused):
            session(leaf_fff_model(self.weights, depth=3, inputs=["x", "node_weights", "node_biases", "w1s", "b1s"]))


if __name__ == "__main__":
    print(f"ONNX Runtime {ort.__version__}, libfff {fff.version()}, {', '.join(fff.isas())}, FFF_TEST_SEED={SEED}")
    unittest.main()
