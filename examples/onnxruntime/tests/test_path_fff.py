"""The node fff:PathFFF in ONNX Runtime: the same bits as the C library, and what bad use gets."""

from __future__ import annotations

import os
import threading
import unittest

import fff
import numpy as np
import onnxruntime as ort
from models import SEED, Weights, make_weights, path_fff_model, same_bits, session
from onnx import TensorProto

Refused = Exception  # ONNX Runtime's exceptions have no common base of their own


def layer_of(weights: Weights, depth: int, trees: int, **options: str) -> fff.Layer:
    return fff.Layer(weights.input_weight, weights.output_weight.T, biases=weights.bias, depth=depth, trees=trees,
                     **options)


class Bits(unittest.TestCase):
    """Bit for bit what fff.Layer gives."""

    def setUp(self):
        self.random = np.random.default_rng(SEED)
        self.addCleanup(os.environ.pop, "FFF_ISA", None)

    def check(self, weights: Weights, batches, threads: int, **attributes):
        """Runs batches through a session and compares with the layer, on the generic instruction set."""
        options = {name: attributes[name] for name in ("activation", "routing") if name in attributes}
        layer = layer_of(weights, attributes["depth"], attributes.get("trees", 1), isa="generic", **options)
        runs = session(path_fff_model(weights, **attributes), threads)
        for batch in batches:
            x = self.random.standard_normal((batch, layer.input_width), np.float32)
            with self.subTest(batch=batch, threads=threads, isa=os.environ.get("FFF_ISA"), **attributes):
                self.assertTrue(same_bits(runs.run(None, {"x": x})[0], layer(x)))

    def test_every_batch(self):
        """Batches 0 to 300, and 1000."""
        weights = make_weights(self.random, 6, 2, 40, 24)
        for threads in (1, 2):
            self.check(weights, [*range(301), 1000], threads, depth=6, trees=2)

    def test_random_shapes(self):
        """Shapes, activations and routings, on every usable instruction set, 1 and 2 threads, with and without bias."""
        for isa in fff.isas():
            os.environ["FFF_ISA"] = isa
            for trial in range(24):
                depth, trees = (int(self.random.integers(0, 9)), int(self.random.integers(1, 5)))
                width, out = (int(size) for size in self.random.integers(1, 200, 2))
                weights = make_weights(self.random, depth, trees, width, out, bias=trial % 3 > 0)
                batches = [1, 3, 65, int(self.random.integers(2, 600))]
                self.check(weights, batches, 1 + trial % 2, depth=depth, trees=trees,
                           activation=fff.ACTIVATIONS[trial % 6], routing=fff.ROUTINGS[trial // 6 % 2])

    def test_shared_on_threads(self):
        """A layer large enough that batches are shared out as tasks."""
        weights = make_weights(self.random, 11, 1, 768, 768)
        for isa in fff.isas():
            os.environ["FFF_ISA"] = isa
            for threads in (1, 2, 3):
                self.check(weights, [1, 64, 127, 1000], threads, depth=11)

    def test_instruction_set_is_obeyed(self):
        os.environ["FFF_ISA"] = "no_such_set"
        with self.assertRaisesRegex(Refused, "PathFFF node 'ffn'.*instruction set"):
            session(path_fff_model(make_weights(self.random, 2, 1, 8, 8), depth=2))

    def test_routing_at_zero(self):
        """A root's logit of exactly 0: left by ">", right by ">="."""
        weights = make_weights(self.random, 5, 1, 16, 16)
        weights.bias[0] = 0
        x = np.zeros((3, 16), np.float32)
        found = {}
        for routing in fff.ROUTINGS:
            options = {"activation": "identity", "routing": routing}
            found[routing] = session(path_fff_model(weights, depth=5, **options)).run(None, {"x": x})[0]
            self.assertTrue(same_bits(found[routing], layer_of(weights, 5, 1, **options)(x)))
        self.assertFalse(same_bits(found[">"], found[">="]))

    def test_dimensions_before_the_last_are_tokens(self):
        weights = make_weights(self.random, 4, 3, 33, 21)
        layer = layer_of(weights, 4, 3)
        for shape in ((), (7,), (2, 5), (2, 3, 4), (1, 2, 1, 2, 3), (0,), (2, 0, 4)):
            runs = session(path_fff_model(weights, depth=4, trees=3, x_shape=(*shape, None)))
            x = self.random.standard_normal((*shape, 33)).astype(np.float32)
            with self.subTest(shape=shape):
                self.assertTrue(same_bits(runs.run(None, {"x": x})[0], layer(x.reshape(-1, 33)).reshape(*shape, 21)))

    @unittest.skipIf(tuple(map(int, ort.__version__.split(".")[:2])) < (1, 24), "no shape inference before 1.24")
    def test_output_shape_is_inferred(self):
        weights = make_weights(self.random, 1, 1, 6, 5)
        model = path_fff_model(weights, depth=1, x_shape=("sequences", 9, None))
        self.assertEqual(session(model).get_outputs()[0].shape, ["sequences", 9, 5])

    def test_weights_that_change(self):
        """Weights as the model's inputs: each run uses what it is given."""
        first, second = (make_weights(self.random, 5, 2, 30, 20) for _ in range(2))
        runs = session(path_fff_model(first, constant=False, depth=5, trees=2))
        x = self.random.standard_normal((50, 30), np.float32)
        for weights in (first, second, first):
            found = runs.run(None, {"x": x, **weights._asdict()})[0]
            self.assertTrue(same_bits(found, layer_of(weights, 5, 2)(x)))

    def test_bias_named_as_absent(self):
        weights = make_weights(self.random, 3, 1, 12, 9, bias=False)
        model = path_fff_model(weights, depth=3, inputs=["x", "input_weight", "output_weight", ""])
        x = self.random.standard_normal((4, 12), np.float32)
        self.assertTrue(same_bits(session(model).run(None, {"x": x})[0], layer_of(weights, 3, 1)(x)))

    def test_nan_and_infinity(self):
        weights = make_weights(self.random, 4, 1, 16, 16)
        x = self.random.standard_normal((6, 16), np.float32)
        x[1, 3], x[2, 5], x[3, 5] = np.nan, np.inf, -np.inf
        found, expected = session(path_fff_model(weights, depth=4)).run(None, {"x": x})[0], layer_of(weights, 4, 1)(x)
        self.assertTrue(np.array_equal(np.isnan(found), np.isnan(expected)))
        self.assertTrue(same_bits(found[~np.isnan(found)], expected[~np.isnan(expected)]))


class Threads(unittest.TestCase):
    def test_one_session_on_many_threads(self):
        """Constant weights and changing ones, batches small and shared out, eight threads at once."""
        random = np.random.default_rng(SEED)
        weights = make_weights(random, 8, 2, 256, 128)
        layer = layer_of(weights, 8, 2)
        for constant, rounds in ((True, 60), (False, 6)):
            runs = session(path_fff_model(weights, constant=constant, depth=8, trees=2), threads=2)
            more = {} if constant else weights._asdict()
            wrong = []

            def work(seed: int) -> None:
                random = np.random.default_rng(seed)
                for _ in range(rounds):
                    x = random.standard_normal((int(random.integers(1, 700)), 256), np.float32)
                    if not same_bits(runs.run(None, {"x": x, **more})[0], layer(x)):
                        wrong.append(len(x))

            threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(wrong, [])

    def test_sessions_come_and_go(self):
        weights = make_weights(np.random.default_rng(SEED), 3, 1, 16, 16)
        for _ in range(50):
            session(path_fff_model(weights, depth=3)).run(None, {"x": np.zeros((2, 16), np.float32)})


class BadUse(unittest.TestCase):
    """A clear exception, and no crash."""

    def setUp(self):
        self.weights = make_weights(np.random.default_rng(SEED), 3, 2, 16, 12)  # 30 rows

    def refuses(self, pattern: str, weights=None, **options) -> None:
        attributes = {"depth": 3, "trees": 2, **options}
        attributes = {name: value for name, value in attributes.items() if value is not None}
        with self.subTest(pattern=pattern), self.assertRaisesRegex(Refused, pattern):
            session(path_fff_model(weights or self.weights, **attributes))

    def test_attributes(self):
        where = "fff:PathFFF node 'ffn': attribute "
        self.refuses(where + "depth is missing", depth=None)
        self.refuses(where + "depth is no integer", depth=3.0)
        self.refuses(where + "depth is no integer", depth="3")
        self.refuses(where + "depth is no integer", depth=[3])
        self.refuses(where + "depth is -1, not from 0 to 30", depth=-1)
        self.refuses(where + "depth is 31, not from 0 to 30", depth=31)
        self.refuses(where + "trees is 0, not from 1 to", trees=0)
        self.refuses(where + "trees is -5, not from 1 to", trees=-5)
        self.refuses(where + "trees is 9223372036854775807, not", trees=2 ** 63 - 1)
        self.refuses(where + "trees is no integer", trees=2.0)
        self.refuses(where + "activation is 'tanh', not one of the strings gelu, gelu_tanh, relu", activation="tanh")
        self.refuses(where + "activation is '', not one of", activation="x" * 1000)
        self.refuses(where + "activation is '', not one of", activation="")
        self.refuses(where + "activation is '', not one of", activation=0)
        self.refuses(where + "routing is '<', not one of the strings >, >=", routing="<")

    def test_weights(self):
        where = "fff:PathFFF node 'ffn': "
        nodes = ", where depth 4 and trees 2 make 62 nodes"
        self.refuses(where + "input_weight has 30 in dimension 0" + nodes, depth=4)
        self.refuses(where + "input_weight has 30 in dimension 0, where depth 30 and trees 4294967295 make "
                     "9223372030412324865 nodes", depth=30, trees=2 ** 32 - 1)
        spoil = self.weights._replace
        self.refuses(where + "output_weight has 12 in dimension 1",
                     spoil(output_weight=np.ascontiguousarray(self.weights.output_weight.T)))
        self.refuses(where + "bias has 29 in dimension 0", spoil(bias=self.weights.bias[:29]))
        self.refuses(where + "bias has 2 dimensions, not 1", spoil(bias=self.weights.bias[None]))
        self.refuses(where + "input_weight has 1 dimensions, not 2",
                     spoil(input_weight=self.weights.input_weight[:, 0]))
        self.refuses(where + "weights: ", spoil(input_weight=np.zeros((30, 0), np.float32)))
        self.refuses(where + "weights: ", spoil(output_weight=np.zeros((0, 30), np.float32)))
        self.refuses("tensor.double.*invalid|invalid.*tensor.double|bound to different types",
                     spoil(bias=self.weights.bias.astype(np.float64)))

    def test_input(self):
        runs = session(path_fff_model(self.weights, depth=3, trees=2, x_shape=("batch", "width")))
        with self.assertRaisesRegex(Refused, "PathFFF node 'ffn': X is 15 wide, where the layer's input width is 16"):
            runs.run(None, {"x": np.zeros((4, 15), np.float32)})
        with self.assertRaisesRegex(Refused, "PathFFF node 'ffn': X is 0 wide"):
            runs.run(None, {"x": np.zeros((4, 0), np.float32)})
        with self.assertRaisesRegex(Refused, r"double"):
            runs.run(None, {"x": np.zeros((4, 16))})
        self.assertEqual(runs.run(None, {"x": np.zeros((0, 16), np.float32)})[0].shape, (0, 12))
        self.assertEqual(runs.run(None, {"x": np.zeros((4, 16), np.float32)})[0].shape, (4, 12))

    def test_scalar_input(self):
        with self.assertRaisesRegex(Refused, "X has 0 dimensions"):
            runs = session(path_fff_model(self.weights, depth=3, trees=2, x_shape=()))
            runs.run(None, {"x": np.zeros((), np.float32)})

    def test_other_types_of_input(self):
        for wrong in (TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64):
            with self.subTest(type=wrong), self.assertRaisesRegex(Refused, "PathFFF"):
                session(path_fff_model(self.weights, depth=3, trees=2, x_type=wrong))

    def test_changing_weights_that_do_not_fit(self):
        runs = session(path_fff_model(self.weights, constant=False, depth=3, trees=2))
        wrong = self.weights._replace(bias=np.zeros(7, np.float32))
        with self.assertRaises(Refused):
            runs.run(None, {"x": np.zeros((1, 16), np.float32), **wrong._asdict()})

    def test_missing_input(self):
        with self.assertRaises(Refused):
            session(path_fff_model(self.weights, depth=3, trees=2, inputs=["x", "input_weight"]))


if __name__ == "__main__":
    print(f"ONNX Runtime {ort.__version__}, libfff {fff.version()}, {', '.join(fff.isas())}, FFF_TEST_SEED={SEED}")
    unittest.main()
