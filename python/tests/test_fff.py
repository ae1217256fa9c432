"""The Python package against the dense definition in NumPy, and against whatever may be thrown at it.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff.py
"""

import concurrent.futures
import gc
import math
import os
import platform
import random
import threading
import time
import unittest
from unittest import mock

import numpy as np

import fff
from fff import _c

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
BFLOAT16S = [BFLOAT16] if ml_dtypes is None else [BFLOAT16, np.dtype(ml_dtypes.bfloat16)]


def make(depth=4, trees=3, width=33, out=21, seed=1):
    rng = np.random.default_rng(seed)
    rows = trees * fff.nodes_per_tree(depth)
    w_in = rng.standard_normal((rows, width), np.float32) / np.float32(math.sqrt(width))
    w_out = rng.standard_normal((rows, out), np.float32)
    return w_in, w_out, rng.standard_normal(rows, np.float32) * np.float32(0.1)


def dense(x, w_in, w_out, biases, depth, trees):
    """The definition, in float64: all neurons, those off the path left out."""
    z = x.astype(np.float64) @ w_in.astype(np.float64).T + biases
    gelu = z / 2 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    nodes, mask = fff.nodes_per_tree(depth), np.zeros_like(z)
    for token in range(len(x)):
        for tree in range(trees):
            node = 0
            for _ in range(depth + 1):
                mask[token, tree * nodes + node] = 1
                node = 2 * node + 1 + (z[token, tree * nodes + node] > 0)
    return (gelu * mask) @ w_out.astype(np.float64)


