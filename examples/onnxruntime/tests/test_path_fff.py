"""The node fff:PathFFF in ONNX Runtime: the same bits as the C library, and what bad use gets."""

from __future__ import annotations

import itertools
import os
import pathlib
import re
import threading
import time
import unittest
from typing import Any

import fff
import numpy as np
import onnxruntime as ort
from models import BFLOAT16, SEED, Weights, make_weights, names_of, path_fff_model, same_bits, session
from onnx import TensorProto
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

Refused = Exception  # ONNX Runtime's exceptions have no common base of their own


def layer_of(weights: Weights, depth: int, trees: int, **options: Any) -> fff.Layer:
    return fff.Layer(weights.input_weight, weights.output_weight.T, biases=weights.bias, depth=depth, trees=trees,
                     thresholds=weights.thresholds, factor=weights.factor, input_scales=weights.input_scales,
                     output_scales=weights.output_scales, **options)


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

    @unittest.skipIf(len(os.sched_getaffinity(0)) == 1, "one CPU: one task")
    def test_several_threads_compute(self):
        """Tasks are for all CPUs: of a session's two threads, which do not spin while they wait, both compute."""
        def seconds_of_threads() -> dict[str, float]:
            times = {task.name: (task / "stat").read_text().rpartition(")")[2].split()
                     for task in pathlib.Path("/proc/self/task").iterdir()}
            tick = 1 / os.sysconf("SC_CLK_TCK")
            return {name: tick * (int(fields[11]) + int(fields[12])) for name, fields in times.items()}

        runs = session(path_fff_model(make_weights(self.random, 8, 1, 256, 256), depth=8), 2, spinning=False)
        x = self.random.standard_normal((4096, 256), np.float32)
        before, others = seconds_of_threads(), 0.0
        end = time.monotonic() + 20
        while others < 0.05 and time.monotonic() < end:
            runs.run(None, {"x": x})
            after = seconds_of_threads()
            others = sum(seconds - before.get(name, 0.0) for name, seconds in after.items()
                         if name != str(threading.get_native_id()))
        self.assertGreaterEqual(others, 0.05)

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
            found = runs.run(None, {"x": x, **names_of(weights)[0]})[0]
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


