"""How long a node fff:PathFFF takes in ONNX Runtime, beside the dense layer of as many neurons, in ONNX Runtime too.

    taskset -c 1 scripts/engines/onnxruntime.sh build '$PYTHON' examples/onnxruntime/bench.py [ROUNDS [THREADS]]

768 wide, depth 11, one tree: 4095 neurons; one intra-op thread, or THREADS; inputs and outputs bound, so nothing is
copied. The dense layer is Gemm, Gelu (erf), Gemm, or MatMul, Add, Gelu, MatMul, whichever is faster at that batch. Runs
go through 4096 different tokens, since one token's path stays in the nearest caches. The ways take turns; each figure
is the median of the rounds, the ratio that of each round's own two times. Every output of PathFFF is checked bit for
bit against the C library, the dense layer's first 16 tokens against float64.
"""

from __future__ import annotations

import math
import pathlib
import statistics
import sys
import time
from typing import Any, Callable

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "tests"))
import fff  # noqa: E402
from models import Weights, as_bytes, make_weights, path_fff_model, session  # noqa: E402

WIDTH, DEPTH = 768, 11
BATCHES = (1, 8, 64, 512, 2048)
TOKENS = 4096


def dense_model(weights: Weights, gemm: bool) -> bytes:
    """y = gelu(x input_weight' + bias) output_weight', with both weights as constants."""
    node = helper.make_node
    gelu = node("Gelu", ["z"], ["a"], domain="com.microsoft")
    if gemm:
        nodes = [node("Gemm", ["x", "in", "bias"], ["z"], transB=1), gelu, node("Gemm", ["a", "out"], ["y"], transB=1)]
        values = {"in": weights.input_weight, "out": weights.output_weight}
    else:
        nodes = [node("MatMul", ["x", "in"], ["p"]), node("Add", ["p", "bias"], ["z"]), gelu,
                 node("MatMul", ["a", "out"], ["y"])]
        values = {"in": weights.input_weight.T.copy(), "out": weights.output_weight.T.copy()}
    return as_bytes(helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in {**values, "bias": weights.bias}.items()]))


def empty_model() -> bytes:
    """What a run costs by itself: one node that adds 0 to one number."""
    return as_bytes(helper.make_graph(
        [helper.make_node("Add", ["x", "zero"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.zeros(1, np.float32), "zero")]))


class Way:
    """A session with parts of arrays bound as its input and output, `batch` rows each."""

    def __init__(self, runs: ort.InferenceSession, batch: int, x: np.ndarray, y: np.ndarray):
        self.run, self.y, self.bindings = runs.run_with_iobinding, y, []
        for start in range(0, len(x), batch):
            binding = runs.io_binding()
            for bind, array, name in ((binding.bind_input, x, "x"), (binding.bind_output, y, "y")):
                part = array[start:start + batch]
                bind(name, "cpu", 0, np.float32, part.shape, part.ctypes.data)
            self.bindings.append(binding)

    def __call__(self, index: int) -> None:
        self.run(self.bindings[index])


def seconds(way: Callable[[int], None], parts: int, first: int, count: int) -> float:
    """What a run takes, over `count` of them, which begin with part `first`."""
    indices = [index % parts for index in range(first, first + count)]
    start = time.perf_counter()
    for index in indices:
        way(index)
    return (time.perf_counter() - start) / count


def dense_exact(weights: Weights, x: np.ndarray) -> np.ndarray:
    """The dense layer in float64. NumPy has no erf."""
    erf = np.vectorize(math.erf, otypes=[np.float64])
    z = x.astype(np.float64) @ weights.input_weight.T.astype(np.float64) + weights.bias
    return (z / 2 * (1 + erf(z / 2 ** 0.5))) @ weights.output_weight.T.astype(np.float64)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    rounds, threads = ([int(word) for word in sys.argv[1:]] + [9, 1][len(sys.argv) - 1:])[:2]
    random = np.random.default_rng(1)
    weights = make_weights(random, DEPTH, 1, WIDTH, WIDTH)
    layer = fff.Layer(weights.input_weight, weights.output_weight.T, biases=weights.bias, depth=DEPTH)
    models = {"fff": path_fff_model(weights, depth=DEPTH), "gemm": dense_model(weights, True),
              "matmul": dense_model(weights, False)}
    sessions = {name: session(model, threads) for name, model in models.items()}
    print(f"ONNX Runtime {ort.__version__}, libfff {fff.version()}, {layer.isa}; us a token, {rounds} rounds, "
          f"{threads} intra-op threads (fff.Layer: one)")
    call = Way(session(empty_model()), 1, np.zeros(1, np.float32), np.zeros(1, np.float32))
    seconds(call, 1, 0, 1000)
    overhead = [1e6 * seconds(call, 1, 0, 2000) for _ in range(rounds)]
    print(f"a run by itself: {spread(overhead)} us, in each figure below once a batch")
    x = random.standard_normal((TOKENS, WIDTH), np.float32)
    out, expected, exact = np.empty_like(x), layer(x), dense_exact(weights, x[:16])
    for batch in BATCHES:
        parts = TOKENS // batch
        ways: dict[str, Any] = {name: Way(runs, batch, x, np.zeros_like(x)) for name, runs in sessions.items()}
        ways["c"] = lambda part: layer(x[part * batch:(part + 1) * batch], out=out[part * batch:(part + 1) * batch])
        times: dict[str, list[float]] = {name: [] for name in ways}
        seconds(ways["fff"], parts, 0, parts)  # all of them, to be checked
        for turn in range(rounds):
            for name, way in ways.items():
                count = parts if name in ("fff", "c") else max(1, 128 // batch)
                times[name].append(1e6 * seconds(way, parts, turn * count, count) / batch)
        if ways["fff"].y.tobytes() != expected.tobytes():
            sys.exit(f"batch {batch}: PathFFF's bits are wrong")
        for name in ("gemm", "matmul"):
            seconds(ways[name], parts, 0, max(1, 16 // batch))
            error = np.abs(ways[name].y[:16] - exact).max() / np.abs(exact).max()
            if not error < 1e-5:
                sys.exit(f"batch {batch}: dense, {name}: off by {error:.1e}")
        best = min(("gemm", "matmul"), key=lambda name: statistics.median(times[name]))
        ratios = [dense / ours for dense, ours in zip(times[best], times["fff"])]
        print(f"batch {batch:5d}: fff:PathFFF {spread(times['fff'])}, dense {spread(times[best])} ({best}), "
              f"{spread(ratios)} times; fff.Layer {spread(times['c'])}")


if __name__ == "__main__":
    main()
