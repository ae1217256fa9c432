"""How long a node fff:PathFFF takes in ONNX Runtime, beside the dense layer of as many neurons, in ONNX Runtime too.

    taskset -c 1 python3 bench.py [ROUNDS]        (scripts/engines/onnxruntime.sh prints the environment that it needs)

768 wide, depth 11, one tree: 4095 neurons; one intra-op thread; inputs and outputs bound, so nothing is copied. The dense
layer is Gemm, Gelu (erf), Gemm, or MatMul, Add, Gelu, MatMul, whichever is faster at that batch. The ways take turns; each
figure is the median of the rounds, the ratio that of each round's own two times. Every output is checked: PathFFF's bit for
bit against the C library, the dense layer's against float64.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "tests"))
import fff  # noqa: E402
from models import Weights, as_bytes, make_weights, path_fff_model, session  # noqa: E402

WIDTH, DEPTH = 768, 11
BATCHES = (1, 8, 64, 512, 2048)


def dense_model(weights: Weights, gemm: bool) -> bytes:
    """y = gelu(x input_weight' + bias) output_weight', with both weights as constants."""
    node = helper.make_node
    gelu = node("Gelu", ["z"], ["a"], domain="com.microsoft")
    if gemm:
        nodes = [node("Gemm", ["x", "in", "bias"], ["z"], transB=1), gelu, node("Gemm", ["a", "out"], ["y"], transB=1)]
        values = {"in": weights.input_weight, "out": weights.output_weight}
    else:
        nodes = [node("MatMul", ["x", "in"], ["p"]), node("Add", ["p", "bias"], ["z"]), gelu, node("MatMul", ["a", "out"], ["y"])]
        values = {"in": np.ascontiguousarray(weights.input_weight.T), "out": np.ascontiguousarray(weights.output_weight.T)}
    return as_bytes(helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in {**values, "bias": weights.bias}.items()]))


def empty_model() -> bytes:
    """What a run costs by itself: one node that adds 0 to one number."""
    return as_bytes(helper.make_graph(
        [helper.make_node("Add", ["x", "zero"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.zeros(1, np.float32), "zero")]))


class Way:
    """A session with its input and output bound to arrays."""

    def __init__(self, runs: ort.InferenceSession, x: np.ndarray, y: np.ndarray):
        self.runs, self.y, self.binding = runs, y, runs.io_binding()
        for bind, array, name in ((self.binding.bind_input, x, "x"), (self.binding.bind_output, y, "y")):
            bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def time(self, repeats: int) -> float:
        """Seconds a run."""
        run, binding = self.runs.run_with_iobinding, self.binding
        start = time.perf_counter()
        for _ in range(repeats):
            run(binding)
        return (time.perf_counter() - start) / repeats


def dense_exact(weights: Weights, x: np.ndarray) -> np.ndarray:
    """The dense layer in float64; erf by its complementary function's absence in NumPy comes from the math module."""
    import math

    erf = np.vectorize(math.erf, otypes=[np.float64])
    z = x.astype(np.float64) @ weights.input_weight.T.astype(np.float64) + weights.bias
    return (z / 2 * (1 + erf(z / 2 ** 0.5))) @ weights.output_weight.T.astype(np.float64)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    random = np.random.default_rng(1)
    weights = make_weights(random, DEPTH, 1, WIDTH, WIDTH)
    layer = fff.Layer(weights.input_weight, weights.output_weight.T, biases=weights.bias, depth=DEPTH)
    sessions = {"fff": session(path_fff_model(weights, depth=DEPTH)), "gemm": session(dense_model(weights, True)),
                "matmul": session(dense_model(weights, False))}
    print(f"ONNX Runtime {ort.__version__}, libfff {fff.version()}, {layer.isa}; us a token, {rounds} rounds")
    one = np.zeros(1, np.float32)
    call = Way(session(empty_model()), one, np.zeros(1, np.float32))
    call.time(1000)
    overhead = [1e6 * call.time(2000) for _ in range(rounds)]
    print(f"a run by itself: {spread(overhead)} us, in each figure below once a batch")
    for batch in BATCHES:
        x = random.standard_normal((batch, WIDTH), np.float32)
        ways = {name: Way(runs, x, np.empty_like(x)) for name, runs in sessions.items()}
        times: dict[str, list[float]] = {name: [] for name in [*ways, "c"]}
        out = np.empty_like(x)
        for way in ways.values():
            way.time(1)
        for _ in range(rounds):
            for name, way in ways.items():
                repeats = max(1, int(2e-2 / (batch * (3e-6 if name == "fff" else 2e-4))))
                times[name].append(1e6 * way.time(repeats) / batch)
            start, repeats = time.perf_counter(), max(1, int(2e-2 / (batch * 3e-6)))
            for _ in range(repeats):
                layer(x, out=out)
            times["c"].append(1e6 * (time.perf_counter() - start) / repeats / batch)
        if ways["fff"].y.tobytes() != layer(x).tobytes():
            sys.exit(f"batch {batch}: PathFFF's bits are wrong")
        exact = dense_exact(weights, x[:16])
        for name in ("gemm", "matmul"):
            error = np.abs(ways[name].y[:16] - exact).max() / np.abs(exact).max()
            if not error < 1e-5:
                sys.exit(f"batch {batch}: dense, {name}: off by {error:.1e}")
        best = min(("gemm", "matmul"), key=lambda name: statistics.median(times[name]))
        ratios = [dense / ours for dense, ours in zip(times[best], times["fff"])]
        print(f"batch {batch:5d}: fff:PathFFF {spread(times['fff'])}, dense {spread(times[best])} ({best}), "
              f"{spread(ratios)} times; fff.Layer {spread(times['c'])}")


if __name__ == "__main__":
    main()