def as_type(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Rounded to float16, or cut off to bfloat16."""
    if np.dtype(dtype) == BFLOAT16:
        return (np.ascontiguousarray(array).view(np.uint32) >> 16).astype(np.uint16).view(BFLOAT16)
    return array.astype(dtype)


def widened(array: np.ndarray) -> np.ndarray:
    if array.dtype == BFLOAT16:
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


class Types(unittest.TestCase):
    """Weights and tokens of 16 bits, and what is stored: bit for bit what fff.Layer gives of the same arrays."""

    FLOATS = (np.float32, np.float16, BFLOAT16)
    STORES = (None, "f32", "bf16", "f16", "i8", "bf16+i8", "i8+f32", "f32+f16")

    def setUp(self):
        self.random = np.random.default_rng(SEED)
        self.weights = make_weights(self.random, 6, 2, 48, 40)
        self.x = self.random.standard_normal((70, 48), np.float32)

    def narrow(self, *types: Any) -> Weights:
        return Weights(*map(as_type, self.weights, types))

    def test_types_of_weights(self):
        """Each weight of each type, whatever the others are, as constants and, but for bfloat16, as inputs."""
        for types in itertools.product(self.FLOATS, repeat=3):
            weights = self.narrow(*types)
            expected = layer_of(weights, 6, 2)(self.x)
            for constant in (True, False)[:1 if BFLOAT16 in map(np.dtype, types) else 2]:
                with self.subTest(types=types, constant=constant):
                    runs = session(path_fff_model(weights, constant=constant, depth=6, trees=2))
                    more = {} if constant else names_of(weights)[0]
                    self.assertTrue(same_bits(runs.run(None, {"x": self.x, **more})[0], expected))

    def test_stored_types(self):
        for dtype, store, exact in itertools.product(self.FLOATS, self.STORES, (None, 0, 1)):
            weights = self.narrow(dtype, dtype, dtype)
            attributes = {"depth": 6, "trees": 2, "store": store, "exact_routes": exact}
            attributes = {name: value for name, value in attributes.items() if value is not None}
            with self.subTest(dtype=dtype, **attributes):
                found = session(path_fff_model(weights, **attributes)).run(None, {"x": self.x})[0]
                expected = layer_of(weights, 6, 2, store=store, exact_routes=bool(exact))(self.x)
                self.assertTrue(same_bits(found, expected))

    def test_stored_types_differ(self):
        """What the test above compares would be other bits if an attribute were passed over."""
        found = [session(path_fff_model(self.weights, depth=6, trees=2, **more)).run(None, {"x": self.x})[0]
                 for more in ({}, {"store": "bf16"}, {"store": "f16"}, {"store": "i8"}, {"store": "bf16+i8"},
                              {"store": "i8+bf16"}, {"store": "i8", "exact_routes": 1})]
        for one, other in itertools.combinations(found, 2):
            self.assertFalse(same_bits(one, other))

    def test_int8_weights(self):
        """int8 weights with scales, of one matrix or both, as constants and as inputs of the model."""
        def rounded(weight: np.ndarray, of_rows: int) -> tuple[np.ndarray, np.ndarray]:
            scales = np.abs(weight).max(1 - of_rows) / 127
            return np.round(weight / np.expand_dims(scales, 1 - of_rows)).astype(np.int8), scales.astype(np.float32)

        (into, input_scales), (out, output_scales) = rounded(self.weights[0], 0), rounded(self.weights[1], 1)
        first = {"input_weight": into, "input_scales": input_scales}
        second = {"output_weight": out, "output_scales": output_scales}
        for more, store, constant in itertools.product((first, second, {**first, **second}), ("", "f32", "bf16"),
                                                       (True, False)):
            weights, attributes = self.weights._replace(**more), {"store": store} if store else {}
            with self.subTest(int8=list(more), store=store, constant=constant):
                expected = layer_of(weights, 6, 2, **attributes)(self.x)
                runs = session(path_fff_model(weights, constant=constant, depth=6, trees=2, **attributes))
                found = runs.run(None, {"x": self.x, **({} if constant else names_of(weights)[0])})[0]
                self.assertTrue(same_bits(found, expected))

    def test_thresholds_and_factor(self):
        """Each of them, of each type, and other bits than without."""
        rows = len(self.weights.input_weight)
        thresholds = self.random.standard_normal(rows).astype(np.float32)
        plain = session(path_fff_model(self.weights, depth=6, trees=2)).run(None, {"x": self.x})[0]
        for dtype in self.FLOATS:
            for more in ({"thresholds": as_type(thresholds, dtype)}, {"factor": as_type(np.float32([0.75]), dtype)},
                         {"thresholds": as_type(thresholds, dtype), "factor": as_type(np.float32([-3]), dtype)}):
                weights = self.weights._replace(**more)
                # NumPy's factor is a number, of which it has no bfloat16.
                wide = weights if weights.factor is None else weights._replace(factor=widened(weights.factor))
                for constant in (True, False)[:1 if dtype is BFLOAT16 else 2]:
                    with self.subTest(dtype=dtype, given=list(more), constant=constant):
                        runs = session(path_fff_model(weights, constant=constant, depth=6, trees=2))
                        found = runs.run(None, {"x": self.x, **({} if constant else names_of(weights)[0])})[0]
                        self.assertTrue(same_bits(found, layer_of(wide, 6, 2)(self.x)))
                        self.assertFalse(same_bits(found, plain))

    def test_types_of_tokens(self):
        """Results have the tokens' type. 1000 tokens are shared out on threads."""
        for trial, (dtype, of_weights) in enumerate(itertools.product(self.FLOATS, repeat=2)):
            weights = self.narrow(of_weights, of_weights, of_weights)
            layer = layer_of(weights, 6, 2)
            for batch in (0, 1, 9, 1000):
                x = as_type(self.random.standard_normal((batch, 48), np.float32), dtype)
                with self.subTest(dtype=dtype, weights=of_weights, batch=batch):
                    if dtype is BFLOAT16:
                        model = path_fff_model(weights, cast_to=TensorProto.BFLOAT16, depth=6, trees=2)
                        given, expected = widened(x), widened(layer(x))
                    else:
                        kind = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.FLOAT
                        model = path_fff_model(weights, x_type=kind, depth=6, trees=2)
                        given, expected = x, layer(x)
                    found = session(model, 1 + trial % 2).run(None, {"x": given})[0]
                    self.assertTrue(same_bits(found, expected))

    def test_shape_that_is_not_known(self):
        """The output's type is known all the same."""
        for kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            runs = session(path_fff_model(self.weights, cast_to=kind, x_shape=("", None), depth=6, trees=2))
            x = as_type(self.x, np.float16 if kind == TensorProto.FLOAT16 else BFLOAT16)
            expected = widened(layer_of(self.weights, 6, 2)(x))
            self.assertTrue(same_bits(runs.run(None, {"x": widened(x)})[0], expected))

    def test_shared_on_threads(self):
        """Tokens of 16 bits in a layer large enough that batches are shared out as tasks."""
        weights = make_weights(self.random, 11, 1, 768, 768)
        x = self.random.standard_normal((1000, 768), np.float32).astype(np.float16)
        expected = layer_of(weights, 11, 1, store="bf16+i8", exact_routes=True)(x)
        for threads in (1, 2, 3):
            runs = session(path_fff_model(weights, x_type=TensorProto.FLOAT16, depth=11, store="bf16+i8",
                                          exact_routes=1), threads)
            self.assertTrue(same_bits(runs.run(None, {"x": x})[0], expected))

    @unittest.skipIf(tuple(map(int, ort.__version__.split(".")[:2])) < (1, 24), "no shape inference before 1.24")
    def test_output_shape_is_inferred(self):
        runs = session(path_fff_model(self.weights, depth=6, trees=2, x_shape=("sequences", 9, None),
                                      x_type=TensorProto.FLOAT16))
        self.assertEqual(runs.get_outputs()[0].shape, ["sequences", 9, 40])
        self.assertEqual(runs.get_outputs()[0].type, "tensor(float16)")

    def test_biases_are_widened_exactly(self):
        """Every finite float16: where x is 0, each output is a bias."""
        every = np.arange(2 ** 16, dtype=np.uint16).view(np.float16)
        for bias in every[np.isfinite(every)].reshape(-1, 1024):
            weights = Weights(np.zeros((1024, 1), np.float32), np.eye(1024, dtype=np.float32), bias)
            runs = session(path_fff_model(weights, depth=0, trees=1024, activation="identity"))
            found = runs.run(None, {"x": np.zeros((1, 1), np.float32)})[0]
            self.assertTrue(np.array_equal(found[0], bias.astype(np.float32)))
        for bias in (np.inf, -np.inf, np.nan):
            weights = Weights(*np.ones((2, 1, 1), np.float32), np.array([bias], np.float16))
            runs = session(path_fff_model(weights, depth=0, activation="identity"))
            found = runs.run(None, {"x": np.zeros((1, 1), np.float32)})[0]
            self.assertTrue(np.array_equal(found, [[bias]], equal_nan=True))


class Threads(unittest.TestCase):
    def test_one_session_on_many_threads(self):
        """Constant weights and changing ones, batches small and shared out, eight threads at once."""
        random = np.random.default_rng(SEED)
        weights = make_weights(random, 8, 2, 256, 128)
        layer = layer_of(weights, 8, 2)
        for constant, rounds in ((True, 60), (False, 6)):
            runs = session(path_fff_model(weights, constant=constant, depth=8, trees=2), threads=2)
            more = {} if constant else names_of(weights)[0]
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
        for store in ("f64", "", "bf16+", "+i8", "bf16+i8+i8", "BF16", "f32 ", "i8," * 100, 1):
            told = store if isinstance(store, str) and len(store) < 32 else ""
            self.refuses(where + f"store is '{re.escape(told)}', not one of the strings f32, bf16, f16, i8, nor two of "
                         r"them with a \+ between", store=store)
        self.refuses(where + "exact_routes is 2, not from 0 to 1", exact_routes=2)
        self.refuses(where + "exact_routes is no integer", exact_routes="yes")

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
        for name, value in names_of(self.weights)[0].items():
            wide = spoil(**{name: value.astype(np.float64)})
            self.refuses(f"{where}{name} is not float32, float16{' or bfloat16' if name == 'bias' else ', bfloat16 or int8'}", wide)
        large = self.weights.output_weight.copy()
        large[5, 7] = 70000
        self.refuses(where + r"output_weight\[5, 7\]: .*does not fit", spoil(output_weight=large), store="f16")
        large = self.weights.input_weight.copy()
        large[7, 5] = np.nan
        self.refuses(where + r"input_weight\[7, 5\]: .*does not fit", spoil(input_weight=large), store="i8")

    def test_thresholds_and_factor(self):
        where, spoil = "fff:PathFFF node 'ffn': ", self.weights._replace
        self.refuses(where + "thresholds has 29 in dimension 0, where depth 3 and trees 2 make 30 nodes",
                     spoil(thresholds=np.zeros(29, np.float32)))
        self.refuses(where + "weights: .*threshold", spoil(thresholds=np.full(30, np.inf, np.float32)))
        self.refuses(where + "factor has 30 elements, not 1", spoil(factor=np.ones(30, np.float32)))
        self.refuses(where + "weights: .*factor", spoil(factor=np.full(1, np.nan, np.float32)))

    def test_scales(self):
        """Missing, needless, of a wrong shape or value."""
        where = "fff:PathFFF node 'ffn': "
        small = self.weights._replace(input_weight=np.ones((30, 16), np.int8), output_weight=np.ones((12, 30), np.int8),
                                      input_scales=np.ones(30, np.float32), output_scales=np.ones(30, np.float32))
        session(path_fff_model(small, depth=3, trees=2))
        for name, weight in (("input_scales", "input_weight"), ("output_scales", "output_weight")):
            self.refuses(f"{where}{name} are missing, where {weight} is int8", small._replace(**{name: None}))
            self.refuses(f"{where}{name} are for int8 weights, and {weight} is f32",
                         self.weights._replace(**{name: getattr(small, name)}))
            self.refuses(f"{where}{name} has 29 in dimension 0", small._replace(**{name: getattr(small, name)[:-1]}))
            spoilt = getattr(small, name).copy()
            spoilt[17] = 0
            self.refuses(rf"{where}{name}\[17\]: scales", small._replace(**{name: spoilt}))
        low = small.output_weight.copy()
        low[9, 17] = -128
        self.refuses(where + r"output_weight\[9, 17\]: .*does not fit", small._replace(output_weight=low))

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
        for wrong in (TensorProto.DOUBLE, TensorProto.INT64):
            with self.subTest(type=wrong), self.assertRaisesRegex(Refused, "PathFFF"):
                session(path_fff_model(self.weights, depth=3, trees=2, x_type=wrong))

    def test_output_of_another_type(self):
        """The model says float32 where X is float16, or the other way about."""
        types = (TensorProto.FLOAT, TensorProto.FLOAT16)
        for x_type, y_type in (types, types[::-1]):
            refused = self.assertRaisesRegex(Refused, "of output arg .* of node .ffn. does not match")
            with self.subTest(x_type=x_type), refused:
                session(path_fff_model(self.weights, depth=3, trees=2, x_type=x_type, y_type=y_type))

    def test_changing_weights_that_do_not_fit(self):
        runs = session(path_fff_model(self.weights, constant=False, depth=3, trees=2))
        wrong = self.weights._replace(bias=np.zeros(7, np.float32))
        with self.assertRaises(Refused):
            runs.run(None, {"x": np.zeros((1, 16), np.float32), **names_of(wrong)[0]})

    def test_kinds_of_failures_of_a_run(self):
        """What libfff refuses is an invalid argument; that the memory is wanting is none."""
        os.environ["FFF_ISA"] = "no_such_set"
        self.addCleanup(os.environ.pop, "FFF_ISA", None)
        runs = session(path_fff_model(self.weights, constant=False, depth=3, trees=2))
        with self.assertRaisesRegex(InvalidArgument, "fff:PathFFF node 'ffn': weights: no instruction set"):
            runs.run(None, {"x": np.zeros((1, 16), np.float32), **names_of(self.weights)[0]})

    def test_missing_input(self):
        with self.assertRaises(Refused):
            session(path_fff_model(self.weights, depth=3, trees=2, inputs=["x", "input_weight"]))


if __name__ == "__main__":
    print(f"ONNX Runtime {ort.__version__}, libfff {fff.version()}, {', '.join(fff.isas())}, FFF_TEST_SEED={SEED}")
    unittest.main()