class Computes(unittest.TestCase):
    def setUp(self):
        self.w_in, self.w_out, self.biases = make()
        self.layer = fff.Layer(self.w_in, self.w_out, depth=4, trees=3, biases=self.biases)
        self.x = np.random.default_rng(2).standard_normal((50, 33), np.float32)

    def test_definition(self):
        expected = dense(self.x, self.w_in, self.w_out, self.biases, 4, 3)
        np.testing.assert_allclose(self.layer(self.x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())

    def test_same_bits(self):
        expected = self.layer(self.x).tobytes()
        for isa in fff.isas():
            layer = fff.Layer(self.w_in, self.w_out, depth=4, trees=3, biases=self.biases, isa=isa)
            self.assertEqual(layer.isa, isa)
            self.assertEqual(layer(self.x).tobytes(), expected)
            self.assertEqual(b"".join(layer(row).tobytes() for row in self.x), expected)
            self.assertEqual(layer.accumulate(*layer.route(self.x)).tobytes(), expected)
        for count in (1, 2, 5):
            with fff.Threads(count) as threads:
                self.assertEqual(self.layer(self.x, threads=threads).tobytes(), expected)
                many = np.tile(self.x, (40, 1))
                self.assertEqual(self.layer(many, threads=threads).tobytes(), expected * 40)

    def test_weights_in_either_orientation(self):
        transposed = np.ascontiguousarray(self.w_out.T)  # as PyTorch stores linear_out.weight
        layer = fff.Layer(self.w_in, transposed.T, depth=4, trees=3, biases=self.biases)
        self.assertEqual(layer(self.x).tobytes(), self.layer(self.x).tobytes())

    def test_out_and_strides(self):
        expected = self.layer(self.x)
        out = np.full((50, 30), 7, np.float32)
        self.assertIs(self.layer(self.x, out=out[:, 3:24]).base, out)
        np.testing.assert_array_equal(out[:, 3:24], expected)
        self.assertTrue((out[:, :3] == 7).all() and (out[:, 24:] == 7).all())
        wide = np.zeros((50, 40), np.float32)
        wide[:, 5:38] = self.x
        np.testing.assert_array_equal(self.layer(wide[:, 5:38]), expected)
        np.testing.assert_array_equal(self.layer(self.x[::2]), expected[::2])
        one = np.empty(21, np.float32)
        self.assertIs(self.layer(self.x[7], out=one), one)
        np.testing.assert_array_equal(one, expected[7])
        self.assertEqual(self.layer(self.x[:0]).shape, (0, 21))

    def test_any_layout_is_read(self):
        expected = self.layer(self.x)
        unaligned = np.zeros(self.x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(self.x.shape)
        unaligned[:] = self.x
        fixed = self.x.copy()
        fixed.flags.writeable = False
        windows = np.lib.stride_tricks.sliding_window_view(self.x.ravel(), 33)[:100]
        reversed_columns = np.ascontiguousarray(self.x[:, ::-1])[:, ::-1]
        for what, x, right in [
            ("negative stride", self.x[::-1], expected[::-1]),
            ("broadcast", np.broadcast_to(self.x[:1], (7, 33)), np.repeat(expected[:1], 7, axis=0)),
            ("Fortran order", np.asfortranarray(self.x), expected), ("unaligned", unaligned, expected),
            ("read-only", fixed, expected), ("backward rows", reversed_columns, expected),
            ("overlapping rows", windows, self.layer(windows.copy())), ("matrix", self.x.view(np.matrix), expected),
        ]:
            with self.subTest(what):
                self.assertEqual(self.layer(x).tobytes(), right.tobytes())
                self.assertIs(type(self.layer(x)), np.ndarray)
                nodes, logits = self.layer.route(x)
                other = np.asfortranarray(nodes), logits.repeat(2, axis=0)[::2]
                self.assertEqual(self.layer.accumulate(*other).tobytes(), right.tobytes())
                self.assertEqual(fff.activate(x).tobytes(), fff.activate(x.copy()).tobytes())

    def test_any_number_of_dimensions(self):
        expected = self.layer(self.x)
        nodes, logits = self.layer.route(self.x)
        for shape in [(5, 10), (1, 50), (50, 1), (5, 2, 5), (2, 0), (0, 2), (1, 1, 0, 3)]:
            count = math.prod(shape)
            x = self.x[:count].reshape(*shape, 33)
            with self.subTest(shape):
                self.assertEqual(self.layer(x).shape, (*shape, 21))
                self.assertEqual(self.layer(x).tobytes(), expected[:count].tobytes())
                found = self.layer.route(x)
                self.assertEqual([array.shape for array in found], [(*shape, 15)] * 2)
                self.assertEqual(found[1].tobytes(), logits[:count].tobytes())
                out = np.full((*shape, 30), 7, np.float32)
                self.assertIsNotNone(self.layer.accumulate(*found, out=out[..., 3:24]))
                self.assertEqual(out[..., 3:24].tobytes(), expected[:count].tobytes())
                self.assertTrue((out[..., :3] == 7).all() and (out[..., 24:] == 7).all())
        one = self.layer.route(self.x[7])
        self.assertEqual([array.tobytes() for array in one], [nodes[7].tobytes(), logits[7].tobytes()])
        self.assertEqual(self.layer.accumulate(*one).tobytes(), expected[7].tobytes())
        transposed = self.x[:48].reshape(6, 8, 33).transpose(1, 0, 2)  # not to be flattened without a copy
        np.testing.assert_array_equal(self.layer(transposed), expected[:48].reshape(6, 8, 21).transpose(1, 0, 2))
        self.assertEqual(fff.activate(np.float32(1.5)[...]).shape, ())

    def test_weights_of_any_layout(self):
        expected = self.layer(self.x).tobytes()
        for change in (lambda a: np.ascontiguousarray(a[::-1])[::-1], np.asfortranarray,
                       lambda a: a.repeat(2, axis=-1)[..., ::2]):
            layer = fff.Layer(change(self.w_in), change(self.w_out), depth=4, trees=3, biases=change(self.biases))
            self.assertEqual(layer(self.x).tobytes(), expected)
        same = fff.Layer(np.broadcast_to(self.w_in[:1], self.w_in.shape), self.w_out, depth=4, trees=3)
        copied = fff.Layer(np.repeat(self.w_in[:1], len(self.w_in), axis=0), self.w_out, depth=4, trees=3)
        self.assertEqual(same(self.x).tobytes(), copied(self.x).tobytes())

    def test_route(self):
        nodes, logits = self.layer.route(self.x)
        self.assertEqual(nodes.shape, (50, 15))
        paths = nodes.reshape(50, 3, 5).astype(int)
        right = logits.reshape(50, 3, 5)[:, :, :-1] > 0
        np.testing.assert_array_equal(paths[:, :, 1:], 2 * paths[:, :, :-1] + 1 + right)
        self.assertTrue((paths[:, :, 0] == 0).all())

    def test_activate(self):
        z = np.linspace(-5, 5, 1001, dtype=np.float32)
        expected = [v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in z.astype(float)]
        np.testing.assert_allclose(fff.activate(z), expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(fff.activate(z, "relu"), np.maximum(z, 0))

    def test_many_threads_at_once(self):
        expected = self.layer(self.x).tobytes()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            results = pool.map(lambda _: self.layer(self.x).tobytes(), range(200))
            self.assertEqual(set(results), {expected})

    def test_lock_is_released(self):
        """Another Python thread goes on while the library works."""
        w_in, w_out, biases = make(depth=10, trees=1, width=512, out=512)
        layer, x = fff.Layer(w_in, w_out, depth=10, biases=biases, isa="generic"), np.ones((20000, 512), np.float32)
        times, started, done = [], threading.Event(), threading.Event()

        def note():
            while not done.wait(0.001):
                times.append(time.perf_counter())
                started.set()

        other = threading.Thread(target=note)
        other.start()
        started.wait()
        begin = time.perf_counter()
        layer(x)
        took = time.perf_counter() - begin
        done.set()
        other.join()
        # Before and after the library's work the lock is free anyhow.
        self.assertGreater(sum(begin + took / 4 < when < begin + took * 3 / 4 for when in times), 1)

    def test_workspace_of_a_call_within_another(self):
        """As from a signal's handler: it does not find the workspace of the call that it interrupts."""
        expected, usual, places = self.layer(self.x).tobytes(), _c.library.fff_forward, []

        def interrupted(*arguments):
            places.append(arguments[6])
            if len(places) < 3:
                self.assertEqual(self.layer(self.x).tobytes(), expected)
            return usual(*arguments)

        with mock.patch.object(_c.library, "fff_forward", interrupted):
            self.assertEqual(self.layer(self.x).tobytes(), expected)
        self.assertEqual(len(set(places)), 3)

    def test_layers_are_freed(self):
        def memory():
            with open("/proc/self/statm", encoding="ascii") as file:
                return int(file.read().split()[1])

        w_in, w_out, biases = make(depth=10, trees=1, width=512, out=512)
        for i in range(60):
            fff.Layer(w_in, w_out, depth=10, biases=biases)
            if i == 10:
                gc.collect()
                start = memory()
        gc.collect()
        self.assertLess(memory() - start, 25000)  # pages; 50 layers have 100000

    def test_cpu(self):
        found = fff.cpu()
        self.assertEqual(found.usable[0], "generic")
        self.assertIn(found.chosen, found.usable)
        self.assertEqual(found.chosen, os.environ.get("FFF_ISA") or found.usable[-1])
        self.assertTrue(all(isinstance(value, bool) for value in found.features.values()))
        if platform.system() == "Linux" and platform.machine() == "x86_64":
            with open("/proc/cpuinfo", encoding="ascii") as file:
                flags = next(line for line in file if line.startswith("flags")).replace("_", "").split()
            self.assertEqual(found.features, {name: name.replace("_", "") in flags for name in found.features})
        self.assertRegex(fff.version(), r"^\d+\.\d+\.\d+$")

    def test_advice(self):
        """What a message advises must not lose results, nor take bits for numbers."""
        layer = fff.Layer(*make()[:2], depth=4, trees=3)
        x = np.zeros((2, 33), np.float32)
        with self.assertRaisesRegex(TypeError, r"numpy.empty\(\(2, 21\), numpy.float32\)$"):
            layer(x, out=np.zeros((2, 21)))
        with self.assertRaisesRegex(TypeError, "numpy.empty makes one"):
            layer(x, out=[[0.0] * 21] * 2)
        for dtype in (np.float32, np.float16):
            masked = np.ma.masked_array(np.zeros((2, 21), dtype), fill_value=7)
            with self.assertRaisesRegex(TypeError, r"masked array.*: out\.data is the plain array in it$"):
                layer(x, out=masked)  # out.filled() would be a copy
            self.assertIs(layer(x + 1, out=masked.data).base, masked.data.base)
            self.assertTrue((masked.data != 0).any())
        with self.assertRaisesRegex(TypeError, r"x is a masked array.*: x\.filled\(\)"):
            layer(np.ma.masked_array(x))
        with self.assertRaisesRegex(TypeError, r"bfloat16's bits, \w+.view"):
            fff.Layer(make()[0].astype(np.uint16), make()[1], depth=4, trees=3)


def rounded(array, dtype):
    """To float16 or bfloat16: to nearest, ties to even. By comparing the distances of the two neighbours in float64."""
    if dtype == np.float16:
        with np.errstate(over="ignore"):
            return array.astype(np.float16)
    low = array.view(np.uint32) >> 16 << 16
    high = low + 0x10000
    down, up = (np.abs(array.astype(np.float64) - bits.view(np.float32)) for bits in (low, high))
    take_high = (up < down) | ((up == down) & (low >> 16 & 1 == 1))
    return (np.where(take_high, high, low) >> 16).astype(np.uint16).view(dtype)


def wide(array):
    """A 16-bit array as float32."""
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


class Narrow(unittest.TestCase):
    """Weights and tokens of 16 and 8 bits."""

    def setUp(self):
        self.w_in, self.w_out, self.biases = make()
        self.shape = {"depth": 4, "trees": 3}
        self.x = np.random.default_rng(3).standard_normal((50, 33), np.float32)

    def layer(self, w_in, w_out, **options):
        return fff.Layer(w_in, w_out, **{"biases": self.biases, **self.shape, **options})

    def test_given_16_bits(self):
        """The layer of the same numbers in float32, whatever the layout; half as large."""
        for dtype in [np.dtype(np.float16), *BFLOAT16S]:
            w_in, w_out = rounded(self.w_in, dtype), rounded(self.w_out, dtype)
            biases = rounded(self.biases, dtype)
            expected = self.layer(wide(w_in), wide(w_out), biases=wide(biases))
            name = "f16" if dtype == np.float16 else "bf16"
            for change in (np.array, np.asfortranarray, lambda a: a[::-1].copy()[::-1]):
                layer = self.layer(change(w_in), change(w_out), biases=biases)
                self.assertEqual((layer.input_type, layer.output_type), (name, name))
                self.assertEqual(layer(self.x).tobytes(), expected(self.x).tobytes())
            self.assertLess(layer.memory, expected.memory)
            stored = self.layer(self.w_in, self.w_out, store=name, biases=wide(biases))
            self.assertEqual(stored(self.x).tobytes(), expected(self.x).tobytes())
            self.assertNotEqual(self.layer(self.w_in, self.w_out, biases=wide(biases))(self.x).tobytes(), expected(self.x).tobytes())

    def test_alignment(self):
        def moved(array):
            return np.frombuffer(b"?" + array.tobytes(), array.dtype, offset=1).reshape(array.shape)

        for dtype in [np.dtype(np.float32), np.dtype(np.float16), *BFLOAT16S]:
            w_in, w_out, x = (array if dtype == np.float32 else rounded(array, dtype) for array in (self.w_in, self.w_out, self.x))
            expected = self.layer(w_in, w_out)(x).tobytes()
            self.assertEqual(self.layer(moved(w_in), moved(w_out))(moved(x)).tobytes(), expected)
            self.assertEqual(self.layer(moved(w_in), moved(w_out.T).T, biases=moved(self.biases))(x).tobytes(), expected)
            w1s, w2s = w_in[:8, :].reshape(2, 33, 4), w_out[:8].reshape(2, 4, 21)
            of_leaves = fff.LeafLayer(w_in[:1], None, w1s, None, w2s, None, depth=1)(x).tobytes()
            self.assertEqual(fff.LeafLayer(moved(w_in[:1]), None, moved(w1s), None, moved(w2s), None, depth=1)(x).tobytes(), of_leaves)

    def test_stores(self):
        f32 = self.layer(self.w_in, self.w_out)
        self.assertEqual((f32.input_type, f32.output_type), ("f32", "f32"))
        for store, types in [(None, ("f32", "f32"))] + [(f"{a}+{b}", (a, b)) for a in fff.STORES for b in fff.STORES] + [
                (a, (a, a)) for a in fff.STORES]:
            layer = self.layer(self.w_in, self.w_out, store=store, exact_routes=True)
            self.assertEqual((layer.input_type, layer.output_type), types)
            np.testing.assert_array_equal(layer.route(self.x)[0], f32.route(self.x)[0])
            error = np.abs(layer(self.x) - f32(self.x)).max() / np.abs(f32(self.x)).max()
            self.assertLess(error, 0.05)
            self.assertEqual(error == 0, types == ("f32", "f32"))
        for wrong in ("fp16", "bf16+", "+i8", "i8+i8+i8", "", "BF16", 16, b"bf16"):
            with self.assertRaisesRegex(ValueError, "f32, bf16, f16, i8"):
                self.layer(self.w_in, self.w_out, store=wrong)

    def test_exact_routes_matter(self):
        """Without them int8 input rows route some tokens elsewhere: else the test above would show nothing."""
        x = np.random.default_rng(4).standard_normal((2000, 33), np.float32)
        routes = [self.layer(self.w_in, self.w_out, store="i8", exact_routes=exact).route(x)[0] for exact in (False, True)]
        self.assertTrue((routes[0] != routes[1]).any())

    def test_given_int8(self):
        rng = np.random.default_rng(5)
        w_in = rng.integers(-127, 128, self.w_in.shape).astype(np.int8)
        w_out = rng.integers(-127, 128, self.w_out.shape).astype(np.int8)
        scales = [rng.uniform(0.001, 0.01, len(w_in)).astype(np.float32) for _ in range(2)]
        both = {"input_scales": scales[0], "output_scales": scales[1]}
        layer = self.layer(w_in, w_out, **both)
        self.assertEqual((layer.input_type, layer.output_type), ("i8", "i8"))
        numbers = [w * scale[:, None] for w, scale in zip((w_in, w_out), scales)]  # float32
        expected = dense(self.x, *numbers, self.biases, 4, 3)
        np.testing.assert_allclose(self.layer(w_in, w_out, **both, store="f32")(self.x), self.layer(*numbers)(self.x))
        exact = self.layer(w_in, w_out, **both, exact_routes=True)
        self.assertLess(np.abs(exact(self.x) - expected).max(), 0.05 * np.abs(expected).max())
        mixed = self.layer(numbers[0], w_out, output_scales=scales[1])
        self.assertEqual((mixed.input_type, mixed.output_type), ("f32", "i8"))
        # the factors of a tree are integers of 16 bits: docs/numerics.md bounds what that adds
        nodes, logits = (array.reshape(-1, 3, 5) for array in mixed.route(self.x))
        rows = nodes + fff.nodes_per_tree(4) * np.arange(3)[:, None]
        largest = (np.abs(logits) * scales[1][rows]).max(-1, keepdims=True)  # |GELU(z)| <= |z|
        added = (0.507 / 32767 * largest[..., None] * np.abs(w_out[rows].astype(np.float64))).sum((1, 2))
        self.assertTrue((np.abs(mixed(self.x) - expected) <= added + 1e-5 * np.abs(expected).max()).all())
        # scales that cannot be used
        bad = scales[1].copy()
        bad[17] = np.nan
        for words, options in [("input_scales, row 0", {}), ("output_scales, row 0", {"input_scales": scales[0]}),
                               ("output_scales, row 17", {**both, "output_scales": bad})]:
            with self.assertRaisesRegex(fff.Error, words) as caught:
                self.layer(w_in, w_out, **options)
            self.assertEqual(caught.exception.status, fff.Status.SCALE)
        for error, options in [(ValueError, {**both, "input_scales": bad[:-1]}), (TypeError, {**both, "input_scales": 0.1}),
                               (TypeError, {**both, "output_scales": bad.astype(np.float64)})]:
            self.assertRaises(error, self.layer, w_in, w_out, **options)
        self.assertRaisesRegex(ValueError, "input_weights is f32", self.layer, *numbers, input_scales=scales[0])

    def test_weights_that_do_not_fit(self):
        for value, store in ((1e5, "f16"), (np.nan, "i8"), (np.inf, "f32+i8")):
            w_out = self.w_out.copy()
            w_out[40, 7] = value
            with self.assertRaisesRegex(fff.Error, "output_weights, row 40, column 7") as caught:
                self.layer(self.w_in, w_out, store=store)
            self.assertEqual(caught.exception.status, fff.Status.WEIGHT)
            self.assertTrue(np.isfinite(self.layer(self.w_in, self.w_out, store=store)(self.x)).all())
        w_in = np.ones(self.w_in.shape, np.int8)
        w_in[3, 32] = -128
        with self.assertRaisesRegex(fff.Error, "input_weights, row 3, column 32"):
            self.layer(w_in, self.w_out, input_scales=np.ones(len(w_in), np.float32))

    def test_tokens_of_16_bits(self):
        """Widened, and the result rounded once."""
        layer = self.layer(self.w_in, self.w_out)
        for dtype in [np.dtype(np.float16), *BFLOAT16S]:
            x = rounded(self.x, dtype)
            full = layer(wide(x))
            expected = rounded(full, dtype)
            for change in (np.array, np.asfortranarray, lambda a: a[::-1].copy()[::-1]):
                y = layer(change(x))
                self.assertEqual(y.dtype, dtype)
                self.assertEqual(y.tobytes(), expected.tobytes())
            self.assertEqual(layer(x.reshape(5, 2, 5, 33)).tobytes(), expected.tobytes())
            self.assertEqual(layer(x[0]).tobytes(), expected[0].tobytes())
            self.assertEqual(layer(x[:0]).shape, (0, 21))
            self.assertEqual([part.tobytes() for part in layer.route(x)], [part.tobytes() for part in layer.route(wide(x))])
            with fff.Threads(2) as threads:
                self.assertEqual(layer(x, threads=threads).tobytes(), expected.tobytes())
            # out= of another type than the tokens
            out = np.zeros((50, 30), np.float32)
            layer(x, out=out[:, 2:23])
            self.assertEqual(out[:, 2:23].tobytes(), full.tobytes())
            out = np.zeros((50, 30), dtype)
            self.assertIs(layer(wide(x), out=out[:, 2:23]).base, out)
            self.assertEqual(out[:, 2:23].tobytes(), expected.tobytes())
            self.assertFalse(out[:, :2].view(np.uint16).any() or out[:, 23:].view(np.uint16).any())
            self.assertEqual(layer.accumulate(*layer.route(x), out=out[:, 2:23]).tobytes(), expected.tobytes())

    def test_rounding(self):
        """Ties, the largest numbers, the smallest, infinity and NaN, through a layer that only copies."""
        one = fff.Layer(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), depth=0, activation="identity")
        numbers = np.array([1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 3.39e38, 65519, 65520, 1e-8, 2 ** -25,
                            3 * 2 ** -25, 1e-40, np.inf, -np.inf, -1.01], np.float32).reshape(-1, 1)
        for dtype in [np.dtype(np.float16), *BFLOAT16S]:
            out = np.zeros(numbers.shape, dtype)
            one(numbers, out=out)
            finite = np.isfinite(numbers)
            self.assertEqual(out[finite].tobytes(), rounded(numbers[finite], dtype).tobytes())
            np.testing.assert_array_equal(wide(out)[~finite], numbers[~finite])
            nan = np.array([0x7f800001, 0xffffffff, 0x7fc00000], np.uint32).view(np.float32).reshape(-1, 1)
            self.assertTrue(np.isnan(wide(one(nan, out=out[:3]))).all())


class Refuses(unittest.TestCase):
    def setUp(self):
        self.w_in, self.w_out, self.biases = make()
        self.layer = fff.Layer(self.w_in, self.w_out, depth=4, trees=3, biases=self.biases)

    def test_layers(self):
        w_in, w_out, biases = self.w_in, self.w_out, self.biases
        for error, arguments in [
            (TypeError, {"input_weights": w_in.tolist()}),
            (TypeError, {"input_weights": w_in.astype(np.float64)}),
            (TypeError, {"output_weights": w_out.astype(np.int16)}),
            (TypeError, {"output_weights": w_out.astype(">f2")}),
            (TypeError, {"input_weights": w_in.astype(">f4")}),
            (ValueError, {"input_weights": w_in[:-1]}),
            (ValueError, {"input_weights": w_in[None]}),
            (ValueError, {"output_weights": w_out[:5]}),
            (ValueError, {"biases": biases[:-1]}),
            (TypeError, {"biases": biases.astype(np.float64)}),
            (ValueError, {"depth": 3}),
            (ValueError, {"depth": -1}),
            (ValueError, {"depth": 31}),
            (ValueError, {"trees": 0}),
            (ValueError, {"activation": "softplus"}),
            (ValueError, {"routing": "<"}),
            (fff.Error, {"isa": "mmx"}),
            (fff.Error, {"input_weights": w_in[:, :0]}),
            (TypeError, {"input_weights": np.ma.masked_array(w_in)}),
            (TypeError, {"depth": 4.0}),
            (TypeError, {"trees": "3"}),
            (ValueError, {"trees": 1 << 70}),
            (ValueError, {"sleef": "other"}),
            (fff.Error, {"isa": None}),
            (fff.Error, {"isa": "generic\0"}),
        ]:
            with self.subTest(arguments=list(arguments)), self.assertRaises(error):
                fff.Layer(**{"input_weights": w_in, "output_weights": w_out, "depth": 4, "trees": 3, "biases": biases}
                          | arguments)

    def test_tokens(self):
        x = np.zeros((5, 33), np.float32)
        out = np.zeros((5, 21), np.float32)
        fixed = out.copy()
        fixed.flags.writeable = False
        for error, arguments in [
            (TypeError, (None,)), (TypeError, ([1.0] * 33,)), (TypeError, (x.astype(np.float64),)),
            (TypeError, (x.astype(np.int32),)), (TypeError, (x.astype(">f2"),)), (TypeError, (x.astype(">f4"),)),
            (ValueError, (x[:, :32],)), (ValueError, (x.T,)), (ValueError, (x[0, 0, ...],)),
            (TypeError, (np.ma.masked_array(x),)), (TypeError, (x[0, 0],)),
        ]:
            with self.subTest(arguments=arguments), self.assertRaises(error):
                self.layer(*arguments)
        unaligned = np.zeros(5 * 21 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(5, 21)
        overlapping = np.lib.stride_tricks.as_strided(out, (5, 21), (40, 4))
        for error, wrong in [
            (ValueError, out[:4]), (ValueError, out[:, :20]), (TypeError, out.astype(np.float64)), (ValueError, fixed),
            (ValueError, out.astype(np.float16)[:, ::-1]), (ValueError, out.astype(np.float16)[:4]),
            (TypeError, "out"), (ValueError, unaligned), (ValueError, out[::-1]), (ValueError, out[:, ::-1]),
            (ValueError, np.asfortranarray(out)), (ValueError, overlapping), (ValueError, out[None]),
            (TypeError, np.ma.masked_array(out)),
        ]:
            with self.subTest(out=type(wrong)), self.assertRaises(error):
                self.layer(x, out=wrong)
        apart = np.zeros((3, 5, 21), np.float32).transpose(1, 0, 2)  # three dimensions that no copy-free matrix has
        self.assertRaises(ValueError, self.layer, np.zeros((5, 3, 33), np.float32), out=apart)
        self.assertTrue((out == 0).all() and (apart == 0).all())
        square = fff.Layer(*make(width=33, out=33)[:2], depth=4, trees=3)
        for shared in (x, x.reshape(1, 5, 33)):
            with self.assertRaises(fff.Error) as caught:
                square(shared, out=shared)  # input and output share memory
            self.assertEqual(caught.exception.status, fff.Status.OVERLAP)
        nodes, logits = self.layer.route(x)
        self.assertRaises(ValueError, self.layer.accumulate, nodes[:4], logits)
        self.assertRaises(ValueError, self.layer.accumulate, nodes[None], logits)
        for wrong in ([1.0], x.astype(np.float64), np.ma.masked_array(x), None):
            self.assertRaises(TypeError, fff.activate, wrong)
        with self.assertRaises(fff.Error):
            self.layer.accumulate(np.full((2, 15), 31, np.uint32), np.zeros((2, 15), np.float32))
        with self.assertRaises(TypeError):
            self.layer.accumulate(np.zeros((2, 15), np.int64), np.zeros((2, 15), np.float32))
        with self.assertRaises(ValueError):
            fff.Threads(0)

    def test_random_arguments(self):
        """Whatever comes: a result, or one of the documented exceptions."""
        choose = random.Random(int(os.environ.get("FFF_TEST_SEED", "1")))
        dtypes = [np.float32, np.float32, np.float32, np.float64, np.float16, np.int32, np.uint32, np.uint8, bool, object]
        accepted = refused = 0
        for _ in range(5000):
            shape = [choose.choice([0, 1, 2, 3, 15, 21, 33, 64]) for _ in range(choose.choice([0, 1, 2, 2, 2, 3]))]
            if choose.random() < 0.5 and len(shape) == 2:
                shape[1] = 33
            array = np.zeros(shape, choose.choice(dtypes))
            if choose.random() < 0.3:
                array = array.T
            if choose.random() < 0.2 and array.ndim:
                array = array[::choose.choice([-2, -1, 1, 2, 3])]
            out = None
            if choose.random() < 0.3:
                out = np.zeros([choose.choice([0, 1, 2, 3]), choose.choice([21, 21, 33])], choose.choice(dtypes))
            try:
                result = choose.choice([self.layer, self.layer.route])(array) if out is None else (
                    self.layer(array, out=out))
                accepted += 1
                for part in result if isinstance(result, tuple) else (result,):
                    self.assertEqual(part.shape[:-1], array.shape[:-1])
            except (TypeError, ValueError, fff.Error):
                refused += 1
        self.assertGreater(accepted, 100)
        self.assertGreater(refused, 1000)


if __name__ == "__main__":
    unittest.main()
